"""Questions about events, event sets and rules as they are defined."""

from collections.abc import Sequence

from cirrus.core.inputs import DefinitionKind
from cirrus.store.questions import narrowed, raw
from cirrus.store.reader import SQL, Reader, Row
from cirrus.store.records import Definition, Part


def definition(reader: Reader, kind: DefinitionKind, name: str) -> Definition | None:
    """As it is now; None if there is none, or it is deleted."""
    row = reader.first(SQL.definition, {"kind": kind, "name": name})
    return None if row is None or row[-1] is None else definition_of(row)


def definition_version(
    reader: Reader, kind: DefinitionKind, name: str, version: int
) -> Definition | None:
    """One version, which may be the one that deleted it."""
    values = {"kind": kind, "name": name, "version": version}
    row = reader.first(SQL.definition_version, values)
    return None if row is None else definition_of(row)


def definitions(
    reader: Reader, kind: DefinitionKind | None, after: tuple[str, str], limit: int
) -> Part[Definition]:
    """In the order of kind and name, beyond this pair."""
    sql = narrowed(SQL.definitions, *(["kind = :only"] if kind else []))
    values = {"kind": after[0], "name": after[1], "only": kind}
    return reader.part(sql, values, limit, definition_of)


def names(reader: Reader, kind: DefinitionKind) -> Sequence[str]:
    return [name for (name,) in reader.rows(SQL.definition_names, {"kind": kind})]


def paused_rules(reader: Reader, limit: int) -> Sequence[str]:
    return [rule for (rule,) in reader.rows(SQL.paused_rules, {"limit": limit})]


def definition_of(row: Row) -> Definition:
    cells = [*row[:5], raw(row[5])]
    return Definition(*cells)
