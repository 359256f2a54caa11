"""The default store: one thread, one writing connection, WAL. Obeys the engine's changes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from cirrus.core import decision as d
from cirrus.core.documents import event_set_of, rule_of
from cirrus.core.engine import STATES_CLEARED
from cirrus.core.lifecycle import ended
from cirrus.core.model import AutoTrigger, Limits, executor_of
from cirrus.errors import StorageFull, StoreBroken
from cirrus.store.connection import open_writer, opening
from cirrus.store.view import SQL, SqliteView


class SqliteStore(SqliteView):
    """Writer (store/base.py) on one SQLite file. Every method is called from one thread."""

    def __init__(self, path: Path, *, new_instance: str, bounds: d.Bounds) -> None:
        """Raises SetupError.

        `new_instance`: 16 hex digits, for a store that is new; an old one keeps its own.
        """
        with opening(path):
            super().__init__(open_writer(path, new_instance), bounds)
        self._apply: dict[type[d.Change], Callable[[Any], None]] = {
            d.Recorded: self._recorded,
            d.Stood: self._stood,
            d.Joined: self._joined,
            d.StateSet: self._state_set,
            d.Fired: self._fired,
            d.Moved: self._moved,
            d.AttemptMade: self._attempt_made,
            d.AttemptSeen: self._attempt_seen,
            d.AttemptEnded: self._attempt_ended,
            d.Defined: self._defined,
            d.WasReset: self._was_reset,
            d.Noted: self._noted,
            d.Paused: self._paused,
            d.DispatcherKnown: self._dispatcher_known,
        }

    # --- transactions ---------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            self._cursor.execute("BEGIN IMMEDIATE")
            yield
            self._cursor.execute("COMMIT")
        except BaseException as error:
            if isinstance(error, apsw.IOError | apsw.CorruptError | apsw.NotADBError):
                # After a failed fsync nobody knows what is on the disk: never try again.
                raise StoreBroken(error) from error
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
            self._refresh()
            if isinstance(error, apsw.FullError):
                raise StorageFull from error
            raise

    def apply(self, change: d.Change) -> None:
        self._apply[type(change)](change)

    def close(self) -> None:
        self._connection.close()

    # --- what its changes write -----------------------------------------------------------------

    def _recorded(self, change: d.Recorded) -> None:
        post, cause = change.post, change.cause
        identity = post.identity
        self._seq = change.seq
        self._cursor.execute(
            SQL.add_occurrence,
            (
                change.seq,
                post.event,
                change.key,
                identity.source if identity else None,
                identity.id if identity else None,
                change.digest or None,
                post.time,
                change.received,
                msgspec.json.encode(post.data) if post.data else b"{}",
                post.force,
                cause.job if cause else None,
                cause.fired if cause else None,
                cause.root if cause else change.seq,
                cause.depth if cause else 0,
                change.by_worker,
                msgspec.json.encode(change.verdicts),
                change.whole,
                change.problem,
            ),
        )
        if cause:
            self._cursor.execute(SQL.lengthen_chain, (cause.root,))

    def _stood(self, change: d.Stood) -> None:
        standing = change.standing
        self._cursor.execute(SQL.stand, (change.key, change.event, standing.seq, standing.forced))

    def _joined(self, change: d.Joined) -> None:
        event_set = change.event_set
        bits = change.bits.to_bytes((len(event_set.members) + 7) // 8, "little")
        self._cursor.execute(SQL.join, (change.key, event_set.name, event_set.version, bits))

    def _state_set(self, change: d.StateSet) -> None:
        state = change.state
        self._cursor.execute(
            SQL.set_firing_state,
            (change.rule, change.key, state.generation, state.fired, state.open, state.counted),
        )

    def _fired(self, change: d.Fired) -> None:
        rule = change.rule
        activity = rule.activity
        auto = isinstance(activity, AutoTrigger)
        asked = Limits() if isinstance(activity, AutoTrigger) else activity.limits
        triggering, document = self.definition("event_set", rule.triggering)
        self._seq = change.seq
        self._cursor.execute(
            SQL.add_job,
            (
                change.seq,
                change.job,
                change.time,
                rule.name,
                rule.version,
                change.event_set.name,
                change.event_set.version,
                0 if document is None else triggering,
                change.key,
                change.generation,
                change.forced,
                msgspec.json.encode(change.members),
                change.cause.root,
                change.cause.depth,
                change.retried,
                "" if isinstance(activity, AutoTrigger) else executor_of(activity),
                asked.cpu_reservation,
                asked.memory_reservation,
                change.state,
                None if auto else change.time,
                change.time if auto else None,
            ),
        )

    def _moved(self, change: d.Moved) -> None:
        job, progress = change.job, change.progress
        assigned = progress if isinstance(progress, d.Assigned) else None
        self._all(
            SQL.move_job,
            change.state,
            change.attempt,
            change.failures,
            change.crashes,
            progress.due if isinstance(progress, d.Waiting) else None,
            assigned.dispatcher if assigned else None,
            assigned.since if assigned else None,
            assigned.accepted if assigned else None,
            assigned.stopping if assigned else None,
            change.time if ended(change.state) else None,
            change.output or None,
            job.id,
            job.state,
            job.attempt,
        )
        assert self._connection.changes() == 1, (job.id, job.state, change.state)
        if change.started is not None:
            self._all(SQL.start_attempt, change.started, job.id, job.attempt)
        outcome = change.outcome
        self._seq = change.seq
        self._all(
            SQL.add_moment,
            change.seq,
            change.time,
            "move",
            job.rule.name,
            job.id,
            job.key,
            "retried" if change.state == "triggered" else change.state,
            change.attempt,
            outcome.kind if outcome else "",
            outcome.reason if outcome else "",
        )

    def _attempt_made(self, change: d.AttemptMade) -> None:
        self._all(
            SQL.add_attempt,
            change.job,
            change.attempt,
            change.dispatcher,
            change.executor,
            change.time,
        )

    def _attempt_seen(self, change: d.AttemptSeen) -> None:
        seen = change.progress
        self._all(SQL.see_attempt, seen.accepted, seen.stopping, change.job, seen.dispatcher)
        assert self._connection.changes() == 1, change

    def _attempt_ended(self, change: d.AttemptEnded) -> None:
        outcome = change.outcome
        self._all(
            SQL.end_attempt,
            change.started,
            change.finished,
            outcome.kind,
            outcome.exit_code,
            outcome.reason,
            change.late,
            change.job,
            change.attempt,
        )

    def _defined(self, change: d.Defined) -> None:
        kind, name, document = change.kind, change.name, change.document
        self._all(SQL.retire_definition, kind, name)
        self._all(SQL.add_definition, kind, name, change.version, change.seq, change.time, document)
        if kind == "event_set":
            self._all(SQL.drop_members, name)
            members = () if document is None else event_set_of(name, document, 0).members
            for place, member in enumerate(members):
                self._all(SQL.add_member, member, name, place)
        elif kind == "rule":
            self._all(SQL.drop_listener, name)
            if document is not None:
                self._all(SQL.add_listener, rule_of(name, document, 0).on, name)
        self._seq = change.seq
        self._forget_definitions()

    def _was_reset(self, change: d.WasReset) -> None:
        identity = change.identity
        self._all(SQL.open_rules, change.key, change.namespace)
        self._all(SQL.clear_standing, change.key, change.namespace)
        self._all(SQL.clear_joined, change.key)
        self._all(
            SQL.add_reset,
            change.seq,
            change.time,
            change.key,
            change.namespace,
            identity.source if identity else None,
            identity.id if identity else None,
            change.digest or None,
        )
        self._seq = change.seq
        self._has_reset = True

    def _noted(self, change: d.Noted) -> None:
        kind = "pause" if change.state in ("paused", "resumed") else "note"
        if change.state == STATES_CLEARED:
            self._all(SQL.clear_states, change.seq)
        self._seq = change.seq
        self._all(
            SQL.add_moment,
            *(change.seq, change.time, kind, change.rule, change.job, "", change.state, 0, "", ""),
        )

    def _paused(self, change: d.Paused) -> None:
        self._all(SQL.pause if change.paused else SQL.resume, change.rule)

    def _dispatcher_known(self, change: d.DispatcherKnown) -> None:
        hello = msgspec.json.encode(change.hello)
        self._all(SQL.know_dispatcher, change.hello.dispatcher, hello, change.time)
