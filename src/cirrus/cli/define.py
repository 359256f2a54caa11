"""`apply` and `check`: definitions from files to the coordinator, or only looked at."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from cirrus.cli.files import MAPS, Reading, Written, read
from cirrus.cli.output import Output, colour, common, dim, printable
from cirrus.core import documents, graph
from cirrus.core.inputs import DefinitionKind
from cirrus.errors import BadDocument

if TYPE_CHECKING:
    from cirrus.client import Client  # `check` needs no HTTP

TITLES: Final = {kind: title for title, kind in MAPS.items()}
PATHS: Final = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)


class Change(msgspec.Struct, frozen=True):
    """What a definition of the files becomes, or would become."""

    kind: DefinitionKind
    name: str
    change: str
    """`new`, `changed` or `unchanged`."""
    version: int


@click.command()
@PATHS
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@common
@click.pass_obj
def apply(output: Output, paths: Sequence[Path], *, dry_run: bool) -> None:
    """Register the definitions in files or folders, all or nothing.

    A file is YAML or JSON with the maps `events`, `event_sets` and `rules`; a folder means all
    its files. What is there already and equal is left as it is.
    """
    written = _sound(read(paths))
    with output.client(patience_seconds=5) as client:
        if dry_run:
            before = _before(client, {one.definition.kind for one in written})
            changes = [_change(one, before) for one in written]
        else:
            before, changes = {}, list(_apply(client, written))
    if output.json:
        output.document({"dry_run": dry_run, "items": changes})
        return
    for one, change in zip(written, changes, strict=True):
        if change.change != "unchanged":
            click.echo(f"{colour(change.change)} {change.kind} {change.name}")
            _show_difference(before.get((change.kind, change.name)), one)
    changed = sum(change.change != "unchanged" for change in changes)
    verb = "would change" if dry_run else "changed"
    click.echo(f"{changed} of {len(changes)} {verb}")


@click.command()
@PATHS
@common
@click.pass_context
def check(ctx: click.Context, paths: Sequence[Path]) -> None:
    """Look for mistakes in files of definitions, without a coordinator.

    Names that nothing defines and documents that cannot be understood are errors (exit code 1);
    cycles, sets that nothing can fill and what nobody uses are only named.
    """
    output = ctx.ensure_object(Output)
    reading = read(paths)
    findings = [_Found(one.where, "error", one.code, one.message) for one in reading.problems]
    findings += _findings(reading)
    errors = sum(found.severity == "error" for found in findings)
    if output.json:
        output.document({"definitions": len(reading.definitions), "findings": findings})
    else:
        for found in findings:
            place = f"{dim(found.where)}: " if found.where else ""
            click.echo(f"{place}{colour(found.severity)}: {printable(found.message)}")
        click.echo(f"{len(reading.definitions)} definitions, {errors} errors")
    ctx.exit(1 if errors else 0)


# --- apply --------------------------------------------------------------------------------------


def _sound(reading: Reading) -> list[Written]:
    """What was read, when all of it can be understood."""
    if reading.problems:
        first, more = reading.problems[0], len(reading.problems) - 1
        rest = f" ({more} more problems: see `cirrus check`)" if more else ""
        raise BadDocument(first.code, f"{first.where}: {first.message}{rest}")
    return list(reading.definitions.values())


def _apply(client: "Client", written: Iterable[Written]) -> Iterator[Change]:
    maps: dict[str, dict[str, object]] = {title: {} for title in MAPS}
    for one in written:
        maps[TITLES[one.definition.kind]][one.definition.name] = one.document
    applied = client.apply(
        events=maps["events"], event_sets=maps["event_sets"], rules=maps["rules"]
    )
    became = {(each.kind, each.name): each for each in applied}
    for one in written:
        each = became[one.definition.kind, one.definition.name]
        word = "unchanged" if not each.changed else "new" if each.version == 1 else "changed"
        yield Change(each.kind, each.name, word, each.version)


Documents = dict[tuple[DefinitionKind, str], tuple[int, object]]
"""By kind and name: the version, and the document."""


def _before(client: "Client", kinds: Iterable[DefinitionKind]) -> Documents:
    return {
        (kind, each.name): (each.version, each.document)
        for kind in kinds
        for each in client.definitions(kind)
    }


def _change(one: Written, before: Documents) -> Change:
    kind, name = one.definition.kind, one.definition.name
    version, document = before.get((kind, name), (0, None))
    if not version:
        return Change(kind, name, "new", 1)
    if document == msgspec.json.decode(one.definition.document):
        return Change(kind, name, "unchanged", version)
    return Change(kind, name, "changed", version + 1)


def _show_difference(before: tuple[int, object] | None, one: Written) -> None:
    if before is None:
        return
    texts = (before[1], msgspec.json.decode(one.definition.document))
    old, new = (
        msgspec.json.format(msgspec.json.encode(text, order="sorted")).decode().splitlines()
        for text in texts
    )
    for line in list(unified_diff(old, new, lineterm="", n=1))[3:]:
        paint = {"-": "red", "+": "green"}.get(line[0])
        click.echo("  " + click.style(printable(line), fg=paint))


# --- check --------------------------------------------------------------------------------------


class _Found(msgspec.Struct, frozen=True):
    where: str
    severity: graph.Severity
    code: str
    message: str
    kind: str = ""
    name: str = ""
    near: str = ""


def _findings(reading: Reading) -> Iterator[_Found]:
    kept = [one.definition for one in reading.definitions.values()]
    found = graph.check(
        [documents.event_of(one.name, one.document) for one in kept if one.kind == "event"],
        [
            documents.event_set_of(one.name, one.document, 0)
            for one in kept
            if one.kind == "event_set"
        ],
        [documents.rule_of(one.name, one.document, 0) for one in kept if one.kind == "rule"],
    )
    for one in found:
        written = reading.definitions.get((one.kind, one.name))
        where = written.where if written else ""
        facts = (one.severity, one.code, one.message, one.kind, one.name, one.near)
        yield _Found(where, *facts)
