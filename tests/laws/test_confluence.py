"""Law 1: for `once` sets without `within`, force, reset or change of definitions, any order of
arrival of the same occurrences gives the same firings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.toy import Cirrus
from tests.laws.drawn import EVENTS, KEYS, graphs
from tests.laws.history import replayed

from cirrus.core.inputs import Applied, Definition
from cirrus.core.lifecycle import ended
from cirrus.core.model import Post

pytestmark = pytest.mark.timeout(600)

arrivals = st.lists(
    st.builds(Post, EVENTS, key=st.none() | KEYS, data=st.sampled_from([{}, {"x": "k"}])),
    max_size=8,
)


def outcome(rule: str) -> str:
    """The same for a rule in whatever order things come."""
    return "failure" if rule == "n:r2" else "success"


def unended(cirrus: Cirrus) -> list[str]:
    rows = cirrus.rows("SELECT id, state FROM job ORDER BY id")
    return [job for job, state in rows if not ended(state)]


def end(cirrus: Cirrus, id: str) -> None:
    cirrus.now += 1000  # every backoff is over
    cirrus.wait(0)
    job = cirrus.job_by_id(id)
    cirrus.end(job, "failure" if outcome(job.rule.name) == "failure" else "success")


def firings(definitions: list[Definition], order: list[Post], data: st.DataObject) -> set[str]:
    """After all of it arrived in this order, while jobs ended in any order."""
    cirrus = Cirrus(lost_after_seconds=1e9)
    cirrus.ask(Applied(puts=tuple(definitions)))
    waiting = list(order)
    while waiting or unended(cirrus):
        running = unended(cirrus)
        if running and (not waiting or data.draw(st.booleans(), "a job ends")):
            end(cirrus, data.draw(st.sampled_from(running), "job"))
        else:
            together = data.draw(st.integers(1, len(waiting)), "arrive together")
            acceptable = [post for post in waiting[:together] if accepted(definitions, post)]
            cirrus.post_all(*acceptable)
            waiting = waiting[together:]
    replayed(cirrus)
    found = cirrus.firings()
    assert len(found) == len(set(found))
    return set(found)


def accepted(definitions: list[Definition], post: Post) -> bool:
    """Not refused for want of its key."""
    newest = {one.name: one.document for one in definitions if one.kind == "event"}
    return post.key is not None or "x" in post.data or b"data.x" not in newest.get(post.event, b"")


@given(graphs(), arrivals, st.data())
def test_any_order_of_arrival_gives_the_same_firings(definitions, order, data):
    permuted = data.draw(st.permutations(order), "another order")

    assert firings(definitions, order, data) == firings(definitions, permuted, data)
