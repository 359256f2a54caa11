"""ZeroMQ sockets: every option said aloud, and where they listen. Their messages: pump.py."""

import errno
from collections.abc import Mapping
from pathlib import Path

import zmq

from cirrus.errors import SetupError

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]

OLDEST_LIBZMQ = (4, 3, 3)
"""Before it, a plain TCP connection could starve all encrypted ones (CVE-2020-15166)."""

IPC_PATH_BYTES = 107

_CURVE_OVERHEAD_BYTES = 64
"""What encryption adds to a message: 33 bytes, and room to grow."""

_Options = Mapping[int, int | bytes]

_BOTH_ENDS: _Options = {
    zmq.LINGER: 0,
    zmq.SNDHWM: 1000,
    zmq.RCVHWM: 1000,
    # A partition shows within 3 s, in either direction; without these, never.
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TIMEOUT: 3000,
    zmq.HEARTBEAT_TTL: 3000,
    zmq.HANDSHAKE_IVL: 5000,
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 30,
    zmq.TCP_KEEPALIVE_INTVL: 10,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 10_000,
}
_ROUTER: _Options = {
    zmq.CURVE_SERVER: 1,
    zmq.ZAP_DOMAIN: b"cirrus",  # without a name, nobody is asked
    zmq.ZAP_ENFORCE_DOMAIN: 1,  # no handler, no entry
    zmq.ROUTER_MANDATORY: 1,  # an unknown peer is an error, not silence
    zmq.ROUTER_HANDOVER: 0,
}
_DEALER: _Options = {
    zmq.IMMEDIATE: 1,  # nothing is queued for a coordinator that is not there
    zmq.CONNECT_TIMEOUT: 2000,  # the kernel's own patience grows to minutes in a partition
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 1000,  # back within 2 s of the coordinator's return
}


_ENDPOINT_PROBLEMS = {
    errno.EADDRINUSE: "the port is taken by another program; end that one, or choose another port",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.ENODEV: "this machine does not have that address; give it as a number",
    errno.EINVAL: "an address is written like tcp://127.0.0.1:7777",
    errno.EPROTONOSUPPORT: "an address is written like tcp://127.0.0.1:7777",
}


def new_context() -> Context:
    """One for each link: a context has one place for the handler that lets peers in."""
    if zmq.zmq_version_info() < OLDEST_LIBZMQ or not zmq.has("curve"):
        oldest = ".".join(map(str, OLDEST_LIBZMQ))
        raise SetupError(
            "libzmq",
            f"{zmq.zmq_version()} is too old, or cannot encrypt; {oldest} or newer, with CURVE, is "
            "needed: pip install --upgrade pyzmq",
        )
    return zmq.Context()


def router(context: Context, secret: bytes, limit_bytes: int) -> Socket:
    """The coordinator's end. It lets in nobody but whom the context's handler admits."""
    socket = _socket(context, zmq.ROUTER, limit_bytes, _ROUTER)
    socket.set(zmq.CURVE_SECRETKEY, secret)
    return socket


def dealer(context: Context, public: bytes, secret: bytes, limit_bytes: int) -> Socket:
    """A dispatcher's end; the caller sets CURVE_SERVERKEY, the key of its coordinator."""
    socket = _socket(context, zmq.DEALER, limit_bytes, _DEALER)
    socket.set(zmq.CURVE_PUBLICKEY, public)
    socket.set(zmq.CURVE_SECRETKEY, secret)
    return socket


def doorman(context: Context) -> Socket:
    """Where libzmq asks about each key that wants to come in (ZeroMQ RFC 27)."""
    socket = context.socket(zmq.REP)
    socket.set(zmq.LINGER, 0)
    socket.bind("inproc://zeromq.zap.01")
    return socket


def local_endpoint(data_dir: Path) -> str:
    """Where the coordinator of a data directory listens. SetupError when its path is too long."""
    path = str(data_dir.absolute() / "dispatch.sock")
    excess = len(path.encode()) - IPC_PATH_BYTES
    if excess > 0:
        raise SetupError(
            path,
            f"{excess} bytes too long for a socket's path, which has at most {IPC_PATH_BYTES}; "
            "choose a shorter data directory",
        )
    return f"ipc://{path}"


def listen(socket: Socket, endpoint: str) -> str:
    """Answers the endpoint with port `*` made a number. SetupError when that cannot be."""
    try:
        socket.set(zmq.IPV6, "[" in endpoint)
        socket.bind(endpoint.replace("//localhost:", "//127.0.0.1:"))  # it takes no names here
    except zmq.ZMQError as error:
        raise _endpoint_error(endpoint, error) from error
    return str(socket.get_string(zmq.LAST_ENDPOINT))


def connect(socket: Socket, endpoint: str) -> None:
    """Begin to; that nobody is there yet is no error. SetupError when it is no endpoint."""
    try:
        socket.set(zmq.IPV6, "[" in endpoint)
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise _endpoint_error(endpoint, error) from error


def _endpoint_error(endpoint: str, error: zmq.ZMQError) -> SetupError:
    number = error.errno or 0
    return SetupError(endpoint, _ENDPOINT_PROBLEMS.get(number, zmq.strerror(number)))


def _socket(context: Context, kind: int, limit_bytes: int, options: _Options) -> Socket:
    socket = context.socket(kind)
    for option, value in {**_BOTH_ENDS, **options}.items():
        socket.set(option, value)
    socket.set(zmq.MAXMSGSIZE, limit_bytes + _CURVE_OVERHEAD_BYTES)
    return socket
