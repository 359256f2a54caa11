"""Orders and reports survive the wire; nothing else gets through it."""

import json
import pickle
import tracemalloc
import types
import typing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirrus import wire
from cirrus.core.messages import (
    Accepted,
    Ended,
    Greet,
    Heartbeat,
    Live,
    Order,
    Outcome,
    Report,
    Run,
    Started,
    Welcome,
)
from cirrus.core.model import Container, Process
from cirrus.errors import WireError

RUN = Run(
    job="0123456789abcdef",
    attempt=1,
    name="cirrus-12345678-0123456789abcdef-1",
    rule="ns:event_set:1",
    key="s1",
    activity=Process(cmd=("true",)),
    environment={"TRIGGER": "ns:event:1"},
    inputs=b'{"ns:event:1": {}}',
)
ENDED = Ended("0123456789abcdef", 1, Outcome("success", 0), 1.5, 2.5, b"{}")


PLAIN: dict[object, st.SearchStrategy] = {
    bool: st.booleans(),
    bytes: st.binary(max_size=50),
    float: st.floats(allow_nan=False),
    int: st.integers(-(2**63), 2**64 - 1),
    str: st.text(max_size=20),
    types.NoneType: st.none(),
}


def values(kind: typing.Any) -> st.SearchStrategy:
    """Everything that a type allows, so that a new message is tested without a word about it."""
    strategy: st.SearchStrategy
    match typing.get_origin(kind), typing.get_args(kind):
        case typing.Annotated, (inner, meta):
            strategy = (st.integers if inner is int else st.floats)(meta.ge, meta.le)
        case ((types.UnionType | typing.Union), choices):
            strategy = st.one_of([values(choice) for choice in choices])
        case typing.Literal, choices:
            strategy = st.sampled_from(choices)
        case (builtin, (item, *_)) if builtin is tuple:
            strategy = st.lists(values(item), max_size=3).map(tuple)
        case (builtin, (key, value)) if builtin is dict:
            strategy = st.dictionaries(values(key), values(value), max_size=3)
        case _ if kind in PLAIN:
            strategy = PLAIN[kind]
        case _:
            fields = msgspec.structs.fields(kind)
            strategy = st.builds(kind, **{field.name: values(field.type) for field in fields})
    return strategy


def envelope(body: object, version: object = wire.PROTOCOL_VERSION) -> bytes:
    return msgspec.msgpack.encode([version, body])


# --- round trips --------------------------------------------------------------------------------


@given(st.lists(values(Order), max_size=5))
def test_orders_survive_the_wire(orders):
    [data] = wire.encode_orders(orders)
    assert wire.decode_orders(data) == orders


@given(st.lists(values(Report), max_size=5))
def test_reports_survive_the_wire(reports):
    [data] = wire.encode_reports(reports)
    assert wire.decode_reports(data) == reports


@given(values(Run))
def test_an_order_to_run_survives_its_folder(order):
    assert wire.decode_run(wire.encode_run(order)) == order


def test_a_message_is_read_from_where_it_lies():
    [data] = wire.encode_orders([RUN])
    assert wire.decode_orders(memoryview(data)) == [RUN]


def test_a_folder_that_holds_another_order_is_refused():
    for orders in ([], [Greet()], [RUN, RUN]):
        [data] = wire.encode_orders(orders)
        with pytest.raises(WireError, match="not one order to run"):
            wire.decode_run(data)


def test_a_field_of_a_newer_version_is_passed_over():
    body = [{"type": "accepted", "job": "a", "attempt": 1, "mood": ["good"]}]
    assert wire.decode_reports(envelope(body)) == [Accepted("a", 1)]


# --- the limit ----------------------------------------------------------------------------------


def run_of(size: int) -> Run:
    """An order whose message has exactly this many bytes."""
    inputs = bytes(size - len(wire.encode_run(RUN)) + len(RUN.inputs) - 3)
    return msgspec.structs.replace(RUN, inputs=inputs)


def test_an_order_may_have_exactly_the_limit():
    data = wire.encode_run(run_of(wire.LIMIT_BYTES))
    assert len(data) == wire.LIMIT_BYTES
    assert wire.decode_run(data).job == RUN.job


def test_an_order_beyond_the_limit_is_refused_before_it_is_sent():
    with pytest.raises(WireError, match="a Run of 16777217 bytes; 16777216 are the limit"):
        wire.encode_orders([Greet(), run_of(wire.LIMIT_BYTES + 1)])


def test_a_message_beyond_the_limit_is_refused_when_it_comes():
    with pytest.raises(WireError, match="are the limit"):
        wire.decode_orders(bytes(wire.LIMIT_BYTES + 1))


def test_what_does_not_fit_into_one_message_is_sent_in_several_in_order():
    quarter = run_of(wire.LIMIT_BYTES // 4)
    orders: list[Order] = [
        msgspec.structs.replace(quarter, attempt=attempt) for attempt in range(1, 11)
    ]
    messages = wire.encode_orders(orders)
    assert len(messages) > 1
    assert all(len(message) <= wire.LIMIT_BYTES for message in messages)
    assert [order for message in messages for order in wire.decode_orders(message)] == orders


# --- garbage ------------------------------------------------------------------------------------


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("a message was unpickled",))


def accepted(**fields: object) -> bytes:
    return envelope([{"type": "accepted", "job": "a", "attempt": 1, **fields}])


def started(time: object) -> bytes:
    return envelope([{"type": "started", "job": "a", "attempt": 1, "time": time}])


GARBAGE = {
    "nothing": b"",
    "text": b"HELO relay.example",
    "json": json.dumps([wire.PROTOCOL_VERSION, []]).encode(),
    "pickle": pickle.dumps(Exploit()),
    "a pickle as the body": envelope(pickle.dumps(Exploit())),
    "a bare message": msgspec.msgpack.encode(Accepted("a", 1)),
    "no body": msgspec.msgpack.encode([wire.PROTOCOL_VERSION]),
    "more than a body": msgspec.msgpack.encode([wire.PROTOCOL_VERSION, [], []]),
    "a body that is a map": envelope({}),
    "bytes after the end": accepted() + b"\0",
    "an older version": envelope([], wire.PROTOCOL_VERSION - 1),
    "a newer version": envelope([], wire.PROTOCOL_VERSION + 1),
    "a version in words": envelope([], "1"),
    "an unknown kind": envelope([{"type": "shutdown"}]),
    "a kind that is a number": envelope([{"type": 1}]),
    "no kind": envelope([{"job": "a", "attempt": 1}]),
    "an order": wire.encode_orders([RUN])[0],
    "a missing field": envelope([{"type": "accepted", "job": "a"}]),
    "an ext type": accepted(job=msgspec.msgpack.Ext(5, b"a")),
    "an ext type as a message": envelope([msgspec.msgpack.Ext(1, b"")]),
    "an ext type as the envelope": msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"")),
    "a nil": accepted(job=None),
    "text that is not UTF-8": accepted(job="hijklmno").replace(
        b"hijklmno", b"\xff\xfe\xc0\xafhijk"
    ),
    "attempt 0": accepted(attempt=0),
    "attempt -1": accepted(attempt=-1),
    "attempt 1.5": accepted(attempt=1.5),
    "attempt 2^31": accepted(attempt=2**31),
    "attempt 2^64-1": accepted(attempt=2**64 - 1),
    "a time that is none": started(float("nan")),
    "a time without end": started(float("inf")),
    "a time before all": started(-1.0),
    "deeply nested": envelope([])[:-1] + b"\x91" * 1_000_000 + b"\xc0",
    "a nested unknown field": accepted(mood=[])[:-1] + b"\x91" * 1_000_000 + b"\xc0",
    "an array of 2^32-1": b"\x92\x01\xdd\xff\xff\xff\xff",
    "an array of 2^28 with a start": b"\x92\x01\xdd\x10\x00\x00\x00" + b"\x80" * 100,
    "a map of 2^32-1": b"\x92\x01\x91\xdf\xff\xff\xff\xff\xa4type",
    "a string of 2^32-1": b"\x92\x01\xdb\xff\xff\xff\xff",
    "bytes of 2^32-1": b"\x92\x01\xc6\xff\xff\xff\xff",
    "an ext of 2^32-1": b"\x92\x01\xc9\xff\xff\xff\xff\x05",
    "an inner array of 2^32-1": (
        b"\x92\x01\x91\x82\xa4type\xa9heartbeat\xa4live\xdd\xff\xff\xff\xff"
    ),
    "an inner array of 2^28": b"\x92\x01\x91\x82\xa4type\xa9heartbeat\xa4live\xdd\x10\x00\x00\x00",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_one_kind_of_error_and_costs_no_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            wire.decode_reports(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_another_version_is_named():
    with pytest.raises(WireError, match="protocol 2, where 1 is spoken") as caught:
        wire.decode_orders(envelope([{"type": "dance"}], 2))
    assert caught.value.code == "version"


@pytest.mark.parametrize(
    ("encoded", "decode"),
    [
        (wire.encode_orders([Welcome("i"), RUN]), wire.decode_orders),
        (wire.encode_reports([Heartbeat((Live("a", 1, "running"),)), ENDED]), wire.decode_reports),
    ],
    ids=["orders", "reports"],
)
def test_a_message_cut_short_is_refused(encoded, decode):
    [data] = encoded
    for length in range(len(data)):
        with pytest.raises(WireError):
            decode(data[:length])


@given(st.binary(max_size=200))
def test_chance_says_nothing(data):
    try:
        orders = wire.decode_orders(data)
    except WireError:
        return
    assert orders == []


@given(values(Report), st.data())
def test_a_message_with_broken_bytes_is_refused_or_still_a_report(report, data):
    [whole] = wire.encode_reports([report])
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        reports = wire.decode_reports(bytes(broken))
    except WireError:
        return
    assert all(isinstance(report, Report) for report in reports)


def test_the_page_about_the_protocol_names_every_message():
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    for kind in typing.get_args(Order) + typing.get_args(Report):
        assert f"\n| `{kind.__struct_config__.tag}` |" in page
    assert f"The version is {wire.PROTOCOL_VERSION}." in page
    assert f"| {wire.LIMIT_BYTES >> 20} MiB |" in page


def test_an_activity_is_read_as_what_it_is():
    container = Container(task_type="docker", image="busybox")
    for activity in (container, Process(cmd=("true",))):
        order = msgspec.structs.replace(RUN, activity=activity)
        assert wire.decode_run(wire.encode_run(order)).activity == activity


def test_a_report_of_the_time_it_happened_keeps_it_exactly():
    report = Started("a", 1, 1_800_000_000.123456)
    [data] = wire.encode_reports([report])
    assert wire.decode_reports(data) == [report]
