"""What readers find in the store, as frozen values; /v1 shows them as they are.

JSON that Cirrus keeps for others (data, documents, outputs) stays as it was written: Raw.
"""

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

from msgspec import Raw, Struct

from cirrus.core.decision import Verdict
from cirrus.core.inputs import DefinitionKind
from cirrus.core.lifecycle import JobState
from cirrus.core.model import UnixTime

T = TypeVar("T")


class Part(Struct, Generic[T], frozen=True):
    """As much of a list as was asked for, or as fits; and whether there is more of it."""

    items: Sequence[T]
    more: bool


class Definition(Struct, frozen=True):
    """A version of a definition. `document` is null where this version deleted it."""

    kind: DefinitionKind
    name: str
    version: int
    seq: int
    time: UnixTime
    document: Raw


class Occurrence(Struct, frozen=True):
    """One time that an event happened. `job` caused it, if any; `root` began the chain of causes.

    `whole` is the verdict that holds for every rule (late, stopped, superseded, refused), or
    empty; `problem` says why it was refused. `routed`: some rule looked at it.
    """

    seq: int
    event: str
    key: str
    source: str | None
    id: str | None
    time: UnixTime | None
    received: UnixTime
    force: bool
    job: str | None
    root: int
    depth: int
    by_worker: bool
    verdicts: tuple[Verdict, ...]
    whole: str
    problem: str
    routed: bool
    data: Raw | None = None
    """Null where it is left out: in the feed."""


class Reset(Struct, frozen=True):
    """Null for `key` or `namespace`: all of them."""

    seq: int
    time: UnixTime
    key: str | None
    namespace: str | None
    source: str | None
    id: str | None


class Firing(Struct, frozen=True):
    """The decision that a rule starts. `members`: what satisfied the set, 0 where none stood."""

    seq: int
    time: UnixTime
    rule: str
    key: str
    generation: int
    job: str
    event_set: str
    forced: bool
    members: tuple[int, ...]
    retried: str


class Job(Struct, frozen=True):
    """The work of a firing. `seq` and `time` are the firing's; `due`: not before, while it waits.

    `executor` is empty for an auto-trigger, `dispatcher` null while no attempt is under way.
    """

    id: str
    seq: int
    time: UnixTime
    rule: str
    rule_version: int
    event_set: str
    event_set_version: int
    key: str
    generation: int
    forced: bool
    members: tuple[int, ...]
    root: int
    depth: int
    retried: str
    executor: str
    cores: float
    memory: int
    state: JobState
    attempt: int
    failures: int
    crashes: int
    due: UnixTime | None
    dispatcher: str | None
    since: UnixTime | None
    stopping: bool
    finished: UnixTime | None


class Attempt(Struct, frozen=True):
    """One try. `late`: its end came when it was no longer the current one."""

    attempt: int
    dispatcher: str
    executor: str
    dispatched: UnixTime
    started: UnixTime | None
    finished: UnixTime | None
    outcome: str | None
    exit_code: int | None
    reason: str | None
    late: bool


class Moment(Struct, frozen=True):
    """A job's move, a worker's note, or a pause: what a person may want to have seen."""

    seq: int
    time: UnixTime
    kind: Literal["move", "note", "pause"]
    rule: str
    job: str
    key: str
    state: str
    attempt: int
    outcome: str
    reason: str


class Member(Struct, frozen=True):
    """An event of a set, and the `seq` of the occurrence that stands for it; 0 if none does."""

    event: str
    seq: int


class JobDetails(Struct, frozen=True):
    """All that is known of a job. `document` is its rule's, as frozen by the firing."""

    job: Job
    document: Raw
    output: Raw
    members: tuple[Member, ...]
    attempts: tuple[Attempt, ...]
    moves: tuple[Moment, ...]
    triggered: tuple[Occurrence, ...]
    rule_paused: bool


class KeySummary(Struct, frozen=True):
    """`newest`: the `seq` of its newest occurrence."""

    key: str
    standing: int
    newest: int


class OpenJoin(Struct, frozen=True):
    """A set that something stands for, and its rules that have not fired for that.

    It is `ready` when nothing is missing: then it fires at the next occurrence that stands. Of
    long lists the first 1,000 are named; `lacking` counts what must still come.
    """

    event_set: str
    rules: tuple[str, ...]
    needed: int
    standing: tuple[str, ...]
    missing: tuple[str, ...]
    lacking: int
    ready: bool


class StandingEvent(Struct, frozen=True):
    event: str
    seq: int
    forced: bool


class KeyDetails(Struct, frozen=True):
    """What a key has come to. Of long lists the first 1,000 are shown."""

    key: str
    standing: tuple[StandingEvent, ...]
    joins: tuple[OpenJoin, ...]
    jobs: dict[JobState, int]


class Counts(Struct, frozen=True):
    definitions: dict[DefinitionKind, int]
    occurrences: int
    jobs: dict[JobState, int]


class KnownDispatcher(Struct, frozen=True):
    """A dispatcher that said Hello once. `hello` is what it said last, at `time`."""

    name: str
    time: UnixTime
    hello: Raw


class SeedEvent(Struct, frozen=True):
    """An entry of the seed's event queue, before it takes the seed's shape."""

    seq: int
    event: str
    key: str
    received: UnixTime
    force: bool
    source: str | None
    id: str | None
    data: Raw


class SeedState(Struct, frozen=True):
    """A change that the seed's rule-state queue shows as `states`."""

    seq: int
    time: UnixTime
    rule: str
    states: tuple[str, ...]


class Change(Struct, frozen=True):
    """One moment of the history, for the feed."""

    seq: int
    kind: Literal["occurrence", "firing", "move", "note", "pause", "definition", "reset"]
    record: Occurrence | Firing | Moment | Definition | Reset
