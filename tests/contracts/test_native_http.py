"""The native API, /v1: what each call answers, and that its OpenAPI document says the same."""

import asyncio
import json
import re

import jsonschema_rs
import pytest
import requests
from tests.contracts.http_world import AUTO, PROCESS, SECONDS, World, chain

from cirrus.coordinator.http.native import native_routes
from cirrus.coordinator.http.native.openapi import openapi
from cirrus.core.messages import Hello, Offer
from cirrus.errors import Unavailable


@pytest.fixture
def world(tmp_path):
    with World(tmp_path) as world:
        yield world


def error_of(answer):
    return answer.json()["error"]


def page_through(world, path, limit):
    """All items of a list, so many at a time."""
    items, cursor = [], ""
    while True:
        page = world.get(f"{path}{'&' if '?' in path else '?'}limit={limit}{cursor}")
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = f"&after={page['next']}"


# --- definitions ----------------------------------------------------------------------------------


def test_many_definitions_are_applied_at_once_with_their_versions(world):
    body = {"events": {"a": {}}, "event_sets": {"ab": ["a", "b"]}, **chain(1)}
    first = world.post("/v1/definitions", body)["definitions"]
    again = world.post("/v1/definitions", body)["definitions"]
    assert {(one["kind"], one["name"], one["version"], one["changed"]) for one in first} == {
        ("event", "a", 1, True),
        ("event_set", "ab", 1, True),
        ("rule", "r1", 1, True),
    }
    assert [one["changed"] for one in again] == [False, False, False]
    assert [one["version"] for one in again] == [1, 1, 1]


def test_one_wrong_definition_refuses_all_and_is_named(world):
    answer = world.call(
        "POST", "/v1/definitions", json={"events": {"a": {}}, "rules": {"r": {"on": "a"}}}
    )
    assert answer.status_code == 422
    assert error_of(answer)["field"].startswith("rules.r")
    assert world.get("/v1/definitions")["items"] == []


def test_a_request_may_delete_and_define_at_once(world):
    world.define(events={"a": {}, "b": {}})
    answer = world.post("/v1/definitions", {"events": {"c": {}}, "delete": {"events": ["a", "x"]}})
    changed = {one["name"]: one["changed"] for one in answer["definitions"]}
    assert changed == {"a": True, "x": False, "c": True}
    assert [one["name"] for one in world.get("/v1/definitions")["items"]] == ["b", "c"]


def test_a_definition_keeps_its_versions(world):
    path = "/v1/definitions/event_set/pair"
    assert world.call("PUT", path, json=["a", "b"]).json()["version"] == 1
    assert world.call("PUT", path, json={"all": ["a", "b"]}).json()["changed"] is False
    assert world.call("PUT", path, json={"any": ["a", "b"]}).json()["version"] == 2
    assert world.call("DELETE", path).json() == {
        "kind": "event_set",
        "name": "pair",
        "version": 3,
        "changed": True,
    }
    assert world.call("GET", path).status_code == 404
    assert world.get(f"{path}?version=1")["document"] == ["a", "b"]
    assert world.get(f"{path}?version=2")["document"] == {"any": ["a", "b"]}
    assert world.get(f"{path}?version=3")["document"] is None
    assert error_of(world.call("GET", f"{path}?version=4"))["code"] == "unknown_event_set"


def test_definitions_are_listed_in_pages_by_kind_and_name(world):
    names = [f"n{n:03}" for n in range(25)]
    world.define(events={name: {} for name in names}, event_sets={name: [name] for name in names})
    everything = page_through(world, "/v1/definitions", 7)
    assert [(one["kind"], one["name"]) for one in everything] == [
        (kind, name) for kind in ("event", "event_set") for name in names
    ]
    sets = page_through(world, "/v1/definitions?kind=event_set", 25)
    assert [one["name"] for one in sets] == names


# --- occurrences ----------------------------------------------------------------------------------


def test_an_occurrence_answers_with_its_verdicts(world):
    world.define(event_sets={"ab": ["a", "b"]}, rules={"join": {"on": "ab", "activity": AUTO}})
    first = world.occur("a", key="k")
    second = world.occur("b", key="k")
    assert first["verdicts"] == [
        {"rule": "join", "verdict": "waiting", "missing": ["b"], "lacking": 1}
    ]
    assert [(one["rule"], one["verdict"]) for one in second["verdicts"]] == [("join", "fired")]
    assert re.fullmatch("[0-9a-f]{16}", second["verdicts"][0]["job"])
    assert world.get(f"/v1/occurrences/{second['seq']}")["verdicts"] == second["verdicts"]


def test_a_repeated_identity_answers_with_what_it_had_become(world):
    world.define(rules={"r": {"on": "a", "activity": AUTO}})
    first = world.occur("a", key="k", source="s", id="1")
    again = world.occur("a", key="k", source="s", id="1")
    assert again == {**first, "duplicate": True}
    contradiction = {"event": "a", "key": "other", "source": "s", "id": "1"}
    answer = world.call("POST", "/v1/occurrences", json=contradiction)
    assert (answer.status_code, error_of(answer)["code"]) == (409, "identity_taken")


def test_many_occurrences_are_one_transaction_decided_in_their_order(world):
    world.define(event_sets={"ab": ["a", "b"]}, rules={"join": {"on": "ab", "activity": AUTO}})
    answer = world.post(
        "/v1/occurrences", {"occurrences": [{"event": "a"}, {"event": "b"}, {"event": "a"}]}
    )
    verdicts = [one["verdicts"][0]["verdict"] for one in answer["occurrences"]]
    assert verdicts == ["waiting", "fired", "ignored"]


def test_one_wrong_occurrence_refuses_all_of_them(world):
    world.define(events={"a": {}})
    before = world.get("/v1/status")["last_seq"]
    body = {"occurrences": [{"event": "a"}, {"event": "unheard-of"}]}
    answer = world.call("POST", "/v1/occurrences", json=body)
    assert (answer.status_code, error_of(answer)["field"]) == (404, "occurrences[1].event")
    assert world.get("/v1/status")["last_seq"] == before


def test_a_batch_may_hold_repeats_of_itself_and_of_what_was_before(world):
    world.define(events={"a": {}})
    one = {"event": "a", "source": "s", "id": "1"}
    two = {"event": "a", "key": "k", "source": "s", "id": "2"}
    seq = world.occur(**one)["seq"]
    answer = world.post("/v1/occurrences", {"occurrences": [two, one, two]})["occurrences"]
    assert [found["duplicate"] for found in answer] == [False, True, True]
    assert [found["seq"] for found in answer] == [answer[0]["seq"], seq, answer[0]["seq"]]


def test_a_strict_post_says_what_name_was_meant(world):
    world.define(events={"fastq:ready": {}})
    answer = world.call("POST", "/v1/occurrences", json={"event": "fastq:redy"})
    assert answer.status_code == 404
    assert "did you mean fastq:ready?" in error_of(answer)["message"]


def test_occurrences_are_listed_by_event_and_key_from_either_end(world):
    world.define(events={"a": {}, "b": {}})
    posts = [{"event": event, "key": key} for event in "ab" for key in ("", "null", "k/1")]
    seqs = [
        one["seq"] for one in world.post("/v1/occurrences", {"occurrences": posts})["occurrences"]
    ]

    def listed(query):
        return [one["seq"] for one in world.get(f"/v1/occurrences?{query}")["items"]]

    assert listed("") == seqs[::-1]
    assert listed("event=a") == seqs[2::-1]
    assert listed("key=null") == [seqs[4], seqs[1]]
    assert listed("key=") == [seqs[3], seqs[0]]
    assert listed("event=b&key=k%2F1") == [seqs[5]]
    assert listed(f"before={seqs[2]}") == seqs[1::-1]
    assert listed(f"after={seqs[2]}&limit=2") == seqs[3:5]
    newest = world.get("/v1/occurrences?limit=2")
    older = listed(f"limit=2&before={newest['next']}")
    assert older == seqs[3:1:-1]


def test_a_page_of_heavy_occurrences_ends_early_and_loses_nothing(world):
    world.define(events={"a": {}})
    posts = [{"event": "a", "key": str(n), "data": {"x": "y" * 60_000}} for n in range(40)]
    seqs = [
        one["seq"] for one in world.post("/v1/occurrences", {"occurrences": posts})["occurrences"]
    ]
    found, sizes, cursor = [], [], 0
    while cursor is not None:
        page = world.get(f"/v1/occurrences?after={cursor}&limit=1000")
        found += [one["seq"] for one in page["items"]]
        sizes.append(len(page["items"]))
        cursor = page["next"]
    assert found == seqs
    assert max(sizes) < 20


def test_pages_over_several_states_lose_no_heavy_job(world):
    everyone = [f"e{n}" for n in range(10_000)]
    world.define(
        event_sets={"some": {"any": everyone}},
        rules={
            "quick": {"on": "some", "activity": AUTO},
            "slow": {"on": "some", "activity": PROCESS},
        },
    )
    posts = [{"event": "e7", "key": str(n)} for n in range(60)]
    world.post("/v1/occurrences", {"occurrences": posts})
    found = page_through(world, "/v1/jobs?state=succeeded,triggered", 1000)
    assert len(found) == 120
    assert [job["seq"] for job in found] == sorted({job["seq"] for job in found}, reverse=True)


# --- keys and resets ------------------------------------------------------------------------------


def test_keys_are_listed_by_prefix_in_pages(world):
    world.define(events={"a": {}})
    keys = ["", "batch7", "batch7/s1", "batch7/s2", "batch8", "é"]
    world.post("/v1/occurrences", {"occurrences": [{"event": "a", "key": key} for key in keys] * 2})
    assert [one["key"] for one in page_through(world, "/v1/keys", 2)] == keys
    found = page_through(world, "/v1/keys?prefix=batch7/", 1)
    assert [(one["key"], one["standing"]) for one in found] == [("batch7/s1", 1), ("batch7/s2", 1)]


@pytest.mark.parametrize("path", ["/v1/keys/batch7/s12", "/v1/keys/batch7%2Fs12"])
def test_a_key_shows_what_stands_and_what_its_open_joins_wait_for(world, path):
    world.define(
        event_sets={"abc": ["a", "b", "c"], "two": {"at_least": 2, "of": ["a", "x", "y"]}},
        rules={
            "all": {"on": "abc", "activity": AUTO},
            "some": {"on": "two", "activity": AUTO},
            "alone": {"on": "a", "activity": AUTO},
        },
    )
    seq = world.occur("a", key="batch7/s12")["seq"]
    shown = world.get(path)
    assert shown["standing"] == [{"event": "a", "seq": seq, "forced": False}]
    assert shown["jobs"] == {"succeeded": 1}
    assert {join["event_set"]: (join["missing"], join["lacking"]) for join in shown["joins"]} == {
        "abc": (["b", "c"], 2),
        "two": (["x", "y"], 1),
    }


def test_a_rule_that_came_later_is_ready_and_not_fired(world):
    world.define(events={"a": {}})
    world.occur("a", key="k")
    world.define(rules={"late": {"on": "a", "activity": AUTO}})
    (join,) = world.get("/v1/keys/k")["joins"]
    assert (join["rules"], join["ready"], join["missing"]) == (["late"], True, [])


def test_the_empty_key_is_shown_at_its_own_path(world):
    world.define(events={"a": {}})
    world.occur("a")
    assert world.get("/v1/keys/")["standing"][0]["event"] == "a"
    assert error_of(world.call("GET", "/v1/keys/none"))["code"] == "unknown_key"


def test_a_reset_lets_a_key_fall_and_no_other(world):
    world.define(events={"a": {}})
    for key in ("k1", "k2"):
        world.occur("a", key=key)
    answer = world.post("/v1/resets", {"key": "k1"})
    assert answer["duplicate"] is False
    assert world.get("/v1/keys/k1")["standing"] == []
    assert len(world.get("/v1/keys/k2")["standing"]) == 1


def test_a_reset_with_an_id_may_be_repeated(world):
    world.define(events={"a": {}})
    body = {"key": "k", "source": "s", "id": "1"}
    first = world.post("/v1/resets", body)
    world.occur("a", key="k")
    assert world.post("/v1/resets", body) == {**first, "duplicate": True}
    assert len(world.get("/v1/keys/k")["standing"]) == 1
    assert world.call("POST", "/v1/resets", json={**body, "key": "x"}).status_code == 409


def test_a_reset_of_everything_must_be_said(world):
    world.define(events={"a": {}})
    world.occur("a", key="k")
    assert world.call("POST", "/v1/resets", json={}).status_code == 422
    assert len(world.get("/v1/keys/k")["standing"]) == 1
    world.post("/v1/resets", {"key": None})
    assert world.get("/v1/keys/k")["standing"] == []


# --- jobs -----------------------------------------------------------------------------------------


@pytest.fixture
def working(world):
    """A job that runs, on a set of two and for a set of two."""
    world.define(
        event_sets={"in": ["a", "b"], "out": ["c", "d"]},
        rules={
            "work": {"on": "in", "activity": PROCESS, "triggering": "out", "attempts": 2},
            "after": {"on": "c", "activity": AUTO},
        },
    )
    world.connect_dispatcher()
    for event in "ab":
        world.occur(event, key="k")
    run = world.next_run()
    world.start(run)
    return world, run


def test_a_job_shows_its_members_attempts_moves_and_what_it_triggered(working):
    world, run = working
    world.finish(run, output=b'{"contigs":1}')
    shown = world.get(f"/v1/jobs/{run.job}")
    assert shown["job"]["state"] == "succeeded"
    assert shown["output"] == {"contigs": 1}
    assert [member["event"] for member in shown["members"]] == ["a", "b"]
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["success"]
    assert [move["state"] for move in shown["moves"]] == ["dispatched", "running", "succeeded"]
    triggered = {one["event"]: one["verdicts"] for one in shown["triggered"]}
    assert list(triggered) == ["c", "d"]
    assert triggered["c"][0]["verdict"] == "fired"
    assert shown["triggered"][0]["data"] == {"contigs": 1}


def test_an_auto_triggers_job_shows_what_it_triggered(world):
    world.define(**chain(2))
    job = world.occur("e1")["verdicts"][0]["job"]
    shown = world.get(f"/v1/jobs/{job}")
    assert [one["event"] for one in shown["triggered"]] == ["e2"]
    assert [one["verdict"] for one in shown["triggered"][0]["verdicts"]] == ["fired"]
    assert shown["attempts"] == []


def test_jobs_are_listed_newest_first_by_state_rule_and_key(working):
    world, run = working
    world.define(**chain(3))
    world.occur("e1", key="other")
    every = page_through(world, "/v1/jobs", 2)
    assert [job["rule"] for job in every] == ["r3", "r2", "r1", "work"]

    def rules(query):
        return [job["rule"] for job in world.get(f"/v1/jobs?{query}")["items"]]

    assert rules("state=running") == ["work"]
    assert rules("state=running,succeeded&limit=3") == ["r3", "r2", "r1"]
    assert rules("state=failed") == []
    assert rules("rule=r2") == ["r2"]
    assert rules("key=k") == ["work"]
    assert [one["job"] for one in world.get("/v1/firings?rule=work&key=k")["items"]] == [run.job]


def test_a_failed_job_is_retried_as_the_next_generation(working):
    world, run = working
    world.post(f"/v1/jobs/{run.job}/cancel")
    world.finish(run, "failure")
    world.await_state(run.job, "cancelled")
    retried = world.post(f"/v1/jobs/{run.job}/retry")["job"]
    shown = world.get(f"/v1/jobs/{retried}")["job"]
    assert (shown["generation"], shown["retried"]) == (2, run.job)


def test_a_running_job_is_not_retried(working):
    world, run = working
    answer = world.call("POST", f"/v1/jobs/{run.job}/retry")
    assert (answer.status_code, error_of(answer)["code"]) == (409, "not_ended")


@pytest.mark.parametrize("call", ["", "/attempts", "/logs", "/cancel", "/retry"])
def test_a_job_that_is_not_there_is_404(world, call):
    method = "POST" if call in ("/cancel", "/retry") else "GET"
    answer = world.call(method, f"/v1/jobs/0123456789abcdef{call}")
    assert (answer.status_code, error_of(answer)["code"]) == (404, "unknown_job")


def test_a_waiting_job_says_why_it_waits(world):
    world.define(rules={"work": {"on": "a", "activity": PROCESS, "attempts": 2}})
    job = world.occur("a")["verdicts"][0]["job"]

    def why():
        return world.get(f"/v1/jobs/{job}")["waits_for"]

    assert why() == "no dispatcher that is there has the executor process"
    broken = Offer("process", "engine-1", cores=2.0, memory=2**33, problem="its disk is full")
    world.hear(Hello("d1", "host-1", "0.1.0", slots=4, offers=(broken,), live=()))
    world.wait_until(lambda: "its disk is full" in why())
    world.post("/v1/rules/work/pause")
    assert why() == "rule work is paused: resume it"
    world.connect_dispatcher()
    world.post("/v1/rules/work/resume")
    run = world.next_run()
    world.start(run)
    world.finish(run, "failure")
    assert "its next attempt is due at" in why()


def test_a_paused_rule_is_shown_and_an_unknown_one_is_404(world):
    world.define(rules={"work": {"on": "a", "activity": PROCESS}})
    assert world.post("/v1/rules/work/pause") == {"rule": "work", "paused": True}
    assert world.get("/v1/status")["paused"] == ["work"]
    assert world.post("/v1/rules/work/resume") == {"rule": "work", "paused": False}
    assert error_of(world.call("POST", "/v1/rules/wirk/pause"))["code"] == "unknown_rule"


# --- logs -----------------------------------------------------------------------------------------

LOG = b"".join(b"line %06d\n" % n for n in range(60_000))


def test_a_log_is_read_whole_or_by_its_tail(working):
    world, run = working
    world.link.logs[run.job, 1] = LOG
    path = f"/v1/jobs/{run.job}/logs"
    answer = world.call("GET", path)
    assert answer.content == LOG
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert world.call("GET", f"{path}?tail=12").content == LOG[-12:]
    assert world.call("GET", f"{path}?tail=0").content == b""
    assert world.call("GET", f"{path}?attempt=1&tail=99999999").content == LOG
    assert world.call("HEAD", path).content == b""


def test_a_range_of_a_log_is_206_and_one_beyond_it_416(working):
    world, run = working
    world.link.logs[run.job, 1] = LOG
    size = len(LOG)

    def part(span):
        answer = world.call("GET", f"/v1/jobs/{run.job}/logs", headers={"Range": span})
        return answer.status_code, answer.content, answer.headers.get("Content-Range")

    assert part("bytes=0-4") == (206, LOG[:5], f"bytes 0-4/{size}")
    assert part("bytes=12-23") == (206, LOG[12:24], f"bytes 12-23/{size}")
    assert part(f"bytes={size - 3}-") == (206, LOG[-3:], f"bytes {size - 3}-{size - 1}/{size}")
    assert part("bytes=-7") == (206, LOG[-7:], f"bytes {size - 7}-{size - 1}/{size}")
    for beyond in ("bytes=9999999999-", f"bytes={size}-", "bytes=-0", "bytes=7-3"):
        status, _, span = part(beyond)
        assert (status, span) == (416, f"bytes */{size}")
    for other in ("bytes=0-1,0-1", "lines=0-4", "bytes=a-b", "bytes=-"):
        assert part(other) == (200, LOG, None)


def test_a_followed_log_ends_when_its_attempt_has_ended(working):
    world, run = working
    world.link.logs[run.job, 1], world.link.complete = b"first\n", False
    answer = world.call("GET", f"/v1/jobs/{run.job}/logs?follow=true", stream=True)
    pieces = answer.iter_content(chunk_size=None)
    assert next(pieces) == b"first\n"
    world.link.logs[run.job, 1] += b"second\n"
    assert next(pieces) == b"second\n"
    world.link.logs[run.job, 1] += b"last\n"
    world.link.complete = True
    assert list(pieces) == [b"last\n"]


def test_a_log_is_followed_from_before_its_first_attempt(world):
    world.define(rules={"work": {"on": "a", "activity": PROCESS}})
    job = world.occur("a")["verdicts"][0]["job"]
    assert world.call("GET", f"/v1/jobs/{job}/logs").content == b""
    answer = world.call("GET", f"/v1/jobs/{job}/logs?follow=true", stream=True)
    world.link.logs[job, 1] = b"hello\n"
    world.connect_dispatcher()
    world.start(world.next_run())
    assert answer.content == b"hello\n"


def test_a_log_whose_dispatcher_is_away_is_503_and_one_that_is_gone_404(working):
    world, run = working
    path = f"/v1/jobs/{run.job}/logs"
    assert error_of(world.call("GET", path))["code"] == "no_log"
    world.link.away = True
    answer = world.call("GET", path)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert error_of(world.call("GET", f"{path}?attempt=2"))["code"] == "unknown_attempt"


# --- the feed -------------------------------------------------------------------------------------


class Follower:
    """Reads a feed, one event at a time."""

    def __init__(self, world, path, **headers):
        url = world.url + path
        self.response = requests.get(url, headers=headers, stream=True, timeout=SECONDS)
        assert self.response.status_code == 200
        self._lines = self.response.iter_lines(chunk_size=1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.response.close()

    def next(self):
        """id, event and data."""
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.decode().partition(": ")
            if not line and "data" in fields:
                return int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields[name] = value
        raise EOFError


def test_the_feed_tells_all_that_happens_in_the_order_of_seq(working):
    world, run = working
    world.finish(run)
    world.post("/v1/rules/work/pause")
    world.post("/v1/resets", {"key": "k"})
    last = world.get("/v1/status")["last_seq"]
    with Follower(world, "/v1/feed?after=0") as feed:
        told = [feed.next()]
        while told[-1][0] < last:
            told.append(feed.next())
    assert [seq for seq, _, _ in told] == list(range(1, last + 1))
    assert [seq for seq, _, data in told if data["seq"] != seq] == []
    kinds = {kind for _, kind, _ in told}
    assert kinds == {"definition", "occurrence", "firing", "move", "pause", "reset"}


def test_the_feed_goes_on_from_the_last_event_that_a_client_saw(world):
    world.define(events={"a": {}})
    seqs = [world.occur("a", key=str(n))["seq"] for n in range(5)]
    with Follower(world, "/v1/feed?after=0", **{"Last-Event-ID": str(seqs[2])}) as feed:
        assert [feed.next()[0] for _ in range(2)] == seqs[3:]
        seqs.append(world.occur("a", key="live")["seq"])
        assert feed.next()[0] == seqs[-1]


def test_a_feed_without_a_beginning_tells_what_comes(world):
    world.define(events={"a": {}})
    with Follower(world, "/v1/feed") as feed:
        seq = world.occur("a")["seq"]
        told = feed.next()
    assert told[:2] == (seq, "occurrence")
    assert told[2]["event"] == "a"
    assert told[2]["data"] is None


def test_a_cursor_of_another_history_is_told_to_read_anew(world):
    with Follower(world, "/v1/feed?after=123456") as feed:
        assert feed.next() == (0, "resync", {"seq": 0})


def test_a_client_that_leaves_gives_its_place_back(world):
    with Follower(world, "/v1/feed"):
        assert world.coordinator.feed.subscribers == 1
    world.wait_until(lambda: world.coordinator.feed.subscribers == 0)


# --- the rest -------------------------------------------------------------------------------------


def test_status_counts_what_is_there(working):
    world, _ = working
    status = world.get("/v1/status")
    assert status["counts"]["definitions"] == {"event": 0, "event_set": 2, "rule": 2}
    assert status["counts"]["occurrences"] == 2
    assert status["counts"]["jobs"]["running"] == 1
    assert status["ready"] is True
    assert status["dispatchers"] == 1
    assert status["storage"]["used"] > 0


def test_counts_are_right_after_each_change(world):
    world.define(**chain(1))
    for n in range(1, 4):
        world.occur("e1", key=str(n))
        counts = world.get("/v1/status")["counts"]
        assert (counts["occurrences"], counts["jobs"]["succeeded"]) == (2 * n, n)


def test_dispatchers_are_shown_with_what_runs_there(working):
    world, run = working
    (shown,) = world.get("/v1/dispatchers")["items"]
    assert (shown["name"], shown["connected"], shown["slots"]) == ("d1", True, 4)
    assert shown["offers"][0]["executor"] == "process"
    assert [(one["job"], one["state"]) for one in shown["running"]] == [(run.job, "running")]


def test_metrics_are_in_prometheus_text_format(world):
    answer = world.call("GET", "/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    line = r'[a-z_]+(\{[a-z]+="[a-z_]+"\})? [0-9.e+]+|# (HELP|TYPE) [a-z_]+ .+'
    assert all(re.fullmatch(line, one) for one in answer.text.splitlines())
    assert "cirrus_ready 1" in answer.text


def test_healthz_is_503_once_it_decides_nothing_more(world):
    assert world.get("/healthz") == {"status": "ok"}
    world.coordinator.failure = AssertionError("broken")
    assert world.call("GET", "/healthz").status_code == 503
    world.coordinator.failure = None


def test_the_monitor_serves_its_page_and_the_same_api(world):
    page = world.call("GET", "/", base=world.monitor)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    for path in re.findall(r'(?:src|href)="(/monitor[^"]*)"', page.text):
        assert world.call("GET", path, base=world.monitor).status_code == 200
    counts = [world.get("/v1/status", base=base)["counts"] for base in (world.monitor, world.url)]
    assert counts[0] == counts[1]
    assert world.call("GET", "/q/event", base=world.monitor).status_code == 404


# --- OpenAPI --------------------------------------------------------------------------------------


def test_every_route_is_in_the_openapi_document(world):
    document = world.get("/v1/openapi.json")
    assert document["openapi"] == "3.1.0"
    for route in native_routes(world.coordinator):
        path = route.path.replace("...}", "}")
        operation = document["paths"][path][route.method.lower()]
        assert operation["summary"].endswith(".")
        assert [p["name"] for p in operation["parameters"] if p["in"] == "path"] == route.names


def test_answers_are_what_the_openapi_document_says(working):
    world, run = working
    world.finish(run)
    document = openapi(native_routes(world.coordinator))
    seq = world.get("/v1/occurrences")["items"][0]["seq"]
    for template, path in {
        "/v1/status": "/v1/status",
        "/v1/definitions": "/v1/definitions",
        "/v1/definitions/{kind}/{name}": "/v1/definitions/rule/work",
        "/v1/occurrences": "/v1/occurrences",
        "/v1/occurrences/{seq}": f"/v1/occurrences/{seq}",
        "/v1/keys": "/v1/keys",
        "/v1/keys/{key}": "/v1/keys/k",
        "/v1/firings": "/v1/firings",
        "/v1/jobs": "/v1/jobs",
        "/v1/jobs/{job}": f"/v1/jobs/{run.job}",
        "/v1/jobs/{job}/attempts": f"/v1/jobs/{run.job}/attempts",
        "/v1/dispatchers": "/v1/dispatchers",
        "/healthz": "/healthz",
    }.items():
        check(document, template, "get", 200, world.get(path))
        refusal = world.call("GET", f"{path}?surprise=1")
        check(document, template, "get", refusal.status_code, refusal.json())


def check(document, template, method, status, value):
    content = document["paths"][template][method]["responses"][str(status)]["content"]
    schema = {"components": document["components"], **content["application/json"]["schema"]}
    jsonschema_rs.validate(schema, value)


# --- reading under load ---------------------------------------------------------------------------


def test_a_query_that_takes_too_long_is_503_and_holds_nobody_up(world, monkeypatch):
    monkeypatch.setattr("cirrus.store.reader.SECONDS_MOST", 0.2)
    endless = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    )
    question = world.coordinator.read(lambda reader: reader.rows(endless))
    asked = asyncio.run_coroutine_threadsafe(question, world.loop)
    assert world.get("/v1/status")["ready"] is True
    assert not asked.done()  # the other reader has answered meanwhile
    with pytest.raises(Unavailable) as refused:
        asked.result(SECONDS)
    assert refused.value.code == "query_too_costly"
    assert world.get("/v1/status")["ready"] is True
