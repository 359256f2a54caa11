"""`cirrus up`: one process that listens, decides and remembers, and its local dispatcher."""

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from cirrus.clock import SystemClock
from cirrus.config import Settings
from cirrus.coordinator.http.app import job_app, main_app, monitor_app
from cirrus.coordinator.http.connection import Connection, LocalConnection, server_config
from cirrus.coordinator.link import Link
from cirrus.coordinator.service import Coordinator
from cirrus.coordinator.tokens import Tokens
from cirrus.core.decision import Bounds
from cirrus.errors import SetupError
from cirrus.keys import coordinator_keys
from cirrus.store.reader import Reader
from cirrus.store.sqlite import SqliteStore

log = logging.getLogger(__name__)

PROCESS_GATEWAY = "127.0.0.2"
"""Where plain processes reach the job listener: loopback too, and apart from the main one."""
RESTART_MOST_SECONDS = 30.0
END_SECONDS = 10.0
BACKLOG = 1024


async def serve(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM. Raises SetupError for what a person can mend."""
    data_dir = settings.data_dir
    _make_private(data_dir)
    _allow_connections()
    with _alone(data_dir):
        main = _listen(settings.host, settings.port, "--port")
        monitor = _listen(settings.host, settings.monitor_port, "--monitor-port")
        path = data_dir / "cirrus.db"
        bounds = Bounds(
            settings.chain_depth,
            settings.chain_length,
            settings.crash_limit,
            settings.lost_after_seconds,
        )
        store = SqliteStore(path, new_instance=secrets.token_hex(8), bounds=bounds)
        # Dispatchers of this machine read it: names and labels of attempts carry it.
        (data_dir / "instance").write_text(store.instance, encoding="ascii")
        try:
            await _serve(settings, store, Reader(path), main, monitor)
        finally:
            store.close()


async def _serve(
    settings: Settings,
    store: SqliteStore,
    reader: Reader,
    main: socket.socket,
    monitor: socket.socket,
) -> None:
    tokens = Tokens(coordinator_keys(settings.data_dir).secret)
    coordinator = Coordinator(store, reader, SystemClock(store.last_time()), tokens)
    endpoints = [settings.dispatch] if settings.dispatch else []
    link = Link(settings.data_dir, endpoints, coordinator.heard)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, coordinator.stopped.set)
    servers = [
        (_Server(server_config(main_app(coordinator), LocalConnection)), main),
        (_Server(server_config(monitor_app(coordinator), LocalConnection)), monitor),
    ]
    link.open()
    coordinator.speak_through(link)
    try:
        async with asyncio.TaskGroup() as group:
            for server, listener in servers:
                group.create_task(server.serve(sockets=[listener]))
            listeners = _JobListeners(settings.port, coordinator, group)
            coordinator.serve_jobs_through(listeners.open)
            if not settings.no_dispatcher:
                group.create_task(_keep_dispatcher(settings, coordinator))
            print(_greeting(settings), flush=True)  # noqa: T201  (the one thing a person sees)
            await coordinator.run()
            coordinator.feed.close()
            listeners.close()
            for server, _ in servers:
                server.should_exit = True
    finally:
        link.close()
        reader.close()


class _Server(uvicorn.Server):
    """Signals are for the whole process; they are ours to answer."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


# --- the job listener ---------------------------------------------------------------------------


class _JobListeners:
    """One on each gateway by which jobs see this machine, as dispatchers name them."""

    def __init__(self, port: int, coordinator: Coordinator, group: asyncio.TaskGroup) -> None:
        self._port = port
        self._coordinator = coordinator
        self._group = group
        self._servers: list[_Server] = []
        self._complained: set[str] = set()

    def open(self, gateway: str) -> str:
        """Its address, HOST:PORT; empty where it cannot be: jobs then get none to call."""
        try:
            listener = _listen(gateway, self._port, "--port")
        except SetupError as error:
            if gateway not in self._complained:
                log.warning("jobs cannot reach us", extra={"problem": str(error)})
            self._complained.add(gateway)
            return ""
        server = _Server(server_config(job_app(self._coordinator, gateway), Connection))
        self._servers.append(server)
        self._group.create_task(server.serve(sockets=[listener]))
        return f"{gateway}:{self._port}"

    def close(self) -> None:
        for server in self._servers:
            server.should_exit = True


# --- the local dispatcher -----------------------------------------------------------------------


async def _keep_dispatcher(settings: Settings, coordinator: Coordinator) -> None:
    """Run the local dispatcher as a process of its own; start it again when it ends."""
    wait_seconds = 0.5
    while not coordinator.stopped.is_set():
        process = await asyncio.create_subprocess_exec(
            *_dispatcher_command(settings), stdin=asyncio.subprocess.PIPE
        )
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(coordinator.stopped.wait())
        began = asyncio.get_running_loop().time()
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            # The end of its standard input tells it to end; what it runs goes on.
            assert process.stdin is not None
            process.stdin.close()
            await _wait_or_kill(process, ended)
            return
        stopped.cancel()
        lived = asyncio.get_running_loop().time() - began
        wait_seconds = (
            1.0 if lived > RESTART_MOST_SECONDS else min(wait_seconds * 2, RESTART_MOST_SECONDS)
        )
        log.error("the local dispatcher ended", extra={"exit_code": process.returncode})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await coordinator.stopped.wait()


def _dispatcher_command(settings: Settings) -> list[str]:
    return [
        sys.executable,
        "-m",
        "cirrus",
        "dispatcher",
        "--data-dir",
        str(settings.data_dir),
        "--name",
        "local",
        "--slots",
        str(settings.slots),
        "--log-keep-bytes",
        str(settings.log_keep_bytes),
        "--log-level",
        settings.log_level,
        "--with-parent",
    ]


async def _wait_or_kill(process: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> None:
    try:
        async with asyncio.timeout(END_SECONDS):
            await asyncio.shield(ended)
    except TimeoutError:
        process.kill()
        await ended


# --- the machine --------------------------------------------------------------------------------


def _make_private(data_dir: Path) -> None:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(data_dir, f"cannot be made: {error.strerror}") from error
    if not os.access(data_dir, os.W_OK | os.X_OK):
        raise SetupError(data_dir, "cannot be written: choose another --data-dir")


def _allow_connections() -> None:
    """As many open files as the machine allows: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Hold the data directory. The lock is the kernel's: it ends with the process."""
    with (data_dir / "cirrus.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise SetupError(
                data_dir,
                f"another coordinator (process {holder}) holds this data directory: stop it, or"
                " choose another --data-dir",
            ) from error
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _listen(host: str, port: int, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # From now on the kernel accepts: who comes early waits, and is not refused.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SetupError(
            f"{host}:{port}",
            f"cannot listen there ({error.strerror}): stop what does, or choose another {option}",
        ) from error
    listener.set_inheritable(False)
    return listener


def _greeting(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return (
        f"Cirrus is up: http://{host}:{settings.port},"
        f" monitor http://{host}:{settings.monitor_port}, data in {settings.data_dir}."
        " Ctrl-C ends it; jobs go on."
    )
