"""What a job's own container may call, with its attempt's token: its rule, its sets, its triggers.

Nothing else is served here, and nothing at all to an attempt that has ended.
"""

import base64
import binascii

from msgspec import Struct

from cirrus.coordinator.http import seed_shapes
from cirrus.coordinator.http.body import typed
from cirrus.coordinator.http.message import Answer, Request, answer, refused
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.posting import SeedSent, occurrences, path_name, post_of
from cirrus.coordinator.http.router import Route
from cirrus.coordinator.http.seed import read_seed
from cirrus.core.documents import rule_of
from cirrus.core.inputs import NoteMade, WorkerPosted
from cirrus.errors import Conflict, Refused
from cirrus.store.questions import definitions, jobs
from cirrus.store.reader import Reader
from cirrus.store.records import Definition, Job


class Own(Struct, frozen=True):
    """What belongs to a job: its definitions as its firing froze them."""

    job: Job
    rule: Definition
    sets: dict[str, Definition | None]
    """None: the name of an event."""


def job_routes(coordinator: Coordinator) -> list[Route]:
    listener = _JobListener(coordinator)
    return [
        Route("GET", "/r/rule/{name}", listener.rule),
        Route("POST", "/r/rule/{name}", listener.note),
        Route("GET", "/r/event_set/{name}", listener.event_set),
        Route("POST", "/r/event/{name}", listener.trigger),
        *(Route(method, "/{path...}", listener.nothing_else) for method in ("GET", "POST")),
    ]


class _JobListener:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def rule(self, request: Request) -> Answer:
        own = await self._own(request)
        _check_rule(own, request.values[0])
        return answer({**seed_shapes.definition(own.rule), "status": "OK"})

    async def event_set(self, request: Request) -> Answer:
        own = await self._own(request)
        name = request.values[0]
        if name not in own.sets:
            raise refused(403, "not_its_own", "a job may read its own rule's event sets only")
        found = own.sets[name]
        if found is None:
            raise refused(404, "not_found", f"event_set:{name} not found: it is an event's name")
        return answer({**seed_shapes.definition(found), "status": "OK"})

    async def trigger(self, request: Request) -> Answer:
        job, attempt = self._attempt(request)
        name = path_name(request.values[0])
        sent = typed(await read_seed(request), SeedSent)
        if sent.action != "trigger":
            return seed_shapes.wrong_action(sent)
        posted = WorkerPosted(job, attempt, post_of(name, sent))
        return seed_shapes.triggered(occurrences(await self._coordinator.ask(posted)))

    async def note(self, request: Request) -> Answer:
        own = await self._own(request)
        _check_rule(own, request.values[0])
        sent = typed(await read_seed(request), SeedSent)
        note = seed_shapes.note_of(sent)
        if note is None:
            return seed_shapes.wrong_action(sent)
        await self._coordinator.ask(NoteMade(own.job.rule, note, own.job.id))
        return seed_shapes.noted(own.job.rule, note)

    async def nothing_else(self, request: Request) -> Answer:
        self._attempt(request)
        raise refused(403, "not_for_jobs", "a job may read its rule and sets, and trigger events")

    async def _own(self, request: Request) -> Own:
        job, attempt = self._attempt(request)
        return await self._coordinator.read(lambda reader: _own_of(reader, job, attempt))

    def _attempt(self, request: Request) -> tuple[str, int]:
        """Whose token this is. Whether the attempt still runs, only the store knows."""
        token = _token(request.headers.get(b"authorization", b""))
        found = self._coordinator.attempt_of(token) if token else None
        if found is None:
            raise refused(401, "no_token", "this listener is for jobs: send the attempt's token")
        return found


def _check_rule(own: Own, name: str) -> None:
    if name != own.job.rule:
        raise refused(403, "not_its_own", "a job may ask about its own rule only")


def _own_of(reader: Reader, id: str, attempt: int) -> Own:
    job = jobs.job(reader, id)
    if job is None:
        raise refused(401, "no_token", "this token belongs to no job that is known here")
    if job.attempt != attempt or job.state not in ("dispatched", "running"):
        raise Conflict("stale_attempt", "this attempt has ended: its token opens nothing more")
    document = definitions.definition_version(reader, "rule", job.rule, job.rule_version)
    assert document is not None, job
    rule = rule_of(job.rule, bytes(document.document), 0)
    sets = {job.event_set: _set(reader, job.event_set, job.event_set_version)}
    if rule.triggering:
        version = jobs.triggering_version(reader, id)
        sets[rule.triggering] = _set(reader, rule.triggering, version)
    return Own(job, document, sets)


def _set(reader: Reader, name: str, version: int) -> Definition | None:
    if not version:
        return None
    return definitions.definition_version(reader, "event_set", name, version)


def _token(header: bytes) -> str:
    """From `Bearer TOKEN`, or `Basic` with the user `job`; empty if there is none."""
    scheme, _, rest = header.partition(b" ")
    try:
        if scheme.lower() == b"bearer":
            return rest.strip().decode("ascii")
        if scheme.lower() == b"basic":
            user, _, password = base64.b64decode(rest.strip(), validate=True).partition(b":")
            return password.decode("ascii") if user == b"job" else ""
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refused("bad_authorization", "the Authorization header cannot be read") from error
    return ""
