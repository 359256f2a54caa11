"""A dispatcher of processes as a program of its own: orders come by stdin, reports go to stdout."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cirrus import wire
from cirrus.core.messages import Order, Report
from cirrus.dispatcher.service import Options, run
from cirrus.executors.process import ProcessExecutor


class Pipes:
    """One message a line, in hexadecimal digits."""

    def __init__(
        self, on_orders: Callable[[list[Order]], None], on_connect: Callable[[], None]
    ) -> None:
        self._on_orders = on_orders
        self._on_connect = on_connect
        self._read = b""

    def open(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(0, self._received)
        loop.call_soon(self._on_connect)

    def send(self, reports: Sequence[Report]) -> bool:
        for data in wire.encode_reports(reports):
            os.write(1, data.hex().encode() + b"\n")
        return True

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(0)

    def _received(self) -> None:
        *lines, self._read = (self._read + os.read(0, 1 << 20)).split(b"\n")
        for line in lines:
            self._on_orders(wire.decode_orders(bytes.fromhex(line.decode())))


class Deaf(Pipes):
    """It leaves stdin to whoever watches for the parent's end."""

    def open(self) -> None:
        asyncio.get_running_loop().call_soon(self._on_connect)

    def close(self) -> None:
        return


if __name__ == "__main__":
    state, with_parent = Path(sys.argv[1]), sys.argv[3:] == ["--with-parent"]
    options = Options(
        name="here", state=state, log_keep_bytes=int(sys.argv[2]), watch_parent=with_parent
    )
    executors = {"process": ProcessExecutor(state / "attempts", os.environ)}
    asyncio.run(run(options, executors, Deaf if with_parent else Pipes))
