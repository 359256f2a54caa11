"""The coordinator's end: who is there, what they report, where orders go. Judging is service.py's.

Who speaks is known from the key of the connection alone, never from what a message claims.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import zmq
from msgspec import Struct
from zmq.utils import z85

from cirrus import sockets, wire
from cirrus.core.messages import Hello, Order, Report
from cirrus.errors import SetupError, WireError
from cirrus.keys import Allowlist, coordinator_keys
from cirrus.pump import Pump

log = logging.getLogger(__name__)

COMPLAINT_SECONDS = 1.0
"""At least so long between two log lines about what was dropped."""

[_NOTHING] = wire.encode_orders([])


class _Session(Struct, frozen=True):
    """One connection of a dispatcher. A larger number is a later handshake."""

    number: int
    routing_id: bytes
    public: bytes


class Link:
    """Used on the event loop's thread only."""

    def __init__(
        self,
        data_dir: Path,
        endpoints: Sequence[str],
        on_reports: Callable[[str, list[Report]], None],
    ) -> None:
        """Dispatchers of this machine find `data_dir`; others, `endpoints`: tcp://ADDRESS:PORT."""
        self.dropped = 0
        """Messages not understood, or said by one who has no right to."""
        self.refused = 0
        """Handshakes with a key that is not enrolled."""
        self._data_dir = data_dir
        self._endpoints = endpoints
        self._on_reports = on_reports
        self._sessions: dict[str, _Session] = {}
        self._handshakes = 0
        self._complained = -COMPLAINT_SECONDS

    def open(self) -> list[str]:
        """Listen, and answer where: port `*` becomes a number. SetupError when that cannot be."""
        local = sockets.local_endpoint(self._data_dir)
        secret = coordinator_keys(self._data_dir).secret
        self._allowlist = Allowlist(self._data_dir)
        self._context = sockets.new_context()
        doorman = sockets.doorman(self._context)
        self._door = Pump(doorman, self._knocked)
        socket = sockets.router(self._context, secret, wire.LIMIT_BYTES)
        self._pump = Pump(socket, self._received)
        try:
            bound = [sockets.listen(socket, endpoint) for endpoint in (local, *self._endpoints)]
        except SetupError:
            self.close()
            raise
        Path(local.removeprefix("ipc://")).chmod(0o600)
        return bound

    def send(self, dispatcher: str, orders: Sequence[Order]) -> bool:
        """False when it is away or takes no more: some or all of the orders were dropped."""
        session = self._sessions.get(dispatcher)
        if session is None or self._allowlist.name_of(session.public) != dispatcher:
            return False
        return all(
            self._pump.send((session.routing_id, data)) for data in wire.encode_orders(orders)
        )

    def close(self) -> None:
        self._pump.close()
        self._door.close()
        self._context.term()

    def _received(self, frames: Sequence[zmq.Frame]) -> None:
        dispatcher = str(frames[-1].get("User-Id"))
        try:
            reports = self._understood(dispatcher, frames)
        except WireError as error:
            self.dropped += 1
            self._complain("message dropped", dispatcher=dispatcher, problem=str(error))
        else:
            self._on_reports(dispatcher, reports)

    def _understood(self, dispatcher: str, frames: Sequence[zmq.Frame]) -> list[Report]:
        routing_id, *bodies = frames
        if len(bodies) != 1:
            raise WireError("frames", f"{len(bodies)} frames instead of one")
        [body] = bodies
        public = str(body.get("Key")).encode()
        session = _Session(int(body.get("Session")), routing_id.bytes, public)
        if self._allowlist.name_of(public) != dispatcher:
            raise WireError("revoked", "the sender is not enrolled any more")
        newest = self._sessions.get(dispatcher, session)
        if session.number < newest.number and self._pump.send((newest.routing_id, _NOTHING)):
            raise WireError("superseded", "the sender has a newer connection, which lives")
        self._sessions[dispatcher] = session
        reports = wire.decode_reports(body.buffer)
        for report in reports:
            if isinstance(report, Hello) and report.dispatcher != dispatcher:
                raise WireError("impostor", f"the sender says it is {report.dispatcher[:63]!r}")
        return reports

    def _knocked(self, frames: Sequence[zmq.Frame]) -> None:
        """Answer libzmq's question (ZeroMQ RFC 27) whether a key may come in, and as whom."""
        version, request, _domain, address, _routing_id, _curve, key = (
            frame.bytes for frame in frames
        )
        public = z85.encode(key)
        name = self._allowlist.name_of(public, afresh=True)
        if name is not None:
            self._handshakes += 1
            facts = _fact("Session", str(self._handshakes).encode()) + _fact("Key", public)
            self._door.send((version, request, b"200", b"", name.encode(), facts))
        else:
            self.refused += 1
            self._complain("key refused", key=public.decode(), address=address.decode())
            self._door.send((version, request, b"400", b"not enrolled", b"", b""))

    def _complain(self, text: str, **facts: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._complained >= COMPLAINT_SECONDS:
            self._complained = now
            log.warning(text, extra={**facts, "dropped": self.dropped, "refused": self.refused})


def _fact(name: str, value: bytes) -> bytes:
    """What libzmq then attaches to every message of the connection."""
    return bytes([len(name)]) + name.encode() + len(value).to_bytes(4, "big") + value
