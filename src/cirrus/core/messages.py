"""What coordinator and dispatchers say to each other: orders to them, reports from them.

Every message may be lost, doubled, late or reordered. A report names job and attempt; one that is
not about the job's current attempt changes nothing.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from cirrus.core.model import Container, Process, UnixTime

# What a dispatcher claims must fit into the store, whoever it is.
AttemptNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]
ClaimedTime = Annotated[UnixTime, Meta(ge=0, le=1e11)]
ExitCode = Annotated[int, Meta(ge=-(2**31), le=2**32 - 1)]
Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]

OutcomeKind = Literal[
    "success",
    "failure",  # exit code other than 0
    "timeout",
    "cancelled",
    "oom",
    "refused",  # the engine will never start it, or its output is not a JSON object
    "interrupted",  # killed by an engine that went away
    "unknown",  # the engine lost the exit code, or the container
    "lost",  # the dispatcher fell silent for too long
]


class Outcome(Struct, frozen=True):
    """How an attempt ended. `exit_code` is None where none was seen."""

    kind: OutcomeKind
    exit_code: ExitCode | None = None
    reason: str = ""
    """For people: one line."""


# --- orders -------------------------------------------------------------------------------------


class Welcome(Struct, frozen=True, tag="welcome"):
    """The answer to Hello and to every Heartbeat: the coordinator is there and listens."""

    instance: str


class Greet(Struct, frozen=True, tag="greet"):
    """The coordinator does not know this dispatcher since it started: say Hello."""


class Run(Struct, frozen=True, tag="run"):
    """Start this attempt, once. Sent again until an Accepted is committed."""

    job: str
    attempt: AttemptNumber
    name: str
    """The attempt's name on its engine: `model.attempt_name`."""
    rule: str
    key: str
    activity: Process | Container
    environment: dict[str, str]
    """What Cirrus adds to the activity's own `env`: TRIGGER, RULE_ID, CIRRUS_JOB and so on."""
    inputs: bytes
    """JSON: all member occurrences with their data."""


class Stop(Struct, frozen=True, tag="stop"):
    """End this attempt: TERM, `grace_seconds`, KILL. `why` becomes the outcome."""

    job: str
    attempt: AttemptNumber
    why: Literal["cancelled", "timeout"] = "cancelled"


class Settled(Struct, frozen=True, tag="settled"):
    """The report of this attempt's end is committed: its container may be removed."""

    job: str
    attempt: AttemptNumber


class ReadLog(Struct, frozen=True, tag="read_log"):
    """Send at most `length` bytes of the attempt's log from `offset` (negative: from its end)."""

    request: int
    job: str
    attempt: AttemptNumber
    offset: int
    length: int


Order = Welcome | Greet | Run | Stop | Settled | ReadLog

# --- reports ------------------------------------------------------------------------------------


class Offer(Struct, frozen=True):
    """An executor that a dispatcher has. `gateway`: the host's address as its jobs see it."""

    executor: str
    engine: str
    """The engine's own id: dispatchers that share an engine share its room."""
    cores: Annotated[float, Meta(ge=0, le=1e6)]
    memory: Size
    gateway: str = ""
    problem: str = ""
    """Why it takes no work now; empty when it does."""


class Live(Struct, frozen=True):
    """An attempt that a dispatcher is responsible for, until its end is settled."""

    job: str
    attempt: AttemptNumber
    state: Literal["accepted", "running", "ended"]


class Hello(Struct, frozen=True, tag="hello"):
    """Said on every connect and whenever an offer changed."""

    dispatcher: str
    host: str
    version: str
    slots: Annotated[int, Meta(ge=0, le=1_000_000)]
    offers: tuple[Offer, ...]
    live: tuple[Live, ...]


class Heartbeat(Struct, frozen=True, tag="heartbeat"):
    """Every 2 s: renews the lease of every attempt that it lists."""

    live: tuple[Live, ...]


class Accepted(Struct, frozen=True, tag="accepted"):
    """The attempt's folder exists: this dispatcher answers for it from now on."""

    job: str
    attempt: AttemptNumber


class Started(Struct, frozen=True, tag="started"):
    """The container or process runs, since `time`."""

    job: str
    attempt: AttemptNumber
    time: ClaimedTime


class Ended(Struct, frozen=True, tag="ended"):
    """How it ended. Sent again, with backoff, until Settled comes."""

    job: str
    attempt: AttemptNumber
    outcome: Outcome
    started: ClaimedTime | None
    finished: ClaimedTime | None
    output: bytes = b""
    """The JSON object that the job wrote to output.json; empty if none. At most 64 KiB."""


class LogRead(Struct, frozen=True, tag="log_read"):
    """`offset` is where `content` begins, `size` the log's length so far, in bytes.

    `offset` may lie beyond what was asked for: the middle of a long log is dropped.
    """

    request: int
    offset: Size
    content: bytes
    size: Size
    complete: bool
    problem: str = ""


Report = Hello | Heartbeat | Accepted | Started | Ended | LogRead
