"""Questions about firings, jobs, their attempts, and the dispatchers that run them."""

from collections.abc import Iterable, Sequence
from heapq import merge
from typing import Final

import msgspec

from cirrus.core.documents import event_set_of, rule_of
from cirrus.core.lifecycle import JobState
from cirrus.core.model import AutoTrigger, Rule
from cirrus.store.questions import Window, narrowed, raw
from cirrus.store.questions.definitions import definition_version
from cirrus.store.questions.occurrences import key_is, occurrence_of
from cirrus.store.reader import SQL, Reader, Row
from cirrus.store.records import (
    Attempt,
    Firing,
    Job,
    JobDetails,
    KnownDispatcher,
    Member,
    Moment,
    Occurrence,
    Part,
)

MOST: Final = 1000
"""So many moments and triggered occurrences of one job are shown."""

_members: Final = msgspec.json.Decoder(tuple[int, ...])


def firings(reader: Reader, rule: str | None, key: str | None, window: Window) -> Part[Firing]:
    """The newest first."""
    sql = narrowed(SQL.firings, *_rule_is(rule), *key_is(key))
    values = {"before": window.before, "rule": rule, "key": key}
    return reader.part(sql, values, window.limit, firing_of)


def jobs(
    reader: Reader,
    states: Iterable[JobState],
    *,
    rule: str | None,
    key: str | None,
    window: Window,
) -> Part[Job]:
    """The newest first; of any state if none is given."""
    limit = window.limit
    values = {"before": window.before, "rule": rule, "key": key}
    common = [*_rule_is(rule), *key_is(key)]
    wanted: list[tuple[JobState | None, list[str]]] = [(one, _state_is(one)) for one in states]
    parts = [
        reader.part(narrowed(SQL.jobs, *own, *common), {**values, "state": state}, limit, job_of)
        for state, own in wanted or [(None, [])]
    ]
    # Where one part breaks off, the others must not go on beyond it.
    end = max((part.items[-1].seq for part in parts if part.more), default=0)
    merged = merge(*(part.items for part in parts), key=lambda job: -job.seq)
    found = [job for job in merged if job.seq >= end]
    return Part(found[:limit], more=end > 0 or len(found) > limit)


def job(reader: Reader, id: str) -> Job | None:
    row = reader.first(SQL.job, {"job": id})
    return None if row is None else job_of(row)


def attempts(reader: Reader, id: str) -> Sequence[Attempt]:
    return [attempt_of(row) for row in reader.rows(SQL.attempts, {"job": id})]


def job_details(reader: Reader, id: str) -> JobDetails | None:
    found = job(reader, id)
    if found is None:
        return None
    definition = definition_version(reader, "rule", found.rule, found.rule_version)
    assert definition is not None, found
    rule = rule_of(found.rule, bytes(definition.document), 0)
    rows = reader.rows(SQL.moments_of_job, {"job": id, "limit": MOST})
    moves = [Moment(*row) for row in rows]
    events = members_of(reader, found.event_set, found.event_set_version)
    return JobDetails(
        found,
        document=definition.document,
        output=raw(*(reader.first(SQL.job_output, {"job": id}) or (None,))),
        members=tuple(Member(*one) for one in zip(events, found.members, strict=True)),
        attempts=tuple(attempts(reader, id)),
        moves=tuple(moves),
        triggered=_triggered(reader, found, rule, moves),
        rule_paused=reader.first(SQL.paused, {"rule": found.rule}) is not None,
    )


def active_jobs(reader: Reader) -> Sequence[Job]:
    """The jobs with an attempt under way, by dispatcher."""
    return [job_of(row) for row in reader.rows(SQL.active_jobs, {"limit": 10 * MOST})]


def dispatchers(reader: Reader) -> Sequence[KnownDispatcher]:
    return [
        KnownDispatcher(name, time, raw(hello))
        for name, time, hello in reader.rows(SQL.dispatchers)
    ]


def attempt_of(row: Row) -> Attempt:
    cells = [*row[:9], bool(row[9])]
    return Attempt(*cells)


def firing_of(row: Row) -> Firing:
    cells = list(row)
    cells[7] = bool(cells[7])
    cells[8] = _members.decode(cells[8])
    return Firing(*cells)


def job_of(row: Row) -> Job:
    cells = list(row)
    cells[9] = bool(cells[9])
    cells[10] = _members.decode(cells[10])
    cells[24] = bool(cells[24])
    return Job(*cells)


def members_of(reader: Reader, name: str, version: int) -> tuple[str, ...]:
    """The members of a set as it was frozen. Version 0: the event of that name, alone."""
    definition = definition_version(reader, "event_set", name, version) if version else None
    if definition is None:
        return (name,)
    return event_set_of(name, bytes(definition.document), version).members


def triggering_version(reader: Reader, id: str) -> int:
    """Of the set that the job triggers; 0 if it triggers an event, or nothing."""
    return reader.number(SQL.job_triggering, {"job": id})


def _triggered(
    reader: Reader, found: Job, rule: Rule, moves: Sequence[Moment]
) -> tuple[Occurrence, ...]:
    values: dict[str, object] = {"job": found.id}
    by_worker = reader.part(SQL.triggered_by_worker, values, MOST, occurrence_of).items
    ended = found.seq if found.executor == "" else 0
    for move in moves:
        if move.kind == "move" and move.state in ("succeeded", "failed"):
            ended = move.seq
    if not ended:
        return tuple(by_worker)
    own = sum(1 for one in by_worker if one.key == found.key)
    expected = min(_expected(reader, found, rule) - own, MOST)
    if expected <= 0:
        return tuple(by_worker)
    # The last of them ends the search, which would otherwise go on for long.
    values |= {"after": ended, "limit": expected}
    at_end = reader.part(SQL.triggered_at_end, values, expected, occurrence_of).items
    return (*by_worker, *at_end)


def _expected(reader: Reader, found: Job, rule: Rule) -> int:
    """How many occurrences the job's end caused, at most."""
    if found.state == "failed":
        return MOST if rule.on_failure else 0
    if not rule.triggering:
        return 0
    if not isinstance(rule.activity, AutoTrigger) and rule.activity.triggers == "worker":
        return 0
    return len(members_of(reader, rule.triggering, triggering_version(reader, found.id)))


def _state_is(state: JobState) -> list[str]:
    """The index on states leaves the most frequent one out."""
    return ["state = :state"] + (["state <> 'succeeded'"] if state != "succeeded" else [])


def _rule_is(rule: str | None) -> list[str]:
    return [] if rule is None else ["rule = :rule"]
