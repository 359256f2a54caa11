"""What the tests of executors share: orders, folders as a dispatcher makes them, patience."""

import asyncio
import contextlib
import secrets
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from cirrus.core.agent import Sighting
from cirrus.core.messages import Run
from cirrus.core.model import Container, Process, attempt_name
from cirrus.executors.base import Executor

PATIENCE_SECONDS = 40.0
IMAGE = "busybox:latest"


Make = Callable[[str, str], Executor]
"""From an instance and a dispatcher's name."""


class Bench:
    """An executor, and attempts on it."""

    def __init__(self, make: Make, attempts: Path) -> None:
        self.instance = secrets.token_hex(4)  # so that no test sees what another one left
        self.attempts = attempts
        self._make = make
        self._jobs = 0
        self.executor = self.make()

    def make(self, instance: str = "", dispatcher: str = "here") -> Executor:
        """One more executor on the same engine."""
        return self._make(instance or self.instance, dispatcher)

    def order(self, activity: Process | Container, **environment: str) -> Run:
        self._jobs += 1
        job = f"{self._jobs:016x}"
        name = attempt_name(self.instance, job, 1)
        order = Run(job, 1, name, "a rule", "a key", activity, environment, b'{"in": [1]}')
        io = self.folder(order) / "io"
        io.mkdir(parents=True)
        io.chmod(0o777)
        (io / "inputs.json").write_bytes(order.inputs)
        kind = "process" if isinstance(activity, Process) else activity.task_type
        (self.folder(order) / kind).mkdir()
        return order

    def folder(self, order: Run) -> Path:
        return self.attempts / order.name

    async def begin(self, order: Run) -> None:
        await begin(self.executor, order, self.folder(order))

    async def seen(self, order: Run) -> Sighting | None:
        sightings = await self.executor.look()
        return next((one for one in sightings if one.name == order.name), None)

    async def until(self, order: Run, state: str) -> Sighting:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                sighting = await self.seen(order)
                if sighting and sighting.state == state:
                    return sighting
                await asyncio.sleep(0.05)

    async def run(self, order: Run) -> Sighting:
        """To its end."""
        await self.begin(order)
        return await self.until(order, "exited")

    async def log(self, order: Run) -> bytes:
        if self.executor.writes_log:
            return (self.folder(order) / "log").read_bytes()
        pieces = self.executor.logs(order.name, self.folder(order))
        async with asyncio.timeout(PATIENCE_SECONDS):
            return b"".join([piece async for piece in pieces])

    async def clear(self) -> None:
        for sighting in await self.executor.look():
            await self.executor.stop(sighting.name, 0.0)
            await self.executor.remove(sighting.name)
        await self.executor.close()


async def begin(executor: Executor, order: Run, folder: Path) -> None:
    await executor.prepare(order, folder)
    await executor.start(order, folder)


@contextlib.asynccontextmanager
async def bench(make: Make, attempts: Path) -> AsyncIterator[Bench]:
    opened = Bench(make, attempts)
    try:
        yield opened
    finally:
        await opened.clear()


@contextlib.contextmanager
def swarm_engine() -> Iterator[Path]:
    """The socket of an engine that is a Swarm of one node, for as long as it is used.

    Its process id stands in a file `pid` beside it.
    """
    script = Path(__file__).parent.parent / "script" / "swarm-engine"
    # Not in a test's own folder, whose path is too long for an engine's sockets.
    directory = tempfile.mkdtemp(prefix="cirrus-")
    try:
        subprocess.run([script, directory], check=True, capture_output=True)
        yield Path(directory) / "docker.sock"
    finally:
        subprocess.run([script, "--down", directory], check=True)
