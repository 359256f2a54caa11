"""Lists in pages: each says where the next one begins."""

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct

Seq = Annotated[int, Meta(ge=0, le=2**53)]
Limit = Annotated[int, Meta(ge=1, le=1000)]
Text = Annotated[str, Meta(max_length=200)]

T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True):
    """`next`: what to ask for to go on from here; null at the end."""

    items: Sequence[T]
    next: int | str | None


def page_of(items: Sequence[T], limit: int, cursor: Callable[[T], int | str]) -> Page[T]:
    """Of one item more than the page takes, if there is one."""
    shown = items[:limit]
    return Page(shown, cursor(shown[-1]) if len(items) > limit else None)
