"""Occurrences as clients send them, and as the engine takes them."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from cirrus.coordinator.http.body import check_data
from cirrus.coordinator.http.message import refused
from cirrus.core.decision import Answer, Occurrence, Verdict
from cirrus.core.documents import check_key, check_name
from cirrus.core.model import Identity, Post
from cirrus.errors import BadDocument, Refused

TIME_MOST: Final = 253402300799
"""The end of the year 9999."""

Time = Annotated[float, Meta(ge=0, le=TIME_MOST)]

# What the OpenAPI document says of them; documents.py checks it, with better words.
NAME: Final[dict[str, Any]] = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}$"}
KEY: Final[dict[str, Any]] = {"pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]{0,200}$"}
ID: Final[dict[str, Any]] = {"pattern": KEY["pattern"].replace("{0,", "{1,")}
Name = Annotated[str, Meta(extra_json_schema=NAME)]
Key = Annotated[str, Meta(extra_json_schema=KEY)]
Id = Annotated[str, Meta(extra_json_schema=ID)]


class Sent(Struct, forbid_unknown_fields=True):
    """An occurrence. With `id` (and `source`) it may be sent again: it is accepted once.

    `key` is what it is about, if the event does not say where in its data that stands; `time` when
    it happened, in seconds since 1970.
    """

    event: Name
    key: Key | None = None
    data: dict[str, object] = {}
    force: bool = False
    time: Time | None = None
    source: Key | None = None
    id: Id | None = None


class SeedSent(Struct, forbid_unknown_fields=True):
    """What the seed's clients send: `force` as a string too."""

    action: object = ""
    force: bool | Literal["true", "false"] = False
    key: str | None = None
    data: dict[str, object] = {}
    source: str | None = None
    id: str | None = None


class Accepted(Struct, frozen=True):
    """`duplicate`: it had been accepted before, as this `seq`; nothing was changed now."""

    seq: int
    event: str
    key: str
    duplicate: bool
    verdicts: tuple[Verdict, ...]


def path_name(name: str) -> str:
    """A name that stands in the path. Raises Refused."""
    try:
        return check_name(name, "name")
    except BadDocument as error:
        raise Refused(error.code, error.message, error.field) from error


def path_key(key: str) -> str:
    """A key that stands in the path. Raises Refused."""
    try:
        return check_key(key)
    except BadDocument as error:
        raise Refused(error.code, error.message, error.field) from error


def post_of(event: str, sent: Sent | SeedSent, field: str = "") -> Post:
    """Checked, but for what only the definitions can tell. `field`: where it stands in the body."""
    check_name(event, f"{field}event")
    if sent.key is not None:
        check_key(sent.key, f"{field}key")
    if sent.data:
        check_data(sent.data, f"{field}data")
    return Post(
        event,
        key=sent.key,
        data=sent.data,
        force=sent.force is True or sent.force == "true",
        time=sent.time if isinstance(sent, Sent) else None,
        identity=None if sent.id is sent.source is None else _identity(sent.source, sent.id, field),
    )


def _identity(source: str | None, id: str | None, field: str) -> Identity:
    if not id:
        raise refused(422, "no_id", "a source needs an id, unique within it", f"{field}id")
    return Identity(check_key(source or "", f"{field}source"), check_key(id, f"{field}id"))


def identity_of(source: str | None, id: str | None) -> Identity | None:
    return None if source is id is None else _identity(source, id, "")


def occurrences(answers: Sequence[Answer]) -> list[Occurrence]:
    """What the engine answers to a post is occurrences, one for each."""
    found = [one for one in answers if isinstance(one, Occurrence)]
    assert len(found) == len(answers), answers
    return found
