"""/v1/jobs and /v1/firings: what was decided to run, how it went; cancel and retry."""

import re
import time
from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from msgspec.structs import asdict

from cirrus.coordinator.http.message import Answer, Request, answer
from cirrus.coordinator.http.native.pages import Limit, Page, Seq, Text, page_of
from cirrus.coordinator.http.native.waiting import why_waiting
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.router import Route
from cirrus.core.decision import Done
from cirrus.core.inputs import CancelAsked, RetryAsked
from cirrus.core.lifecycle import MOVES, JobState
from cirrus.core.names import clip
from cirrus.errors import NotFound, Refused
from cirrus.store import records
from cirrus.store.questions import END, Window
from cirrus.store.questions import jobs as questions

STATES: Final[dict[str, Any]] = {
    "pattern": "^({0})(,({0}))*$".format("|".join(MOVES)),
    "maxLength": 100,
}
JOB_ID: Final = re.compile(r"[0-9a-f]{16}")


class FiringsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The newest first. `after`: the `next` of the page before."""

    rule: Text | None = None
    key: Text | None = None
    after: Seq | None = None
    limit: Limit = 100


class JobsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The newest first. `state`: one state or several, with commas between."""

    state: Annotated[str, Meta(extra_json_schema=STATES)] | None = None
    rule: Text | None = None
    key: Text | None = None
    after: Seq | None = None
    limit: Limit = 100


class JobShown(records.JobDetails, frozen=True):
    """`waits_for` says why it does not run yet; empty once it does."""

    waits_for: str = ""


class Cancelled(Struct, frozen=True):
    """`changed` is false where it had ended already. What runs is ended first."""

    job: str
    changed: bool


class Retried(Struct, frozen=True):
    """`job` is the new one: the rule's next generation."""

    job: str


def job_routes(coordinator: Coordinator) -> list[Route]:
    room = _Jobs(coordinator)
    return [*_lists(room), *_one(room)]


def _lists(room: "_Jobs") -> list[Route]:
    return [
        Route(
            "GET",
            "/v1/firings",
            room.firings,
            "The decisions that a rule starts.",
            query=FiringsQuery,
            answer=(Page[records.Firing],),
        ),
        Route(
            "GET",
            "/v1/jobs",
            room.list_all,
            "The work of firings.",
            query=JobsQuery,
            answer=(Page[records.Job],),
        ),
    ]


def _one(room: "_Jobs") -> list[Route]:
    one = "/v1/jobs/{job}"
    return [
        Route(
            "GET",
            one,
            room.show,
            "A job, with its members, attempts, moves and what it triggered.",
            answer=(JobShown,),
            refusals=(404,),
        ),
        Route(
            "GET",
            f"{one}/attempts",
            room.attempts,
            "A job's attempts.",
            answer=(Page[records.Attempt],),
            refusals=(404,),
        ),
        Route(
            "POST",
            f"{one}/cancel",
            room.cancel,
            "Cancel a job: at once where nothing runs, otherwise when its attempt has ended.",
            answer=(Cancelled,),
            refusals=(404,),
        ),
        Route(
            "POST",
            f"{one}/retry",
            room.retry,
            "Do the work of an ended job again, as the rule's next generation.",
            answer=(Retried,),
            refusals=(404, 409),
        ),
    ]


class _Jobs:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def firings(self, request: Request) -> Answer:
        query = request.query(FiringsQuery)
        found = await self._coordinator.read(
            lambda reader: questions.firings(reader, query.rule, query.key, _window(query))
        )
        return answer(page_of(found, lambda one: one.seq))

    async def list_all(self, request: Request) -> Answer:
        query = request.query(JobsQuery)
        states = (
            [_state(text) for text in query.state.split(",")] if query.state is not None else []
        )
        found = await self._coordinator.read(
            lambda reader: questions.jobs(
                reader,
                dict.fromkeys(states),
                rule=query.rule,
                key=query.key,
                window=_window(query),
            )
        )
        return answer(page_of(found, lambda one: one.seq))

    async def show(self, request: Request) -> Answer:
        name = request.values[0]
        details = await self._coordinator.read(lambda reader: questions.job_details(reader, name))
        if details is None:
            raise unknown_job(name)
        why = why_waiting(
            details.job,
            rule_paused=details.rule_paused,
            present=self._coordinator.present(),
            now=time.time(),
        )
        return answer(JobShown(**asdict(details), waits_for=why))

    async def attempts(self, request: Request) -> Answer:
        name = request.values[0]
        job, attempts = await self._coordinator.read(
            lambda reader: (questions.job(reader, name), questions.attempts(reader, name))
        )
        if job is None:
            raise unknown_job(name)
        return answer(Page(attempts, None))

    async def cancel(self, request: Request) -> Answer:
        await request.no_body()
        name = _checked_id(request.values[0])
        (done,) = await self._coordinator.ask(CancelAsked(name))
        assert isinstance(done, Done), done
        return answer(Cancelled(name, done.changed))

    async def retry(self, request: Request) -> Answer:
        await request.no_body()
        (done,) = await self._coordinator.ask(RetryAsked(_checked_id(request.values[0])))
        assert isinstance(done, Done), done
        return answer(Retried(done.subject))


def _window(query: FiringsQuery | JobsQuery) -> Window:
    return Window(before=END if query.after is None else query.after, limit=query.limit)


def unknown_job(id: str) -> NotFound:
    return NotFound("unknown_job", f"no job {clip(id)}", "job")


def _checked_id(id: str) -> str:
    if not JOB_ID.fullmatch(id):
        raise unknown_job(id)
    return id


def _state(text: str) -> JobState:
    for state in MOVES:
        if state == text:
            return state
    raise Refused("bad_value", f"state {clip(text)}: there are {', '.join(MOVES)}", "state")
