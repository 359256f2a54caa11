"""Strict JSON in: decoded once, whole and unambiguous, or refused with a code that says why."""

import re
from typing import Any, Final, TypeVar

import msgspec

from cirrus.errors import BadDocument, Refused, TooLarge

BODY_MOST: Final = 1024 * 1024
BATCH_MOST: Final = 8 * 1024 * 1024
DATA_MOST: Final = 64 * 1024
"""Of one occurrence's data, as Cirrus writes it: without blanks."""
DEPTH_MOST: Final = 32
KEYS_MOST: Final = 10_000
"""In one object."""
STRING_MOST: Final = 256 * 1024
INTEGER_MOST: Final = 2**53
"""Beyond it other programs, whose numbers are floats, would silently read another number."""

# One look at each character: nothing is given back, and a string that never ends ends the text.
STRINGS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
SQUARE: Final = bytes.maketrans(b"{}", b"[]")
NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
PLACE: Final = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
FIELD: Final = re.compile(r"field `([^`]*)`")

T = TypeVar("T")


def read_json(body: bytes | bytearray) -> object:
    """The one value that this text holds. Raises Refused."""
    if body.count(b"[") + body.count(b"{") > DEPTH_MOST:
        _check_depth(body)
    try:
        value = msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise Refused("bad_encoding", "the body is not UTF-8") from error
    except msgspec.ValidationError as error:
        raise Refused("bad_number", f"a number is out of range: {error}") from error
    except msgspec.DecodeError as error:
        raise Refused("bad_json", f"the body is not JSON: {error}") from error
    keys = _check(value, 0)
    # A colon outside of strings follows each key: a key that came twice has one too many.
    if keys != STRINGS.sub(b"", body).count(b":"):
        raise Refused("duplicate_key", "an object has the same key twice: give each key once")
    return value


def typed(value: object, kind: type[T]) -> T:
    """The value as what it must be. Raises BadDocument, which names the field."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        code, message, field = explain(error)
        raise BadDocument(code, message, field) from error


def explain(error: msgspec.ValidationError) -> tuple[str, str, str]:
    """Code, message and field of what msgspec says."""
    text = str(error)
    place = PLACE.search(text)
    field = place[1] if place else ""
    message = PLACE.sub("", text).replace("`", "")
    code = "bad_value"
    for start, named in (("Object contains unknown", "unknown"), ("Object missing", "missing")):
        if text.startswith(start) and (name := FIELD.search(text)):
            code, field = f"{named}_field", f"{field}.{name[1]}".strip(".")
            message = f"{named} field {name[1]}"
    return code, f"{field}: {message}" if field and code == "bad_value" else message, field


def check_data(data: dict[str, object], field: str = "data") -> None:
    size = len(msgspec.json.encode(data))
    if size > DATA_MOST:
        raise TooLarge(
            "data_too_large",
            f"data takes {size} bytes, of {DATA_MOST} at most: store it elsewhere, and send where",
            field,
        )


def _check_depth(body: bytes | bytearray) -> None:
    brackets = STRINGS.sub(b"", body).translate(SQUARE, NO_BRACKETS)
    # What is innermost is taken away, once for each level that is allowed. Brackets that are never
    # closed stay; so few of them are let through that the parser, which will refuse them, can.
    for _ in range(DEPTH_MOST):
        brackets = brackets.replace(b"[]", b"")
    if brackets.count(b"[") > DEPTH_MOST or b"[]" in brackets:
        raise Refused("json_depth", f"the body is nested deeper than {DEPTH_MOST} levels")


def _check(value: Any, keys: int) -> int:  # noqa: ANN401  (any JSON value)
    """The number of keys so far, this value's included."""
    kind = type(value)
    if kind is str:
        _check_string(value)
    elif kind is int:
        _check_integer(value)
    elif kind is dict:
        keys += len(value)
        if len(value) > KEYS_MOST:
            raise TooLarge("too_many_keys", f"an object has more than {KEYS_MOST} keys")
        for name, inner in value.items():
            _check_string(name)
            keys = _check(inner, keys)
    elif kind is list:
        for inner in value:
            keys = _check(inner, keys)
    return keys


def _check_string(value: str) -> None:
    if len(value) > STRING_MOST:
        raise TooLarge("string_too_long", f"a string has more than {STRING_MOST} characters")


def _check_integer(value: int) -> None:
    if not -INTEGER_MOST <= value <= INTEGER_MOST:
        raise Refused(
            "bad_number", f"a whole number is beyond ±{INTEGER_MOST}: send it as a string"
        )
