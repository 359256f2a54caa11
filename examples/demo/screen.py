"""What the demo shows: lines that stay and, in a terminal, one below them that moves."""

import itertools
import os
import sys
import threading
import time
from pathlib import Path
from shutil import get_terminal_size
from typing import Self

COLOURS = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36}
MARKS = {"◆": "cyan", "●": "yellow", "▶": "blue", "✓": "green", "✗": "red", "!": "yellow"}
WHEEL = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
TICK_SECONDS = 0.1


class Screen:
    """Use it in a `with` block: the moving line is gone at its end."""

    def __init__(self) -> None:
        self._moves = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._colours = self._moves and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._began = self._since = time.monotonic()
        self._status = ""
        self._over = threading.Event()
        self._wheel = threading.Thread(target=self._turn, daemon=True)

    def __enter__(self) -> Self:
        if self._moves:
            self._wheel.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._moves:
            self._wheel.join()
        self.status("")

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self._colours else text

    def say(self, text: str = "") -> None:
        with self._lock:
            self._print(f"{text}\n")

    def title(self, text: str) -> None:
        self.say()
        self.say(self.paint(text, "bold"))
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        self.say(self.paint(f"  {text}", "dim"))

    def step(self, mark: str, subject: str, what: str) -> None:
        """Something happened to somebody, so long after the title."""
        seconds = self.paint(f"{time.monotonic() - self._began:6.2f} s", "dim")
        self.say(f"  {seconds}  {self.paint(mark, MARKS[mark])} {subject:<22} {what}")

    def status(self, text: str) -> None:
        """What goes on now; empty: nothing."""
        with self._lock:
            if not self._status:
                self._since = time.monotonic()
            self._status = text
            if self._moves:
                self._print("")

    def _print(self, text: str) -> None:
        try:
            sys.stdout.write("\r\x1b[K" + text if self._moves else text)
            sys.stdout.flush()
        except BrokenPipeError:  # nobody reads on; the show does
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115

    def _turn(self) -> None:
        for sign in itertools.cycle(WHEEL):
            if self._over.wait(TICK_SECONDS):
                return
            with self._lock:
                if self._status:
                    room = get_terminal_size().columns - 1
                    text = f"  {sign} {self._status}, {time.monotonic() - self._since:.0f} s"
                    line = self.paint(text[:room], "dim")
                    self._print(line)
