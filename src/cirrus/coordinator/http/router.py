"""Which route a request takes: a tree of the paths' segments, as they stand on the wire."""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from cirrus.coordinator.http.message import Answer, Request
from cirrus.errors import Refused

ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

Handler = Callable[[Request], Awaitable[Answer]]


class Route(Struct, frozen=True):
    """One call. `path` holds `{name}` for one segment, `{name...}` for all that follow.

    The rest describes it for openapi.py: the types of its query, body and answer.
    """

    method: str
    path: str
    handler: Handler
    summary: str = ""
    query: type | None = None
    body: tuple[object, ...] = ()
    """One of these types; empty: it takes no body."""
    answer: tuple[object, ...] = ()
    """One of these types; empty: text of `media_type`."""
    media_type: str = "application/json"
    refusals: tuple[int, ...] = ()
    """What it may answer besides what every call may."""

    @property
    def names(self) -> list[str]:
        """The path's parameters, in their order."""
        return re.findall(r"\{(\w+)(?:\.\.\.)?\}", self.path)


class Router:
    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def find(self, path: bytes) -> tuple[dict[str, Route], list[str]] | None:
        """The routes on this path by method, and the values of its parameters; None: no path."""
        node = self._root
        values: list[str] = []
        segments = path.split(b"/")
        for place in range(1, len(segments)):
            inner = node.named.get(segments[place])
            if inner is None:
                if node.rest is not None:
                    values.append(_text(b"/".join(segments[place:])))
                    node = node.rest
                    break
                inner = node.any
                if inner is None or not segments[place]:
                    return None
                values.append(_text(segments[place]))
            node = inner
        return (node.routes, values) if node.routes else None

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.path.split("/")[1:]:
            if segment.endswith("...}"):
                node.rest = node = node.rest or _Node()
            elif segment.startswith("{"):
                node.any = node = node.any or _Node()
            else:
                node = node.named.setdefault(segment.encode(), _Node())
        assert route.method not in node.routes, route
        node.routes[route.method] = route
        if route.method == "GET":
            node.routes["HEAD"] = route


class _Node:
    """`any`: below it, one segment of any text; `rest`: all segments that follow."""

    __slots__ = ("any", "named", "rest", "routes")

    def __init__(self) -> None:
        self.named: dict[bytes, _Node] = {}
        self.any: _Node | None = None
        self.rest: _Node | None = None
        self.routes: dict[str, Route] = {}


def _text(segment: bytes) -> str:
    """Percent escapes are undone once, after the path was split: `%2F` is no new segment."""
    if b"%" not in segment:
        return segment.decode("ascii")
    if ESCAPE.search(segment):
        raise Refused("bad_path", "the path has a % that begins no escape: write it as %25")
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("bad_path", "the path is not UTF-8") from error
