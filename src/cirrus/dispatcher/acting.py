"""Do what core/agent.py decides: one thing at a time about each attempt, many attempts at once."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from cirrus.core import agent
from cirrus.core.agent import Attempt, Began, Clear, End, Key, Kill, Look, Start
from cirrus.core.messages import Ended, Outcome, Run
from cirrus.core.model import UnixTime, executor_of
from cirrus.dispatcher.attempts import Archive, Folders, with_output
from cirrus.dispatcher.disk import Disk
from cirrus.dispatcher.logs import Logs
from cirrus.dispatcher.reporting import Reporter
from cirrus.errors import EngineError, StartRefused, WireError
from cirrus.executors.base import Executor

log = logging.getLogger(__name__)

# How long an engine may take; then it counts as away.
PREPARE_SECONDS: Final = 3600.0  # it may pull an image
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0  # beyond the grace
REMOVE_SECONDS: Final = 120.0
BACKOFF_MOST_SECONDS: Final = 15.0
SOON_SECONDS: Final = 60.0

T = TypeVar("T")


def backoff_seconds(failures: int) -> float:
    """Doubles from half a second. `failures` counts from 1."""
    return min(0.5 * 2.0 ** min(failures - 1, 10), BACKOFF_MOST_SECONDS)


def what_is_wrong(error: Exception) -> str:
    return str(error) or "the engine does not answer in time"


async def safely(work: Awaitable[T], otherwise: T) -> T:
    """The top of every loop: a defect costs one turn of one thing, and is logged."""
    try:
        return await work
    except Exception:
        log.exception("defect")
        return otherwise


class Place(Struct, frozen=True):
    """Everything that acting touches."""

    executors: Mapping[str, Executor]
    folders: Folders
    archive: Archive
    disk: Disk
    reporter: Reporter
    logs: Logs
    starts_most: int
    """How many may be started at the same moment."""
    look_again: Callable[[str], None]
    """Asks for a look at what an executor shows."""


class Actor:
    """The attempts that this dispatcher answers for, and what is being done about them."""

    def __init__(self, place: Place) -> None:
        self.attempts: dict[Key, Attempt] = {}
        self._executors = place.executors
        self._folders = place.folders
        self._archive = place.archive
        self._disk = place.disk
        self._reporter = place.reporter
        self._logs = place.logs
        self._look_again = place.look_again
        self._loop = asyncio.get_running_loop()
        self._starts = asyncio.Semaphore(place.starts_most)
        self._busy: set[Key] = set()
        self._missed: set[Key] = set()
        """A look came while something was being done about these."""
        self._preparing: dict[Key, asyncio.Timeout] = {}

    def begin(self, group: asyncio.TaskGroup, found: list[Attempt]) -> None:
        """With what an earlier dispatcher left."""
        self._group = group
        for attempt in found:
            key = attempt.key
            self.attempts[key] = attempt
            if attempt.end is not None:
                self._reporter.insist(attempt.end)
            executor = self.executor_of(attempt)
            if executor is None:
                log.warning("attempt without its executor", extra={"attempt": attempt.order.name})
            elif executor.writes_log:
                self.change(key, log_kept=True)
            elif attempt.end is not None and not attempt.log_kept:
                self._background(self._keep_log(key))

    def executor_of(self, attempt: Attempt) -> Executor | None:
        return self._executors.get(executor_of(attempt.order.activity))

    def of(self, executor: str) -> list[Attempt]:
        every = self.attempts.values()
        return [one for one in every if executor_of(one.order.activity) == executor]

    def folders(self, key: Key) -> list[Path]:
        """Where an attempt's folder may be; it moves once."""
        attempt = self.attempts.get(key)
        if attempt is not None:
            name = attempt.order.name
            return [self._folders.of(name), self._folders.ended / name]
        kept = self._archive.find(*key)
        return [kept] if kept is not None else []

    def change(self, key: Key, **changes: object) -> Attempt:
        attempt = self.attempts[key] = replace(self.attempts[key], **changes)
        return attempt

    def ordered(self, attempt: Attempt) -> None:
        """An order made this of an attempt."""
        key = attempt.key
        self.attempts[key] = attempt
        if attempt.settled:
            self._reporter.settled(key)
        if not attempt.filed and key not in self._busy:
            executor = self.executor_of(attempt)
            assert executor is not None, attempt.order.name
            self._do(key, self._accept(key, executor))
        elif key in self._preparing:
            deadline = self._preparing.pop(key)
            if not deadline.expired():
                deadline.reschedule(self._loop.time())  # it is to stop: no use in going on
        elif attempt.settled or not attempt.marked:
            self.consider(key, None)
        else:
            self._look_again(executor_of(attempt.order.activity))

    def consider(self, key: Key, look: Look | None) -> None:
        """Decide, and act on it."""
        attempt = self.attempts[key]
        executor = self.executor_of(attempt)
        if executor is None:
            return  # it is kept until its executor is back
        if key in self._busy:
            if look is not None:
                self._missed.add(key)
            return
        action = agent.decide(attempt, look, self._loop.time())
        if action is not None:
            self._act(key, action, executor)
        elif look is not None and look.began_at < attempt.acted_at:
            self._look_again(executor_of(attempt.order.activity))  # that look came too early

    def _act(self, key: Key, action: agent.Action, executor: Executor) -> None:
        match action:
            case Began(started):
                self._began(key, started or time.time())
            case Start():
                self._do(key, self._start(key, executor))
            case Kill(why):
                self._do(key, self._kill(key, why, executor))
            case End():
                self._do(key, self._end(key, action))
            case Clear():
                self._do(key, self._clear(key, executor))

    def _do(self, key: Key, work: Coroutine[Any, Any, str]) -> None:
        self._busy.add(key)
        self._group.create_task(self._done(key, work))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        self._group.create_task(safely(work, None))

    async def _done(self, key: Key, work: Coroutine[Any, Any, str]) -> None:
        """`work` answers with what went wrong and is tried again later; empty: nothing did."""
        problem = await safely(work, "a defect")
        self._busy.discard(key)
        attempt = self.attempts.get(key)
        if attempt is None:
            self._missed.discard(key)
            return
        failures, now = attempt.failures + 1 if problem else 0, self._loop.time()
        rests_until = now + backoff_seconds(failures) if problem else attempt.rests_until
        self.change(key, acted_at=now, failures=failures, rests_until=rests_until)
        if problem:
            facts = {"attempt": attempt.order.name, "problem": problem, "failures": failures}
            log.warning("not done yet", extra=facts)
        self.consider(key, None)
        stopping = attempt.end is None and (attempt.stop or attempt.killed)
        if problem or stopping or key in self._missed:
            self._missed.discard(key)
            self._look_again(executor_of(attempt.order.activity))

    # --- what is done ---------------------------------------------------------------------------

    async def _accept(self, key: Key, executor: Executor) -> str:
        order, marked = self.attempts[key].order, not executor.prepares
        try:
            await self._disk.do(partial(self._folders.create, order, marked=marked))
        except (OSError, WireError) as error:
            del self.attempts[key]  # the order will come again
            log.warning("no folder", extra={"attempt": order.name, "problem": str(error)})
            if isinstance(error, FileExistsError):
                outcome = Outcome("unknown", reason="it may have been started: its order is lost")
                self._reporter.say(Ended(*key, outcome, None, None))
            return ""
        log_kept = executor.writes_log or not marked
        attempt = self.change(key, filed=True, marked=marked, log_kept=log_kept)
        self._say(attempt)
        log.debug("attempt accepted", extra={"attempt": order.name})
        return await self._start(key, executor)

    async def _start(self, key: Key, executor: Executor) -> str:
        order = self.attempts[key].order
        folder = self._folders.of(order.name)
        try:
            if executor.prepares:
                await self._prepare(key, order, folder, executor)
            if self.attempts[key].stop:
                return ""
            if not self.attempts[key].marked:
                await self._disk.do(partial(self._folders.mark, order.name))
                self.change(key, marked=True, log_kept=executor.writes_log)
            async with self._starts, asyncio.timeout(START_SECONDS):
                await executor.start(order, folder)
        except StartRefused as error:
            self.change(key, log_kept=True)  # there is none
            return await self._end(key, End(Outcome("refused", reason=str(error)[:500])))
        except (EngineError, TimeoutError, OSError) as error:
            return what_is_wrong(error)
        self.change(key, shaken=False, started_at=self._loop.time())
        self._began(key, time.time())
        return ""

    async def _prepare(self, key: Key, order: Run, folder: Path, executor: Executor) -> None:
        async with asyncio.timeout(PREPARE_SECONDS) as deadline:
            self._preparing[key] = deadline
            try:
                await executor.prepare(order, folder)
            finally:
                self._preparing.pop(key, None)

    def _began(self, key: Key, started: UnixTime) -> None:
        earlier = self.attempts[key].started_at
        started_at = self._loop.time() if earlier is None else earlier
        attempt = self.change(key, started=started, started_at=started_at)
        self._say(attempt)
        timeout_seconds = attempt.order.activity.limits.timeout_seconds
        if 0 < timeout_seconds < SOON_SECONDS:  # longer ones are seen coming, by the usual looks
            due_at = started_at + timeout_seconds
            self._loop.call_at(due_at, self._look_again, executor_of(attempt.order.activity))
        log.debug("attempt started", extra={"attempt": attempt.order.name})

    async def _kill(self, key: Key, why: agent.Why, executor: Executor) -> str:
        order = self.attempts[key].order
        grace_seconds = order.activity.limits.grace_seconds
        try:
            await self._disk.do(partial(self._folders.note_stop, order.name, why))
        except OSError as error:  # a full disk saves nobody
            log.warning("stop not noted", extra={"attempt": order.name, "problem": str(error)})
        self.change(key, killed=why)
        log.info("attempt told to stop", extra={"attempt": order.name, "why": why})
        try:
            async with asyncio.timeout(grace_seconds + STOP_SECONDS):
                await executor.stop(order.name, grace_seconds)
        except (EngineError, TimeoutError) as error:
            return what_is_wrong(error)
        # An engine may still show it for a moment.
        self.change(key, rests_until=self._loop.time() + backoff_seconds(2))
        return ""

    async def _end(self, key: Key, end: End) -> str:
        ended = await self._disk.do(partial(self._write_end, key, end))
        attempt = self.change(key, end=ended, rests_until=0.0)
        self._reporter.insist(ended)
        # The coordinator's history has every end; here a thousand a second would cost too much.
        level = logging.DEBUG if ended.outcome.kind == "success" else logging.INFO
        facts = {"attempt": attempt.order.name, "outcome": ended.outcome.kind}
        log.log(level, "attempt ended", extra=facts | {"exit_code": ended.outcome.exit_code})
        if not attempt.log_kept:
            self._background(self._keep_log(key))
        return ""

    def _write_end(self, key: Key, end: End) -> Ended:
        """Blocks: runs on the disk's thread."""
        name = self.attempts[key].order.name
        outcome, output = with_output(end.outcome, f"{self._folders.attempts}/{name}")
        ended = Ended(*key, outcome, end.started, end.finished, output)
        try:
            self._folders.write_end(ended, name)
        except OSError as error:  # the disk is full: what is known is said all the same
            log.warning("end not kept", extra={"attempt": name, "problem": str(error)})
        return ended

    async def _keep_log(self, key: Key) -> None:
        attempt = self.attempts[key]
        executor = self.executor_of(attempt)
        assert executor is not None, attempt.order.name
        await self._logs.keep(attempt, self._folders.of(attempt.order.name), executor)
        self.change(key, log_kept=True)
        self.consider(key, None)

    async def _clear(self, key: Key, executor: Executor) -> str:
        name = self.attempts[key].order.name
        try:
            async with asyncio.timeout(REMOVE_SECONDS):
                await executor.remove(name)
            size = await self._disk.do_later(partial(self._folders.retire, name))
        except (EngineError, TimeoutError, OSError) as error:
            return what_is_wrong(error)
        del self.attempts[key]
        self._archive.add(name, size)
        return ""

    def _say(self, attempt: Attempt) -> None:
        for report in agent.reports_of(attempt):
            self._reporter.say(report)

    # --- logs -----------------------------------------------------------------------------------

    async def have_log(self, key: Key) -> bool:
        """Begin to copy a log that is not here; whether all of it is."""
        attempt = self.attempts.get(key)
        if attempt is None:
            return True
        executor = self.executor_of(attempt)
        if attempt.marked and not attempt.log_kept and executor is not None:
            if not self._logs.following(key):
                self._background(self._follow_log(attempt, executor))
                await asyncio.sleep(0)
            await self._logs.first_content(key)
        attempt = self.attempts.get(key)
        return attempt is None or (attempt.end is not None and attempt.log_kept)

    async def _follow_log(self, attempt: Attempt, executor: Executor) -> None:
        await self._logs.follow(attempt, self._folders.of(attempt.order.name), executor)
