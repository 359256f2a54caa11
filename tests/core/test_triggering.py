"""When rules fire: semantics.md section 4, and the `any` and `at_least` of section 5."""

import pytest
from tests.core.toy import PROCESS, Cirrus, post, verdicts

from cirrus.core.inputs import Posted
from cirrus.core.model import EventSet
from cirrus.core.triggering import missing_members


def join(*, run: object = PROCESS) -> Cirrus:
    """A rule `join` on left and right, which triggers `merged`."""
    cirrus = Cirrus()
    cirrus.put("event_set", "both", ["left", "right"])
    cirrus.rule("join", "both", "merged", run=run)
    return cirrus


def choice(condition: object) -> Cirrus:
    cirrus = Cirrus()
    cirrus.put("event_set", "some", condition)
    cirrus.rule("choose", "some", run=PROCESS)
    return cirrus


# --- 4.1 members stand --------------------------------------------------------------------------


def test_a_rule_waits_for_every_member_of_its_set_and_says_which_are_missing():
    cirrus = join()

    (verdict,) = cirrus.post("left").verdicts

    assert (verdict.verdict, verdict.missing, verdict.lacking) == ("waiting", ("right",), 1)
    assert cirrus.firings() == []


@pytest.mark.parametrize("order", [("left", "right"), ("right", "left")])
def test_the_member_that_completes_the_set_fires_the_rule_in_its_own_transaction(order):
    cirrus = join()
    cirrus.post(order[0])

    last = cirrus.post(order[1])

    (verdict,) = last.verdicts
    assert (verdict.verdict, verdict.generation) == ("fired", 1)
    assert verdict.job == cirrus.job("join").id
    assert cirrus.firings() == ["join 1"]


def test_a_further_occurrence_of_a_standing_member_is_ignored_and_recorded():
    cirrus = join()
    cirrus.post("left")

    assert verdicts(cirrus.post("left")) == {"join": "ignored"}
    assert cirrus.occurred() == ["left", "left"]
    assert verdicts(cirrus.post("right")) == {"join": "fired"}
    assert verdicts(cirrus.post("right")) == {"join": "ignored"}
    assert cirrus.firings() == ["join 1"]


def test_the_first_occurrence_is_the_one_that_stands():
    cirrus = join()
    first = cirrus.post("left")
    cirrus.post("left")
    right = cirrus.post("right")

    _, members = cirrus.store.job_members(cirrus.job("join").id)
    assert members == (first.seq, right.seq)


def test_an_event_that_nobody_waits_for_is_recorded_without_a_verdict():
    cirrus = join()

    assert cirrus.post("elsewhere").verdicts == ()
    assert cirrus.occurred() == ["elsewhere"]


def test_a_rule_on_an_events_name_needs_no_set():
    cirrus = Cirrus()
    cirrus.rule("r", "a")

    assert verdicts(cirrus.post("a")) == {"r": "fired"}


def test_a_set_hides_an_event_of_its_name():
    cirrus = Cirrus()
    cirrus.put("event_set", "a", ["b"])
    cirrus.rule("r", "a")

    assert cirrus.post("a").verdicts == ()
    assert verdicts(cirrus.post("b")) == {"r": "fired"}


def test_an_event_counts_for_every_set_that_it_is_a_member_of():
    cirrus = Cirrus()
    cirrus.put("event_set", "s1", ["a", "b"])
    cirrus.put("event_set", "s2", ["c", "a"])
    cirrus.put("event_set", "s3", {"any": ["a", "z"]})
    for name in ("s1", "s2", "s3", "a"):
        cirrus.rule(f"on-{name}", name)

    assert verdicts(cirrus.post("a")) == {
        "on-s1": "waiting",
        "on-s2": "waiting",
        "on-s3": "fired",
        "on-a": "fired",
    }


def test_keys_never_mix():
    cirrus = join()
    cirrus.post("left", "s1")

    assert verdicts(cirrus.post("right", "s2")) == {"join": "waiting"}
    assert verdicts(cirrus.post("right", "s1")) == {"join": "fired"}
    assert verdicts(cirrus.post("left")) == {"join": "waiting"}
    assert cirrus.firings() == ["join 1 at s1"]


def test_at_most_twenty_missing_members_are_named_and_the_rest_counted():
    members = tuple(f"e{n}" for n in range(50))
    cirrus = choice(list(members))

    (verdict,) = cirrus.post("e3").verdicts

    assert verdict.missing == tuple(name for name in members if name != "e3")[:20]
    assert verdict.lacking == 49


def test_missing_members_are_named_in_the_order_of_the_set():
    event_set = EventSet("s", ("c", "a", "b"), 3)

    assert missing_members(event_set, 0b000) == ("c", "a", "b")
    assert missing_members(event_set, 0b010) == ("c", "b")
    assert missing_members(event_set, 0b111) == ()


# --- 4.2 open, fired, absorbed ------------------------------------------------------------------


def test_any_fires_at_the_first_member_and_absorbs_the_latecomers():
    cirrus = choice({"any": ["a", "b", "c"]})

    assert verdicts(cirrus.post("b")) == {"choose": "fired"}
    assert verdicts(cirrus.post("a")) == {"choose": "absorbed"}
    assert verdicts(cirrus.post("c")) == {"choose": "absorbed"}
    assert cirrus.firings() == ["choose 1"]


def test_at_least_fires_at_exactly_that_many_members():
    cirrus = choice({"at_least": 2, "of": ["a", "b", "c", "d"]})

    (verdict,) = cirrus.post("d").verdicts
    assert (verdict.verdict, verdict.missing, verdict.lacking) == ("waiting", ("a", "b", "c"), 1)
    assert verdicts(cirrus.post("d")) == {"choose": "ignored"}
    assert verdicts(cirrus.post("b")) == {"choose": "fired"}
    assert verdicts(cirrus.post("a")) == {"choose": "absorbed"}
    assert cirrus.firings() == ["choose 1"]


def test_a_firing_remembers_only_the_members_that_stood():
    cirrus = choice({"at_least": 2, "of": ["a", "b", "c"]})
    c = cirrus.post("c")
    a = cirrus.post("a")
    cirrus.post("b")

    assert cirrus.store.job_members(cirrus.job("choose").id)[1] == (a.seq, 0, c.seq)


def test_a_latecomer_stands_and_is_carried_into_the_next_firing():
    cirrus = choice({"any": ["a", "b"]})
    cirrus.post("a")
    late = cirrus.post("b")
    forced = cirrus.post("a", force=True)

    assert cirrus.firings() == ["choose 1", "choose 2!"]
    assert cirrus.store.job_members(cirrus.job("choose", 2).id)[1] == (forced.seq, late.seq)


# --- 4.3 exactly once ---------------------------------------------------------------------------


def test_both_members_in_one_request_give_one_firing():
    cirrus = join()

    left, right = cirrus.post_all(post("left"), post("right"))

    assert verdicts(left) == {"join": "waiting"}
    assert verdicts(right) == {"join": "fired"}
    assert cirrus.firings() == ["join 1"]


def test_both_members_in_one_turn_from_two_clients_give_one_firing():
    cirrus = join()

    cirrus.turn(Posted((post("left"),)), Posted((post("right"),)), Posted((post("left"),)))

    assert cirrus.firings() == ["join 1"]


def test_the_same_event_twice_in_one_request_stands_once():
    cirrus = join()

    first, second = cirrus.post_all(post("left"), post("left"))

    assert verdicts(first) == {"join": "waiting"}
    assert verdicts(second) == {"join": "ignored"}


def test_generations_are_numbered_from_one_without_gaps():
    cirrus = join()
    cirrus.post_all(post("left"), post("right"))
    for _ in range(3):
        cirrus.post("left", force=True)

    assert cirrus.firings() == ["join 1", "join 2!", "join 3!", "join 4!"]


# --- 4.4 force ----------------------------------------------------------------------------------


def test_force_fires_again_with_the_other_members_carried_over():
    cirrus = join()
    left, right = cirrus.post_all(post("left"), post("right"))

    forced = cirrus.post("left", force=True)

    assert verdicts(forced) == {"join": "fired"}
    assert cirrus.store.job_members(cirrus.job("join", 1).id)[1] == (left.seq, right.seq)
    assert cirrus.store.job_members(cirrus.job("join", 2).id)[1] == (forced.seq, right.seq)


def test_force_takes_the_place_of_the_member_that_stood():
    cirrus = join()
    cirrus.post("left")
    forced = cirrus.post("left", force=True)
    right = cirrus.post("right")

    assert cirrus.store.job_members(cirrus.job("join").id)[1] == (forced.seq, right.seq)


def test_forcing_an_open_rule_adds_no_generation():
    cirrus = join()
    cirrus.post("left", force=True)
    assert verdicts(cirrus.post("left", force=True)) == {"join": "waiting"}
    cirrus.post("right", force=True)

    assert cirrus.firings() == ["join 1!"]


def test_a_firing_is_forced_when_any_of_its_new_occurrences_is_forced():
    cirrus = join()
    cirrus.post("left", force=True)
    cirrus.post("right")

    assert cirrus.firings() == ["join 1!"]


def test_a_forced_occurrence_that_an_earlier_firing_used_forces_no_later_one():
    cirrus = Cirrus()
    cirrus.put("event_set", "both", ["x:left", "y:right"])
    cirrus.rule("join", "both", run=PROCESS)
    cirrus.post("x:left", force=True)
    cirrus.post("y:right")
    cirrus.reset(namespace="y")

    cirrus.post("y:right")

    assert cirrus.firings() == ["join 1!", "join 2"]


def test_force_on_a_set_that_is_not_satisfied_opens_the_rule_which_then_waits():
    cirrus = Cirrus()
    cirrus.put("event_set", "s", ["a"])
    cirrus.rule("r", "s")
    cirrus.post("a")
    cirrus.put("event_set", "s", ["a", "b"])

    assert verdicts(cirrus.post("a", force=True)) == {"r": "waiting"}
    assert verdicts(cirrus.post("b")) == {"r": "fired"}
    assert cirrus.firings() == ["r 1", "r 2!"]


def test_what_a_forced_firing_triggers_is_forced_down_the_chain():
    cirrus = Cirrus()
    for n in range(3):
        cirrus.rule(f"r{n}", f"e{n}", f"e{n + 1}")
    cirrus.post("e0")
    cirrus.post("e0", force=True)

    assert cirrus.firings() == ["r0 1", "r1 1", "r2 1", "r0 2!", "r1 2!", "r2 2!"]
    assert cirrus.occurred() == ["e0", "e1", "e2", "e3", "e0!", "e1!", "e2!", "e3!"]


def test_what_a_plain_firing_triggers_is_not_forced():
    cirrus = Cirrus()
    cirrus.rule("r0", "a", "b")
    cirrus.rule("r1", "b")
    cirrus.post("b")

    cirrus.post("a")

    assert cirrus.occurred() == ["b", "a", "b"]
    assert cirrus.firings() == ["r1 1", "r0 1"]


# --- 4.5 reset ----------------------------------------------------------------------------------


def test_after_a_reset_nothing_stands_and_the_rule_fires_anew():
    cirrus = join()
    cirrus.post_all(post("left"), post("right"))

    cirrus.reset()

    assert verdicts(cirrus.post("left")) == {"join": "waiting"}
    assert verdicts(cirrus.post("right")) == {"join": "fired"}
    assert cirrus.firings() == ["join 1", "join 2"]


def test_a_reset_of_a_half_filled_set_forgets_the_half():
    cirrus = join()
    cirrus.post("left")
    cirrus.reset("")

    assert verdicts(cirrus.post("right")) == {"join": "waiting"}
    assert cirrus.firings() == []


def test_a_reset_of_one_key_leaves_the_others():
    cirrus = join()
    for key in ("s1", "s2"):
        cirrus.post("left", key)

    cirrus.reset("s1")

    assert verdicts(cirrus.post("right", "s1")) == {"join": "waiting"}
    assert verdicts(cirrus.post("right", "s2")) == {"join": "fired"}


def test_a_reset_of_a_namespace_carries_the_members_of_others_over():
    cirrus = Cirrus()
    cirrus.put("event_set", "both", ["x:a", "xy:b"])
    cirrus.rule("r", "both")
    a, _ = cirrus.post_all(post("x:a"), post("xy:b"))

    cirrus.reset("", "xy")
    b = cirrus.post("xy:b")

    assert verdicts(b) == {"r": "fired"}
    assert cirrus.store.job_members(cirrus.job("r", 2).id)[1] == (a.seq, b.seq)


def test_a_name_without_a_colon_is_a_namespace_of_its_own():
    cirrus = Cirrus()
    cirrus.rule("r", "x")
    cirrus.post("x")
    cirrus.reset(namespace="x")

    assert verdicts(cirrus.post("x")) == {"r": "fired"}


def test_a_reset_that_clears_no_member_of_a_rule_does_not_open_it():
    cirrus = choice({"any": ["x:a", "y:b"]})
    cirrus.post("x:a")
    cirrus.reset(namespace="y")

    assert verdicts(cirrus.post("y:b")) == {"choose": "absorbed"}
    assert cirrus.firings() == ["choose 1"]


@pytest.mark.parametrize("kind", ["rule", "event_set"])
def test_a_reset_opens_a_rule_that_is_deleted_now_and_comes_back(kind):
    cirrus = join()
    cirrus.post_all(post("left"), post("right"))
    cirrus.delete(kind, {"rule": "join", "event_set": "both"}[kind])

    cirrus.reset()
    cirrus.put("event_set", "both", ["left", "right"])
    cirrus.rule("join", "both", run=PROCESS)
    cirrus.post_all(post("left"), post("right"))

    assert cirrus.firings() == ["join 1", "join 2"]


def test_a_reset_that_clears_a_member_which_an_edit_brought_in_opens_the_rule():
    cirrus = Cirrus()
    cirrus.put("event_set", "s", ["x:a"])
    cirrus.rule("r", "s")
    cirrus.post("x:a")
    cirrus.put("event_set", "s", ["x:a", "y:b"])
    assert verdicts(cirrus.post("y:b")) == {"r": "standing"}

    cirrus.reset(namespace="y")

    assert verdicts(cirrus.post("y:b")) == {"r": "fired"}


@pytest.mark.parametrize(
    ("key", "namespace"), [(None, None), ("k", None), (None, "out"), ("k", "out"), ("k", "ns")]
)
def test_what_a_firing_from_before_the_reset_still_causes_is_late(key, namespace):
    cirrus = Cirrus()
    cirrus.rule("ns:r", "ns:a", "out:b", run=PROCESS)
    cirrus.rule("ns:next", "out:b", run=PROCESS)
    cirrus.post("ns:a", "k")
    cirrus.reset(key, namespace)

    cirrus.end(cirrus.job("ns:r", key="k"))

    assert cirrus.occurred() == ["ns:a at k", "out:b at k late"]
    assert verdicts_of(cirrus, "out:b") == {"ns:next": "late"}
    assert cirrus.firings() == ["ns:r 1 at k"]
    assert cirrus.job("ns:r", key="k").state == "succeeded"


@pytest.mark.parametrize(("key", "namespace"), [("other", None), (None, "other"), ("k", "other")])
def test_a_reset_of_something_else_makes_nothing_late(key, namespace):
    cirrus = Cirrus()
    cirrus.rule("ns:r", "ns:a", "out:b", run=PROCESS)
    cirrus.post("ns:a", "k")
    cirrus.reset(key, namespace)

    cirrus.end(cirrus.job("ns:r", key="k"))

    assert cirrus.occurred() == ["ns:a at k", "out:b at k"]


def test_late_is_judged_by_the_firings_key_even_where_the_event_occurs_under_another():
    cirrus = Cirrus()
    cirrus.put("event", "b", {"key": "data.sample"})
    cirrus.rule("r", "a", "b", run=PROCESS)
    cirrus.post("a", "batch")
    cirrus.reset("batch")

    cirrus.end(cirrus.job("r", key="batch"), output={"sample": "s1"})

    assert cirrus.occurred() == ["a at batch", "b at s1 late"]


def test_a_firing_after_the_reset_is_not_late():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b", run=PROCESS)
    cirrus.post("a")
    cirrus.reset()
    cirrus.post("a")

    cirrus.end(cirrus.job("r", 2))

    assert cirrus.occurred() == ["a", "a", "b"]


def test_a_late_occurrence_does_not_stand():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b", run=PROCESS)
    cirrus.rule("next", "b", run=PROCESS)
    cirrus.post("a")
    cirrus.reset()
    cirrus.end(cirrus.job("r"))

    assert verdicts(cirrus.post("b")) == {"next": "fired"}


def test_history_stays_after_a_reset():
    cirrus = join()
    cirrus.post_all(post("left"), post("right"))
    before = cirrus.occurred(), cirrus.firings()

    cirrus.reset()

    assert (cirrus.occurred(), cirrus.firings()) == before


# --- 4.6 definitions that come later ------------------------------------------------------------


def test_a_rule_that_comes_later_finds_its_set_satisfied_and_fires_at_nothing_yet():
    cirrus = Cirrus()
    cirrus.put("event_set", "both", ["left", "right"])
    cirrus.post_all(post("left"), post("right"))

    cirrus.rule("join", "both")

    assert cirrus.firings() == []
    assert verdicts(cirrus.post("right")) == {"join": "ignored"}
    assert verdicts(cirrus.post("right", force=True)) == {"join": "fired"}
    assert cirrus.firings() == ["join 1!"]


def test_a_set_that_comes_later_counts_what_stands():
    cirrus = Cirrus()
    left = cirrus.post("left")
    cirrus.put("event_set", "both", ["left", "right"])
    cirrus.rule("join", "both")

    right = cirrus.post("right")

    assert verdicts(right) == {"join": "fired"}
    assert cirrus.store.job_members(cirrus.job("join").id)[1] == (left.seq, right.seq)


def test_a_ready_set_fires_at_the_next_occurrence_that_stands():
    cirrus = choice(["a", "b", "c"])
    cirrus.post_all(post("a"), post("b"))

    cirrus.put("event_set", "some", {"at_least": 2, "of": ["a", "b", "c"]})

    assert cirrus.firings() == []
    assert verdicts(cirrus.post("a")) == {"choose": "ignored"}
    assert verdicts(cirrus.post("c")) == {"choose": "fired"}


def test_an_edit_does_not_open_a_rule_that_has_fired():
    cirrus = choice(["a"])
    cirrus.post("a")
    cirrus.put("event_set", "some", ["a", "b"])

    assert verdicts(cirrus.post("b")) == {"choose": "standing"}
    assert verdicts(cirrus.post("b", force=True)) == {"choose": "fired"}


def test_a_deleted_set_is_waited_for_no_more():
    cirrus = join()
    cirrus.delete("event_set", "both")

    assert cirrus.post("left").verdicts == ()
    assert verdicts(cirrus.post("both")) == {"join": "fired"}


def test_a_rule_that_is_deleted_and_registered_again_goes_on_with_its_numbers():
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    cirrus.post("a")
    cirrus.delete("rule", "r")
    assert cirrus.post("a", force=True).verdicts == ()

    cirrus.rule("r", "a", run=PROCESS)

    assert verdicts(cirrus.post("a")) == {"r": "ignored"}
    cirrus.post("a", force=True)
    assert cirrus.firings() == ["r 1", "r 2!"]
    assert (cirrus.job("r", 1).rule.version, cirrus.job("r", 2).rule.version) == (1, 3)


def test_a_firing_freezes_its_rule_and_the_set_that_it_triggers():
    cirrus = Cirrus()
    cirrus.put("event_set", "out", ["x", "y"])
    cirrus.rule("r", "a", "out", run=PROCESS)
    cirrus.post("a")

    cirrus.put("event_set", "out", ["z"])
    cirrus.rule("r", "a", "elsewhere", run=PROCESS)
    cirrus.end(cirrus.job("r"))

    assert cirrus.occurred() == ["a", "x", "y"]


def test_a_firing_that_triggers_an_event_goes_on_to_when_a_set_takes_its_name():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "out", run=PROCESS)
    cirrus.post("a")

    cirrus.put("event_set", "out", ["z"])
    cirrus.end(cirrus.job("r"))

    assert cirrus.occurred() == ["a", "out"]


# --- 4.7 order of ends --------------------------------------------------------------------------


def two_generations() -> Cirrus:
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b", run=PROCESS)
    cirrus.rule("next", "b", run=PROCESS)
    cirrus.post("a")
    cirrus.post("a", force=True)
    return cirrus


def test_a_success_of_an_older_generation_is_superseded():
    cirrus = two_generations()
    cirrus.end(cirrus.job("r", 2))
    cirrus.end(cirrus.job("r", 1))

    assert cirrus.occurred() == ["a", "a!", "b!", "b superseded"]
    assert verdicts_of(cirrus, "b", 1) == {"next": "superseded"}
    assert cirrus.firings() == ["r 1", "r 2!", "next 1!"]


def test_successes_in_the_order_of_their_generations_all_count():
    cirrus = two_generations()
    cirrus.end(cirrus.job("r", 1))
    cirrus.end(cirrus.job("r", 2))

    assert cirrus.occurred() == ["a", "a!", "b", "b!"]
    assert cirrus.firings() == ["r 1", "r 2!", "next 1", "next 2!"]


def test_a_failure_of_a_newer_generation_supersedes_nothing():
    cirrus = two_generations()
    cirrus.end(cirrus.job("r", 2), "failure")
    cirrus.end(cirrus.job("r", 1))

    assert cirrus.occurred() == ["a", "a!", "b"]


def test_what_a_firing_sets_off_before_its_own_occurrences_supersedes_none_of_them():
    cirrus = Cirrus(chain_depth=1)
    cirrus.put("event_set", "again", ["a", "b"])
    cirrus.rule("r", "a", "again")
    cirrus.post("a", force=True)

    assert cirrus.firings() == ["r 1!", "r 2!"]
    assert cirrus.occurred() == ["a!", "a!", "b!", "a! stopped", "b! stopped"]


# --- 4.8 bounds ---------------------------------------------------------------------------------


def test_a_chain_ends_at_its_depth_and_what_lies_beyond_is_recorded_as_stopped():
    cirrus = Cirrus(chain_depth=3)
    for n in range(6):
        cirrus.rule(f"r{n}", f"e{n}", f"e{n + 1}")

    cirrus.post("e0")

    assert cirrus.occurred() == ["e0", "e1", "e2", "e3", "e4 stopped"]
    assert verdicts_of(cirrus, "e4") == {"r4": "stopped"}
    assert len(cirrus.firings()) == 4


def test_a_cycle_goes_round_once_unless_forced_and_then_until_its_bound():
    cirrus = Cirrus(chain_depth=10)
    cirrus.rule("there", "a", "b")
    cirrus.rule("back", "b", "a")

    cirrus.post("a")
    assert cirrus.firings() == ["there 1", "back 1"]

    cirrus.post("a", force=True)
    assert len(cirrus.firings()) == 2 + 11
    assert cirrus.occurred()[-1].endswith("stopped")


def test_a_root_causes_at_most_so_many_occurrences():
    cirrus = Cirrus(chain_length=5)
    cirrus.put("event_set", "out", [f"x{n}" for n in range(8)])
    cirrus.rule("r", "a", "out")

    cirrus.post("a")

    assert cirrus.occurred()[1:] == [
        *(f"x{n}" for n in range(5)),
        *(f"x{n} stopped" for n in range(5, 8)),
    ]


def test_each_root_has_bounds_of_its_own():
    cirrus = Cirrus(chain_length=1)
    cirrus.rule("r", "a", "b")

    for key in ("s1", "s2"):
        cirrus.post("a", key)

    assert cirrus.occurred() == ["a at s1", "b at s1", "a at s2", "b at s2"]


# --- verdicts -----------------------------------------------------------------------------------


def test_what_is_caused_occurs_after_all_that_was_posted_with_its_cause():
    cirrus = Cirrus()
    cirrus.rule("r1", "a", "c")
    cirrus.rule("r2", "c", "d")
    cirrus.rule("r3", "b", "e")

    cirrus.post_all(post("a"), post("b"))

    assert cirrus.occurred() == ["a", "b", "c", "e", "d"]


def test_the_record_says_what_the_answer_says():
    cirrus = join()
    answer = cirrus.post("left")

    assert verdicts_of(cirrus, "left") == verdicts(answer) == {"join": "waiting"}


def verdicts_of(cirrus: Cirrus, event: str, nth: int = 0) -> dict[str, str]:
    """As the record of the n-th occurrence of this event has them."""
    rows = cirrus.rows(
        "SELECT json_extract(v.value, '$.rule'), json_extract(v.value, '$.verdict')"
        " FROM (SELECT verdicts FROM occurrence WHERE event = ? ORDER BY seq LIMIT 1 OFFSET ?) o,"
        " json_each(o.verdicts) v",
        event,
        nth,
    )
    return dict(rows)
