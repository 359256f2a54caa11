"""How people write definitions down, and the nouns that these documents mean.

A document is checked once, at the edge, and kept as canonical JSON in the seed's short form; so an
equal PUT is recognised whatever form it came in. Every error names the field. Activities are
activities.py's job.
"""

import re
from difflib import get_close_matches
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from cirrus.core.activities import ActivityDocument, MountDocument, activity_of
from cirrus.core.inputs import Definition, DefinitionKind
from cirrus.core.model import Event, EventSet, Rule
from cirrus.core.names import clip, is_key, is_name
from cirrus.core.schemas import check_schema
from cirrus.errors import BadDocument

MEMBERS_MOST: Final = 10_000
ATTEMPTS_MOST: Final = 100
PATH_MOST: Final = 200
STEPS_LEAST: Final = 2
STEPS_MOST: Final = 16
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
    activity: ActivityDocument
    triggering: str | None = None
    attempts: int = 1
    on_failure: str | None = None


# --- at the edge --------------------------------------------------------------------------------


def check_name(name: str, field: str = "") -> str:
    """Return a name as it is; raise BadDocument for what is none, or is reserved."""
    if not is_name(name):
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
    """Return a key as it is; raise BadDocument for what is none."""
    if not is_key(key):
        raise BadDocument(
            "bad_key", f"{clip(key)} is not a key: up to 200 characters, no control ones", field
        )
    return key


def parse(kind: DefinitionKind, name: str, document: object) -> Definition:
    """The definition that this document means, in canonical form. Raises BadDocument."""
    check_name(name, "name")
    try:
        canonical = _canonical(kind, name, document)
        return Definition(kind, name, msgspec.json.encode(canonical, order="deterministic"))
    except UnicodeEncodeError as error:
        raise BadDocument(
            "bad_text", f"{name}: a text in it holds half of a surrogate pair"
        ) from error


def _canonical(kind: DefinitionKind, name: str, document: object) -> object:
    match kind:
        case "event":
            return _canonical_event(name, document)
        case "event_set":
            return _canonical_event_set(name, document)
        case "rule":
            return _canonical_rule(name, document)


def seed_form(document: bytes) -> object:
    """What the seed's routes show of a kept document: the short form, as it is kept."""
    return msgspec.json.decode(document)


# --- kept documents to nouns --------------------------------------------------------------------


def event_of(name: str, document: bytes) -> Event:
    doc = msgspec.json.decode(document, type=EventDocument)
    schema = b"" if doc.schema is UNSET else msgspec.json.encode(doc.schema)
    return Event(name, description=doc.description, key=doc.key, schema=schema)


def event_set_of(name: str, document: bytes, version: int) -> EventSet:
    kept = msgspec.json.decode(document, type=list[str] | EventSetDocument)
    return _event_set(name, kept, version)


def rule_of(name: str, document: bytes, version: int) -> Rule:
    kept = msgspec.json.decode(document, type=dict[str, dict[str, object]])
    return _rule(name, kept, version)


# --- events -------------------------------------------------------------------------------------


def _canonical_event(name: str, document: object) -> object:
    given = {} if document is None else document
    doc = _convert(given, EventDocument, name)
    if doc.key:
        check_path(doc.key, "key")
    if doc.schema is not UNSET:
        check_schema(doc.schema)
    return given


def check_path(path: str, field: str) -> None:
    """`key`, `event`, or a dotted path below `data`: at most 200 characters, 16 steps."""
    first, *below = path.split(".")
    whole = path in ("key", "event")
    inside = first == "data" and STEPS_LEAST <= 1 + len(below) <= STEPS_MOST and all(below)
    if not whole and not (inside and len(path) <= PATH_MOST):
        raise BadDocument(
            "bad_path", f"{clip(path)} is not a path such as data.sample, key or event", field
        )


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
    seen: set[str] = set()
    for place, member in enumerate(members):
        check_name(member, f"[{place}]")
        if member in seen:
            raise BadDocument("duplicate_member", f"{member} stands twice in event set {name}")
        seen.add(member)
    if not 1 <= needed <= len(members):
        raise BadDocument(
            "bad_at_least", f"at_least is {needed}: give 1 to {len(members)}", "at_least"
        )
    return EventSet(name, tuple(members), needed, version)


def _condition(kept: list[str] | EventSetDocument) -> tuple[list[str], int]:
    """The members, and how many of them are needed."""
    if isinstance(kept, list):
        return kept, max(1, len(kept))
    given = {field for field in kept.__struct_fields__ if getattr(kept, field) is not UNSET}
    if given == {"all"} and kept.all is not UNSET:
        return kept.all, max(1, len(kept.all))
    if given == {"any"} and kept.any is not UNSET:
        return kept.any, 1
    if given == {"at_least", "of"} and kept.at_least is not UNSET and kept.of is not UNSET:
        return kept.of, kept.at_least
    raise BadDocument(
        "bad_condition", "give exactly one of: a list, {all: …}, {any: …}, {at_least: n, of: …}"
    )


# --- rules --------------------------------------------------------------------------------------


def _canonical_rule(name: str, document: object) -> object:
    on, given = _pair(name, document)
    body = {field: value for field, value in given.items() if value is not None}
    _rule(name, {on: body}, 0)
    return {on: body}


def _pair(name: str, document: object) -> tuple[str, dict[str, object]]:
    """The event set and what the rule does, from the long form or from the seed's."""
    if not isinstance(document, dict) or not all(isinstance(field, str) for field in document):
        raise BadDocument("bad_rule", f"rule {name} is not an object")
    if isinstance(on := document.get("on"), str):
        return on, {field: value for field, value in document.items() if field != "on"}
    if len(document) != 1:
        raise BadDocument(
            "bad_rule",
            f"rule {name} needs exactly one pair {{event set: {{activity, triggering, attempts}}}},"
            " or the form {on: event set, activity: …}",
        )
    ((on, body),) = document.items()
    if not isinstance(body, dict) or "on" in body:
        raise BadDocument("bad_rule", f"rule {name}: the value of {clip(on)} is not a rule")
    return on, body


def _rule(name: str, pair: dict[str, dict[str, object]], version: int) -> Rule:
    ((on, body),) = pair.items()
    doc = _convert({**body, "on": on}, RuleDocument, name)
    check_name(doc.on, "on")
    for field, target in (("triggering", doc.triggering), ("on_failure", doc.on_failure)):
        if target:
            check_name(target, field)
    if not 1 <= doc.attempts <= ATTEMPTS_MOST:
        raise BadDocument(
            "bad_attempts", f"attempts counts all tries: 1 to {ATTEMPTS_MOST}", "attempts"
        )
    return Rule(
        name,
        on=doc.on,
        activity=activity_of(doc.activity),
        triggering=doc.triggering or "",
        on_failure=doc.on_failure or "",
        attempts=doc.attempts,
        version=version,
    )


# --- typed decoding, with errors that help ------------------------------------------------------


def _convert(document: object, kind: type[T], name: str) -> T:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        place = path.strip("`.")
        hint = _suggestion(message, _fields(kind, place))
        raise BadDocument("bad_document", f"{name}: {message}{hint}", place) from error


def _fields(kind: type[object], place: str) -> tuple[str, ...]:
    """What may stand at this place of such a document."""
    if place.startswith("activity.mounts"):
        return MountDocument.__struct_encode_fields__
    if place == "activity":
        return ActivityDocument.__struct_fields__
    return kind.__struct_fields__ if issubclass(kind, Struct) else ()


def _suggestion(message: str, fields: tuple[str, ...]) -> str:
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if not unknown:
        return ""
    near = get_close_matches(unknown[1], fields, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; the fields are {', '.join(fields)}"
