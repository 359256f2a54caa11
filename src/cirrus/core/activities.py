"""How people write activities down, and what these mean. Every error names the field."""

import re
import shlex
from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType

from cirrus.core.model import (
    AUTO_TRIGGER,
    Activity,
    AutoTrigger,
    Container,
    Limits,
    Mount,
    Process,
)
from cirrus.core.names import clip, is_name
from cirrus.errors import BadDocument

ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}", re.ASCII)
IMAGE: Final = re.compile(r"[^\s-]\S{0,499}")
SPAN: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(s|m|h|d)?", re.ASCII)
SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([kmgt]?)i?b?", re.ASCII | re.IGNORECASE)
SECONDS: Final = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
SPAN_MOST_SECONDS: Final = 366 * 86400
CORES_MOST: Final = 4096
GIGABYTE: Final = 10**9
GIGABYTES_MOST: Final = 10**6
MEMORY_LEAST: Final = 6 * 2**20
"""Docker's own limit: less than 6 MB holds no process."""
MEMORY_MOST: Final = 2**50
ENV_BYTES_MOST: Final = 64 * 1024
LABEL_MOST: Final = 200


class MountDocument(Struct, forbid_unknown_fields=True, rename="pascal"):
    """The engine's own object form."""

    target: str
    source: str = ""
    type: Literal["bind", "volume", "tmpfs"] = "volume"
    read_only: bool = False


class ActivityDocument(Struct, forbid_unknown_fields=True):
    task_type: Literal["docker", "swarm", "process"] | UnsetType = UNSET
    image: str | UnsetType = UNSET
    cmd: str | list[str] = ""
    env: dict[str, str | int | float | bool] | list[str] = {}
    mounts: list[str | MountDocument] = []
    workdir: str = ""
    user: str | int = ""
    network: str = ""
    cpu: float = 0.0
    memory: int | str = 0
    cpu_reservation: float | UnsetType = UNSET
    mem_reservation: float | UnsetType = UNSET
    timeout: int | float | str = 0
    grace: int | float | str = 10
    pull: Literal["missing", "always", "never"] = "missing"
    triggers: Literal["cirrus", "worker"] = "cirrus"
    labels: dict[str, str] = {}


CONTAINER_ONLY: Final = ("image", "mounts", "user", "network", "pull", "labels", "cpu", "memory")


def activity_of(doc: ActivityDocument) -> Activity:
    """Raises BadDocument."""
    if doc.cmd == AUTO_TRIGGER:
        if _given(doc) - {"cmd"}:
            raise _wrong(
                "bad_activity", f"{AUTO_TRIGGER} runs nothing: it takes no other field", "cmd"
            )
        return AutoTrigger()
    if doc.task_type is UNSET:
        raise _wrong(
            "no_task_type", f"give docker, swarm or process; or cmd: {AUTO_TRIGGER}", "task_type"
        )
    if doc.task_type == "process":
        return _process(doc)
    return _container(doc, doc.task_type)


def _given(doc: ActivityDocument) -> set[str]:
    """The fields that do not say what leaving them out says."""
    blank = ActivityDocument()
    said = {
        field
        for field in doc.__struct_fields__
        if field != "env" and getattr(doc, field) != getattr(blank, field)
    }
    return said | {"env"} if doc.env else said


def _process(doc: ActivityDocument) -> Process:
    extra = sorted(_given(doc) & set(CONTAINER_ONLY))
    if extra == ["user"] and doc.user == "caller":
        extra = []
    if extra:
        raise _wrong(
            "not_for_process", f"{extra[0]} is for containers, not for a process", extra[0]
        )
    cmd = _argv(doc.cmd)
    if not cmd:
        raise _wrong("no_cmd", "a process needs a cmd", "cmd")
    return Process(
        cmd,
        env=_environment(doc.env),
        workdir=doc.workdir,
        limits=_limits(doc),
        triggers=doc.triggers,
    )


def _container(doc: ActivityDocument, task_type: Literal["docker", "swarm"]) -> Container:
    image = "" if doc.image is UNSET else doc.image
    if not IMAGE.fullmatch(image):
        raise _wrong("no_image", "give the image that the container is made from", "image")
    for label in doc.labels:
        if label.startswith("cirrus.") or len(label) > LABEL_MOST:
            raise _wrong("bad_label", f"{clip(label)}: labels of Cirrus are its own", "labels")
    return Container(
        task_type,
        image=image,
        cmd=_argv(doc.cmd),
        env=_environment(doc.env),
        mounts=tuple(_mount(mount, f"mounts[{place}]") for place, mount in enumerate(doc.mounts)),
        workdir=doc.workdir,
        user=str(doc.user),
        network=_network(doc.network),
        pull=doc.pull,
        labels=doc.labels,
        limits=_limits(doc),
        triggers=doc.triggers,
    )


def _argv(cmd: str | list[str]) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(cmd)) if isinstance(cmd, str) else tuple(cmd)
    except ValueError as error:
        raise _wrong("bad_cmd", f"cmd cannot be split like shell words: {error}", "cmd") from error
    if any("\0" in word for word in argv):
        raise _wrong("bad_cmd", "cmd holds a NUL character", "cmd")
    return argv


def _environment(given: dict[str, str | int | float | bool] | list[str]) -> dict[str, str]:
    if isinstance(given, list):
        pairs: list[tuple[str, str | int | float | bool]] = [
            (name, value) for name, _, value in (entry.partition("=") for entry in given)
        ]
    else:
        pairs = list(given.items())
    env = {name: _text(value) for name, value in pairs}
    for name, value in env.items():
        if not ENV_NAME.fullmatch(name) or "\0" in value:
            raise _wrong("bad_env", f"{clip(name)} is not a variable's name with a value", "env")
        if name.startswith("CIRRUS_"):
            raise _wrong("bad_env", f"{name}: variables named CIRRUS_… are set by Cirrus", "env")
    if sum(len(name) + len(value.encode()) for name, value in env.items()) > ENV_BYTES_MOST:
        raise _wrong("env_too_large", f"env holds over {ENV_BYTES_MOST} bytes", "env")
    return env


def _text(value: str | float | bool) -> str:  # noqa: FBT001  (a YAML value of any plain type)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mount(given: str | MountDocument, field: str) -> Mount:
    mount = _mount_in_words(given, field) if isinstance(given, str) else _mount_object(given)
    if not mount.target.startswith("/") or mount.target == "/":
        raise _wrong("bad_mount", f"{clip(mount.target)}: a target is an absolute path", field)
    if mount.kind == "bind" and not mount.source.startswith("/"):
        raise _wrong(
            "bad_mount", f"{clip(mount.source)}: a bind's source is an absolute path", field
        )
    if mount.kind == "volume" and not is_name(mount.source):
        raise _wrong("bad_mount", f"{clip(mount.source)} is not a volume's name", field)
    return mount


def _mount_object(given: MountDocument) -> Mount:
    return Mount(given.target, given.source, given.type, given.read_only)


def _mount_in_words(given: str, field: str) -> Mount:
    source, _, rest = given.partition(":")
    target, _, mode = rest.partition(":")
    if not source or mode not in ("", "ro", "rw"):
        raise _wrong("bad_mount", f"{clip(given)} is not source:target[:ro]", field)
    return Mount(target, source, "bind" if source.startswith("/") else "volume", mode == "ro")


def _network(network: str) -> str:
    if network and (network == "host" or not is_name(network) or ":" in network):
        raise _wrong(
            "bad_network", f"{clip(network)}: give none, or the name of a network", "network"
        )
    return network


def _limits(doc: ActivityDocument) -> Limits:
    # As in the seed, a job on Swarm asks for one core and one gigabyte unless it says otherwise.
    usual = 1.0 if doc.task_type == "swarm" else 0.0
    cores = usual if doc.cpu_reservation is UNSET else doc.cpu_reservation
    gigabytes = usual if doc.mem_reservation is UNSET else doc.mem_reservation
    for field, value, most in (
        ("cpu", doc.cpu, CORES_MOST),
        ("cpu_reservation", cores, CORES_MOST),
        ("mem_reservation", gigabytes, GIGABYTES_MOST),
    ):
        if not 0 <= value <= most:
            raise _wrong("out_of_range", f"{field} is {value}: give 0 to {most:g}", field)
    return Limits(
        cpu=doc.cpu,
        memory=_bytes(doc.memory),
        cpu_reservation=cores,
        memory_reservation=int(gigabytes * GIGABYTE),
        timeout_seconds=_seconds(doc.timeout, "timeout"),
        grace_seconds=_seconds(doc.grace, "grace"),
    )


def _bytes(given: int | str) -> int:
    found = SIZE.fullmatch(str(given))
    if not found:
        raise _wrong("bad_size", f"{clip(str(given))} is not a size such as 512M or 2G", "memory")
    # Like the engine's own command line: k, m, g and t are powers of 1024.
    size = int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))
    if size > MEMORY_MOST or 0 < size < MEMORY_LEAST:
        raise _wrong("out_of_range", f"memory is {size} bytes: give 6M to 1024T, or 0", "memory")
    return size


def _seconds(given: float | str, field: str) -> float:
    found = SPAN.fullmatch(str(given))
    if not found:
        raise _wrong("bad_span", f"{clip(str(given))} is not a span such as 90s or 6h", field)
    seconds = float(found[1]) * SECONDS[found[2]]
    if seconds > SPAN_MOST_SECONDS:
        raise _wrong("out_of_range", f"{field} is over a year", field)
    return seconds


def _wrong(code: str, message: str, field: str) -> BadDocument:
    return BadDocument(code, message, f"activity.{field}")
