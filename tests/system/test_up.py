"""`cirrus up`, as a person runs it: started, ended, killed, beside another, without room."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from tests.running import Up, free_port, until

from cirrus.errors import CirrusError

AUTO = {"cmd": "__auto_trigger__"}


def cirrus(*arguments):
    command = [sys.executable, "-m", "cirrus", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_it_serves_within_two_seconds_and_ctrl_c_ends_it(tmp_path):
    up = Up(tmp_path / "data", "--no-dispatcher")
    began = time.monotonic()
    up.launch()
    until(up.serving)
    assert time.monotonic() - began < 2.0
    assert requests.get(f"http://127.0.0.1:{up.monitor_port}/", timeout=5).ok
    assert requests.get(f"http://127.0.0.1:{up.monitor_port}/v1/status", timeout=5).ok
    assert up.end() == 0
    assert "Traceback" not in up.log.read_text()


def test_two_live_side_by_side(tmp_path):
    with Up(tmp_path / "one") as one, Up(tmp_path / "two") as two:
        for up in (one, two):
            up.client.apply(
                rules={
                    "side:rule": {
                        "side:go": {
                            "activity": {"task_type": "process", "cmd": "true"},
                            "triggering": "side:done",
                        }
                    }
                }
            )
        one.client.trigger("side:go", key="one")
        two.client.trigger("side:go", key="two")
        for up, key in ((one, "one"), (two, "two")):
            up.client.wait_for_key(key, timeout_seconds=20)
            assert [job.key for job in up.client.jobs()] == [key]


def test_a_data_directory_has_one_coordinator(tmp_path):
    with Up(tmp_path / "data", "--no-dispatcher") as up:
        ports = ("--port", free_port(), "--monitor-port", free_port())
        second = cirrus("up", "--data-dir", up.data_dir, *ports)
        assert second.returncode == 5
        assert len(second.stderr.splitlines()) == 1
        assert str(up.process.pid) in second.stderr
        assert up.client.status().ready


def test_a_taken_port_is_one_clear_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        second = cirrus("up", "--data-dir", tmp_path, "--port", port, "--monitor-port", free_port())
    assert second.returncode == 5
    assert len(second.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}" in second.stderr


def test_after_sigkill_of_everything_the_same_command_goes_on(tmp_path):
    release = tmp_path / "release"
    script = f"echo run >> {tmp_path}/runs; while [ ! -e {release} ]; do sleep 0.05; done"
    with Up(tmp_path / "data") as up:
        up.client.apply(
            event_sets={"on:both": ["on:left", "on:right"]},
            rules={
                "on:work": {
                    "on:go": {
                        "activity": {"task_type": "process", "cmd": ["bash", "-c", script]},
                        "triggering": "on:left",
                    }
                },
                "on:join": {"on:both": {"activity": AUTO, "triggering": "on:done"}},
            },
        )
        up.client.trigger("on:right")
        up.client.trigger("on:go")
        until(lambda: next(up.client.jobs(rule="on:work")).state == "running")
        for kill in (up.kill_everything, up.kill_coordinator):
            kill()
            up.start()
        up.kill_dispatcher()
        release.touch()
        until(lambda: [job.state for job in up.client.jobs(rule="on:join")] == ["succeeded"])
        [work] = up.client.jobs(rule="on:work")
        assert (work.state, work.attempt) == ("succeeded", 1)
        assert (tmp_path / "runs").read_text() == "run\n"


def test_acknowledged_occurrences_survive_sigkill(tmp_path):
    acknowledged: list[int] = []
    with Up(tmp_path / "data", "--no-dispatcher") as up:
        up.client.apply(rules={"ack:rule": {"ack:go": {"activity": AUTO, "triggering": "ack:on"}}})
        for turn in range(5):
            killed_at = len(acknowledged) + 60
            for number in range(100):
                try:
                    answer = requests.post(
                        f"{up.url}/r/event/ack:go",
                        json={"action": "trigger", "key": f"{turn}-{number}"},
                        timeout=5,
                    )
                except requests.ConnectionError:
                    break
                assert answer.ok
                acknowledged.append(turn * 1000 + number)
                if len(acknowledged) == killed_at:
                    os.kill(up.process.pid, signal.SIGKILL)
            up.process.wait(10)
            up.start()
        fired = [job.key for job in up.client.jobs(rule="ack:rule")]
        assert len(fired) == len(set(fired))
        assert {f"{one // 1000}-{one % 1000}" for one in acknowledged} <= set(fired)


def test_work_goes_to_a_second_dispatcher_that_has_room(tmp_path):
    with Up(tmp_path / "data", "--no-dispatcher") as up:
        names = ("first", "second")
        command = [sys.executable, "-m", "cirrus", "dispatcher", "--data-dir", str(up.data_dir)]
        options = ["--executor", "process", "--slots", "1"]
        with up.log.open("ab") as log:
            programs = [
                subprocess.Popen([*command, "--name", name, *options], stdout=log, stderr=log)
                for name in names
            ]
        try:
            release = tmp_path / "release"
            script = f"while [ ! -e {release} ]; do sleep 0.05; done"
            activity = {"task_type": "process", "cmd": ["bash", "-c", script]}
            until(lambda: {d.name for d in up.client.dispatchers() if d.connected} == set(names))
            up.client.apply(
                rules={f"room:{n}": {"room:go": {"activity": activity}} for n in range(3)}
            )
            up.client.trigger("room:go")
            until(lambda: [job.state for job in up.client.jobs()].count("running") == 2)
            running = [job for job in up.client.jobs() if job.state == "running"]
            assert {job.dispatcher for job in running} == set(names)
            assert [job.state for job in up.client.jobs()].count("triggered") == 1
            release.touch()
            until(lambda: all(job.state == "succeeded" for job in up.client.jobs()))
        finally:
            for program in programs:
                program.terminate()
            assert [program.wait(20) for program in programs] == [0, 0]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_answers_507_and_recovers_by_itself(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "cirrus-test", disk], check=True)
    try:
        with Up(disk / "data", "--no-dispatcher") as up:
            up.client.apply(rules={"full:rule": {"full:go": {"activity": AUTO}}})
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
            body = {"action": "trigger", "data": {"text": "x" * 60_000}}
            acknowledged = 0

            def refused():
                nonlocal acknowledged
                answer = requests.post(
                    f"{up.url}/r/event/full:go", json={**body, "key": str(acknowledged)}, timeout=10
                )
                acknowledged += answer.ok
                return () if answer.ok else (answer,)

            (answer,) = until(refused)
            assert answer.status_code == 507
            assert answer.json()["code"] == "storage_full"
            assert up.client.status().ready
            assert len(list(up.client.jobs())) == acknowledged
            filler.unlink()
            up.client.trigger("full:go", key="after")
            assert len(list(up.client.jobs())) == acknowledged + 1
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_host_other_than_loopback_is_refused(tmp_path):
    refused = cirrus("up", "--data-dir", tmp_path, "--host", "0.0.0.0")
    assert refused.returncode == 5
    assert "0.0.0.0" in refused.stderr


def test_the_seeds_scripts_run_as_they_stand(tmp_path):
    examples = Path(__file__).parents[2] / "examples" / "seed"
    with Up(tmp_path / "data", "--no-dispatcher") as up:
        environ = {**os.environ, "CIRRUS_URL": up.url}
        for script in ("register.py", "trigger.py"):
            command = [sys.executable, str(examples / script)]
            ran = subprocess.run(
                command, env=environ, capture_output=True, text=True, timeout=30, check=False
            )
            assert ran.returncode == 0, ran.stderr
        states = requests.get(f"{up.url}/q/queue:rule_state", timeout=5).json()
        assert {entry["rule"] for entry in states} == {f"ns:rule:{n}" for n in range(1, 5)}


def test_the_clients_errors_say_what_to_do(tmp_path):
    with Up(tmp_path / "data", "--no-dispatcher") as up:
        up.client.apply(events={"typo:ready": {}})
        with pytest.raises(CirrusError, match="did you mean typo:ready"):
            up.client.trigger("typo:raedy")
