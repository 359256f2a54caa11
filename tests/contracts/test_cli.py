"""The command line, against the real coordinator: what it prints, and its exit codes."""

import json
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.contracts.http_world import AUTO, PROCESS, SECONDS, World

from cirrus import __version__
from cirrus.cli import COMMANDS, cirrus, serve
from cirrus.cli.jobs import harmless
from cirrus.cli.loglines import Lines, log_to_stderr
from cirrus.cli.output import Live, ago, clip, printable, span, table, width
from cirrus.client import Client
from cirrus.errors import SetupError

CIRRUS = [sys.executable, "-m", "cirrus"]

DIAMOND = """\
events: {ns:event:1: {}, ns:event:2: {}, ns:event:3: {}, ns:event:4: {}, ns:event:5: {}}
event_sets:
  ns:event_set:1: [ns:event:1, ns:event:4]
rules:
  ns:rule:1: {ns:event:1: {activity: {cmd: __auto_trigger__}, triggering: ns:event:2, attempts: 1}}
  ns:rule:2: {ns:event:2: {activity: {cmd: __auto_trigger__}, triggering: ns:event:3, attempts: 1}}
  ns:rule:3:
    on: ns:event:3
    activity: {cmd: __auto_trigger__}
    triggering: ns:event:4
  ns:rule:4:
    on: ns:event_set:1
    activity: {cmd: __auto_trigger__}
    triggering: ns:event:5
"""


@pytest.fixture
def world(tmp_path):
    with World(tmp_path) as world:
        yield world


@pytest.fixture
def run(world):
    """Runs a command in this process; it returns the exit code, what was printed, and errors."""
    return lambda *arguments, **options: invoke(*arguments, url=world.url, **options)


@pytest.fixture
def diamond(tmp_path):
    path = tmp_path / "diamond.yaml"
    path.write_text(DIAMOND)
    return path


@pytest.fixture
def working(world):
    """A rule whose jobs a played dispatcher runs."""
    world.define(
        events={"go": {}, "done": {}},
        rules={"work": {"on": "go", "activity": PROCESS, "triggering": "done"}},
    )
    world.connect_dispatcher()
    return world


class Answer:
    def __init__(self, result):
        self.code = result.exit_code
        self.out = result.stdout
        self.err = result.stderr
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


def invoke(*arguments, url="http://127.0.0.1:9", **options):
    environ = {"CIRRUS_URL": url, "NO_COLOR": "1"}
    return Answer(
        CliRunner().invoke(cirrus, [str(one) for one in arguments], env=environ, **options)
    )


# --- the program --------------------------------------------------------------------------------


def test_help_lists_every_command_and_the_exit_codes():
    answer = invoke("--help")

    assert answer.code == 0
    for name, (_, line) in COMMANDS.items():
        assert name in answer.out
        assert line.split(",")[0] in " ".join(answer.out.split())
    assert "3  no coordinator answers" in answer.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_is_for(name):
    answer = invoke(name, "--help")

    assert answer.code == 0
    assert COMMANDS[name][1].split(".")[0] in " ".join(answer.out.split())


def test_help_loads_nothing_that_takes_long():
    code = (
        "import sys; sys.argv = ['cirrus', '--help']\n"
        "from cirrus.cli import cirrus\n"
        "cirrus(standalone_mode=False)\n"
        "slow = {'asyncio', 'httpx2', 'msgspec', 'rich', 'starlette', 'yaml', 'zmq'}\n"
        "print(sorted(slow & sys.modules.keys()))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert answer.stdout.splitlines()[-1] == b"[]"


@pytest.mark.parametrize(
    ("arguments", "most_seconds"),
    [(["--help"], 0.2), (["status"], 0.3), (["jobs"], 0.3), (["check", "/none"], 0.3)],
)
def test_commands_answer_at_once(world, arguments, most_seconds):
    environ = os.environ | {"CIRRUS_URL": world.url}

    def seconds():
        """Of the processor, which is slower too where others use it: half is forgiven."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*CIRRUS, *arguments], capture_output=True, env=environ, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 2 * most_seconds


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["stauts"], "Did you mean 'status'?"),
        (["jobs", "--satte", "failed"], "Did you mean '--state'?"),
        (["jobs", "--state", "runing"], "'running'"),
        (["trigger"], "Missing argument 'EVENT'"),
        (["trigger", "e", "--data", "[1]"], "not a JSON object"),
        (["trigger", "e", "--data", "{"], "not JSON"),
        (["trigger", "e", "--data", "@/none"], "No such file"),
        (["apply", "/none"], "does not exist"),
        (["--url", "here", "status"], "is not an address such as http://127.0.0.1:7000"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_a_hint(arguments, hint):
    answer = invoke(*arguments)

    assert answer.code == 2
    assert hint in answer.err


def test_nobody_there_is_exit_code_3_and_one_line():
    answer = invoke("status")

    assert answer.code == 3
    assert answer.err == (
        "error: no coordinator answers at http://127.0.0.1:9; start one with `cirrus up`\n"
    )


def test_a_refusal_is_exit_code_4_and_json_where_that_was_asked(run):
    assert run("pause", "nope").code == 4
    for arguments in (["--json", "pause", "nope"], ["pause", "nope", "--json"]):
        answer = run(*arguments)
        assert answer.code == 4
        assert answer.out == ""
        assert json.loads(answer.err)["error"]["code"] == "unknown_rule"


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--host", "0.0.0.0"],
        ["up", "--port", "many"],
        ["up", "--config", "/none.toml"],
        ["dispatcher", "--name", "Big One"],
        ["dispatcher", "--executor", "podman"],
    ],
)
def test_a_wrong_setting_is_exit_code_5_and_one_line(tmp_path, arguments):
    answer = invoke(*arguments, "--data-dir", tmp_path)

    assert answer.code == 5
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1


def test_the_version_is_told_in_every_usual_way():
    assert invoke("version").out == f"cirrus {__version__}\n"
    assert invoke("--version").out == f"cirrus {__version__}\n"
    assert invoke("version", "--json").json == {"version": __version__}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(shell):
    answer = invoke("completion", shell)

    assert answer.code == 0
    assert "_CIRRUS_COMPLETE" in answer.out


def test_commands_and_their_options_are_completed():
    def completed(words):
        environ = {
            "_CIRRUS_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        answer = subprocess.run(
            CIRRUS, capture_output=True, env=os.environ | environ, check=False, text=True
        )
        return [line.partition(",")[2] for line in answer.stdout.splitlines()]

    assert completed("cirrus re") == ["retry", "resume", "reset"]
    assert completed("cirrus jobs --st") == ["--state"]


# --- apply and check ----------------------------------------------------------------------------


def test_definitions_are_applied_and_only_what_is_new_is_named(run, diamond):
    planned = run("apply", diamond, "--dry-run")
    assert planned.out.count("new ") == 10
    assert planned.out.endswith("10 of 10 would change\n")
    assert run("status", "--json").json["status"]["counts"]["definitions"]["rule"] == 0

    applied = run("apply", diamond)
    assert applied.code == 0
    assert "new rule ns:rule:4\n" in applied.out
    assert run("apply", diamond).out == "0 of 10 changed\n"

    diamond.write_text(
        DIAMOND.replace("triggering: ns:event:5", "triggering: ns:event:5\n    attempts: 3")
    )
    planned = run("apply", diamond, "--dry-run").out
    assert planned.startswith("changed rule ns:rule:4\n")
    assert re.search(r'^  \+ *"attempts": 3', planned, re.MULTILINE)
    (changed,) = (
        item
        for item in run("apply", diamond, "--json").json["items"]
        if item["change"] != "unchanged"
    )
    assert changed == {"kind": "rule", "name": "ns:rule:4", "change": "changed", "version": 2}


def test_a_folder_is_all_its_files_in_order(run, tmp_path):
    folder = tmp_path / "definitions"
    folder.mkdir()
    (folder / "2.json").write_text(json.dumps({"rules": {"r": {"a": {"activity": AUTO}}}}))
    (folder / "1.yml").write_text("events: {a: {}}\n---\nevents: {b: }\n---\n")
    (folder / "notes.txt").write_text("not: [read")

    names = [item["name"] for item in run("apply", folder, "--json").json["items"]]

    assert names == ["a", "b", "r"]


def test_what_is_wrong_in_a_file_is_applied_nowhere(run, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("events:\n  a: {}\n  b: {keys: x}\nrules:\n  r: {}\n")

    answer = run("apply", path)

    assert answer.code == 4
    assert re.match(rf"error: {path}:3: b: .*unknown field `keys`.*\(1 more problem", answer.err)
    assert run("status", "--json").json["status"]["counts"]["definitions"]["event"] == 0


def test_sound_definitions_pass_the_check(diamond):
    answer = invoke("check", diamond)

    assert answer.code == 0
    assert "rule ns:rule:4 triggers ns:event:5, and no rule waits for it" in answer.out
    assert answer.out.endswith("10 definitions, 0 errors\n")


def test_an_unknown_name_fails_the_check_with_its_line(diamond):
    diamond.write_text(DIAMOND.replace("[ns:event:1, ns:event:4]", "[ns:event:1, ns:evnt:4]"))

    answer = invoke("check", diamond)
    assert answer.code == 1
    assert f"{diamond}:3: error: event set ns:event_set:1 waits for ns:evnt:4" in answer.out
    assert "did you mean ns:event:4?" in answer.out

    found = invoke("check", diamond, "--json").json
    assert found["definitions"] == 10
    assert found["findings"][0] == {
        "where": f"{diamond}:3",
        "severity": "error",
        "code": "unknown_name",
        "message": found["findings"][0]["message"],
        "kind": "event_set",
        "name": "ns:event_set:1",
        "near": "ns:event:4",
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("evnts: {}", ":1: error: no field evnts; did you mean events?"),
        ("xxx: {}", ":1: error: no field xxx; a file has events, event_sets, rules"),
        ("events: {a: {}}\nevents: {b: {}}", ":2: error: events stands twice"),
        ("events:\n  a: {}\n  a: {}", ":3: error: a stands twice"),
        ("events: {a: {}}\n---\nevents: {a: {}}", ":3: error: a is defined twice: first at"),
        ("events: {a: {description: x, description: y}}", ":1: error: description stands twice"),
        ("events: [a", ":2: error: not YAML"),
        ("- a", ":1: error: here stands no mapping of names"),
        ("events: 3", ":1: error: here stands no mapping of names"),
        ("events: {1: {}}", ":1: error: '1' is no text: put it in quotes"),
        ("events: {a: !!python/object:os.system {}}", "object:os.system is not understood"),
        ("events: {a: {description: !x y}}", "the tag !x is not understood"),
        ("events: {a: &a {schema: {x: *a}}}", "too deep, or too large"),
        ("events: {'': {}}", "is not a name"),
        ("events:\n\ta: {}", ":2: error: not YAML"),
        ("events: {a: {description: '\x00'}}", "not YAML"),
        ("a: b: c", ":1: error: not YAML"),
    ],
)
def test_unclear_yaml_is_refused_with_its_line(tmp_path, text, complaint):
    path = tmp_path / "file.yaml"
    path.write_text(text)

    answer = invoke("check", path)

    assert answer.code == 1
    assert complaint in answer.out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"events": {"a": {},\n "a": {}}}', "a stands twice in the same object"),
        ('{"events": {\n"a": {"keys": 1}}}', ":2: error: a: "),
        ('{"events": 3}', ":1: error: events is no mapping of names"),
        ("[]", ":1: error: here stands no mapping of names"),
        ('{"events":\n', ":2: error: not JSON"),
        ('{"events": {"a": {"schema": {"x": NaN}}}}', "NaN is no number"),
        ('{"events": ' + "[" * 100_000, "not JSON"),
    ],
)
def test_unclear_json_is_refused_with_its_line(tmp_path, text, complaint):
    path = tmp_path / "file.json"
    path.write_text(text)

    answer = invoke("check", path)

    assert answer.code == 1
    assert complaint in answer.out


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_bytes(b"events: {\xff}")

    assert f"{path}: error: it is not UTF-8" in invoke("check", path).out


def test_plain_words_of_yaml_are_what_they_look_like(run, tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text(
        "events: {a: {description: 2026-11-23}, b: {description: off}, c: {description: ~}}\n"
        "rules: {r: {on: a, attempts: 3, activity: {task_type: process, cmd: ['010', yes, 1e3]}}}\n"
    )
    assert invoke("check", path).out.count("error:") == 2

    path.write_text(
        "events: {a: {description: 2026-11-23}, b: {description: off}, c: null}\n"
        "rules: {r: {on: a, activity: {task_type: process, cmd: [010, yes], env: {A: 1e3, B: true,"
        " C: 0.5, D: -7}}}}\n"
    )
    assert run("apply", path).code == 0


# --- trigger ------------------------------------------------------------------------------------


def test_a_trigger_says_in_words_what_became_of_it(run, diamond):
    run("apply", diamond)

    first = run("trigger", "ns:event:1", "--key", "k")
    head, *verdicts = first.out.splitlines()
    assert re.fullmatch(r"ns:event:1 \[k\] occurred \(seq \d+\)", head)
    assert any(re.fullmatch(r"  ● ns:rule:1 fired: job [0-9a-f]{16}", one) for one in verdicts)
    assert "  ○ ns:rule:4 waits for ns:event:4" in verdicts
    assert (
        "ns:rule:1 ignored: it had occurred before"
        in run("trigger", "ns:event:1", "--key", "k").out
    )
    assert ", generation 2" in run("trigger", "ns:event:1", "--key", "k", "--force").out
    assert "no rule looks at it" in run("trigger", "ns:event:5").out


def test_a_trigger_with_an_id_counts_once(run, diamond):
    run("apply", diamond)
    arguments = ("trigger", "ns:event:1", "--id", "one", "--data", '{"n": 1}')

    first = run(*arguments, "--json").json
    second = run(*arguments, "--json").json
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert second["seq"] == first["seq"]
    assert "had been accepted before" in run(*arguments).out
    assert run("trigger", "ns:event:1", "--id", "one").code == 4


def test_data_may_come_from_a_file(run, world, diamond, tmp_path):
    run("apply", diamond)
    (tmp_path / "data.json").write_text('{"n": 1}')

    seq = run("trigger", "ns:event:1", "--data", f"@{tmp_path}/data.json", "--json").json["seq"]

    recorded = world.get(f"/v1/occurrences/{seq}")
    assert recorded["data"] == {"n": 1}
    assert recorded["source"] == f"cli@{socket.gethostname()}"


def test_an_unknown_event_is_refused_with_what_was_meant(run, diamond):
    run("apply", diamond)

    answer = run("trigger", "ns:evnt:1")

    assert answer.code == 4
    assert answer.err == "error: no event ns:evnt:1; did you mean ns:event:1?\n"


def test_waiting_tells_all_that_follows_and_ends_with_it(run, diamond):
    run("apply", diamond)

    answer = run("trigger", "ns:event:1", "--wait")

    assert answer.code == 0
    assert answer.out.count(" fired\n") == 4
    assert "◆ ns:event:5 occurred\n" in answer.out
    assert re.search(r"^4 jobs in .*, 0 failed\n$", answer.out, re.MULTILINE)


@pytest.mark.parametrize(("key", "kind", "code"), [("k", "success", 0), ("", "failure", 1)])
def test_waiting_follows_a_job_to_its_end(run, working, key, kind, code):
    def dispatch():
        one = working.next_run()
        working.start(one)
        working.finish(one, kind)

    dispatching = threading.Thread(target=dispatch)
    dispatching.start()
    answer = run("trigger", "go", "--key", key, "--wait", "--timeout", SECONDS)
    dispatching.join()

    assert answer.code == code
    assert "● work" in answer.out
    assert ("✓" in answer.out, "✗" in answer.out) == (code == 0, code == 1)
    assert answer.out.endswith(f"{code} failed\n")


@pytest.mark.usefixtures("working")
def test_waiting_ends_when_the_time_is_up(run):
    answer = run("trigger", "go", "--wait", "--timeout", "0.3", "--json")

    assert answer.code == 1
    assert answer.lines[0]["verdicts"][0]["verdict"] == "fired"
    assert answer.lines[-1] == {"ok": False, "late": True, "jobs": 1, "failed": []}
    assert (
        "time is up; jobs go on" in run("trigger", "go", "--force", "--wait", "--timeout", 0.2).out
    )


# --- jobs ---------------------------------------------------------------------------------------


def test_jobs_are_listed_and_shown(run, working):
    assert run("jobs").out == "no jobs\n"
    job = run("trigger", "go", "--key", "k", "--json").json["verdicts"][0]["job"]
    one = working.next_run()
    working.start(one)
    working.finish(one, "success", b'{"n": 1}')

    listed = run("jobs").out.splitlines()
    assert listed[0].split() == ["JOB", "STATE", "RULE", "KEY", "GEN", "TRY", "BY", "FIRED", "TOOK"]
    assert listed[1].split()[:7] == [job, "succeeded", "work", "k", "1", "1", "process"]
    assert [found["id"] for found in run("jobs", "--json", "--key", "k").json] == [job]
    assert run("jobs", "--json", "--state", "failed", "--rule", "work").json == []

    shown = run("jobs", job).out
    assert shown.startswith(f"job {job}  succeeded\n")
    assert re.search(r"^  output +\{\"n\": 1\}$", shown, re.MULTILINE)
    assert re.search(r"^1 +d1 +process .* success$", shown, re.MULTILINE)
    assert "triggered done [k]" in shown
    assert run("jobs", job, "--json").json["job"]["id"] == job
    assert run("jobs", "0123456789abcdef").code == 4


def test_older_jobs_are_left_out_and_that_is_said(run, diamond):
    run("apply", diamond)
    run("trigger", "ns:event:1")

    answer = run("jobs", "--limit", 2)

    assert len(answer.out.splitlines()) == 4
    assert answer.out.endswith("older ones are left out: --limit 2\n")


def test_a_log_is_printed_as_it_is_or_its_last_lines(run, working):
    job = run("trigger", "go", "--json").json["verdicts"][0]["job"]
    one = working.next_run()
    working.start(one)
    working.link.logs[job, 1] = b"one\ntwo\nthree\n"

    assert run("logs", job).out == "one\ntwo\nthree\n"
    assert run("logs", job, "--tail", 2).out == "two\nthree\n"
    assert run("logs", job, "--tail", 0).out == ""
    assert run("logs", job, "--follow", "--tail", 1, "--attempt", 1).out == "three\n"
    assert run("logs", job, "--json").lines == [{"text": "one\ntwo\nthree\n"}]
    assert run("logs", job, "--attempt", 2).code == 4


def test_a_job_is_cancelled_and_retried(run, working):
    job = run("trigger", "go", "--json").json["verdicts"][0]["job"]
    working.finish(working.next_run(), "failure")

    assert run("cancel", job).out == f"job {job} had ended already\n"
    new = run("retry", job, "--json").json["job"]
    assert re.search(r"^  retries +" + job, run("jobs", new).out, re.MULTILINE)
    assert run("cancel", new, "--json").json == {"job": new, "changed": True}


# --- status and reset ---------------------------------------------------------------------------


def test_the_status_names_what_is_there_what_waits_and_what_failed(run, working, diamond):
    assert "no dispatcher" not in run("status").out
    run("apply", diamond)
    run("trigger", "go", "--key", "batch")
    working.finish(working.next_run(), "failure")
    working.define(event_sets={"some": {"at_least": 2, "of": ["x", "y", "z"]}})
    working.define(rules={"r": {"some": {"activity": AUTO}}})
    run("trigger", "x", "--key", "k1")

    answer = run("status")
    assert answer.code == 0
    assert "7 events, 2 event sets, 6 rules; 2 occurrences" in answer.out
    assert "jobs: 1 failed\n" in answer.out
    assert re.search(r"^d1 +ok +0/4 +process \(2 cores, 8 GiB\)$", answer.out, re.MULTILINE)
    assert "some under k1 waits for 1 of y, z\n" in answer.out
    assert re.search(r"^[0-9a-f]{16} +work +batch", answer.out, re.MULTILINE)

    overview = run("status", "--json").json
    assert [one["key"] for one in overview["waiting"]] == ["k1"]
    assert [one["rule"] for one in overview["failed"]] == ["work"]


def test_the_status_of_a_key_says_what_stands_and_what_is_missing(run, diamond):
    run("apply", diamond)
    assert run("status", "--key", "k").code == 4
    run("trigger", "ns:event:4", "--key", "k")

    answer = run("status", "--key", "k")

    assert "key 'k'\njobs: none\n" in answer.out
    assert re.search(r"^ns:event:4 +\d+$", answer.out, re.MULTILINE)
    assert "ns:event_set:1 under k waits for ns:event:1\n" in answer.out
    assert run("status", "--key", "k", "--json").json["joins"][0]["missing"] == ["ns:event:1"]


def test_a_status_without_a_dispatcher_says_how_to_get_one(run):
    assert "no dispatcher: jobs wait until one comes (cirrus dispatcher)" in run("status").out


def test_a_rule_is_paused_and_resumed(run, working):
    assert run("pause", "work").out == "rule work is paused\n"
    job = run("trigger", "go", "--json").json["verdicts"][0]["job"]
    assert "paused: work (cirrus resume work)" in run("status").out
    assert "rule work is paused: resume it" in run("jobs", job).out

    assert run("resume", "work", "--json").json == {"rule": "work", "paused": False}
    assert working.next_run().job == job


def test_a_reset_asks_first(run, diamond):
    run("apply", diamond)
    run("trigger", "ns:event:4", "--key", "k")

    refused = run("reset", "--key", "k", input="n\n")
    assert refused.code == 1
    assert "Let all events under the key 'k' fall?" in refused.err
    assert run("status", "--key", "k", "--json").json["standing"]

    assert run("reset", "--key", "k", "--namespace", "other", "--yes").code == 0
    assert run("status", "--key", "k", "--json").json["standing"]

    assert (
        run("reset", "--key", "k", input="y\n").out == "nothing stands any more under the key 'k'\n"
    )
    assert run("status", "--key", "k", "--json").json["standing"] == []
    assert run("reset", "--yes", "--json").json["key"] is None


# --- what people see ----------------------------------------------------------------------------


def test_tables_are_aligned_and_cut_to_a_narrow_terminal(capsys, monkeypatch):
    rows = [("a", "日本語"), ("bbb", "x" * 100)]
    table(("ONE", "TWO"), rows)
    assert capsys.readouterr().out == f"ONE  TWO\na    日本語\nbbb  {'x' * 100}\n"

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    table(("ONE", "TWO"), rows)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert lines[2] == f"bbb  {'x' * 14}…"


def test_somebodys_text_cannot_change_the_terminal():
    assert printable("a\x1b[2Jb\nc") == "a·[2Jb·c"
    assert harmless(b"a\x1b[2Jb\x1b[31mred\x1b[0m\x1b]0;title\x07\ttab\r\n\xff") == (
        "ab\x1b[31mred\x1b[0m]0;title\ttab\r\n�".encode()
    )


def test_widths_spans_and_ages_suit_people():
    assert [width(text) for text in ("abc", "日本", "e\u0301")] == [3, 4, 1]
    assert clip("日本語", 5) == "日本…"
    assert [span(seconds) for seconds in (-1, 0.25, 59, 3600, 90_000, 200_000)] == [
        "0.0 s",
        "0.2 s",
        "59 s",
        "60 min",
        "25 h",
        "2 d",
    ]
    assert ago(None) == ""
    assert ago(time.time() - 60) == "60 s"


def test_the_changing_line_is_for_terminals_only(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    live = Live(enabled=True)
    live.show("1 under way")
    live.say("done")
    live.clear()
    assert capsys.readouterr().out.count("\x1b[K") == 2

    live = Live(enabled=False)
    live.show("1 under way")
    live.say("done")
    assert capsys.readouterr().out == "done\n"


# --- up -----------------------------------------------------------------------------------------


def test_a_log_line_says_when_what_and_its_facts(monkeypatch):
    record = logging.makeLogRecord(
        {
            "name": "cirrus.x",
            "levelname": "WARNING",
            "msg": "job\ndispatched",
            "created": 1795438008.25,
            "msecs": 250.0,
            "job": "0a",
            "reason": "no room, yet",
            "sizes": (1, 2),
            "path": Path("/x"),
        }
    )
    assert Lines().format(record) == (
        "2026-11-23T12:46:48.250Z warning job dispatched, job=0a,"
        ' reason="no room, yet", sizes=[1,2], path="/x" (cirrus.x)'
    )

    record.exc_info = (ValueError, ValueError("so"), None)
    assert Lines().format(record).endswith("(cirrus.x)\nValueError: so")

    given = []
    monkeypatch.setattr(logging, "basicConfig", lambda **options: given.append(options["level"]))
    log_to_stderr("debug")
    assert given == ["DEBUG"]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (SetupError("port", "taken"), SetupError),
        (ExceptionGroup("", [ExceptionGroup("", [SetupError("port", "taken")])]), SetupError),
        (ExceptionGroup("", [SetupError("port", "taken"), ValueError()]), ExceptionGroup),
    ],
)
def test_an_error_of_a_service_is_told_without_what_wraps_it(raised, kind):
    async def service():
        raise raised

    with pytest.raises(kind):
        serve._run(service())


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.real
def test_up_serves_until_it_is_interrupted_and_holds_its_data_directory(tmp_path):
    port = free_port()
    arguments = ["up", "--data-dir", tmp_path / "data", "--port", port, "--no-dispatcher"]
    command = [*CIRRUS, *map(str, arguments), "--monitor-port"]
    with subprocess.Popen([*command, str(free_port())], stdout=subprocess.PIPE, text=True) as up:
        try:
            assert up.stdout is not None
            assert up.stdout.readline().startswith(f"Cirrus is up: http://127.0.0.1:{port}, ")
            url = f"http://127.0.0.1:{port}"
            with Client(url, patience_seconds=SECONDS) as client:
                assert client.status().ready
            assert invoke("status", url=url).code == 0

            second = [*CIRRUS, "up", "--data-dir", tmp_path / "data", "--port", str(free_port())]
            answer = subprocess.run(second, capture_output=True, text=True, check=False)
            assert answer.returncode == 5
            assert "another coordinator" in answer.stderr
            assert answer.stderr.count("\n") == 1
        finally:
            up.send_signal(signal.SIGINT)
        assert up.wait(SECONDS) == 0


def test_what_a_file_says_is_found_without_being_named(tmp_path):
    Path(tmp_path, "cirrus.toml").write_text('host = "192.168.0.1"\n')

    answer = invoke("up", "--data-dir", tmp_path)

    assert answer.code == 5
    assert answer.err.startswith(f"error: {tmp_path}/cirrus.toml:1: host: 192.168.0.1 is not")
