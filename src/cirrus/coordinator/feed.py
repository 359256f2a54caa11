"""Wakes those who wait for something newer. What is newer, they read from the store themselves."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cirrus.errors import Unavailable

SUBSCRIBERS_MOST: Final = 500
PAUSE_SECONDS: Final = 0.02
PAUSE_SECONDS_EACH: Final = 0.002


class Feed:
    """Lives on the event loop's thread."""

    def __init__(self) -> None:
        self.seq = 0
        """The newest that was published; 0 until the first commit since the start."""
        self.closed = False
        self.subscribers = 0
        self._changed = asyncio.Event()
        self._awaited = False

    def publish(self, last_seq: int) -> None:
        """Say that everything up to this `seq` is committed."""
        if last_seq > self.seq:
            self.seq = last_seq
            self._wake()

    def close(self) -> None:
        """Nothing comes any more: whoever waits is to end."""
        self.closed = True
        self._wake()

    @contextmanager
    def subscription(self) -> Iterator[None]:
        """Hold a place among the subscribers. Raises Unavailable when all are taken."""
        if self.subscribers >= SUBSCRIBERS_MOST:
            refusal = Unavailable("feed", f"{SUBSCRIBERS_MOST} others follow already: try again")
            refusal.code = "too_many_subscribers"
            raise refusal
        self.subscribers += 1
        try:
            yield
        finally:
            self.subscribers -= 1

    async def newer_than(self, seq: int, timeout_seconds: float) -> bool:
        """Wait until there is something newer, or the feed closes. False when time is up."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.seq <= seq and not self.closed:
                    self._awaited = True
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    @property
    def pause_seconds(self) -> float:
        """How long a subscriber collects changes before it reads: the more of them, the longer."""
        return PAUSE_SECONDS + PAUSE_SECONDS_EACH * self.subscribers

    def _wake(self) -> None:
        if self._awaited:
            self._awaited = False
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
