"""Law 6: removing everything of one key changes no firing of another."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.toy import Cirrus
from tests.laws.drawn import EVENTS, OUTCOMES, RULES, SMALL, graphs

from cirrus.core.inputs import Applied, Definition, Posted, ResetAsked
from cirrus.core.messages import OutcomeKind
from cirrus.core.model import Identity, Post, job_id

pytestmark = pytest.mark.timeout(600)

Step = (
    tuple[Literal["post"], str, str, str]
    | tuple[Literal["reset"]]
    | tuple[Literal["end"], str, str, OutcomeKind]
    | tuple[Literal["retry"], str, str]
)

steps = st.lists(
    st.tuples(st.just("post"), EVENTS, st.sampled_from(["", "force"]), st.sampled_from("12345"))
    | st.tuples(st.just("reset"))
    | st.tuples(st.just("end"), RULES, st.sampled_from("123"), OUTCOMES)
    | st.tuples(st.just("retry"), RULES, st.sampled_from("123")),
    max_size=25,
)


def carry_out(cirrus: Cirrus, key: str, step: Step) -> None:
    match step:
        case ("post", event, force, id):
            identity = Identity(key, f"{event}{force}{id}")
            cirrus.turn(Posted((Post(event, key=key, force=force > "", identity=identity),)))
        case ("reset",):
            cirrus.turn(ResetAsked(key, None))
        case ("end", rule, generation, kind):
            job = cirrus.store.job(job_id(rule, key, int(generation)))
            if job is not None:
                cirrus.end(job, kind)
        case ("retry", rule, generation):
            job = cirrus.store.job(job_id(rule, key, int(generation)))
            if job is not None and job.progress is None:
                cirrus.retry(job)


def firings(
    definitions: list[Definition], mixed: list[tuple[str, Step]], only: str
) -> list[tuple[str, int, int]]:
    cirrus = Cirrus(**SMALL)
    cirrus.ask(Applied(puts=tuple(definitions)))
    for key, step in mixed:
        carry_out(cirrus, key, step)
    return cirrus.rows("SELECT rule, generation, forced FROM job WHERE key = ? ORDER BY seq", only)


@given(graphs(paths=False), steps, steps, st.data())
def test_what_happens_under_one_key_changes_no_firing_of_another(definitions, ours, theirs, data):
    order = data.draw(st.permutations(["ours"] * len(ours) + ["theirs"] * len(theirs)), "mixed")
    left = {"ours": iter(ours), "theirs": iter(theirs)}
    mixed = [(whose, next(left[whose])) for whose in order]

    alone = firings(definitions, [("ours", step) for step in ours], "ours")

    assert firings(definitions, mixed, "ours") == alone
