"""script/demo, as a person runs it: with an engine, without one, and ended in its middle."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / "script" / "demo")
SECONDS = 240.0


@pytest.fixture
def place():
    """Where the demo's own folder will be. A socket's path must not be long."""
    with tempfile.TemporaryDirectory(prefix="cd-") as path:
        yield Path(path)
        assert leftovers(Path(path)) == ([], [])


def leftovers(place):
    """Folders and programs of the demo."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            commands.append(path.read_bytes())
    return sorted(place.iterdir()), [one for one in commands if str(place).encode() in one]


def play(place, *arguments, **environ):
    return subprocess.run(
        [DEMO, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "CI": "", "TMPDIR": str(place), **environ},
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.timeout(SECONDS)
def test_without_an_engine_it_says_how_to_get_one_and_shows_the_rest(place):
    played = play(place, "--once", DOCKER_HOST="tcp://127.0.0.1:9")

    assert played.returncode == 0, played.stdout + played.stderr
    assert "no Docker Engine answers; `sudo script/engine`" in played.stdout
    assert len(re.findall(r"✓ ns:rule:\d +succeeded", played.stdout)) == 4
    assert "Everything ended as expected." in played.stdout
    assert "\x1b" not in played.stdout


@pytest.mark.genome
@pytest.mark.timeout(SECONDS)
def test_with_an_engine_it_shows_containers_and_the_genome(place):
    played = play(place, "--once")

    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.count("occurred: its job triggered it") == 4
    assert '"contigs": 1' in played.stdout


@pytest.mark.swarm
@pytest.mark.timeout(SECONDS)
def test_on_a_swarm_of_its_own_it_shows_the_same(place):
    played = play(place, "--once", "--swarm")

    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.count("occurred: its job triggered it") == 8


@pytest.mark.timeout(SECONDS)
def test_ctrl_c_in_the_middle_ends_all_that_it_started(place):
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(
        [DEMO],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TMPDIR": str(place)},
        start_new_session=True,
    ) as demo:
        os.close(terminal)
        shown = b""
        deadline = time.monotonic() + SECONDS
        while b"3 \x1b" not in shown and b"\xe2\x96\xb6" not in shown.partition(b"another key")[2]:
            assert time.monotonic() < deadline, shown
            shown += os.read(keyboard, 65536)
        os.killpg(demo.pid, signal.SIGINT)
        try:
            while os.read(keyboard, 65536):
                pass
        except OSError:  # the terminal's other end is closed
            pass
        assert demo.wait(SECONDS) == 130
    os.close(keyboard)
