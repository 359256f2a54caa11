"""Everything that can happen to the coordinator."""

from typing import Literal

from msgspec import Struct, field

from cirrus.core.messages import Accepted, Ended, Hello, Offer, Outcome, Started
from cirrus.core.model import Cause, Identity, Post, UnixTime

DefinitionKind = Literal["event", "event_set", "rule"]


class Definition(Struct, frozen=True):
    """A definition as it is kept: `document` is canonical JSON, checked by documents.py."""

    kind: DefinitionKind
    name: str
    document: bytes


class Applied(Struct, frozen=True):
    """Definitions to put and to delete, all or nothing. Deleting what is not there is no error."""

    puts: tuple[Definition, ...] = ()
    deletes: tuple[tuple[DefinitionKind, str], ...] = ()


class Posted(Struct, frozen=True):
    """Occurrences from outside, all or nothing. `strict` refuses names that nothing mentions."""

    posts: tuple[Post, ...]
    strict: bool = False


class WorkerPosted(Struct, frozen=True):
    """An occurrence that a job triggers by itself, with its attempt's token."""

    job: str
    attempt: int
    post: Post


class Occurred(Struct, frozen=True):
    """One occurrence, its key settled. `problem` refuses it: a schema or a key path that fails.

    `asked`: somebody waits for the verdicts. `by_worker`: the cause's job triggered it itself.
    `repeat`: it was accepted before, and is only to be answered.
    """

    post: Post
    key: str
    cause: Cause | None = None
    problem: str = ""
    asked: bool = False
    by_worker: bool = False
    repeat: bool = False


class ResetAsked(Struct, frozen=True):
    """Nothing stands any more, for a key and a namespace; None means all of them."""

    key: str | None
    namespace: str | None
    identity: Identity | None = None
    cancel_jobs: bool = False


class CancelAsked(Struct, frozen=True):
    """`asked`: somebody waits for the answer."""

    job: str
    asked: bool = True


class RetryAsked(Struct, frozen=True):
    job: str


class PauseAsked(Struct, frozen=True):
    rule: str
    paused: bool


class NoteMade(Struct, frozen=True):
    """A worker's own word on how its rule is doing: recorded, and nothing else."""

    rule: str
    state: Literal["dispatch", "start", "fail", "success", "end"]
    job: str = ""


class StatesCleared(Struct, frozen=True):
    """The seed's rule-state queue shows only what comes from now on."""


class Reported(Struct, frozen=True):
    """What a dispatcher says of an attempt."""

    dispatcher: str
    report: Accepted | Started | Ended


class HelloSaid(Struct, frozen=True):
    hello: Hello


class Present(Struct, frozen=True):
    """A dispatcher as its connection shows it now.

    `listed`: when it last said that it answers for an attempt, by job and attempt.
    """

    name: str
    slots: int
    offers: tuple[Offer, ...]
    connected: bool
    heard: UnixTime
    listed: dict[tuple[str, int], UnixTime] = field(default_factory=dict)


class Placed(Struct, frozen=True):
    """Time to give waiting jobs to dispatchers that have room."""

    present: tuple[Present, ...]


class TimePassed(Struct, frozen=True):
    """What is due: orders to say again, leases that ended.

    `listening_since`: when this coordinator began to hear dispatchers. Every lease lasts anew
    from there.
    """

    present: tuple[Present, ...]
    listening_since: UnixTime


class GivenUp(Struct, frozen=True):
    """An attempt that its dispatcher was silent about for too long."""

    job: str
    attempt: int
    outcome: Outcome


Input = (
    Applied
    | Posted
    | WorkerPosted
    | Occurred
    | ResetAsked
    | CancelAsked
    | RetryAsked
    | PauseAsked
    | NoteMade
    | StatesCleared
    | Reported
    | HelloSaid
    | Placed
    | TimePassed
    | GivenUp
)
