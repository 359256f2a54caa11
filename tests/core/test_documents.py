"""How definitions are written down, and what they mean: semantics.md section 2."""

import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.toy import AUTO, PROCESS, Cirrus

from cirrus.core.decision import Done
from cirrus.core.documents import (
    check_key,
    check_name,
    check_path,
    event_of,
    event_set_of,
    parse,
    rule_of,
    seed_form,
)
from cirrus.core.inputs import Applied, DefinitionKind
from cirrus.core.model import AutoTrigger, Container, EventSet, Limits, Mount, Process
from cirrus.core.names import clip
from cirrus.errors import BadDocument

DOCKER = {"task_type": "docker", "image": "worker"}


def kept(kind: DefinitionKind, document: object) -> object:
    return seed_form(parse(kind, "n", document).document)


def refusal(kind: DefinitionKind, document: object) -> tuple[str, str]:
    """Its code and field."""
    with pytest.raises(BadDocument) as caught:
        parse(kind, "n", document)
    return caught.value.code, caught.value.field


def activity(**fields: object) -> object:
    document = parse("rule", "n", {"on": "a", "activity": fields}).document
    return rule_of("n", document, 1).activity


def wrong_activity(**fields: object) -> tuple[str, str]:
    return refusal("rule", {"on": "a", "activity": fields})


# --- names, keys, paths -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "9", "ns:event:1", "a.b_c@d-e", "a" * 200, "cirrus", "A"])
def test_a_name(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " a", "a ", "-a", ".", "..", ":a", "a/b", "a\n", "é", "a" * 201, "a\0", "a b", "_a"],
)
def test_what_is_no_name(name):
    with pytest.raises(BadDocument) as caught:
        check_name(name, "field")
    assert (caught.value.code, caught.value.field) == ("bad_name", "field")


def test_names_beginning_with_cirrus_are_reserved():
    for name in ("cirrus:x", "cirrus:"):
        with pytest.raises(BadDocument) as caught:
            check_name(name)
        assert caught.value.code == "reserved_name"


@pytest.mark.parametrize("key", ["", "s1", "batch7/s12", "a b", "日本語", "x" * 200, "..", "*"])
def test_a_key(key):
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["x" * 201, "\n", "a\tb", "\0", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
)
def test_what_is_no_key(key):
    with pytest.raises(BadDocument) as caught:
        check_key(key)
    assert caught.value.code == "bad_key"


@given(st.text())
def test_somebodys_text_is_shown_in_one_short_line(text):
    assert len(clip(text).splitlines()) == 1
    assert len(clip(text)) <= 60 * 10 + 3
    assert clip(text).isprintable()


@pytest.mark.parametrize("path", ["key", "event", "data.a", "data" + ".x" * 15, "data.$weird"])
def test_a_path(path):
    check_path(path, "key")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "data",
        "data.",
        "data..a",
        ".data",
        "key.a",
        "x.y",
        "data" + ".x" * 16,
        "data." + "x" * 200,
    ],
)
def test_what_is_no_path(path):
    with pytest.raises(BadDocument) as caught:
        check_path(path, "key")
    assert (caught.value.code, caught.value.field) == ("bad_path", "key")


def test_a_definitions_own_name_is_checked():
    with pytest.raises(BadDocument) as caught:
        parse("event", "a b", {})
    assert (caught.value.code, caught.value.field) == ("bad_name", "name")


# --- events -------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [{}, None])
def test_an_event_may_say_nothing(document):
    assert kept("event", document) == {}


def test_an_event_may_have_a_description_a_key_and_a_schema():
    document = {"description": "d", "key": "data.x", "schema": {"type": "object"}}
    event = event_of("n", parse("event", "n", document).document)

    assert (event.description, event.key) == ("d", "data.x")
    assert event.schema == b'{"type":"object"}'


def test_a_schema_may_be_true_or_false():
    nothing = parse("event", "n", {"schema": False}).document

    assert event_of("n", nothing).schema == b"false"


@pytest.mark.parametrize(
    ("document", "code", "field"),
    [
        ([], "bad_document", ""),
        ("x", "bad_document", ""),
        ({"unknown": 1}, "bad_document", ""),
        ({"key": "nonsense"}, "bad_path", "key"),
        ({"key": 1}, "bad_document", "key"),
        ({"schema": {"type": "nothing"}}, "bad_schema", "schema"),
        ({"schema": {"pattern": "("}}, "bad_schema", "schema"),
        ({"schema": 1}, "bad_document", "schema"),
        ({"description": "\ud800"}, "bad_text", ""),
    ],
)
def test_a_wrong_event_is_refused(document, code, field):
    assert refusal("event", document) == (code, field)


def test_a_schema_leads_to_no_file(tmp_path):
    there = tmp_path / "schema.json"
    there.write_text("{}")

    assert refusal("event", {"schema": {"$ref": there.as_uri()}}) == ("bad_schema", "schema")


@pytest.mark.parametrize("keyword", ["$ref", "$schema", "$dynamicRef"])
def test_a_schema_leads_to_no_address(keyword):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/schema.json"

        assert refusal("event", {"schema": {keyword: address}}) == ("bad_schema", "schema")

        with pytest.raises(BlockingIOError):  # nobody has come
            listening.accept()


def test_a_schema_leads_to_nothing_that_it_lacks():
    assert refusal("event", {"schema": {"$ref": "#/$defs/missing"}}) == ("bad_schema", "schema")


@pytest.mark.parametrize("pattern", [r"^(a+)+\1$", r"^(?=a)b$", "(a{1000}){1000}{1000}"])
def test_a_pattern_that_no_linear_time_can_match_is_refused(pattern):
    assert refusal("event", {"schema": {"pattern": pattern}})[0] == "bad_schema"


# --- event sets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "short"),
    [
        (["a", "b"], ["a", "b"]),
        ({"all": ["a", "b"]}, ["a", "b"]),
        ({"any": ["a", "b"]}, {"any": ["a", "b"]}),
        ({"at_least": 1, "of": ["a", "b"]}, {"any": ["a", "b"]}),
        ({"at_least": 2, "of": ["a", "b"]}, ["a", "b"]),
        ({"at_least": 2, "of": ["a", "b", "c"]}, {"at_least": 2, "of": ["a", "b", "c"]}),
        ({"any": ["a"]}, ["a"]),
    ],
)
def test_equal_sets_are_kept_in_one_form(document, short):
    assert kept("event_set", document) == short


@pytest.mark.parametrize(
    ("document", "needed"),
    [(["a", "b"], 2), ({"any": ["a", "b"]}, 1), ({"at_least": 2, "of": ["a", "b", "c"]}, 2)],
)
def test_what_a_set_needs(document, needed):
    found = event_set_of("n", parse("event_set", "n", document).document, 7)

    assert found == EventSet("n", found.members, needed, 7)


@pytest.mark.parametrize(
    ("document", "code", "field"),
    [
        ([], "empty_set", ""),
        ({"all": []}, "empty_set", ""),
        ({"any": []}, "empty_set", ""),
        ({"at_least": 1, "of": []}, "empty_set", ""),
        (["a", "b", "a"], "duplicate_member", ""),
        ({"at_least": 0, "of": ["a"]}, "bad_at_least", "at_least"),
        ({"at_least": -1, "of": ["a"]}, "bad_at_least", "at_least"),
        ({"at_least": 3, "of": ["a", "b"]}, "bad_at_least", "at_least"),
        ({}, "bad_condition", ""),
        ({"at_least": 1}, "bad_condition", ""),
        ({"of": ["a"]}, "bad_condition", ""),
        ({"all": ["a"], "any": ["a"]}, "bad_condition", ""),
        ({"any": ["a"], "at_least": 1}, "bad_condition", ""),
        (["a", "b c"], "bad_name", "[1]"),
        (["a", 1], "bad_document", "[1]"),
        (["a", ["b"]], "bad_document", "[1]"),
        ({"all": None}, "bad_document", "all"),
        ({"at_least": "2", "of": ["a", "b"]}, "bad_document", "at_least"),
        ("a", "bad_document", ""),
        (None, "bad_document", ""),
        (["cirrus:x"], "reserved_name", "[0]"),
        ([f"e{n}" for n in range(10_001)], "too_many_members", ""),
    ],
)
def test_a_wrong_set_is_refused(document, code, field):
    assert refusal("event_set", document) == (code, field)


def test_a_set_may_have_ten_thousand_members():
    members = [f"e{n}" for n in range(10_000)]

    assert kept("event_set", members) == members


# --- rules --------------------------------------------------------------------------------------

BODY = {"activity": AUTO, "triggering": "b", "attempts": 3, "on_failure": "c"}


def test_both_forms_of_a_rule_are_kept_as_the_seed_writes_it():
    assert kept("rule", {"a": BODY}) == kept("rule", {"on": "a", **BODY}) == {"a": BODY}


def test_a_rule_on_a_set_that_is_called_on():
    assert kept("rule", {"on": {"activity": AUTO}}) == {"on": {"activity": AUTO}}


def test_what_is_null_is_what_is_left_out():
    assert kept("rule", {"a": {"activity": AUTO, "triggering": None}}) == {"a": {"activity": AUTO}}


def test_what_a_rule_means():
    rule = rule_of("n", parse("rule", "n", {"a": BODY}).document, 4)

    assert (rule.on, rule.triggering, rule.on_failure) == ("a", "b", "c")
    assert (rule.attempts, rule.version, rule.activity) == (3, 4, AutoTrigger())


def test_a_rule_has_one_attempt_unless_it_says_more():
    rule = rule_of("n", parse("rule", "n", {"a": {"activity": AUTO}}).document, 1)

    assert (rule.attempts, rule.triggering, rule.on_failure) == (1, "", "")


@pytest.mark.parametrize(
    ("document", "code", "field"),
    [
        ({}, "bad_rule", ""),
        ([], "bad_rule", ""),
        (None, "bad_rule", ""),
        ({"a": BODY, "b": BODY}, "bad_rule", ""),
        ({"a": []}, "bad_rule", ""),
        ({"a": {"on": "b", "activity": AUTO}}, "bad_rule", ""),
        ({1: BODY}, "bad_rule", ""),
        ({"on": "a", 1: 2}, "bad_rule", ""),
        ({"a": {1: 2, "activity": AUTO}}, "bad_document", ""),
        ({"on": "a"}, "bad_document", ""),
        ({"a b": BODY}, "bad_name", "on"),
        ({"a": {"activity": AUTO, "triggering": "b c"}}, "bad_name", "triggering"),
        ({"a": {"activity": AUTO, "triggering": "cirrus:b"}}, "reserved_name", "triggering"),
        ({"a": {"activity": AUTO, "on_failure": "b c"}}, "bad_name", "on_failure"),
        ({"a": {"activity": AUTO, "attempts": 0}}, "bad_attempts", "attempts"),
        ({"a": {"activity": AUTO, "attempts": 101}}, "bad_attempts", "attempts"),
        ({"a": {"activity": AUTO, "attempts": True}}, "bad_document", "attempts"),
        ({"a": {"activity": AUTO, "attempts": "2"}}, "bad_document", "attempts"),
        ({"a": {"activity": AUTO, "extra": 1}}, "bad_document", ""),
        ({"a": {"activity": "x"}}, "bad_document", "activity"),
    ],
)
def test_a_wrong_rule_is_refused(document, code, field):
    assert refusal("rule", document) == (code, field)


@pytest.mark.parametrize(
    ("kind", "document", "hint"),
    [
        ("event", {"descripton": ""}, "did you mean `description`"),
        ("event_set", {"alll": []}, "did you mean `all`"),
        ("event_set", {"whatever": []}, "the fields are all, any, at_least, of"),
        ("rule", {"a": {"activity": AUTO, "atempts": 1}}, "did you mean `attempts`"),
        ("rule", {"a": {"activity": {"imagee": "x"}}}, "did you mean `image`"),
        (
            "rule",
            {"a": {"activity": {**DOCKER, "mounts": [{"Target": "/x", "source": "/y"}]}}},
            "did you mean `Source`",
        ),
    ],
)
def test_a_misspelt_field_is_answered_with_the_one_that_was_meant(kind, document, hint):
    with pytest.raises(BadDocument, match=hint):
        parse(kind, "n", document)


# --- activities ---------------------------------------------------------------------------------


def test_an_auto_trigger_takes_no_other_field():
    assert activity(**AUTO) == AutoTrigger()
    assert wrong_activity(**AUTO, image="x") == ("bad_activity", "activity.cmd")
    assert wrong_activity(**AUTO, env={"A": "b"}) == ("bad_activity", "activity.cmd")
    assert activity(**AUTO, env={}) == AutoTrigger()


def test_an_activity_needs_a_task_type():
    assert wrong_activity(cmd="true") == ("no_task_type", "activity.task_type")
    assert wrong_activity(task_type="kubernetes") == ("bad_document", "activity.task_type")


def test_a_process():
    assert activity(task_type="process", cmd="echo 'a b' c", workdir="/tmp") == Process(
        ("echo", "a b", "c"), workdir="/tmp"
    )


def test_a_process_needs_a_command():
    assert wrong_activity(task_type="process") == ("no_cmd", "activity.cmd")
    assert wrong_activity(task_type="process", cmd=" ") == ("no_cmd", "activity.cmd")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "x"),
        ("mounts", ["/a:/b"]),
        ("user", "root"),
        ("network", "none"),
        ("pull", "always"),
        ("labels", {"a": "b"}),
        ("cpu", 1.0),
        ("memory", "1G"),
    ],
)
def test_what_is_for_containers_is_refused_on_a_process(field, value):
    assert wrong_activity(**PROCESS, **{field: value}) == ("not_for_process", f"activity.{field}")


def test_a_process_runs_as_its_caller_anyway():
    assert activity(**PROCESS, user="caller") == Process(("true",))
    assert wrong_activity(**PROCESS, user="caller", cpu=1.0) == ("not_for_process", "activity.cpu")


def test_a_command_is_split_like_shell_words_and_never_given_to_a_shell():
    found = activity(**DOCKER, cmd="sh -c 'echo $HOME; rm -rf /' \"x y\"")

    assert isinstance(found, Container)
    assert found.cmd == ("sh", "-c", "echo $HOME; rm -rf /", "x y")


def test_a_command_may_be_given_as_a_list():
    found = activity(**DOCKER, cmd=["a b", "--c", ""])

    assert isinstance(found, Container)
    assert found.cmd == ("a b", "--c", "")


def test_an_empty_command_is_the_images_own():
    assert activity(**DOCKER) == activity(**DOCKER, cmd="") == activity(**DOCKER, cmd=[])


@pytest.mark.parametrize("cmd", ["echo 'open", ["a\0b"], "a\0b"])
def test_a_wrong_command_is_refused(cmd):
    assert wrong_activity(**DOCKER, cmd=cmd) == ("bad_cmd", "activity.cmd")


@pytest.mark.parametrize("image", ["", "a b", "-v/:/h", "x" * 501, "a\nb"])
def test_a_wrong_image_is_refused(image):
    assert wrong_activity(task_type="docker", image=image) == ("no_image", "activity.image")


def test_a_container_needs_an_image():
    assert wrong_activity(task_type="swarm") == ("no_image", "activity.image")


def test_a_container_may_have_labels_of_its_own():
    found = activity(**DOCKER, labels={"team": "genomes", "lab": ""})

    assert isinstance(found, Container)
    assert found.labels == {"team": "genomes", "lab": ""}


@pytest.mark.parametrize("label", ["cirrus.job", "x" * 201])
def test_labels_of_cirrus_are_its_own(label):
    assert wrong_activity(**DOCKER, labels={label: "x"}) == ("bad_label", "activity.labels")


def test_the_environment_may_be_an_object_or_a_list():
    expected = {"A": "1", "B": "true", "C": "1.5", "D": "x=y", "E": ""}
    as_object = {"A": 1, "B": True, "C": 1.5, "D": "x=y", "E": ""}
    as_list = ["A=1", "B=true", "C=1.5", "D=x=y", "E"]

    for env in (as_object, as_list):
        found = activity(**PROCESS, env=env)
        assert isinstance(found, Process)
        assert found.env == expected


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({"1A": "x"}, "bad_env"),
        ({"": "x"}, "bad_env"),
        ({"A-B": "x"}, "bad_env"),
        ({"A": "x\0"}, "bad_env"),
        (["=x"], "bad_env"),
        ({"CIRRUS_JOB": "x"}, "bad_env"),
        ({"A": "x" * 65536}, "env_too_large"),
        ({"A": "\ud800"}, "bad_text"),
    ],
)
def test_a_wrong_environment_is_refused(env, code):
    assert wrong_activity(**PROCESS, env=env)[0] == code


@pytest.mark.parametrize(
    ("given", "mount"),
    [
        ("/a:/b", Mount("/b", "/a", "bind")),
        ("/a:/b:ro", Mount("/b", "/a", "bind", read_only=True)),
        ("/a:/b:rw", Mount("/b", "/a", "bind")),
        ("data:/b", Mount("/b", "data", "volume")),
        ({"Target": "/b", "Source": "/a", "Type": "bind", "ReadOnly": True}, None),
        ({"Target": "/b", "Source": "v"}, Mount("/b", "v", "volume")),
        ({"Target": "/b", "Type": "tmpfs"}, Mount("/b", "", "tmpfs")),
    ],
)
def test_a_mount_may_be_written_in_words_or_as_the_engines_object(given, mount):
    found = activity(**DOCKER, mounts=[given])

    assert isinstance(found, Container)
    assert found.mounts == (mount or Mount("/b", "/a", "bind", read_only=True),)


@pytest.mark.parametrize(
    "mount",
    [
        "/a",
        ":/b",
        "/a:b",
        "/a:/",
        "/a:/b:rx",
        "/a:/b:ro:z",
        "./a:/b",
        "a b:/b",
        {"Target": "/b", "Source": "a", "Type": "bind"},
        {"Target": "/b"},
        {"Target": "b", "Source": "v"},
    ],
)
def test_a_wrong_mount_is_refused(mount):
    assert wrong_activity(**DOCKER, mounts=["/x:/y", mount]) == (
        "bad_mount",
        "activity.mounts[1]",
    )


@pytest.mark.parametrize("network", ["", "none", "lab-net"])
def test_a_network(network):
    found = activity(**DOCKER, network=network)

    assert isinstance(found, Container)
    assert found.network == network


@pytest.mark.parametrize("network", ["host", "container:x", "a b", "-x"])
def test_a_wrong_network_is_refused(network):
    assert wrong_activity(**DOCKER, network=network) == ("bad_network", "activity.network")


def test_a_user_may_be_a_number():
    found = activity(**DOCKER, user=1000)

    assert isinstance(found, Container)
    assert found.user == "1000"


@pytest.mark.parametrize(
    ("field", "given", "limits"),
    [
        ("cpu", 1.5, Limits(cpu=1.5)),
        ("memory", "512M", Limits(memory=512 * 2**20)),
        ("memory", "1.5g", Limits(memory=3 * 2**29)),
        ("memory", "2GiB", Limits(memory=2 * 2**30)),
        ("memory", 2**30, Limits(memory=2**30)),
        ("memory", "6291456", Limits(memory=6 * 2**20)),
        ("memory", 0, Limits()),
        ("cpu_reservation", 2, Limits(cpu_reservation=2.0)),
        ("mem_reservation", 0.5, Limits(memory_reservation=5 * 10**8)),
        ("timeout", "90s", Limits(timeout_seconds=90)),
        ("timeout", "1.5m", Limits(timeout_seconds=90)),
        ("timeout", "2h", Limits(timeout_seconds=7200)),
        ("timeout", "366d", Limits(timeout_seconds=366 * 86400)),
        ("timeout", 2.5, Limits(timeout_seconds=2.5)),
        ("grace", 0, Limits(grace_seconds=0)),
    ],
)
def test_limits(field, given, limits):
    found = activity(**DOCKER, **{field: given})

    assert isinstance(found, Container)
    assert found.limits == limits


@pytest.mark.parametrize(
    ("field", "given", "code"),
    [
        ("cpu", -1, "out_of_range"),
        ("cpu", 5000, "out_of_range"),
        ("cpu", float("nan"), "out_of_range"),
        ("cpu_reservation", float("inf"), "out_of_range"),
        ("mem_reservation", 1e7, "out_of_range"),
        ("memory", "5M", "out_of_range"),
        ("memory", "2000T", "out_of_range"),
        ("memory", "lots", "bad_size"),
        ("memory", "-1G", "bad_size"),
        ("memory", "", "bad_size"),
        ("memory", True, "bad_document"),
        ("timeout", "1 hour", "bad_span"),
        ("timeout", -1, "bad_span"),
        ("timeout", "", "bad_span"),
        ("timeout", float("nan"), "bad_span"),
        ("timeout", 1e20, "bad_span"),
        ("timeout", "367d", "out_of_range"),
        ("grace", "soon", "bad_span"),
    ],
)
def test_a_wrong_limit_is_refused(field, given, code):
    assert wrong_activity(**DOCKER, **{field: given}) == (code, f"activity.{field}")


def test_a_job_on_swarm_asks_for_a_core_and_a_gigabyte_unless_it_says_otherwise():
    usual = activity(task_type="swarm", image="x")
    less = activity(task_type="swarm", image="x", cpu_reservation=0, mem_reservation=0)

    assert isinstance(usual, Container)
    assert isinstance(less, Container)
    assert usual.limits == Limits(cpu_reservation=1.0, memory_reservation=10**9)
    assert less.limits == Limits()


# --- versions -----------------------------------------------------------------------------------


def test_definitions_are_versioned_and_an_equal_put_changes_nothing():
    cirrus = Cirrus()
    first = cirrus.put("event_set", "s", ["a", "b"])
    last = cirrus.store.last_seq()

    again = cirrus.put("event_set", "s", {"all": ["a", "b"]})

    assert (first.version, first.changed) == (1, True)
    assert (again.version, again.changed) == (1, False)
    assert cirrus.store.last_seq() == last
    assert cirrus.put("event_set", "s", ["b", "a"]).version == 2


def test_versions_go_on_when_a_name_comes_back():
    cirrus = Cirrus()
    cirrus.put("event", "a", {})
    cirrus.delete("event", "a")

    assert cirrus.store.definition("event", "a") == (2, None)
    assert cirrus.put("event", "a", {}).version == 3


def test_to_delete_what_is_not_there_is_no_error():
    cirrus = Cirrus()
    cirrus.delete("rule", "r")

    assert cirrus.store.last_seq() == 0


def test_many_definitions_are_applied_at_once_deletes_before_puts():
    cirrus = Cirrus()
    cirrus.put("event", "old", {})
    cirrus.put("event", "both", {})
    puts = (parse("event", "both", {"key": "data.x"}), parse("rule", "r", {"a": BODY}))

    answers = cirrus.ask(Applied(puts, deletes=(("event", "old"), ("event", "both"))))

    assert answers == (Done("old", 2), Done("both", 2), Done("r", 1))
    assert cirrus.store.event("old") is None
    assert cirrus.store.definition("event", "both") == (2, b'{"key":"data.x"}')


# --- what is kept means the same ----------------------------------------------------------------

names = st.from_regex(r"[a-z][a-z:]{0,8}", fullmatch=True).filter(
    lambda name: not name.startswith("cirrus:")
)


@given(st.lists(names, min_size=1, max_size=6, unique=True), st.data())
def test_a_set_that_is_kept_is_read_as_the_same_and_kept_as_the_same(members, data):
    needed = data.draw(st.integers(1, len(members)))
    first = parse("event_set", "n", {"at_least": needed, "of": members})

    assert event_set_of("n", first.document, 1) == EventSet("n", tuple(members), needed, 1)
    assert parse("event_set", "n", seed_form(first.document)) == first


@given(
    on=names,
    triggering=names | st.none(),
    on_failure=names | st.none(),
    attempts=st.integers(1, 100),
    run=st.sampled_from([AUTO, PROCESS, DOCKER]),
)
def test_a_rule_that_is_kept_is_read_as_the_same_and_kept_as_the_same(**given_fields):
    run = given_fields.pop("run")
    first = parse("rule", "n", {"activity": run, **given_fields})
    rule = rule_of("n", first.document, 1)

    assert rule.on == given_fields["on"]
    assert rule.triggering == (given_fields["triggering"] or "")
    assert rule.on_failure == (given_fields["on_failure"] or "")
    assert rule.attempts == given_fields["attempts"]
    assert parse("rule", "n", seed_form(first.document)) == first


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
almost = st.fixed_dictionaries(
    {},
    optional={
        "on": json,
        "activity": json | st.dictionaries(st.sampled_from(["cmd", "task_type", "image"]), json),
        "all": json,
        "any": json,
        "at_least": json,
        "of": json,
        "schema": json,
        "key": json,
        "description": json,
        "triggering": json,
    },
)


@given(json | almost)
def test_whatever_is_put_is_understood_or_refused(document):
    with suppress(BadDocument):
        assert event_of("n", parse("event", "n", document).document)
    with suppress(BadDocument):
        assert event_set_of("n", parse("event_set", "n", document).document, 1)
    with suppress(BadDocument):
        assert rule_of("n", parse("rule", "n", document).document, 1)
