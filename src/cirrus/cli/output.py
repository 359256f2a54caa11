"""What commands print: tables for people, JSON for programs, errors in one line."""

import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import click

from cirrus.errors import CirrusError, Refused

if TYPE_CHECKING:
    from cirrus.client import Client

COLOURS: Final = {
    "succeeded": "green",
    "running": "blue",
    "dispatched": "blue",
    "triggered": "yellow",
    "failed": "red",
    "cancelled": "magenta",
    "ok": "green",
    "warn": "yellow",
    "warning": "yellow",
    "bad": "red",
    "error": "red",
    "paused": "yellow",
    "away": "red",
    "new": "green",
    "changed": "yellow",
}
"""Words that stand alone in a cell and are coloured wherever they do."""

GAP: Final = "  "
NARROWEST: Final = 8

P = ParamSpec("P")
R = TypeVar("R")


class Output:
    """Where to ask, and how to answer: what the options before every command say."""

    def __init__(self) -> None:
        self.url = ""
        self.json = False

    def client(self, patience_seconds: float = 0.0) -> "Client":
        # Imported when needed: its libraries take longer than --help.
        from cirrus.client import Client

        try:
            return Client(self.url, patience_seconds=patience_seconds)
        except Refused as error:
            raise click.BadParameter(error.message, param_hint="--url") from error

    def document(self, value: object) -> None:
        """One JSON document."""
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))

    def line(self, value: object) -> None:
        """One JSON document of a stream, on a line of its own."""
        import msgspec

        click.echo(msgspec.json.encode(value))

    def error(self, error: CirrusError) -> None:
        code, field = error.code, error.field if isinstance(error, Refused) else ""
        if self.json:
            import msgspec

            facts = {"code": code, "message": str(error), "field": field}
            click.echo(msgspec.json.encode({"error": facts}), err=True)
        else:
            # One word says no more than the message does; a path does.
            place = f" (at {field})" if "." in field or "[" in field else ""
            click.echo(
                f"{click.style('error:', fg='red')} {printable(str(error))}{place}", err=True
            )


def common(command: Callable[P, R]) -> Callable[P, R]:
    """The options that may stand before a command or after it."""

    def keep(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        output = ctx.ensure_object(Output)
        if parameter.name == "url":
            output.url = str(value or output.url)
        else:
            output.json = bool(value) or output.json

    url = click.option(
        "--url",
        metavar="URL",
        expose_value=False,
        callback=keep,
        help="Where the coordinator answers: CIRRUS_URL, or http://127.0.0.1:7000.",
    )
    json = click.option(
        "--json", is_flag=True, expose_value=False, callback=keep, help="Answer in JSON."
    )
    return url(json(command))


# --- for people ---------------------------------------------------------------------------------


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns. In a terminal they are cut to fit; elsewhere nothing is cut."""
    lines = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(headers, *lines, strict=True)]
    if sys.stdout.isatty():
        room = get_terminal_size().columns - len(GAP) * (len(widths) - 1)
        while sum(widths) > room and max(widths) > NARROWEST:
            widths[widths.index(max(widths))] -= 1
    click.echo(click.style(_aligned(headers, widths), bold=True))
    for line in lines:
        click.echo(_aligned(line, widths))


class Live:
    """Lines that stay, and in a terminal one more below them that changes."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled and sys.stdout.isatty()
        self._shown = False

    def say(self, line: str) -> None:
        self.clear()
        click.echo(line)

    def show(self, text: str) -> None:
        if self._enabled:
            room = get_terminal_size().columns - 1
            click.echo("\r\x1b[K" + dim(clip(f"  {text}", room)), nl=False)
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False)
            self._shown = False


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    cut = [clip(cell, most) for cell, most in zip(cells, widths, strict=True)]
    padding = [most - width(cell) for cell, most in zip(cut, widths, strict=True)]
    return GAP.join(
        colour(cell) + " " * room for cell, room in zip(cut, padding, strict=True)
    ).rstrip()


def colour(word: str) -> str:
    return click.style(word, fg=COLOURS[word]) if word in COLOURS else word


def dim(text: str) -> str:
    return click.style(text, dim=True)


def printable(text: str) -> str:
    """Somebody's text, which cannot move the cursor or change the terminal."""
    return "".join(letter if letter.isprintable() else "·" for letter in text)


def width(text: str) -> int:
    """How many columns a terminal uses for it."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def clip(text: str, most: int) -> str:
    """At most so many columns; what is cut ends with an ellipsis."""
    if width(text) <= most:
        return text
    while text and width(text) > most - 1:
        text = text[:-1]
    return text + "…"


def ago(then: float | None) -> str:
    """How long ago that was, for people; empty for never."""
    return span(time.time() - then) if then else ""


def span(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    seconds = max(0.0, seconds)
    scale = ((10, "s", 1, 1), (120, "s", 1, 0), (7200, "min", 60, 0), (172_800, "h", 3600, 0))
    for most, unit, size, digits in scale:
        if seconds < most:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86_400:.0f} d"
