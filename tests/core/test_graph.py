"""What `check` finds in a set of definitions, by example."""

import time

from cirrus.core.graph import check, near
from cirrus.core.model import AutoTrigger, Event, EventSet, Rule


def findings(events="", sets=None, rules=None):
    """`rules` maps a name to (on, triggering) or (on, triggering, on_failure)."""
    return check(
        [Event(name) for name in events.split()],
        [
            EventSet(name, tuple(members.split()), len(members.split()))
            if isinstance(members, str)
            else EventSet(name, tuple(members[1].split()), members[0])
            for name, members in (sets or {}).items()
        ],
        [
            Rule(name, on=on, activity=AutoTrigger(), triggering=then, on_failure="".join(failed))
            for name, (on, then, *failed) in (rules or {}).items()
        ],
    )


def said(*arguments, **named):
    return [(found.severity, found.code, found.name) for found in findings(*arguments, **named)]


EVENTS = "ns:event:1 ns:event:2 ns:event:3 ns:event:4 ns:event:5"
DIAMOND = {
    "ns:rule:1": ("ns:event:1", "ns:event:2"),
    "ns:rule:2": ("ns:event:2", "ns:event:3"),
    "ns:rule:3": ("ns:event:3", "ns:event:4"),
    "ns:rule:4": ("ns:event_set:1", "ns:event:5"),
}


def test_the_seeds_example_has_nothing_to_find_but_its_end():
    sets = {name: name for name in EVENTS.split()} | {"ns:event_set:1": "ns:event:1 ns:event:4"}

    assert said(EVENTS, sets, DIAMOND) == [("info", "unheard_rule", "ns:rule:4")]


def test_a_rule_on_an_event_needs_no_set_of_that_name():
    sets = {"ns:event_set:1": "ns:event:1 ns:event:4"}

    assert said(EVENTS, sets, DIAMOND) == [("info", "unheard_rule", "ns:rule:4")]


def test_an_unknown_name_is_an_error_that_says_what_was_meant():
    found = findings("fastq:ready bam:done", {"both": "fastq:redy bam:done"}, {"r": ("both", "")})

    assert [(each.severity, each.code) for each in found] == [
        ("error", "unknown_name"),
        ("warning", "unused_event"),
    ]
    assert found[0].near == "fastq:ready"
    assert found[0].message == (
        "event set both waits for fastq:redy, which is neither an event nor an event set;"
        " did you mean fastq:ready?"
    )


def test_every_place_of_a_rule_may_hold_an_unknown_name():
    found = findings("a", rules={"r": ("aaa", "bbb", "ccc")})

    assert [each.message.partition(",")[0] for each in found if each.severity == "error"] == [
        "rule r is on aaa",
        "rule r triggers bbb",
        "rule r triggers on failure ccc",
    ]
    assert {each.near for each in found} == {""}


def test_a_set_is_no_member_of_a_set():
    found = findings("a b", {"inner": "a b", "outer": "inner"}, {"r": ("outer", "")})

    assert "inner, which is an event set; the members of a set are events" in found[0].message


def test_a_name_that_is_triggered_and_waited_for_is_only_undeclared():
    assert said("a", rules={"one": ("a", "b"), "two": ("b", "")}) == [
        ("warning", "undeclared_event", "b")
    ]


def test_a_cycle_is_named_with_its_rules_in_order_and_is_no_error():
    rules = {"c": ("3", "1"), "a": ("1", "2"), "b": ("2", "3"), "in": ("0", "1")}
    found = findings("0 1 2 3", rules=rules)

    assert [(each.severity, each.code) for each in found] == [("warning", "cycle")]
    assert "a → b → c → a" in found[0].message


def test_a_cycle_through_a_set_and_one_through_a_failure_are_both_found():
    rules = {"a": ("both", "1"), "b": ("1", "end", "2"), "c": ("9", "9")}
    found = findings("0 1 2 9 end", {"both": "0 2"}, rules)
    cycles = [each.message for each in found if each.code == "cycle"]

    assert sorted(each.split(";")[0].partition(": ")[2] for each in cycles) == [
        "a → b → a",
        "c → c",
    ]


def test_a_ring_that_one_event_begins_is_begun_by_hand():
    assert said("a b", rules={"one": ("a", "b"), "two": ("b", "a")}) == [
        ("warning", "cycle", "one")
    ]


def test_a_set_that_waits_for_its_own_consequence_cannot_be_filled():
    found = findings("start again", {"both": "start again"}, {"r": ("both", "again")})

    assert [(each.code, each.name) for each in found] == [
        ("cycle", "r"),
        ("unfillable_set", "both"),
        ("unreachable_rule", "r"),
    ]
    assert found[1].message.endswith("nothing triggers again before it")


def test_what_hangs_on_a_set_that_cannot_be_filled_never_fires():
    rules = {"r": ("both", "again"), "next": ("again", "")}

    assert ("warning", "unreachable_rule", "next") in said(
        "start again", {"both": "start again"}, rules
    )


def test_a_set_that_needs_fewer_members_is_filled_by_the_others():
    some = {"some": (1, "start again")}

    assert said("start again", some, {"r": ("some", "again")}) == [("warning", "cycle", "r")]


def test_an_unknown_name_is_complained_about_once_and_not_for_what_follows():
    rules = {"r": ("both", "out"), "next": ("out", "")}

    assert said("a out", {"both": "a typo"}, rules) == [("error", "unknown_name", "both")]


def test_events_and_sets_that_nobody_uses_are_named():
    assert said("a b c", {"idle": "a b"}) == [
        ("warning", "unused_event", "c"),
        ("info", "unused_set", "idle"),
    ]


def test_a_set_that_is_only_triggered_is_used():
    rules = {"fan": ("go", "all"), "one": ("a", ""), "two": ("b", "")}

    assert said("go a b", {"all": "a b"}, rules) == []


def test_the_most_similar_name_is_near_and_a_strange_one_is_not():
    assert near("ns:evnt:1", ["ns:event:1", "other"]) == "ns:event:1"
    assert near("zzz", ["ns:event:1"]) == ""
    assert near("zzz", []) == ""


def test_ten_thousand_rules_in_a_chain_take_no_more_than_seconds():
    rules = {f"r{n}": (f"e{n}", f"e{n + 1}") for n in range(10_000)}
    events = " ".join(f"e{n}" for n in range(10_001))

    began = time.monotonic()
    assert [each.code for each in findings(events, rules=rules)] == ["unheard_rule"]
    assert len(findings("", rules=rules)) == 10_002
    assert time.monotonic() - began < 5


def test_no_more_than_twenty_cycles_are_named():
    events = " ".join(f"e{n}" for n in range(25))
    rules = {f"r{n}": (f"e{n}", f"e{n}") for n in range(25)}

    codes = [code for _, code, _ in said(events, rules=rules)]

    assert codes.count("cycle") == 20
