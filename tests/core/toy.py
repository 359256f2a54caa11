"""A whole Cirrus without loops: a store, and the dispatchers that a test speaks for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from cirrus.coordinator.turn import turn
from cirrus.core.decision import Answer, Assigned, Bounds, Done, Job, Occurrence, Sent
from cirrus.core.documents import parse
from cirrus.core.inputs import (
    Applied,
    CancelAsked,
    DefinitionKind,
    Input,
    Posted,
    Present,
    Reported,
    ResetAsked,
    RetryAsked,
    TimePassed,
    WorkerPosted,
)
from cirrus.core.messages import Accepted, Ended, Offer, Outcome, OutcomeKind, Run, Started
from cirrus.core.model import Identity, Post, job_id
from cirrus.errors import Refused
from cirrus.store.sqlite import SqliteStore

AUTO = {"cmd": "__auto_trigger__"}
PROCESS = {"task_type": "process", "cmd": "true"}
INSTANCE = "ab" * 8


def dispatcher(  # noqa: PLR0913  (each is a fact about one dispatcher)
    name: str = "d1",
    *,
    slots: int = 1000,
    cores: float = 64.0,
    memory: int = 2**36,
    executors: Sequence[str] = ("process",),
    engine: str = "",
    problem: str = "",
    connected: bool = True,
    listed: dict[tuple[str, int], float] | None = None,
) -> Present:
    offers = tuple(
        Offer(executor, engine or f"{name}'s", cores, memory, problem=problem)
        for executor in executors
    )
    return Present(name, slots, offers, connected=connected, heard=0.0, listed=listed or {})


class Cirrus:
    """Time stands still unless a test moves `now`."""

    def __init__(self, path: Path = Path(":memory:"), /, **bounds: Any) -> None:
        self.store = SqliteStore(path, new_instance=INSTANCE, bounds=Bounds(**bounds))
        self.now = 1000.0
        self.listening_since = 0.0
        self.present: tuple[Present, ...] = (dispatcher(),)
        self.orders: list[Sent] = []
        """What the last turn said to dispatchers."""

    # --- what happens ---------------------------------------------------------------------------

    def turn(self, *batch: Input) -> list[tuple[Answer, ...] | Refused]:
        speech = turn(self.store, batch, self.present, self.now)
        self.orders = speech.orders
        return speech.answers

    def ask(self, what: Input) -> tuple[Answer, ...]:
        """One input in a turn of its own. Raises Refused."""
        (answer,) = self.turn(what)
        if isinstance(answer, Refused):
            raise answer
        return answer

    def put(self, kind: DefinitionKind, name: str, document: object) -> Done:
        (done,) = self.ask(Applied(puts=(parse(kind, name, document),)))
        assert isinstance(done, Done)
        return done

    def delete(self, kind: DefinitionKind, name: str) -> None:
        self.ask(Applied(deletes=((kind, name),)))

    def rule(
        self, name: str, on: str, triggering: str | None = None, *, run: object = AUTO, **rest: Any
    ) -> None:
        self.put("rule", name, {"on": on, "activity": run, "triggering": triggering, **rest})

    def post(self, event: str, key: str | None = None, **rest: Any) -> Occurrence:
        (occurrence,) = self.post_all(post(event, key, **rest))
        return occurrence

    def post_all(self, *posts: Post) -> list[Occurrence]:
        """All in one request."""
        answers = self.ask(Posted(posts))
        return [answer for answer in answers if isinstance(answer, Occurrence)]

    def worker_posts(self, job: Job, event: str, key: str | None = None, **rest: Any) -> Occurrence:
        (occurrence,) = self.ask(WorkerPosted(job.id, job.attempt, post(event, key, **rest)))
        assert isinstance(occurrence, Occurrence)
        return occurrence

    def reset(self, key: str | None = None, namespace: str | None = None, **rest: Any) -> Done:
        (done,) = self.ask(ResetAsked(key, namespace, **rest))
        assert isinstance(done, Done)
        return done

    def cancel(self, job: Job) -> Done:
        (done,) = self.ask(CancelAsked(job.id))
        assert isinstance(done, Done)
        return done

    def retry(self, job: Job) -> Job:
        (done,) = self.ask(RetryAsked(job.id))
        assert isinstance(done, Done)
        return self.job_by_id(done.subject)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.ask(TimePassed(self.present, self.listening_since))

    # --- what dispatchers say -------------------------------------------------------------------

    def report(self, report: Accepted | Started | Ended, by: str = "d1") -> None:
        self.ask(Reported(by, report))

    def accept(self, job: Job) -> None:
        self.report(Accepted(job.id, job.attempt))

    def start(self, job: Job) -> None:
        self.report(Started(job.id, job.attempt, self.now))

    def end(
        self, job: Job, kind: OutcomeKind = "success", *, output: object = None, by: str = "d1"
    ) -> None:
        """The job's attempt, as this Job has it, ended."""
        exit_code = {"success": 0, "failure": 1}.get(kind)
        written = b"" if output is None else msgspec.json.encode(output)
        outcome = Outcome(kind, exit_code, "so it was")
        self.report(Ended(job.id, job.attempt, outcome, self.now, self.now, written), by)

    # --- what is there now ----------------------------------------------------------------------

    def job(self, rule: str, generation: int = 1, key: str = "") -> Job:
        return self.job_by_id(job_id(rule, key, generation))

    def job_by_id(self, id: str) -> Job:
        job = self.store.job(id)
        assert job is not None, id
        return job

    def again(self, job: Job) -> Job:
        """The job as it is now."""
        return self.job_by_id(job.id)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.store._connection.execute(sql, values).fetchall()

    def firings(self) -> list[str]:
        """`rule 1`, or `rule 1 at KEY`, in the order of their firing; `!` where it is forced."""
        return [
            f"{rule} {generation}{f' at {key}' if key else ''}{'!' if forced else ''}"
            for rule, generation, key, forced in self.rows(
                "SELECT rule, generation, key, forced FROM job ORDER BY seq"
            )
        ]

    def occurred(self) -> list[str]:
        """`event`, or `event at KEY`, in order; with the verdict that holds for every rule."""
        return [
            f"{event}{f' at {key}' if key else ''}{'!' if force else ''}"
            f"{f' {whole}' if whole else ''}"
            for event, key, force, whole in self.rows(
                "SELECT event, key, force, whole FROM occurrence ORDER BY seq"
            )
        ]

    def ordered(self) -> list[str]:
        """What the last turn said: `dispatcher: order job's attempt`, such as `d1: run 1`."""
        return [
            f"{sent.dispatcher}: {type(sent.order).__name__.lower()}"
            f" {getattr(sent.order, 'attempt', '')}".rstrip()
            for sent in self.orders
        ]

    def run_ordered(self) -> Run:
        """The one order to run that the last turn gave."""
        (run,) = [sent.order for sent in self.orders if isinstance(sent.order, Run)]
        return run

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that is stored."""
        return dump(self.store)


def dump(store: SqliteStore) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    connection = store._connection
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    found = {str(name): connection.execute(f"SELECT * FROM {name}") for (name,) in tables}
    return {name: sorted(rows.fetchall(), key=repr) for name, rows in sorted(found.items())}


def post(  # noqa: PLR0913  (an occurrence's own fields)
    event: str,
    key: str | None = None,
    *,
    force: bool = False,
    data: dict[str, object] | None = None,
    id: str | None = None,
    source: str = "",
) -> Post:
    identity = None if id is None else Identity(source, id)
    return Post(event, key=key, force=force, data=data or {}, identity=identity)


def verdicts(occurrence: Occurrence) -> dict[str, str]:
    """By rule."""
    found = {one.rule: one.verdict for one in occurrence.verdicts}
    assert len(found) == len(occurrence.verdicts), occurrence
    return {rule: str(verdict) for rule, verdict in found.items()}


def assigned(job: Job) -> Assigned:
    assert isinstance(job.progress, Assigned), job
    return job.progress
