"""Hostile and broken input: a clear answer, nothing written, and the next good request served."""

import contextlib
import json
import random
import re
import socket
import time
from http.client import HTTPConnection

import pytest
import requests
from tests.contracts.http_world import PROCESS, SECONDS, World, read_all

from cirrus.coordinator.http import connection, peers
from cirrus.coordinator.http.body import read_json
from cirrus.coordinator.http.native import feed as native_feed
from cirrus.core.documents import check_key, check_name
from cirrus.errors import Refused, StorageFull, Unavailable

GOOD = b'{"event": "known"}'


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with World(tmp_path_factory.mktemp("store")) as world:
        world.define(events={"known": {}})
        yield world


@pytest.fixture
def world(shared):
    """However it was attacked: nothing is written, and the next good request is served."""
    before = shared.get("/v1/status")["last_seq"]
    yield shared
    assert shared.get("/v1/status")["last_seq"] == before
    assert not any(name.lower().startswith("access-control") for name in shared.seen_headers)


@pytest.fixture
def own(tmp_path):
    """A world that the test may write to."""
    with World(tmp_path) as world:
        world.define(events={"known": {}})
        yield world


def request(world, head, body=b"", *, line="POST /v1/occurrences", closing=True):
    """A request with these further lines of its head, after which it wants to be alone."""
    host = world.url.removeprefix("http://")
    lines = [f"{line} HTTP/1.1", f"Host: {host}", *head]
    if closing:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status_of(answer):
    """Each answer's status, in order."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


def post(world, body, **headers):
    headers = {"Content-Type": "application/json"} | headers
    answer = world.call("POST", "/v1/occurrences", data=body, headers=headers)
    world.seen_headers.update(answer.headers)
    return answer.status_code, answer.json()["error"]["code"]


# --- A1, A2: the syntax of HTTP -------------------------------------------------------------------

LENGTH = f"Content-Length: {len(GOOD)}"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
TYPE = "Content-Type: application/json"
SMUGGLED = {
    "length and chunks": ([TYPE, LENGTH, "Transfer-Encoding: chunked"], CHUNKED),
    "chunks and length": ([TYPE, "Transfer-Encoding: chunked", LENGTH], CHUNKED),
    "two lengths": ([TYPE, LENGTH, "Content-Length: 5"], GOOD),
    "an unknown coding": ([TYPE, "Transfer-Encoding: xchunked"], CHUNKED),
    "a space before the colon": ([TYPE, "Transfer-Encoding : chunked"], CHUNKED),
    "a folded header": ([TYPE, LENGTH, "X: a\r\n b"], GOOD),
    "a NUL in a header": ([TYPE, LENGTH, "X: a\0b"], GOOD),
    "a space in a header's name": ([TYPE, LENGTH, "X y: a"], GOOD),
    "a negative length": ([TYPE, "Content-Length: -1"], GOOD),
    "a length with a sign": ([TYPE, f"Content-Length: +{len(GOOD)}"], GOOD),
    "a hexadecimal length": ([TYPE, "Content-Length: 0x5"], GOOD),
    "a length beyond 64 bits": ([TYPE, f"Content-Length: {2**64}"], GOOD),
    "a chunk's size in 0x": ([TYPE, "Transfer-Encoding: chunked"], b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk's size with a sign": (
        [TYPE, "Transfer-Encoding: chunked"],
        b"+5\r\nhello\r\n0\r\n\r\n",
    ),
    "a chunk without its end": (
        [TYPE, "Transfer-Encoding: chunked"],
        b"5\r\nhelloXX0\r\n\r\n",
    ),
}


@pytest.mark.parametrize("case", SMUGGLED)
@pytest.mark.parametrize("cut", ["whole", "bytes", "anywhere"])
def test_an_ambiguous_request_is_400_and_ends_the_connection(world, case, cut):
    data = request(world, *SMUGGLED[case], closing=False)
    following = request(world, [], line="GET /v1/status", closing=False)
    pieces = {
        "whole": [data + following],
        "bytes": [bytes([one]) for one in data + following],
        "anywhere": split(data + following),
    }[cut]
    with world.connect() as client:
        for piece in pieces:
            try:
                client.sendall(piece)
            except OSError:
                break
        answer = read_all(client)
    assert status_of(answer) == [400]


def split(data):
    chance = random.Random(len(data))
    cuts = sorted(chance.sample(range(1, len(data)), 5))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v1/status\r\n\r\n",  # HTTP/0.9
        b"GET /v1/status HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /v1/status HTTP/1.1\nHost: localhost\n\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\0" * 100,
    ],
)
def test_what_is_no_http_is_400_in_the_one_shape_of_errors(world, data):
    answer = world.raw(data)
    assert status_of(answer) == [400]
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] in ("bad_request", "no_host")


def test_a_chunk_extension_of_a_megabyte_does_not_pass(world):
    body = b"5;" + b"x" * 2**20 + b"\r\nhello\r\n0\r\n\r\n"
    answer = world.raw(request(world, [TYPE, "Transfer-Encoding: chunked"], body))
    assert status_of(answer)[0] in (400, 413)


@pytest.mark.parametrize(
    ("head", "path", "status"),
    [
        ([f"X{n}: y" for n in range(120)], "/v1/status", 431),
        (["X: " + "y" * 17_000], "/v1/status", 431),
        (["X: " + "y" * 200_000], "/v1/status", 431),
        ([], "/v1/" + "y" * 9_000, 414),
        ([], "/v1/jobs?" + "&".join(f"a{n}=1" for n in range(5000)), 414),
    ],
)
def test_a_head_beyond_the_limits_is_refused(world, head, path, status):
    assert status_of(world.raw(request(world, head, line=f"GET {path}"))) == [status]


def test_a_head_without_an_end_is_refused_when_it_is_too_long(world):
    with world.connect() as client:
        client.sendall(b"GET /v1/status HTTP/1.1\r\nX: ")
        try:
            for _ in range(100):
                client.sendall(b"y" * 1000)
        except OSError:
            pass
        assert status_of(read_all(client)) == [431]


# --- A3: slow clients -----------------------------------------------------------------------------


def test_slow_heads_and_bodies_are_408_and_others_are_served(world, monkeypatch):
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connection, "BODY_SECONDS", 0.3)
    head = request(world, [TYPE, "Content-Length: 1000"])
    with world.connect() as silent, world.connect() as slow_head, world.connect() as slow_body:
        slow_head.sendall(head[:20])
        slow_body.sendall(head + b"{")
        for client in (silent, slow_head, slow_body):
            assert world.get("/healthz") == {"status": "ok"}
            answer = read_all(client, SECONDS)
            assert status_of(answer) == [408]


def test_an_endless_trickle_does_not_hold_a_connection(world, monkeypatch):
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    ended = False
    with world.connect() as client:
        while not ended:
            try:
                client.sendall(b"\r\n")
            except OSError:
                ended = True


def test_many_idle_connections_leave_room_for_others(world):
    idle = [world.connect() for _ in range(300)]
    try:
        assert world.get("/healthz") == {"status": "ok"}
    finally:
        for client in idle:
            client.close()


def test_connections_beyond_the_limit_are_503(world, monkeypatch):
    monkeypatch.setattr(connection, "CONNECTIONS_MOST", 5)
    idle = [world.connect() for _ in range(5)]
    try:
        assert 503 in status_of(world.raw(request(world, [], line="GET /healthz")))
    finally:
        for client in idle:
            client.close()
    world.wait_until(lambda: world.call("GET", "/healthz").status_code == 200)


# --- A4: large bodies -----------------------------------------------------------------------------


def test_a_body_of_10_gigabytes_is_refused_before_it_is_read(world):
    answer = world.raw(request(world, [TYPE, f"Content-Length: {10 * 2**30}"]))
    assert status_of(answer) == [413]
    assert b"connection: close" in answer


@pytest.mark.parametrize("chunked", [False, True])
def test_who_sends_too_much_still_hears_why(world, chunked):
    """`requests` sends the whole body before it reads the answer."""
    pieces = [b" " * 100_000] * 15
    body = iter(pieces) if chunked else b"".join(pieces)
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{world.url}/v1/resets", body, headers=headers, timeout=SECONDS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_an_endless_body_is_refused_at_the_limit(world):
    with world.connect() as client:
        client.sendall(request(world, [TYPE, "Transfer-Encoding: chunked"], line="POST /v1/resets"))
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        sent = 0
        try:
            while sent < 2**26:
                client.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        assert sent < 2**24  # what fits between two programs, and no more


def test_one_occurrence_has_a_smaller_limit_than_many(world):
    body = b" " * 2**20 + GOOD
    assert post(world, body) == (413, "body_too_large")
    batch = json.dumps({"occurrences": [{"event": "known"}] * 1001}).encode()
    assert post(world, batch) == (413, "too_many_occurrences")


def test_many_large_bodies_at_once_take_turns(world):
    body = b" " * 200_000 + b'{"event": "unheard-of"}'
    data = request(world, [TYPE, f"Content-Length: {len(body)}"], body)
    clients = [world.connect() for _ in range(7)]
    try:
        for client in clients:
            client.sendall(data[:-1])
        world.wait_until(world.apps[0]._large.locked)
        assert world.get("/healthz") == {"status": "ok"}
        for client in clients:
            client.sendall(data[-1:])
        assert [status_of(read_all(client, SECONDS)) for client in clients] == [[404]] * 7
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity"])
def test_an_encoded_body_is_415(world, coding):
    assert post(world, GOOD, **{"Content-Encoding": coding}) == (415, "content_encoding")


# --- A5 to A10: JSON ------------------------------------------------------------------------------


def nested(depth):
    return b'{"event":"known","data":' + b'{"a":' * depth + b"1" + b"}" * (depth + 1)


WRONG_JSON = {
    "nested 100,000 deep": (b"[" * 100_000 + b"]" * 100_000, 400, "json_depth"),
    "opened 100,000 times": (b"[" * 100_000, 400, "json_depth"),
    "one level too deep": (nested(32), 400, "json_depth"),
    "an integer of 4,301 digits": (b'{"event":' + b"1" * 4301 + b"}", 400, "bad_number"),
    "2**63": (b'{"event":"known","data":{"a":%d}}' % 2**63, 400, "bad_number"),
    "2**53 + 1": (b'{"event":"known","data":{"a":%d}}' % (2**53 + 1), 400, "bad_number"),
    "1e999": (b'{"event":"known","data":{"a":1e999}}', 400, "bad_number"),
    "NaN": (b'{"event":"known","data":{"a":NaN}}', 400, "bad_json"),
    "-Infinity": (b'{"event":"known","data":{"a":-Infinity}}', 400, "bad_json"),
    "a key twice": (b'{"event":"known","event":"known"}', 400, "duplicate_key"),
    "an escaped key twice": (b'{"event":"known","data":{"a":1,"\\u0061":2}}', 400, "duplicate_key"),
    "a lone surrogate": (b'{"event":"known","data":{"a":"\\ud800"}}', 400, "bad_json"),
    "a NUL": (b'{"event":"known","data":{"a":"\0"}}', 400, "bad_json"),
    "a NUL in a key": (b'{"event":"known","key":"a\\u0000b"}', 422, "bad_key"),
    "a NUL in a name": (b'{"event":"a\\u0000b"}', 422, "bad_name"),
    "no UTF-8": (b'{"event":"known","data":{"a":"\xff"}}', 400, "bad_encoding"),
    "overlong UTF-8": (b'{"event":"known","data":{"a":"\xc0\xaf"}}', 400, "bad_encoding"),
    "a surrogate in UTF-8": (b'{"event":"known","data":{"a":"\xed\xa0\x80"}}', 400, "bad_encoding"),
    "UTF-16": ('{"event":"known"}'.encode("utf-16"), 400, "bad_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, 400, "bad_json"),
    "nothing": (b"", 400, "bad_json"),
    "two values": (GOOD + GOOD, 400, "bad_json"),
    "a comment": (GOOD + b"// x", 400, "bad_json"),
    "a trailing comma": (b'{"event":"known",}', 400, "bad_json"),
    "single quotes": (b"{'event':'known'}", 400, "bad_json"),
    "10,001 keys": (
        b'{"event":"known","data":{' + b",".join(b'"%d":1' % n for n in range(10_001)) + b"}}",
        413,
        "too_many_keys",
    ),
    "a long string": (
        b'{"event":"known","data":{"a":"' + b"x" * 300_000 + b'"}}',
        413,
        "string_too_long",
    ),
    "much data": (
        b'{"event":"known","data":{"a":"' + b"x" * 65_530 + b'"}}',
        413,
        "data_too_large",
    ),
    "a list": (b"[]", 422, "bad_value"),
    "JSON in a string": (json.dumps(GOOD.decode()).encode(), 422, "bad_value"),
    "an unknown field": (b'{"event":"known","forced":true}', 422, "unknown_field"),
    "no event": (b"{}", 422, "missing_field"),
    "a name of 201": (b'{"event":"' + b"a" * 201 + b'"}', 422, "bad_name"),
    "a look-alike": ('{"event":"kn\u043ewn"}'.encode(), 422, "bad_name"),
    "a reserved name": (b'{"event":"cirrus:x"}', 422, "reserved_name"),
    "a key of 201": (b'{"event":"known","key":"' + b"a" * 201 + b'"}', 422, "bad_key"),
    "a key of a megabyte": (b'{"event":"known","key":"' + b"a" * 900_000 + b'"}', 413, None),
    "an id with a line break": (b'{"event":"known","id":"a\\nb"}', 422, "bad_key"),
    "an empty id": (b'{"event":"known","id":""}', 422, "no_id"),
    "a source without an id": (b'{"event":"known","source":"s"}', 422, "no_id"),
    "a time before all": (b'{"event":"known","time":-1}', 422, "bad_value"),
}


@pytest.mark.parametrize("case", WRONG_JSON)
def test_wrong_json_is_refused_with_a_code_that_says_why(world, case):
    body, status, code = WRONG_JSON[case]
    found = post(world, body)
    assert found == (status, code or found[1])


def test_what_is_odd_but_right_comes_back_as_it_was(own):
    data = {
        "escaped NUL": "a\0b",
        "emoji": "🧬",
        "colons: and [brackets]": '{"a": ":"}',
        "backslashes": '\\" \\\\"',
        "least": -(2**53),
        "most": 2**53,
        "deep": json.loads("[" * 29 + "]" * 29),
        "__proto__": {"constructor": "toString"},
    }
    seq = own.occur("known", data=data, key="rtl \u202e <script>")["seq"]
    shown = own.get(f"/v1/occurrences/{seq}")
    assert shown["data"] == data
    assert shown["key"] == "rtl \u202e <script>"


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "application/json; charset=utf-7",
        "application/json; charset=utf-8; charset=utf-7",
        "application/jsonx",
        "application/json, text/plain",
    ],
)
def test_any_other_media_type_is_415(world, media_type):
    assert post(world, GOOD, **{"Content-Type": media_type}) == (415, "media_type")
    seed = world.call(
        "POST", "/r/event/known", data=b'{"action":"trigger"}', headers={"Content-Type": media_type}
    )
    assert (seed.status_code, seed.json()["status"]) == (415, "FAIL")


@pytest.mark.parametrize(
    "text",
    [
        b'"' + b"a" * 10 + b'\\"' * 300_000,
        b'"' * 100_001,
        b"\\" * 500_000,
        b"[" + b"[]," * 30_000 + b"[]]",
        b'{"' + b"\\\\" * 200_000 + b'":1',
        b" " * 900_000 + b"x",
        b"-" * 500_000,
        b"1" * 500_000,
    ],
)
def test_no_text_takes_long_to_judge(text):
    began = time.thread_time()
    with contextlib.suppress(Refused):
        read_json(text)
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize(
    "text", [" " * 40_000 + "x", "a" * 40_000 + "!", "a:" * 20_000, "\0" * 40_000]
)
def test_no_name_takes_long_to_judge(text):
    for check in (check_name, check_key):
        began = time.thread_time()
        with pytest.raises(Refused):
            check(text)
        assert time.thread_time() - began < 0.02


# --- A11, A16: names and paths --------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/r/event/",
        "/r/event/.",
        "/r/event/..",
        "/r/event/a/../b",
        "/r/event/%2e%2e%2f",
        "/r/event/a%2Fb",
        "/r/event/%00",
        "/r/event/a%0Ab",
        "/r/event/a%20b",
        "/r/event/" + "a" * 201,
        "/r/event/%D0%B0",
        "/r/event/%FF",
        "/r/event/%C0%AF",
        "/r/event/a%",
        "/r/event/a%zz",
        "/r/event/-a",
        "/r/event/cirrus:x",
        "/r/%65vents/a",
        "/v1/definitions/event/a%2e%2e%2fb",
        "/v1/definitions/event/a/b",
        "/v1/definitions/events/a",
    ],
)
def test_an_odd_name_in_the_path_is_400_or_404(world, path):
    body = b"{}"
    head = [TYPE, f"Content-Length: {len(body)}"]
    answer = world.raw(request(world, head, body, line=f"PUT {path}"))
    assert status_of(answer)[0] in (400, 404)


@pytest.mark.parametrize("name", ["proto__", "health", "ready", "constructor", "null", "a@b.c-d_e"])
def test_words_that_mean_something_elsewhere_are_harmless_names(own, name):
    assert own.call("PUT", f"/r/event/{name}", json={}).status_code == 200
    assert own.get(f"/r/event/{name}")["event"] == name


@pytest.mark.parametrize(
    "path",
    [
        "//v1/status",
        "/v1//status",
        "/v1/status/",
        "/v1/status;x=1",
        "/V1/status",
        "/v1/%73tatus",
        "/v1/%2573tatus",
        "/v1/./status",
        "/v1/x/../status",
        "/v1/status%00",
        "/v1/status%2f",
        "/v1/occurrences/1/../../status",
        "/v1\\status",
    ],
)
def test_another_spelling_of_a_path_leads_nowhere(world, path):
    assert status_of(world.raw(request(world, [], line=f"GET {path}"))) == [404]


# --- A13: methods and targets ---------------------------------------------------------------------


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PATCH", "DELETE", "PROPFIND"])
def test_another_method_is_405_and_says_which_there_are(world, method):
    answer = world.raw(request(world, [], line=f"{method} /v1/status"))
    assert status_of(answer) == [405]
    assert b"allow: GET, HEAD\r\n" in answer


def test_a_method_that_does_not_exist_is_400(world):
    assert status_of(world.raw(request(world, [], line="BREW /v1/status"))) == [400]


@pytest.mark.parametrize("target", ["*", "http://127.0.0.1/v1/status", "127.0.0.1:80", "v1/status"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "CONNECT"])
def test_a_target_that_is_no_path_is_400(world, method, target):
    assert status_of(world.raw(request(world, [], line=f"{method} {target}"))) == [400]


def test_a_header_does_not_change_the_method(world):
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        answer = world.call("POST", "/v1/status", headers={name: "GET"})
        assert answer.status_code == 405


def test_head_answers_like_get_without_a_body(world):
    for path in ("/v1/status", "/q/rule", "/v1/feed", "/metrics"):
        answer = world.call("HEAD", path)
        assert (answer.status_code, answer.content) == (200, b"")
    assert world.call("GET", "/v1/status").status_code == 200


def test_an_upgrade_is_ignored(world):
    head = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"]
    data = request(world, head, line="GET /v1/status", closing=False)
    assert status_of(world.raw(data)) == [200]


# --- A14: queries ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=0",
        "limit=1001",
        "limit=1e9",
        "limit=ten",
        "limit=",
        "limit=1&limit=2",
        "limit",
        "surprise=1",
        "after=forged",
        "after=null",
        "after=-1",
        "after=99999999999999999999",
        "state=sleeping",
        "state=failed,,running",
        "rule=" + "x" * 201,
        "rule=%FF",
        "&".join(f"a{n}=1" for n in range(40)),
        "limit=5;after=1",
    ],
)
def test_a_wrong_query_is_400(world, query):
    answer = world.call("GET", f"/v1/jobs?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_call_without_parameters_takes_none(world):
    for method, path in (("POST", "/v1/occurrences"), ("GET", "/r/rule/x"), ("GET", "/q/rule")):
        assert world.call(method, f"{path}?x=1", json={"event": "known"}).status_code == 400
    assert world.call("GET", "/?x=1", base=world.monitor).status_code == 400


def test_a_forged_cursor_is_400(world):
    for path in ("/v1/definitions?after=x", "/v1/occurrences?before=x", "/v1/feed?after=x"):
        assert world.call("GET", path).status_code == 400
    answer = world.call("GET", "/v1/feed", headers={"Last-Event-ID": "x"})
    assert answer.status_code == 400


# --- A17: tokens where none belong ----------------------------------------------------------------


def test_two_authorization_headers_are_400(world):
    head = ["Authorization: Bearer a", "Authorization: Bearer b"]
    data = request(world, head, line="GET /r/rule/x")
    assert status_of(world.raw(data, world.jobs)) == [400]


@pytest.mark.parametrize(
    "header",
    ["Basic !!!", "Basic " + "A" * 9000, "Basic am9i", "Digest x", "Bearer", "Bearer \xff"],
)
def test_an_unreadable_authorization_is_400_or_401(world, header):
    head = [f"Authorization: {header}"]
    data = request(world, head, line="GET /r/rule/x")
    assert status_of(world.raw(data, world.jobs))[0] in (400, 401)


# --- A23 to A27: browsers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["evil.example"], 421),
        (["127.0.0.1.evil.example"], 421),
        (["localhost.evil.example:7000"], 421),
        (["evil.example@127.0.0.1"], 421),
        (["127.0.0.1:7000:80"], 421),
        (["[::1"], 421),
        (["0.0.0.0"], 421),
        (["2130706433"], 421),
        (["localhost."], 421),
        ([""], 400),
        ([], 400),
        (["localhost", "localhost"], 400),
        (["localhost"], 200),
        (["LOCALHOST:1234"], 200),
        (["[::1]:7000"], 200),
    ],
)
def test_only_our_own_names_are_answered_to(world, hosts, status):
    hosts = [f"Host: {host}" for host in hosts]
    lines = ["GET /v1/status HTTP/1.1", *hosts, "Connection: close", "", ""]
    assert status_of(world.raw("\r\n".join(lines).encode())) == [status]


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://localhost.evil",
        "http://localhost:9999",
        "http://127.0.0.1",
        "file://",
        "https://evil.example",
        "",
    ],
)
def test_a_foreign_pages_request_is_403(world, origin):
    assert post(world, GOOD, Origin=origin) == (403, "foreign_origin")
    assert world.call("GET", "/v1/feed", headers={"Origin": origin}).status_code == 403


def test_a_request_that_a_browser_calls_cross_site_is_403(world):
    for site in ("cross-site", "same-site"):
        assert post(world, GOOD, **{"Sec-Fetch-Site": site}) == (403, "foreign_origin")


def test_our_own_pages_request_passes(own):
    headers = {"Origin": own.url, "Sec-Fetch-Site": "same-origin"}
    answer = own.call("POST", "/v1/occurrences", json={"event": "known"}, headers=headers)
    assert answer.status_code == 200
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


def test_no_answer_lets_other_origins_read_it(world):
    for path in ("/v1/status", "/q/rule", "/nope", "/v1/jobs?limit=x"):
        for method in ("GET", "OPTIONS", "POST"):
            headers = {"Access-Control-Request-Method": "POST"}
            world.seen_headers.update(world.call(method, path, headers=headers).headers)


def test_every_answer_is_what_it_says_and_is_not_kept(world):
    paths = ("/v1/status", "/q/rule", "/nope", "/metrics", "/v1/openapi.json")
    for answer in [world.call("GET", path) for path in paths]:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"


def test_the_page_runs_only_its_own_scripts_and_stands_in_no_frame(world):
    policy = world.call("GET", "/", base=world.monitor).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_shows_everything_as_text(world):
    page = world.call("GET", "/", base=world.monitor).text
    script = world.call("GET", "/monitor.js", base=world.monitor).text
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", page)
    dangerous = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
    assert not re.search(dangerous, script)


# --- A40, A42, A44, A45: events, rules, graph -----------------------------------------------------


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ([f"e{n}" for n in range(10_001)], "too_many_members"),
        (["a", "a"], "duplicate_member"),
        ([], "empty_set"),
        ({"any": []}, "empty_set"),
        ({"at_least": 3, "of": ["a", "b"]}, "bad_at_least"),
        ({"at_least": 0, "of": ["a", "b"]}, "bad_at_least"),
        ({"all": ["a"], "any": ["b"]}, "bad_condition"),
        (["a b"], "bad_name"),
    ],
)
def test_a_senseless_set_is_422(world, document, code):
    native = world.call("PUT", "/v1/definitions/event_set/s", json=document)
    seed = world.call("PUT", "/r/event_set/s", json=document)
    assert (native.status_code, native.json()["error"]["code"]) == (422, code)
    assert (seed.status_code, seed.json()["code"]) == (422, code)


def test_a_set_may_name_events_that_are_not_yet_known(own):
    own.define(event_sets={"s": ["later"]})
    assert own.occur("later")["seq"]


def test_the_same_identity_under_another_source_is_another(own):
    for source in ("s1", "s2"):
        assert own.occur("known", source=source, id="1")["duplicate"] is False


def test_a_condition_that_is_not_kept_is_never_silently_ignored(world):
    headers = {"If-Match": '"1"'}
    answer = world.call("PUT", "/v1/definitions/event/e", json={}, headers=headers)
    assert answer.status_code == 412


# --- A52: logs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/../../etc/passwd/logs",
        "/v1/jobs/..%2f..%2fetc%2fpasswd/logs",
        "/v1/jobs/0123456789ABCDEF/logs",
        "/v1/jobs/%00/logs",
        "/v1/jobs//logs",
    ],
)
def test_a_log_is_asked_for_by_a_jobs_id_and_nothing_else(world, path):
    assert status_of(world.raw(request(world, [], line=f"GET {path}"))) == [404]


def test_a_log_that_looks_like_an_answer_is_only_a_log(own):
    own.define(rules={"work": {"on": "known", "activity": PROCESS}})
    own.connect_dispatcher()
    own.occur("known")
    run = own.next_run()
    own.start(run)
    log = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n<script>alert(1)</script>"
    own.link.logs[run.job, 1] = log
    path = f"/v1/jobs/{run.job}/logs"
    whole = own.call("GET", path)
    assert whole.content == log
    assert whole.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert own.call("GET", path, headers={"Range": "bytes=0-"}).content == log
    assert own.get("/healthz") == {"status": "ok"}


# --- A55, A56: too much of everything -------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unavailable("too much is waiting"), 503, "unavailable"),
        (StorageFull(), 507, "storage_full"),
        (ZeroDivisionError("secret detail"), 500, "defect"),
    ],
)
def test_what_fails_inside_is_one_clear_answer(world, monkeypatch, error, status, code):
    async def fail(_):
        raise error

    monkeypatch.setattr(world.coordinator, "ask", fail)
    answer = requests.post(f"{world.url}/v1/occurrences", json={"event": "known"}, timeout=SECONDS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) is (status == 503)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_subscribers_beyond_the_limit_are_503(world, monkeypatch):
    monkeypatch.setattr("cirrus.coordinator.feed.SUBSCRIBERS_MOST", 3)
    feeds = [requests.get(f"{world.url}/v1/feed", stream=True, timeout=SECONDS) for _ in range(3)]
    try:
        answer = world.call("GET", "/v1/feed")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_subscribers")
    finally:
        for feed in feeds:
            feed.close()
    world.wait_until(lambda: world.coordinator.feed.subscribers == 0)


@pytest.fixture
def deaf(own):
    """A client of a feed that has much to say, and that reads nothing."""
    many = {f"e{n}": {"description": "x" * 5000} for n in range(1500)}
    own.post("/v1/definitions", {"events": many})
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", int(own.url.rsplit(":", 1)[1])))
        client.sendall(request(own, [], line="GET /v1/feed?after=0", closing=False))
        own.wait_until(lambda: any(one._stalled_since < 1e18 for one in own.connections()))
        yield own, client


@pytest.fixture
def getfixturevalue(request):
    """For a world that begins when its limits are set."""
    return request.getfixturevalue


def test_a_client_that_never_reads_is_dropped_to_a_resync(monkeypatch, getfixturevalue):
    """Nothing is kept for it: when it reads again, it hears where the present is."""
    monkeypatch.setattr(native_feed, "STALLED_SECONDS", 0.1)
    monkeypatch.setattr(native_feed, "BEHIND_MOST", 100)
    own, client = getfixturevalue("deaf")
    time.sleep(0.2)
    newest = own.get("/v1/status")["last_seq"]
    told = read_all(client)
    ids = [int(one) for one in re.findall(rb"\nid: (\d+)\n", told)]
    assert told.count(b"event: resync") == 1
    assert ids[-1] == newest
    assert len(ids) < 1500


def test_a_client_that_reads_nothing_for_long_is_cut_off(monkeypatch, getfixturevalue):
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(connection, "STALLED_SECONDS", 0.3)
    own, _ = getfixturevalue("deaf")
    own.wait_until(lambda: own.coordinator.feed.subscribers == 0)


# --- other accounts of this machine ---------------------------------------------------------------


def test_a_connection_of_this_account_is_known_as_ours():
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with socket.create_server((host, 0), family=family) as server:
            client = socket.create_connection(server.getsockname()[:2])
            accepted, peer = server.accept()
            with accepted:
                own = accepted.getsockname()
                assert peers.is_ours(peer[:2], own[:2])
                told = peers._ask_kernel(peer[:2], own[:2])
                assert peers._look_in_table(peer[:2], own[:2]) == told
                # once its process has closed it, a socket is nobody's
                client.close()
                assert not peers.is_ours(peer[:2], own[:2])


def test_another_accounts_connection_is_403(world, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    monkeypatch.setattr(peers, "_ask_kernel", lambda *_: (4712, 1))
    data = request(world, [TYPE, LENGTH], GOOD)
    assert status_of(world.raw(data)) == [403]
    # a job proves who it is by its token, wherever its account is
    assert status_of(world.raw(request(world, [], line="GET /r/rule/x"), world.jobs)) == [401]
    monkeypatch.undo()


def test_an_answer_is_given_to_each_of_several_requests_sent_at_once(world):
    one = request(world, [], line="GET /healthz", closing=False)
    assert status_of(world.raw(one * 5)) == [200] * 5


def test_a_connection_serves_on_after_a_refusal(world):
    client = HTTPConnection(world.url.removeprefix("http://"), timeout=SECONDS)
    for _ in range(3):
        client.request("POST", "/v1/occurrences", b"{", {"Content-Type": "application/json"})
        answer = client.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (400, "bad_json")
    client.close()
