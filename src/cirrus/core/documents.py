"""How people write definitions down, and the nouns that these documents mean.

A document is checked once, at the edge, and kept as canonical JSON in the seed's short form; so an
equal PUT is recognised whatever form it came in. Every error names the field.
"""

import re
import shlex
from difflib import get_close_matches
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from cirrus.core.inputs import Definition, DefinitionKind
from cirrus.core.model import (
    AUTO_TRIGGER,
    Activity,
    AutoTrigger,
    Container,
    Event,
    EventSet,
    Limits,
    Mount,
    Process,
    Rule,
)
from cirrus.errors import BadDocument

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}", re.ASCII)
ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}", re.ASCII)
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SPAN: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(s|m|h|d)?", re.ASCII)
SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([kmgt]?)i?b?", re.ASCII | re.IGNORECASE)
SECONDS: Final = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
MEMBERS_MOST: Final = 10_000
ENV_BYTES_MOST: Final = 64 * 1024
RESERVED: Final = "cirrus:"


T = TypeVar("T")


class EventDocument(Struct, forbid_unknown_fields=True):
    description: str = ""
    schema: dict[str, object] | bool | UnsetType = UNSET
    key: str = ""


class EventSetDocument(Struct, forbid_unknown_fields=True):
    all: list[str] | UnsetType = UNSET
    any: list[str] | UnsetType = UNSET
    at_least: int | UnsetType = UNSET
    of: list[str] | UnsetType = UNSET


class RuleDocument(Struct, forbid_unknown_fields=True, omit_defaults=True):
    on: str
    activity: "ActivityDocument"
    triggering: str | None = None
    attempts: int = 1
    on_failure: str | None = None


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


# --- at the edge --------------------------------------------------------------------------------


def check_name(name: str, field: str = "") -> str:
    """1 to 200 characters: first a letter or digit, then also . _ : @ -"""
    if not NAME.fullmatch(name):
        raise BadDocument(
            "bad_name",
            f"{clip(name)} is not a name: 1 to 200 characters, the first one of A-Z a-z 0-9,"
            " then also . _ : @ -",
            field,
        )
    if name.startswith(RESERVED):
        raise BadDocument("reserved_name", f"names beginning with {RESERVED} are reserved", field)
    return name


def check_key(key: str, field: str = "key") -> str:
    """Up to 200 characters, none of them a control character."""
    if len(key) > 200 or CONTROL.search(key):
        raise BadDocument(
            "bad_key", f"{clip(key)} is not a key: up to 200 characters, no control ones", field
        )
    return key


def parse(kind: DefinitionKind, name: str, document: object) -> Definition:
    """The definition that this document means, in canonical form. Raises BadDocument."""
    check_name(name, "name")
    match kind:
        case "event":
            canonical = _canonical_event(name, document)
        case "event_set":
            canonical = _canonical_event_set(name, document)
        case "rule":
            canonical = _canonical_rule(name, document)
    return Definition(kind, name, msgspec.json.encode(canonical, order="deterministic"))


def seed_form(document: bytes) -> object:
    """What the seed's routes show of a kept document: the short form, as it is kept."""
    return msgspec.json.decode(document)


def clip(text: str) -> str:
    """Somebody's text, safe and short enough to stand in a message."""
    return repr(text if len(text) <= 60 else text[:60] + "…")


# --- kept documents to nouns --------------------------------------------------------------------


def event_of(name: str, document: bytes) -> Event:
    doc = msgspec.json.decode(document, type=EventDocument)
    schema = b"" if doc.schema is UNSET else msgspec.json.encode(doc.schema)
    return Event(name, description=doc.description, key=doc.key, schema=schema)


def event_set_of(name: str, document: bytes, version: int) -> EventSet:
    kept = msgspec.json.decode(document, type=list[str] | EventSetDocument)
    return _event_set(name, kept, version)


def rule_of(name: str, document: bytes, version: int) -> Rule:
    kept = msgspec.json.decode(document)
    assert isinstance(kept, dict)
    return _rule(name, kept, version)


# --- events -------------------------------------------------------------------------------------


def _canonical_event(name: str, document: object) -> object:
    doc = _convert({} if document is None else document, EventDocument, name)
    if doc.key:
        check_path(doc.key, "key")
    if doc.schema is not UNSET:
        _check_schema(doc.schema)
    return document if document is not None else {}


def check_path(path: str, field: str) -> None:
    """`key`, `event`, or a dotted path below `data`: at most 200 characters, 16 steps."""
    steps = path.split(".")
    whole = path in ("key", "event")
    below = steps[0] == "data" and 2 <= len(steps) <= 16 and all(steps) and len(path) <= 200
    if not (whole or below):
        raise BadDocument(
            "bad_path", f"{clip(path)} is not a path such as data.sample, key or event", field
        )


def _check_schema(schema: object) -> None:
    from jsonschema_rs import ValidationError, meta, validator_for  # noqa: PLC0415  (rarely needed, 5 MB)

    try:
        meta.validate(schema)
        validator_for(schema)
    except (ValidationError, ValueError) as error:
        raise BadDocument(
            "bad_schema", f"not a JSON Schema: {clip(str(error))}", "schema"
        ) from error


# --- event sets ---------------------------------------------------------------------------------


def _canonical_event_set(name: str, document: object) -> object:
    kept: list[str] | EventSetDocument
    if isinstance(document, list):
        kept = _convert(document, list[str], name)
    else:
        kept = _convert(document, EventSetDocument, name)
    event_set = _event_set(name, kept, 0)
    if event_set.wants_all:
        return list(event_set.members)
    if event_set.needed == 1:
        return {"any": list(event_set.members)}
    return {"at_least": event_set.needed, "of": list(event_set.members)}


def _event_set(name: str, kept: list[str] | EventSetDocument, version: int) -> EventSet:
    members, needed = _condition(kept)
    if not members:
        raise BadDocument("empty_set", f"event set {name} has no members")
    if len(members) > MEMBERS_MOST:
        raise BadDocument("too_many_members", f"event set {name} has over {MEMBERS_MOST} members")
    for place, member in enumerate(members):
        check_name(member, f"[{place}]")
    if len(set(members)) < len(members):
        twice = next(member for member in members if members.count(member) > 1)
        raise BadDocument("duplicate_member", f"{twice} stands twice in event set {name}")
    if not 1 <= needed <= len(members):
        raise BadDocument(
            "bad_at_least", f"at_least is {needed}: give 1 to {len(members)}", "at_least"
        )
    return EventSet(name, tuple(members), needed, version)


def _condition(kept: list[str] | EventSetDocument) -> tuple[list[str], int]:
    if isinstance(kept, list):
        return kept, max(1, len(kept))
    match kept:
        case EventSetDocument(
            all=list(every), any=msgspec.UNSET, at_least=msgspec.UNSET, of=msgspec.UNSET
        ):
            return every, max(1, len(every))
        case EventSetDocument(
            all=msgspec.UNSET, any=list(some), at_least=msgspec.UNSET, of=msgspec.UNSET
        ):
            return some, 1
        case EventSetDocument(
            all=msgspec.UNSET, any=msgspec.UNSET, at_least=int(count), of=list(some)
        ):
            return some, count
    raise BadDocument(
        "bad_condition", "give exactly one of: a list, {all: …}, {any: …}, {at_least: n, of: …}"
    )


# --- rules --------------------------------------------------------------------------------------


def _canonical_rule(name: str, document: object) -> object:
    if not isinstance(document, dict):
        raise BadDocument("bad_rule", f"rule {name} is not an object")
    if isinstance(document.get("on"), str):
        long_form: dict[str, object] = document
    else:
        long_form = _from_pair(name, document)
    body = {key: value for key, value in long_form.items() if key != "on" and value is not None}
    rule = _rule(name, {long_form["on"]: body}, 0)
    return {rule.on: body}


def _from_pair(name: str, document: dict[object, object]) -> dict[str, object]:
    if len(document) != 1:
        raise BadDocument(
            "bad_rule",
            f"rule {name} needs exactly one pair {{event set: {{activity, triggering, attempts}}}},"
            " or the form {on: event set, activity: …}",
        )
    ((on, body),) = document.items()
    if not isinstance(on, str) or not isinstance(body, dict) or "on" in body:
        raise BadDocument("bad_rule", f"rule {name}: the value of {clip(str(on))} is not a rule")
    return {"on": on, **body}


def _rule(name: str, pair: dict[str, object], version: int) -> Rule:
    ((on, body),) = pair.items()
    assert isinstance(body, dict)
    doc = _convert({"on": on, **body}, RuleDocument, name)
    check_name(doc.on, "on")
    for field in ("triggering", "on_failure"):
        if target := getattr(doc, field):
            check_name(target, field)
    if not 1 <= doc.attempts <= 100:
        raise BadDocument("bad_attempts", "attempts counts all tries: 1 to 100", "attempts")
    return Rule(
        name,
        on=doc.on,
        activity=_activity(doc.activity),
        triggering=doc.triggering or "",
        on_failure=doc.on_failure or "",
        attempts=doc.attempts,
        version=version,
    )


def _activity(doc: ActivityDocument) -> Activity:
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
    cmd = _argv(doc.cmd)
    if doc.task_type == "process":
        return _process(doc, cmd)
    if (
        doc.image is UNSET
        or not doc.image
        or len(doc.image) > 500
        or re.search(r"\s|^-", doc.image)
    ):
        raise _wrong("no_image", "give the image that the container is made from", "image")
    labels = [label for label in doc.labels if label.startswith("cirrus.") or len(label) > 200]
    if labels:
        raise _wrong("bad_label", f"{clip(labels[0])}: labels of Cirrus are its own", "labels")
    return Container(
        doc.task_type,
        image=doc.image,
        cmd=cmd,
        env=_environment(doc.env),
        mounts=tuple(_mount(mount, place) for place, mount in enumerate(doc.mounts)),
        workdir=doc.workdir,
        user=str(doc.user),
        network=_network(doc.network),
        pull=doc.pull,
        labels=doc.labels,
        limits=_limits(doc),
        triggers=doc.triggers,
    )


def _given(doc: ActivityDocument) -> set[str]:
    blank = ActivityDocument()
    return {
        field
        for field in doc.__struct_fields__
        if field != "env" and getattr(doc, field) != getattr(blank, field)
    } | ({"env"} if doc.env else set())


def _process(doc: ActivityDocument, cmd: tuple[str, ...]) -> Process:
    extra = sorted(_given(doc) & set(CONTAINER_ONLY))
    if extra == ["user"] and doc.user == "caller":
        extra = []
    if extra:
        raise _wrong(
            "not_for_process", f"{extra[0]} is for containers, not for a process", extra[0]
        )
    if not cmd:
        raise _wrong("no_cmd", "a process needs a cmd", "cmd")
    return Process(
        cmd,
        env=_environment(doc.env),
        workdir=doc.workdir,
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


def _mount(given: str | MountDocument, place: int) -> Mount:
    field = f"mounts[{place}]"
    if isinstance(given, MountDocument):
        mount = Mount(given.target, given.source, given.type, given.read_only)
    else:
        source, _, rest = given.partition(":")
        target, _, mode = rest.partition(":")
        if not source or mode not in ("", "ro", "rw"):
            raise _wrong("bad_mount", f"{clip(given)} is not source:target[:ro]", field)
        kind: Literal["bind", "volume"] = "bind" if source.startswith("/") else "volume"
        mount = Mount(target, source, kind, mode == "ro")
    if not mount.target.startswith("/") or mount.target == "/":
        raise _wrong("bad_mount", f"{clip(mount.target)}: a target is an absolute path", field)
    if mount.kind == "bind" and not mount.source.startswith("/"):
        raise _wrong(
            "bad_mount", f"{clip(mount.source)}: a bind's source is an absolute path", field
        )
    if mount.kind == "volume" and not NAME.fullmatch(mount.source):
        raise _wrong("bad_mount", f"{clip(mount.source)} is not a volume's name", field)
    return mount


def _network(network: str) -> str:
    if network and (network == "host" or not NAME.fullmatch(network) or ":" in network):
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
        ("cpu", doc.cpu, 4096),
        ("cpu_reservation", cores, 4096),
        ("mem_reservation", gigabytes, 1e6),
    ):
        if not 0 <= value <= most:
            raise _wrong("out_of_range", f"{field} is {value}: give 0 to {most:g}", field)
    return Limits(
        cpu=doc.cpu,
        memory=_bytes(doc.memory),
        cpu_reservation=cores,
        memory_reservation=int(gigabytes * 10**9),
        timeout_seconds=_seconds(doc.timeout, "timeout"),
        grace_seconds=_seconds(doc.grace, "grace"),
    )


def _bytes(given: int | str) -> int:
    found = SIZE.fullmatch(str(given))
    if not found:
        raise _wrong("bad_size", f"{clip(str(given))} is not a size such as 512M or 2G", "memory")
    # Like the engine's own command line: k, m, g and t are powers of 1024.
    size = int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))
    if size > 2**50 or 0 < size < 6 * 2**20:
        raise _wrong("out_of_range", f"memory is {size} bytes: give 6M to 1024T, or 0", "memory")
    return size


def _seconds(given: float | str, field: str) -> float:
    found = SPAN.fullmatch(str(given))
    if not found:
        raise _wrong("bad_span", f"{clip(str(given))} is not a span such as 90s or 6h", field)
    seconds = float(found[1]) * SECONDS[found[2]]
    if seconds > 366 * 86400:
        raise _wrong("out_of_range", f"{field} is over a year", field)
    return seconds


def _wrong(code: str, message: str, field: str) -> BadDocument:
    return BadDocument(code, message, f"activity.{field}")


# --- typed decoding, with errors that help ------------------------------------------------------


def _convert(document: object, kind: type[T], name: str) -> T:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise BadDocument(
            "bad_document", f"{name}: {message}{_suggestion(message, path)}", path.strip("`.")
        ) from error


def _suggestion(message: str, path: str) -> str:
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if not unknown:
        return ""
    kinds: dict[str, type[Struct]] = {".activity`": ActivityDocument}
    fields = kinds.get(path, RuleDocument).__struct_fields__
    if "mounts" in path:
        return "; the fields are Type, Source, Target, ReadOnly"
    near = get_close_matches(unknown[1], fields, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""
