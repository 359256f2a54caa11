"""The seam between a dispatcher and the engines that run its attempts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from cirrus.core.agent import Sighting
from cirrus.core.messages import Offer, Run

__all__ = ["Executor", "Sighting"]


class Executor(Protocol):
    """One way of starting attempts. Every method raises EngineAway when the engine does not answer.

    An attempt is known by its name and labels alone: a new object, after a crash, sees what an
    earlier one started. Nothing that does not carry this instance's and this dispatcher's labels
    is ever touched.
    """

    writes_log: bool
    """Its attempts write `folder/log` themselves; otherwise it is copied there from `logs`."""
    prepares: bool
    """`prepare` does something; otherwise an attempt is marked at once, with its folder."""

    async def offer(self) -> Offer:
        """What the engine has. Also prepares what attempts need, such as the job network."""
        ...

    async def prepare(self, order: Run, folder: Path) -> None:
        """Make everything ready but do not run it: pull, create. May be repeated.

        `folder/io` holds inputs.json and is where the job writes output.json; `folder/log` is
        the log of an executor that writes it itself; a folder of the executor's name is there
        for what it keeps. Raises StartRefused when the engine will never take it.
        """
        ...

    async def start(self, order: Run, folder: Path) -> None:
        """Start what was prepared, if it was never started; otherwise do nothing.

        Raises StartRefused when the engine will never start it.
        """
        ...

    async def look(self) -> list[Sighting]:
        """Every attempt of this dispatcher that the engine knows, running or not."""
        ...

    async def stop(self, name: str, grace_seconds: float) -> None:
        """TERM, wait, KILL. Returns when it has ended or is not there."""
        ...

    def logs(self, name: str, folder: Path) -> AsyncIterator[bytes]:
        """The whole log from its beginning, following until the attempt ends.

        Not used where `writes_log` is true.
        """
        ...

    async def remove(self, name: str) -> None:
        """Remove an ended attempt. Nothing happens when it is not there."""
        ...

    async def wait(self) -> None:
        """Return when something may have changed: a hint that saves time, never needed."""
        ...

    async def close(self) -> None: ...
