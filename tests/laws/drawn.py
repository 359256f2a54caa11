"""What the laws draw: few names and few keys, so that much of it meets."""

from hypothesis import strategies as st
from tests.core.toy import AUTO, PROCESS

from cirrus.core.documents import parse
from cirrus.core.inputs import Definition
from cirrus.core.model import Identity, Post

EVENTS = st.sampled_from(["n:a", "n:b", "m:c"])
KEYS = st.sampled_from(["", "", "k"])
NAMESPACES = st.sampled_from([None, "n", "m"])
OUTPUTS = st.sampled_from([b"", b"{}", b'{"x":"k"}', b"[]"])
OUTCOMES = st.sampled_from(
    [
        "success",
        "failure",
        "timeout",
        "cancelled",
        "oom",
        "refused",
        "interrupted",
        "unknown",
        "lost",
    ]
)
SMALL = {"chain_depth": 6, "chain_length": 12, "crash_limit": 1}
"""Bounds, so that what is forced round a cycle ends soon."""
RULES = st.sampled_from(["n:r1", "n:r2", "m:r3"])
RUNS = st.sampled_from([AUTO, PROCESS, PROCESS, {**PROCESS, "triggers": "worker"}])
# A set may be named like an event, and hides it then.
SETS = st.sampled_from(["n:s1", "n:s2", "n:b"])
TARGETS = EVENTS | SETS


@st.composite
def conditions(draw: st.DrawFn) -> object:
    members = draw(st.lists(EVENTS, min_size=1, max_size=3, unique=True))
    match draw(st.sampled_from(["all", "any", "at_least"])):
        case "at_least":
            return {"at_least": draw(st.integers(1, len(members))), "of": members}
        case condition:
            return {condition: members}


rule_documents = st.fixed_dictionaries(
    {"on": TARGETS, "activity": RUNS, "attempts": st.integers(1, 2)},
    optional={"triggering": TARGETS, "on_failure": TARGETS},
)
set_puts = st.builds(parse, st.just("event_set"), SETS, conditions())
rule_puts = st.builds(parse, st.just("rule"), RULES, rule_documents)
event_puts = st.builds(parse, st.just("event"), EVENTS, st.sampled_from([{}, {"key": "data.x"}]))
puts = set_puts | rule_puts | rule_puts | event_puts
deletes = st.tuples(st.just("rule"), RULES) | st.tuples(st.just("event_set"), SETS)
posts = st.builds(
    Post,
    EVENTS,
    key=st.none() | KEYS,
    data=st.sampled_from([{}, {"x": "k"}]),
    force=st.sampled_from([False, False, True]),
    identity=st.none() | st.builds(Identity, st.just("test"), st.sampled_from("123456")),
)


@st.composite
def graphs(draw: st.DrawFn, *, paths: bool = True) -> list[Definition]:
    """A set or two, and rules on them and on each other; an event's key may come from its data."""
    found = [
        *draw(st.lists(set_puts, min_size=1, max_size=2)),
        *draw(st.lists(rule_puts, min_size=2, max_size=4)),
    ]
    return [*found, *draw(st.lists(event_puts, max_size=1))] if paths else found
