"""The seam between Cirrus and its database: one writer that decides, many readers."""

from contextlib import AbstractContextManager
from typing import Protocol

from cirrus.core.decision import Change, View
from cirrus.core.model import UnixTime


class Writer(View, Protocol):
    """The one connection that writes. All of it is called from one thread only."""

    instance: str

    def transaction(self) -> AbstractContextManager[None]:
        """Commit at the end, durably; roll back on any exception. Raises StorageFull."""
        ...

    def apply(self, change: Change) -> None:
        """Write it. Raises AssertionError when the store is not as the change expects."""
        ...

    def last_time(self) -> UnixTime:
        """The newest stored time: time never runs backwards in a store."""
        ...

    def close(self) -> None: ...
