"""Both links over real sockets: nobody unknown gets in, nothing is lost that need not be."""

import asyncio
import contextlib
import itertools
import logging
import os
import pickle
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
import uvloop
import zmq

from cirrus import keys, sockets, wire
from cirrus.coordinator.link import Link as CoordinatorLink
from cirrus.core.messages import (
    Accepted,
    Greet,
    Heartbeat,
    Hello,
    Order,
    Report,
    Run,
    Settled,
    Welcome,
)
from cirrus.core.model import Process
from cirrus.dispatcher.link import Link as DispatcherLink
from cirrus.errors import SetupError, WireError

PATIENCE_SECONDS = 20.0
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
HEARTBEAT = Heartbeat(())


class Coordinator:
    """A link that keeps what it hears."""

    def __init__(self, folder: Path, endpoints: Sequence[str]) -> None:
        self.heard: list[tuple[str, Report]] = []
        self.link = CoordinatorLink(folder, endpoints, self.on_reports)
        self.endpoints = self.link.open()

    def on_reports(self, name: str, reports: list[Report]) -> None:
        self.heard += [(name, report) for report in reports]

    def of(self, name: str) -> list[Report]:
        return [report for who, report in self.heard if who == name and report != HEARTBEAT]


class Dispatcher:
    """A link that keeps what it hears, and says Heartbeat whenever it is connected."""

    def __init__(self, endpoint: str, pair: keys.KeyPair, coordinator: bytes) -> None:
        self.heard: list[Order] = []
        self.connects = 0
        self.link = DispatcherLink(
            endpoint,
            pair,
            coordinator=coordinator,
            on_orders=self.on_orders,
            on_connect=self.on_connect,
        )
        self.link.open()

    def on_orders(self, orders: list[Order]) -> None:
        self.heard += orders

    def on_connect(self) -> None:
        self.connects += 1
        assert self.link.send([HEARTBEAT])


class World:
    """Links and other sockets of one test; all are closed at its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = contextlib.ExitStack()
        self.context = self.stack.enter_context(zmq.Context())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def coordinator(self, *endpoints: str) -> Coordinator:
        made = Coordinator(self.folder, endpoints or ("tcp://127.0.0.1:*",))
        self.stack.callback(close, made.link)
        return made

    def pair(self, name: str, *, enrolled: bool = True) -> keys.KeyPair:
        pair = keys.dispatcher_keys(self.folder / name)
        if enrolled:
            keys.enrol(self.folder, name, pair.public)
        return pair

    def dispatcher(
        self, endpoint: str, name: str = "d1", *, enrolled: bool = True, coordinator: bytes = b""
    ) -> Dispatcher:
        pair = self.pair(name, enrolled=enrolled)
        public = coordinator or keys.coordinator_public(self.folder)
        made = Dispatcher(endpoint, pair, public)
        self.stack.callback(close, made.link)
        return made

    def stranger(self, **options: Any) -> zmq.Socket[bytes]:
        """A plain socket that does as it likes."""
        made = self.stack.enter_context(self.context.socket(zmq.DEALER))
        made.linger = 0
        for name, value in options.items():
            setattr(made, name, value)
        return made

    def insider(self, endpoint: str, name: str) -> zmq.Socket[bytes]:
        """A plain socket that has a key."""
        pair = self.pair(name)
        made = self.stranger(
            curve_publickey=pair.public,
            curve_secretkey=pair.secret,
            curve_serverkey=keys.coordinator_public(self.folder),
        )
        made.connect(endpoint)
        return made

    async def connected(self, endpoint: str = "") -> tuple[Coordinator, Dispatcher]:
        world = self.coordinator()
        dispatcher = self.dispatcher(endpoint or world.endpoints[0])
        await until(lambda: world.heard)
        return world, dispatcher


def close(link: CoordinatorLink | DispatcherLink) -> None:
    if not link._context.closed:
        link.close()


def on_both_loops(story: Callable[[World], Awaitable[None]]) -> Callable[..., None]:
    @pytest.mark.parametrize("loop", LOOPS)
    def test(tmp_path: Path, loop: str) -> None:
        async def main() -> None:
            failures: list[object] = []
            asyncio.get_running_loop().set_exception_handler(
                lambda _, facts: failures.append(facts)
            )
            with World(tmp_path) as world:
                await story(world)
            assert not failures

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(main())

    test.__name__ = story.__name__
    return test


async def until(condition: Callable[[], object]) -> None:
    """No event tells that just anything has happened: so it is looked at again and again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.001)


async def push(send: Callable[[list[Any]], bool], messages: Iterable[object]) -> None:
    """Send each by itself, as fast as it is taken."""
    for message in messages:
        while not send([message]):  # noqa: ASYNC110 -- no event tells that there is room
            await asyncio.sleep(0)


def settled(number: int) -> Settled:
    return Settled("job", number)


def accepted(number: int) -> Accepted:
    return Accepted("job", number)


def run_of(size: int) -> Run:
    order = Run("job", 1, "name", "rule", "", Process(cmd=("true",)), {}, b"")
    spare = size - len(wire.encode_run(order)) - 3
    return msgspec.structs.replace(order, inputs=bytes(spare))


# --- the way there and back ---------------------------------------------------------------------


@on_both_loops
async def test_orders_and_reports_cross_on_every_transport(world):
    coordinator = world.coordinator()

    async def cross(endpoint: str, name: str) -> None:
        dispatcher = world.dispatcher(endpoint, name)
        await until(lambda: (name, HEARTBEAT) in coordinator.heard)
        assert dispatcher.link.connected
        assert coordinator.link.send(name, [Welcome("i"), settled(1)])
        assert dispatcher.link.send([accepted(1), accepted(2)])
        await until(lambda: len(coordinator.of(name)) == len(dispatcher.heard) == 2)
        assert coordinator.of(name) == [accepted(1), accepted(2)]
        assert dispatcher.heard == [Welcome("i"), settled(1)]

    ipc, tcp = coordinator.endpoints
    await cross(ipc, "d1")
    await cross(tcp, "d2")


@on_both_loops
async def test_ten_thousand_messages_each_way_arrive_in_order(world):
    coordinator = world.coordinator()
    numbers = range(1, 10_001)

    async def cross(endpoint: str, name: str) -> None:
        dispatcher = world.dispatcher(endpoint, name)
        await until(lambda: (name, HEARTBEAT) in coordinator.heard)
        await asyncio.gather(
            push(lambda orders: coordinator.link.send(name, orders), map(settled, numbers)),
            push(dispatcher.link.send, map(accepted, numbers)),
        )
        await until(lambda: len(coordinator.of(name)) >= len(numbers))
        await until(lambda: len(dispatcher.heard) >= len(numbers))
        assert coordinator.of(name) == [accepted(number) for number in numbers]
        assert dispatcher.heard == [settled(number) for number in numbers]

    ipc, tcp = coordinator.endpoints
    await cross(ipc, "d1")
    await cross(tcp, "d2")


@on_both_loops
async def test_no_wake_up_is_missed_whoever_speaks_from_within_a_callback(world):
    """Each message sends the next ones while it is being received: any missed one stops it all."""
    coordinator, dispatcher = await world.connected()
    chance = random.Random(4711)
    numbers = itertools.count(1)
    done = 0

    def order_some(count: int) -> None:
        orders = list(map(settled, itertools.islice(numbers, count)))
        while orders:
            size = chance.randint(1, len(orders))
            assert coordinator.link.send("d1", orders[:size])
            orders = orders[size:]

    def on_reports(_name: str, reports: list[Report]) -> None:
        nonlocal done
        done += len(reports)
        order_some(len(reports))

    def on_orders(orders: list[Order]) -> None:
        for order in orders:
            assert isinstance(order, Settled)
            assert dispatcher.link.send([accepted(order.attempt)])

    coordinator.link._on_reports = on_reports
    dispatcher.link._on_orders = on_orders
    for window, goal in ((1, 2_000), (1, 4_000), (3, 8_000), (20, 15_000), (300, 30_000)):
        order_some(window)  # so many more are under way from now on
        await until(lambda goal=goal: done >= goal)  # type: ignore[misc]


@on_both_loops
async def test_a_burst_that_comes_while_the_loop_is_busy_is_read_to_its_end(world):
    coordinator, dispatcher = await world.connected()
    for count in (1, 99, 100, 101, 400):
        coordinator.heard.clear()
        for number in range(1, count + 1):
            assert dispatcher.link.send([accepted(number)])
        # The loop sleeps in earnest; and whatever is sent meanwhile swallows wake-ups.
        time.sleep(0.05)  # noqa: ASYNC251
        assert coordinator.link.send("d1", [Greet()])
        await until(lambda count=count: len(coordinator.heard) == count)  # type: ignore[misc]


@on_both_loops
async def test_a_callback_that_fails_stops_nothing(world):
    coordinator, dispatcher = await world.connected()
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, facts: failures.append(facts))
    heard: list[Report] = []

    def on_reports(_name: str, reports: list[Report]) -> None:
        heard.extend(reports)
        raise ValueError(len(heard))

    coordinator.link._on_reports = on_reports
    for number in range(1, 251):
        assert dispatcher.link.send([accepted(number)])
    await until(lambda: len(heard) == 250)
    assert len(failures) == 250


@on_both_loops
async def test_a_link_may_be_closed_from_within_a_callback(world):
    coordinator, dispatcher = await world.connected()
    coordinator.link._on_reports = lambda *_: coordinator.link.close()
    for number in range(1, 11):
        assert dispatcher.link.send([accepted(number)])
    await until(lambda: coordinator.link._context.closed)
    await until(lambda: not dispatcher.link.connected)


# --- when it cannot be sent ---------------------------------------------------------------------


@on_both_loops
async def test_what_nobody_is_there_to_hear_is_dropped_and_said_so(world):
    coordinator = world.coordinator()
    assert not coordinator.link.send("d1", [Greet()])
    elsewhere = world.dispatcher(f"ipc://{world.folder}/nobody")
    assert not elsewhere.link.send([accepted(1)])
    _ = world.dispatcher(coordinator.endpoints[0], "d2")
    await until(lambda: coordinator.heard)
    assert coordinator.link.send("d2", [Greet()])
    assert not coordinator.link.send("d1", [Greet()])


@on_both_loops
async def test_who_does_not_read_is_sent_no_more_than_the_limit_of_its_queue(world):
    coordinator, dispatcher = await world.connected()
    order = run_of(20_000)
    for sent in itertools.count():
        if not coordinator.link.send("d1", [order]):
            break
        assert sent < 5_000
    await until(lambda: len(dispatcher.heard) == sent)  # what was taken is not lost
    assert coordinator.link.send("d1", [Greet()])


@on_both_loops
async def test_the_largest_message_passes_and_a_larger_one_is_refused(world):
    coordinator, dispatcher = await world.connected()
    largest = run_of(wire.LIMIT_BYTES)
    assert len(wire.encode_run(largest)) == wire.LIMIT_BYTES
    assert coordinator.link.send("d1", [largest])
    await until(lambda: dispatcher.heard)
    assert dispatcher.heard == [largest]
    with pytest.raises(WireError, match="are the limit"):
        coordinator.link.send("d1", [run_of(wire.LIMIT_BYTES + 1)])


@on_both_loops
async def test_many_orders_that_are_too_large_together_are_sent_one_by_one(world):
    coordinator, dispatcher = await world.connected()
    orders: list[Order] = [run_of(wire.LIMIT_BYTES // 3)] * 10
    assert coordinator.link.send("d1", orders)
    await until(lambda: len(dispatcher.heard) == 10)
    assert dispatcher.heard == orders


# --- connections come and go --------------------------------------------------------------------


@on_both_loops
async def test_a_dispatcher_comes_back_to_a_coordinator_that_was_restarted(world):
    coordinator, by_ipc = await world.connected()
    by_tcp = world.dispatcher(coordinator.endpoints[1], "d2")
    await until(lambda: len(coordinator.heard) == 2)
    for round_number in (2, 3):
        coordinator.link.close()
        await until(lambda: not by_ipc.link.connected and not by_tcp.link.connected)
        assert not by_ipc.link.send([accepted(1)])
        coordinator = world.coordinator(coordinator.endpoints[1])
        await until(lambda: len(coordinator.heard) >= 2)  # noqa: B023
        assert sorted(coordinator.heard) == [("d1", HEARTBEAT), ("d2", HEARTBEAT)]
        assert by_ipc.connects == by_tcp.connects == round_number
        assert not by_ipc.link._given_up  # what libzmq mends by itself is left alone
        assert coordinator.link.send("d1", [Greet()])
        assert coordinator.link.send("d2", [Greet()])
        await until(lambda: by_ipc.heard and by_tcp.heard)


@on_both_loops
async def test_whoever_is_told_of_a_connection_can_use_it_at_once(world):
    """Even when libzmq, asked again and again before, puts off looking at what happened."""
    coordinator = world.coordinator()
    for number in range(30):
        dispatcher = world.dispatcher(coordinator.endpoints[0], f"d{number}")
        while not dispatcher.connects:
            dispatcher.link.send([HEARTBEAT])
            await asyncio.sleep(0)
        dispatcher.link.close()


@on_both_loops
async def test_a_dispatcher_may_be_there_before_its_coordinator(world):
    public = keys.coordinator_keys(world.folder).public
    early = world.dispatcher(sockets.local_endpoint(world.folder), coordinator=public)
    retries: list[object] = []
    early.link._monitor._receive = retries.append
    await until(lambda: len(retries) >= 2)
    early.link._monitor._receive = early.link._noticed
    assert early.connects == 0
    coordinator = world.coordinator()
    await until(lambda: coordinator.heard)


@on_both_loops
async def test_a_connection_that_libzmq_gives_up_is_made_anew(world):
    coordinator, dispatcher = await world.connected()
    session = coordinator.link._sessions["d1"]
    coordinator.link._pump.send((session.routing_id, bytes(wire.LIMIT_BYTES + 1000)))
    await until(lambda: dispatcher.connects == 2)
    await until(lambda: coordinator.link._sessions["d1"] != session)
    assert coordinator.link.send("d1", [Greet()])
    await until(lambda: dispatcher.heard == [Greet()])


class Relay:
    """Carries bytes over TCP; can fall silent in both directions without closing anything."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = asyncio.Event()
        self.open.set()
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        self.server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        return f"tcp://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(back)
        for source, sink in ((reader, back), (there, writer)):
            self.tasks.add(asyncio.create_task(self.carry(source, sink)))

    async def carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await self.open.wait()
                sink.write(data)
                await sink.drain()
        sink.close()

    async def stop(self) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        for writer in self.writers:
            writer.close()
        closing = (writer.wait_closed() for writer in self.writers)
        await asyncio.gather(*self.tasks, *closing, return_exceptions=True)


@on_both_loops
async def test_a_silent_partition_is_noticed_and_healed(world):
    coordinator = world.coordinator()
    relay = Relay(int(coordinator.endpoints[1].rpartition(":")[2]))
    dispatcher = world.dispatcher(await relay.start())
    await until(lambda: coordinator.heard)

    relay.open.clear()
    began = time.monotonic()
    await until(lambda: not dispatcher.link.connected)
    noticed_seconds = time.monotonic() - began
    assert not dispatcher.link.send([accepted(1)])

    relay.open.set()
    began = time.monotonic()
    await until(lambda: dispatcher.connects >= 2)
    healed_seconds = time.monotonic() - began
    await until(lambda: coordinator.link.send("d1", [Greet()]) and dispatcher.heard)
    dispatcher.link.close()
    await relay.stop()
    assert noticed_seconds < 5
    assert healed_seconds < 3


# --- who gets in --------------------------------------------------------------------------------


@on_both_loops
async def test_an_unknown_key_is_refused_and_let_in_as_soon_as_it_is_enrolled(world):
    coordinator = world.coordinator()
    ipc, tcp = coordinator.endpoints
    first = world.dispatcher(ipc, "d1", enrolled=False)
    second = world.dispatcher(tcp, "d2", enrolled=False)
    await until(lambda: coordinator.link.refused >= 4)
    assert first.connects == second.connects == 0
    assert not first.link.send([accepted(1)])
    world.pair("d1")
    world.pair("d2")
    await until(lambda: sorted(coordinator.heard) == [("d1", HEARTBEAT), ("d2", HEARTBEAT)])
    assert coordinator.link.dropped == 0


@on_both_loops
async def test_a_coordinator_with_another_key_is_not_spoken_to(world):
    coordinator = world.coordinator()
    public, _ = zmq.curve_keypair()
    mistaken = world.dispatcher(coordinator.endpoints[0], "d1", coordinator=public)
    right = world.dispatcher(coordinator.endpoints[0], "d2")
    await until(lambda: coordinator.heard)
    await until(lambda: mistaken.link._problem)
    assert "has another key" in mistaken.link._problem
    assert mistaken.connects == 0
    assert right.link.connected
    assert {name for name, _ in coordinator.heard} == {"d2"}


@on_both_loops
async def test_without_encryption_nobody_gets_in(world):
    coordinator = world.coordinator()
    [report] = wire.encode_reports([accepted(1)])
    turned_away = []
    plain = {"plain_username": b"d1", "plain_password": b"d1"}
    claims: list[dict[str, bytes]] = [{}, plain, {"routing_id": b"d1"}]
    for endpoint, options in itertools.product(coordinator.endpoints, claims):
        stranger = world.stranger(**options)
        turned_away.append(stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED))
        world.stack.enter_context(turned_away[-1])
        stranger.connect(endpoint)
        stranger.send(report, zmq.NOBLOCK)
    dispatcher = world.dispatcher(coordinator.endpoints[1])
    await until(lambda: coordinator.heard and all(socket.poll(0) for socket in turned_away))
    assert coordinator.heard == [("d1", HEARTBEAT)]
    assert dispatcher.link.connected


@on_both_loops
async def test_who_only_opens_connections_or_speaks_otherwise_disturbs_nobody(world):
    coordinator = world.coordinator()
    port = int(coordinator.endpoints[1].rpartition(":")[2])
    sayings = [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500),  # a TLS hello
        os.urandom(1000),
        b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE".ljust(64, b"\0"),
        b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE".ljust(64, b"\0") + b"\x06" + b"\xff" * 8,
        b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(64, b"\0"),
    ]
    with contextlib.ExitStack() as stack:
        for saying, _ in itertools.product(sayings, range(30)):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            with contextlib.suppress(ConnectionError):
                raw.sendall(saying)
        dispatcher = world.dispatcher(coordinator.endpoints[1])
        await until(lambda: coordinator.heard)
        await push(dispatcher.link.send, map(accepted, range(1, 501)))
        await until(lambda: len(coordinator.of("d1")) == 500)


@on_both_loops
async def test_who_is_removed_is_heard_no_more_and_does_not_come_back(world):
    coordinator, removed = await world.connected()
    other = world.dispatcher(coordinator.endpoints[0], "d2")
    await until(lambda: len(coordinator.heard) == 2)
    (world.folder / "keys" / "dispatchers" / "d1.public").unlink()

    assert removed.link.send([accepted(1)])
    await until(lambda: coordinator.link.dropped == 1)
    assert not coordinator.link.send("d1", [Greet()])

    coordinator.link.close()
    again = world.coordinator()
    await until(lambda: again.link.refused)
    await until(lambda: again.heard)
    assert again.heard == [("d2", HEARTBEAT)]
    assert other.connects == 2
    assert removed.connects == 1


@on_both_loops
async def test_of_two_connections_of_one_name_the_newest_counts_while_it_lives(world):
    coordinator, older = await world.connected()
    newer = world.dispatcher(coordinator.endpoints[1])
    await until(lambda: len(coordinator.heard) == 2)
    assert older.link.connected

    assert older.link.send([accepted(1)])
    await until(lambda: coordinator.link.dropped == 1)
    assert coordinator.link.send("d1", [Greet()])
    await until(lambda: newer.heard == [Greet()])
    assert older.heard == []

    newer.link.close()
    await until(lambda: older.link.send([accepted(2)]) and coordinator.of("d1"))
    assert set(coordinator.of("d1")) == {accepted(2)}
    assert coordinator.link.send("d1", [settled(2)])
    await until(lambda: older.heard == [settled(2)])


# --- those who got in and mean harm -------------------------------------------------------------


def poison() -> list[list[bytes]]:
    [report] = wire.encode_reports([accepted(1)])
    [order] = wire.encode_orders([Greet(), settled(1)])
    [impostor] = wire.encode_reports([Hello("d1", "host", "0", 1, (), ())])
    return [
        [b""],
        [b"x"],
        [os.urandom(1000)],
        [pickle.dumps(["report"])],
        [order],
        [impostor],
        [report[:-1]],
        [report + b"\0"],
        [report, b""],
        [b"", report],
        [report] * 10_000,
        [b"d1", report],
        [b"\x92\x01\xdd\xff\xff\xff\xff"],
        [msgspec.msgpack.encode([1, [{"type": "accepted", "job": "a", "attempt": 0}]])],
        [msgspec.msgpack.encode([1, [{"type": "dance"}]])],
        [msgspec.msgpack.encode([2, []])],
        [bytes(wire.LIMIT_BYTES)],
    ]


@on_both_loops
async def test_one_who_sends_garbage_hurts_nobody_else(world):
    coordinator, good = await world.connected()
    bad = world.insider(coordinator.endpoints[1], "bad")
    garbage = poison()
    for frames in garbage:
        bad.send_multipart(frames)
        await push(good.link.send, map(accepted, range(1, 51)))
    await until(lambda: coordinator.link.dropped == len(garbage))
    await until(lambda: len(coordinator.of("d1")) == 50 * len(garbage))
    assert coordinator.of("bad") == []
    assert good.connects == 1
    [report] = wire.encode_reports([accepted(7)])
    bad.send(report)  # it is not shut out: what it says well is heard
    await until(lambda: coordinator.of("bad") == [accepted(7)])


@on_both_loops
async def test_a_message_beyond_the_limit_ends_the_connection_that_it_came_on(world):
    coordinator, good = await world.connected()
    bad = world.insider(coordinator.endpoints[1], "bad")
    bad.send(bytes(wire.LIMIT_BYTES + 1000))
    [report] = wire.encode_reports([accepted(7)])
    await until(lambda: (bad.send(report), coordinator.of("bad"))[1])  # it reconnected
    assert coordinator.link.dropped == 0
    assert good.connects == 1


@on_both_loops
async def test_a_flood_from_one_does_not_keep_others_from_being_heard(world):
    coordinator, good = await world.connected()
    bad = world.insider(coordinator.endpoints[1], "bad")
    [flood] = wire.encode_reports([HEARTBEAT])
    bad.send(flood)
    await until(lambda: len(coordinator.heard) == 2)
    with contextlib.suppress(zmq.Again):
        for _ in range(50_000):
            bad.send(flood, zmq.NOBLOCK)
    assert good.link.send([accepted(1)])
    await until(lambda: coordinator.of("d1"))
    position = coordinator.heard.index(("d1", accepted(1)))
    assert position < 3_000  # they take turns


@on_both_loops
async def test_a_name_that_a_client_claims_for_itself_is_not_believed(world):
    coordinator, good = await world.connected()
    pair = world.pair("bad")
    bad = world.stranger(
        routing_id=b"d1",
        curve_publickey=pair.public,
        curve_secretkey=pair.secret,
        curve_serverkey=keys.coordinator_public(world.folder),
    )
    bad.set(zmq.METADATA, b"X-User-Id:d1")
    bad.connect(coordinator.endpoints[0])
    bad.send_multipart(wire.encode_reports([accepted(7)]))
    await until(lambda: len(coordinator.heard) == 2)
    assert coordinator.heard[1] == ("bad", accepted(7))
    assert good.link.connected


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@on_both_loops
async def test_garbage_is_counted_and_logged_once_a_second(world):
    lines = Lines()
    logger = logging.getLogger("cirrus.coordinator.link")
    logger.addHandler(lines)
    world.stack.callback(logger.removeHandler, lines)
    coordinator = world.coordinator()
    bad = world.insider(coordinator.endpoints[0], "bad")
    began = time.monotonic()
    for _ in range(3):
        for _ in range(300):
            bad.send(b"garbage")
        await asyncio.sleep(0)
    await until(lambda: coordinator.link.dropped == 900)
    assert 1 <= len(lines.records) <= 1 + time.monotonic() - began
    assert lines.records[0].getMessage() == "message dropped"
    assert lines.records[0].__dict__["dispatcher"] == "bad"


@on_both_loops
async def test_orders_that_are_not_understood_are_counted_and_dropped(world):
    coordinator, dispatcher = await world.connected()
    session = coordinator.link._sessions["d1"]
    for frames in ([b""], [b"x"], [b"x", b"y"], wire.encode_reports([accepted(1)])):
        assert coordinator.link._pump.send((session.routing_id, *frames))
    assert coordinator.link.send("d1", [Greet()])
    await until(lambda: dispatcher.heard == [Greet()])
    assert dispatcher.link.dropped == 4
    assert dispatcher.connects == 1


# --- setting up ---------------------------------------------------------------------------------


@on_both_loops
async def test_the_socket_file_of_a_dead_coordinator_does_not_stand_in_the_way(world):
    path = world.folder / "dispatch.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.is_socket()
    _, dispatcher = await world.connected()
    assert dispatcher.link.connected
    assert path.stat().st_mode & 0o777 == 0o600


@on_both_loops
async def test_a_port_that_is_taken_is_named(world):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=f"tcp://127.0.0.1:{port}: the port is taken by anoth"):
            world.coordinator(f"tcp://127.0.0.1:{port}")
    coordinator = world.coordinator(f"tcp://127.0.0.1:{port}")  # nothing was left behind
    assert coordinator.endpoints[1] == f"tcp://127.0.0.1:{port}"


@on_both_loops
async def test_a_path_that_is_too_long_for_a_socket_is_named(world):
    longest = world.folder / ("x" * (107 - len(str(world.folder / "x" / "dispatch.sock")) + 1))
    longest.mkdir()
    link = CoordinatorLink(longest, [], lambda *_: None)
    link.open()
    link.close()
    with pytest.raises(SetupError, match=r"y/dispatch.sock: 1 bytes too long for a socket's path"):
        CoordinatorLink(longest.with_name(longest.name + "y"), [], lambda *_: None).open()


BAD_ENDPOINTS = ["", "x", "tcp://", "tcp://127.0.0.1", "http://127.0.0.1:1", "tcp://192.0.2.1:7777"]


@pytest.mark.parametrize("endpoint", BAD_ENDPOINTS)
def test_an_endpoint_that_is_none_is_refused(tmp_path, endpoint):
    @on_both_loops
    async def story(world):
        with pytest.raises(SetupError):
            world.coordinator(endpoint)
        if not endpoint.endswith("7777"):
            with pytest.raises(SetupError):
                Dispatcher(endpoint, world.pair("d1"), keys.coordinator_public(world.folder))

    story(tmp_path, "asyncio")


@on_both_loops
async def test_ipv6_and_localhost_can_be_listened_on(world):
    coordinator = world.coordinator("tcp://[::1]:*", "tcp://localhost:*")
    for name, endpoint in zip(("d1", "d2"), coordinator.endpoints[1:], strict=True):
        world.dispatcher(endpoint, name)
    await until(lambda: len(coordinator.heard) == 2)


def test_a_libzmq_that_strangers_can_starve_is_refused(monkeypatch):
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: (4, 3, 2))
    with pytest.raises(SetupError, match=r"is too old, or cannot encrypt; 4.3.3 or newer"):
        sockets.new_context()


def test_every_setting_that_matters_is_said_to_libzmq():
    both: dict[int, object] = {
        zmq.LINGER: 0,
        zmq.SNDHWM: 1000,
        zmq.RCVHWM: 1000,
        zmq.HEARTBEAT_IVL: 1000,
        zmq.HEARTBEAT_TIMEOUT: 3000,
        zmq.HEARTBEAT_TTL: 3000,
        zmq.HANDSHAKE_IVL: 5000,
        zmq.TCP_KEEPALIVE: 1,
        zmq.TCP_KEEPALIVE_IDLE: 30,
        zmq.TCP_KEEPALIVE_INTVL: 10,
        zmq.TCP_KEEPALIVE_CNT: 3,
        zmq.TCP_MAXRT: 10_000,
        zmq.MECHANISM: zmq.CURVE,
        zmq.MAXMSGSIZE: 1064,
    }
    server: dict[int, object] = {
        zmq.CURVE_SERVER: 1,
        zmq.ZAP_DOMAIN: b"cirrus",
        zmq.ZAP_ENFORCE_DOMAIN: 1,
    }
    client: dict[int, object] = {
        zmq.IMMEDIATE: 1,
        zmq.RECONNECT_IVL: 100,
        zmq.RECONNECT_IVL_MAX: 1000,
    }
    public, secret = zmq.curve_keypair()
    with sockets.new_context() as context:
        with sockets.router(context, secret, 1000) as router:
            wanted = both | server
            assert {option: router.get(option) for option in wanted} == wanted
            with pytest.raises(zmq.ZMQError, match="Host unreachable"):  # ROUTER_MANDATORY
                router.send_multipart([b"nobody", b"x"])
        with sockets.dealer(context, public, secret, 1000) as dealer:
            dealer.set(zmq.CURVE_SERVERKEY, public)
            wanted = both | client
            assert {option: dealer.get(option) for option in wanted} == wanted
