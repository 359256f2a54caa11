"""Reads: connections that cannot write, each in a thread of its own, each question within 2 s.

What may be asked stands in store/questions: plain functions that take a Reader.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any, Final, TypeVar

import apsw

from cirrus.errors import NotFound, Unavailable
from cirrus.store.connection import open_reader
from cirrus.store.queries import named
from cirrus.store.records import Part

SQL: Final = named("read.sql")
SECONDS_MOST: Final = 2.0
THREADS: Final = 2
"""So that one slow question does not hold the quick ones up."""
STEPS_BETWEEN_LOOKS: Final = 20_000
"""SQLite's own steps, less than a millisecond of them, between two looks at the clock."""

PART_BYTES: Final = 1024 * 1024
"""So much of other people's JSON a part of a list holds, and at most one document more."""

Row = tuple[Any, ...]
T = TypeVar("T")
Make = Callable[[Row], T]


class Reader:
    """Answers questions about what is committed. `rows` and `first` are for questions alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counted: dict[str, tuple[int, int]] = {}
        """By what is counted: how many there were, and up to which `seq`."""
        self._own: local = local()
        self._opened: list[apsw.Connection] = []
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="reader")

    async def ask(self, question: Callable[["Reader"], T]) -> T:
        """The answer, from one moment of the history. Raises Unavailable when it takes too long."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, question)

    def rows(self, sql: str, values: Mapping[str, object] | None = None) -> list[Row]:
        return self._connection().execute(sql, values).fetchall()

    def first(self, sql: str, values: Mapping[str, object] | None = None) -> Row | None:
        return self._connection().execute(sql, values).fetchone()

    def part(self, sql: str, values: Mapping[str, object], limit: int, make: Make[T]) -> Part[T]:
        """At most so many rows, and of long ones fewer: PART_BYTES, but always one.

        One row more is looked for, to know whether there is one, unless `values` has the limit.
        """
        found: list[T] = []
        size = 0
        for row in self._connection().execute(sql, {"limit": limit + 1, **values}):
            if len(found) >= limit or size > PART_BYTES:
                return Part(found, more=True)
            size += sum(len(cell) for cell in row if isinstance(cell, bytes))
            found.append(make(row))
        return Part(found, more=False)

    def number(self, sql: str, values: Mapping[str, object] | None = None) -> int:
        """The one column of the one row."""
        ((value,),) = self.rows(sql, values)
        return int(value)

    def dispatcher_of(self, job: str, attempt: int) -> str:
        """Who runs or ran this attempt. Raises NotFound."""
        row = self.first(SQL.dispatcher_of, {"job": job, "attempt": attempt})
        if row is None:
            raise NotFound("unknown_attempt", f"job {job} has no attempt {attempt}", "attempt")
        return str(row[0])

    def close(self) -> None:
        self._pool.shutdown()
        for connection in self._opened:
            connection.close()

    def _answer(self, question: Callable[["Reader"], T]) -> T:
        connection = self._connection()
        self._own.ends = time.monotonic() + SECONDS_MOST
        connection.execute("BEGIN")
        try:
            return question(self)
        except apsw.InterruptError as error:
            refusal = Unavailable(
                "store", f"this takes more than {SECONDS_MOST:.0f} s: ask for less, or narrow it"
            )
            refusal.code = "query_too_costly"
            raise refusal from error
        except apsw.BusyError as error:
            raise Unavailable("store", "busy: try again") from error
        finally:
            # A query that was interrupted may have ended the transaction itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _connection(self) -> apsw.Connection:
        """The one that belongs to the calling thread."""
        kept: apsw.Connection | None = getattr(self._own, "connection", None)
        if kept is None:
            kept = self._own.connection = open_reader(self.path)
            kept.set_progress_handler(self._too_late, STEPS_BETWEEN_LOOKS)
            self._opened.append(kept)
        return kept

    def _too_late(self) -> bool:
        ends: float = self._own.ends
        return time.monotonic() > ends
