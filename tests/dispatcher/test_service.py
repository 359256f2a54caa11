"""The dispatcher's loop on an engine and a coordinator in memory, which misbehave."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.dispatching import (
    FakeEngine,
    FakeExecutor,
    FakeLink,
    container,
    dispatching,
    order,
    until,
)

from cirrus import wire
from cirrus.core.agent import Sighting
from cirrus.core.messages import (
    Accepted,
    Ended,
    Greet,
    Heartbeat,
    Hello,
    Live,
    Offer,
    Outcome,
    Settled,
    Started,
    Stop,
)
from cirrus.core.model import Process
from cirrus.dispatcher import acting, service
from cirrus.dispatcher.attempts import Folders, Retention
from cirrus.dispatcher.service import Options, run
from cirrus.errors import SetupError, StartRefused

OFFER = Offer("docker", "fake", 4.0, 10**9, "10.0.0.1")


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(name="here", state=tmp_path / "state")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def link(options: Options, engine: FakeEngine) -> AsyncIterator[FakeLink]:
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as opened:
        yield opened


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that waits for time waits less."""
    monkeypatch.setattr(acting, "BACKOFF_MOST_SECONDS", 0.02)
    monkeypatch.setattr(service, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(service, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(service, "OFFER_SECONDS", 0.05)
    monkeypatch.setattr(service, "LOOK_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(service, "SWEEP_SECONDS", 0.02)


def states(link: FakeLink) -> dict[str, str]:
    """As the last heartbeat says."""
    beats = link.said(Heartbeat)
    return {one.job: one.state for one in beats[-1].live} if beats else {}


def folders(options: Options, kind: str) -> set[str]:
    return {path.name for path in (options.state / kind).iterdir()}


# --- one attempt, from its order to its end -----------------------------------------------------


async def test_an_attempt_is_accepted_started_ended_settled_and_put_away(
    link: FakeLink, engine: FakeEngine, options: Options
):
    run = order("a")
    engine.log[run.name] = [b"one\n", b"two\n"]
    link.give(run)
    started = await link.first(Started)
    engine.end(run.name)
    ended = await link.end_of("a")
    assert (ended.outcome, ended.started) == (Outcome("success", 0), engine.seen[run.name].started)
    assert abs(started.time - (ended.started or 0)) < 1
    link.give(Settled("a", 1))
    await until(lambda: folders(options, "ended") == {run.name})
    assert engine.seen == {}
    assert folders(options, "attempts") == set()
    assert (options.state / "ended" / run.name / "log").read_bytes() == b"one\ntwo\n"
    assert engine.starts == {run.name: 1}


async def test_its_folder_holds_its_inputs_where_any_user_may_write(
    link: FakeLink, options: Options
):
    run = msgspec.structs.replace(order("a"), inputs=b'{"members": []}')
    link.give(run)
    await link.first(Started)
    folder = options.state / "attempts" / run.name
    assert (folder / "io" / "inputs.json").read_bytes() == b'{"members": []}'
    assert (folder / "io").stat().st_mode & 0o777 == 0o777
    assert folder.stat().st_mode & 0o777 == 0o700
    assert wire.decode_run((folder / "started").read_bytes()) == run


async def test_its_output_is_reported(link: FakeLink, engine: FakeEngine, options: Options):
    run = order("a")
    link.give(run)
    await link.first(Started)
    (options.state / "attempts" / run.name / "io" / "output.json").write_bytes(b'{"n": 1}')
    engine.end(run.name)
    assert (await link.end_of("a")).output == b'{"n": 1}'


async def test_an_output_that_is_no_object_refuses_the_success(
    link: FakeLink, engine: FakeEngine, options: Options
):
    run = order("a")
    link.give(run)
    await link.first(Started)
    (options.state / "attempts" / run.name / "io" / "output.json").write_bytes(b"[1]")
    engine.end(run.name)
    ended = await link.end_of("a")
    assert ended.outcome == Outcome("refused", 0, "output.json is not a JSON object")
    assert ended.output == b""


async def test_what_the_engine_refuses_ends_as_refused(link: FakeLink, engine: FakeEngine):
    engine.refuses = "image nowhere: no such image"
    link.give(order("a"))
    assert (await link.end_of("a")).outcome == Outcome("refused", None, engine.refuses)
    assert engine.starts == {}


async def test_an_executor_that_is_not_here_is_said_at_once(link: FakeLink, options: Options):
    link.give(order("a", activity=Process(("true",))))
    assert (await link.end_of("a")).outcome.kind == "unknown"
    assert folders(options, "attempts") == set()


async def test_a_name_that_could_leave_the_folder_is_not_taken(link: FakeLink, options: Options):
    link.give(msgspec.structs.replace(order("a"), name="../../evil"), order("b"))
    await link.first(Started, "b")
    assert folders(options, "attempts") == {order("b").name}
    assert not link.said(Ended)


# --- orders that come twice, late, or in the wrong order ----------------------------------------


async def test_an_order_that_comes_often_starts_once(link: FakeLink, engine: FakeEngine):
    run = order("a")
    link.give(run, run)
    link.give(run)
    await link.first(Started)
    link.give(run)
    await until(lambda: len(link.said(Started)) > 1)
    engine.end(run.name)
    ended = await link.end_of("a")
    link.give(run)
    await until(lambda: link.said(Ended)[1:] == [ended])
    assert engine.starts == {run.name: 1}


async def test_an_order_that_comes_after_all_was_settled_starts_nothing(
    link: FakeLink, engine: FakeEngine, options: Options
):
    run = order("a")
    link.give(run)
    await link.first(Started)
    engine.end(run.name)
    ended = await link.end_of("a")
    link.give(Settled("a", 1), run)
    await until(lambda: folders(options, "ended"))
    link.reports.clear()

    def answered() -> bool:
        link.give(run, Stop("a", 1), Settled("a", 1))
        return bool(link.said(Ended))

    await until(answered)
    assert link.said(Ended) == [ended]
    assert engine.starts == {run.name: 1}


async def test_so_it_is_after_a_restart(options: Options, engine: FakeEngine):
    executors = {"docker": FakeExecutor(engine)}
    async with dispatching(options, executors, settles=True) as link:
        link.give(order("a"))
        await link.first(Started)
        engine.end(order("a").name)
        await until(lambda: folders(options, "ended"))
    async with dispatching(options, executors, settles=True) as link:
        link.give(order("a"))
        assert (await link.end_of("a")).outcome.kind == "success"
    assert engine.starts == {order("a").name: 1}


async def test_a_newer_attempt_stops_the_older_one(link: FakeLink, engine: FakeEngine):
    link.give(order("a", 1))
    await link.first(Started)
    link.give(order("a", 2))
    await until(lambda: len(engine.starts) == 2)
    ended = await link.end_of("a")
    assert (ended.attempt, ended.outcome.kind) == (1, "cancelled")
    link.give(order("a", 1))
    await until(lambda: len(link.said(Ended)) > 1)
    assert engine.starts == {order("a", 1).name: 1, order("a", 2).name: 1}


async def test_an_older_attempt_than_what_is_known_is_not_started(
    link: FakeLink, engine: FakeEngine
):
    link.give(order("a", 2))
    link.give(order("a", 1))
    link.give(order("b"))
    await link.first(Started, "b")
    assert order("a", 1).name not in engine.starts


# --- stopping -----------------------------------------------------------------------------------


async def test_a_stop_stops_and_says_why(link: FakeLink, engine: FakeEngine):
    link.give(order("a"))
    await link.first(Started)
    link.give(Stop("a", 1))
    assert (await link.end_of("a")).outcome == Outcome("cancelled", 143, "stopped by Cirrus")
    assert engine.stops == [order("a").name]


async def test_a_stop_while_the_image_is_pulled_ends_it_at_once(link: FakeLink, engine: FakeEngine):
    engine.pulling = True
    link.give(order("a"))
    await link.first(Accepted)
    link.give(Stop("a", 1))
    assert (await link.end_of("a")).outcome.reason == "it was never started"
    engine.pulling = False
    assert engine.starts == {}


async def test_a_stop_that_comes_often_is_one_stop(link: FakeLink, engine: FakeEngine):
    engine.pulling = True
    link.give(order("a"))
    await link.first(Accepted)
    link.give(Stop("a", 1), Stop("a", 1))
    link.give(Stop("a", 1))
    assert (await link.end_of("a")).outcome.reason == "it was never started"
    engine.pulling = False
    link.give(order("b"))
    await link.first(Started, "b")
    link.give(Stop("b", 1), Stop("b", 1))
    assert (await link.end_of("b")).outcome.kind == "cancelled"
    assert engine.stops == [order("b").name]


async def test_a_stop_that_comes_with_the_order_ends_it_before_its_start(
    link: FakeLink, engine: FakeEngine
):
    link.give(order("a"), Stop("a", 1))
    assert (await link.end_of("a")).outcome.reason == "it was never started"
    assert engine.starts == {}


async def test_a_stop_of_something_unknown_is_answered(link: FakeLink):
    link.give(Stop("a", 1))
    assert (await link.end_of("a")).outcome.reason == "this dispatcher does not know it"


async def test_an_engine_that_still_shows_what_it_stopped_is_not_hurried(
    options: Options, engine: FakeEngine
):
    class Slow(FakeExecutor):
        async def stop(self, name, grace_seconds):
            assert grace_seconds
            engine.stops.append(name)

    async with dispatching(options, {"docker": Slow(engine)}, settles=True) as link:
        link.give(order("a"))
        await link.first(Started)
        link.give(Stop("a", 1))
        await until(lambda: engine.stops)
        await asyncio.sleep(0.3)
        assert len(engine.stops) == 1
        await until(lambda: len(engine.stops) == 2)
        engine.end(order("a").name, 143)
        assert (await link.end_of("a")).outcome.kind == "cancelled"
        await until(lambda: folders(options, "ended"), seconds=2)


async def test_a_timeout_stops(link: FakeLink):
    link.give(order("a", activity=container(timeout_seconds=0.2)))
    ended = await link.end_of("a")
    assert ended.outcome == Outcome("timeout", 143, "stopped by Cirrus")
    assert ended.finished is not None
    assert 0.15 < ended.finished - (ended.started or 0) < 5


async def test_a_timeout_goes_on_counting_while_the_dispatcher_is_away(
    options: Options, engine: FakeEngine
):
    executors = {"docker": FakeExecutor(engine)}
    async with dispatching(options, executors) as link:
        link.give(order("a", activity=container(timeout_seconds=0.6)))
        await link.first(Started)
    await asyncio.sleep(0.6)
    async with dispatching(options, executors) as link:
        assert (await link.end_of("a")).outcome.kind == "timeout"


async def test_a_stop_is_remembered_over_a_restart(options: Options, engine: FakeEngine):
    executors = {"docker": FakeExecutor(engine)}
    async with dispatching(options, executors) as link:
        link.give(order("a"))
        await link.first(Started)
        engine.replies_lost = 1
        link.give(Stop("a", 1))
        await until(lambda: engine.stops)
    async with dispatching(options, executors) as link:
        assert (await link.end_of("a")).outcome.kind == "cancelled"


# --- engines that misbehave ---------------------------------------------------------------------


@pytest.mark.usefixtures("hurried")
async def test_lost_replies_start_nothing_twice(options: Options, engine: FakeEngine):
    async with dispatching(options, {"docker": FakeExecutor(engine)}, settles=True) as link:
        for job in ("a", "b", "c", "d"):
            engine.replies_lost = 3
            link.give(order(job))
            await link.first(Started, job)
            engine.end(order(job).name, 7)
            engine.replies_lost = 2
            assert (await link.end_of(job)).outcome.exit_code == 7
        await until(lambda: len(folders(options, "ended")) == 4)
    assert engine.starts == {order(job).name: 1 for job in ("a", "b", "c", "d")}


@pytest.mark.usefixtures("hurried")
async def test_an_engine_that_is_away_takes_no_work_and_gets_it_when_it_is_back(
    options: Options, engine: FakeEngine
):
    engine.away = True
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        link.give(order("a"))
        await link.first(Accepted)
        await until(lambda: "away" in link.said(Hello)[-1].offers[0].problem)
        engine.away = False
        await link.first(Started)
        await until(lambda: link.said(Hello)[-1].offers == (OFFER,))


@pytest.mark.parametrize(
    ("code", "kind"), [(0, "success"), (3, "failure"), (137, "interrupted"), (255, "unknown")]
)
@pytest.mark.usefixtures("hurried")
async def test_what_ends_while_the_engine_is_away_is_judged_by_that(
    options: Options, engine: FakeEngine, code: int, kind: str
):
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        link.give(order("a"))
        await link.first(Started)
        engine.away = True
        await until(lambda: "away" in link.said(Hello)[-1].offers[0].problem)
        engine.end(order("a").name, code)
        engine.away = False
        ended = await link.end_of("a")
        assert ended.outcome.kind == kind
        assert code or "away" in ended.outcome.reason


@pytest.mark.usefixtures("hurried")
async def test_what_is_killed_with_the_engine_there_the_whole_time_failed(
    options: Options, engine: FakeEngine
):
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        link.give(order("a"))
        await link.first(Started)
        engine.away = True
        await until(lambda: "away" in link.said(Hello)[-1].offers[0].problem)
        engine.away = False
        await until(lambda: not link.said(Hello)[-1].offers[0].problem)
        await asyncio.sleep(0.1)  # it is seen running again
        engine.end(order("a").name, 137)
        assert (await link.end_of("a")).outcome.kind == "failure"


async def test_what_somebody_removed_is_unknown(link: FakeLink, engine: FakeEngine):
    link.give(order("a"))
    await link.first(Started)
    engine.seen.clear()
    engine.changed.set()
    assert (await link.end_of("a")).outcome.kind == "unknown"


@pytest.mark.usefixtures("hurried")
async def test_a_defect_in_an_executor_costs_one_turn(
    options: Options, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service, "AFTER_DEFECT_SECONDS", 0.02)

    class Odd(FakeExecutor):
        looks = 0

        async def look(self):
            Odd.looks += 1
            if Odd.looks < 4:
                raise ZeroDivisionError
            return await super().look()

        async def start(self, order, folder):
            await super().start(order, folder)
            if Odd.looks < 3:
                raise ZeroDivisionError

    async with dispatching(options, {"docker": Odd(engine)}) as link:
        link.give(order("a"))
        await link.first(Started)
        engine.end(order("a").name)
        assert (await link.end_of("a")).outcome.kind == "success"
    assert engine.starts == {order("a").name: 1}


async def test_a_stranger_is_left_alone(options: Options, engine: FakeEngine):
    engine.seen["cirrus-feedbeef-stranger-1"] = msgspec.structs.replace(
        (await make_running(engine, options)), name="cirrus-feedbeef-stranger-1"
    )
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        link.give(order("b"))
        await link.first(Started, "b")
        engine.end(order("b").name)
        await link.end_of("b")
    assert engine.seen["cirrus-feedbeef-stranger-1"].state == "running"
    assert engine.stops == []


async def make_running(engine: FakeEngine, options: Options):
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        link.give(order("a"))
        await link.first(Started)
    return engine.seen[order("a").name]


# --- what is said, and how often ----------------------------------------------------------------


async def test_hello_says_who_and_what(link: FakeLink):
    await until(lambda: link.said(Hello)[-1].offers == (OFFER,))
    hello = link.said(Hello)[-1]
    assert (hello.dispatcher, hello.slots) == ("here", 2 * len(os.sched_getaffinity(0)))
    link.give(order("a"))
    await link.first(Started)
    link.reports.clear()
    link.give(Greet())
    assert (await link.first(Hello)).live == (Live("a", 1, "running"),)


@pytest.mark.usefixtures("hurried")
async def test_heartbeats_list_what_lives_until_it_is_settled(options: Options, engine: FakeEngine):
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        engine.pulling = True
        link.give(order("a"))
        await until(lambda: states(link) == {"a": "accepted"})
        engine.pulling = False
        await until(lambda: states(link) == {"a": "running"})
        engine.end(order("a").name)
        await until(lambda: states(link) == {"a": "ended"})
        link.give(Settled("a", 1))
        await until(lambda: states(link) == {})


@pytest.mark.usefixtures("hurried")
async def test_a_coordinator_that_is_silent_is_greeted(options: Options, engine: FakeEngine):
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        await link.first(Heartbeat)
        link.speaks = False
        link.reports.clear()
        await until(lambda: len(link.said(Hello)) > 3)
        assert isinstance(link.reports[-1], Hello)


async def test_an_end_is_said_again_until_it_is_settled(link: FakeLink, engine: FakeEngine):
    link.give(order("a"))
    await link.first(Started)
    engine.end(order("a").name, 3)
    await until(lambda: len(link.said(Ended)) == 3)
    assert len(set(link.said(Ended))) == 1
    link.give(Settled("a", 1))
    await asyncio.sleep(0.1)
    count = len(link.said(Ended))
    await asyncio.sleep(2.5)
    assert len(link.said(Ended)) == count


async def test_an_end_is_said_at_once_when_the_coordinator_is_back(
    link: FakeLink, engine: FakeEngine
):
    link.give(order("a"))
    await link.first(Started)
    link.connected = False
    engine.end(order("a").name, 3)
    await asyncio.sleep(0.2)
    assert not link.said(Ended)
    link.connected = True
    link.on_connect()
    await asyncio.sleep(0.1)
    assert [type(one) for one in link.reports[-2:]] == [Hello, Ended]


async def test_what_is_over_soon_is_said_in_one_word(link: FakeLink, engine: FakeEngine):
    async def end_at_once() -> None:
        await until(lambda: engine.starts)
        engine.end(order("a").name)

    link.give(order("a"))
    await end_at_once()
    await link.end_of("a")
    kinds = [type(one) for one in link.reports if isinstance(one, Accepted | Started | Ended)]
    assert kinds[-1] is Ended
    assert len(kinds) == len(set(kinds))


# --- restarts -----------------------------------------------------------------------------------


async def test_a_restart_finds_everything_again(options: Options, engine: FakeEngine):
    executors = {"docker": FakeExecutor(engine)}
    async with dispatching(options, executors) as link:
        for job in ("running", "ended", "ending", "gone"):
            link.give(order(job))
            await link.first(Started, job)
        engine.end(order("ended").name, 5)
        await link.end_of("ended")
        engine.pulling = True
        link.give(order("pulled"))
        await link.first(Accepted, "pulled")
    engine.pulling = False
    engine.end(order("ending").name, 6)
    del engine.seen[order("gone").name]
    async with dispatching(options, executors) as link:
        assert (await link.end_of("ended")).outcome.exit_code == 5
        assert (await link.end_of("ending")).outcome.exit_code == 6
        assert (await link.end_of("gone")).outcome.kind == "unknown"
        await link.first(Started, "running")
        await link.first(Started, "pulled")
    assert set(engine.starts.values()) == {1}


@pytest.mark.parametrize("step", ["prepare", "start"])
async def test_dying_at_any_step_of_a_start_starts_once(
    options: Options, engine: FakeEngine, step: str
):
    class Dying(FakeExecutor):
        """The dispatcher never gets beyond this call, though the engine did it."""

        async def prepare(self, order, folder):
            await super().prepare(order, folder)
            if step == "prepare":
                await asyncio.Event().wait()

        async def start(self, order, folder):
            await super().start(order, folder)
            await asyncio.Event().wait()

    async with dispatching(options, {"docker": Dying(engine)}) as link:
        link.give(order("a"))
        await until(lambda: order("a").name in engine.seen)
        await until(lambda: step == "prepare" or engine.starts)
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        await link.first(Started)
        engine.end(order("a").name)
        assert (await link.end_of("a")).outcome.kind == "success"
    assert engine.starts == {order("a").name: 1}


async def test_what_has_a_folder_and_no_mark_is_marked_before_its_start(
    options: Options, engine: FakeEngine
):
    class Direct(FakeExecutor):
        prepares = False

        async def start(self, order, folder):
            engine.seen.setdefault(order.name, Sighting(order.name, "created"))
            await super().start(order, folder)

    Folders(options.state).create(order("a"), marked=False)
    async with dispatching(options, {"docker": Direct(engine)}) as link:
        await link.first(Started)
        engine.end(order("a").name)
        assert (await link.end_of("a")).outcome.kind == "success"
        assert len(link.said(Started)) == 1
    assert engine.starts == {order("a").name: 1}


async def test_an_attempt_waits_for_an_executor_that_is_missing(
    options: Options, engine: FakeEngine
):
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        link.give(order("a"))
        await link.first(Started)
    async with dispatching(options, {}) as link:
        assert link.said(Hello)[-1].live == (Live("a", 1, "accepted"),)
        link.give(Stop("a", 1))
        await asyncio.sleep(0.1)
        assert not link.said(Ended)
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        await link.first(Started)


async def test_folders_that_are_not_whole_do_no_harm(options: Options, engine: FakeEngine):
    async with dispatching(options, {"docker": FakeExecutor(engine)}):
        pass
    for job, file in (("a", "order"), ("b", "started")):
        folder = options.state / "attempts" / order(job).name
        folder.mkdir()
        (folder / file).write_bytes(b"\x92")
    async with dispatching(options, {"docker": FakeExecutor(engine)}) as link:
        link.give(order("a"), order("b"))
        await link.first(Started, "a")
        assert (await link.end_of("b")).outcome.kind == "unknown"
    assert engine.starts == {order("a").name: 1}


async def test_an_address_that_is_none_is_said_as_what_it_is(options: Options):
    class Nowhere(FakeLink):
        def open(self) -> None:
            raise SetupError("nowhere", "no address of a coordinator")

    with pytest.raises(SetupError, match="no address of a coordinator"):
        await run(options, {}, Nowhere)


async def test_what_the_engine_refuses_to_start_is_cleared_without_a_log(
    options: Options, engine: FakeEngine
):
    class Refusing(FakeExecutor):
        async def start(self, order, folder):
            assert (folder / "started").exists()
            raise StartRefused(order.name, "exec format error")

        async def logs(self, name, folder):
            await asyncio.Event().wait()
            yield name, folder

    async with dispatching(options, {"docker": Refusing(engine)}, settles=True) as link:
        link.give(order("a"))
        assert (await link.end_of("a")).outcome.kind == "refused"
        await until(lambda: folders(options, "ended"))
        assert engine.seen == {}


async def test_a_second_dispatcher_is_told_who_is_there(
    link: FakeLink, options: Options, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cirrus.dispatcher.attempts.LOCK_SECONDS", 0.2)
    assert link.connected
    with pytest.raises(SetupError, match=f"another dispatcher, process {os.getpid()}, works"):
        await run(options, {}, FakeLink)


# --- logs and old folders -----------------------------------------------------------------------


async def test_a_log_is_read_while_it_grows_and_afterwards(
    link: FakeLink, engine: FakeEngine, options: Options
):
    name = order("a").name
    engine.log[name] = [b"one\n"]
    link.give(order("a"))
    await link.first(Started)
    read = await link.read("a")
    assert (read.offset, read.content, read.complete) == (0, b"one\n", False)
    engine.log[name].append(b"two\n")
    await until(lambda: (options.state / "attempts" / name / "log.part").stat().st_size == 8)
    assert (await link.read("a", 4)).content == b"two\n"
    assert (await link.read("a", -3, 2)).content == b"wo"
    engine.log[name].append(b"three\n")
    engine.end(name)
    await link.end_of("a")
    link.give(Settled("a", 1))
    await until(lambda: folders(options, "ended"))
    read = await link.read("a", 4)
    assert (read.content, read.size, read.complete) == (b"two\nthree\n", 14, True)
    assert not (await link.read("a", 4, 3)).complete


async def test_a_log_that_nobody_has_is_said(link: FakeLink):
    read = await link.read("nowhere")
    assert read.complete
    assert "has no log of this attempt" in read.problem


@pytest.mark.usefixtures("hurried")
async def test_a_log_that_cannot_be_had_delays_an_end_by_nothing(
    options: Options, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cirrus.dispatcher.logs.COPY_WAITS", (0.0, 0.01))

    class Mute(FakeExecutor):
        async def logs(self, name, folder):
            assert folder.name == name
            yield b"beginning\n"
            self.engine.away = True
            self._there()

        async def remove(self, name):
            self.engine.away = False
            await super().remove(name)

    async with dispatching(options, {"docker": Mute(engine)}, settles=True) as link:
        link.give(order("a"))
        await link.first(Started)
        engine.end(order("a").name)
        assert (await link.end_of("a")).outcome.kind == "success"
        await until(lambda: folders(options, "ended"))
        read = await link.read("a")
        assert (read.content, read.complete) == (b"beginning\n", True)


@pytest.mark.usefixtures("hurried")
async def test_the_oldest_folders_go_first(options: Options, engine: FakeEngine):
    options = msgspec.structs.replace(options, retention=Retention(count=3))
    executors = {"docker": FakeExecutor(engine)}
    jobs = [f"job{number}" for number in range(6)]
    for job in jobs:  # over restarts too
        async with dispatching(options, executors, settles=True) as link:
            link.give(order(job))
            await link.first(Started)
            engine.end(order(job).name)
            await until(lambda: order(job).name in folders(options, "ended"))  # noqa: B023
    async with dispatching(options, executors):
        await until(lambda: folders(options, "ended") == {order(job).name for job in jobs[-3:]})
