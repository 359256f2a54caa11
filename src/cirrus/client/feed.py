"""The change feed: server-sent events as values, over one connection after another."""

import time
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from cirrus.client.answers import Definition, Firing, Moment, OccurrenceRecord, Reset
from cirrus.client.http import Connection, Patience
from cirrus.errors import Unavailable

QUIET_SECONDS: Final = 60.0
"""The coordinator says something at least this often, even when nothing happens."""


class Resync(Struct, frozen=True):
    """Some of the history was left out up to here: read anew what matters."""

    seq: int


Record = OccurrenceRecord | Firing | Moment | Definition | Reset | Resync


class Change(Struct, frozen=True):
    """One moment of the history, from the feed."""

    seq: int
    kind: str
    record: Record


_KINDS: Final[dict[str, type[Record]]] = {
    "occurrence": OccurrenceRecord,
    "firing": Firing,
    "move": Moment,
    "note": Moment,
    "pause": Moment,
    "definition": Definition,
    "reset": Reset,
    "resync": Resync,
}


def changes(lines: Iterable[str]) -> Iterator[Change | None]:
    """The changes of a feed from its lines; None for a sign of life, and for kinds yet unknown."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif line:  # a comment
            yield None
        else:
            yield _change(fields) if "data" in fields else None
            fields.clear()


def _change(fields: dict[str, str]) -> Change | None:
    kind = fields.get("event", "")
    if kind not in _KINDS:
        return None
    record = msgspec.json.decode(fields["data"], type=_KINDS[kind])
    return Change(int(fields["id"]), kind, record)


def feed(http: Connection, after: int, ends: float | None) -> Iterator[Change]:
    """Every change beyond this `seq`. Raises TimeoutError at `ends`, by time.monotonic()."""
    position = after
    patience = Patience(http.patience_seconds)
    while True:
        try:
            for change in _connected(http, position, ends):
                patience.renew()
                if change is not None:
                    position = change.seq
                    yield change
        except Unavailable as error:
            problem = error
        else:
            problem = Unavailable("the coordinator ended the feed")
        _check_time(ends)
        patience.wait_or_raise(problem)


def _connected(http: Connection, after: int, ends: float | None) -> Iterator[Change | None]:
    """The changes that come over one connection; None for a sign of life."""
    left = QUIET_SECONDS if ends is None else max(0.01, ends - time.monotonic())
    quiet = min(left, QUIET_SECONDS)
    with http.stream("/v1/feed", query={"after": after}, quiet_seconds=quiet) as response:
        for change in changes(response.iter_lines()):
            _check_time(ends)
            yield change


def _check_time(ends: float | None) -> None:
    if ends is not None and time.monotonic() >= ends:
        raise TimeoutError
