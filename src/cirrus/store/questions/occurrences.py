"""Questions about what occurred."""

from typing import Final

import msgspec

from cirrus.core.decision import Verdict
from cirrus.store.questions import Window, narrowed, raw
from cirrus.store.reader import SQL, Reader, Row
from cirrus.store.records import Occurrence, Part

_verdicts: Final = msgspec.json.Decoder(tuple[Verdict, ...])


def occurrence(reader: Reader, seq: int) -> Occurrence | None:
    row = reader.first(SQL.occurrence, {"seq": seq})
    return None if row is None else occurrence_of(row)


def newest(reader: Reader, event: str | None, key: str | None, window: Window) -> Part[Occurrence]:
    """The newest of them first."""
    return _listed(reader, SQL.occurrences_newest, event, key, window)


def oldest(reader: Reader, event: str | None, key: str | None, window: Window) -> Part[Occurrence]:
    """The oldest of them first."""
    return _listed(reader, SQL.occurrences_oldest, event, key, window)


def _listed(
    reader: Reader, sql: str, event: str | None, key: str | None, window: Window
) -> Part[Occurrence]:
    conditions = [*(["event = :event"] if event is not None else []), *key_is(key)]
    values = {"event": event, "key": key, "after": window.after, "before": window.before}
    return reader.part(narrowed(sql, *conditions), values, window.limit, occurrence_of)


def key_is(key: str | None) -> list[str]:
    """The index on keys leaves the empty one out, and is used only by who says so too."""
    if key is None:
        return []
    return ["key = :key", "key <> ''"] if key else ["key = ''"]


def occurrence_of(row: Row) -> Occurrence:
    """`row` ends with the data, or without it."""
    cells = list(row)
    cells[7] = bool(cells[7])
    cells[11] = bool(cells[11])
    cells[12] = _verdicts.decode(cells[12])
    cells.insert(15, bool(cells[12]))
    cells[16:] = [raw(data) for data in cells[16:]]
    return Occurrence(*cells)
