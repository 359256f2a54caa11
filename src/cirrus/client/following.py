"""Follows what one occurrence causes, change by change, until nothing of it is under way."""

from collections.abc import Callable, Iterator
from typing import Final

from cirrus.client.answers import Definition, Firing, Moment, OccurrenceRecord, Reset
from cirrus.client.feed import Change, Resync
from cirrus.core.decision import Occurrence
from cirrus.core.lifecycle import MOVES, ended

UNFINISHED: Final = tuple(state for state in MOVES if not ended(state))
NOT_WELL: Final = ("failed", "cancelled")


class Following:
    """Iterate over it once. Under a key it follows the whole key, under none what it began.

    Raises TimeoutError when its time is up, Unavailable when the coordinator stays away.
    """

    def __init__(
        self, occurrence: Occurrence, feed: Iterator[Change], idle: Callable[[], int | None]
    ) -> None:
        """`feed` begins with the occurrence. `idle`: the newest `seq`, if nothing is under way."""
        self.jobs: set[str] = set()
        self.under_way: set[str] = set()
        self.failed: list[str] = []
        """The jobs that failed, or were cancelled."""
        self._key = occurrence.key
        self._root = occurrence.seq
        self._feed = feed
        self._idle = idle

    def __iter__(self) -> Iterator[Change]:
        last = self._idle()
        for change in self._feed:
            if self._concerns(change):
                yield change
            if last is None and may_be_the_last(change):
                last = self._idle()
            if last is not None and change.seq >= last:
                return

    def _concerns(self, change: Change) -> bool:
        match change.record:
            case OccurrenceRecord() as record:
                if record.root == self._root or self._is_key(record.key):
                    self.jobs.update(verdict.job for verdict in record.verdicts if verdict.job)
                    return True
                return False
            case Firing() as firing:
                if self._is_key(firing.key):
                    self.jobs.add(firing.job)
                return firing.job in self.jobs
            case Moment() as moment:
                if moment.job in self.jobs and moment.kind == "move":
                    self._moved(moment)
                return moment.job in self.jobs
            case Definition() | Reset() | Resync():
                return False

    def _is_key(self, key: str) -> bool:
        return bool(self._key) and key == self._key

    def _moved(self, move: Moment) -> None:
        if move.state in UNFINISHED:
            self.under_way.add(move.job)
        else:
            self.under_way.discard(move.job)
        if move.state in NOT_WELL:
            self.failed.append(move.job)


def may_be_the_last(change: Change) -> bool:
    """Whether nothing may be under way any more after it."""
    record = change.record
    return isinstance(record, Resync) or (
        isinstance(record, Moment) and record.kind == "move" and record.state not in UNFINISHED
    )
