"""Starts what the demo needs, and ends what it started, whatever happens in between."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from screen import Screen

from cirrus import Client
from cirrus.client.following import UNFINISHED
from cirrus.errors import CirrusError, Unavailable

ROOT = Path(__file__).resolve().parents[2]
CIRRUS = [sys.executable, "-m", "cirrus"]
PORTS = (7000, 3000)
START_SECONDS = 20.0
END_SECONDS = 20.0


class Failed(Exception):
    """The demo cannot go on; the text says why."""


class Stage:
    """A coordinator with its local dispatcher, and what else is started beside them."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._programs: list[subprocess.Popen[bytes]] = []
        self.folder = Path(tempfile.mkdtemp(prefix="cirrus-demo-"))
        self.keep = False
        """Whether the folder stays, because its logs say what went wrong."""
        self._swarm = self.folder / "swarm"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave anything behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._end()
        finally:
            signal.signal(signal.SIGINT, before)

    def start(self) -> Client:
        """A coordinator that serves. Raises Failed."""
        port, monitor_port = self._ports()
        self.monitor = f"http://127.0.0.1:{monitor_port}/"
        self.url = f"http://127.0.0.1:{port}"
        self._run("up", "--port", str(port), "--monitor-port", str(monitor_port))
        client = Client(self.url, patience_seconds=0.2, source="demo")
        self._await("up", lambda: bool(client.dispatchers()))
        return client

    def add_swarm(self, images: Sequence[str]) -> None:
        """A private one-node swarm, and a dispatcher for it. Raises Failed."""
        made = self.script("swarm-engine", str(self._swarm), *images)
        environ = os.environ | {"DOCKER_HOST": made.splitlines()[-1]}
        self._run("dispatcher", "--name", "swarm", "--executor", "swarm", environ=environ)

    def await_executor(self, name: str) -> None:
        """Until a dispatcher has it, and its jobs find their way back. Raises Failed."""
        port = int(self.url.rpartition(":")[2])

        def offered() -> bool:
            offers = [offer for one in client.dispatchers() for offer in one.offers]
            return any(
                offer.executor == name and not offer.problem and _answers(offer.gateway, port)
                for offer in offers
            )

        with Client(self.url, patience_seconds=0.2) as client:
            self._await("dispatcher" if len(self._programs) > 1 else "up", offered)

    def script(self, name: str, *arguments: str) -> str:
        """Run one of the project's scripts, and show what it says. Raises Failed."""
        command = [str(ROOT / "script" / name), *arguments]
        with subprocess.Popen(  # noqa: S603  (our own)
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as run:
            assert run.stdout is not None
            lines = []
            for line in run.stdout:
                lines.append(line.decode(errors="replace").rstrip())
                self._screen.note(lines[-1])
        if run.returncode:
            problem = f"script/{name} failed: {lines[-1] if lines else run.returncode}"
            raise Failed(problem)
        return "\n".join(lines)

    def _ports(self) -> list[int]:
        ports = []
        for usual in PORTS:
            port = usual if _is_free(usual) else _free_port()
            if port != usual:
                self._screen.note(f"port {usual} is taken; this demo takes {port}")
            ports.append(port)
        return ports

    def _run(self, command: str, *arguments: str, environ: dict[str, str] | None = None) -> None:
        data = ["--data-dir", str(self.folder / "data")]
        with (self.folder / f"{command}.log").open("ab") as log:
            # A session of its own: Ctrl-C is for the demo, which ends things in order.
            program = subprocess.Popen(  # noqa: S603  (our own)
                [*CIRRUS, command, *data, *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environ,
                start_new_session=True,
            )
        self._programs.append(program)

    def _await(self, command: str, condition: Callable[[], bool]) -> None:
        """Until it is true, while the program lives. Raises Failed."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._programs[-1].poll() is None:
            with contextlib.suppress(Unavailable):
                if condition():
                    return
            time.sleep(0.05)
        log = self.folder / f"{command}.log"
        lines = log.read_text(errors="replace").splitlines() or ["nothing"]
        problem = f"`cirrus {command}` did not start; the last it said: {lines[-1]}"
        raise Failed(problem)

    def _end(self) -> None:
        if self._programs and self._programs[0].poll() is None:
            self._screen.status("ending")
            self._cancel_jobs()
        for program in reversed(self._programs):
            program.send_signal(signal.SIGTERM)
            try:
                program.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()
        if self._swarm.exists():
            command = [str(ROOT / "script" / "swarm-engine"), "--down", str(self._swarm)]
            subprocess.run(command, check=False)  # noqa: S603  (our own)
        self._screen.status("")
        if self.keep:
            self._screen.say(f"The logs are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _cancel_jobs(self) -> None:
        """So that no container goes on without us."""
        try:
            with Client(self.url, patience_seconds=2.0) as client:
                jobs = list(client.jobs(state=UNFINISHED))
                for job in jobs:
                    client.cancel(job.id)
                for job in jobs:
                    client.wait_for_job(job.id, timeout_seconds=END_SECONDS)
        except (CirrusError, TimeoutError) as error:
            self._screen.say(f"Some jobs could not be ended: {error or 'they take too long'}")


def _answers(address: str, port: int) -> bool:
    """The door for a gateway's jobs opens a moment after it is known."""
    try:
        socket.create_connection((address, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
