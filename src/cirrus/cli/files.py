"""Definitions in files: every name is known by its file and line, and so is every problem."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from msgspec import Struct

from cirrus.cli.strict import Entry, UnreadableFile, read_json, read_yaml
from cirrus.core.documents import parse
from cirrus.core.inputs import Definition, DefinitionKind
from cirrus.errors import Refused

SUFFIXES: Final = (".yaml", ".yml", ".json")
MAPS: Final[dict[str, DefinitionKind]] = {
    "events": "event",
    "event_sets": "event_set",
    "rules": "rule",
}


class Written(Struct, frozen=True):
    """A definition, as it stands in a file at a line."""

    definition: Definition
    document: object
    where: str


class Problem(Struct, frozen=True):
    """Something in a file that cannot be understood."""

    where: str
    code: str
    message: str


class Reading(Struct):
    """What was read, and all that is wrong with it."""

    definitions: dict[tuple[DefinitionKind, str], Written]
    problems: list[Problem]


def read(paths: Iterable[Path]) -> Reading:
    """Read every file, and the files of every folder in the order of their names."""
    reading = Reading({}, [])
    for path in _files(paths):
        try:
            documents = list((read_json if path.suffix == ".json" else read_yaml)(_text(path)))
        except UnreadableFile as error:
            where = f"{path}:{error.line}" if error.line else str(path)
            reading.problems.append(Problem(where, "bad_file", str(error)))
        else:
            for document in documents:
                for title, entry in document.items():
                    _take(reading, path, title, entry)
    return reading


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(each for each in path.iterdir() if each.suffix in SUFFIXES)
        else:
            yield path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableFile(0, error.strerror or "it cannot be read") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(0, f"it is not UTF-8: {error}") from error


def _take(reading: Reading, path: Path, title: str, entry: Entry) -> None:
    if title not in MAPS:
        near = get_close_matches(title, MAPS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"a file has {', '.join(MAPS)}"
        message = f"no field {title}; {hint}"
        reading.problems.append(Problem(f"{path}:{entry.line}", "unknown_field", message))
        return
    assert isinstance(entry.value, dict)
    for name, named in entry.value.items():
        where = f"{path}:{named.line}"
        try:
            definition = parse(MAPS[title], name, named.value)
        except Refused as refused:
            place = f" ({refused.field})" if refused.field else ""
            reading.problems.append(Problem(where, refused.code, f"{refused}{place}"))
            continue
        first = reading.definitions.setdefault(
            (MAPS[title], name), Written(definition, named.value, where)
        )
        if first.where != where:
            message = f"{name} is defined twice: first at {first.where}"
            reading.problems.append(Problem(where, "duplicate_definition", message))
