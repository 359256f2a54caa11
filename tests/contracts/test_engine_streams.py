"""How logs and events come apart again, however an engine's answer was cut into pieces."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from cirrus.executors.containers import demultiplexed

frames = st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(max_size=50)), max_size=20)


async def each(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def content(chunks: Iterable[bytes]) -> bytes:
    return b"".join([piece async for piece in demultiplexed(each(chunks))])


def cut(text: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(edges)]


def framed(pieces: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(
        bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text for stream, text in pieces
    )


@given(frames, st.lists(st.integers(0, 1000), max_size=30))
def test_a_log_is_the_same_wherever_it_was_cut(pieces, places):
    chunks = cut(framed(pieces), places)
    assert asyncio.run(content(chunks)) == b"".join(text for _, text in pieces)


def test_what_has_arrived_of_a_broken_frame_is_not_lost():
    assert asyncio.run(content([framed([(1, b"hello")])[:-2]])) == b"hel"
