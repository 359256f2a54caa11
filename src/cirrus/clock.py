"""The time of day, made safe to decide by."""

import time
from typing import Protocol

from cirrus.core.model import UnixTime


class Clock(Protocol):
    def now(self) -> UnixTime: ...


class SystemClock:
    """Follows the wall clock forwards, never backwards; goes on by the monotonic one."""

    def __init__(self, not_before: UnixTime = 0.0) -> None:
        """`not_before`: the newest time that is already stored."""
        self._ahead = not_before - time.monotonic()

    def now(self) -> UnixTime:
        monotonic = time.monotonic()
        self._ahead = max(self._ahead, time.time() - monotonic)
        return monotonic + self._ahead
