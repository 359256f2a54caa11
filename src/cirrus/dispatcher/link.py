"""The dispatcher's end: one connection to its coordinator, made again whenever it breaks."""

import asyncio
import itertools
import logging
import struct
from collections.abc import Callable, Sequence

import zmq

from cirrus import sockets, wire
from cirrus.core.messages import Order, Report
from cirrus.errors import SetupError, WireError
from cirrus.keys import KeyPair
from cirrus.pump import Pump

log = logging.getLogger(__name__)

COMPLAINT_SECONDS = 1.0
"""At least so long between two log lines about what went wrong."""

GIVEN_UP_SECONDS = 0.5
"""libzmq says at once that it will try again. If it does not, it never will, and we do."""

_PROBLEMS = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "it does not know this dispatcher's key",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "it is no coordinator",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "it broke off: it is no coordinator, or has another key",
}
_WATCHED = (
    sum(_PROBLEMS)
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_DISCONNECTED
)


class Link:
    """Used on the event loop's thread only."""

    def __init__(
        self,
        endpoint: str,
        pair: KeyPair,
        *,
        coordinator: bytes,
        on_orders: Callable[[list[Order]], None],
        on_connect: Callable[[], None],
    ) -> None:
        """Speak to the owner of the public key `coordinator` at `endpoint`, and to nobody else.

        `on_connect` is called for every connection, once each end has recognised the other.
        """
        self.dropped = 0
        """Messages that were not understood."""
        self.connected = False
        self._endpoint = endpoint
        self._pair = pair
        self._coordinator = coordinator
        self._on_orders = on_orders
        self._on_connect = on_connect
        self._problem = ""
        self._said = -COMPLAINT_SECONDS

    def open(self) -> None:
        """Begin to connect; goes on for ever. SetupError when the endpoint is no address."""
        self._loop = asyncio.get_running_loop()
        self._given_up: asyncio.TimerHandle | None = None
        self._monitors = (f"inproc://monitor-{number}" for number in itertools.count())
        self._context = sockets.new_context()
        self._connect()

    def send(self, reports: Sequence[Report]) -> bool:
        """False when the coordinator is away: some or all of the reports were dropped."""
        return all(self._pump.send((data,)) for data in wire.encode_reports(reports))

    def close(self) -> None:
        self._disconnect()
        self._context.term()

    def _connect(self) -> None:
        pair = self._pair
        socket = sockets.dealer(self._context, pair.public, pair.secret, wire.LIMIT_BYTES)
        socket.set(zmq.CURVE_SERVERKEY, self._coordinator)
        monitor = socket.get_monitor_socket(_WATCHED, next(self._monitors))
        self._monitor = Pump(monitor, self._noticed)
        self._pump = Pump(socket, self._received)
        try:
            sockets.connect(socket, self._endpoint)
        except SetupError:
            self.close()
            raise

    def _disconnect(self) -> None:
        self._trust_libzmq()
        self.connected = False
        self._pump.close()
        self._monitor.close()

    def _reconnect(self) -> None:
        self._disconnect()
        self._connect()

    def _trust_libzmq(self) -> None:
        if self._given_up:
            self._given_up.cancel()
            self._given_up = None

    def _received(self, frames: Sequence[zmq.Frame]) -> None:
        try:
            orders = _understood(frames)
        except WireError as error:
            self.dropped += 1
            self._say("message dropped", str(error))
        else:
            self._on_orders(orders)

    def _noticed(self, frames: Sequence[zmq.Frame]) -> None:
        """What libzmq says of the connection."""
        event, _value = struct.unpack("=Hi", frames[0].bytes)
        if event == zmq.EVENT_CONNECT_RETRIED:
            self._trust_libzmq()
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.connected = True
            self._problem = ""
            log.info("coordinator connected", extra={"endpoint": self._endpoint})
            self._on_connect()
        elif event == zmq.EVENT_DISCONNECTED:
            if self.connected:
                self._say("coordinator disconnected", "the connection broke")
            self.connected = False
            self._trust_libzmq()
            self._given_up = self._loop.call_later(GIVEN_UP_SECONDS, self._reconnect)
        else:
            self._say("coordinator not connected", _PROBLEMS[event])

    def _say(self, text: str, problem: str) -> None:
        # The same thing happens again many times a minute, and is said once.
        now = self._loop.time()
        if problem != self._problem and now - self._said >= COMPLAINT_SECONDS:
            self._problem, self._said = problem, now
            log.warning(text, extra={"endpoint": self._endpoint, "problem": problem})


def _understood(frames: Sequence[zmq.Frame]) -> list[Order]:
    if len(frames) != 1:
        raise WireError("frames", f"{len(frames)} frames instead of one")
    return wire.decode_orders(frames[0].buffer)
