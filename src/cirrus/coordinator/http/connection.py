"""One client's connection: uvicorn's, with limits on what it may send, and how slowly."""

import asyncio
import math
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from cirrus.coordinator.http.asgi import App
from cirrus.coordinator.http.message import encode_json, native_shape
from cirrus.coordinator.http.peers import is_ours

TARGET_MOST: Final = 8 * 1024
HEADERS_MOST: Final = 16 * 1024
HEADER_COUNT_MOST: Final = 100
CONNECTIONS_MOST: Final = 10_000
HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 30.0
IDLE_SECONDS: Final = 75
STALLED_SECONDS: Final = 60.0
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 2 * 1024 * 1024
LOOK_SECONDS: Final = 5.0
"""Limits of time are looked at this often: one timer a connection, not one a request."""

FINAL_ANSWER: Final = tuple(b"HTTP/1.1 %d" % hundreds for hundreds in (2, 3, 4, 5))
"""How every answer begins, but `100 Continue`."""

Refusal = tuple[int, str, str]
BAD_REQUEST: Final[Refusal] = (400, "bad_request", "this is not a valid HTTP/1.1 request")
LONG_TARGET: Final[Refusal] = (414, "target_too_long", f"the path exceeds {TARGET_MOST} bytes")
LONG_HEADERS: Final[Refusal] = (
    431,
    "headers_too_large",
    f"there are more than {HEADER_COUNT_MOST} headers, or {HEADERS_MOST} bytes of them",
)
TOO_SLOW: Final[Refusal] = (408, "too_slow", "the request did not arrive in time")
TOO_MANY: Final[Refusal] = (503, "too_many_connections", "too many connections: try again later")
NOT_OURS: Final[Refusal] = (
    403,
    "foreign_account",
    "this server is for the account that runs it, and root: use one of these",
)


class _RefusedError(Exception):
    """Ends the parsing of a request that is refused."""


class _Whole:
    """A transport on which the head of an answer waits for its body: one segment, one call less.

    It closes gently where the client is still sending: a reset could overtake the answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.client_is_sending = False
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._lingering = False
        self._discarded = 0
        self.abort = transport.abort

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(FINAL_ANSWER):
            self._head = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        if self._head:
            self.write(b"")

    def is_closing(self) -> bool:
        return self._lingering or self._transport.is_closing()

    def close(self) -> None:
        self.flush()
        if not self.client_is_sending or self.is_closing():
            self._transport.close()
        else:
            self._lingering = True
            self._transport.write_eof()
            self._loop.call_later(LINGER_SECONDS, self._transport.close)

    def discard(self, data: bytes) -> None:
        """What comes after the answer: for a while, and up to a limit."""
        self._discarded += len(data)
        if self._discarded > LINGER_BYTES:
            self._transport.close()


class Connection(HttpToolsProtocol):
    """For clients that prove who they are by a token."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._whole = _Whole(transport, self.loop)
        self.transport = cast("asyncio.Transport", self._whole)
        self._refusal = BAD_REQUEST
        self._in_head = True
        self._head_bytes = 0
        self._stalled_since = math.inf
        self._deadline = self.loop.time() + HEAD_SECONDS
        self._watch = self.loop.call_later(LOOK_SECONDS, self._look)
        if len(self.connections) > CONNECTIONS_MOST:
            self._whole.client_is_sending = True
            self._refuse(TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            self._whole.discard(data)
            return
        self._whole.client_is_sending = True
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > TARGET_MOST + HEADERS_MOST:
            self._refuse(LONG_HEADERS)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._whole.client_is_sending = True
        self._deadline = self.loop.time() + HEAD_SECONDS

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._deadline = self.loop.time() + BODY_SECONDS
        if len(self.url) > TARGET_MOST:
            self._refusal = LONG_TARGET
            raise _RefusedError
        if len(self.headers) > HEADER_COUNT_MOST or (
            self._head_bytes > HEADERS_MOST
            and sum(len(name) + len(value) for name, value in self.headers) > HEADERS_MOST
        ):
            self._refusal = LONG_HEADERS
            raise _RefusedError
        if self.url[:1] != b"/":
            raise _RefusedError  # a proxy's request, or `*`
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._whole.client_is_sending = False
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0
        self._deadline = math.inf

    def on_response_complete(self) -> None:
        self._whole.flush()
        if self._whole.is_closing():
            self.flow.resume_reading()  # to discard what still comes
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = math.inf
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Called for all that the parser, or one of the methods above, refuses."""
        del msg
        self._refuse(self._refusal)

    def _refuse(self, refusal: Refusal) -> None:
        status, code, message = refusal
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = encode_json(native_shape(code, message, ""))
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: application/json\r\nconnection: close\r\n"
                + b"content-length: %d\r\n\r\n" % len(body)
                + body
            )
        self.transport.close()

    def _look(self) -> None:
        now = self.loop.time()
        self._watch = self.loop.call_later(LOOK_SECONDS, self._look)
        if self.transport.is_closing():
            # What was written waits for a client that reads nothing.
            self._stalled_since = min(self._stalled_since, now)
        elif now > self._deadline:
            self._refuse(TOO_SLOW)
        if now - self._stalled_since > STALLED_SECONDS:
            self.transport.abort()


class LocalConnection(Connection):
    """For clients on this machine, whose account says who they are."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer, own = (transport.get_extra_info(name) for name in ("peername", "sockname"))
        if not is_ours(peer[:2], own[:2]):
            self._whole.client_is_sending = True
            self._refuse(NOT_OURS)


def server_config(app: App, connection: type[Connection]) -> uvicorn.Config:
    """How uvicorn serves one of the apps. The sockets are opened by who starts it."""
    options: dict[str, Any] = {
        "http": connection,
        "ws": "none",
        "lifespan": "off",
        "loop": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": IDLE_SECONDS,
        "timeout_graceful_shutdown": 2,
        "backlog": 1024,
    }
    return uvicorn.Config(app, **options)
