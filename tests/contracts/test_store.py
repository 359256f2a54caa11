"""What every Writer (store/base.py) promises, tried on each way of opening SQLite."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest
from msgspec.structs import replace
from tests.core.toy import INSTANCE, PROCESS, Cirrus, dispatcher, dump, post

from cirrus.core import decision as d
from cirrus.core.documents import parse
from cirrus.core.engine import STATES_CLEARED
from cirrus.core.inputs import PauseAsked
from cirrus.core.messages import Hello, Outcome
from cirrus.core.model import Cause, EventSet, Identity, Post, Rule, Standing, job_id
from cirrus.errors import SetupError, StorageFull, StoreBroken
from cirrus.store.base import Writer
from cirrus.store.connection import open_reader
from cirrus.store.sqlite import SqliteStore
from cirrus.store.view import SQL

Opens = Callable[[], SqliteStore]


@pytest.fixture(params=["in memory", "on file"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opens]:
    opened: list[SqliteStore] = []
    path = Path(":memory:") if request.param == "in memory" else tmp_path / "cirrus.db"

    def store() -> SqliteStore:
        opened.append(SqliteStore(path, new_instance=INSTANCE, bounds=d.Bounds()))
        return opened[-1]

    yield store
    for one in opened:
        one.close()


@pytest.fixture
def store(opens: Opens) -> SqliteStore:
    return opens()


def apply(store: Writer, *changes: d.Change) -> None:
    with store.transaction():
        for change in changes:
            store.apply(change)


class CalledOffError(Exception):
    pass


@contextmanager
def calling_off(store: Writer) -> Iterator[None]:
    with pytest.raises(CalledOffError), store.transaction():  # noqa: PT012  (what it is about)
        yield
        raise CalledOffError


def call_off(store: Writer, *changes: d.Change) -> None:
    """Apply them in a transaction that is rolled back."""
    with calling_off(store):
        for change in changes:
            store.apply(change)


def defined(seq: int, kind: Any, name: str, document: object, version: int = 1) -> d.Defined:
    kept = None if document is None else parse(kind, name, document).document
    return d.Defined(seq, 10.0 + seq, kind, name, version, kept)


def recorded(seq: int, event: str = "a", key: str = "", **rest: Any) -> d.Recorded:
    fields: dict[str, Any] = {"cause": None, "verdicts": (), "digest": b"", "whole": ""}
    fields |= {"problem": "", "received": 10.0 + seq, "post": Post(event), **rest}
    return d.Recorded(seq=seq, key=key, **fields)


def a_job(store: Writer, *, run: object = PROCESS, key: str = "") -> d.Job:
    """The rule `r` on `a` fired once, at seq 3."""
    apply(store, defined(1, "rule", "r", {"on": "a", "activity": run, "triggering": "b"}))
    rule = store.rule("r")
    assert rule is not None
    apply(store, recorded(2, key=key), fired(3, rule, key))
    job = store.job(job_id("r", key, 1))
    assert job is not None
    return job


def fired(seq: int, rule: Rule, key: str = "", generation: int = 1, **rest: Any) -> d.Fired:
    job = job_id(rule.name, key, generation)
    fields: dict[str, Any] = {"event_set": EventSet("a", ("a",), 1), "triggering": ("b",)}
    fields |= {"forced": False, "members": (2,), "state": "triggered", **rest}
    return d.Fired(
        seq=seq,
        time=10.0 + seq,
        job=job,
        rule=rule,
        key=key,
        generation=generation,
        cause=Cause(job, seq, 2, 1),
        **fields,
    )


def moved(job: d.Job, seq: int, state: Any, progress: Any = None, **rest: Any) -> d.Moved:
    fields: dict[str, Any] = {"attempt": job.attempt, "failures": job.failures, **rest}
    return d.Moved(
        seq=seq,
        time=10.0 + seq,
        job=job,
        state=state,
        crashes=job.crashes,
        progress=progress,
        **fields,
    )


ASSIGNED = d.Assigned("d1", 14.0, accepted=False, stopping=False)


def dispatched(job: d.Job, seq: int = 4) -> tuple[d.Change, ...]:
    return (
        moved(job, seq, "dispatched", ASSIGNED, attempt=job.attempt + 1),
        d.AttemptMade(job.id, job.attempt + 1, "d1", "process", 14.0),
    )


# --- a new store --------------------------------------------------------------------------------


def test_a_new_store_knows_nothing(store):
    assert store.instance == INSTANCE
    assert (store.last_seq(), store.last_time()) == (0, 0.0)
    assert store.newest_reset("n", "k") == 0
    assert store.accepted(Identity("s", "1")) is None
    assert store.reset_accepted(Identity("s", "1")) is None
    assert store.event("a") is None
    assert not store.mentioned("a")
    assert store.near("a", "event") == ""
    assert store.routes("a") == ()
    assert store.triggered_by("a") == ("a",)
    assert store.definition("rule", "r") == (0, None)
    assert store.rule("r") is None
    assert store.standing("a", "k") is None
    assert store.stands(EventSet("s", ("a", "b"), 2, 1), "k") == 0
    assert store.members(EventSet("s", ("a", "b"), 2, 1), "k") == (None, None)
    assert store.firing_state("r", "k") == d.FiringState()
    assert store.chain_length(1) == 0
    assert store.job("f" * 16) is None
    assert store.worker_triggered("f" * 16, "a", "k") == 0
    assert store.attempt_outcome("f" * 16, 1) is None
    assert store.active_jobs() == store.active_jobs("d1") == ()
    assert store.jobs_under(None, None) == ()
    assert store.waiting_jobs("process", 1e9, cores=1e9, memory=10**12, limit=9) == ()
    assert store.next_due(0.0) is None


# --- what is written is answered ----------------------------------------------------------------


def test_definitions_are_answered_in_their_newest_version(store):
    apply(store, defined(1, "event", "a", {"key": "data.x"}), defined(2, "event_set", "s", ["a"]))
    event = store.event("a")
    assert event is not None
    assert event.key == "data.x"

    apply(store, defined(3, "event", "a", {}, 2), defined(4, "event_set", "s", ["b", "c"], 2))

    assert store.definition("event", "a") == (2, b"{}")
    event = store.event("a")
    assert event is not None
    assert event.key == ""
    assert store.triggered_by("s") == ("b", "c")
    assert (store.routes("a"), len(store.routes("c"))) == ((), 1)

    apply(store, defined(5, "event", "a", None, 3), defined(6, "event_set", "s", None, 3))

    assert store.definition("event", "a") == (3, None)
    assert store.event("a") is None
    assert store.triggered_by("s") == ("s",)
    assert store.routes("c") == ()


def test_a_route_names_the_set_the_place_and_the_rules(store):
    apply(
        store,
        defined(1, "event_set", "s", {"any": ["a", "b"]}),
        defined(2, "event_set", "empty", ["b"]),
        defined(3, "rule", "r2", {"on": "s", "activity": PROCESS}),
        defined(4, "rule", "r1", {"on": "s", "activity": PROCESS}),
        defined(5, "rule", "r3", {"on": "b", "activity": PROCESS}),
    )

    found = [
        (route.event_set.name, route.place, route.event_set.needed, [r.name for r in route.rules])
        for route in store.routes("b")
    ]

    assert found == [("empty", 0, 1, []), ("s", 1, 1, ["r1", "r2"]), ("b", 0, 1, ["r3"])]


def test_the_most_similar_name_is_near(store):
    apply(store, defined(1, "event", "fastq:ready", {}), defined(2, "event", "other", {}))

    assert store.near("fastq:redy", "event") == "fastq:ready"
    assert store.near("fastq:redy", "rule") == ""


def test_what_stands_is_answered_by_key(store):
    event_set = EventSet("s", ("a", "b", "c"), 3, 1)
    apply(
        store,
        defined(1, "event_set", "s", ["a", "b", "c"]),
        d.Stood("c", "k", Standing(7, forced=True)),
        d.Stood("a", "k", Standing(8, forced=False)),
        d.Stood("b", "other", Standing(9, forced=False)),
    )

    assert store.standing("c", "k") == Standing(7, forced=True)
    assert store.members(event_set, "k") == (
        Standing(8, forced=False),
        None,
        Standing(7, forced=True),
    )
    assert store.stands(event_set, "k") == 0b101


def test_what_takes_its_place_stands(store):
    apply(store, d.Stood("a", "k", Standing(1, forced=False)))
    apply(store, d.Stood("a", "k", Standing(2, forced=True)))

    assert store.standing("a", "k") == Standing(2, forced=True)


def test_the_bits_of_a_set_hold_for_its_version_alone(store):
    members = tuple(f"e{n}" for n in range(20))
    event_set = EventSet("s", members, 20, 1)
    apply(store, defined(1, "event_set", "s", list(members)))

    apply(store, d.Joined(event_set, "k", 1 << 19 | 1))

    assert store.stands(event_set, "k") == 1 << 19 | 1
    assert store.stands(replace(event_set, version=2), "k") == 0
    assert store.stands(event_set, "other") == 0


def test_an_accepted_identity_is_known_with_its_content_and_key(store):
    identity = Identity("s", "1")
    apply(store, recorded(4, key="k", post=Post("a", identity=identity), digest=b"x" * 16))

    assert store.accepted(identity) == d.Stored(4, b"x" * 16, "k")
    assert store.accepted(Identity("s", "2")) is None
    assert store.accepted(Identity("t", "1")) is None
    assert store.reset_accepted(identity) is None


def test_a_chain_is_counted_from_its_root(store):
    cause = Cause("f" * 16, 2, root=1, depth=1)
    apply(store, recorded(1), recorded(3, cause=cause), recorded(4, cause=cause))

    assert (store.chain_length(1), store.chain_length(3)) == (2, 0)


def test_what_a_worker_triggered_is_known_by_job_event_and_key(store):
    cause = Cause("f" * 16, 2, root=1, depth=1)
    apply(store, recorded(3, "x", "k", post=Post("x"), cause=cause, by_worker=True))
    apply(store, recorded(4, "y", "k", post=Post("y"), cause=cause))

    assert store.worker_triggered("f" * 16, "x", "k") == 3
    assert store.worker_triggered("f" * 16, "x", "") == 0
    assert store.worker_triggered("f" * 16, "y", "k") == 0
    assert store.worker_triggered("e" * 16, "x", "k") == 0


def test_the_state_of_a_rule_is_kept_by_key(store):
    state = d.FiringState(generation=3, fired=9, open=False, counted=2)
    apply(store, d.StateSet("r", "k", state))

    assert store.firing_state("r", "k") == state
    assert store.firing_state("r", "") == d.FiringState()


# --- jobs ---------------------------------------------------------------------------------------


def test_a_fired_job_waits_with_all_that_its_firing_froze(store):
    job = a_job(store, key="k")
    apply(store, defined(4, "rule", "r", {"on": "a", "activity": PROCESS, "triggering": "z"}, 2))

    assert store.job(job.id) == job
    assert (job.state, job.attempt, job.progress) == ("triggered", 0, d.Waiting(13.0))
    assert (job.rule.version, job.triggering) == (1, ("b",))
    assert job.cause == Cause(job.id, 3, 2, 1)
    assert store.job_members(job.id) == (EventSet("a", ("a",), 1), (2,))


def test_a_job_keeps_the_version_of_the_set_that_fired_it(store):
    apply(store, defined(1, "event_set", "a", ["x", "y"]))
    apply(store, defined(2, "rule", "r", {"on": "a", "activity": PROCESS}))
    rule = store.rule("r")
    event_set = EventSet("a", ("x", "y"), 2, 1)
    apply(store, fired(5, rule, event_set=event_set, members=(3, 4), triggering=()))
    apply(store, defined(6, "event_set", "a", ["z"], 2))

    assert store.job_members(job_id("r", "", 1)) == (event_set, (3, 4))


def test_a_job_goes_through_its_states(store):
    job = a_job(store)
    apply(store, *dispatched(job))
    job = store.job(job.id)
    assert (job.state, job.attempt, job.progress) == ("dispatched", 1, ASSIGNED)
    assert store.active_jobs() == store.active_jobs("d1") == (job,)
    assert store.active_jobs("d2") == ()

    seen = replace(ASSIGNED, accepted=True, stopping=True)
    apply(store, d.AttemptSeen(job.id, seen))
    apply(store, moved(store.job(job.id), 5, "running", seen, started=7.0))
    job = store.job(job.id)
    assert (job.state, job.progress) == ("running", seen)

    apply(
        store,
        d.AttemptEnded(job.id, 1, Outcome("success", 0), 7.0, 8.0),
        moved(job, 6, "succeeded", outcome=Outcome("success", 0), output=b"{}"),
    )
    job = store.job(job.id)
    assert (job.state, job.progress) == ("succeeded", None)
    assert store.attempt_outcome(job.id, 1) == "success"
    assert store.active_jobs() == ()


def test_an_auto_trigger_has_succeeded_as_it_is_written(store):
    apply(store, defined(1, "rule", "r", {"on": "a", "activity": {"cmd": "__auto_trigger__"}}))
    apply(store, fired(3, store.rule("r"), state="succeeded", triggering=()))

    job = store.job(job_id("r", "", 1))
    assert (job.state, job.progress, job.attempt) == ("succeeded", None, 0)


def test_the_end_of_a_given_up_attempt_may_be_replaced_once_by_what_came_late(store):
    job = a_job(store)
    apply(store, *dispatched(job))
    for outcome, late, found in [
        (Outcome("lost"), False, "lost"),
        (Outcome("success"), True, "success"),
        (Outcome("failure"), True, "success"),
    ]:
        apply(store, d.AttemptEnded(job.id, 1, outcome, None, 9.0, late=late))
        assert store.attempt_outcome(job.id, 1) == found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"executor": "process"}, ["p1", "p2", "p3"]),
        ({"executor": "docker"}, ["d"]),
        ({"executor": "swarm"}, []),
        ({"executor": "process", "limit": 2}, ["p1", "p2"]),
        ({"executor": "docker", "cores": 1.5}, []),
        ({"executor": "docker", "memory": 10**9}, []),
        ({"executor": "docker", "cores": 2.0, "memory": 2 * 10**9}, ["d"]),
        ({"executor": "process", "now": 1001.0}, ["p1", "p2"]),
        ({"executor": "process", "now": 999.0}, []),
    ],
)
def test_waiting_jobs_are_those_that_may_start_and_fit(asked, found):
    cirrus = Cirrus()
    cirrus.present = ()
    big = {"task_type": "docker", "image": "x", "cpu_reservation": 2, "mem_reservation": 2}
    cirrus.rule("p", "a", run=PROCESS)
    cirrus.rule("d", "b", run=big)
    cirrus.rule("paused", "c", run=PROCESS)
    cirrus.ask(PauseAsked("paused", paused=True))
    cirrus.post("a", "p1")
    cirrus.post("b", "d")
    cirrus.now += 1
    cirrus.post("a", "p2")
    cirrus.now += 1
    cirrus.post("a", "p3")
    cirrus.post("c", "paused")

    all_of = {"now": 2000.0, "cores": 64.0, "memory": 10**12, "limit": 10, **asked}
    executor, now = all_of.pop("executor"), all_of.pop("now")

    assert [job.key for job in cirrus.store.waiting_jobs(executor, now, **all_of)] == found


def test_the_next_job_is_due_when_its_backoff_ends():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS, attempts=9)
    cirrus.post("a")
    cirrus.end(cirrus.job("r"), "failure")

    assert cirrus.store.next_due(cirrus.now) == cirrus.now + 1
    assert cirrus.store.next_due(cirrus.now + 1) is None


def test_jobs_under_a_key_and_a_namespace_are_those_that_have_not_ended():
    cirrus = Cirrus()
    for rule in ("n:r", "nm:r", "n"):
        cirrus.rule(rule, "a", run=PROCESS)
    for key in ("k", "l"):
        cirrus.post("a", key)
    cirrus.end(cirrus.job("n:r", key="l"))

    def under(key: str | None, namespace: str | None) -> list[tuple[str, str]]:
        jobs = map(cirrus.job_by_id, cirrus.store.jobs_under(key, namespace))
        return sorted((job.rule.name, job.key) for job in jobs)

    assert under("k", "n") == [("n", "k"), ("n:r", "k")]
    assert under(None, "n") == [("n", "k"), ("n", "l"), ("n:r", "k")]
    assert under("l", None) == [("n", "l"), ("nm:r", "l")]
    assert len(under(None, None)) == 5


# --- resets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "namespace", "covered"),
    [
        (None, None, {("n", "k"), ("n", "l"), ("m", "k"), ("m", "l")}),
        ("k", None, {("n", "k"), ("m", "k")}),
        (None, "n", {("n", "k"), ("n", "l")}),
        ("k", "n", {("n", "k")}),
    ],
)
def test_a_reset_clears_what_it_covers_and_is_remembered_for_that(store, key, namespace, covered):
    areas = {(namespace, key) for namespace in "nm" for key in "kl"}
    for at, (own, under) in enumerate(sorted(areas)):
        apply(store, d.Stood(f"{own}:a", under, Standing(at + 1, forced=False)))

    apply(store, d.WasReset(9, 19.0, key, namespace, None, b""))

    cleared = {(own, under) for own, under in areas if store.standing(f"{own}:a", under) is None}
    remembered = {(own, under) for own, under in areas if store.newest_reset(own, under) == 9}
    assert cleared == remembered == covered


def test_a_resets_identity_is_known(store):
    identity = Identity("s", "1")
    apply(store, d.WasReset(4, 14.0, None, None, identity, b"x" * 16))

    assert store.reset_accepted(identity) == d.Stored(4, b"x" * 16)
    assert store.accepted(identity) is None


# --- order and time -----------------------------------------------------------------------------


def of_every_kind(store: Writer) -> list[d.Change]:
    """One change of every kind that has a seq and a time, in order."""
    job = a_job(store)
    return [
        recorded(4),
        fired(5, job.rule, generation=2),
        dispatched(job, 6)[0],
        defined(7, "event", "e", {}),
        d.WasReset(8, 18.0, "k", None, None, b""),
        d.Noted(9, 19.0, "r", "success"),
        d.Noted(10, 20.0, "", STATES_CLEARED),
        d.Noted(11, 21.0, "r", "paused"),
    ]


def test_the_last_seq_and_time_follow_every_change(store):
    for change in of_every_kind(store):
        apply(store, change)

        assert store.last_seq() == getattr(change, "seq", None)
        assert store.last_time() == 10.0 + store.last_seq()


def test_the_last_seq_and_time_are_found_again(tmp_path):
    path = tmp_path / "cirrus.db"
    first = SqliteStore(path, new_instance=INSTANCE, bounds=d.Bounds())
    changes = of_every_kind(first)
    first.close()
    for change in changes:
        store = SqliteStore(path, new_instance="c" * 16, bounds=d.Bounds())
        apply(store, change)
        store.close()
        again = SqliteStore(path, new_instance="c" * 16, bounds=d.Bounds())
        assert again.last_seq() == getattr(change, "seq", None)
        assert again.last_time() == 10.0 + again.last_seq()
        again.close()


# --- a transaction is all or nothing ------------------------------------------------------------


def test_what_is_called_off_was_never_there(store):
    job = a_job(store)
    before = dump(store)
    call_off(store, *of_every_kind_but_the_job(job))

    assert dump(store) == before
    assert store.last_seq() == 3


def of_every_kind_but_the_job(job: d.Job) -> tuple[d.Change, ...]:
    return (
        recorded(4),
        d.Stood("a", "k", Standing(4, forced=False)),
        d.Joined(EventSet("s", ("a", "b"), 2, 1), "k", 1),
        d.StateSet("r", "k", d.FiringState(1)),
        *dispatched(job, 5),
        d.AttemptSeen(job.id, replace(ASSIGNED, accepted=True)),
        d.AttemptEnded(job.id, 1, Outcome("lost"), None, None),
        defined(6, "event", "e", {}),
        d.WasReset(7, 17.0, None, None, None, b""),
        d.Noted(8, 18.0, "r", "paused"),
        d.Paused("r", paused=True),
        d.DispatcherKnown(Hello("d1", "host", "1", 1, dispatcher().offers, ()), 18.0),
    )


def test_nothing_at_hand_outlives_a_rollback(store):
    apply(store, defined(1, "event_set", "s", ["a"]))
    apply(store, defined(2, "rule", "r", {"on": "s", "activity": PROCESS}))
    apply(store, defined(3, "event", "e", {"key": "data.x"}))

    with calling_off(store):
        store.apply(defined(4, "event_set", "s", ["b"], 2))
        store.apply(defined(5, "rule", "r", {"on": "e", "activity": PROCESS}, 2))
        store.apply(defined(6, "event", "e", {}, 2))
        store.apply(d.WasReset(7, 17.0, None, None, None, b""))
        # Asked inside, they are kept at hand.
        assert store.triggered_by("s") == ("b",)
        assert (store.routes("a"), len(store.routes("b"))) == ((), 1)
        assert (store.rule("r").on, store.event("e").key) == ("e", "")
        assert store.newest_reset("n", "k") == 7

    assert store.triggered_by("s") == ("a",)
    assert (len(store.routes("a")), store.routes("b")) == (1, ())
    assert (store.rule("r").on, store.event("e").key) == ("s", "data.x")
    assert store.newest_reset("n", "k") == 0
    assert store.last_seq() == 3


def test_after_a_rollback_the_next_transaction_goes_on(store):
    call_off(store, recorded(1))
    apply(store, recorded(1, "other", post=Post("other")))

    assert store.last_seq() == 1


# --- what contradicts is refused ----------------------------------------------------------------


def contradicted(store: SqliteStore, *changes: d.Change, error: type[Exception]) -> None:
    before = dump(store)
    with pytest.raises(error):
        apply(store, *changes)
    assert dump(store) == before


def test_a_move_from_another_state_than_the_job_is_in_asserts(store):
    job = a_job(store)
    for wrong in (
        replace(job, state="running"),
        replace(job, attempt=1),
        replace(job, id="f" * 16),
    ):
        contradicted(store, *dispatched(wrong), error=AssertionError)
    apply(store, *dispatched(job))
    contradicted(store, *dispatched(job, 5), error=AssertionError)


def test_a_sight_of_an_attempt_at_another_dispatcher_asserts(store):
    job = a_job(store)
    apply(store, *dispatched(job))

    for wrong in (
        d.AttemptSeen(job.id, replace(ASSIGNED, dispatcher="d2")),
        d.AttemptSeen("f" * 16, ASSIGNED),
    ):
        contradicted(store, wrong, error=AssertionError)


def test_no_generation_fires_twice(store):
    job = a_job(store)

    contradicted(store, fired(4, job.rule), error=apsw.ConstraintError)


def test_no_attempt_number_is_used_twice(store):
    job = a_job(store)
    apply(store, *dispatched(job))

    contradicted(store, d.AttemptMade(job.id, 1, "d2", "process", 1.0), error=apsw.ConstraintError)


def test_no_identity_is_accepted_twice(store):
    one = recorded(1, post=Post("a", identity=Identity("s", "1")), digest=b"x")
    apply(store, one)

    contradicted(store, replace(one, seq=2), error=apsw.ConstraintError)


def test_no_seq_is_given_twice(store):
    apply(store, recorded(1))

    contradicted(store, recorded(1), error=apsw.ConstraintError)


def test_nothing_occurs_twice_by_a_worker(store):
    one = recorded(3, cause=Cause("f" * 16, 2, 1, 1), by_worker=True)
    apply(store, one)

    contradicted(store, replace(one, seq=4), error=apsw.ConstraintError)


@pytest.mark.parametrize(
    ("state", "progress"),
    [
        ("triggered", None),
        ("dispatched", None),
        ("running", None),
        ("succeeded", ASSIGNED),
        ("failed", ASSIGNED),
    ],
)
def test_no_state_is_without_what_it_needs(store, state, progress):
    job = a_job(store)

    contradicted(store, moved(job, 4, state, progress, attempt=1), error=apsw.ConstraintError)


# --- on file ------------------------------------------------------------------------------------


def lived(path: Path) -> Cirrus:
    """A Cirrus on a file, in which a bit of everything has happened."""
    cirrus = Cirrus(path)
    cirrus.put("event_set", "both", ["l", "r"])
    cirrus.rule("j", "both", "b", run=PROCESS, attempts=2, on_failure="sad")
    cirrus.rule("auto", "b", "c")
    for key in ("s1", "s2", "s3"):
        cirrus.post_all(post("l", key, id=key), post("r", key))
    cirrus.start(cirrus.job("j", key="s1"))
    cirrus.end(cirrus.job("j", key="s1"), output={"n": 1})
    cirrus.end(cirrus.job("j", key="s2"), "failure")
    cirrus.reset("s3", identity=Identity("s", "1"))
    cirrus.post("l", "s4")
    return cirrus


def test_a_store_that_is_opened_again_is_the_same(tmp_path):
    cirrus = lived(tmp_path / "cirrus.db")
    before = cirrus.dump()
    job, state = cirrus.job("j", key="s2"), cirrus.store.firing_state("j", "s2")
    cirrus.store.close()

    again = Cirrus(tmp_path / "cirrus.db")

    assert again.dump() == before
    assert (again.again(job), again.store.firing_state("j", "s2")) == (job, state)
    assert again.store.newest_reset("x", "s3") > 0
    again.post("r", "s4")
    assert again.firings()[-1] == "j 1 at s4"
    again.store.close()


def test_a_store_keeps_its_instance(tmp_path):
    for new in (INSTANCE, "c" * 16):
        store = SqliteStore(tmp_path / "cirrus.db", new_instance=new, bounds=d.Bounds())
        assert store.instance == INSTANCE
        store.close()


def test_a_reader_sees_what_is_committed_and_writes_nothing(tmp_path):
    cirrus = lived(tmp_path / "cirrus.db")
    reader = open_reader(tmp_path / "cirrus.db")
    count = "SELECT count(*) FROM occurrence"
    before = cirrus.rows(count)[0][0]

    with calling_off(cirrus.store):
        cirrus.store.apply(recorded(cirrus.store.last_seq() + 1))
        assert reader.execute(count).fetchall() == [(before,)]
    cirrus.post("l", "s5")
    assert reader.execute(count).fetchall() == [(before + 1,)]
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("DELETE FROM occurrence")
    reader.close()
    cirrus.store.close()


@pytest.mark.parametrize("more_pages", range(0, 40, 4))
def test_a_full_disk_leaves_nothing_of_the_turn_and_heals(tmp_path, more_pages):
    cirrus = lived(tmp_path / "cirrus.db")
    before, last = dump(cirrus.store), cirrus.store.last_seq()
    ((pages,),) = cirrus.rows("PRAGMA page_count")
    cirrus.rows(f"PRAGMA max_page_count = {int(pages) + more_pages}")
    many = [post("l", f"x{n}", data={"much": "x" * 3000}) for n in range(100)]

    with pytest.raises(StorageFull, match="free some space"):
        cirrus.post_all(*many)

    assert dump(cirrus.store) == before
    assert cirrus.store.last_seq() == last
    cirrus.rows("PRAGMA max_page_count = 1000000")
    assert len(cirrus.post_all(*many)) == 100
    cirrus.post("r", "s4")
    assert cirrus.firings()[-1] == "j 1 at s4"
    cirrus.store.close()


def test_a_disk_without_room_for_a_new_store_gives_one_clear_error(tmp_path, monkeypatch):
    def two_pages(connection: apsw.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 2").fetchall()

    monkeypatch.setattr(apsw, "connection_hooks", [two_pages])

    assert opening(tmp_path / "x").startswith("no room on the disk")
    monkeypatch.undo()
    lived(tmp_path / "x").store.close()


# --- files that are no store, or none any more --------------------------------------------------


def opening(path: Path) -> str:
    """The one line that says why this is not opened."""
    with pytest.raises(SetupError) as caught:
        SqliteStore(path, new_instance=INSTANCE, bounds=d.Bounds())
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


def test_a_file_that_is_no_database_is_not_a_store(tmp_path):
    (tmp_path / "x").write_bytes(b"just some text, and more of it\n" * 100)

    assert opening(tmp_path / "x").startswith("not a Cirrus store")
    assert (tmp_path / "x").read_bytes().startswith(b"just some text")


@pytest.mark.parametrize("version", [0, 1])
def test_a_database_of_something_else_is_not_a_store(tmp_path, version):
    with apsw.Connection(str(tmp_path / "x")) as connection:
        connection.execute(f"CREATE TABLE theirs (a); PRAGMA user_version = {version}").fetchall()
    connection.close()

    assert "not a Cirrus store" in opening(tmp_path / "x")
    connection = apsw.Connection(str(tmp_path / "x"))
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    connection.close()


def test_a_store_of_a_newer_version_is_left_alone(tmp_path):
    lived(tmp_path / "x").store.close()
    connection = apsw.Connection(str(tmp_path / "x"))
    connection.execute("PRAGMA user_version = 99").fetchall()
    connection.close()

    assert "newer version" in opening(tmp_path / "x")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    assert opening(tmp_path / "missing" / "x").startswith("cannot be opened for writing")
    assert opening(tmp_path).startswith("cannot be opened for writing")


def test_a_store_that_somebody_else_writes_is_not_opened(tmp_path):
    lived(tmp_path / "x").store.close()
    other = apsw.Connection(str(tmp_path / "x"))
    other.execute("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").fetchall()

    assert "another process" in opening(tmp_path / "x")
    other.close()


def test_an_empty_file_becomes_a_store(tmp_path):
    (tmp_path / "x").touch()

    store = SqliteStore(tmp_path / "x", new_instance=INSTANCE, bounds=d.Bounds())

    assert store.instance == INSTANCE
    store.close()


def damage(content: bytes, way: int, chance: Random) -> bytes:
    broken = bytearray(content)
    page = chance.randrange(len(content) // 4096) * 4096
    match way % 4:
        case 0:
            del broken[chance.randrange(len(content)) :]
        case 1:
            broken[page : page + 4096] = bytes(4096)
        case 2:
            broken[page : page + 4096] = chance.randbytes(4096)
        case _:
            broken[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(broken)


def outcome_of(path: Path) -> str:
    """What becomes of a Cirrus on this file; any error but the two that are meant goes on."""
    try:
        cirrus = Cirrus(path)
    except SetupError as error:
        return f"refused: {error}"
    try:
        for key in ("s1", "s2", "s3", "s9"):
            cirrus.post("l", key, force=True)
    except StoreBroken as error:
        return f"broken: {error}"
    finally:
        cirrus.store.close()
    return "unharmed: "


def test_a_damaged_file_gives_one_clear_error_and_no_other(tmp_path):
    lived(tmp_path / "whole").store.close()
    content = (tmp_path / "whole").read_bytes()
    chance = Random(4711)
    outcomes = []
    for way in range(80):
        path = tmp_path / f"damaged{way}"
        path.write_bytes(damage(content, way, chance))
        outcomes.append(outcome_of(path))

    assert {outcome.partition(":")[0] for outcome in outcomes} == {"refused", "broken", "unharmed"}
    assert all(len(outcome.splitlines()) == 1 for outcome in outcomes)


# --- migrations ---------------------------------------------------------------------------------


def test_a_migration_that_breaks_off_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    lived(tmp_path / "x").store.close()
    monkeypatch.setattr(
        "cirrus.store.connection._migrations",
        lambda: ["", "CREATE TABLE more (a); CREATE TABLE job (a)"],
    )

    assert "job already exists" in opening(tmp_path / "x")

    monkeypatch.undo()
    assert lives_on(tmp_path / "x")


def test_migrations_are_carried_out_once_and_in_order(tmp_path, monkeypatch):
    lived(tmp_path / "x").store.close()
    steps = ["", "CREATE TABLE more (a)", "INSERT INTO more VALUES (1)"]
    monkeypatch.setattr("cirrus.store.connection._migrations", lambda: steps)

    for _ in range(2):
        cirrus = Cirrus(tmp_path / "x")
        assert cirrus.rows("SELECT a FROM more") == [(1,)]
        assert cirrus.rows("PRAGMA user_version") == [(3,)]
        cirrus.store.close()


def lives_on(path: Path) -> bool:
    cirrus = Cirrus(path)
    cirrus.post("r", "s4")
    found = cirrus.firings()[-1] == "j 1 at s4"
    cirrus.store.close()
    return found


# --- every question an occurrence asks is answered by an index ----------------------------------

SCANNED_ON_PURPOSE = {
    "names",  # for what was meant by a wrong name
    "active_jobs",  # of an index of what is under way
    "jobs_under",  # of indexes of what has not ended
    "has_reset",  # the first row
    "last_time",  # the last row of each table
    "open_rules",  # a reset
    "clear_standing",
    "clear_joined",
    "instance",  # one row
    "clear_states",
}


@pytest.mark.parametrize("name", sorted(vars(SQL)))
def test_no_question_reads_a_whole_table(name):
    cirrus = Cirrus()
    rows = cirrus.rows(f"EXPLAIN QUERY PLAN {getattr(SQL, name)}", *values(name))
    plan = [row[3] for row in rows]
    scans = [
        line
        for line in plan
        if line.startswith("SCAN") and not line.endswith(("CONSTANT ROW", "VIRTUAL TABLE INDEX 1:"))
    ]

    assert "SCAN job" not in plan or name == "last_time"
    assert bool(scans) <= (name in SCANNED_ON_PURPOSE), plan


def values(name: str) -> list[object]:
    sql = getattr(SQL, name)
    numbered = [int(part[0]) for part in sql.split("?")[1:] if part[:1].isdigit()]
    return [None] * (max(numbered) if numbered else sql.count("?"))
