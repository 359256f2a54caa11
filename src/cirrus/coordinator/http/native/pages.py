"""Lists in pages: each says where the next one begins."""

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct

from cirrus.store.records import Part

Seq = Annotated[int, Meta(ge=0, le=2**53)]
Limit = Annotated[int, Meta(ge=1, le=1000)]
Text = Annotated[str, Meta(max_length=200)]

T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True):
    """`next`: what to ask for to go on from here; null at the end."""

    items: Sequence[T]
    next: int | str | None


def page_of(part: Part[T], cursor: Callable[[T], int | str]) -> Page[T]:
    return Page(part.items, cursor(part.items[-1]) if part.more else None)
