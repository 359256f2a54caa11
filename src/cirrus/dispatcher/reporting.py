"""What the coordinator is told, and when it is told again. What is true is service.py's job."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from cirrus.core.agent import Key
from cirrus.core.messages import Accepted, Ended, Report, Started

LINGER_SECONDS: Final = 0.02
"""So long a smaller report waits for the next one about its attempt, which makes it superfluous."""
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
        self._waiting: dict[Key, Accepted | Started | Ended] = {}
        self._flush: asyncio.Handle | None = None
        self._urgent = False
        self._unsettled: dict[Key, tuple[Ended, asyncio.TimerHandle]] = {}

    def say(self, report: Report) -> None:
        """Once. What gets lost is said again by passing time: by heartbeats and repeated orders."""
        match report:
            case Accepted() | Started() | Ended():
                self._put(report, urgent=isinstance(report, Ended))
            case _:
                self._link.send((report,))

    def insist(self, end: Ended, wait_seconds: float = INSIST_SECONDS) -> None:
        """Again and again, until `settled`."""
        key = end.job, end.attempt
        self.settled(key)
        longer = min(wait_seconds * 2, INSIST_MOST_SECONDS)
        again = self._loop.call_later(wait_seconds, self.insist, end, longer)
        self._unsettled[key] = end, again
        self._put(end, urgent=True)

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
        if self._flush is not None:
            self._flush.cancel()
            self._send()

    def _put(self, report: Accepted | Started | Ended, *, urgent: bool) -> None:
        # A later state of an attempt says all that an earlier one says.
        key = report.job, report.attempt
        before = self._waiting.get(key)
        if not isinstance(before, Ended):
            self._waiting[key] = report
        if self._flush is not None and urgent and not self._urgent:
            self._flush.cancel()
            self._flush = None
        if self._flush is None:
            self._urgent = urgent
            self._flush = (
                self._loop.call_soon(self._send)
                if urgent
                else self._loop.call_later(LINGER_SECONDS, self._send)
            )

    def _send(self) -> None:
        self._flush = None
        reports = tuple(self._waiting.values())
        self._waiting.clear()
        self._link.send(reports)
