"""Settings: which place wins, and what is refused in which words."""

from pathlib import Path

import pytest

from cirrus.config import (
    DispatcherSettings,
    Settings,
    default_data_dir,
    read_settings,
)
from cirrus.errors import SetupError


def up(options=None, environ=None, config=None):
    return read_settings(Settings, options or {}, environ or {}, config=config)


@pytest.fixture
def file(tmp_path):
    def write(text, name="some.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_nothing_given_means_the_documented_defaults(tmp_path):
    settings = up({"data_dir": str(tmp_path)})

    assert settings == Settings(data_dir=tmp_path)
    assert (settings.host, settings.port, settings.monitor_port) == ("127.0.0.1", 7000, 3000)
    assert settings.log_keep_bytes == 16 * 2**20
    assert (settings.chain_depth, settings.chain_length) == (10_000, 100_000)


def test_each_later_place_wins_over_the_earlier_ones(file):
    config = file("port = 7001\nmonitor_port = 3001\ncrash_limit = 3\n")
    environ = {"CIRRUS_PORT": "7002", "CIRRUS_MONITOR_PORT": "3002"}

    settings = up({"port": 7003, "host": None}, environ, config)

    assert (settings.port, settings.monitor_port, settings.crash_limit) == (7003, 3002, 3)


def test_the_file_in_the_data_directory_is_read_by_itself(tmp_path, file):
    file("lost_after_seconds = 30\nno_dispatcher = true", "cirrus.toml")

    settings = up(environ={"CIRRUS_DATA_DIR": str(tmp_path)})

    assert settings.lost_after_seconds == 30
    assert settings.no_dispatcher is True


def test_the_file_in_the_data_directory_cannot_move_it(tmp_path, file):
    path = file('\ndata_dir = "/elsewhere"', "cirrus.toml")

    with pytest.raises(SetupError, match=f"{path}:2: data_dir: this file lies in the data"):
        up({"data_dir": tmp_path})


def test_a_path_in_a_file_is_relative_to_the_file(file):
    config = file('data_dir = "state"')

    assert up(config=config).data_dir == config.parent / "state"


def test_an_environment_variable_that_is_empty_counts_as_not_given(tmp_path):
    assert up({"data_dir": tmp_path}, {"CIRRUS_PORT": ""}).port == 7000


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("port = 7000\nprot = 1", r"some\.toml:2: no setting prot; did you mean port\?"),
        ("zzzz = 1", r"some\.toml:1: no setting zzzz; there are data_dir, host, "),
        ("\n[dispacher]", r"some\.toml:2: no setting dispacher; did you mean dispatcher\?"),
        ("port = 1\n[dispatcher]\nnmae = 'a'", r"some\.toml:3: no setting nmae; did you mean name"),
        ("dispatcher = 1", r"some\.toml: dispatcher is a table: \[dispatcher\]"),
        ('port = "7000"', r"some\.toml:1: port: expected int, got str, not '7000'"),
        ("port = 70000", r"some\.toml:1: port: expected int <= 65535, not 70000"),
        ("port = \nslots = 1", r"some\.toml: not TOML: .*line 1"),
        ('host = "0.0.0.0"', r"some\.toml:1: host: 0\.0\.0\.0 is not a loopback address"),
        ('log_level = "loud"', r"some\.toml:1: log_level: invalid enum value 'loud'"),
        ("data_dir = 3", r"some\.toml:1: data_dir: give the path of a folder"),
        ("port = 3000", r"some\.toml:1: port: port and monitor_port are both 3000"),
    ],
)
def test_what_is_wrong_in_a_file_is_refused_with_its_line(file, text, complaint):
    with pytest.raises(SetupError, match=complaint) as refused:
        up(config=file(text))

    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SetupError, match="No such file"):
        up(config=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("options", "environ", "complaint"),
    [
        ({"host": "192.168.1.5"}, {}, r"^--host: 192\.168\.1\.5 is not a loopback address.*tokens"),
        ({"host": "example.org"}, {}, r"^--host: example\.org is not a loopback address"),
        ({}, {"CIRRUS_PORT": "many"}, r"^CIRRUS_PORT: expected int, got str, not 'many'"),
        ({}, {"CIRRUS_MONITR_PORT": "1"}, r"did you mean CIRRUS_MONITOR_PORT\?"),
        ({"dispatch": "tcp://0.0.0.0:7777"}, {}, r"^--dispatch: .* loopback address"),
        ({"dispatch": "7777"}, {}, r"^--dispatch: 7777 is not tcp://ADDRESS:PORT"),
        ({"dispatch": "tcp://127.0.0.1:99999999"}, {}, r"^--dispatch: "),
        ({"data_dir": ""}, {}, r"^--data-dir: give the path of a folder"),
    ],
)
def test_what_is_wrong_elsewhere_is_refused_with_its_name(tmp_path, options, environ, complaint):
    with pytest.raises(SetupError, match=complaint):
        up({"data_dir": tmp_path} | options, environ)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_every_loopback_address_is_accepted(tmp_path, host):
    assert up({"data_dir": tmp_path, "host": host}).host == host


def test_variables_that_others_set_are_left_alone(tmp_path):
    environ = {"CIRRUS_CI": "true", "CIRRUS_URL": "http://x", "CIRRUS_JOB": "1", "CIRRUS_KEY": "k"}

    assert up({"data_dir": tmp_path}, environ) == Settings(data_dir=tmp_path)


def test_a_dispatcher_reads_its_own_table_and_what_holds_for_both(file):
    config = file('port = 1\nslots = 3\nlog_level = "debug"\n[dispatcher]\nname = "big"\nslots = 9')

    settings = read_settings(
        DispatcherSettings, {}, {"CIRRUS_EXECUTORS": "docker,process"}, config=config
    )

    assert (settings.name, settings.slots, settings.log_level) == ("big", 9, "debug")
    assert settings.executors == ("docker", "process")
    assert settings.folder == settings.data_dir / "dispatchers" / "big"
    assert read_settings(Settings, {}, {}, config=config).slots == 3


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": "Big One"}, "--name: 'Big One' cannot name a dispatcher"),
        ({"coordinator": "10.0.0.1:7777"}, "--coordinator: 10.0.0.1:7777 is not tcp://"),
        ({"executors": ["podman"]}, "--executors: invalid enum value 'podman'"),
    ],
)
def test_a_wrong_dispatcher_is_refused(tmp_path, options, complaint):
    with pytest.raises(SetupError, match=complaint):
        read_settings(DispatcherSettings, {"data_dir": tmp_path} | options, {})


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:7777", "tcp://[::1]:7", "ipc:///run/c.sock"])
def test_a_dispatcher_finds_its_coordinator_on_this_machine(tmp_path, address):
    given = {"data_dir": tmp_path, "coordinator": address}

    assert read_settings(DispatcherSettings, given, {}).coordinator == address


def test_a_dispatcher_is_named_after_its_machine(tmp_path):
    settings = read_settings(DispatcherSettings, {"data_dir": tmp_path}, {})

    assert settings.name
    assert settings.coordinator == ""


def test_the_data_directory_is_the_systems_for_root_and_ones_own_for_others(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_data_dir({"XDG_STATE_HOME": "/state"}) == "/var/lib/cirrus"

    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_data_dir({"XDG_STATE_HOME": "/state"}) == "/state/cirrus"
    assert default_data_dir({"XDG_STATE_HOME": "relative"}) == "~/.local/state/cirrus"
    monkeypatch.setenv("HOME", "/home/ada")
    assert up().data_dir == Path("/home/ada/.local/state/cirrus")
