"""What HTTP needs of the coordinator. service.py has it; tests have a fake that has it too."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from cirrus.coordinator.feed import Feed
from cirrus.core.decision import Answer
from cirrus.core.inputs import Input, Present
from cirrus.core.messages import LogRead
from cirrus.store.reader import Reader

T = TypeVar("T")


class Coordinator(Protocol):
    feed: Feed

    async def ask(self, what: Input) -> tuple[Answer, ...]:
        """Commits first. Raises Refused, StorageFull, Unavailable."""
        ...

    async def read(self, question: Callable[[Reader], T]) -> T: ...

    async def read_log(self, job: str, attempt: int, offset: int, length: int) -> LogRead:
        """Raises Unavailable while its dispatcher is away."""
        ...

    def present(self) -> tuple[Present, ...]:
        """The dispatchers that are there now."""
        ...

    def attempt_of(self, token: str) -> tuple[str, int] | None:
        """The job and attempt whose token this is. Whether it still runs, the store knows."""
        ...

    def ready(self) -> bool: ...
