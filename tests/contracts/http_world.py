"""The coordinator's real HTTP on a real store, with a dispatcher played by the test."""

import asyncio
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import requests
import uvicorn
import uvloop

from cirrus.clock import SystemClock
from cirrus.coordinator.http.app import job_app, main_app, monitor_app
from cirrus.coordinator.http.connection import Connection, LocalConnection, server_config
from cirrus.coordinator.service import Coordinator
from cirrus.coordinator.tokens import Tokens
from cirrus.core.decision import Bounds
from cirrus.core.messages import (
    Accepted,
    Ended,
    Hello,
    LogRead,
    Offer,
    Order,
    Outcome,
    ReadLog,
    Report,
    Run,
    Started,
)
from cirrus.store.reader import Reader
from cirrus.store.sqlite import SqliteStore

SECONDS = 10.0
DISPATCHER = "d1"
PROCESS = {"task_type": "process", "cmd": ["true"]}
AUTO = {"cmd": "__auto_trigger__"}


class Link:
    """Keeps what the coordinator sends; answers for logs from `logs`."""

    def __init__(self) -> None:
        self.orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self.logs: dict[tuple[str, int], bytes] = {}
        self.complete = True
        self.away = False
        self.hear: Callable[[str, list[Report]], None]

    def send(self, dispatcher: str, orders: Sequence[Order]) -> bool:
        for order in orders:
            if not isinstance(order, ReadLog):
                self.orders.put(order)
            elif not self.away:
                self.hear(dispatcher, [self._read(order)])
        return not self.away

    def _read(self, order: ReadLog) -> LogRead:
        log = self.logs.get((order.job, order.attempt))
        if log is None:
            return LogRead(order.request, 0, b"", 0, complete=True, problem="it has no such log")
        start = max(0, len(log) + order.offset) if order.offset < 0 else order.offset
        content = log[start : start + order.length]
        complete = self.complete and start + len(content) >= len(log)
        return LogRead(order.request, start, content, len(log), complete)


class World:
    """Three servers on free ports, in a thread of their own. `url`: the main one's address."""

    def __init__(self, folder: Path) -> None:
        self.link = Link()
        self.path = folder / "cirrus.db"
        self.seen_headers: set[str] = set()
        self._ready = threading.Event()
        self._listeners = [_listener() for _ in range(3)]
        self.url, self.monitor, self.jobs = (
            f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in self._listeners
        )
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(SECONDS)
        self.session = requests.Session()
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        self.loop.call_soon_threadsafe(self.end)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        store = SqliteStore(self.path, new_instance="0123456789abcdef", bounds=Bounds())
        reader = Reader(self.path)
        tokens = Tokens(b"secret")
        self.coordinator = Coordinator(store, reader, SystemClock(store.last_time()), tokens)
        self.coordinator.speak_through(self.link)
        self.link.hear = self.coordinator.heard
        apps = [
            (main_app(self.coordinator), LocalConnection),
            (monitor_app(self.coordinator), LocalConnection),
            (job_app(self.coordinator, "127.0.0.1"), Connection),
        ]
        self.apps = [app for app, _ in apps]
        servers = self._servers = [_Server(server_config(*app)) for app in apps]
        async with asyncio.TaskGroup() as group:
            for server, listener in zip(servers, self._listeners, strict=True):
                group.create_task(server.serve(sockets=[listener]))
            deciding = group.create_task(self.coordinator.run())
            for server in servers:
                await server.up.wait()
            self._ready.set()
            await deciding
            for server in servers:
                server.should_exit = True
        reader.close()
        store.close()

    def end(self) -> None:
        self.coordinator.feed.close()
        self.coordinator.stopped.set()

    # --- calls ----------------------------------------------------------------------------------

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        base = options.pop("base", self.url)
        return self.session.request(method, base + path, timeout=SECONDS, **options)

    def get(self, path: str, **options: Any) -> Any:
        response = self.call("GET", path, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: object = None, **options: Any) -> Any:
        response = self.call("POST", path, json=body, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def define(self, **changes: dict[str, Any]) -> None:
        """events, event_sets and rules, by name."""
        self.post("/v1/definitions", changes)

    def occur(self, event: str, **fields: Any) -> Any:
        return self.post("/v1/occurrences", {"event": event, **fields})

    # --- the dispatcher -------------------------------------------------------------------------

    def hear(self, *reports: Report) -> None:
        self.loop.call_soon_threadsafe(self.coordinator.heard, DISPATCHER, list(reports))

    def connect_dispatcher(self) -> None:
        offer = Offer("process", "engine-1", cores=2.0, memory=2**33)
        self.hear(Hello(DISPATCHER, "host-1", "0.1.0", slots=4, offers=(offer,), live=()))

    def next_run(self) -> Run:
        while True:
            order = self.link.orders.get(timeout=SECONDS)
            if isinstance(order, Run):
                return order

    def start(self, run: Run) -> None:
        self.hear(Accepted(run.job, run.attempt), Started(run.job, run.attempt, time.time()))
        self.await_state(run.job, "running")

    def finish(self, run: Run, kind: str = "success", output: bytes = b"") -> None:
        outcome = Outcome(kind, 0 if kind == "success" else 1)  # type: ignore[arg-type]
        self.hear(Ended(run.job, run.attempt, outcome, time.time(), time.time(), output))
        self.wait_until(lambda: self.job_attempt(run)["finished"] is not None)

    def job_attempt(self, run: Run) -> Any:
        attempts = self.get(f"/v1/jobs/{run.job}/attempts")["items"]
        return next(one for one in attempts if one["attempt"] == run.attempt)

    def await_state(self, job: str, state: str) -> None:
        self.wait_until(lambda: self.get(f"/v1/jobs/{job}")["job"]["state"] == state)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """By the feed: after each change, the condition is looked at again."""
        deadline = time.monotonic() + SECONDS
        seq = self.coordinator.feed.seq
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            waiting = asyncio.run_coroutine_threadsafe(
                self.coordinator.feed.newer_than(seq, 0.05), self.loop
            )
            waiting.result(SECONDS)
            seq = self.coordinator.feed.seq

    def token(self, run: Run) -> str:
        return self.coordinator.tokens.token(run.job, run.attempt)

    def connections(self) -> list[Any]:
        """Those that are open now."""
        return [one for server in self._servers for one in server.server_state.connections]

    # --- bytes ----------------------------------------------------------------------------------

    def raw(self, data: bytes, base: str = "") -> bytes:
        """What comes back for these bytes, until the server closes or is silent for a while."""
        with self.connect(base) as client:
            client.sendall(data)
            return read_all(client)

    def connect(self, base: str = "") -> socket.socket:
        port = int((base or self.url).rsplit(":", 1)[1])
        return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


class _Server(uvicorn.Server):
    """Signals belong to the main thread. `up` is set once it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


def read_all(client: socket.socket, silent_seconds: float = 2.0) -> bytes:
    client.settimeout(silent_seconds)
    found = b""
    try:
        while piece := client.recv(65536):
            found += piece
    except TimeoutError:
        pass
    return found


def chain(length: int) -> dict[str, Any]:
    """Rules r1 … rn, each an auto-trigger from the event e(n) to e(n+1)."""
    rules = {
        f"r{n}": {"on": f"e{n}", "activity": AUTO, "triggering": f"e{n + 1}"}
        for n in range(1, length + 1)
    }
    return {"rules": rules}


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    return listener
