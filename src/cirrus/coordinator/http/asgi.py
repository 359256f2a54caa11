"""Takes a request in, finds who answers it, sends the answer out. One shape for every refusal."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing
from typing import Final

from cirrus.coordinator.http.guard import Guard
from cirrus.coordinator.http.message import (
    Answer,
    Full,
    Headers,
    NoQuery,
    Receive,
    Request,
    Scope,
    Send,
    Stream,
    answer,
    native_shape,
    refused,
)
from cirrus.coordinator.http.router import Route, Router
from cirrus.errors import CirrusError, Refused, StorageFull, Unavailable

log = logging.getLogger(__name__)

LARGE_AT_ONCE: Final = 4
"""So many large bodies are in memory; others wait on the wire."""
ALWAYS: Final[Headers] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
HEADERS_OF: Final[dict[int, Headers]] = {
    401: ((b"www-authenticate", b'Basic realm="cirrus job"'),),
    413: ((b"connection", b"close"),),  # the rest of the body is not worth reading
    503: ((b"retry-after", b"1"),),
}

Shape = Callable[[str, str, str], object]
"""What a refusal looks like, from its code, message and field."""


class App:
    """An ASGI application. `shapes`: by the start of a path, where refusals look different."""

    def __init__(
        self,
        routes: Iterable[Route],
        hosts: Collection[str],
        shapes: dict[bytes, Shape] | None = None,
    ) -> None:
        self._router = Router(routes)
        self._guard = Guard(hosts)
        self._shapes = shapes or {}
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        try:
            given = await self._answer(scope, receive)
        except CirrusError as error:
            given = self._refusal(scope["raw_path"], error)
        except Exception:
            # The server logs it. Whoever asked learns no more than that it was not his fault.
            defect = refused(500, "defect", "a fault of Cirrus itself; its log says more")
            await _send_full(self._refusal(scope["raw_path"], defect), send)
            raise
        if isinstance(given, Full):
            await _send_full(given, send)
        else:
            await _send_stream(given, scope["method"], receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        headers = self._guard.headers(scope)
        found = self._router.find(scope["raw_path"])
        if found is None:
            raise refused(404, "no_such_path", "there is nothing at this path")
        routes, values = found
        route = routes.get(scope["method"])
        if route is None:
            return self._wrong_method(scope["raw_path"], sorted(routes))
        request = Request(scope, receive, headers, values, self._large)
        if route.query is None:
            request.query(NoQuery)
        try:
            return await route.handler(request)
        finally:
            request.release()

    def _wrong_method(self, path: bytes, allowed: list[str]) -> Full:
        methods = ", ".join(allowed)
        error = refused(405, "wrong_method", f"this path takes {methods}")
        given = self._refusal(path, error)
        given.headers = (*given.headers, (b"allow", methods.encode()))
        return given

    def _refusal(self, path: bytes, error: CirrusError) -> Full:
        shape = self._shapes.get(path[:3], native_shape)
        status, field, message = 500, "", str(error)
        match error:
            case Refused():
                status, field = error.status, error.field
            case StorageFull():
                status = 507
            case Unavailable():
                status = 503
            case _:
                log.error("request not answered", extra={"code": error.code, "problem": message})
        given = answer(shape(error.code, message, field), status)
        given.headers = HEADERS_OF.get(status, ())
        return given


async def _send_full(given: Full, send: Send) -> None:
    length = str(len(given.body)).encode()
    headers = [
        (b"content-type", given.media_type),
        (b"content-length", length),
        *ALWAYS,
        *given.headers,
    ]
    await send({"type": "http.response.start", "status": given.status, "headers": headers})
    await send({"type": "http.response.body", "body": given.body})


async def _send_stream(given: Stream, method: str, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", given.media_type), *ALWAYS, *given.headers]
    await send({"type": "http.response.start", "status": given.status, "headers": headers})
    if method == "HEAD":
        await given.pieces.aclose()
        await send({"type": "http.response.body", "body": b""})
        return
    async with asyncio.TaskGroup() as tasks:
        pouring = tasks.create_task(_pour(given, send))
        watching = tasks.create_task(_cancel_when_gone(receive, pouring))
        pouring.add_done_callback(lambda _: watching.cancel())


async def _pour(given: Stream, send: Send) -> None:
    # The head leaves at once: the first piece may be long in coming.
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    async with aclosing(given.pieces):
        async for piece in given.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _cancel_when_gone(receive: Receive, pouring: "asyncio.Task[None]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    pouring.cancel()
