"""What becomes of a job: semantics.md section 7."""

import msgspec
import pytest
from tests.core.toy import PROCESS, Cirrus, assigned, dispatcher, post

from cirrus.core.decision import Waiting
from cirrus.core.inputs import (
    CancelAsked,
    HelloSaid,
    NoteMade,
    PauseAsked,
    RetryAsked,
    StatesCleared,
    WorkerPosted,
)
from cirrus.core.jobs import FORGOTTEN_SECONDS, OUTPUT_BYTES_MOST, RESEND_SECONDS, backoff_seconds
from cirrus.core.messages import Accepted, Ended, Hello, Live, Outcome, Settled, Started, Stop
from cirrus.errors import BadDocument, Conflict, NotFound, Refused

LOST_AFTER = 600.0


def running(cirrus: Cirrus | None = None, **rest: object) -> Cirrus:
    """The rule `r` on `a` triggers `b`; its job runs at d1."""
    cirrus = cirrus or Cirrus()
    cirrus.rule("r", "a", "b", run=PROCESS, **rest)
    cirrus.post("a")
    cirrus.start(cirrus.job("r"))
    return cirrus


def outcomes(cirrus: Cirrus) -> list[tuple[int, str | None, int]]:
    """Of each attempt: its number, how it ended, and whether that came late."""
    return cirrus.rows("SELECT attempt, outcome, late FROM attempt ORDER BY attempt")


def moves(cirrus: Cirrus) -> list[str]:
    return [row[0] for row in cirrus.rows("SELECT state FROM moment WHERE kind = 'move'")]


# --- from its firing to its end -----------------------------------------------------------------


def test_a_job_is_dispatched_accepted_started_and_succeeds():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b", run=PROCESS)
    cirrus.post("a")
    assert cirrus.ordered() == ["d1: run 1"]
    assert cirrus.job("r").state == "dispatched"

    cirrus.accept(cirrus.job("r"))
    assert assigned(cirrus.job("r")).accepted
    cirrus.start(cirrus.job("r"))
    assert cirrus.job("r").state == "running"
    cirrus.end(cirrus.job("r"))

    assert cirrus.ordered() == ["d1: settled 1"]
    assert cirrus.job("r").state == "succeeded"
    assert moves(cirrus) == ["dispatched", "running", "succeeded"]
    assert outcomes(cirrus) == [(1, "success", 0)]


def test_an_auto_trigger_succeeds_at_once_and_runs_nothing():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b")
    cirrus.post("a")

    assert cirrus.orders == []
    assert (cirrus.job("r").state, cirrus.job("r").attempt) == ("succeeded", 0)
    assert moves(cirrus) == []
    assert cirrus.occurred() == ["a", "b"]


def test_a_rule_that_triggers_nothing_only_runs():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.post("a")
    cirrus.end(cirrus.job("r"))

    assert cirrus.occurred() == ["a"]


def test_a_success_counts_though_the_report_of_the_start_was_lost():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b", run=PROCESS)
    cirrus.post("a")
    cirrus.end(cirrus.job("r"))

    assert moves(cirrus) == ["dispatched", "succeeded"]


def test_every_event_of_the_triggering_occurs_with_the_jobs_output():
    cirrus = Cirrus()
    cirrus.put("event_set", "out", ["x", "y"])
    cirrus.rule("r", "a", "out", run=PROCESS)
    cirrus.post("a", "k")

    cirrus.end(cirrus.job("r", key="k"), output={"n": 1})

    assert cirrus.occurred() == ["a at k", "x at k", "y at k"]
    assert cirrus.rows("SELECT DISTINCT data FROM occurrence WHERE event <> 'a'") == [(b'{"n":1}',)]


def test_a_job_without_output_triggers_with_empty_data():
    cirrus = running()
    cirrus.end(cirrus.job("r"))

    assert cirrus.rows("SELECT data FROM occurrence WHERE event = 'b'") == [(b"{}",)]


@pytest.mark.parametrize(
    "output",
    [
        b"nonsense",
        b"[]",
        b"1",
        b"null",
        b"\xff",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b'{"a":' + b"[" * 60_000,
        b'{"a":"' + b"x" * OUTPUT_BYTES_MOST + b'"}',
    ],
)
def test_an_output_that_is_none_fails_the_job_whatever_the_dispatcher_let_through(output):
    cirrus = running(attempts=3)
    job = cirrus.job("r")

    cirrus.report(Ended(job.id, 1, Outcome("success", 0), None, None, output))

    assert cirrus.ordered() == ["d1: settled 1"]
    assert cirrus.job("r").state == "failed"
    assert outcomes(cirrus) == [(1, "refused", 0)]
    assert cirrus.occurred() == ["a"]


@pytest.mark.parametrize("output", [{}, {"a": [{"b": [1]}]}, {"a": "x" * 60_000}])
def test_an_output_that_is_one_is_kept(output):
    cirrus = running()
    cirrus.end(cirrus.job("r"), output=output)

    assert cirrus.job("r").state == "succeeded"


# --- 7.1 how attempts are spent -----------------------------------------------------------------


def test_a_failure_with_attempts_left_waits_and_is_tried_again_with_the_next_number():
    cirrus = running(attempts=2)
    cirrus.end(cirrus.job("r"), "failure")

    job = cirrus.job("r")
    assert (job.state, job.attempt, job.failures) == ("triggered", 1, 1)
    assert job.progress == Waiting(cirrus.now + 1.0)

    cirrus.wait(0.9)
    assert cirrus.orders == []
    cirrus.wait(0.1)
    assert cirrus.ordered() == ["d1: run 2"]
    assert cirrus.run_ordered().name.endswith("-2")


@pytest.mark.parametrize("kind", ["failure", "timeout"])
@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_counts_all_tries(kind, attempts):
    cirrus = running(attempts=attempts)
    for _ in range(attempts):
        assert cirrus.job("r").state in ("running", "dispatched")
        cirrus.end(cirrus.job("r"), kind)
        cirrus.wait(1000)

    job = cirrus.job("r")
    assert (job.state, job.failures, job.attempt) == ("failed", attempts, attempts)
    assert outcomes(cirrus) == [(n, kind, 0) for n in range(1, attempts + 1)]


@pytest.mark.parametrize("kind", ["interrupted", "unknown", "lost"])
@pytest.mark.parametrize("limit", [0, 2])
def test_faults_of_the_infrastructure_spend_the_crash_limit_on_top(kind, limit):
    cirrus = running(Cirrus(crash_limit=limit), attempts=1)
    for _ in range(limit):
        cirrus.end(cirrus.job("r"), kind)
        assert cirrus.job("r").state == "triggered"
        cirrus.wait(1000)
    cirrus.end(cirrus.job("r"), kind)

    job = cirrus.job("r")
    assert (job.state, job.crashes, job.failures) == ("failed", limit + 1, 0)


def test_crashes_spend_no_attempts_and_failures_no_crashes():
    cirrus = running(Cirrus(crash_limit=2), attempts=2)
    for kind in ("lost", "failure", "interrupted"):
        cirrus.end(cirrus.job("r"), kind)
        cirrus.wait(1000)
    assert (cirrus.job("r").failures, cirrus.job("r").crashes) == (1, 2)

    cirrus.end(cirrus.job("r"), "failure")

    assert cirrus.job("r").state == "failed"
    assert cirrus.job("r").attempt == 4


@pytest.mark.parametrize("kind", ["oom", "refused"])
def test_what_would_go_wrong_again_fails_the_job_at_once(kind):
    cirrus = running(attempts=5)
    cirrus.end(cirrus.job("r"), kind)

    assert cirrus.job("r").state == "failed"


def test_a_success_after_failures_succeeds():
    cirrus = running(attempts=2)
    cirrus.end(cirrus.job("r"), "failure")
    cirrus.wait(5)
    cirrus.end(cirrus.job("r"))

    assert cirrus.job("r").state == "succeeded"
    assert cirrus.occurred() == ["a", "b"]


def test_the_backoff_doubles_from_a_second_up_to_five_minutes():
    waits = [backoff_seconds(attempt) for attempt in range(1, 12)]

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert backoff_seconds(10**9) == 300


# --- 7.1 the fence ------------------------------------------------------------------------------


def test_a_report_of_an_older_attempt_changes_nothing():
    cirrus = running(attempts=3)
    first = cirrus.job("r")
    cirrus.end(first, "failure")
    cirrus.wait(5)
    before = cirrus.dump()

    for report in (
        Accepted(first.id, 1),
        Started(first.id, 1, 0.0),
        Ended(first.id, 1, Outcome("success", 0), None, None),
        Ended(first.id, 1, Outcome("failure", 1), None, None),
    ):
        cirrus.report(report)

    assert cirrus.dump() == before
    assert cirrus.job("r").state == "dispatched"


def test_a_report_of_an_attempt_that_is_still_to_come_changes_nothing():
    cirrus = running(attempts=3)
    before = cirrus.dump()

    cirrus.report(Ended(cirrus.job("r").id, 2, Outcome("success", 0), None, None))

    assert cirrus.ordered() == ["d1: settled 2"]
    assert cirrus.dump() == before


def test_a_report_from_another_dispatcher_changes_nothing():
    cirrus = running()
    before = cirrus.dump()

    cirrus.end(cirrus.job("r"), by="d2")

    assert cirrus.ordered() == ["d2: settled 1"]
    assert cirrus.dump() == before


def test_a_report_about_no_job_at_all_is_settled_so_that_it_is_said_no_more():
    cirrus = running()
    before = cirrus.dump()

    cirrus.report(Ended("f" * 16, 1, Outcome("success", 0), None, None))
    assert cirrus.ordered() == ["d1: settled 1"]
    cirrus.report(Started("f" * 16, 1, 0.0))
    assert cirrus.ordered() == ["d1: stop 1"]
    assert cirrus.dump() == before


@pytest.mark.parametrize("kind", ["success", "failure", "lost", "unknown", "oom"])
def test_an_end_that_is_reported_twice_is_counted_once_and_settled_twice(kind):
    cirrus = running(attempts=2)
    job = cirrus.job("r")
    cirrus.end(job, kind)
    before = cirrus.dump()

    cirrus.end(job, kind)

    assert cirrus.ordered() == ["d1: settled 1"]
    assert cirrus.dump() == before


def test_a_start_that_is_reported_twice_is_recorded_once():
    cirrus = running()
    before = cirrus.dump()

    cirrus.start(cirrus.job("r"))
    cirrus.accept(cirrus.job("r"))

    assert cirrus.dump() == before
    assert cirrus.orders == []


def test_a_late_start_of_what_has_succeeded_is_no_reason_to_stop_it():
    cirrus = running()
    job = cirrus.job("r")
    cirrus.end(job)

    cirrus.start(job)

    assert cirrus.orders == []


def test_an_attempt_that_is_not_wanted_any_more_is_told_to_stop():
    cirrus = running(attempts=2)
    job = cirrus.job("r")
    cirrus.end(job, "lost")

    cirrus.accept(job)
    assert cirrus.ordered() == ["d1: stop 1"]
    cirrus.start(job)
    assert cirrus.ordered() == ["d1: stop 1"]


def test_the_late_result_of_a_lost_attempt_is_shown_and_counts_for_nothing():
    cirrus = running()
    job = cirrus.job("r")
    cirrus.wait(LOST_AFTER + 1)
    cirrus.wait(10)
    assert outcomes(cirrus) == [(1, "lost", 0), (2, None, 0)]

    cirrus.end(job, "success")
    cirrus.end(job, "failure")

    assert outcomes(cirrus) == [(1, "success", 1), (2, None, 0)]
    assert cirrus.job("r").attempt == 2
    assert cirrus.occurred() == ["a"]


def test_what_a_dispatchers_clock_says_moves_no_time_of_ours():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.post("a")
    job = cirrus.job("r")

    cirrus.report(Started(job.id, 1, 9e10))

    assert cirrus.rows("SELECT time FROM moment WHERE state = 'running'") == [(cirrus.now,)]
    assert cirrus.rows("SELECT started FROM attempt") == [(9e10,)]
    assert cirrus.store.last_time() == cirrus.now


# --- 7.2 on_failure -----------------------------------------------------------------------------


def test_on_failure_occurs_once_when_the_job_has_failed():
    cirrus = running(attempts=2, on_failure="sad")
    job = cirrus.job("r")
    cirrus.end(job, "failure")
    assert cirrus.occurred() == ["a"]
    cirrus.wait(5)
    cirrus.end(cirrus.job("r"), "failure")

    assert cirrus.occurred() == ["a", "sad"]
    ((data,),) = cirrus.rows("SELECT data FROM occurrence WHERE event = 'sad'")
    assert msgspec.json.decode(data) == {
        "job": job.id,
        "rule": "r",
        "outcome": "failure",
        "exit_code": 1,
        "reason": "so it was",
    }


def test_on_failure_may_name_a_set_and_inherits_key_and_force():
    cirrus = Cirrus()
    cirrus.put("event_set", "sorry", ["x", "y"])
    cirrus.rule("r", "a", run=PROCESS, on_failure="sorry")
    cirrus.post("a", "k", force=True)
    cirrus.end(cirrus.job("r", key="k"), "oom")

    assert cirrus.occurred() == ["a at k!", "x at k!", "y at k!"]


def test_on_failure_names_what_it_means_when_the_job_fails():
    cirrus = Cirrus()
    cirrus.put("event_set", "sorry", ["x"])
    cirrus.rule("r", "a", run=PROCESS, on_failure="sorry")
    cirrus.post("a")
    cirrus.put("event_set", "sorry", ["y"])
    cirrus.end(cirrus.job("r"), "failure")

    assert cirrus.occurred() == ["a", "y"]


def test_on_failure_never_occurs_when_the_job_was_cancelled():
    cirrus = running(on_failure="sad")
    cirrus.cancel(cirrus.job("r"))
    cirrus.end(cirrus.job("r"), "failure")

    assert cirrus.job("r").state == "cancelled"
    assert cirrus.occurred() == ["a"]


def test_on_failure_of_an_older_generation_still_occurs():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b", run=PROCESS, on_failure="sad")
    cirrus.post("a")
    cirrus.post("a", force=True)
    cirrus.end(cirrus.job("r", 2))
    cirrus.end(cirrus.job("r", 1), "failure")

    assert cirrus.occurred() == ["a", "a!", "b!", "sad"]


def test_on_failure_of_a_firing_from_before_a_reset_is_late():
    cirrus = running(on_failure="sad")
    cirrus.reset()
    cirrus.end(cirrus.job("r"), "failure")

    assert cirrus.occurred() == ["a", "sad late"]


# --- 7.4 a worker that triggers by itself -------------------------------------------------------


def two_targets(**rest: object) -> Cirrus:
    cirrus = Cirrus()
    cirrus.put("event_set", "out", ["x", "y"])
    cirrus.rule("r", "a", "out", run=PROCESS, **rest)
    cirrus.post("a", "k")
    return cirrus


def test_what_a_worker_triggers_occurs_at_once_under_the_jobs_key():
    cirrus = two_targets()
    cirrus.rule("next", "x", run=PROCESS)

    answer = cirrus.worker_posts(cirrus.job("r", key="k"), "x", data={"n": 1})

    assert (answer.key, answer.duplicate) == ("k", False)
    assert cirrus.occurred() == ["a at k", "x at k"]
    assert cirrus.firings() == ["r 1 at k", "next 1 at k"]


def test_at_success_only_those_occur_that_the_worker_did_not_trigger():
    cirrus = two_targets()
    cirrus.worker_posts(cirrus.job("r", key="k"), "x")
    cirrus.end(cirrus.job("r", key="k"))

    assert cirrus.occurred() == ["a at k", "x at k", "y at k"]


def test_the_first_of_a_workers_occurrences_counts_and_later_ones_are_duplicates():
    cirrus = two_targets()
    job = cirrus.job("r", key="k")
    first = cirrus.worker_posts(job, "x", data={"n": 1})

    again = cirrus.worker_posts(job, "x", data={"n": 2}, force=True)

    assert (again.seq, again.duplicate) == (first.seq, True)
    assert cirrus.occurred() == ["a at k", "x at k"]


def test_later_attempts_share_what_an_earlier_one_triggered():
    cirrus = two_targets(attempts=2)
    first = cirrus.worker_posts(cirrus.job("r", key="k"), "x")
    cirrus.end(cirrus.job("r", key="k"), "failure")
    cirrus.wait(5)

    again = cirrus.worker_posts(cirrus.job("r", key="k"), "x")
    cirrus.end(cirrus.job("r", key="k"))

    assert (again.seq, again.duplicate) == (first.seq, True)
    assert cirrus.occurred() == ["a at k", "x at k", "y at k"]


def test_the_next_generation_triggers_anew():
    cirrus = two_targets()
    cirrus.worker_posts(cirrus.job("r", key="k"), "x")
    cirrus.post("a", "k", force=True)

    answer = cirrus.worker_posts(cirrus.job("r", 2, "k"), "x")

    assert not answer.duplicate
    assert cirrus.occurred() == ["a at k", "x at k", "a at k!", "x at k!"]


def test_failure_takes_nothing_back():
    cirrus = two_targets()
    cirrus.worker_posts(cirrus.job("r", key="k"), "x")
    cirrus.end(cirrus.job("r", key="k"), "failure")

    assert cirrus.occurred() == ["a at k", "x at k"]
    assert cirrus.job("r", key="k").state == "failed"


def test_a_worker_may_give_a_key_of_its_own():
    cirrus = two_targets()
    job = cirrus.job("r", key="k")

    for key in ("k/1", "k/2", "k/1"):
        cirrus.worker_posts(job, "x", key)

    assert cirrus.occurred() == ["a at k", "x at k/1", "x at k/2"]


@pytest.mark.parametrize("kind", ["failure", "success", "lost"])
def test_the_token_of_an_ended_attempt_triggers_nothing(kind):
    cirrus = two_targets(attempts=2)
    job = cirrus.job("r", key="k")
    cirrus.end(job, kind)
    before = cirrus.dump()

    with pytest.raises(Conflict) as caught:
        cirrus.worker_posts(job, "x")

    assert (caught.value.status, caught.value.code) == (409, "stale_attempt")
    assert cirrus.dump() == before


def test_the_token_of_an_older_attempt_triggers_nothing_while_the_next_one_runs():
    cirrus = two_targets(attempts=2)
    old = cirrus.job("r", key="k")
    cirrus.end(old, "failure")
    cirrus.wait(5)

    with pytest.raises(Conflict):
        cirrus.worker_posts(old, "x")
    assert not cirrus.worker_posts(cirrus.job("r", key="k"), "x").duplicate


def test_a_token_of_no_job_triggers_nothing():
    cirrus = two_targets()

    with pytest.raises(Conflict):
        cirrus.ask(WorkerPosted("f" * 16, 1, post("x")))


def test_a_worker_triggers_only_what_its_rule_triggers():
    cirrus = two_targets()

    for name in ("a", "elsewhere", "out"):
        with pytest.raises(Refused) as caught:
            cirrus.worker_posts(cirrus.job("r", key="k"), name)
        assert (caught.value.status, caught.value.code) == (403, "not_triggering")
    assert cirrus.occurred() == ["a at k"]


def test_what_a_workers_event_refuses_is_refused_to_the_worker():
    cirrus = two_targets()
    cirrus.put("event", "x", {"key": "data.sample"})

    with pytest.raises(BadDocument, match="leads nowhere"):
        cirrus.worker_posts(cirrus.job("r", key="k"), "x")
    assert cirrus.worker_posts(cirrus.job("r", key="k"), "x", data={"sample": "s1"}).key == "s1"


def test_a_workers_occurrence_is_late_after_a_reset_and_superseded_after_a_newer_success():
    cirrus = two_targets()
    cirrus.post("a", "k", force=True)
    cirrus.end(cirrus.job("r", 2, "k"))
    cirrus.worker_posts(cirrus.job("r", key="k"), "x")
    cirrus.post("a", "late")
    cirrus.reset("late")
    cirrus.worker_posts(cirrus.job("r", key="late"), "x")

    assert cirrus.occurred()[-3:] == ["x at k superseded", "a at late", "x at late late"]


def test_what_the_worker_of_a_forced_firing_triggers_is_forced():
    cirrus = two_targets()
    cirrus.post("a", "k", force=True)
    cirrus.worker_posts(cirrus.job("r", 2, "k"), "x")

    assert cirrus.occurred()[-1] == "x at k!"


def test_where_the_worker_triggers_success_triggers_nothing():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b", run={**PROCESS, "triggers": "worker"})
    cirrus.post("a")
    cirrus.end(cirrus.job("r"))

    assert cirrus.occurred() == ["a"]


# --- 7.5 retry, cancel, pause -------------------------------------------------------------------


def test_retry_of_a_failed_job_is_the_next_generation_with_the_same_members():
    cirrus = Cirrus()
    cirrus.put("event_set", "both", ["l", "r"])
    cirrus.rule("j", "both", "b", run=PROCESS)
    left, right = cirrus.post_all(post("l"), post("r"))
    cirrus.end(cirrus.job("j"), "failure")

    again = cirrus.retry(cirrus.job("j"))

    assert (again.generation, again.forced, again.state) == (2, False, "dispatched")
    assert cirrus.store.job_members(again.id)[1] == (left.seq, right.seq)
    cirrus.end(again)
    assert cirrus.occurred() == ["l", "r", "b"]


def test_retry_of_a_succeeded_job_is_the_same_forced():
    cirrus = running()
    cirrus.end(cirrus.job("r"))

    again = cirrus.retry(cirrus.job("r"))

    assert (again.generation, again.forced) == (2, True)
    cirrus.end(again)
    assert cirrus.occurred() == ["a", "b", "b!"]


def test_retry_of_a_forced_job_stays_forced():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.post("a", force=True)
    cirrus.end(cirrus.job("r"), "failure")

    assert cirrus.retry(cirrus.job("r")).forced


def test_retry_of_an_auto_trigger_triggers_again():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b")
    cirrus.post("a")

    again = cirrus.retry(cirrus.job("r"))

    assert (again.state, again.forced) == ("succeeded", True)
    assert cirrus.occurred() == ["a", "b", "b!"]


def test_retry_uses_the_rule_as_it_is_now():
    cirrus = running()
    cirrus.end(cirrus.job("r"), "failure")
    cirrus.rule("r", "a", "c", run=PROCESS)

    cirrus.end(cirrus.retry(cirrus.job("r")))

    assert cirrus.occurred() == ["a", "c"]


def test_retry_of_a_cancelled_job_is_allowed():
    cirrus = running()
    cirrus.cancel(cirrus.job("r"))
    cirrus.end(cirrus.job("r"), "cancelled")

    assert cirrus.retry(cirrus.job("r")).generation == 2


def test_a_job_that_has_not_ended_is_not_retried():
    cirrus = running()
    before = cirrus.dump()

    with pytest.raises(Conflict, match="is running"):
        cirrus.retry(cirrus.job("r"))

    assert cirrus.dump() == before


def test_a_job_whose_rule_is_deleted_is_not_retried():
    cirrus = running()
    cirrus.end(cirrus.job("r"), "failure")
    cirrus.delete("rule", "r")

    with pytest.raises(Conflict) as caught:
        cirrus.retry(cirrus.job("r"))

    assert caught.value.code == "rule_deleted"


def test_retry_does_not_use_up_what_is_new_to_an_open_rule():
    cirrus = Cirrus()
    cirrus.put("event_set", "both", ["l", "r"])
    cirrus.rule("j", "both", run=PROCESS)
    cirrus.post_all(post("l"), post("r"))
    cirrus.end(cirrus.job("j"), "failure")
    cirrus.reset()
    cirrus.post("l", force=True)

    cirrus.retry(cirrus.job("j"))
    cirrus.post("r")

    assert cirrus.firings() == ["j 1", "j 2", "j 3!"]


def test_retry_does_not_open_a_closed_rule():
    cirrus = Cirrus()
    cirrus.put("event_set", "some", {"any": ["l", "r"]})
    cirrus.rule("j", "some", run=PROCESS)
    cirrus.post("l")
    cirrus.end(cirrus.job("j"), "failure")
    cirrus.retry(cirrus.job("j"))

    cirrus.post("r")

    assert cirrus.firings() == ["j 1", "j 2"]


def test_retry_of_a_job_on_an_event_without_a_set_has_that_events_member():
    cirrus = running()
    cirrus.end(cirrus.job("r"), "failure")

    event_set, members = cirrus.store.job_members(cirrus.retry(cirrus.job("r")).id)

    assert (event_set.name, event_set.members, members) == ("a", ("a",), (1 + 1,))


def test_a_job_that_nobody_knows_is_neither_retried_nor_cancelled():
    cirrus = Cirrus()

    for what in (RetryAsked("f" * 16), CancelAsked("f" * 16)):
        with pytest.raises(NotFound) as caught:
            cirrus.ask(what)
        assert caught.value.code == "unknown_job"


def test_a_waiting_job_is_cancelled_at_once():
    cirrus = Cirrus()
    cirrus.present = ()
    cirrus.rule("r", "a", "b", run=PROCESS, on_failure="sad")
    cirrus.post("a")

    done = cirrus.cancel(cirrus.job("r"))

    assert (done.changed, cirrus.job("r").state, cirrus.orders) == (True, "cancelled", [])
    assert cirrus.occurred() == ["a"]


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("kind", ["cancelled", "failure", "timeout", "lost", "unknown", "refused"])
def test_a_job_under_way_is_cancelled_when_its_attempt_has_ended(kind, started):
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b", run=PROCESS, attempts=5)
    cirrus.post("a")
    if started:
        cirrus.start(cirrus.job("r"))

    cirrus.cancel(cirrus.job("r"))
    assert cirrus.ordered() == ["d1: stop 1"]
    assert cirrus.job("r").state == ("running" if started else "dispatched")
    cirrus.end(cirrus.job("r"), kind)

    assert cirrus.job("r").state == "cancelled"
    assert outcomes(cirrus) == [(1, "cancelled", 0)]


def test_a_success_that_was_faster_than_the_cancelling_stays_a_success():
    cirrus = running()
    cirrus.cancel(cirrus.job("r"))
    cirrus.end(cirrus.job("r"), "success")

    assert cirrus.job("r").state == "succeeded"
    assert cirrus.occurred() == ["a", "b"]


def test_a_start_that_crosses_the_cancelling_does_not_undo_it():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.post("a")
    cirrus.cancel(cirrus.job("r"))

    cirrus.accept(cirrus.job("r"))
    cirrus.start(cirrus.job("r"))

    assert assigned(cirrus.job("r")).stopping


def test_cancelling_what_has_ended_changes_nothing():
    cirrus = running()
    cirrus.end(cirrus.job("r"))
    before = cirrus.dump()

    assert not cirrus.cancel(cirrus.job("r")).changed
    assert cirrus.dump() == before


def test_a_reset_cancels_the_jobs_of_its_key_and_namespace_if_asked():
    cirrus = Cirrus()
    for rule in ("ns:r", "other:r"):
        cirrus.rule(rule, "a", run=PROCESS)
    cirrus.post("a", "k")
    cirrus.post("a", "l")

    cirrus.reset("k", "ns", cancel_jobs=True)

    assert cirrus.ordered() == ["d1: stop 1"]
    stopping = {
        (rule, key): assigned(cirrus.job(rule, key=key)).stopping
        for rule in ("ns:r", "other:r")
        for key in ("k", "l")
    }
    assert [job for job, stops in stopping.items() if stops] == [("ns:r", "k")]


def test_a_reset_leaves_jobs_alone_unless_asked():
    cirrus = running()
    cirrus.reset()

    assert cirrus.orders == []
    assert not assigned(cirrus.job("r")).stopping


def test_a_paused_rule_fires_and_its_jobs_wait_until_it_is_resumed():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.ask(PauseAsked("r", paused=True))
    cirrus.post("a")
    cirrus.wait(100)
    assert (cirrus.firings(), cirrus.orders) == (["r 1"], [])
    assert cirrus.job("r").state == "triggered"

    cirrus.ask(PauseAsked("r", paused=False))
    cirrus.wait(1)

    assert cirrus.ordered() == ["d1: run 1"]
    assert cirrus.rows("SELECT state FROM moment WHERE kind = 'pause'") == [
        ("paused",),
        ("resumed",),
    ]


def test_a_rule_that_is_deleted_while_its_jobs_wait_can_be_resumed():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.ask(PauseAsked("r", paused=True))
    cirrus.post("a")
    cirrus.delete("rule", "r")

    cirrus.ask(PauseAsked("r", paused=False))
    cirrus.wait(1)

    assert cirrus.ordered() == ["d1: run 1"]


def test_a_rule_that_nobody_knows_is_not_paused():
    cirrus = Cirrus()
    cirrus.rule("align", "a")

    with pytest.raises(NotFound, match="did you mean align"):
        cirrus.ask(PauseAsked("alin", paused=True))
    with pytest.raises(NotFound, match=r"no rule zzz$"):
        cirrus.ask(PauseAsked("zzz", paused=True))


def test_a_workers_own_word_is_recorded_and_nothing_else():
    cirrus = running()
    before = cirrus.job("r")

    cirrus.ask(NoteMade("r", "success", job=before.id))
    cirrus.ask(StatesCleared())

    assert cirrus.job("r") == before
    assert cirrus.rows("SELECT rule, state, job FROM moment WHERE kind = 'note'") == [
        ("r", "success", before.id),
        ("", "cleared", ""),
    ]
    assert cirrus.rows("SELECT states_from FROM instance") == [(cirrus.store.last_seq(),)]


# --- time and dispatchers -----------------------------------------------------------------------


def hello(name: str, *live: Live) -> HelloSaid:
    one = dispatcher(name)
    return HelloSaid(Hello(name, "host", "1", one.slots, one.offers, live))


def test_an_order_that_nobody_accepts_is_said_again():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.post("a")
    first = cirrus.run_ordered()

    cirrus.wait(RESEND_SECONDS)
    assert cirrus.orders == []
    cirrus.wait(1)
    assert cirrus.run_ordered() == first

    cirrus.accept(cirrus.job("r"))
    cirrus.present = (dispatcher(listed={(cirrus.job("r").id, 1): cirrus.now + 4}),)
    cirrus.wait(4)
    assert cirrus.orders == []


def test_to_a_dispatcher_that_is_away_nothing_is_said():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.post("a")

    for present in ((dispatcher(connected=False),), ()):
        cirrus.present = present
        cirrus.wait(RESEND_SECONDS + 1)
        assert cirrus.orders == []


def test_a_stop_is_said_again_until_its_end_is_reported():
    cirrus = running()
    cirrus.cancel(cirrus.job("r"))
    cirrus.wait(1)
    assert cirrus.ordered() == ["d1: stop 1"]

    cirrus.end(cirrus.job("r"), "cancelled")
    cirrus.wait(1)
    assert cirrus.orders == []


@pytest.mark.parametrize("there", [True, False])
def test_an_attempt_is_lost_when_its_dispatcher_was_silent_about_it_for_too_long(there):
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.post("a")
    cirrus.present = (dispatcher(connected=there),)

    cirrus.wait(LOST_AFTER)
    assert outcomes(cirrus) == [(1, None, 0)]
    cirrus.wait(0.1)

    assert outcomes(cirrus) == [(1, "lost", 0)]
    assert cirrus.job("r").state == "triggered"


def test_a_lease_that_is_renewed_does_not_end():
    cirrus = running()
    job = cirrus.job("r")
    for _ in range(5):
        cirrus.present = (dispatcher(connected=False, listed={(job.id, 1): cirrus.now}),)
        cirrus.wait(LOST_AFTER)

    assert cirrus.job("r").state == "running"


def test_the_lease_of_one_attempt_does_not_renew_that_of_another():
    cirrus = running()
    job = cirrus.job("r")
    cirrus.present = (dispatcher(listed={(job.id, 2): 9e9, ("f" * 16, 1): 9e9}),)

    cirrus.wait(LOST_AFTER + 1)

    assert outcomes(cirrus)[0] == (1, "lost", 0)


def test_after_a_restart_every_lease_lasts_anew():
    cirrus = running()
    cirrus.now += 10_000
    cirrus.listening_since = cirrus.now
    cirrus.present = (dispatcher(connected=False),)

    cirrus.wait(LOST_AFTER)
    assert cirrus.job("r").state == "running"
    cirrus.wait(1)
    assert cirrus.job("r").state == "triggered"


def test_an_accepted_attempt_that_its_dispatcher_does_not_list_is_unknown():
    cirrus = running()
    cirrus.wait(FORGOTTEN_SECONDS)
    assert cirrus.job("r").state == "running"

    cirrus.wait(1)

    assert outcomes(cirrus)[0] == (1, "unknown", 0)


def test_an_attempt_that_was_not_accepted_is_not_forgotten_yet():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.post("a")

    cirrus.wait(FORGOTTEN_SECONDS + 1)

    assert cirrus.ordered() == ["d1: run 1"]
    assert cirrus.job("r").state == "dispatched"


def test_many_attempts_are_given_up_in_one_turn_each_once():
    cirrus = Cirrus(crash_limit=0)
    cirrus.rule("r", "a", run=PROCESS, on_failure="sad")
    for n in range(5):
        cirrus.post("a", f"s{n}")
    cirrus.cancel(cirrus.job("r", key="s0"))
    cirrus.present = ()

    cirrus.wait(LOST_AFTER + 1)

    states = [cirrus.job("r", key=f"s{n}").state for n in range(5)]
    assert states == ["cancelled"] + ["failed"] * 4
    assert cirrus.occurred()[5:] == [f"sad at s{n}" for n in range(1, 5)]


def test_hello_is_answered_with_a_welcome_and_remembered():
    cirrus = Cirrus()
    cirrus.ask(hello("d1"))

    assert cirrus.ordered() == ["d1: welcome"]
    assert cirrus.rows("SELECT name, time FROM dispatcher") == [("d1", cirrus.now)]
    cirrus.ask(hello("d1"))
    assert len(cirrus.rows("SELECT name FROM dispatcher")) == 1


def test_a_hello_gets_the_orders_that_were_not_accepted_and_the_stops():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    for key in ("new", "accepted", "stopping"):
        cirrus.post("a", key)
    cirrus.accept(cirrus.job("r", key="accepted"))
    cirrus.cancel(cirrus.job("r", key="stopping"))

    cirrus.ask(hello("d1"))

    assert cirrus.ordered() == ["d1: welcome", "d1: run 1", "d1: stop 1"]
    assert cirrus.run_ordered().key == "new"
    cirrus.ask(hello("d2"))
    assert cirrus.ordered() == ["d2: welcome"]


def test_a_hello_with_attempts_that_are_not_wanted_gets_their_stops():
    cirrus = running(attempts=2)
    job = cirrus.job("r")

    cirrus.ask(
        hello(
            "d1",
            Live(job.id, 1, "running"),
            Live(job.id, 7, "running"),
            Live("f" * 16, 1, "accepted"),
            Live("e" * 16, 1, "ended"),
        )
    )

    assert [sent.order for sent in cirrus.orders[1:]] == [Stop(job.id, 7), Stop("f" * 16, 1)]


def test_what_an_attempt_is_told_of_itself():
    cirrus = Cirrus()
    cirrus.put("event_set", "both", ["l", "r"])
    cirrus.rule("j", "both", run=PROCESS)
    cirrus.post("l", "k", data={"n": 1})
    cirrus.post("r", "k", force=True)

    run = cirrus.run_ordered()

    assert run.environment == {
        "TRIGGER": "both",
        "RULE_ID": "j",
        "NAME": f"cirrus-abababab-{run.job}-1",
        "FORCE": "true",
        "CIRRUS_JOB": run.job,
        "CIRRUS_ATTEMPT": "1",
        "CIRRUS_KEY": "k",
    }
    assert run.inputs == (
        b'{"event_set":"both","occurrences":['
        b'{"event":"l","key":"k","seq":3,"source":null,"id":null,"time":1000.0,"force":false,'
        b'"data":{"n":1}},'
        b'{"event":"r","key":"k","seq":4,"source":null,"id":null,"time":1000.0,"force":true,'
        b'"data":{}}]}'
    )


def test_every_settling_names_the_attempt_that_was_reported():
    cirrus = running()
    job = cirrus.job("r")
    cirrus.end(job)

    assert [sent.order for sent in cirrus.orders] == [Settled(job.id, 1)]
