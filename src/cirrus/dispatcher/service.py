"""The dispatcher's loop: look, let core/agent.py decide, act, report.

What it remembers is on disk (attempts.py); what it needs in between can be lost at any moment.
"""

import asyncio
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from cirrus import __version__
from cirrus.core import agent
from cirrus.core.agent import Look
from cirrus.core.messages import (
    Ended,
    Greet,
    Heartbeat,
    Hello,
    LogRead,
    Offer,
    Order,
    Outcome,
    ReadLog,
    Run,
    Settled,
    Stop,
    Welcome,
)
from cirrus.core.model import UnixTime, executor_of
from cirrus.dispatcher import attempts, logs
from cirrus.dispatcher.acting import Actor, Place, backoff_seconds, safely, what_is_wrong
from cirrus.dispatcher.attempts import Archive, Folders, Retention
from cirrus.dispatcher.disk import Disk, remove_all
from cirrus.dispatcher.reporting import Link, Reporter
from cirrus.errors import EngineError
from cirrus.executors.base import Executor

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS: Final = 15.0
QUICK_SECONDS: Final = 0.01
"""An engine that shows all within so long may be looked at whenever it is useful."""
BEAT_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 6.0
OFFER_SECONDS: Final = 30.0
TRIM_SECONDS: Final = 1.0
TRIM_SOON_SECONDS: Final = 0.1
SWEEP_SECONDS: Final = 30.0
SWEEP_SOON_SECONDS: Final = 1.0
SWEEP_MOST: Final = 1000
AFTER_DEFECT_SECONDS: Final = 5.0
LOW_WATER_BYTES: Final = 256 * 2**20
ATTEMPTS_MOST: Final = 10_000
READS_MOST: Final = 50

OFFER_DEADLINE_SECONDS: Final = 60.0
LOOK_DEADLINE_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 5.0

Connect = Callable[[Callable[[list[Order]], None], Callable[[], None]], Link]
"""Makes the link, from `on_orders` and `on_connect`."""


class Options(Struct, frozen=True, kw_only=True):
    name: str
    state: Path
    """Where it keeps its attempts. A ProcessExecutor looks for its own in `state/attempts`."""
    slots: int = 0
    """Attempts at once; 0: two for each core."""
    log_keep_bytes: int = 16 * 2**20
    """Of each attempt's log."""
    retention: Retention = Retention()
    watch_parent: bool = False
    """End when the other end of stdin is closed."""


async def run(
    options: Options,
    executors: Mapping[str, Executor],
    connect: Connect,
    over: asyncio.Event | None = None,
) -> None:
    """Until SIGTERM or SIGINT, or until `over`. What runs goes on. Raises SetupError."""
    over = over or asyncio.Event()
    held = await attempts.lock(options.state)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    if options.watch_parent:
        loop.add_reader(0, _parent_said, over)
    try:
        await Dispatcher(options, executors, connect).run(over)
    finally:
        os.close(held)


def _parent_said(over: asyncio.Event) -> None:
    if not os.read(0, 1024):
        asyncio.get_running_loop().remove_reader(0)
        over.set()


class _Over(Exception):
    """Ends the task group."""


async def _until(over: asyncio.Event) -> None:
    await over.wait()
    raise _Over


class _Engine:
    """An executor, and how things stand with it."""

    def __init__(self, name: str, executor: Executor) -> None:
        self.name = name
        self.executor = executor
        self.wake = asyncio.Event()
        """A look is wanted."""
        self.ask = asyncio.Event()
        """Its offer is to be asked for."""
        self.offer = Offer(name, "", 0.0, 0, problem="it has not answered yet")
        self.away: UnixTime | None = None
        """Since when it does not answer."""
        self.outage: tuple[UnixTime, UnixTime] | None = None
        self.failures = 0
        self.took_seconds = 0.0
        self.strangers: frozenset[str] = frozenset()


class Dispatcher:
    def __init__(
        self, options: Options, executors: Mapping[str, Executor], connect: Connect
    ) -> None:
        cores = len(os.sched_getaffinity(0))
        self._options = options
        self._slots = options.slots or 2 * cores
        self._engines = {name: _Engine(name, one) for name, one in executors.items()}
        self._loop = asyncio.get_running_loop()
        self._folders = Folders(options.state)
        self._archive = Archive(self._folders.ended, options.retention)
        self._disk = Disk(self._folders.commit)
        self._link = connect(self._on_orders, self._on_connect)
        self._reporter = Reporter(self._link)
        place = Place(
            executors,
            self._folders,
            self._archive,
            self._disk,
            self._reporter,
            logs.Logs(self._disk, options.log_keep_bytes),
            starts_most=2 * cores + 2,
            look_again=self._look_again,
        )
        self._actor = Actor(place)
        self._reads = 0
        self._heard_at = self._loop.time()
        self._log_sizes: dict[Path, int] = {}

    async def run(self, over: asyncio.Event) -> None:
        """Every task it makes is in one group; ends, with all of them, when `over` is set."""
        load = partial(self._folders.load, self._loop.time())
        found, problems = await asyncio.to_thread(load)
        for problem in problems:
            log.warning("folder not understood", extra={"problem": problem})
        log.info("dispatcher began", extra={"found": len(found), "state": str(self._options.state)})
        try:
            self._link.open()
            await self._work(found, over)
        finally:
            self._disk.close()
            for engine in self._engines.values():
                async with asyncio.timeout(CLOSE_SECONDS):
                    await engine.executor.close()

    async def _work(self, found: list[agent.Attempt], over: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._actor.begin(group, found)
                for turn, wake in self._turns():
                    group.create_task(self._again_and_again(turn, wake))
                group.create_task(_until(over))
        except* _Over:
            log.info("dispatcher ended", extra={"left": len(self._actor.attempts)})
        finally:
            self._reporter.close()
            self._link.close()

    def _turns(self) -> Iterator[tuple[Callable[[], Awaitable[float]], asyncio.Event]]:
        """Everything that goes on for ever: each turn says how long to rest after it."""
        yield self._beat, asyncio.Event()
        yield self._trim, asyncio.Event()
        yield self._sweep, asyncio.Event()
        for engine in self._engines.values():
            yield partial(self._ask_offer, engine), engine.ask
            yield partial(self._listen, engine), asyncio.Event()
            yield partial(self._look, engine), engine.wake

    async def _again_and_again(
        self, turn: Callable[[], Awaitable[float]], wake: asyncio.Event
    ) -> None:
        while True:
            wake.clear()
            rest_seconds = await safely(turn(), AFTER_DEFECT_SECONDS)
            alarm = self._loop.call_later(rest_seconds, wake.set)
            await wake.wait()
            alarm.cancel()

    # --- the coordinator ------------------------------------------------------------------------

    def _on_orders(self, orders: list[Order]) -> None:
        self._heard_at = self._loop.time()
        for order in orders:
            match order:
                case Welcome():
                    pass
                case Greet():
                    self._greet()
                case Run() | Stop() | Settled():
                    self._obey(order)
                case ReadLog():
                    self._read_log(order)

    def _obey(self, order: Run | Stop | Settled) -> None:
        known = self._actor.attempts
        if (order.job, order.attempt) not in known and not self._to_be_judged(order):
            return
        reply = agent.obey(known, order)
        if reply.note:
            log.info(reply.note, extra={"job": order.job, "attempt": order.attempt})
        for report in reply.reports:
            self._reporter.say(report)
        for attempt in reply.changed:
            self._actor.ordered(attempt)

    def _to_be_judged(self, order: Run | Stop | Settled) -> bool:
        """Whether an order about an attempt that is not here says anything new."""
        match order:
            case Settled():
                return False
            case Stop():
                return self._archive.find(order.job, order.attempt) is None
            case Run():
                return self._to_be_run(order)

    def _to_be_run(self, order: Run) -> bool:
        executor = executor_of(order.activity)
        if order.name in self._archive:
            self._group.create_task(safely(self._say_again(order.name), None))
        elif executor not in self._engines:
            outcome = Outcome("unknown", reason=f"this dispatcher has no executor {executor}")
            self._reporter.say(Ended(order.job, order.attempt, outcome, None, None))
        elif not attempts.NAME.fullmatch(order.name) or len(self._actor.attempts) >= ATTEMPTS_MOST:
            log.warning("order not taken", extra={"attempt": order.name[:80]})
        else:
            return True
        return False

    async def _say_again(self, name: str) -> None:
        """The end of an attempt that was settled, and yet is asked for."""
        end = await asyncio.to_thread(self._folders.end_of, self._folders.ended / name)
        if end is not None:
            self._reporter.say(end)

    def _on_connect(self) -> None:
        """Whatever was said before may be lost."""
        self._greet()
        self._reporter.connected()

    def _greet(self) -> None:
        offers = tuple(engine.offer for engine in self._engines.values())
        live = agent.live(self._actor.attempts.values())
        host, name = socket.gethostname(), self._options.name
        self._reporter.say(Hello(name, host, __version__, self._slots, offers, live))

    async def _beat(self) -> float:
        if self._loop.time() - self._heard_at > SILENCE_SECONDS:
            self._greet()
        else:
            self._reporter.say(Heartbeat(agent.live(self._actor.attempts.values())))
        return BEAT_SECONDS

    # --- looking --------------------------------------------------------------------------------

    async def _look(self, engine: _Engine) -> float:
        if engine.took_seconds:  # a slow engine is not asked all the time
            await asyncio.sleep(engine.took_seconds)
        began_at = self._loop.time()
        try:
            async with asyncio.timeout(LOOK_DEADLINE_SECONDS):
                sightings = await engine.executor.look()
        except (EngineError, TimeoutError) as error:
            self._contact_lost(engine, error)
            engine.failures += 1
            return backoff_seconds(engine.failures)
        now = self._loop.time()
        engine.took_seconds = now - began_at if now - began_at > QUICK_SECONDS else 0.0
        self._contact_there(engine)
        self._judge(engine, Look(began_at, {one.name: one for one in sightings}, engine.outage))
        due = agent.next_due(self._actor.of(engine.name), now)
        return LOOK_EVERY_SECONDS if due is None else min(due - now, LOOK_EVERY_SECONDS)

    def _look_again(self, executor: str) -> None:
        if executor in self._engines:
            self._engines[executor].wake.set()

    def _judge(self, engine: _Engine, look: Look) -> None:
        own = self._actor.of(engine.name)
        for attempt in own:
            self._actor.attempts[attempt.key] = agent.steadied(attempt, look)
            self._actor.consider(attempt.key, look)
        strangers = frozenset(look.sightings) - {attempt.order.name for attempt in own}
        for name in strangers - engine.strangers:
            log.warning("attempt without a folder left alone", extra={"attempt": name})
        engine.strangers = strangers

    async def _listen(self, engine: _Engine) -> float:
        try:
            await engine.executor.wait()
        except EngineError as error:
            self._contact_lost(engine, error)
            engine.wake.set()
            return backoff_seconds(max(1, engine.failures))
        engine.wake.set()
        return 0.0

    def _contact_lost(self, engine: _Engine, error: Exception) -> None:
        if engine.away is None:
            engine.away = time.time()
            facts = {"executor": engine.name, "problem": what_is_wrong(error)}
            log.warning("engine away", extra=facts)
            engine.ask.set()
        for attempt in self._actor.of(engine.name):
            self._actor.change(attempt.key, shaken=True)

    def _contact_there(self, engine: _Engine) -> None:
        engine.failures = 0
        if engine.away is not None:
            engine.outage = (engine.away, time.time())
            engine.away = None
            log.info("engine back", extra={"executor": engine.name})
            engine.ask.set()

    async def _ask_offer(self, engine: _Engine) -> float:
        try:
            async with asyncio.timeout(OFFER_DEADLINE_SECONDS):
                offer = await engine.executor.offer()
        except (EngineError, TimeoutError) as error:
            offer = replace(engine.offer, problem=what_is_wrong(error))
        free = shutil.disk_usage(self._options.state).free
        if free < LOW_WATER_BYTES:
            offer = replace(offer, problem=f"only {free >> 20} MiB of disk are free")
        if offer != engine.offer:
            engine.offer = offer
            self._greet()
        return OFFER_SECONDS

    # --- logs and old folders -------------------------------------------------------------------

    def _read_log(self, order: ReadLog) -> None:
        if self._reads >= READS_MOST:
            problem = "too many logs are being read: ask again"
            self._reporter.say(LogRead(order.request, 0, b"", 0, complete=False, problem=problem))
            return
        self._reads += 1
        self._group.create_task(safely(self._answer(order), None))

    async def _answer(self, order: ReadLog) -> None:
        key = order.job, order.attempt
        try:
            whole = await self._actor.have_log(key)
            read = partial(logs.answer, order, self._actor.folders(key), whole=whole)
            self._reporter.say(await asyncio.to_thread(read))
        finally:
            self._reads -= 1

    async def _trim(self) -> float:
        """Keep the logs that attempts write themselves within their cap."""
        writing = [
            self._folders.of(attempt.order.name) / "log"
            for attempt in self._actor.attempts.values()
            if attempt.marked and not attempt.end and self._writes_log(attempt)
        ]
        if not writing:
            return TRIM_SECONDS
        keep_bytes, before = self._options.log_keep_bytes, self._log_sizes
        self._log_sizes = await asyncio.to_thread(logs.trim_all, writing, keep_bytes)
        grown = [size - before.get(path, 0) for path, size in self._log_sizes.items()]
        return TRIM_SOON_SECONDS if max(grown) > keep_bytes // 4 else TRIM_SECONDS

    def _writes_log(self, attempt: agent.Attempt) -> bool:
        executor = self._actor.executor_of(attempt)
        return executor is not None and executor.writes_log

    async def _sweep(self) -> float:
        """Remove what was kept long enough, a part at a time."""
        if not self._archive.complete:
            self._archive.recall(await asyncio.to_thread(self._archive.scan))
        gone = self._archive.expired(SWEEP_MOST)
        if gone:
            await asyncio.to_thread(remove_all, gone)
        return SWEEP_SOON_SECONDS if len(gone) == SWEEP_MOST else SWEEP_SECONDS
