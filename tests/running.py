"""A real `cirrus up` for system tests: started, killed, started again on the same folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from cirrus import Client
from cirrus.errors import CirrusError

SECONDS = 30.0
"""What is awaited comes far sooner; a busy machine may take this long."""

T = TypeVar("T")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def until(condition: Callable[[], T], seconds: float = SECONDS) -> T:
    """What the condition answers once that is true."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{condition} did not come true within {seconds} s"
        time.sleep(0.01)
    return answer


class Up:
    """`with Up(folder) as up:`; `up.kill(...)`, `up.start()` in between."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self.options = options
        self.port, self.monitor_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = Client(self.url, patience_seconds=SECONDS)
        self.log = data_dir.parent / f"{data_dir.name}.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.end()
        if error is not None:
            sys.stderr.write(self.log.read_text()[-4000:])

    def start(self) -> None:
        """Returns when it serves and its dispatcher can work."""
        self.launch()
        until(self.serving)
        if "--no-dispatcher" not in self.options:
            until(self.working)

    def launch(self) -> None:
        command = [sys.executable, "-m", "cirrus", "up", "--data-dir", str(self.data_dir)]
        ports = ["--port", str(self.port), "--monitor-port", str(self.monitor_port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *ports, *self.options], stdout=log, stderr=log, start_new_session=True
            )

    def serving(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with Client(self.url, patience_seconds=0) as client:
                return client.status().ready
        except CirrusError:
            return False

    def working(self) -> bool:
        """Its local dispatcher offers everything that this machine has."""
        local = [one for one in self.client.dispatchers() if one.name == "local" and one.connected]
        waiting = "it has not answered yet"
        return any(all(o.problem != waiting for o in one.offers) for one in local)

    def dispatcher_pid(self) -> int:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert len(children) == 1, children
        return int(children[0])

    def kill_coordinator(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)

    def kill_dispatcher(self) -> None:
        os.kill(self.dispatcher_pid(), signal.SIGKILL)

    def kill_everything(self) -> None:
        """At once: the whole process group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(SECONDS)

    def end(self) -> int:
        """As Ctrl-C does."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(SECONDS)
