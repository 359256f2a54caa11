"""The seed's routes, with the seed's own calls: the `requests` library, JSON within JSON."""

import json
import time

import pytest
import requests
from tests.contracts.http_world import AUTO, PROCESS, SECONDS, World

EVENTS: dict[str, object] = {f"ns:event:{n}": {} for n in range(1, 6)}
EVENT_SETS = {event: [event] for event in EVENTS} | {"ns:event_set:1": ["ns:event:1", "ns:event:4"]}
RULES = {
    f"ns:rule:{n}": {on: {"activity": AUTO, "triggering": f"ns:event:{n + 1}", "attempts": 1}}
    for n, on in enumerate(["ns:event:1", "ns:event:2", "ns:event:3", "ns:event_set:1"], 1)
}


@pytest.fixture
def world(tmp_path):
    with World(tmp_path) as world:
        yield world


@pytest.fixture
def diamond(world):
    register(world.url)
    return world


def register(url):
    """Word for word what the seed's script does."""
    for e, payload in EVENTS.items():
        requests.put(f"{url}/r/event/{e}", json=json.dumps(payload), timeout=SECONDS)
    for es, payload in EVENT_SETS.items():
        requests.put(f"{url}/r/event_set/{es}", json=json.dumps(payload), timeout=SECONDS)
    for r, payload in RULES.items():
        requests.put(f"{url}/r/rule/{r}", json=json.dumps(payload), timeout=SECONDS)


def trigger(world, event, **fields):
    return world.call("POST", f"/r/event/{event}", json={"action": "trigger", **fields})


def states_of(world, rule):
    entries = world.get("/q/queue:rule_state")
    return [entry["payload"]["state"] for entry in entries if entry["rule"] == rule]


# --- the seed's two scripts -----------------------------------------------------------------------


def test_the_seeds_first_script_registers_and_lists_what_it_registered(diamond):
    assert diamond.get("/q/queue:event") == []
    listed = {kind: diamond.get(f"/q/{kind}") for kind in ("event", "event_set", "rule")}
    assert {one["event"]: one["payload"] for one in listed["event"]} == EVENTS
    assert {one["event_set"]: one["payload"] for one in listed["event_set"]} == EVENT_SETS
    assert {one["rule"]: one["payload"] for one in listed["rule"]} == RULES
    assert all(set(one) == {"rule", "payload", "ts"} for one in listed["rule"])


def test_the_seeds_second_script_triggers_with_force_and_hears_of_the_rules(diamond):
    triggers = [f"ns:event:{n}" for n in (1, 2, 3, 5)]
    answers = [trigger(diamond, event, force="true").json() for event in triggers]
    assert answers[0]["msgs"][0] == {"msg": "rule 'ns:rule:1' triggered by 'ns:event:1'"}
    assert answers[-1] == {"msgs": [{"msg": "no rule is triggered"}], "status": "OK"}
    assert all(answer["status"] == "OK" for answer in answers)


def test_the_diamond_runs_to_its_end_from_one_trigger(diamond):
    answer = trigger(diamond, "ns:event:1").json()
    assert answer == {
        "msgs": [{"msg": "rule 'ns:rule:1' triggered by 'ns:event:1'"}],
        "status": "OK",
    }
    queue = diamond.get("/q/queue:event")
    assert [entry["event"] for entry in queue] == list(EVENTS)
    for rule in RULES:
        assert states_of(diamond, rule) == ["triggered", "dispatch"]


def test_a_repeat_fires_nothing_unless_it_is_forced(diamond):
    trigger(diamond, "ns:event:1")
    assert trigger(diamond, "ns:event:1").json()["msgs"] == [{"msg": "no rule is triggered"}]
    forced = trigger(diamond, "ns:event:1", force=True).json()
    assert {"msg": "rule 'ns:rule:1' triggered by 'ns:event:1'"} in forced["msgs"]


# --- one resource ---------------------------------------------------------------------------------


@pytest.mark.parametrize("in_a_string", [False, True])
def test_a_body_is_json_or_json_in_a_string(world, in_a_string):
    document = ["a", "b"]
    body = json.dumps(document) if in_a_string else document
    answer = world.call("PUT", "/r/event_set/both", json=body)
    assert answer.json() == {"msg": "set event_set:both", "status": "OK"}
    shown = world.get("/r/event_set/both")
    assert shown.pop("ts") == pytest.approx(time.time(), abs=60)
    assert shown == {"event_set": "both", "payload": document, "status": "OK"}


def test_a_string_in_a_string_in_a_string_is_refused(world):
    body = json.dumps(json.dumps(["a"]))
    answer = world.call("PUT", "/r/event_set/thrice", json=body)
    assert (answer.status_code, answer.json()["status"]) == (422, "FAIL")


def test_a_rule_is_shown_as_one_pair_whatever_form_it_came_in(world):
    long_form = {"on": "e", "activity": AUTO, "triggering": "f"}
    world.call("PUT", "/r/rule/r", json=long_form)
    assert world.get("/r/rule/r")["payload"] == {"e": {"activity": AUTO, "triggering": "f"}}


@pytest.mark.parametrize("path", ["/r/event/none", "/r/rule/none", "/r/queue/none"])
def test_what_is_not_there_is_404_and_fail(world, path):
    answer = world.call("GET", path)
    assert answer.status_code == 404
    assert answer.json()["status"] == "FAIL"
    assert "not found" in answer.json()["msg"]


def test_deleting_answers_ok_whether_it_was_there_or_not(diamond):
    for _ in range(2):
        answer = diamond.call("DELETE", "/r/rule/ns:rule:1")
        assert answer.json() == {"msg": "rule:ns:rule:1 deleted", "status": "OK"}
    assert diamond.call("GET", "/r/rule/ns:rule:1").status_code == 404


def test_a_wrong_action_is_400_and_says_so(world):
    for path in ("/r/event/e", "/r/event_set/e", "/r/rule/e"):
        for action in ("explode", "", None, 7, ["trigger"]):
            answer = world.call("POST", path, json={"action": action})
            assert answer.status_code == 400
            assert answer.json()["msgs"] == [{"msg": "wrong action"}]
            assert answer.json()["status"] == "FAIL"


def test_force_is_a_string_or_a_boolean(world):
    for force in ("true", True, "false", False):
        trigger(world, "anything", force=force)
        payload = world.get("/q/queue:event")[-1]["payload"]
        assert payload == {"action": "trigger", "force": str(force).lower()}


def test_any_other_force_is_refused_and_named(world):
    for force in ("yes", "TRUE", 1, None):
        answer = trigger(world, "anything", force=force)
        assert (answer.status_code, answer.json()["field"]) == (422, "force")
    assert world.get("/q/queue:event") == []


def test_a_post_takes_key_data_source_and_id(world):
    fields = {"key": "batch7/s12", "data": {"lane": 3}, "source": "sequencer", "id": "run-1"}
    first = trigger(world, "reads", **fields).json()
    again = trigger(world, "reads", **fields).json()
    (entry,) = world.get("/q/queue:event")
    assert first == {"msgs": [{"msg": "no rule is triggered"}], "status": "OK"}
    assert again == {**first, "duplicate": True, "seq": entry["seq"]}
    assert entry["key"] == "batch7/s12"
    assert entry["payload"]["data"] == {"lane": 3}
    assert set(entry) == {"event", "payload", "ts", "key", "seq"}


def test_the_same_identity_with_other_content_is_a_conflict(world):
    trigger(world, "reads", source="s", id="1", data={"a": 1})
    answer = trigger(world, "reads", source="s", id="1", data={"a": 2})
    assert (answer.status_code, answer.json()["code"]) == (409, "identity_taken")


def test_an_unknown_event_is_recorded_and_shown_as_unrouted(world):
    trigger(world, "nobody:heard:of")
    (entry,) = world.get("/q/queue:event")
    assert entry["event"] == "nobody:heard:of"
    assert world.get(f"/v1/occurrences/{entry['seq']}")["routed"] is False


# --- lists ----------------------------------------------------------------------------------------


def test_deleting_the_event_queue_is_a_reset_of_everything(diamond):
    trigger(diamond, "ns:event:1")
    answer = diamond.call("DELETE", "/q/queue:event")
    assert answer.json() == {"msg": "queue:event deleted", "status": "OK"}
    assert diamond.get("/q/queue:event") == []
    # Nothing stands any more: the same trigger fires again, without force.
    assert trigger(diamond, "ns:event:1").json()["msgs"][0]["msg"].startswith("rule 'ns:rule:1'")
    assert len(diamond.get("/q/queue:event")) == 5


def test_deleting_the_rule_states_shows_only_what_comes_from_then_on(diamond):
    trigger(diamond, "ns:event:1")
    diamond.call("DELETE", "/q/queue:rule_state")
    assert diamond.get("/q/queue:rule_state") == []
    trigger(diamond, "ns:event:2", force=True)
    assert diamond.get("/q/queue:rule_state")[0]["rule"] == "ns:rule:2"


@pytest.mark.parametrize("kind", ["event", "event_set", "rule"])
def test_deleting_a_kind_deletes_all_definitions_of_it(diamond, kind):
    assert diamond.call("DELETE", f"/q/{kind}").json()["status"] == "OK"
    counts = {one: len(diamond.get(f"/q/{one}")) for one in ("event", "event_set", "rule")}
    assert counts == {"event": 5, "event_set": 6, "rule": 4} | {kind: 0}


def test_no_other_list_can_be_read_or_deleted(diamond):
    for what in ("queue", "*", "rule:*", "queue:", "queue:*", "queue:rule"):
        for method in ("GET", "DELETE"):
            assert diamond.call(method, f"/q/{what}").status_code == 404
    assert len(diamond.get("/q/rule")) == 4


def test_a_workers_own_words_are_recorded_as_states(world):
    for action in ("dispatch", "start", "fail", "success", "end"):
        answer = world.call("POST", "/r/rule/mine", json={"action": action})
        message = {"msg": f"rule 'mine' state '{action}' recorded"}
        assert answer.json() == {"msgs": [message], "status": "OK"}
    assert states_of(world, "mine") == ["dispatch", "start", "fail", "success", "end"]


def test_a_jobs_moves_are_shown_in_the_seeds_words_and_order(world):
    world.define(rules={"work": {"on": "go", "activity": PROCESS, "attempts": 1}})
    world.connect_dispatcher()
    world.occur("go")
    run = world.next_run()
    world.start(run)
    world.finish(run, "failure")
    assert states_of(world, "work") == ["triggered", "dispatch", "start", "fail", "end"]
    entry = world.get("/q/queue:rule_state")[0]
    assert set(entry) == {"rule", "payload", "ts"}


def test_an_attempt_that_is_tried_again_is_shown_as_fail_and_dispatch(world):
    world.define(rules={"work": {"on": "go", "activity": PROCESS, "attempts": 2}})
    world.connect_dispatcher()
    world.occur("go")
    first = world.next_run()
    world.start(first)
    world.finish(first, "failure")
    second = world.next_run()
    world.start(second)
    world.finish(second)
    expected = ["triggered", "dispatch", "start", "fail", "dispatch", "start", "success", "end"]
    assert states_of(world, "work") == expected


def test_queues_show_the_newest_ten_thousand_and_page_through_all(world):
    # given more occurrences than one answer shows
    many = [{"event": "tick", "key": str(n)} for n in range(1000)]
    world.define(events={"tick": {}})
    seqs = []
    for _ in range(10):
        answer = world.post("/v1/occurrences", {"occurrences": many})
        seqs += [one["seq"] for one in answer["occurrences"]]
    seqs.append(world.occur("tick")["seq"])
    # when the queue is read
    shown = [entry["seq"] for entry in world.get("/q/queue:event")]
    first = [entry["seq"] for entry in world.get("/q/queue:event?after=0&limit=3")]
    # then it is the newest, in order; and a page begins where it is told
    assert shown == seqs[1:]
    assert first == seqs[:3]
    assert world.call("GET", "/q/queue:event?limit=10001").status_code == 400


# --- the listener for jobs ------------------------------------------------------------------------


@pytest.fixture
def working(world):
    """A job that runs, on a set and for a set, and another rule beside it."""
    world.define(
        event_sets={"in": ["a"], "out": ["b", "c"], "other": ["d"]},
        rules={
            "work": {"in": {"activity": PROCESS, "triggering": "out", "attempts": 2}},
            "else": {"other": {"activity": PROCESS, "triggering": "a"}},
        },
    )
    world.connect_dispatcher()
    world.occur("a", key="k1")
    run = world.next_run()
    world.start(run)
    return world, run


def ask(world, method, path, token, **options):
    auth = ("job", token) if token else None
    return requests.request(method, world.jobs + path, auth=auth, timeout=SECONDS, **options)


def test_a_seed_style_worker_reads_its_rule_and_set_and_triggers_each_event(working):
    world, run = working
    base = world.jobs.replace("http://", f"http://job:{world.token(run)}@")
    rule = requests.get(f"{base}/r/rule/work", timeout=SECONDS).json()["payload"]
    ((_, pair),) = rule.items()
    events = requests.get(f"{base}/r/event_set/{pair['triggering']}", timeout=SECONDS).json()
    assert events["payload"] == ["b", "c"]
    for event in events["payload"]:
        answer = requests.post(
            f"{base}/r/event/{event}", json={"action": "trigger", "force": "false"}, timeout=SECONDS
        )
        assert answer.json()["status"] == "OK"
    world.finish(run)
    # then nothing occurred twice, and all of it under the job's key
    queue = [(entry["event"], entry["key"]) for entry in world.get("/q/queue:event")]
    assert queue == [("a", "k1"), ("b", "k1"), ("c", "k1")]


def test_a_workers_second_trigger_of_the_same_event_is_a_duplicate(working):
    world, run = working
    body = {"action": "trigger"}
    ask(world, "POST", "/r/event/b", world.token(run), json=body)
    again = ask(world, "POST", "/r/event/b", world.token(run), json=body)
    assert again.json()["duplicate"] is True
    assert [one["event"] for one in world.get("/q/queue:event")] == ["a", "b"]


def test_a_workers_note_carries_its_job(working):
    world, run = working
    answer = ask(world, "POST", "/r/rule/work", world.token(run), json={"action": "start"})
    assert answer.json()["msgs"] == [{"msg": "rule 'work' state 'start' recorded"}]
    moves = world.get(f"/v1/jobs/{run.job}")["moves"]
    assert [one["state"] for one in moves if one["kind"] == "note"] == ["start"]


CALLS = [
    ("GET", "/r/rule/work", None),
    ("GET", "/r/event_set/out", None),
    ("POST", "/r/event/b", {"action": "trigger"}),
    ("POST", "/r/rule/work", {"action": "start"}),
]


def test_without_a_genuine_token_the_job_listener_answers_401(working):
    world, _ = working
    for method, path, body in CALLS:
        for token in ("", "garbage", "cir_job_0123456789abcdef-1_" + "A" * 43):
            answer = ask(world, method, path, token, json=body)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_the_token_of_an_ended_attempt_gets_409(working):
    world, run = working
    world.finish(run, "failure")
    for method, path, body in CALLS:
        assert ask(world, method, path, world.token(run), json=body).status_code == 409
    # and of attempt 1 while attempt 2 runs
    second = world.next_run()
    world.start(second)
    for method, path, body in CALLS:
        assert ask(world, method, path, world.token(run), json=body).status_code == 409
        assert ask(world, method, path, world.token(second), json=body).status_code == 200


def test_a_job_may_do_nothing_else(working):
    world, run = working
    before = world.get("/v1/status")["last_seq"]
    for method, path, body in [
        ("GET", "/r/rule/else", None),
        ("GET", "/r/event_set/other", None),
        ("POST", "/r/event/d", {"action": "trigger"}),
        ("POST", "/r/event/a", {"action": "trigger"}),
        ("POST", "/r/rule/else", {"action": "start"}),
        ("GET", "/q/queue:event", None),
        ("GET", "/v1/status", None),
        ("GET", "/metrics", None),
        ("POST", "/v1/occurrences", {"event": "b"}),
    ]:
        assert ask(world, method, path, world.token(run), json=body).status_code == 403
    assert world.get("/v1/status")["last_seq"] == before


def test_a_job_may_neither_define_nor_delete(working):
    world, run = working
    for method in ("PUT", "DELETE"):
        assert ask(world, method, "/r/rule/work", world.token(run), json={}).status_code == 405


def test_a_bearer_token_is_taken_too(working):
    world, run = working
    headers = {"Authorization": f"Bearer {world.token(run)}"}
    answer = requests.get(f"{world.jobs}/r/rule/work", headers=headers, timeout=SECONDS)
    assert answer.json()["rule"] == "work"


def test_the_name_of_a_triggered_event_is_no_set(world):
    world.define(rules={"work": {"on": "a", "activity": PROCESS, "triggering": "b"}})
    world.connect_dispatcher()
    world.occur("a")
    run = world.next_run()
    assert ask(world, "GET", "/r/event_set/b", world.token(run)).status_code == 404


def test_a_job_sees_its_rule_as_its_firing_froze_it(working):
    world, run = working
    world.define(rules={"work": {"on": "in", "activity": PROCESS, "triggering": "d"}})
    shown = ask(world, "GET", "/r/rule/work", world.token(run)).json()
    assert shown["payload"]["in"]["triggering"] == "out"
