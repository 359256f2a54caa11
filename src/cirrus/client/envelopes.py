"""What a request holds, and the envelopes that answers come in."""

import os
import time
import uuid
from collections.abc import Mapping

from msgspec import Raw, Struct

from cirrus.client.answers import Applied, Dispatcher
from cirrus.core.decision import Occurrence
from cirrus.core.model import UnixTime


class Trigger(Struct, frozen=True, omit_defaults=True):
    """An occurrence to be sent. Without an id it gets a new one: a UUID of version 7."""

    event: str
    key: str | None = None
    data: Mapping[str, object] = {}
    force: bool = False
    source: str = ""
    id: str = ""
    time: UnixTime | None = None


class Page(Struct):
    """`next` is where the following page begins; None on the last one."""

    items: Raw
    next: str | int | None = None


class AllAccepted(Struct):
    occurrences: tuple[Occurrence, ...]


class AllApplied(Struct):
    definitions: tuple[Applied, ...]


class AllDispatchers(Struct):
    items: tuple[Dispatcher, ...]


class Cancelled(Struct):
    changed: bool


class Retried(Struct):
    job: str


def new_id() -> str:
    """A UUID of version 7: unique, and in the order of time."""
    milliseconds = time.time_ns() // 1_000_000
    chance = int.from_bytes(os.urandom(10))
    low = 0b10 << 62 | chance & (1 << 62) - 1
    return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | (chance >> 68) << 64 | low))
