"""`doctor`: what it finds on a machine, by example; and its answer on this one."""

import json
import os
import resource
import socket
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner
from tests.contracts.http_world import World

from cirrus.cli import cirrus, doctor, machine
from cirrus.cli.doctor import _Info, _Swarm
from cirrus.cli.machine import Check
from cirrus.errors import EngineAway


def one(checks):
    (check,) = checks
    return check


def levels(checks):
    return {check.name: check.level for check in checks}


def test_the_programs_of_this_environment_are_sound():
    assert levels(machine.programs()) == {"python": "ok", "sqlite": "ok", "libzmq": "ok"}


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("3.40.1", "bad"),
        ("3.44.6", "ok"),
        ("3.45.0", "bad"),
        ("3.50.6", "bad"),
        ("3.50.7", "ok"),
        ("3.51.2", "bad"),
        ("3.51.3", "ok"),
        ("3.54.1", "ok"),
    ],
)
def test_an_sqlite_that_can_damage_a_database_is_bad(monkeypatch, version, level):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)

    check = next(check for check in machine.programs() if check.name == "sqlite")

    assert check.level == level
    assert ("apsw" in check.mend) == (level == "bad")


def test_a_data_directory_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "data"
    assert "will be made" in next(iter(machine.data_directory(path))).text

    path.mkdir(mode=0o700)
    assert levels(machine.data_directory(path))["data"] == "ok"

    path.chmod(0o755)
    check = next(iter(machine.data_directory(path)))
    assert (check.level, check.mend) == ("bad", f"chmod 700 {path}")

    file = tmp_path / "file"
    file.touch()
    assert levels(machine.data_directory(file))["data"] == "bad"


def test_a_data_directory_whose_socket_would_have_too_long_a_path_is_bad(tmp_path):
    check = next(iter(machine.data_directory(tmp_path / ("x" * 120))))

    assert check.level == "bad"
    assert "too long" in check.text


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/x /data/with\\040space nfs4 rw 0 0
/dev/sdb1 /data ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/tmp/x", "tmpfs"),
        ("/data/with space/x", "nfs4"),
        ("/data/with", "ext4"),
        ("/", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount_point(path, kind):
    assert machine.file_system(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(("kind", "level"), [("ext4", "ok"), ("tmpfs", "warn"), ("nfs4", "bad")])
def test_a_database_is_for_local_disks(monkeypatch, tmp_path, kind, level):
    monkeypatch.setattr(machine, "file_system", lambda *_: kind)

    assert levels(machine.data_directory(tmp_path))["file system"] == level


@pytest.mark.parametrize(("free", "level"), [(2**40, "ok"), (2**28, "warn"), (2**20, "bad")])
def test_a_disk_without_room_is_told(monkeypatch, tmp_path, free, level):
    class Usage:
        def __init__(self, _):
            self.free = free

    monkeypatch.setattr("shutil.disk_usage", Usage)

    assert levels(machine.data_directory(tmp_path))["disk"] == level


def test_a_port_that_is_taken_names_who_has_it():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        check = machine.port("port", "127.0.0.1", number, "--port")

        assert check.level == "bad"
        assert f"is taken by process {os.getpid()} (" in check.text
        assert machine.is_listening(number)

    assert machine.port("port", "127.0.0.1", number, "--port").level == "ok"
    assert not machine.is_listening(number)
    assert machine.holder(number) is None


def test_addresses_of_this_machine_are_told_from_others():
    assert machine.has_address("127.0.0.1")
    assert not machine.has_address("203.0.113.1")
    assert not machine.has_address("")


@pytest.mark.parametrize(("files", "level"), [(100, "bad"), (1024, "warn"), (65536, "ok")])
def test_too_few_open_files_are_told(monkeypatch, files, level):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))

    assert levels(machine.limits())["open files"] == level


def test_a_clock_is_told_by_the_kernel(monkeypatch):
    for state, level in ((0, "ok"), (5, "warn")):

        class Library:
            def __init__(self, _, state=state):
                self.adjtimex = lambda _: state

        monkeypatch.setattr("ctypes.CDLL", Library)
        assert machine.clock().level == level


def engine(monkeypatch, info, gateway=None):
    async def ask():
        if isinstance(info, Exception):
            raise info
        return info, gateway

    monkeypatch.setattr(doctor, "_ask_engine", ask)
    return list(doctor._engine())


def test_an_engine_that_is_away_is_a_warning_with_its_cure(monkeypatch):
    check = one(engine(monkeypatch, EngineAway("/var/run/docker.sock", "it does not answer")))
    assert (check.level, "script/engine" in check.mend) == ("warn", True)

    check = one(engine(monkeypatch, EngineAway("/var/run/docker.sock", "Permission denied")))
    assert "usermod -aG docker" in check.mend


def test_an_engine_is_described_with_its_swarm_and_its_job_network(monkeypatch):
    monkeypatch.setattr(machine, "is_listening", lambda number: number == 2375)
    manager = _Swarm("active", is_manager=True)
    checks = engine(monkeypatch, _Info("20.10", limits_memory=False, swarm=manager), "127.0.0.1")

    assert [(check.name, check.level) for check in checks] == [
        ("engine", "ok"),
        ("engine", "warn"),
        ("swarm", "ok"),
        ("job network", "ok"),
        ("engine", "bad"),
    ]
    checks = engine(monkeypatch, _Info("20.10", swarm=_Swarm("active")), "203.0.113.1")
    assert levels(checks)["swarm"] == "warn"
    assert levels(checks)["job network"] == "bad"
    checks = engine(monkeypatch, _Info("20.10", live_restore=False))
    assert "live-restore" in checks[1].text
    assert levels(checks)["job network"] == "ok"


def test_the_answer_is_a_table_or_json_and_bad_things_fail_it(tmp_path, monkeypatch):
    with World(tmp_path) as world:
        environ = {"CIRRUS_URL": world.url, "NO_COLOR": "1"}
        data = tmp_path / "data"
        asked = ["doctor", "--data-dir", str(data)]
        answer = CliRunner().invoke(cirrus, asked, env=environ)
        assert f"{world.url} answers, version" in answer.stdout
        assert answer.exit_code == 0

        data.mkdir(mode=0o755)
        answer = CliRunner().invoke(cirrus, [*asked, "--json"], env=environ)
        found = json.loads(answer.stdout)
        assert answer.exit_code == 1
        assert found["ok"] is False
        assert {"name": "data", "level": "bad"}.items() <= found["checks"][3].items()
        answer = CliRunner().invoke(cirrus, asked, env=environ)
        assert f"mend: chmod 700 {data}" in answer.stdout

    monkeypatch.setattr(machine, "port", lambda name, *_: Check(name, "ok", "free"))
    answer = CliRunner().invoke(cirrus, asked, env=environ)
    assert "no coordinator answers" in answer.stdout
    assert "mend: cirrus up" in answer.stdout
