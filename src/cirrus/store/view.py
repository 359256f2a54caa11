"""What the engine may ask, answered from SQLite inside the writing transaction."""

from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final

import apsw
import msgspec

from cirrus.core import decision as d
from cirrus.core.documents import event_of, event_set_of, rule_of
from cirrus.core.inputs import DefinitionKind
from cirrus.core.lifecycle import JobState
from cirrus.core.model import (
    Cause,
    Event,
    EventSet,
    Identity,
    Rule,
    Standing,
    UnixTime,
)
from cirrus.store.queries import named

SQL: Final = named("write.sql")
CACHED: Final = 4096
"""So many decoded definitions of each kind are kept at hand."""

Row = tuple[Any, ...]


class SqliteView:
    """View (core/decision.py) of one writing connection."""

    def __init__(self, connection: apsw.Connection, bounds: d.Bounds) -> None:
        self.bounds = bounds
        self._connection = connection
        # Kept, because `Connection.execute` makes a new cursor each time.
        self._cursor = connection.cursor()
        self.instance: str = self._one(SQL.instance)[0]
        self._refresh()

    def _refresh(self) -> None:
        """Forget what was at hand: after a rollback it may be wrong."""
        self._seq: int = self._value(SQL.last_seq)
        self._has_reset: bool = self._value(SQL.has_reset) == 1
        self._forget_definitions()

    def _forget_definitions(self) -> None:
        self.routes = lru_cache(CACHED)(self._routes)
        self.event = lru_cache(CACHED)(self._event)
        self.triggered_by = lru_cache(CACHED)(self._triggered_by)
        self.rule = lru_cache(CACHED)(self._rule)
        # One set may be what a thousand events lead to.
        self._event_set = lru_cache(CACHED)(self._read_event_set)
        self._rule_version = lru_cache(CACHED)(self._read_rule_version)

    def _all(self, sql: str, *values: object) -> list[Row]:
        return self._cursor.execute(sql, values).fetchall()

    def _one(self, sql: str, *values: object) -> Row:
        (row,) = self._cursor.execute(sql, values).fetchall()
        return row

    def _value(self, sql: str, *values: object) -> Any:  # noqa: ANN401  (a column has no type)
        """The one column of the one row."""
        return self._one(sql, *values)[0]

    def _first(self, sql: str, *values: object) -> Row | None:
        return self._cursor.execute(sql, values).fetchone()

    # --- what the engine asks: definitions ------------------------------------------------------

    def last_seq(self) -> int:
        return self._seq

    def last_time(self) -> UnixTime:
        time: UnixTime = self._value(SQL.last_time)
        return time

    def definition(self, kind: DefinitionKind, name: str) -> tuple[int, bytes | None]:
        row = self._first(SQL.definition, kind, name)
        return (0, None) if row is None else row

    def mentioned(self, event: str) -> bool:
        return bool(self._value(SQL.mentioned, event))

    def near(self, name: str, kind: DefinitionKind) -> str:
        names = [row[0] for row in self._all(SQL.names, kind)]
        return next(iter(get_close_matches(name, names, n=1)), "")

    def _event(self, name: str) -> Event | None:
        _, document = self.definition("event", name)
        return None if document is None else event_of(name, document)

    def _read_event_set(self, name: str) -> EventSet | None:
        version, document = self.definition("event_set", name)
        return None if document is None else event_set_of(name, document, version)

    def _rule(self, name: str) -> Rule | None:
        version, document = self.definition("rule", name)
        return None if document is None else self._rule_version(name, version)

    def _routes(self, event: str) -> tuple[d.Route, ...]:
        routes = []
        for name, place in self._all(SQL.sets_with, event):
            event_set = self._event_set(name)
            assert event_set is not None, name
            routes.append(d.Route(event_set, place, self._rules_on(event_set.name)))
        if self._event_set(event) is None and (rules := self._rules_on(event)):
            routes.append(d.Route(EventSet(event, (event,), 1), 0, rules))
        return tuple(routes)

    def _rules_on(self, heard: str) -> tuple[Rule, ...]:
        names = [row[0] for row in self._all(SQL.listeners, heard)]
        rules = [self.rule(name) for name in names]
        return tuple(rule for rule in rules if rule is not None)

    def _triggered_by(self, name: str) -> tuple[str, ...]:
        event_set = self._event_set(name)
        return (name,) if event_set is None else event_set.members

    # --- what the engine asks: occurrences ------------------------------------------------------

    def newest_reset(self, namespace: str, key: str) -> int:
        if not self._has_reset:
            return 0
        seq: int = self._value(SQL.newest_reset, namespace, key)
        return seq

    def accepted(self, identity: Identity) -> d.Stored | None:
        row = self._first(SQL.accepted, identity.source, identity.id)
        return None if row is None else d.Stored(*row)

    def reset_accepted(self, identity: Identity) -> d.Stored | None:
        row = self._first(SQL.reset_accepted, identity.source, identity.id)
        return None if row is None else d.Stored(*row)

    def standing(self, event: str, key: str) -> Standing | None:
        row = self._first(SQL.standing, key, event)
        return None if row is None else Standing(row[0], bool(row[1]))

    def stands(self, event_set: EventSet, key: str) -> int:
        row = self._first(SQL.joined, key, event_set.name)
        if row is not None and row[0] == event_set.version:
            return int.from_bytes(row[1], "little")
        standing = self.members(event_set, key)
        return sum(1 << place for place, member in enumerate(standing) if member is not None)

    def members(self, event_set: EventSet, key: str) -> tuple[Standing | None, ...]:
        members: list[Standing | None] = [None] * len(event_set.members)
        for place, seq, forced in self._all(SQL.members, event_set.name, key):
            members[place] = Standing(seq, bool(forced))
        return tuple(members)

    def firing_state(self, rule: str, key: str) -> d.FiringState:
        row = self._first(SQL.firing_state, rule, key)
        if row is None:
            return d.FiringState()
        generation, fired, is_open, counted = row
        return d.FiringState(generation, fired, bool(is_open), counted)

    def chain_length(self, root: int) -> int:
        row = self._first(SQL.chain_length, root)
        return 0 if row is None else row[0]

    # --- what the engine asks: jobs -------------------------------------------------------------

    def job(self, id: str) -> d.Job | None:
        row = self._first(SQL.job, id)
        return None if row is None else self._job(row)

    def active_jobs(self, dispatcher: str | None = None) -> tuple[d.Job, ...]:
        if dispatcher is None:
            rows = self._all(SQL.active_jobs)
        else:
            rows = self._all(SQL.active_jobs_of, dispatcher)
        return tuple(self._job(row) for row in rows)

    def waiting_jobs(
        self, executor: str, now: UnixTime, *, cores: float, memory: int, limit: int
    ) -> tuple[d.Job, ...]:
        rows = self._all(SQL.waiting_jobs, executor, now, cores, memory, limit)
        return tuple(self._job(row) for row in rows)

    def next_due(self, now: UnixTime) -> UnixTime | None:
        """When the next waiting job's backoff ends."""
        due: UnixTime | None = self._value(SQL.next_due, now)
        return due

    def jobs_under(self, key: str | None, namespace: str | None) -> tuple[str, ...]:
        return tuple(row[0] for row in self._all(SQL.jobs_under, key, namespace))

    def job_members(self, id: str) -> tuple[EventSet, tuple[int, ...]]:
        name, version, members = self._one(SQL.job_members, id)
        seqs = msgspec.json.decode(members, type=tuple[int, ...])
        if version == 0:
            return EventSet(name, (name,), 1), seqs
        (document,) = self._one(SQL.definition_version, "event_set", name, version)
        return event_set_of(name, document, version), seqs

    def inputs(self, id: str) -> bytes:
        name, _, members = self._one(SQL.job_members, id)
        rows = self._all(SQL.member_occurrences, members.decode())
        fields = ("event", "key", "seq", "source", "id", "time")
        occurrences = [
            {
                **dict(zip(fields, row, strict=False)),
                "force": bool(row[6]),
                "data": msgspec.Raw(row[7]),
            }
            for row in rows
        ]
        return msgspec.json.encode({"event_set": name, "occurrences": occurrences})

    def worker_triggered(self, job: str, event: str, key: str) -> int:
        row = self._first(SQL.worker_triggered, job, event, key)
        return 0 if row is None else row[0]

    def attempt_outcome(self, job: str, attempt: int) -> str | None:
        row = self._first(SQL.attempt_outcome, job, attempt)
        return None if row is None else row[0]

    def _read_rule_version(self, name: str, version: int) -> Rule:
        (document,) = self._one(SQL.definition_version, "rule", name, version)
        return rule_of(name, document, version)

    def _job(self, row: Row) -> d.Job:
        record = _JobRow(*row)
        rule = self._rule_version(record.rule, record.rule_version)
        triggering: tuple[str, ...] = (rule.triggering,) if rule.triggering else ()
        if record.triggering_version:
            (document,) = self._one(
                SQL.definition_version, "event_set", rule.triggering, record.triggering_version
            )
            kept = event_set_of(rule.triggering, document, 0)
            triggering = kept.members
        return record.job(rule, triggering)


class _JobRow(msgspec.Struct):
    """A row of `job`, in the order of its queries."""

    seq: int
    id: str
    rule: str
    rule_version: int
    triggering_version: int
    key: str
    generation: int
    forced: int
    root: int
    depth: int
    state: JobState
    attempt: int
    failures: int
    crashes: int
    due: float | None
    dispatcher: str | None
    since: float | None
    accepted: int | None
    stopping: int | None

    def job(self, rule: Rule, triggering: tuple[str, ...]) -> d.Job:
        return d.Job(
            id=self.id,
            rule=rule,
            key=self.key,
            generation=self.generation,
            fired=self.seq,
            forced=bool(self.forced),
            cause=Cause(self.id, self.seq, self.root, self.depth),
            triggering=triggering,
            state=self.state,
            attempt=self.attempt,
            failures=self.failures,
            crashes=self.crashes,
            progress=self._progress(),
        )

    def _progress(self) -> d.Waiting | d.Assigned | None:
        if self.due is not None:
            return d.Waiting(self.due)
        if self.dispatcher is None or self.since is None:
            return None
        return d.Assigned(self.dispatcher, self.since, bool(self.accepted), bool(self.stopping))
