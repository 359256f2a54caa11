"""Which waiting job goes to which dispatcher."""

import pytest
from tests.core.toy import PROCESS, Cirrus, assigned, dispatcher

from cirrus.core.inputs import Placed, Present

DOCKER = {"task_type": "docker", "image": "worker"}


def waiting(*keys: str, run: object = PROCESS) -> Cirrus:
    """One waiting job for each key; nobody is there yet."""
    cirrus = Cirrus()
    cirrus.present = ()
    cirrus.rule("r", "a", run=run)
    for key in keys:
        cirrus.post("a", key)
    return cirrus


def place(cirrus: Cirrus, *present: Present) -> list[tuple[str, str]]:
    """Key and dispatcher of every job that goes now, in order."""
    cirrus.present = present
    cirrus.ask(Placed(present))
    return [
        (sent.order.key, sent.dispatcher)  # type: ignore[union-attr]
        for sent in cirrus.orders
    ]


def asking(cores: float = 0.0, gigabytes: float = 0.0) -> object:
    return {**DOCKER, "cpu_reservation": cores, "mem_reservation": gigabytes}


def test_where_nobody_is_jobs_wait():
    cirrus = waiting("k")

    assert place(cirrus) == []
    assert cirrus.job("r", key="k").state == "triggered"


def test_a_job_goes_to_a_dispatcher_that_has_its_executor():
    cirrus = waiting("k", run=DOCKER)

    assert place(cirrus, dispatcher("d1")) == []
    assert place(cirrus, dispatcher("d1"), dispatcher("d2", executors=["swarm", "docker"])) == [
        ("k", "d2")
    ]


def test_an_executor_with_a_problem_gets_nothing():
    cirrus = waiting("k")

    assert place(cirrus, dispatcher(problem="disk low")) == []


def test_a_dispatcher_that_is_away_gets_nothing():
    cirrus = waiting("k")

    assert place(cirrus, dispatcher(connected=False)) == []


def test_a_dispatcher_gets_as_many_jobs_as_it_has_slots():
    cirrus = waiting("a", "b", "c")

    assert place(cirrus, dispatcher(slots=2)) == [("a", "d1"), ("b", "d1")]
    assert place(cirrus, dispatcher(slots=2)) == []


def test_a_slot_is_free_again_when_its_job_has_ended():
    cirrus = waiting("a", "b")
    assert place(cirrus, dispatcher(slots=1)) == [("a", "d1")]

    cirrus.end(cirrus.job("r", key="a"))

    assert cirrus.ordered() == ["d1: settled 1", "d1: run 1"]
    assert cirrus.run_ordered().key == "b"


def test_the_longest_waiting_goes_first():
    cirrus = waiting("z-early")
    cirrus.now += 1
    cirrus.post("a", "a-late")

    assert place(cirrus, dispatcher(slots=1)) == [("z-early", "d1")]


def test_a_job_that_failed_waits_from_when_its_next_attempt_is_due():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS, attempts=2)
    cirrus.post("a", "failed")
    cirrus.end(cirrus.job("r", key="failed"), "failure")
    cirrus.present = ()
    cirrus.now += 0.5
    cirrus.post("a", "fresh")

    cirrus.now += 10
    assert place(cirrus, dispatcher(slots=1)) == [("fresh", "d1")]


def test_jobs_that_became_due_together_go_in_the_order_of_their_firings():
    cirrus = waiting("c", "a", "b")

    assert [key for key, _ in place(cirrus, dispatcher())] == ["c", "a", "b"]


def test_no_executor_goes_before_another():
    cirrus = waiting("process")
    cirrus.now += 1
    cirrus.rule("r2", "b", run=DOCKER)
    cirrus.post("b", "docker")

    both = dispatcher(slots=1, executors=["docker", "process"])

    assert place(cirrus, both) == [("process", "d1")]


def test_jobs_spread_over_the_dispatchers_with_the_most_free_slots():
    cirrus = waiting("a", "b", "c", "d")

    placed = place(cirrus, dispatcher("d1", slots=2), dispatcher("d2", slots=3))

    assert placed == [("a", "d2"), ("b", "d1"), ("c", "d2"), ("d", "d1")]


def test_a_job_goes_where_the_cores_and_the_memory_are_that_it_asks():
    cirrus = waiting("k", run=asking(cores=2, gigabytes=4))

    few_cores = dispatcher("d1", executors=["docker"], cores=1, memory=10**10)
    little_memory = dispatcher("d2", executors=["docker"], cores=8, memory=10**9)
    both = dispatcher("d3", executors=["docker"], cores=2, memory=4 * 10**9)

    assert place(cirrus, few_cores, little_memory) == []
    assert place(cirrus, few_cores, little_memory, both) == [("k", "d3")]


def test_running_jobs_keep_what_they_asked_for():
    cirrus = waiting("a", "b", "c", run=asking(cores=1.5))
    one = dispatcher(executors=["docker"], cores=4)

    assert place(cirrus, one) == [("a", "d1"), ("b", "d1")]
    assert place(cirrus, one) == []


def test_dispatchers_that_share_an_engine_share_its_room():
    cirrus = waiting("a", "b", "c", run=asking(cores=1))
    shared = [dispatcher(name, executors=["docker"], cores=2, engine="e") for name in ("d1", "d2")]

    assert place(cirrus, *shared) == [("a", "d1"), ("b", "d2")]


def test_what_runs_at_a_dispatcher_that_is_away_still_takes_its_engines_room():
    cirrus = waiting("a", "b", run=asking(cores=2))
    here = dispatcher("d1", executors=["docker"], cores=3, engine="e")
    assert place(cirrus, here) == [("a", "d1")]

    away = dispatcher("d1", executors=["docker"], cores=3, engine="e", connected=False)
    other = dispatcher("d2", executors=["docker"], cores=3, engine="e")

    assert place(cirrus, away, other) == []


def test_what_runs_at_a_dispatcher_that_nobody_knows_now_takes_no_room():
    cirrus = waiting("a", "b", run=asking(cores=2))
    assert place(cirrus, dispatcher("d1", executors=["docker"], cores=3)) == [("a", "d1")]

    assert place(cirrus, dispatcher("d2", executors=["docker"], cores=3)) == [("b", "d2")]


def test_a_small_job_passes_a_large_one_that_nothing_has_room_for():
    cirrus = waiting("large", run=asking(cores=8))
    cirrus.rule("r2", "b", run=asking(cores=1))
    cirrus.post("b", "small")

    assert place(cirrus, dispatcher(executors=["docker"], cores=2)) == [("small", "d1")]


@pytest.mark.parametrize("gigabytes", [0.0, 9.0])
def test_however_many_large_jobs_wait_they_do_not_stand_in_the_way(gigabytes):
    cirrus = waiting(*(f"large{n}" for n in range(250)), run=asking(4, gigabytes))
    cirrus.rule("r2", "b", run=asking(cores=1))
    cirrus.post("b", "small")
    half = dispatcher(executors=["docker"], cores=6, memory=10**10)

    assert place(cirrus, half) == [("large0", "d1"), ("small", "d1")]


def test_a_job_that_fits_no_single_engine_is_passed_over():
    cirrus = waiting("wide", run=asking(cores=4, gigabytes=4))
    cirrus.rule("r2", "b", run=asking(cores=1))
    cirrus.post("b", "small")
    present = (
        dispatcher("d1", executors=["docker"], cores=8, memory=10**9),
        dispatcher("d2", executors=["docker"], cores=1, memory=10**10),
    )

    assert [key for key, _ in place(cirrus, *present)] == ["small"]


def test_a_dispatcher_whose_slots_shrank_gets_nothing_until_they_are_free():
    cirrus = waiting("a", "b", "c")
    place(cirrus, dispatcher(slots=2))

    assert place(cirrus, dispatcher(slots=1)) == []
    assert place(cirrus, dispatcher(slots=1), dispatcher("d2", slots=1)) == [("c", "d2")]


def test_a_dispatched_job_knows_where_it_went_and_since_when():
    cirrus = waiting("k")
    place(cirrus, dispatcher())

    job = cirrus.job("r", key="k")
    assert (job.state, job.attempt) == ("dispatched", 1)
    assert (assigned(job).dispatcher, assigned(job).since) == ("d1", cirrus.now)
    assert not assigned(job).accepted
    assert cirrus.rows("SELECT attempt, dispatcher, executor FROM attempt") == [
        (1, "d1", "process")
    ]


def test_placing_twice_dispatches_once():
    cirrus = waiting("k")

    assert place(cirrus, dispatcher()) == [("k", "d1")]
    assert place(cirrus, dispatcher()) == []
