"""The seed's lists, /q: read and sent in pieces, so that none is ever whole in memory."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Final, Protocol, TypeVar

from msgspec import Meta, Struct

from cirrus.coordinator.http import seed_shapes
from cirrus.coordinator.http.message import JSON, Stream, encode_json, started
from cirrus.coordinator.http.needs import Coordinator
from cirrus.core.inputs import DefinitionKind
from cirrus.store.questions import definitions, history
from cirrus.store.reader import Reader
from cirrus.store.records import SeedEvent, SeedState

NEWEST: Final = 10_000
"""So many of the newest changes a queue shows; `after` and `limit` page through all of them."""
PIECE: Final = 100

E = TypeVar("E", SeedEvent, SeedState)
E_co = TypeVar("E_co", SeedEvent, SeedState, covariant=True)


class PageOf(Protocol[E_co]):
    def __call__(self, reader: Reader, after: int, limit: int) -> Sequence[E_co]: ...


class QueueQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`after`: begin beyond this `seq`, with the oldest; otherwise the newest are shown."""

    after: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    limit: Annotated[int, Meta(ge=1, le=NEWEST)] = NEWEST


async def all_definitions(coordinator: Coordinator, kind: DefinitionKind) -> Stream:
    async def pages() -> AsyncGenerator[list[dict[str, object]], None]:
        name, more = "", True
        while more:
            question = partial(definitions.definitions, kind=kind, after=(kind, name), limit=PIECE)
            part = await coordinator.read(question)
            yield [seed_shapes.definition(one) for one in part.items]
            name, more = part.items[-1].name if part.more else "", part.more

    return await _listed(pages())


async def event_queue(coordinator: Coordinator, query: QueueQuery) -> Stream:
    pages = _pages(coordinator, query, history.seed_events_start, history.seed_events)
    return await _listed(_each(pages, lambda one: [seed_shapes.event_entry(one)]))


async def state_queue(coordinator: Coordinator, query: QueueQuery) -> Stream:
    pages = _pages(coordinator, query, history.seed_states_start, history.seed_states)
    return await _listed(_each(pages, seed_shapes.state_entries))


async def _pages(
    coordinator: Coordinator,
    query: QueueQuery,
    start: Callable[[Reader, int], int],
    page_of: PageOf[E],
) -> AsyncGenerator[Sequence[E], None]:
    left = query.limit
    if query.after is None:
        after = await coordinator.read(lambda reader: start(reader, query.limit))
    else:
        after = query.after
    while left:
        size = min(left, PIECE)
        page = await coordinator.read(partial(page_of, after=after, limit=size))
        yield page
        if len(page) < size:
            return
        after, left = page[-1].seq, left - size


async def _each(
    pages: AsyncGenerator[Sequence[E], None], entries: Callable[[E], list[dict[str, object]]]
) -> AsyncGenerator[list[dict[str, object]], None]:
    async with aclosing(pages):
        async for page in pages:
            yield [entry for one in page for entry in entries(one)]


async def _listed(pages: AsyncGenerator[list[dict[str, object]], None]) -> Stream:
    return Stream(await started(_array(pages)), media_type=JSON)


async def _array(
    pages: AsyncGenerator[list[dict[str, object]], None],
) -> AsyncGenerator[bytes, None]:
    """A JSON list."""
    before = b"["
    async with aclosing(pages):
        async for page in pages:
            if page:
                yield before + b",".join(map(encode_json, page))
                before = b","
    yield b"[]" if before == b"[" else b"]"
