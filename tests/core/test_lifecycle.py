"""The table of a job's states is the one that semantics.md draws in section 7."""

from typing import get_args

import pytest

from cirrus.core.lifecycle import MOVES, SEED_STATES, JobState, ended, may_move

STATES: tuple[JobState, ...] = get_args(JobState)

# As semantics.md draws it.
LEGAL = {
    ("triggered", "dispatched"),
    ("dispatched", "running"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("dispatched", "triggered"),
    ("running", "triggered"),
    ("triggered", "failed"),
    ("dispatched", "failed"),
    ("triggered", "cancelled"),
    ("dispatched", "cancelled"),
    ("running", "cancelled"),
    ("dispatched", "succeeded"),
    ("triggered", "succeeded"),  # an auto-trigger
}


def test_every_state_is_in_the_table():
    assert set(MOVES) == set(STATES)


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_a_job_moves_only_as_the_contract_draws_it(before, after):
    assert may_move(before, after) == ((before, after) in LEGAL)


@pytest.mark.parametrize("state", STATES)
def test_the_last_three_states_never_change_again(state):
    assert ended(state) == (state in ("succeeded", "failed", "cancelled"))


def test_every_move_says_when_it_happens():
    assert all(when for moves in MOVES.values() for when in moves.values())


def test_the_seed_knows_a_word_for_every_state():
    assert set(SEED_STATES) == {*STATES, "retried"}
    assert SEED_STATES["succeeded"] == ("success", "end")
    assert SEED_STATES["failed"] == ("fail", "end")
