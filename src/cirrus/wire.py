"""Orders and Reports as bytes: msgpack of [version, [message, ...]]. Sending is the links' job."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from cirrus.core.messages import Order, Report, Run
from cirrus.errors import WireError

PROTOCOL_VERSION = 1
"""Rises when an older reader would misunderstand: not for a new field that has a default."""

LIMIT_BYTES = 16 * 1024 * 1024
"""The largest message, encoded. The inputs of a job need most of it."""

M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder()
_envelope = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_orders = msgspec.msgpack.Decoder(list[Order])
_reports = msgspec.msgpack.Decoder(list[Report])


def encode_orders(orders: Sequence[Order]) -> list[bytes]:
    """As few messages as hold them, in order. WireError when one order alone exceeds the limit."""
    return _encode(orders)


def encode_reports(reports: Sequence[Report]) -> list[bytes]:
    """As few messages as hold them, in order. WireError when one report alone exceeds the limit."""
    return _encode(reports)


def encode_run(order: Run) -> bytes:
    """One order, as its attempt's folder keeps it."""
    [data] = _encode([order])
    return data


def decode_orders(data: bytes | memoryview) -> list[Order]:
    return _decode(data, _orders)


def decode_reports(data: bytes | memoryview) -> list[Report]:
    return _decode(data, _reports)


def decode_run(data: bytes | memoryview) -> Run:
    match decode_orders(data):
        case [Run() as order]:
            return order
        case others:
            raise WireError("not_a_run", f"{len(others)} messages, and not one order to run")


def _encode(messages: Sequence[Order] | Sequence[Report]) -> list[bytes]:
    data = _encoder.encode((PROTOCOL_VERSION, messages))
    if len(data) <= LIMIT_BYTES:
        return [data]
    if len(messages) == 1:
        raise _too_large(type(messages[0]).__name__, len(data))
    middle = len(messages) // 2
    return _encode(messages[:middle]) + _encode(messages[middle:])


def _decode(data: bytes | memoryview, decoder: msgspec.msgpack.Decoder[M]) -> M:
    if len(data) > LIMIT_BYTES:
        raise _too_large("message", len(data))
    try:
        # The envelope's pass walks over everything without building it: a declared length that
        # the message does not have fails here, before anything is allocated for it.
        version, body = _envelope.decode(data)
        if version != PROTOCOL_VERSION:
            raise WireError("version", f"protocol {version}, where {PROTOCOL_VERSION} is spoken")
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:  # every error of msgspec is a ValueError
        raise WireError("malformed", str(error)) from error


def _too_large(kind: str, size: int) -> WireError:
    return WireError("too_large", f"a {kind} of {size} bytes; {LIMIT_BYTES} are the limit")
