"""YAML and JSON texts, read strictly: what is unclear or stands twice is refused, with its line."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

import yaml
from msgspec import Struct

DEPTH_MOST: Final = 32
NODES_MOST: Final = 2_000_000


class Entry(Struct, frozen=True):
    """A key of a mapping: the line it stands on, and its value."""

    line: int
    value: object


Mapping = dict[str, Entry]


class UnreadableFile(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


# --- YAML ---------------------------------------------------------------------------------------


class _Loader(yaml.CSafeLoader):
    """YAML 1.2's plain values: `on` is a word, and so are dates and numbers such as 010."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own way to have others than its own)


TAG: Final = "tag:yaml.org,2002:"
SCALARS: Final[dict[str, Callable[[str], object]]] = {
    TAG + "str": str,
    TAG + "null": lambda _: None,
    TAG + "bool": lambda word: word.lower() == "true",
    TAG + "int": int,
    TAG + "float": float,
}
TAGS: Final = {*SCALARS, TAG + "seq", TAG + "map"}
for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(TAG + tag, re.compile(rf"^(?:{pattern})$"), first)


def read_yaml(text: str) -> Iterator[Mapping]:
    """Every document of the file. Raises UnreadableFile."""
    try:
        for node in yaml.compose_all(text, _Loader):
            if node is not None and node.tag != TAG + "null":
                tree = _Tree()
                yield {title: tree.named(entry) for title, entry in tree.entries(node).items()}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise UnreadableFile(line, f"not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UnreadableFile(0, f"not YAML: {error}") from error


class _Tree:
    """Plain values of YAML nodes; bounded, as an alias may refer to itself, or to much."""

    def __init__(self) -> None:
        self.nodes = 0

    def entries(self, node: yaml.Node) -> dict[str, tuple[int, yaml.Node]]:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            raise UnreadableFile(line, "here stands no mapping of names")
        entries: dict[str, tuple[int, yaml.Node]] = {}
        for key, value in node.value:
            at = key.start_mark.line + 1
            if key.tag != TAG + "str":
                raise UnreadableFile(at, f"{key.value!r} is no text: put it in quotes")
            if key.value in entries:
                raise UnreadableFile(at, f"{key.value} stands twice in the same mapping")
            entries[key.value] = (at, value)
        return entries

    def named(self, found: tuple[int, yaml.Node]) -> Entry:
        """The mapping of names under a title of the file."""
        line, node = found
        if node.tag == TAG + "null":
            return Entry(line, {})
        named = {
            name: Entry(at, self.value(each)) for name, (at, each) in self.entries(node).items()
        }
        return Entry(line, named)

    def value(self, node: yaml.Node, depth: int = 0) -> object:
        self.nodes += 1
        if depth > DEPTH_MOST or self.nodes > NODES_MOST:
            raise UnreadableFile(node.start_mark.line + 1, "too deep, or too large")
        if node.tag not in TAGS:
            raise UnreadableFile(node.start_mark.line + 1, f"the tag {node.tag} is not understood")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(each, depth + 1) for each in node.value]
        if isinstance(node, yaml.MappingNode):
            entries = self.entries(node).items()
            return {name: self.value(each, depth + 1) for name, (_, each) in entries}
        return SCALARS[node.tag](node.value)


# --- JSON ---------------------------------------------------------------------------------------


def read_json(text: str) -> Iterator[Mapping]:
    """The one document of the file. Raises UnreadableFile."""
    try:
        document = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise UnreadableFile(error.lineno, f"not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(0, f"not JSON as it should be: {error}") from error
    if not isinstance(document, dict):
        raise UnreadableFile(1, "here stands no mapping of names")
    lines = _Lines(text)
    mapping = {}
    for title, value in document.items():
        line, named = lines.of(title), {} if value is None else value
        if not isinstance(named, dict):
            raise UnreadableFile(line, f"{title} is no mapping of names")
        mapping[title] = Entry(line, {name: Entry(lines.of(name), named[name]) for name in named})
    yield mapping


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        message = f"{twice} stands twice in the same object"
        raise ValueError(message)
    return document


def _constant(word: str) -> NoReturn:
    message = f"{word} is no number"
    raise ValueError(message)


class _Lines:
    """Where names stand in a JSON text: each is looked for after the one before it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.line = 1

    def of(self, name: str) -> int:
        found = re.compile(re.escape(json.dumps(name)) + r"\s*:").search(self.text, self.position)
        if found:
            self.line += self.text.count("\n", self.position, found.start())
            self.position = found.start()
        return self.line
