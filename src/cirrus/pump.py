"""Brings a ZeroMQ socket's messages to the event loop, without a thread."""

import asyncio
from collections.abc import Callable, Sequence

import zmq

BURST = 100
"""Messages that one socket may bring before others on the loop have their turn."""


class Pump:
    """Hands a socket's messages to `receive`, on the running loop, and sends. Owns the socket.

    A ZeroMQ socket's descriptor wakes up once for a change, not once for each message, and any
    call on the socket may swallow that wake-up. So whoever touched the socket looks again.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], receive: Callable[[Sequence[zmq.Frame]], None]
    ) -> None:
        self._socket = socket
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._descriptor = socket.fileno()
        self._look: asyncio.Handle | None = None
        self._loop.add_reader(self._descriptor, self._drain)
        self._look_soon()

    def send(self, frames: Sequence[bytes]) -> bool:
        """False, and nothing is sent, when the peer is away or has too much waiting."""
        self._look_soon()
        if self._try(frames):
            return True
        # libzmq looks at what happened in between, a new connection say, only now and then.
        self._socket.get(zmq.EVENTS)
        return self._try(frames)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        if self._look:
            self._look.cancel()
        self._socket.close()

    def _try(self, frames: Sequence[bytes]) -> bool:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True

    def _look_soon(self) -> None:
        if self._look is None:
            self._look = self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        """Receive until nothing is left, so that the next message wakes the descriptor up."""
        self._look = None
        more = True
        try:
            for _ in range(BURST):
                if self._socket.closed:  # by what an earlier message led to
                    return
                try:
                    frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    more = False
                    return
                self._receive(frames)
        finally:
            if more and not self._socket.closed:
                self._look_soon()
