"""What Cirrus asks an engine for, field by field, and whose it is. Pure: it looks at no machine.

Nothing of an activity is ever merged into a request: what has no line here cannot be asked for.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from cirrus.core.messages import Run
from cirrus.core.model import Container, Limits, Mount, attempt_name
from cirrus.errors import StartRefused

JOB_DIRECTORY = "/cirrus"
JOB_NETWORK = "cirrus"
NETWORK_LABELS = {"cirrus.network": "1"}
OWN = "cirrus."
"""Labels that begin so are Cirrus's."""

LOG_OPTIONS = {"max-size": "16m", "max-file": "2"}
PROCESSES = 4096
"""A fork bomb ends here."""

# The seed's own reservations on Swarm, where an activity gives none: one core, one gigabyte.
SWARM_CORES = 1.0
SWARM_MEMORY = 10**9

Request = dict[str, object]


class Ground(Struct, frozen=True):
    """What an activity found on the machine: its mounts, checked; who runs it; where."""

    mounts: tuple[Mount, ...]
    user: str
    image: str = ""
    node: str = ""


class Owner(Struct, frozen=True):
    """Whose attempts they are. What does not carry all three labels is never touched."""

    instance: str
    dispatcher: str
    executor: str
    """For a service's containers carry its labels too."""

    def marks(self) -> dict[str, str]:
        return {f"{OWN}{name}": text for name, text in asdict(self).items()}

    def owns(self, labels: Mapping[str, str]) -> bool:
        return self.marks().items() <= labels.items()

    def filters(self, **more: list[str]) -> str:
        """A list request's `filters`: only what is ours."""
        marks = [f"{label}={value}" for label, value in self.marks().items()]
        return msgspec.json.encode({"label": marks, **more}).decode()

    def name(self, labels: Mapping[str, str]) -> str:
        """The attempt's name from its labels, whatever somebody renamed it to. Empty: not one."""
        job, attempt = labels.get("cirrus.job", ""), labels.get("cirrus.attempt", "")
        known = self.owns(labels) and job and attempt.isdecimal()
        return attempt_name(self.instance, job, int(attempt)) if known else ""


def labels(order: Run, owner: Owner) -> dict[str, str]:
    activity = _container(order)
    return {label: text for label, text in activity.labels.items() if not label.startswith(OWN)} | {
        **owner.marks(),
        "cirrus.job": order.job,
        "cirrus.attempt": str(order.attempt),
        "cirrus.rule": order.rule,
        "cirrus.key": order.key,
        "cirrus.spec": _spec(order),
    }


def check_same(order: Run, owner: Owner, found: Mapping[str, str]) -> None:
    """StartRefused unless what has the order's name is this attempt of this activity, and ours."""
    for label, text in labels(order, owner).items():
        if label.startswith(OWN) and found.get(label) != text:
            raise StartRefused(
                order.name, f"something else has this name: {label} is {found.get(label)!r} there"
            )


def container(order: Run, folder: Path, owner: Owner, ground: Ground) -> Request:
    """The body of `POST /containers/create`."""
    activity = _container(order)
    limits = activity.limits
    return {
        "Image": activity.image,
        "Cmd": list(activity.cmd) or None,
        "Env": _environment(order),
        "WorkingDir": activity.workdir,
        "User": ground.user,
        "Labels": labels(order, owner),
        "HostConfig": {
            "Mounts": _mounts(folder, ground.mounts),
            "NetworkMode": activity.network or JOB_NETWORK,
            "NanoCpus": _nano(limits.cpu),
            "Memory": limits.memory,
            "MemorySwap": limits.memory,  # memory and swap together: so no swap
            "MemoryReservation": limits.memory_reservation,
            "PidsLimit": PROCESSES,
            "SecurityOpt": ["no-new-privileges"],
            "Init": True,  # reaps zombies, and passes TERM on to what would ignore it as pid 1
            "LogConfig": {"Type": "local", "Config": LOG_OPTIONS},
            # Only what never ran is ever started, and what ended stays until its end is recorded.
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
        },
    }


def service(order: Run, folder: Path, owner: Owner, ground: Ground) -> Request:
    """The body of `POST /services/create`: one task, tried once, on the node of the folder."""
    activity = _container(order)
    marks = labels(order, owner)
    return {
        "Name": order.name,
        "Labels": marks,
        "Mode": {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": ground.image,
                "Args": list(activity.cmd) or None,
                "Env": _environment(order),
                "Dir": activity.workdir,
                "User": ground.user,
                "Labels": marks,
                "Mounts": _mounts(folder, ground.mounts),
                "Init": True,
                "StopGracePeriod": _nano(activity.limits.grace_seconds),
                "Privileges": {"NoNewPrivileges": True},  # engines before API 1.46 ignore it
            },
            "Networks": [{"Target": activity.network}] if activity.network else [],
            "Placement": {"Constraints": [f"node.id=={ground.node}"]},
            "Resources": _resources(activity.limits),
            "RestartPolicy": {"Condition": "none", "MaxAttempts": 0},
            "LogDriver": {"Name": "local", "Options": LOG_OPTIONS},
        },
    }


def job_network() -> Request:
    """The body of `POST /networks/create`: a bridge whose containers do not reach each other."""
    return {
        "Name": JOB_NETWORK,
        "Driver": "bridge",
        "CheckDuplicate": True,
        "Labels": NETWORK_LABELS,
        "Options": {
            "com.docker.network.bridge.enable_icc": "false",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
        },
    }


def _container(order: Run) -> Container:
    assert isinstance(order.activity, Container), order
    return order.activity


def _spec(order: Run) -> str:
    # Not over the environment that Cirrus adds: a token may be a new one when an order is repeated.
    text = msgspec.json.encode((order.name, order.activity), order="deterministic")
    return hashlib.sha256(text).hexdigest()[:16]


def _environment(order: Run) -> list[str]:
    given = _container(order).env | order.environment | {"CIRRUS_DIR": JOB_DIRECTORY}
    return [f"{name}={value}" for name, value in given.items()]


def _mounts(folder: Path, mounts: Sequence[Mount]) -> list[Request]:
    own = Mount(target=JOB_DIRECTORY, source=str(folder.absolute() / "io"))
    return [_mount(mount) for mount in (own, *mounts)]


def _mount(mount: Mount) -> Request:
    source = {} if mount.kind == "tmpfs" else {"Source": mount.source}
    return {
        "Type": mount.kind,
        **source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }


def _resources(limits: Limits) -> Request:
    return {
        "Limits": {
            "NanoCPUs": _nano(limits.cpu),
            "MemoryBytes": limits.memory,
            "Pids": PROCESSES,
        },
        "Reservations": {
            "NanoCPUs": _nano(limits.cpu_reservation or SWARM_CORES),
            "MemoryBytes": limits.memory_reservation or SWARM_MEMORY,
        },
    }


def _nano(number: float) -> int:
    """Cores and seconds, as engines count them."""
    return round(number * 1e9)
