"""What the engine may ask (View) and what it answers (Decision): changes, orders, what follows."""

from typing import Literal, Protocol

from msgspec import Struct

from cirrus.core.inputs import DefinitionKind, Input
from cirrus.core.lifecycle import JobState
from cirrus.core.messages import Hello, Order, Outcome
from cirrus.core.model import (
    Cause,
    Event,
    EventSet,
    Identity,
    Post,
    Rule,
    Standing,
    UnixTime,
)

VerdictKind = Literal[
    "fired",
    "used",
    "standing",
    "waiting",
    "queued",
    "absorbed",
    "superseded",
    "ignored",
    "unmatched",
    "expired",
    "late",
    "stopped",
    "refused",
]


class Verdict(Struct, frozen=True, omit_defaults=True):
    """What became of an occurrence for one rule. `missing` names the first 20 of `lacking`."""

    rule: str
    verdict: VerdictKind
    job: str = ""
    generation: int = 0
    missing: tuple[str, ...] = ()
    lacking: int = 0


class Route(Struct, frozen=True):
    """A set that an event is a member of, at which place, and the rules on that set."""

    event_set: EventSet
    place: int
    rules: tuple[Rule, ...]


class FiringState(Struct, frozen=True):
    """How far a rule is under a key. `counted`: the newest generation that succeeded."""

    generation: int = 0
    fired: int = 0
    """The `seq` of the newest firing that was no retry: what was accepted since is new."""
    open: bool = True
    counted: int = 0


class Waiting(Struct, frozen=True):
    """No attempt is under way; the next one may start at `due`."""

    due: UnixTime


class Assigned(Struct, frozen=True):
    """An attempt is under way at a dispatcher. `accepted`: it answers for it."""

    dispatcher: str
    since: UnixTime
    accepted: bool
    stopping: bool
    """Somebody asked for its end."""


class Job(Struct, frozen=True):
    """A job with its frozen definitions. `progress` is None once it has ended."""

    id: str
    rule: Rule
    key: str
    generation: int
    fired: int
    forced: bool
    cause: Cause
    """What it triggers is caused by; `stale` and `late` are decided when it does."""
    triggering: tuple[str, ...]
    state: JobState
    attempt: int
    failures: int
    crashes: int
    progress: Waiting | Assigned | None


class Stored(Struct, frozen=True):
    """An accepted identity: what it was, so that a repeat can be told from a contradiction."""

    seq: int
    digest: bytes
    key: str = ""
    """The key that the occurrence was accepted under."""


class Bounds(Struct, frozen=True):
    """The limits that a person may set."""

    chain_depth: int = 10_000
    chain_length: int = 100_000
    """Occurrences from one root; beyond these two they are recorded as `stopped`."""
    crash_limit: int = 5
    """Attempts that may end by the infrastructure's fault, on top of a rule's attempts."""
    lost_after_seconds: float = 600.0
    """How long a dispatcher may be silent about an attempt before another one is started."""


class View(Protocol):
    """What the engine may know: questions to the store, inside its writing transaction."""

    instance: str
    bounds: Bounds

    def last_seq(self) -> int: ...
    def newest_reset(self, namespace: str, key: str) -> int:
        """The `seq` of the last reset that covers this key and namespace; 0 if none."""
        ...

    def accepted(self, identity: Identity) -> Stored | None: ...
    def reset_accepted(self, identity: Identity) -> Stored | None: ...
    def event(self, name: str) -> Event | None: ...
    def mentioned(self, event: str) -> bool:
        """Whether an event, a set or a rule names it."""
        ...

    def near(self, name: str, kind: DefinitionKind) -> str:
        """The most similar name of this kind; empty if there is none."""
        ...

    def routes(self, event: str) -> tuple[Route, ...]: ...
    def triggered_by(self, name: str) -> tuple[str, ...]:
        """The events that triggering this name makes occur: a set hides an event of its name."""
        ...

    def definition(self, kind: DefinitionKind, name: str) -> tuple[int, bytes | None]:
        """Its newest version and document: 0 if there never was one, None if it is deleted."""
        ...

    def rule(self, name: str) -> Rule | None: ...
    def standing(self, event: str, key: str) -> Standing | None: ...
    def stands(self, event_set: EventSet, key: str) -> int:
        """The members that stand, as bits: bit n for the n-th member."""
        ...

    def members(self, event_set: EventSet, key: str) -> tuple[Standing | None, ...]: ...
    def firing_state(self, rule: str, key: str) -> FiringState: ...
    def chain_length(self, root: int) -> int: ...
    def job(self, id: str) -> Job | None: ...
    def job_members(self, id: str) -> tuple[EventSet, tuple[int, ...]]:
        """The frozen set that fired the job, and the `seq` of each member, 0 where none stood."""
        ...

    def inputs(self, id: str) -> bytes:
        """JSON for the job: its member occurrences with their data."""
        ...

    def worker_triggered(self, job: str, event: str, key: str) -> int:
        """The `seq` of what the job's worker triggered itself; 0 if it did not."""
        ...

    def attempt_outcome(self, job: str, attempt: int) -> str | None:
        """How that attempt ended, as recorded; None while it has not."""
        ...

    def active_jobs(self, dispatcher: str | None = None) -> tuple[Job, ...]:
        """The jobs that have an attempt under way."""
        ...

    def jobs_under(self, key: str | None, namespace: str | None) -> tuple[str, ...]:
        """The ids of the jobs that have not ended."""
        ...

    def waiting_jobs(
        self, executor: str, now: UnixTime, *, cores: float, memory: int, limit: int
    ) -> tuple[Job, ...]:
        """Jobs that may start now and ask at most this much, the longest waiting first."""
        ...


# --- changes ------------------------------------------------------------------------------------


class Recorded(Struct, frozen=True):
    """An occurrence and its verdicts."""

    seq: int
    post: Post
    key: str
    received: UnixTime
    cause: Cause | None
    verdicts: tuple[Verdict, ...]
    digest: bytes
    whole: str
    """The verdict that holds for all rules, and so without any: late, stopped …; or empty."""
    problem: str
    by_worker: bool = False


class Stood(Struct, frozen=True):
    event: str
    key: str
    standing: Standing


class Joined(Struct, frozen=True):
    """The members of this version of a set that stand under a key, as bits."""

    event_set: EventSet
    key: str
    bits: int


class StateSet(Struct, frozen=True):
    rule: str
    key: str
    state: FiringState


class Fired(Struct, frozen=True):
    """A firing and its job. `members`: the `seq`s that satisfied the set, 0 where none stood."""

    seq: int
    time: UnixTime
    job: str
    rule: Rule
    event_set: EventSet
    triggering: tuple[str, ...]
    key: str
    generation: int
    forced: bool
    cause: Cause
    members: tuple[int, ...]
    state: JobState
    retried: str = ""
    """The job that this one tries again."""


class Moved(Struct, frozen=True):
    """A job's next state. `before` is expected; the store refuses any other."""

    seq: int
    time: UnixTime
    job: Job
    state: JobState
    attempt: int
    failures: int
    crashes: int
    progress: Waiting | Assigned | None
    outcome: Outcome | None = None
    output: bytes = b""
    started: UnixTime | None = None
    """When its attempt began to run, by the dispatcher's clock."""


class AttemptMade(Struct, frozen=True):
    job: str
    attempt: int
    dispatcher: str
    executor: str
    time: UnixTime


class AttemptSeen(Struct, frozen=True):
    """The dispatcher accepted it, or was asked to end it: nothing that a person must see."""

    job: str
    progress: Assigned


class AttemptEnded(Struct, frozen=True):
    """`late`: it is no longer the job's current attempt, so only the record changes."""

    job: str
    attempt: int
    outcome: Outcome
    started: UnixTime | None
    finished: UnixTime | None
    late: bool = False


class Defined(Struct, frozen=True):
    """`document` None: deleted."""

    seq: int
    time: UnixTime
    kind: DefinitionKind
    name: str
    version: int
    document: bytes | None


class WasReset(Struct, frozen=True):
    seq: int
    time: UnixTime
    key: str | None
    namespace: str | None
    identity: Identity | None
    digest: bytes


class Noted(Struct, frozen=True):
    """What is only remembered, to be shown: a worker's word, a pause, a cleared queue."""

    seq: int
    time: UnixTime
    rule: str
    state: str
    job: str = ""


class Paused(Struct, frozen=True):
    rule: str
    paused: bool


class DispatcherKnown(Struct, frozen=True):
    hello: Hello
    time: UnixTime


Change = (
    Recorded
    | Stood
    | Joined
    | StateSet
    | Fired
    | Moved
    | AttemptMade
    | AttemptSeen
    | AttemptEnded
    | Defined
    | WasReset
    | Noted
    | Paused
    | DispatcherKnown
)

# --- answers ------------------------------------------------------------------------------------


class Occurrence(Struct, frozen=True):
    """The answer to a post. `duplicate`: it had been accepted before, as this `seq`."""

    seq: int
    event: str
    key: str
    verdicts: tuple[Verdict, ...] = ()
    duplicate: bool = False


class Done(Struct, frozen=True):
    """The answer to everything else: what it became, and whether anything changed."""

    subject: str = ""
    version: int = 0
    changed: bool = True


Answer = Occurrence | Done


class Sent(Struct, frozen=True):
    dispatcher: str
    order: Order


class Decision(Struct, frozen=True):
    """Changes are applied in their order; `follow` is decided after all that already waits."""

    changes: tuple[Change, ...] = ()
    orders: tuple[Sent, ...] = ()
    follow: tuple[Input, ...] = ()
    answers: tuple[Answer, ...] = ()
