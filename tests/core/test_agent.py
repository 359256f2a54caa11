"""The dispatcher's decisions: the table of outcomes, then what it does, then laws."""

from collections.abc import Iterable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from cirrus.core.agent import (
    Action,
    Attempt,
    Began,
    Clear,
    End,
    Key,
    Kill,
    Look,
    Sighting,
    Start,
    classify,
    decide,
    live,
    next_due,
    obey,
    reports_of,
    steadied,
)
from cirrus.core.messages import Accepted, Ended, Live, Outcome, Run, Settled, Started, Stop
from cirrus.core.model import Container, Limits, Process, attempt_name

LIMITS = Limits(timeout_seconds=60.0, grace_seconds=5.0)
CONTAINER = Container("docker", "busybox", limits=LIMITS)
PROCESS = Process(("true",), limits=LIMITS)
SUCCESS = Outcome("success", 0)
GONE = "the engine does not know it any more: it was removed"
AWAY = "its engine went away"
TOO_MUCH = "it needed more memory than its limit"
NOT_EXECUTED = "the command could not be executed"


def run(attempt: int = 1, activity: Container | Process = CONTAINER, job: str = "job") -> Run:
    name = attempt_name("instance", job, attempt)
    return Run(job, attempt, name, "rule", "key", activity, {}, b"{}")


NAME = run().name


def ended(outcome: Outcome = SUCCESS, attempt: int = 1) -> Ended:
    return Ended("job", attempt, outcome, 1.0, 2.0)


FILED = Attempt(run(), filed=True, log_kept=True)
MARKED = replace(FILED, marked=True, log_kept=False)
RUNNING = replace(MARKED, started=1000.0, started_at=100.0)
ENDED = replace(RUNNING, end=ended())


def look(*sightings: Sighting, began_at: float = 120.0, outage=None) -> Look:
    return Look(began_at, {one.name: one for one in sightings}, outage)


CREATED = Sighting(NAME, "created")
RUNS = Sighting(NAME, "running", started=1000.0)


def exited(code: int | None, **facts: object) -> Sighting:
    return replace(Sighting(NAME, "exited", code, started=1000.0, finished=1010.0), **facts)


# --- the table of outcomes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "shaken", "outcome"),
    [
        (exited(0), False, Outcome("success", 0)),
        (exited(0), True, Outcome("success", 0)),
        (
            exited(0, oom_killed=True),
            False,
            Outcome("success", 0, "a process in it was killed for want of memory"),
        ),
        (exited(1), False, Outcome("failure", 1, "exit code 1")),
        (exited(1), True, Outcome("failure", 1, "exit code 1")),
        (exited(254), True, Outcome("failure", 254, "exit code 254")),
        (exited(1, oom_killed=True), False, Outcome("failure", 1, "exit code 1")),
        (exited(126), False, Outcome("failure", 126, f"exit code 126: {NOT_EXECUTED}")),
        (exited(127), False, Outcome("failure", 127, "exit code 127: the command was not found")),
        (exited(3, problem="no disk"), False, Outcome("failure", 3, "no disk")),
        (exited(137, oom_killed=True), False, Outcome("oom", 137, TOO_MUCH)),
        (exited(137, oom_killed=True), True, Outcome("oom", 137, TOO_MUCH)),
        (exited(137), False, Outcome("failure", 137, "exit code 137: killed by SIGKILL")),
        (exited(143), False, Outcome("failure", 143, "exit code 143: killed by SIGTERM")),
        (exited(139), True, Outcome("failure", 139, "exit code 139: killed by SIGSEGV")),
        (exited(137), True, Outcome("interrupted", 137, f"{AWAY} and took it along")),
        (exited(143), True, Outcome("interrupted", 143, f"{AWAY} and took it along")),
        (exited(255), False, Outcome("failure", 255, "exit code 255")),
        (exited(255), True, Outcome("unknown", 255, f"{AWAY}: the exit code may not be its own")),
        (exited(None), False, Outcome("unknown", None, "its exit code is lost")),
        (exited(None, problem="vanished"), True, Outcome("unknown", None, "vanished")),
        (None, False, Outcome("unknown", None, GONE)),
        (None, True, Outcome("unknown", None, GONE)),
        (Sighting(NAME, "dead"), False, Outcome("unknown", None, "its exit code is lost")),
        (Sighting(NAME, "dead", 137, problem="stuck"), True, Outcome("unknown", 137, "stuck")),
    ],
)  # fmt: skip
def test_an_outcome_is_what_the_table_says(
    seen: Sighting | None, outcome: Outcome, *, shaken: bool
):
    assert classify(seen, shaken=shaken) == outcome


@pytest.mark.parametrize("why", ["timeout", "cancelled"])
@pytest.mark.parametrize("shaken", [False, True])
@pytest.mark.parametrize("code", [0, 1, 137, 143, 255, None])
def test_what_we_stopped_ended_because_of_us_whatever_it_said(why, shaken, code):
    outcome = classify(exited(code, oom_killed=code == 137), killed=why, shaken=shaken)
    assert outcome == Outcome(why, code, "stopped by Cirrus")
    assert classify(None, killed=why, shaken=shaken) == Outcome(why, None, "stopped by Cirrus")


# --- starting -----------------------------------------------------------------------------------


def test_an_attempt_that_was_never_started_is_started_without_a_look():
    assert decide(FILED, None, 120.0) == Start()


def test_a_marked_attempt_is_started_only_if_the_engine_shows_that_it_never_was():
    assert decide(MARKED, None, 120.0) is None
    assert decide(MARKED, look(CREATED), 120.0) == Start()
    assert decide(FILED, look(CREATED), 120.0) == Start()
    assert decide(FILED, look(), 120.0) == Start()


def test_a_start_that_failed_is_repeated_only_after_a_rest():
    tired = replace(FILED, rests_until=130.0)
    assert decide(tired, None, 129.0) is None
    assert decide(tired, look(CREATED), 129.0) is None
    assert decide(tired, look(CREATED), 130.0) == Start()


def test_a_look_from_before_the_last_act_says_nothing():
    acted = replace(MARKED, acted_at=121.0)
    assert decide(acted, look(began_at=120.9), 122.0) is None
    assert decide(acted, look(began_at=121.0), 122.0) == End(Outcome("unknown", reason=GONE))


def test_a_marked_attempt_that_is_not_there_is_lost():
    assert decide(RUNNING, look(), 120.0) == End(Outcome("unknown", reason=GONE), 1000.0)


def test_that_an_attempt_runs_is_told_once():
    assert decide(MARKED, look(RUNS), 120.0) == Began(1000.0)
    assert decide(RUNNING, look(RUNS), 120.0) is None


# --- stopping -----------------------------------------------------------------------------------


def test_what_was_never_started_and_is_to_stop_just_ends():
    never = Outcome("cancelled", reason="it was never started")
    for attempt in (replace(FILED, stop="cancelled"), replace(MARKED, stop="cancelled")):
        assert decide(attempt, look(CREATED), 120.0) == End(never)
    assert decide(replace(FILED, stop="cancelled", rests_until=999.0), None, 120.0) == End(never)


def test_what_runs_and_is_to_stop_is_told_so():
    assert decide(replace(RUNNING, stop="cancelled"), look(RUNS), 120.0) == Kill("cancelled")


def test_a_stop_that_failed_is_repeated_after_a_rest_and_keeps_its_reason():
    told = replace(RUNNING, stop="cancelled", killed="timeout", rests_until=130.0)
    assert decide(told, look(RUNS), 129.0) is None
    assert decide(told, look(RUNS), 130.0) == Kill("timeout")


def test_a_timeout_counts_from_the_start():
    assert decide(RUNNING, look(RUNS), 159.9) is None
    assert decide(RUNNING, look(RUNS), 160.0) == Kill("timeout")
    forever = replace(RUNNING, order=run(activity=Container("docker", "busybox")))
    assert decide(forever, look(RUNS), 1e9) is None


def test_what_ended_by_itself_before_it_was_stopped_keeps_its_end():
    wanted = replace(RUNNING, stop="cancelled")
    assert decide(wanted, look(exited(0)), 120.0) == End(SUCCESS, 1000.0, 1010.0)
    assert decide(RUNNING, look(exited(0)), 1e9) == End(SUCCESS, 1000.0, 1010.0)


def test_what_was_to_stop_and_is_gone_is_stopped():
    wanted = replace(RUNNING, stop="cancelled")
    assert decide(wanted, look(), 120.0) == End(
        Outcome("cancelled", reason="stopped by Cirrus"), 1000.0
    )


# --- ending -------------------------------------------------------------------------------------


def test_the_times_are_the_engine_s_or_what_was_reported():
    seen = exited(0, started=None, finished=None)
    assert decide(RUNNING, look(seen), 120.0) == End(SUCCESS, 1000.0, None)


def test_lost_contact_counts_for_containers_only():
    shaken = replace(RUNNING, shaken=True)
    action = decide(shaken, look(exited(137)), 120.0)
    assert isinstance(action, End)
    assert action.outcome.kind == "interrupted"
    action = decide(replace(shaken, order=run(activity=PROCESS)), look(exited(137)), 120.0)
    assert isinstance(action, End)
    assert action.outcome.kind == "failure"


@pytest.mark.parametrize(
    ("finished", "outage", "noted"),
    [
        (1010.0, (1011.0, 1020.0), True),  # it ended within the grace before
        (1010.0, (990.0, 1005.0), True),
        (1010.0, (1015.1, 1020.0), False),
        (1010.0, (990.0, 1004.9), False),
        (1010.0, None, False),
        (None, (990.0, 1020.0), False),
    ],
)
def test_a_success_while_the_engine_was_away_says_so(finished, outage, noted):
    shaken = replace(RUNNING, shaken=True)
    action = decide(shaken, look(exited(0, finished=finished), outage=outage), 120.0)
    assert isinstance(action, End)
    assert action.outcome.kind == "success"
    assert bool(action.outcome.reason) == noted


def test_being_seen_running_heals_a_lost_contact():
    shaken = replace(RUNNING, shaken=True)
    assert steadied(shaken, look(RUNS)) == RUNNING
    assert steadied(shaken, look(exited(137))) == shaken
    assert steadied(shaken, look()) == shaken
    assert steadied(RUNNING, look(RUNS)) == RUNNING


def test_an_end_never_changes():
    for seen in (CREATED, exited(7), Sighting(NAME, "dead")):
        assert decide(ENDED, look(seen), 120.0) is None
    assert decide(ENDED, look(), 120.0) is None
    assert decide(ENDED, None, 120.0) is None


def test_what_was_lost_and_is_found_running_is_stopped():
    lost = replace(ENDED, end=ended(Outcome("unknown")), settled=True, log_kept=True)
    assert decide(lost, look(RUNS), 120.0) == Kill("cancelled")
    assert decide(replace(lost, killed="timeout"), look(RUNS), 120.0) == Kill("timeout")
    assert decide(replace(lost, acted_at=121.0), look(RUNS), 122.0) == Clear()
    assert decide(replace(lost, rests_until=121.0), look(RUNS), 120.0) is None


def test_an_attempt_is_cleared_once_its_end_is_settled_and_its_log_kept():
    assert decide(replace(ENDED, settled=True), None, 120.0) is None
    assert decide(replace(ENDED, log_kept=True), None, 120.0) is None
    done = replace(ENDED, settled=True, log_kept=True)
    assert decide(done, None, 120.0) == Clear()
    assert decide(done, look(exited(0)), 120.0) == Clear()
    assert decide(replace(done, rests_until=121.0), None, 120.0) is None


def test_the_next_look_is_due_at_a_timeout_or_after_a_rest():
    assert next_due([], 0.0) is None
    assert next_due([FILED, ENDED], 0.0) is None
    assert next_due([RUNNING, replace(FILED, rests_until=150.0)], 120.0) == 150.0
    assert next_due([RUNNING, replace(FILED, rests_until=150.0)], 150.0) == 160.0
    assert next_due([RUNNING], 160.0) is None


# --- orders -------------------------------------------------------------------------------------


def known(*attempts: Attempt) -> dict[Key, Attempt]:
    return {attempt.key: attempt for attempt in attempts}


def test_a_new_order_makes_an_attempt():
    reply = obey({}, run())
    assert reply.changed == (Attempt(run()),)
    assert reply.reports == ()


@pytest.mark.parametrize(
    ("attempt", "reports"),
    [
        (Attempt(run()), ()),
        (FILED, (Accepted("job", 1),)),
        (MARKED, (Accepted("job", 1),)),
        (RUNNING, (Started("job", 1, 1000.0),)),
        (ENDED, (ended(),)),
        (replace(ENDED, settled=True), ()),
    ],
)
def test_an_order_that_comes_again_is_answered_and_changes_nothing(attempt, reports):
    reply = obey(known(attempt), run())
    assert (reply.changed, reply.reports) == ((), reports)
    assert reports_of(attempt) == reports


def test_an_order_older_than_what_is_known_is_ignored():
    reply = obey(known(replace(RUNNING, order=run(2))), run(1))
    assert (reply.changed, reply.reports) == ((), ())
    assert "ignored" in reply.note


def test_a_newer_attempt_stops_the_older_ones_of_its_job_only():
    other = replace(RUNNING, order=run(1, job="other"))
    late = replace(ENDED, order=run(2))
    stopping = replace(RUNNING, order=run(3), stop="timeout")
    reply = obey(known(RUNNING, late, stopping, other), run(4))
    assert reply.changed == (replace(RUNNING, stop="cancelled"), stopping, Attempt(run(4)))


def test_stopping_is_remembered_and_its_first_reason_counts():
    reply = obey(known(RUNNING), Stop("job", 1))
    assert reply.changed == (replace(RUNNING, stop="cancelled"),)
    reply = obey(known(replace(RUNNING, stop="timeout")), Stop("job", 1))
    assert reply.changed == (replace(RUNNING, stop="timeout"),)


def test_stopping_what_has_ended_reports_its_end_again():
    reply = obey(known(ENDED), Stop("job", 1))
    assert (reply.changed, reply.reports) == ((), (ended(),))


def test_stopping_what_is_not_known_is_answered_so_that_nobody_waits():
    reply = obey({}, Stop("job", 1, "timeout"))
    [report] = reply.reports
    assert isinstance(report, Ended)
    assert report.outcome == Outcome("timeout", reason="this dispatcher does not know it")


def test_only_an_end_can_be_settled_and_only_once():
    assert obey({}, Settled("job", 1)).changed == ()
    assert obey(known(RUNNING), Settled("job", 1)).changed == ()
    assert obey(known(ENDED), Settled("job", 1)).changed == (replace(ENDED, settled=True),)
    assert obey(known(replace(ENDED, settled=True)), Settled("job", 1)).changed == ()


def test_leases_are_asked_for_what_has_a_folder_and_is_not_settled():
    attempts = [
        Attempt(run(1)),
        replace(FILED, order=run(2)),
        replace(RUNNING, order=run(3)),
        replace(ENDED, order=run(4)),
        replace(ENDED, order=run(5), settled=True),
    ]
    assert live(attempts) == (
        Live("job", 2, "accepted"),
        Live("job", 3, "running"),
        Live("job", 4, "ended"),
    )


# --- laws ---------------------------------------------------------------------------------------


class Engine:
    """An engine in a few lines: what it did, and what it is asked to do without checking."""

    def __init__(self) -> None:
        self.state: dict[str, Sighting] = {}
        self.starts: dict[str, int] = {}

    def start(self, name: str) -> None:
        """Like Docker's: it restarts what has exited."""
        self.starts[name] = self.starts.get(name, 0) + 1
        self.state[name] = Sighting(name, "running", started=1.0)

    def end(self, name: str, code: int) -> None:
        self.state[name] = Sighting(name, "exited", code, started=1.0, finished=2.0)


KEYS = [("a", 1), ("a", 2), ("b", 1)]
FOREIGN = "cirrus-foreign-c-1"


class World(RuleBasedStateMachine):
    """A dispatcher in an unreliable world: any order, doubled, late; lost replies; crashes."""

    @initialize()
    def begin(self) -> None:
        self.engine = Engine()
        self.engine.start(FOREIGN)
        self.known: dict[Key, Attempt] = {}
        self.looks: list[Look] = []
        self.ends: dict[Key, Ended] = {}
        self.cleared: set[Key] = set()
        self.now = 0.0

    @rule(key=st.sampled_from(KEYS))
    def ordered_to_run(self, key: Key) -> None:
        if key not in self.cleared:  # the service asks its archive first
            self.apply(obey(self.known, run(key[1], job=key[0])).changed)

    @rule(key=st.sampled_from(KEYS))
    def ordered_to_stop(self, key: Key) -> None:
        self.apply(obey(self.known, Stop(*key)).changed)

    @rule(key=st.sampled_from(KEYS))
    def settled(self, key: Key) -> None:
        self.apply(obey(self.known, Settled(*key)).changed)

    @rule()
    def looked(self) -> None:
        self.now += 1
        self.looks.append(Look(self.now, dict(self.engine.state)))

    @precondition(lambda self: self.looks)
    @rule(data=st.data(), heard=st.booleans())
    def decided(self, data: st.DataObject, *, heard: bool) -> None:
        """With any look, however old; `heard`: the engine's answer came back."""
        seen = data.draw(st.sampled_from([None, *self.looks]))
        for key in list(self.known):
            attempt = steadied(self.known[key], seen) if seen else self.known[key]
            self.act(key, decide(attempt, seen, self.now), heard=heard)

    @rule(key=st.sampled_from(KEYS), code=st.sampled_from([0, 1, 137, 255]))
    def it_ends_by_itself(self, key: Key, code: int) -> None:
        name = run(key[1], job=key[0]).name
        if name in self.engine.state and self.engine.state[name].state == "running":
            self.engine.end(name, code)

    @rule(key=st.sampled_from(KEYS))
    def somebody_removes_it(self, key: Key) -> None:
        self.engine.state.pop(run(key[1], job=key[0]).name, None)

    @rule()
    def the_dispatcher_crashes(self) -> None:
        """Left is what is on its disk."""
        self.looks = []
        self.known = {
            key: replace(one, started=None, stop=None, settled=False, acted_at=0.0, shaken=True)
            for key, one in self.known.items()
            if one.filed
        }

    def apply(self, changed: Iterable[Attempt]) -> None:
        for attempt in changed:
            self.known[attempt.key] = replace(attempt, filed=True, log_kept=True)

    def act(self, key: Key, action: Action | None, *, heard: bool) -> None:
        name = self.known[key].order.name
        self.now += 1
        match action:
            case None:
                return
            case Start():
                self.engine.state.setdefault(name, Sighting(name, "created"))
                self.change(key, marked=True)
                if self.engine.state[name].state == "created":  # so every executor promises
                    self.engine.start(name)
                if heard:
                    self.change(key, started=1.0)
            case Began():
                self.change(key, started=1.0)
            case Kill(why):
                self.change(key, killed=why)
                if heard:
                    self.engine.end(name, 137)
            case End(outcome, started, finished):
                assert key not in self.ends
                assert outcome.reason != GONE or name not in self.engine.state
                self.ends[key] = Ended(*key, outcome, started, finished)
                self.change(key, end=self.ends[key])
            case Clear():
                self.engine.state.pop(name, None)
                del self.known[key]
                self.cleared.add(key)
                return
        self.change(key, acted_at=self.now)

    def change(self, key: Key, **changes: object) -> None:
        self.known[key] = replace(self.known[key], **changes)

    @invariant()
    def no_attempt_is_started_twice(self) -> None:
        assert max(self.engine.starts.values()) == 1

    @invariant()
    def an_end_never_changes(self) -> None:
        for key, end in self.ends.items():
            assert key in self.cleared or self.known[key].end == end

    @invariant()
    def what_is_foreign_is_never_touched(self) -> None:
        assert self.engine.state[FOREIGN].state == "running"

    @invariant()
    def nothing_is_cleared_that_was_not_settled(self) -> None:
        assert self.cleared <= self.ends.keys()


TestWorld = World.TestCase
