"""Status, dispatchers, pausing rules; /healthz and /metrics for those who watch over Cirrus."""

import os
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

import cirrus
from cirrus.coordinator.http.message import Answer, Full, Request, answer
from cirrus.coordinator.http.native.metrics import Value, exposition
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.posting import path_name
from cirrus.coordinator.http.router import Route
from cirrus.core.inputs import PauseAsked, Present
from cirrus.core.messages import Hello, Offer
from cirrus.core.model import UnixTime
from cirrus.errors import Unavailable
from cirrus.store import records
from cirrus.store.questions import definitions, history, jobs
from cirrus.store.reader import SQL, Reader

PAUSED_MOST: Final = 1000
PROMETHEUS: Final = b"text/plain; version=0.0.4; charset=utf-8"


class Storage(Struct, frozen=True):
    """Bytes: of the database, and free on its disk."""

    used: int
    free: int


class Status(Struct, frozen=True):
    """`paused`: the rules whose jobs wait until somebody resumes them."""

    version: str
    instance: str
    ready: bool
    last_seq: int
    counts: records.Counts
    paused: Sequence[str]
    storage: Storage
    dispatchers: int


class Running(Struct, frozen=True):
    job: str
    attempt: int
    rule: str
    key: str
    state: str
    since: UnixTime | None


class Dispatcher(Struct, frozen=True):
    """`heard`: when it last said anything that is known. `cores` and `memory`: what runs asks."""

    name: str
    host: str
    version: str
    connected: bool
    heard: UnixTime
    slots: int
    offers: tuple[Offer, ...]
    cores: float
    memory: int
    running: Sequence[Running]


class Dispatchers(Struct, frozen=True):
    items: Sequence[Dispatcher]


class Paused(Struct, frozen=True):
    rule: str
    paused: bool


class Health(Struct, frozen=True):
    status: str


def system_routes(coordinator: Coordinator) -> list[Route]:
    room = _System(coordinator)
    rule = "/v1/rules/{name}"
    return [
        Route(
            "GET",
            "/v1/status",
            room.status,
            "What is here: counts, versions, the newest seq, storage.",
            answer=(Status,),
        ),
        Route(
            "GET",
            "/v1/dispatchers",
            room.dispatchers,
            "The dispatchers, what they offer, and what runs there.",
            answer=(Dispatchers,),
        ),
        Route(
            "POST",
            f"{rule}/pause",
            room.pause,
            "Let a rule's jobs wait. It still fires.",
            answer=(Paused,),
            refusals=(404,),
        ),
        Route(
            "POST",
            f"{rule}/resume",
            room.resume,
            "Let a paused rule's jobs run.",
            answer=(Paused,),
            refusals=(404,),
        ),
        Route("GET", "/healthz", room.health, "200 when it decides.", answer=(Health,)),
        Route("GET", "/metrics", room.metrics, "For Prometheus.", media_type="text/plain"),
    ]


class _System:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def status(self, _: Request) -> Answer:
        connected = sum(one.connected for one in self._coordinator.present())
        ready = self._coordinator.ready()
        return answer(
            await self._coordinator.read(
                lambda reader: _status(reader, ready=ready, dispatchers=connected)
            )
        )

    async def dispatchers(self, _: Request) -> Answer:
        known, active = await self._coordinator.read(
            lambda reader: (jobs.dispatchers(reader), jobs.active_jobs(reader))
        )
        present = {one.name: one for one in self._coordinator.present()}
        return answer(
            Dispatchers([_dispatcher(one, present.get(one.name), active) for one in known])
        )

    async def pause(self, request: Request) -> Answer:
        return await self._pause(request, paused=True)

    async def resume(self, request: Request) -> Answer:
        return await self._pause(request, paused=False)

    async def _pause(self, request: Request, *, paused: bool) -> Answer:
        await request.no_body()
        rule = path_name(request.values[0])
        await self._coordinator.ask(PauseAsked(rule, paused))
        return answer(Paused(rule, paused))

    async def health(self, _: Request) -> Answer:
        if not self._coordinator.ready():
            raise Unavailable("coordinator", "it decides nothing now; its log says why")
        return answer(Health("ok"))

    async def metrics(self, _: Request) -> Answer:
        ready = self._coordinator.ready()
        connected = sum(one.connected for one in self._coordinator.present())
        status = await self._coordinator.read(
            lambda reader: _status(reader, ready=ready, dispatchers=connected)
        )
        values: dict[str, Value] = {
            "cirrus_ready": int(ready),
            "cirrus_last_seq": status.last_seq,
            "cirrus_definitions": status.counts.definitions,
            "cirrus_occurrences": status.counts.occurrences,
            "cirrus_jobs": status.counts.jobs,
            "cirrus_dispatchers": connected,
            "cirrus_feed_subscribers": self._coordinator.feed.subscribers,
            "cirrus_storage_bytes": status.storage.used,
            "cirrus_storage_free_bytes": status.storage.free,
        }
        return Full(exposition(values).encode(), media_type=PROMETHEUS)


def _status(reader: Reader, *, ready: bool, dispatchers: int) -> Status:
    disk = os.statvfs(reader.path.parent)
    ((instance,),) = reader.rows(SQL.instance) or [("",)]
    return Status(
        cirrus.__version__,
        instance=instance,
        ready=ready,
        last_seq=history.last_seq(reader),
        counts=history.counts(reader),
        paused=definitions.paused_rules(reader, PAUSED_MOST),
        storage=Storage(history.storage_bytes(reader), disk.f_bavail * disk.f_frsize),
        dispatchers=dispatchers,
    )


def _dispatcher(
    known: records.KnownDispatcher, present: Present | None, active: Sequence[records.Job]
) -> Dispatcher:
    hello = msgspec.json.decode(known.hello, type=Hello)
    own = [job for job in active if job.dispatcher == known.name]
    return Dispatcher(
        known.name,
        host=hello.host,
        version=hello.version,
        connected=present is not None and present.connected,
        heard=known.time if present is None else present.heard,
        slots=hello.slots if present is None else present.slots,
        offers=hello.offers if present is None else present.offers,
        cores=sum((job.cores for job in own), 0.0),
        memory=sum(job.memory for job in own),
        running=[
            Running(job.id, job.attempt, job.rule, job.key, job.state, job.since) for job in own
        ],
    )
