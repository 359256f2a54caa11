"""What the tests of the dispatcher share: an engine and a coordinator that misbehave if told to."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from cirrus.core.agent import Sighting
from cirrus.core.messages import (
    Ended,
    Hello,
    LogRead,
    Offer,
    Order,
    ReadLog,
    Report,
    Run,
    Settled,
    Welcome,
)
from cirrus.core.model import Container, Limits, Process, attempt_name
from cirrus.dispatcher.service import Options, run
from cirrus.errors import EngineAway, StartRefused
from cirrus.executors.base import Executor

PATIENCE_SECONDS = 30.0
INSTANCE = "feedbeef"

R = TypeVar("R", bound=Report)


def container(timeout_seconds: float = 0.0) -> Container:
    return Container("docker", "busybox", limits=Limits(timeout_seconds=timeout_seconds))


def order(job: str, attempt: int = 1, activity: Process | Container | None = None) -> Run:
    name = attempt_name(INSTANCE, job, attempt)
    environment = {"CIRRUS_JOB": job, "CIRRUS_ATTEMPT": str(attempt)}
    return Run(job, attempt, name, "rule", "key", activity or container(), environment, b"{}")


async def until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


class FakeEngine:
    """An engine in memory. It lives on when a dispatcher dies."""

    def __init__(self) -> None:
        self.seen: dict[str, Sighting] = {}
        self.starts: dict[str, int] = {}
        self.stops: list[str] = []
        self.log: dict[str, list[bytes]] = {}
        self.refuses = ""
        self.away = False
        """It answers nothing, and does nothing."""
        self.replies_lost = 0
        """So often it does what it is asked, and the answer is lost."""
        self.pulling = False
        self.changed = asyncio.Event()

    def end(self, name: str, code: int = 0) -> None:
        started = self.seen[name].started
        self.seen[name] = Sighting(name, "exited", code, started=started, finished=time.time())
        self.changed.set()


class FakeExecutor:
    writes_log = False
    prepares = True

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine

    def _answered(self) -> None:
        if self.engine.replies_lost:
            self.engine.replies_lost -= 1
            raise EngineAway("fake", "no reply")

    def _there(self) -> None:
        if self.engine.away:
            raise EngineAway("fake", "away")

    async def offer(self) -> Offer:
        self._there()
        return Offer("docker", "fake", 4.0, 10**9, "10.0.0.1")

    async def prepare(self, order: Run, folder: Path) -> None:
        self._there()
        await until(lambda: not self.engine.pulling)
        if self.engine.refuses:
            raise StartRefused(self.engine.refuses)
        assert (folder / "order").exists()
        self.engine.seen.setdefault(order.name, Sighting(order.name, "created"))
        self._answered()

    async def start(self, order: Run, folder: Path) -> None:
        self._there()
        assert (folder / "started").exists()
        if self.engine.seen[order.name].state == "created":
            self.engine.starts[order.name] = self.engine.starts.get(order.name, 0) + 1
            self.engine.seen[order.name] = Sighting(order.name, "running", started=time.time())
        self._answered()

    async def look(self) -> list[Sighting]:
        self._there()
        return list(self.engine.seen.values())

    async def stop(self, name: str, grace_seconds: float) -> None:
        self._there()
        self.engine.stops.append(name)
        if self.engine.seen[name].state == "running":
            self.engine.end(name, 143 if grace_seconds else 137)
        self._answered()

    async def logs(self, name: str, folder: Path) -> AsyncIterator[bytes]:
        assert folder.name == name
        self._there()
        sent = 0
        while True:
            ended = self.engine.seen[name].state == "exited"
            for piece in self.engine.log.get(name, [])[sent:]:
                sent += 1
                yield piece
            if ended:
                return
            await asyncio.sleep(0.005)
            self._there()

    async def remove(self, name: str) -> None:
        self._there()
        self.engine.seen.pop(name, None)
        self._answered()

    async def wait(self) -> None:
        self._there()
        await self.engine.changed.wait()
        self.engine.changed.clear()
        self._there()

    async def close(self) -> None:
        return


class FakeLink:
    """The way to a coordinator in memory, for one life of a dispatcher."""

    def __init__(
        self, on_orders: Callable[[list[Order]], None], on_connect: Callable[[], None]
    ) -> None:
        self.on_orders = on_orders
        self.on_connect = on_connect
        self.reports: list[Report] = []
        self.connected = True
        self.settles = False
        self.speaks = True

    def open(self) -> None:
        asyncio.get_running_loop().call_soon(self.on_connect)

    def close(self) -> None:
        self.connected = False

    def send(self, reports: Sequence[Report]) -> bool:
        if not self.connected:
            return False
        self.reports += reports
        if self.speaks:
            asyncio.get_running_loop().call_soon(self._answer, reports)
        return True

    def _answer(self, reports: Sequence[Report]) -> None:
        if not self.connected:
            return
        self.on_orders([Welcome(INSTANCE)])
        if self.settles:
            self.give(*[Settled(one.job, one.attempt) for one in reports if isinstance(one, Ended)])

    def give(self, *orders: Order) -> None:
        self.on_orders(list(orders))

    def said(self, kind: type[R]) -> list[R]:
        return [report for report in self.reports if isinstance(report, kind)]

    async def first(self, kind: type[R], job: str = "") -> R:
        def found() -> Iterable[R]:
            return [one for one in self.said(kind) if not job or getattr(one, "job", "") == job]

        await until(found)
        return next(iter(found()))

    async def end_of(self, job: str) -> Ended:
        return await self.first(Ended, job)

    async def read(
        self, job: str, offset: int = 0, length: int = 1 << 20, attempt: int = 1
    ) -> LogRead:
        request = len(self.reports)
        self.give(ReadLog(request, job, attempt, offset, length))
        await until(lambda: any(one.request == request for one in self.said(LogRead)))
        return next(one for one in self.said(LogRead) if one.request == request)


@contextlib.asynccontextmanager
async def dispatching(
    options: Options, executors: Mapping[str, Executor], *, settles: bool = False
) -> AsyncIterator[FakeLink]:
    """A dispatcher that lives as long as its block; it ends as if it had been killed."""
    links: list[FakeLink] = []

    def connect(
        on_orders: Callable[[list[Order]], None], on_connect: Callable[[], None]
    ) -> FakeLink:
        links.append(FakeLink(on_orders, on_connect))
        links[0].settles = settles
        return links[0]

    over = asyncio.Event()
    task = asyncio.create_task(run(options, executors, connect, over))
    try:
        await until(lambda: task.done() or (links and links[0].said(Hello)))
        if task.done():
            await task
        yield links[0]
    finally:
        over.set()
        await task
