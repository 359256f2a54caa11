"""What handlers take and give: a Request; an Answer at once, or a Stream of pieces."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from cirrus.coordinator.http.body import BODY_MOST, explain, read_json, typed
from cirrus.errors import Refused, TooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

JSON: Final = b"application/json"
TEXT: Final = b"text/plain; charset=utf-8"
JSON_TYPES: Final = (JSON, b"application/json; charset=utf-8", b"application/json;charset=utf-8")
QUERY_MOST: Final = 4096
INLINE_MOST: Final = 64 * 1024
"""A larger body is decoded in a thread, so that nobody waits for it."""

T = TypeVar("T")
encode_json: Final = msgspec.json.Encoder().encode


class Full(Struct):
    """An answer that is there as a whole."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON
    headers: Headers = ()


class Stream(Struct):
    """An answer that comes in pieces. Sending waits for a slow reader, and ends when he is gone."""

    pieces: AsyncGenerator[bytes, None]
    status: int = 200
    media_type: bytes = TEXT
    headers: Headers = ()


Answer = Full | Stream


async def started(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same pieces, the first of them made already: what goes wrong there is still refused."""
    first = await anext(pieces)

    async def all_of_them() -> AsyncGenerator[bytes, None]:
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return all_of_them()


def answer(value: object, status: int = 200) -> Full:
    return Full(encode_json(value), status)


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What a call takes that has no parameters in its query."""


class Request:
    """`values` are the path's parameters, in their order."""

    __slots__ = (
        "_held",
        "_large",
        "_receive",
        "headers",
        "method",
        "query_string",
        "size",
        "values",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[bytes, bytes],
        values: list[str],
        large: asyncio.Semaphore,
    ) -> None:
        """`large`: what a body that is large must wait for."""
        self.method: str = scope["method"]
        self.query_string: bytes = scope["query_string"]
        self.headers = headers
        self.values = values
        self.size = 0
        """Of the body, in bytes, once it was read."""
        self._receive = receive
        self._large = large
        self._held = False

    def query(self, kind: type[T]) -> T:
        """Each parameter at most once, none that is unknown. Raises Refused."""
        given = self.query_string
        if not given:
            return kind()
        if len(given) > QUERY_MOST:
            raise Refused("bad_query", f"the query has more than {QUERY_MOST} characters")
        try:
            text = given.decode("ascii")
            pairs = parse_qsl(
                text,
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=32,
            )
        except ValueError as error:
            raise Refused("bad_query", "the query is not name=value&name=value") from error
        values = dict(pairs)
        if len(values) < len(pairs):
            raise Refused("bad_query", "the query gives the same parameter twice")
        try:
            query = msgspec.convert(values, kind, strict=False)
        except msgspec.ValidationError as error:
            raise Refused(*explain(error)) from error
        for name in values:
            if getattr(query, name) is None:
                raise Refused("bad_value", f"{name}: null is no value: leave it out", name)
        return query

    async def body(self, most: int = BODY_MOST) -> bytes:
        """All of it. Raises TooLarge as soon as it is known to be."""
        declared = self.headers.get(b"content-length")
        if declared is not None and int(declared) > most:
            raise _too_large(most)
        message = await self._receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body"):
            message = await self._receive()
            body += message.get("body", b"")
            if len(body) > most:
                raise _too_large(most)
            if len(body) > INLINE_MOST and not self._held:
                await self._large.acquire()
                self._held = True
        if message["type"] == "http.disconnect":
            raise Refused("gone", "the client closed the connection")
        self.size = len(body)
        return body

    def release(self) -> None:
        """Let the next large body come, when what became of this one is gone."""
        if self._held:
            self._large.release()

    async def json(self, most: int = BODY_MOST) -> object:
        """The body as JSON, and nothing else. Raises Refused."""
        media_type = self.headers.get(b"content-type")
        if media_type not in JSON_TYPES:
            _check_media_type(media_type)
        body = await self.body(most)
        if len(body) > INLINE_MOST:
            return await asyncio.to_thread(read_json, body)
        return read_json(body)

    async def typed(self, kind: type[T], most: int = BODY_MOST) -> T:
        return typed(await self.json(most), kind)

    async def no_body(self) -> None:
        """For calls that take none; an empty object passes."""
        if await self.body(1024) not in (b"", b"{}"):
            raise Refused("unexpected_body", "this call takes no body")


def refused(status: int, code: str, message: str, field: str = "") -> Refused:
    """A refusal with a status that only HTTP knows."""
    error = Refused(code, message, field)
    error.status = status
    return error


def native_shape(code: str, message: str, field: str) -> dict[str, object]:
    """What a refusal looks like, but on the seed's routes."""
    return {"error": {"code": code, "message": message, "field": field}}


def _check_media_type(given: bytes | None) -> None:
    kind, _, parameter = (given or b"").lower().partition(b";")
    if kind.strip() != JSON or parameter.strip() not in (b"", b"charset=utf-8", b'charset="utf-8"'):
        raise refused(
            415, "media_type", "send JSON, with the header Content-Type: application/json"
        )


def _too_large(most: int) -> TooLarge:
    return TooLarge("body_too_large", f"the body has more than {most} bytes")
