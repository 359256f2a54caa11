"""The nouns of Cirrus, as frozen values. How people write them down is documents.py's job."""

import hashlib
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

UnixTime = float
"""Seconds since 1970, UTC."""

AUTO_TRIGGER = "__auto_trigger__"


class Event(Struct, frozen=True):
    """A named thing that can happen.

    `key` is a dotted path into the occurrence, `schema` a JSON Schema for its data; both may be
    empty.
    """

    name: str
    description: str = ""
    key: str = ""
    schema: bytes = b""


class EventSet(Struct, frozen=True):
    """Member events; satisfied under a key when `needed` (1…n) of them stand there."""

    name: str
    members: tuple[str, ...]
    needed: int
    version: int = 0

    @property
    def wants_all(self) -> bool:
        return self.needed == len(self.members)


class Mount(Struct, frozen=True):
    """`source` is a path on the engine's host, or a volume's name; `tmpfs` has none."""

    target: str
    source: str = ""
    kind: Literal["bind", "volume", "tmpfs"] = "bind"
    read_only: bool = False


class AutoTrigger(Struct, frozen=True, tag="auto"):
    """Nothing runs: the rule only triggers."""


class Limits(Struct, frozen=True):
    """What a job may use (`cpu`, `memory`) and what it asks to be kept for it (`…_reservation`).

    Cores; bytes; seconds. 0 means no limit, and nothing asked.
    """

    cpu: float = 0.0
    memory: int = 0
    cpu_reservation: float = 0.0
    memory_reservation: int = 0
    timeout_seconds: float = 0.0
    grace_seconds: float = 10.0


class Process(Struct, frozen=True, tag="process"):
    """A process on the dispatcher's machine. `cmd` is an argv, never given to a shell."""

    cmd: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = ""
    limits: Limits = Limits()
    triggers: Literal["cirrus", "worker"] = "cirrus"


class Container(Struct, frozen=True, tag="container"):
    """A container. An empty `cmd` means the image's own command.

    `user`: as the engine takes it, or `caller`: whoever runs the dispatcher. `network`: empty for
    the job network, `none`, or a network's name.
    """

    task_type: Literal["docker", "swarm"]
    image: str
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    workdir: str = ""
    user: str = ""
    network: str = ""
    pull: Literal["missing", "always", "never"] = "missing"
    labels: dict[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    triggers: Literal["cirrus", "worker"] = "cirrus"


Activity = AutoTrigger | Process | Container


def executor_of(activity: Process | Container) -> str:
    """The executor's name, as `task_type` gives it."""
    return "process" if isinstance(activity, Process) else activity.task_type


class Rule(Struct, frozen=True):
    """Event set → activity → event set. `attempts`: 1…100 tries in all."""

    name: str
    on: str
    activity: Activity
    triggering: str = ""
    on_failure: str = ""
    attempts: Annotated[int, Meta(ge=1, le=100)] = 1
    version: int = 0


class Identity(Struct, frozen=True):
    """What makes an occurrence or a reset unique, when its sender gives an id."""

    source: str
    id: str


class Cause(Struct, frozen=True):
    """Where an occurrence comes from: the firing of a job, and how far it is from its root."""

    job: str
    fired: int
    """The `seq` of the firing."""
    root: int
    """The `seq` of the occurrence that began the chain."""
    depth: int
    stale: bool = False
    """The job succeeded after a newer generation had: its occurrences are superseded."""
    late: bool = False
    """The rule's namespace was reset under the firing's key since."""


class Post(Struct, frozen=True):
    """An occurrence as its sender gives it, before it is accepted. `key` None: not given."""

    event: str
    key: str | None = None
    data: dict[str, object] = field(default_factory=dict)
    force: bool = False
    time: UnixTime | None = None
    identity: Identity | None = None


class Standing(Struct, frozen=True):
    """The occurrence that stands for an event under a key."""

    seq: int
    forced: bool


def namespace_of(name: str) -> str:
    """The part before the first `:`; all of it, if there is none."""
    return name.partition(":")[0]


def job_id(rule: str, key: str, generation: int) -> str:
    """16 hex digits, derived: the same firing always has the same job."""
    parts = (rule, key, str(generation))
    text = "".join(f"{len(part.encode())}:{part}" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def attempt_name(instance: str, job: str, attempt: int) -> str:
    """What the engine calls an attempt: no colons, at most 63 characters."""
    return f"cirrus-{instance[:8]}-{job}-{attempt}"
