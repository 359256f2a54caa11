"""/v1/jobs/{job}/logs: what an attempt wrote, as it was, whole, in part or as it comes."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from typing import Annotated, Final

from msgspec import Meta, Struct

from cirrus.coordinator.http.message import (
    TEXT,
    Answer,
    Full,
    Headers,
    Request,
    Stream,
    encode_json,
    native_shape,
)
from cirrus.coordinator.http.native.jobs import unknown_job
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.router import Route
from cirrus.core.lifecycle import ended
from cirrus.core.messages import LogRead
from cirrus.errors import CirrusError, NotFound, Unavailable
from cirrus.store.questions import jobs
from cirrus.store.records import Job

PIECE: Final = 256 * 1024
LOOK_SECONDS: Final = 0.25
LOOK_AGAIN_SECONDS: Final = 10.0
AWAY_SECONDS: Final = 60.0
"""A dispatcher that stays away for longer ends the following of its log."""
RANGE: Final = re.compile(rb"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))")


class LogQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`attempt`: the newest if not given. `tail`: only so many bytes at its end.

    `follow`: go on until the attempt has ended.
    """

    attempt: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    tail: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    follow: bool = False


def log_routes(coordinator: Coordinator) -> list[Route]:
    room = _Logs(coordinator)
    return [
        Route(
            "GET",
            "/v1/jobs/{job}/logs",
            room.read,
            "What an attempt wrote. Takes a Range of bytes; of it, 256 KiB at most come at once.",
            query=LogQuery,
            media_type="text/plain",
            refusals=(404, 416),
        )
    ]


class _Logs:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def read(self, request: Request) -> Answer:
        query = request.query(LogQuery)
        job = await self._job(request.values[0])
        attempt = query.attempt or job.attempt
        if attempt > job.attempt:
            raise NotFound(
                "unknown_attempt", f"job {job.id} has no attempt {attempt} yet", "attempt"
            )
        headers: Headers = (_named(job, attempt),)
        if not attempt:
            pieces = self._from_first_attempt(job) if query.follow else _nothing()
            return Stream(pieces, headers=headers)
        asked = RANGE.fullmatch(request.headers.get(b"range", b"").strip())
        if asked and not query.follow and query.tail is None:
            return await self._part(job, attempt, asked)
        if query.tail == 0 and not query.follow:
            return Full(b"", media_type=TEXT, headers=headers)
        offset = 0 if query.tail is None else -query.tail
        first = await self._piece(job.id, attempt, offset)
        pieces = self._pieces(job.id, attempt, first, follow=query.follow)
        return Stream(pieces, headers=headers)

    async def _job(self, id: str) -> Job:
        job = await self._coordinator.read(lambda reader: jobs.job(reader, id))
        if job is None:
            raise unknown_job(id)
        return job

    async def _part(self, job: Job, attempt: int, asked: re.Match[bytes]) -> Answer:
        """One range: 206, with less than was asked for where that is much; 416 beyond the end."""
        first, last, suffix = asked.groups()
        offset = -int(suffix) if first is None else int(first)
        length = int(last) - offset + 1 if last is not None else PIECE
        found = await self._piece(job.id, attempt, offset, max(1, min(length, PIECE)))
        headers: Headers = (_named(job, attempt),)
        if length < 1 or suffix == b"0" or not found.content:
            shape = native_shape("no_such_range", "the log has no bytes in that range", "range")
            span = f"bytes */{found.size}".encode()
            return Full(encode_json(shape), 416, headers=((b"content-range", span),))
        end = found.offset + len(found.content) - 1
        span = f"bytes {found.offset}-{end}/{found.size}".encode()
        return Full(found.content, 206, TEXT, (*headers, (b"content-range", span)))

    async def _piece(self, job: str, attempt: int, offset: int, length: int = PIECE) -> LogRead:
        found = await self._coordinator.read_log(job, attempt, offset, length)
        if found.problem and found.complete:
            raise NotFound("no_log", found.problem)
        if found.problem:
            raise Unavailable(found.problem)
        return found

    async def _pieces(
        self, job: str, attempt: int, read: LogRead, *, follow: bool
    ) -> AsyncGenerator[bytes, None]:
        """From this read on: to the size that it told, or to the end of the attempt."""
        size, away_seconds = read.size, 0.0
        feed = self._coordinator.feed
        with feed.subscription() if follow else nullcontext():
            while not feed.closed:
                if read.content:
                    yield read.content
                at = read.offset + len(read.content)
                if read.complete or (not follow and (at >= size or not read.content)):
                    return
                if not read.content:
                    await asyncio.sleep(LOOK_SECONDS)
                try:
                    read = await self._piece(job, attempt, at)
                    away_seconds = 0.0
                except CirrusError:
                    away_seconds += LOOK_SECONDS
                    if not follow or away_seconds > AWAY_SECONDS:
                        return
                    read = LogRead(0, at, b"", size, complete=False)

    async def _from_first_attempt(self, job: Job) -> AsyncGenerator[bytes, None]:
        feed = self._coordinator.feed
        with feed.subscription():
            while not job.attempt and not ended(job.state) and not feed.closed:
                seq = feed.seq
                job = await self._job(job.id)
                if not job.attempt:
                    await feed.newer_than(seq, LOOK_AGAIN_SECONDS)
        if job.attempt:
            nothing_yet = LogRead(0, 0, b"", 0, complete=False)
            async for piece in self._pieces(job.id, job.attempt, nothing_yet, follow=True):
                yield piece


async def _nothing() -> AsyncGenerator[bytes, None]:
    yield b""


def _named(job: Job, attempt: int) -> tuple[bytes, bytes]:
    """It is downloaded, never shown: what a job wrote is nobody's page."""
    name = f'attachment; filename="{job.id}-{attempt}.log"'
    return (b"content-disposition", name.encode())
