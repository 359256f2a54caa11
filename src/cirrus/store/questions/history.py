"""Questions about what happened, in the order of `seq`: for the feed and the seed's two queues."""

from collections.abc import Callable, Sequence
from heapq import merge
from itertools import islice
from typing import Final

from cirrus.core.inputs import DefinitionKind
from cirrus.core.lifecycle import MOVES, SEED_STATES, JobState
from cirrus.store.questions import END, raw
from cirrus.store.questions.definitions import definition_of
from cirrus.store.questions.jobs import firing_of
from cirrus.store.questions.occurrences import occurrence_of
from cirrus.store.reader import SQL, Reader, Row
from cirrus.store.records import Change, Counts, Moment, Reset, SeedEvent, SeedState

NOTED: Final = ("dispatch", "start", "fail", "success", "end")
"""What a worker may note of its rule. The queue's own notes are not shown."""

_TABLES: Final[tuple[tuple[str, Callable[[Row], Change]], ...]] = (
    (SQL.occurrences_after, lambda row: Change(row[0], "occurrence", occurrence_of(row))),
    (SQL.firings_after, lambda row: Change(row[0], "firing", firing_of(row))),
    (SQL.moments_after, lambda row: Change(row[0], row[2], Moment(*row))),
    (SQL.definitions_after, lambda row: Change(row[3], "definition", definition_of(row))),
    (SQL.resets_after, lambda row: Change(row[0], "reset", Reset(*row))),
)


def last_seq(reader: Reader) -> int:
    return reader.number(SQL.last_seq)


def changes(reader: Reader, after: int, limit: int) -> Sequence[Change]:
    """What happened beyond `after`, the oldest first."""
    parts = [reader.part(sql, {"after": after}, limit, change) for sql, change in _TABLES]
    # Where one part breaks off, the others must not go on beyond it.
    end = min((part.items[-1].seq for part in parts if part.more), default=END)
    merged = merge(*(part.items for part in parts), key=lambda change: change.seq)
    return [change for change in islice(merged, limit) if change.seq <= end]


# --- the seed's queues --------------------------------------------------------------------------


def seed_events_start(reader: Reader, newest: int) -> int:
    """The `seq` after which the newest so many occurrences since the last reset of all come."""
    since = reader.number(SQL.full_reset)
    row = reader.first(SQL.seed_events_before_newest, {"after": since, "newest": newest})
    return since if row is None else int(row[0])


def seed_events(reader: Reader, after: int, limit: int) -> Sequence[SeedEvent]:
    """Only what came since the last reset of everything."""
    since = max(after, reader.number(SQL.full_reset))
    values = {"after": since, "limit": limit}
    return [_seed_event_of(row) for row in reader.rows(SQL.seed_events, values)]


def _seed_event_of(row: Row) -> SeedEvent:
    cells = list(row)
    cells[4] = bool(cells[4])
    cells[7] = raw(cells[7])
    return SeedEvent(*cells)


def seed_states_start(reader: Reader, newest: int) -> int:
    since = _states_from(reader)
    row = reader.first(SQL.seed_states_before_newest, {"after": since, "newest": newest})
    return since if row is None else int(row[0])


def seed_states(reader: Reader, after: int, limit: int) -> Sequence[SeedState]:
    """Only what came since the queue was cleared."""
    since = max(after, _states_from(reader))
    rows = reader.rows(SQL.seed_states, {"after": since, "limit": limit})
    return [
        SeedState(seq, time, rule, _seed_words(kind, state))
        for seq, time, rule, kind, state in rows
    ]


def _states_from(reader: Reader) -> int:
    return reader.number(SQL.states_from)


def _seed_words(kind: str, state: str) -> tuple[str, ...]:
    if kind == "fired":  # `state` is the executor: none for an auto-trigger
        return SEED_STATES["triggered"] if state else ("triggered", "dispatch")
    if kind == "move":
        return SEED_STATES[state]
    return (state,) if state in NOTED else ()


# --- counts -------------------------------------------------------------------------------------


def counts(reader: Reader) -> Counts:
    definitions: dict[DefinitionKind, int] = {"event": 0, "event_set": 0, "rule": 0}
    definitions |= dict(reader.rows(SQL.count_definitions))
    states: dict[JobState, int] = dict.fromkeys(MOVES, 0)
    states |= dict(reader.rows(SQL.count_jobs_not_succeeded))
    states["succeeded"] = _counted(reader, "jobs", SQL.count_jobs) - sum(states.values())
    return Counts(
        definitions, occurrences=_counted(reader, "occurrences", SQL.count_occurrences), jobs=states
    )


def _counted(reader: Reader, what: str, sql: str) -> int:
    """Rows are only ever added: what was counted once is not counted again."""
    before, after = reader.counted.get(what, (0, 0))
    more, newest = reader.rows(sql, {"after": after})[0]
    count = before + int(more)
    reader.counted[what] = (count, max(newest, after))
    return count


def storage_bytes(reader: Reader) -> int:
    """The size of the database, without its write-ahead log."""
    return reader.number(SQL.storage)
