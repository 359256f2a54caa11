"""Law 2: what has an identity may be said again, and the process may die at any point in between:
the firings are the same. Here even the whole store is the same."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.toy import Cirrus
from tests.laws.drawn import EVENTS, KEYS, NAMESPACES, OUTCOMES, SMALL, graphs
from tests.laws.history import replayed

from cirrus.core.decision import Change
from cirrus.core.inputs import (
    Applied,
    Input,
    Posted,
    Reported,
    ResetAsked,
    WorkerPosted,
)
from cirrus.core.messages import Accepted, Ended, Outcome, Started
from cirrus.core.model import Identity, Post
from cirrus.store.sqlite import SqliteStore

pytestmark = pytest.mark.timeout(600)
ON_FILE = settings(max_examples=max(30, settings().max_examples // 5))
"""Every step waits for the disk."""
IDENTITIES = st.builds(Identity, st.just("test"), st.sampled_from("123456"))

identified = st.builds(
    Post, EVENTS, key=KEYS, data=st.just({"x": "k"}), force=st.booleans(), identity=IDENTITIES
).map(lambda post: Posted((post,))) | st.builds(
    ResetAsked, st.none() | KEYS, NAMESPACES, IDENTITIES
)
# What a dispatcher or a worker says, and of which of the attempts that are under way then.
said = st.tuples(st.sampled_from(["accepted", "started", "ended", "worker"]), OUTCOMES)
steps = st.lists(identified | said, max_size=12)
Step = Input | tuple[str, str]


def meant(cirrus: Cirrus, step: Step, choice: int) -> Input | None:
    """The input; about an attempt that is under way now, if it is about one."""
    if not isinstance(step, tuple):
        return step
    active = cirrus.store.active_jobs()
    if not active:
        return None
    what, kind = step
    job = active[choice % len(active)]
    match what:
        case "accepted":
            return Reported("d1", Accepted(job.id, job.attempt))
        case "started":
            return Reported("d1", Started(job.id, job.attempt, 5.0))
        case "ended":
            outcome = Outcome(kind, 1)  # type: ignore[arg-type]
            return Reported("d1", Ended(job.id, job.attempt, outcome, 5.0, 6.0, b"{}"))
        case _:
            event = job.triggering[choice % len(job.triggering)] if job.triggering else "n:a"
            return WorkerPosted(job.id, job.attempt, Post(event, data={"x": "k"}))


@given(graphs(), steps, st.data())
def test_whatever_is_said_again_at_any_time_later_changes_nothing(definitions, todo, data):
    once, again = Cirrus(**SMALL), Cirrus(**SMALL)
    happened: list[Input] = [Applied(puts=tuple(definitions))]
    for cirrus in (once, again):
        cirrus.turn(*happened)
    for place, step in enumerate(todo):
        what = meant(once, step, place)
        if what is None:
            continue
        for cirrus in (once, again):
            cirrus.turn(what)
            cirrus.wait(2)
        happened.append(what)
        repeated = data.draw(st.lists(st.sampled_from(happened[1:]), max_size=3), "again")
        again.turn(*repeated)

    assert again.dump() == once.dump()
    replayed(again)


# --- crashes ------------------------------------------------------------------------------------


class KilledError(BaseException):
    """The process is gone: nothing catches this."""


class MortalStore(SqliteStore):
    """Dies before a change, and leaves in `grave` what the disk has at that moment."""

    path: Path
    grave: Path
    changes_left: int | None = None

    def apply(self, change: Change) -> None:
        if self.changes_left == 0:
            for suffix in ("", "-wal"):
                left = Path(f"{self.path}{suffix}")
                if left.exists():
                    shutil.copy(left, f"{self.grave}{suffix}")
            raise KilledError
        if self.changes_left is not None:
            self.changes_left -= 1
        super().apply(change)


class Mortal(Cirrus):
    """A Cirrus on a file, whose process may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(**SMALL)
        self.folder = folder
        self.lives = 0
        self.live(folder / "0")

    def live(self, path: Path) -> None:
        self.store.close()
        self.store = store = MortalStore(path, new_instance="ab" * 8, bounds=self.store.bounds)
        store.path = path
        self.lives += 1
        store.grave = self.folder / str(self.lives)

    def survive(self, *batch: Input, dies_before: int | None) -> None:
        """One turn. If the process dies in it, the next one is given the same batch."""
        assert isinstance(self.store, MortalStore)
        self.store.changes_left = dies_before
        try:
            self.turn(*batch)
        except KilledError:
            self.live(self.store.grave)
            self.turn(*batch)
        else:
            self.store.changes_left = None


@contextmanager
def mortal() -> Iterator[Mortal]:
    with tempfile.TemporaryDirectory() as folder:
        cirrus = Mortal(Path(folder))
        yield cirrus
        cirrus.store.close()


deaths = st.none() | st.integers(0, 12)


@ON_FILE
@given(graphs(), steps, st.data())
def test_a_crash_in_the_middle_of_any_turn_leaves_nothing_of_it(definitions, todo, data):
    whole = Cirrus(**SMALL)
    with mortal() as cirrus:
        first = Applied(puts=tuple(definitions))
        whole.turn(first)
        cirrus.survive(first, dies_before=data.draw(deaths, "dies before change"))
        for place, step in enumerate(todo):
            what = meant(whole, step, place)
            if what is None:
                continue
            whole.turn(what)
            cirrus.survive(what, dies_before=data.draw(deaths, "dies before change"))

        assert cirrus.dump() == whole.dump()
        replayed(cirrus)


@ON_FILE
@given(graphs(), steps, st.data())
def test_a_crash_before_the_answer_is_heard_is_mended_by_saying_it_again(definitions, todo, data):
    whole = Cirrus(**SMALL)
    with mortal() as cirrus:
        for one in (whole, cirrus):
            one.turn(Applied(puts=tuple(definitions)))
        for place, step in enumerate(todo):
            what = meant(whole, step, place)
            if what is None:
                continue
            whole.turn(what)
            cirrus.turn(what)
            if data.draw(st.booleans(), "the answer is lost"):
                assert isinstance(cirrus.store, MortalStore)
                cirrus.live(cirrus.store.path)
                cirrus.turn(what)

        assert cirrus.dump() == whole.dump()
