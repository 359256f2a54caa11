"""/v1/feed: the history as server-sent events, from any `seq` on, in the order of `seq`."""

import asyncio
import re
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from msgspec import Struct

from cirrus.coordinator.http.message import Answer, Request, Stream, encode_json, started
from cirrus.coordinator.http.native.pages import Seq
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.router import Route
from cirrus.errors import Refused
from cirrus.store.questions import history
from cirrus.store.records import Change

ID: Final = re.compile(rb"[0-9]{1,16}")
EVENT_STREAM: Final = b"text/event-stream"
PIECE: Final = 200
HEARTBEAT_SECONDS: Final = 15.0
RETRY: Final = b"retry: 1000\n\n"
HEARTBEAT: Final = b": still here\n\n"
STALLED_SECONDS: Final = 5.0
BEHIND_MOST: Final = 10_000
"""Who stood still for so long, and is so far behind, begins anew at what is newest."""


class FeedQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`after`: begin beyond this `seq`; if not given, with what comes from now on.

    The header Last-Event-ID, which browsers send when they connect again, goes before it.
    """

    after: Seq | None = None


def feed_routes(coordinator: Coordinator) -> list[Route]:
    async def follow(request: Request) -> Answer:
        after = _begin(request)
        newest = await coordinator.read(history.last_seq)
        if after is None:
            pieces = _events(coordinator, newest)
        elif after > newest:
            # It follows a history that is not ours: another store's, or one from before a loss.
            pieces = _events(coordinator, newest, _resync(newest))
        else:
            pieces = _events(coordinator, after)
        return Stream(await started(pieces), media_type=EVENT_STREAM)

    return [
        Route(
            "GET",
            "/v1/feed",
            follow,
            "All that happens, as server-sent events: occurrence, firing, move, note, pause,"
            " definition, reset; and resync, after which a client reads anew what it shows.",
            query=FeedQuery,
            media_type="text/event-stream",
            refusals=(503,),
        )
    ]


def _begin(request: Request) -> int | None:
    after = request.query(FeedQuery).after
    last = request.headers.get(b"last-event-id")
    if not last:
        return after
    if not ID.fullmatch(last):
        raise Refused("bad_cursor", "Last-Event-ID is no id of this feed", "Last-Event-ID")
    return int(last)


async def _events(
    coordinator: Coordinator, after: int, first: bytes = b""
) -> AsyncGenerator[bytes, None]:
    feed, loop = coordinator.feed, asyncio.get_running_loop()
    with feed.subscription():
        yield RETRY + first
        while not feed.closed:
            page = await coordinator.read(partial(history.changes, after=after, limit=PIECE))
            if not page:
                if not await feed.newer_than(after, HEARTBEAT_SECONDS):
                    yield HEARTBEAT
                await asyncio.sleep(feed.pause_seconds)
                continue
            given = loop.time()
            yield b"".join(map(_event, page))
            after = page[-1].seq
            # Nothing is kept for a client that does not read: what it missed may be too much.
            if loop.time() - given > STALLED_SECONDS and feed.seq - after > BEHIND_MOST:
                after = feed.seq
                yield _resync(after)


def _event(change: Change) -> bytes:
    data = encode_json(change.record)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (change.seq, change.kind.encode(), data)


def _resync(seq: int) -> bytes:
    return b'id: %d\nevent: resync\ndata: {"seq":%d}\n\n' % (seq, seq)
