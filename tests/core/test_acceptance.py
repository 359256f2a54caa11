"""What may occur, under which key, and how a repeat is recognised: semantics.md section 3."""

import pytest
from tests.core.toy import PROCESS, Cirrus, post, verdicts

from cirrus.core.acceptance import digest, settle
from cirrus.core.decision import Occurrence
from cirrus.core.inputs import Posted, ResetAsked
from cirrus.core.model import Event, Identity, Post
from cirrus.errors import BadDocument, Conflict, NotFound, Refused


def one_rule() -> Cirrus:
    cirrus = Cirrus()
    cirrus.rule("r", "a", run=PROCESS)
    return cirrus


# --- 3.1 and 3.2: one transaction, one order ----------------------------------------------------


def test_seq_rises_with_every_occurrence_and_firing():
    cirrus = one_rule()
    first = cirrus.post("a", "s1").seq
    second = cirrus.post("a", "s2").seq

    assert cirrus.rows("SELECT seq FROM job ORDER BY seq") == [(first + 1,), (second + 1,)]
    assert cirrus.store.last_seq() == second + 2


def test_one_wrong_occurrence_refuses_the_whole_request():
    cirrus = one_rule()
    cirrus.put("event", "b", {"key": "data.sample"})
    before = cirrus.dump()

    with pytest.raises(BadDocument) as caught:
        cirrus.post_all(post("a"), post("b"), post("a", "s1"))

    assert (caught.value.code, caught.value.field) == ("refused_by_event", "occurrences[1]")
    assert cirrus.dump() == before


def test_a_refused_request_does_not_harm_the_others_of_its_turn():
    cirrus = one_rule()

    answers = cirrus.turn(
        Posted((post("a"),)), Posted((post("nope"),), strict=True), Posted((post("a", "s1"),))
    )

    assert [isinstance(answer, Refused) for answer in answers] == [False, True, False]
    assert cirrus.firings() == ["r 1", "r 1 at s1"]


# --- 3.3 identity -------------------------------------------------------------------------------


def test_the_same_identity_with_the_same_content_is_a_duplicate_and_changes_nothing():
    cirrus = one_rule()
    first = cirrus.post("a", force=True, id="1", data={"x": 1})
    before = cirrus.dump()

    again = cirrus.post("a", force=True, id="1", data={"x": 1})

    assert (again.seq, again.duplicate, again.verdicts) == (first.seq, True, ())
    assert cirrus.dump() == before


@pytest.mark.parametrize(
    "other",
    [
        post("b", "k", force=True, data={"x": 1}, id="1"),
        post("a", "other", force=True, data={"x": 1}, id="1"),
        post("a", None, force=True, data={"x": 1}, id="1"),
        post("a", "k", force=False, data={"x": 1}, id="1"),
        post("a", "k", force=True, data={"x": 2}, id="1"),
    ],
)
def test_the_same_identity_with_other_content_is_a_conflict(other):
    cirrus = one_rule()
    cirrus.post("a", "k", force=True, data={"x": 1}, id="1")
    before = cirrus.dump()

    with pytest.raises(Conflict) as caught:
        cirrus.post_all(other)

    assert caught.value.code == "identity_taken"
    assert cirrus.dump() == before


def test_the_order_of_keys_in_the_data_is_no_other_content():
    assert digest(post("a", data={"x": 1, "y": {"p": 1, "q": 2}})) == digest(
        post("a", data={"y": {"q": 2, "p": 1}, "x": 1})
    )


def test_a_key_that_is_empty_is_not_a_key_that_was_not_given():
    assert digest(post("a", "")) != digest(post("a", None))


def test_the_senders_own_time_is_no_content():
    assert digest(Post("a", time=1.0)) == digest(Post("a", time=2.0))


def test_the_same_id_from_another_source_is_another_occurrence():
    cirrus = one_rule()
    first = cirrus.post("a", id="1", source="x")

    other = cirrus.post("a", id="1", source="y", force=True)

    assert other.seq > first.seq
    assert not other.duplicate


def test_occurrences_without_an_id_are_never_duplicates():
    cirrus = one_rule()

    assert not any(cirrus.post("a").duplicate for _ in range(2))
    assert cirrus.occurred() == ["a", "a"]


def test_a_repeat_within_one_request_answers_with_the_seq_of_the_first():
    cirrus = one_rule()

    first, again = cirrus.post_all(post("a", "k", id="1"), post("a", "k", id="1"))

    assert (again.seq, again.key, again.duplicate) == (first.seq, "k", True)
    assert cirrus.occurred() == ["a at k"]


def test_a_contradiction_within_one_request_refuses_it():
    cirrus = one_rule()

    with pytest.raises(Conflict):
        cirrus.post_all(post("a", id="1"), post("b", id="1"))

    assert cirrus.occurred() == []


def test_the_answers_come_in_the_order_of_the_posts():
    cirrus = one_rule()
    old = cirrus.post("a", "s2", id="2")

    answers = cirrus.post_all(post("a", "s1", id="1"), post("a", "s2", id="2"), post("a", "s3"))

    assert [(one.key, one.duplicate) for one in answers] == [
        ("s1", False),
        ("s2", True),
        ("s3", False),
    ]
    assert answers[1].seq == old.seq


def test_a_repeat_is_answered_with_the_key_that_the_first_was_accepted_under():
    cirrus = one_rule()
    cirrus.put("event", "a", {"key": "data.sample"})
    cirrus.post("a", data={"sample": "s1"}, id="1")

    assert cirrus.post("a", data={"sample": "s1"}, id="1").key == "s1"


def test_a_repeat_stays_one_when_the_event_would_refuse_it_now():
    cirrus = one_rule()
    first = cirrus.post("a", id="1")
    cirrus.put("event", "a", {"key": "data.sample"})

    assert cirrus.post("a", id="1").seq == first.seq


def test_a_reset_with_an_id_is_carried_out_once():
    cirrus = one_rule()
    cirrus.post("a")
    identity = Identity("", "1")
    first = cirrus.reset(identity=identity)
    cirrus.post("a")
    before = cirrus.dump()

    again = cirrus.reset(identity=identity)

    assert first.changed
    assert (again.changed, again.version) == (False, first.version)
    assert cirrus.dump() == before


@pytest.mark.parametrize(("key", "namespace"), [("k", None), (None, "ns"), ("k", "ns")])
def test_another_reset_with_the_same_id_is_a_conflict(key, namespace):
    cirrus = one_rule()
    cirrus.reset(identity=Identity("", "1"))

    with pytest.raises(Conflict):
        cirrus.ask(ResetAsked(key, namespace, Identity("", "1")))


def test_a_reset_and_an_occurrence_may_have_the_same_id():
    cirrus = one_rule()
    cirrus.post("a", id="1")

    assert cirrus.reset(identity=Identity("", "1")).changed


# --- 3.5 unknown names --------------------------------------------------------------------------


def test_an_unknown_event_is_recorded_where_it_may_be():
    cirrus = one_rule()

    assert cirrus.post("nobody:knows").verdicts == ()
    assert cirrus.occurred() == ["nobody:knows"]


def test_an_unknown_event_is_refused_where_names_are_strict():
    cirrus = one_rule()
    cirrus.put("event", "fastq:ready", {})

    with pytest.raises(NotFound, match="did you mean fastq:ready") as caught:
        cirrus.ask(Posted((post("fastq:redy"),), strict=True))
    assert (caught.value.code, caught.value.field) == ("unknown_event", "event")

    with pytest.raises(NotFound, match="define it") as caught:
        cirrus.ask(Posted((post("a"), post("zzz")), strict=True))
    assert caught.value.field == "occurrences[1].event"


def test_an_event_is_known_once_an_event_a_set_or_a_rule_names_it():
    cirrus = one_rule()
    cirrus.put("event", "defined", {})
    cirrus.put("event_set", "s", ["member"])
    cirrus.rule("on-s", "s")

    for name in ("a", "defined", "member"):
        cirrus.ask(Posted((post(name),), strict=True))
    with pytest.raises(NotFound):
        cirrus.ask(Posted((post("s"),), strict=True))


# --- 3.7 the key --------------------------------------------------------------------------------

BY_SAMPLE = Event("a", key="data.sample.name")


@pytest.mark.parametrize(
    ("event", "given", "key"),
    [
        (None, Post("a", key="k"), "k"),
        (None, Post("a"), "inherited"),
        (Event("a"), Post("a"), "inherited"),
        (BY_SAMPLE, Post("a", key="k"), "k"),
        (BY_SAMPLE, Post("a", key=""), ""),
        (BY_SAMPLE, Post("a", data={"sample": {"name": "s1"}}), "s1"),
        (BY_SAMPLE, Post("a", data={"sample": {"name": 17}}), "17"),
        (BY_SAMPLE, Post("a", data={"sample": {"name": ""}}), ""),
        (Event("a", key="key"), Post("a"), "inherited"),
        (Event("a", key="event"), Post("a"), "a"),
    ],
)
def test_the_key_is_the_one_given_else_by_the_events_path_else_inherited(event, given, key):
    assert settle(event, given, inherited="inherited") == (key, "")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"sample": "s1"},
        {"sample": {}},
        {"sample": {"name": None}},
        {"sample": {"name": True}},
        {"sample": {"name": 1.5}},
        {"sample": {"name": ["s1"]}},
        {"sample": {"name": "s" * 201}},
        {"sample": {"name": "s\n1"}},
        {"sample": {"name": 10**300}},
    ],
)
def test_a_key_path_that_fails_is_a_problem(data):
    key, problem = settle(BY_SAMPLE, Post("a", data=data), inherited="inherited")

    assert key == "inherited"
    assert "data.sample.name" in problem


def test_a_path_that_fails_refuses_a_post():
    cirrus = one_rule()
    cirrus.put("event", "a", {"key": "data.sample"})

    with pytest.raises(BadDocument) as caught:
        cirrus.post("a")

    assert (caught.value.status, caught.value.field) == (422, "data")
    assert cirrus.occurred() == []


def test_a_path_that_fails_on_what_a_job_caused_refuses_that_occurrence_alone():
    cirrus = Cirrus()
    cirrus.put("event", "b", {"key": "data.sample"})
    cirrus.put("event_set", "out", ["b", "c"])
    cirrus.rule("r", "a", "out", run=PROCESS)
    cirrus.rule("on-b", "b", run=PROCESS)
    cirrus.post("a", "k")

    cirrus.end(cirrus.job("r", key="k"), output={"other": 1})

    assert cirrus.occurred() == ["a at k", "b at k refused", "c at k"]
    assert cirrus.job("r", key="k").state == "succeeded"
    assert "leads nowhere" in cirrus.rows("SELECT problem FROM occurrence WHERE event = 'b'")[0][0]
    assert cirrus.store.standing("b", "k") is None
    assert cirrus.rows("SELECT verdicts FROM occurrence WHERE event = 'b'") == [
        (b'[{"rule":"on-b","verdict":"refused"}]',)
    ]


def test_what_is_caused_inherits_the_key_of_its_cause():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b")
    cirrus.post("a", "s1")

    assert cirrus.occurred() == ["a at s1", "b at s1"]


def test_the_key_is_fixed_at_acceptance():
    cirrus = one_rule()
    cirrus.put("event", "a", {"key": "data.x"})
    cirrus.post("a", data={"x": "before", "y": "after"})
    cirrus.put("event", "a", {"key": "data.y"})

    assert cirrus.occurred() == ["a at before"]
    assert verdicts(cirrus.post("a", data={"x": "before", "y": "after"})) == {"r": "fired"}


# --- schemas ------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "required": ["sample"],
    "properties": {"sample": {"type": "string", "pattern": "^s[0-9]+$"}},
}


def test_data_that_breaks_the_schema_refuses_the_post_and_says_where():
    cirrus = one_rule()
    cirrus.put("event", "a", {"schema": SCHEMA})

    with pytest.raises(BadDocument, match="sample"):
        cirrus.post("a", data={"sample": "x"})
    with pytest.raises(BadDocument, match="data: "):
        cirrus.post("a")
    assert verdicts(cirrus.post("a", data={"sample": "s1"})) == {"r": "fired"}


def test_data_that_breaks_the_schema_is_refused_whatever_key_is_given():
    event = Event("a", schema=b'{"required": ["x"]}')

    assert settle(event, Post("a", key="k"), inherited="i")[0] == "k"
    assert settle(event, Post("a"), inherited="i")[0] == "i"
    assert all(settle(event, Post("a", key=key), inherited="i")[1] for key in (None, "k"))


def test_a_recursive_schema_is_judged_quickly_though_it_branches_at_every_level():
    tree = {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}}
    cirrus = one_rule()
    cirrus.put("event", "a", {"schema": tree})
    data: dict[str, object] = {"a": 1}
    for _ in range(30):
        data = {"a": data}

    with pytest.raises(BadDocument, match="does not match"):
        cirrus.post("a", data=data)


def test_only_the_first_problems_are_told_and_not_at_any_length():
    cirrus = one_rule()
    properties = {f"p{n}" * 100: {"type": "string"} for n in range(10)}
    cirrus.put("event", "a", {"schema": {"properties": properties}})

    with pytest.raises(BadDocument) as caught:
        cirrus.post("a", data=dict.fromkeys(properties, 1))

    assert len(caught.value.message) < 600


# --- answers ------------------------------------------------------------------------------------


def test_every_post_gets_one_answer_and_what_it_causes_none():
    cirrus = Cirrus()
    cirrus.rule("r", "a", "b")

    (answer,) = cirrus.ask(Posted((post("a"),)))

    assert isinstance(answer, Occurrence)
    assert (answer.event, answer.duplicate) == ("a", False)
    assert cirrus.occurred() == ["a", "b"]
