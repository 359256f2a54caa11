"""What the coordinator is told, and when it is told again. What is true is service.py's job."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from cirrus.core.agent import Key
from cirrus.core.messages import Accepted, Ended, Report, Started

LINGER_SECONDS: Final = 0.02
"""So long a beginning waits to be said: the end of a short attempt makes it superfluous."""
INSIST_SECONDS: Final = 0.5
INSIST_MOST_SECONDS: Final = 30.0


class Link(Protocol):
    """The way to the coordinator."""

    def open(self) -> None: ...

    def send(self, reports: Sequence[Report]) -> bool:
        """False when they were dropped. Never blocks."""
        ...

    def close(self) -> None: ...


class Reporter:
    """Used on the event loop's thread only."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._beginnings: dict[Key, Accepted | Started] = {}
        self._ends: dict[Key, Ended] = {}
        self._lingering: asyncio.TimerHandle | None = None
        self._unsettled: dict[Key, tuple[Ended, asyncio.TimerHandle]] = {}

    def say(self, report: Report) -> None:
        """Once. What gets lost is said again by passing time: by heartbeats and repeated orders."""
        match report:
            case Accepted() | Started():
                self._beginnings[report.job, report.attempt] = report
                if self._lingering is None:
                    self._lingering = self._loop.call_later(LINGER_SECONDS, self._say_beginnings)
            case Ended():
                self._say_soon(report)
            case _:
                self._link.send((report,))

    def insist(self, end: Ended, wait_seconds: float = INSIST_SECONDS) -> None:
        """Again and again, until `settled`."""
        key = end.job, end.attempt
        self.settled(key)
        longer = min(wait_seconds * 2, INSIST_MOST_SECONDS)
        again = self._loop.call_later(wait_seconds, self.insist, end, longer)
        self._unsettled[key] = end, again
        self._say_soon(end)

    def settled(self, key: Key) -> None:
        if key in self._unsettled:
            self._unsettled.pop(key)[1].cancel()

    def connected(self) -> None:
        """Say all ends again at once: the coordinator may have been waiting for them."""
        for end, _ in list(self._unsettled.values()):
            self.insist(end)

    def close(self) -> None:
        for _, again in self._unsettled.values():
            again.cancel()
        self._say_ends()
        self._say_beginnings()

    def _say_soon(self, end: Ended) -> None:
        """With all the other ends of this moment."""
        key = end.job, end.attempt
        self._beginnings.pop(key, None)
        if not self._ends:
            self._loop.call_soon(self._say_ends)
        self._ends[key] = end

    def _say_ends(self) -> None:
        ends = tuple(self._ends.values())
        self._ends.clear()
        if ends:
            self._link.send(ends)

    def _say_beginnings(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        beginnings = tuple(self._beginnings.values())
        self._beginnings.clear()
        if beginnings:
            self._link.send(beginnings)
