"""The Python client, against the real coordinator and against servers that misbehave."""

import http.server
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from uuid import UUID

import msgspec
import pytest
import requests
from tests.contracts.http_world import AUTO, PROCESS, SECONDS, World, chain

import cirrus
from cirrus.client import (
    Change,
    Client,
    Firing,
    Following,
    Moment,
    Occurrence,
    OccurrenceRecord,
    Resync,
    Trigger,
    Verdict,
    answers,
)
from cirrus.client.envelopes import new_id
from cirrus.client.feed import changes
from cirrus.errors import (
    BadDocument,
    CirrusError,
    Conflict,
    NotFound,
    Refused,
    StorageFull,
    TooLarge,
    Unavailable,
)
from cirrus.store import records


@pytest.fixture
def world(tmp_path):
    with World(tmp_path) as world:
        yield world


@pytest.fixture
def client(world):
    with Client(world.url, patience_seconds=5) as client:
        yield client


WORK = {"work": {"on": "go", "activity": PROCESS, "triggering": "done"}}


@pytest.fixture
def working(world, client):
    """A rule whose jobs a played dispatcher runs."""
    client.apply(events={"go": {}, "done": {}}, rules=WORK)
    world.connect_dispatcher()
    return world


# --- definitions and occurrences ----------------------------------------------------------------


def test_the_package_offers_the_client_and_its_version_and_loads_no_library_before():
    assert cirrus.Client is Client
    with pytest.raises(AttributeError, match="has no attribute 'Clint'"):
        cirrus.Clint  # noqa: B018
    code = "import sys, cirrus; print(len({'httpx2', 'msgspec', 'click'} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert answer.stdout == b"0\n"


def test_definitions_are_applied_read_and_deleted(client):
    applied = client.apply(events={"a": {}, "b": {}}, event_sets={"both": ["a", "b"]})
    assert [(one.kind, one.name, one.version, one.changed) for one in applied] == [
        ("event", "a", 1, True),
        ("event", "b", 1, True),
        ("event_set", "both", 1, True),
    ]

    assert not client.apply(events={"a": {}})[0].changed
    assert client.definition("event_set", "both").document == ["a", "b"]
    assert [one.name for one in client.definitions()] == ["a", "b", "both"]
    assert [one.name for one in client.definitions("event_set")] == ["both"]

    client.delete("event_set", "both")
    client.apply(delete={"events": ["a"]})
    assert [one.name for one in client.definitions()] == ["b"]
    with pytest.raises(NotFound, match="no event set both"):
        client.definition("event_set", "both")


def test_a_wrong_definition_is_refused_with_the_place(client):
    with pytest.raises(BadDocument, match="no members") as refused:
        client.apply(events={"a": {}}, event_sets={"empty": []})

    assert refused.value.code == "empty_set"
    assert refused.value.field == "event_sets.empty"
    assert list(client.definitions()) == []


def test_lists_go_on_from_page_to_page(client, monkeypatch):
    monkeypatch.setattr("cirrus.client.api.PAGE", 2)
    client.apply(events={f"e{n}": {} for n in range(5)}, **chain(4))

    client.trigger("e1", key="k")

    assert [one.name for one in client.definitions("event")] == ["e0", "e1", "e2", "e3", "e4"]
    assert [job.rule for job in client.jobs()] == ["r4", "r3", "r2", "r1"]


def test_an_occurrence_says_what_became_of_it(client):
    client.apply(event_sets={"both": ["a", "b"]}, rules={"r": {"both": {"activity": AUTO}}})

    first = client.trigger("a", key="k", data={"n": 1})
    (second,) = client.trigger_many([Trigger("b", key="k")])

    assert (first.event, first.key, first.duplicate) == ("a", "k", False)
    assert [(one.verdict, one.missing) for one in first.verdicts] == [("waiting", ("b",))]
    assert second.verdicts[0].verdict == "fired"
    assert client.job(second.verdicts[0].job).members == (
        answers.Member("a", first.seq),
        answers.Member("b", second.seq),
    )


def test_every_occurrence_is_sent_with_an_identity(world, client):
    client.apply(events={"a": {}})

    seq = client.trigger("a").seq
    again = client.trigger("a", id="one", source="me")
    repeated = client.trigger("a", id="one", source="me")

    recorded = world.get(f"/v1/occurrences/{seq}")
    assert UUID(recorded["id"]).version == 7
    assert recorded["source"].startswith("python@")
    assert (repeated.duplicate, repeated.seq) == (True, again.seq)
    with pytest.raises(Conflict, match="accepted with other content"):
        client.trigger("a", id="one", source="me", force=True)


def test_several_occurrences_are_accepted_all_or_none(client):
    client.apply(events={"a": {}})

    with pytest.raises(NotFound, match="did you mean a"):
        client.trigger_many([Trigger("a", key="k"), Trigger("aa", key="k")])

    assert list(client.keys()) == []


def test_new_ids_are_uuids_in_the_order_of_time():
    ids = [new_id() for _ in range(100)]

    assert len(set(ids)) == 100
    assert {UUID(one).version for one in ids} == {7}
    assert {UUID(one).variant for one in ids} == {"specified in RFC 4122"}
    assert [one[:8] for one in ids] == sorted(one[:8] for one in ids)


# --- jobs, keys, status -------------------------------------------------------------------------


def test_a_job_is_followed_from_its_firing_to_its_end(working, client):
    job = client.trigger("go", key="k").verdicts[0].job
    run = working.next_run()
    working.start(run)
    assert [one.id for one in client.jobs(key="k", rule="work", state=("running",))] == [job]

    working.link.logs[run.job, 1] = b"one\ntwo\n"
    assert b"".join(client.logs(job)) == b"one\ntwo\n"
    assert b"".join(client.logs(job, attempt=1, tail_bytes=4)) == b"two\n"

    threading.Timer(0.05, working.finish, [run, "success", b'{"n": 1}']).start()
    details = client.wait_for_job(job, timeout_seconds=SECONDS)

    assert (details.job.state, details.output) == ("succeeded", {"n": 1})
    assert [one.outcome for one in details.attempts] == ["success"]
    assert [one.event for one in details.triggered] == ["done"]
    assert b"".join(client.logs(job, follow=True)) == b"one\ntwo\n"


def test_a_job_is_cancelled_once_and_a_failed_one_retried(working, client):
    job = client.trigger("go").verdicts[0].job
    working.finish(working.next_run(), "failure")
    new = client.retry(job)

    assert client.job(job).job.state == "failed"
    assert client.job(new).job.retried == job
    assert client.cancel(job) is False
    assert client.cancel(new) is True
    with pytest.raises(NotFound):
        client.job("0123456789abcdef")


def test_a_paused_rule_says_so_until_it_is_resumed(working, client):
    client.pause("work")
    job = client.trigger("go").verdicts[0].job

    assert client.status().paused == ("work",)
    assert "paused" in client.job(job).waits_for

    client.resume("work")
    assert working.next_run().job == job
    with pytest.raises(NotFound):
        client.pause("wrk")


def test_keys_joins_and_resets_are_shown(client):
    client.apply(event_sets={"both": ["a", "b"]}, rules={"r": {"both": {"activity": AUTO}}})
    client.trigger("a", key="batch/1 ü")
    client.trigger("a")

    keys = client.keys()
    assert [one.key for one in keys] == ["", "batch/1 ü"]
    assert [one.key for one in client.keys(prefix="batch/")] == ["batch/1 ü"]
    (join,) = client.key("batch/1 ü").joins
    assert (join.event_set, join.rules, join.missing, join.lacking) == ("both", ("r",), ("b",), 1)
    assert [one.event for one in client.key("").standing] == ["a"]

    client.reset(key="batch/1 ü")
    assert client.key("batch/1 ü").standing == ()
    client.reset(id="again")
    client.reset(id="again")
    assert client.key("").standing == ()


def test_the_status_counts_and_names_the_dispatchers(working, client):
    client.trigger("go")
    working.next_run()
    status = client.status()

    assert (status.version, status.dispatchers, status.ready) == (cirrus.__version__, 1, True)
    assert status.counts.definitions == {"event": 2, "event_set": 0, "rule": 1}
    assert status.counts.jobs["dispatched"] == 1
    (dispatcher,) = client.dispatchers()
    assert (dispatcher.name, dispatcher.slots, dispatcher.connected) == ("d1", 4, True)
    assert [offer.executor for offer in dispatcher.offers] == ["process"]
    assert [one.rule for one in dispatcher.running] == ["work"]


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        (answers.Definition, records.Definition),
        (answers.OccurrenceRecord, records.Occurrence),
        (answers.Firing, records.Firing),
        (answers.Moment, records.Moment),
        (answers.Job, records.Job),
        (answers.Attempt, records.Attempt),
        (answers.JobDetails, records.JobDetails),
        (answers.OpenJoin, records.OpenJoin),
        (answers.KeyDetails, records.KeyDetails),
    ],
)
def test_the_client_knows_no_field_that_the_coordinator_does_not_send(shown, kept):
    assert set(shown.__struct_fields__) - set(kept.__struct_fields__) <= {"waits_for"}


# --- the feed -----------------------------------------------------------------------------------


def test_the_feed_tells_everything_from_any_seq_on(client):
    client.apply(**chain(1))
    client.apply(events={"e1": {}})
    seq = client.trigger("e1", key="k").seq

    told = client.feed(0, ends=time.monotonic() + SECONDS)
    found = [next(told) for _ in range(5)]
    assert [one.kind for one in found] == [
        "definition",
        "definition",
        "occurrence",
        "firing",
        "occurrence",
    ]
    occurrence, firing = found[2].record, found[3].record
    assert isinstance(occurrence, OccurrenceRecord)
    assert isinstance(firing, Firing)
    assert (occurrence.seq, occurrence.root, firing.rule, firing.key) == (seq, seq, "r1", "k")


def test_the_feed_without_a_seq_begins_now_and_ends_when_its_time_is_up(client):
    client.apply(events={"a": {}})

    with pytest.raises(TimeoutError):
        next(client.feed(ends=time.monotonic() + 0.1))


def test_lines_of_the_feed_become_changes():
    lines = [
        "retry: 1000",
        "",
        ": still here",
        "",
        "id: 4",
        "event: resync",
        'data: {"seq":4}',
        "",
        "id: 5",
        "event: something new",
        "data: {}",
        "",
    ]

    life = [None, None, None]
    assert list(changes(lines)) == [*life, Change(4, "resync", Resync(4)), None]


def test_waiting_for_a_key_ends_with_its_last_job(working, client):
    client.wait_for_key("k", timeout_seconds=SECONDS)
    client.trigger("go", key="k")
    run = working.next_run()

    with pytest.raises(TimeoutError):
        client.wait_for_key("k", timeout_seconds=0.1)
    threading.Timer(0.05, working.finish, [run]).start()
    client.wait_for_key("k", timeout_seconds=SECONDS)

    assert not list(client.jobs(key="k", state=("running", "dispatched", "triggered")))


def told(*changes_and_ends, key=""):
    """What a Following yields of these changes; `idle` answers from the ends, one after another."""
    found, idle = changes_and_ends[:-1], iter(changes_and_ends[-1])
    following = Following(Occurrence(1, "a", key), iter(found), lambda: next(idle))
    return following, [change.seq for change in following]


def occurrence(seq, root, *jobs, key=""):
    verdicts = tuple(Verdict("r", "fired", job=job) for job in jobs)
    record = OccurrenceRecord(seq, "a", key, 0.0, root, verdicts=verdicts)
    return Change(seq, "occurrence", record)


def move(seq, job, state):
    return Change(seq, "move", Moment(seq, 0.0, "move", "r", job=job, state=state))


def test_following_no_key_tells_only_what_the_occurrence_began():
    following, seqs = told(
        occurrence(1, 1, "j1"),
        occurrence(2, 2, "j2"),
        move(3, "j2", "running"),
        move(4, "j1", "running"),
        move(5, "j1", "failed"),
        move(6, "j1", "running"),
        [None, 5],
    )

    assert seqs == [1, 4, 5]
    assert (following.failed, following.jobs, following.under_way) == (["j1"], {"j1"}, set())


def test_following_a_key_tells_all_of_it_and_looks_again_after_a_gap():
    _, seqs = told(
        occurrence(1, 1, key="k"),
        occurrence(2, 2, key="other"),
        Change(3, "resync", Resync(3)),
        Change(4, "firing", Firing(4, 0.0, "r", "k", 1, "j1")),
        Change(5, "definition", answers.Definition("event", "a", 1)),
        move(6, "j1", "succeeded"),
        [None, None, 6],
        key="k",
    )

    assert seqs == [1, 4, 6]


# --- servers that misbehave ---------------------------------------------------------------------

DROP = "the request is carried out, and the connection breaks before its answer"
PASS = "carried out and answered"


@contextmanager
def server(script, behind=""):
    """Does what the script says, request by request; the last line goes on for ever.

    A line is DROP or PASS, for which `behind` is the server that does it, or (status, body).
    """
    steps = list(script)
    bodies = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            bodies.append(body)
            step = steps.pop(0) if len(steps) > 1 else steps[0]
            if step in (DROP, PASS):
                given = requests.request(
                    self.command,
                    behind + self.path,
                    data=body,
                    headers=dict(self.headers),
                    timeout=5,
                )
                status, content = given.status_code, given.content
            else:
                status, content = step
            if step != DROP:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            self.close_connection = True

        do_GET = do_POST  # noqa: N815  (the base class's name)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}", bodies
        found.shutdown()
        thread.join()


def refusal(code, message="no", field=""):
    return msgspec.json.encode({"error": {"code": code, "message": message, "field": field}})


def test_an_answer_that_is_lost_is_asked_for_again_and_counts_once(world, client):
    client.apply(events={"a": {}})

    with server([DROP, DROP, PASS], behind=world.url) as (url, bodies):
        occurrence = Client(url).trigger("a", key="k")

    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    assert occurrence.duplicate
    assert len(world.get("/v1/occurrences")["items"]) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 507])
def test_what_may_pass_is_tried_again(world, client, status):
    client.apply(events={"a": {}})

    with server([(status, refusal("busy")), PASS], behind=world.url) as (url, bodies):
        assert not Client(url).trigger("a").duplicate

    assert len(bodies) == 2


def test_patience_ends():
    with server([(503, refusal("busy", "try again later"))]) as (url, bodies):
        began = time.monotonic()
        with pytest.raises(Unavailable, match="try again later") as refused:
            Client(url, patience_seconds=0.5).trigger("a")

    assert refused.value.code == "busy"
    assert len(bodies) >= 2
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (421, Refused),
        (422, BadDocument),
    ],
)
def test_a_refusal_is_an_error_of_the_tree_and_is_not_repeated(status, kind):
    answer = (status, refusal("some_code", "not so", "here"))
    with server([answer]) as (url, bodies), pytest.raises(kind, match="not so") as refused:
        Client(url).trigger("a")

    assert (refused.value.code, refused.value.field) == ("some_code", "here")
    assert refused.value.status == status
    assert len(bodies) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(500, "defect", CirrusError), (503, "busy", Unavailable), (507, "storage_full", StorageFull)],
)
def test_a_fault_of_the_coordinator_keeps_its_code(status, code, kind):
    with server([(status, refusal(code))]) as (url, _), pytest.raises(kind) as failed:
        Client(url, patience_seconds=0).status()

    assert failed.value.code == code


def test_a_retry_is_never_sent_twice(world):
    with server([DROP], behind=world.url) as (url, bodies), pytest.raises(Unavailable):
        Client(url, patience_seconds=5).retry("0123456789abcdef")

    assert len(bodies) == 1


@pytest.mark.parametrize("answer", [(200, b"<html>hello</html>"), (404, b"nothing"), (200, b"{}")])
def test_another_program_at_that_address_is_told_from_a_coordinator(answer):
    with server([answer]) as (url, _), pytest.raises(Unavailable, match="not like") as stranger:
        Client(url, patience_seconds=0).status()

    assert stranger.value.code == "no_coordinator"


def test_nobody_there_is_said_in_one_line():
    with pytest.raises(Unavailable, match="start one with `cirrus up`") as refused:
        Client("http://127.0.0.1:9", patience_seconds=0).status()

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1", "127.0.0.1:7000", "http://", "http://["])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(Refused, match="is not an address such as"):
        Client(url)


def test_the_feed_goes_on_over_the_next_connection_where_the_last_one_broke():
    first = b'id: 7\nevent: resync\ndata: {"seq":7}\n\n'
    second = b'id: 8\nevent: resync\ndata: {"seq":8}\n\n'

    with server([(200, first), (503, refusal("away")), (200, second)]) as (url, _):
        told = Client(url).feed(3)
        assert [next(told).seq, next(told).seq] == [7, 8]


def test_the_feed_of_a_coordinator_that_stays_away_ends_in_an_error():
    with pytest.raises(Unavailable):
        next(Client("http://127.0.0.1:9", patience_seconds=0.2).feed(0))


def test_a_moment_is_told_by_its_kind(working, client):
    client.trigger("go")
    working.start(working.next_run())

    told = client.feed(0, ends=time.monotonic() + SECONDS)
    moves = (one.record for one in told if isinstance(one.record, Moment))
    assert [next(moves).state, next(moves).state] == ["dispatched", "running"]
