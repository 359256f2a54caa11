"""What the coordinator answers, as frozen values. Fields that a newer one adds are ignored."""

from typing import Literal

from msgspec import Struct

from cirrus.core.decision import Verdict
from cirrus.core.inputs import DefinitionKind
from cirrus.core.lifecycle import JobState
from cirrus.core.messages import Offer
from cirrus.core.model import UnixTime


class Definition(Struct, frozen=True):
    """`document` is None in the version that deleted it."""

    kind: DefinitionKind
    name: str
    version: int
    time: UnixTime = 0.0
    document: object = None


class Applied(Struct, frozen=True):
    """What became of one definition."""

    kind: DefinitionKind
    name: str
    version: int
    changed: bool


class OccurrenceRecord(Struct, frozen=True):
    """An occurrence as it is remembered. `job` caused it, if any; `root` began the chain."""

    seq: int
    event: str
    key: str
    received: UnixTime
    root: int
    source: str | None = None
    id: str | None = None
    time: UnixTime | None = None
    force: bool = False
    job: str | None = None
    depth: int = 0
    by_worker: bool = False
    verdicts: tuple[Verdict, ...] = ()
    whole: str = ""
    problem: str = ""
    data: dict[str, object] | None = None
    """None where it was left out: in the feed."""


class Firing(Struct, frozen=True):
    seq: int
    time: UnixTime
    rule: str
    key: str
    generation: int
    job: str
    event_set: str = ""
    forced: bool = False
    members: tuple[int, ...] = ()
    retried: str = ""


class Moment(Struct, frozen=True):
    """A job's move, a worker's note, or a pause."""

    seq: int
    time: UnixTime
    kind: Literal["move", "note", "pause"]
    rule: str
    job: str = ""
    key: str = ""
    state: str = ""
    attempt: int = 0
    outcome: str = ""
    reason: str = ""


class Reset(Struct, frozen=True):
    """None for `key` or `namespace`: all of them."""

    seq: int
    time: UnixTime
    key: str | None = None
    namespace: str | None = None


class Job(Struct, frozen=True):
    """The work of a firing. `executor` is empty for an auto-trigger."""

    id: str
    seq: int
    time: UnixTime
    rule: str
    key: str
    generation: int
    state: JobState
    root: int
    executor: str = ""
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    forced: bool = False
    retried: str = ""
    event_set: str = ""
    due: UnixTime | None = None
    dispatcher: str | None = None
    since: UnixTime | None = None
    finished: UnixTime | None = None


class Attempt(Struct, frozen=True):
    """One try. `late`: its end came when it was no longer the current one."""

    attempt: int
    dispatcher: str
    executor: str = ""
    dispatched: UnixTime = 0.0
    started: UnixTime | None = None
    finished: UnixTime | None = None
    outcome: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    late: bool = False


class Member(Struct, frozen=True):
    """An event of a set, and the `seq` of the occurrence that stood for it; 0 if none did."""

    event: str
    seq: int


class JobDetails(Struct, frozen=True):
    """All that is known of a job. `document` is its rule's, as frozen by the firing."""

    job: Job
    document: object = None
    output: object = None
    members: tuple[Member, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    moves: tuple[Moment, ...] = ()
    triggered: tuple[OccurrenceRecord, ...] = ()
    rule_paused: bool = False
    waits_for: str = ""
    """Why it does not run yet, in words."""


class KeySummary(Struct, frozen=True):
    key: str
    standing: int
    newest: int


class StandingEvent(Struct, frozen=True):
    event: str
    seq: int
    forced: bool = False


class OpenJoin(Struct, frozen=True):
    """A set that something stands for, and its rules that have not fired for that."""

    event_set: str
    rules: tuple[str, ...]
    needed: int
    standing: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    lacking: int = 0
    ready: bool = False


class KeyDetails(Struct, frozen=True):
    key: str
    standing: tuple[StandingEvent, ...] = ()
    joins: tuple[OpenJoin, ...] = ()
    jobs: dict[str, int] = {}


class Counts(Struct, frozen=True):
    definitions: dict[str, int]
    occurrences: int
    jobs: dict[str, int]


class Storage(Struct, frozen=True):
    """Bytes: of the database, and free on its disk."""

    used: int
    free: int


class Status(Struct, frozen=True):
    """`paused`: the rules whose jobs wait until somebody resumes them."""

    version: str
    instance: str
    last_seq: int
    counts: Counts
    paused: tuple[str, ...] = ()
    storage: Storage = Storage(0, 0)
    dispatchers: int = 0
    ready: bool = True


class Running(Struct, frozen=True):
    """An attempt under way."""

    job: str
    attempt: int
    rule: str
    key: str
    state: str
    since: UnixTime | None = None


class Dispatcher(Struct, frozen=True):
    """`heard`: when it last said anything. `cores` and `memory`: what its attempts ask."""

    name: str
    host: str
    version: str
    connected: bool
    heard: UnixTime
    slots: int
    offers: tuple[Offer, ...] = ()
    cores: float = 0.0
    memory: int = 0
    running: tuple[Running, ...] = ()
