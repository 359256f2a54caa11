"""The tokens by which an attempt's worker proves which attempt it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirrus.coordinator.tokens import Tokens

JOB = "0123456789abcdef"
jobs = st.text("0123456789abcdef", min_size=16, max_size=16)
attempts = st.integers(1, 999_999)


@given(jobs, attempts)
def test_a_token_leads_back_to_its_attempt(job, attempt):
    tokens = Tokens(b"secret")

    assert tokens.attempt_of(tokens.token(job, attempt)) == (job, attempt)


@given(jobs, attempts)
def test_the_same_secret_makes_the_same_token_after_a_restart(job, attempt):
    assert Tokens(b"secret").token(job, attempt) == Tokens(b"secret").token(job, attempt)


def test_a_token_of_another_coordinator_is_not_ours():
    assert Tokens(b"ours").attempt_of(Tokens(b"theirs").token(JOB, 1)) is None


def test_no_two_attempts_share_a_token():
    tokens = Tokens(b"secret")
    made = {tokens.token(job, attempt) for job in (JOB, JOB[::-1]) for attempt in range(1, 50)}

    assert len(made) == 98


def test_a_token_may_stand_in_an_address_as_it_is():
    token = Tokens(b"secret").token(JOB, 1)

    assert token.isascii()
    assert all(character.isalnum() or character in "-_" for character in token)


@given(st.data())
def test_a_token_with_any_character_changed_is_no_token(data):
    tokens = Tokens(b"secret")
    token = tokens.token(JOB, 12)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))

    assert tokens.attempt_of(token[:place] + other + token[place + 1 :]) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "cir_job_",
        f"cir_job_{JOB}-0_{'A' * 43}",
        f"cir_job_{JOB}-01_{'A' * 43}",
        f"cir_job_{JOB}-1_{'A' * 43}",
        f"cir_job_{JOB}-1000000_{'A' * 43}",
        f"cir_job_{JOB.upper()}-1_{'A' * 43}",
        f"cir_job_{JOB}-1_{'A' * 42}",
        "x" * 100_000,
    ],
)
def test_what_is_no_token_of_ours(token):
    assert Tokens(b"secret").attempt_of(token) is None


def test_nothing_may_stand_around_a_token():
    tokens = Tokens(b"secret")
    token = tokens.token(JOB, 1)

    assert all(tokens.attempt_of(text) is None for text in (f" {token}", f"{token}\n", token * 2))


@given(st.text())
def test_whatever_is_sent_as_a_token_is_answered(text):
    assert Tokens(b"secret").attempt_of(text) is None
