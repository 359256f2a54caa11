"""script/demo, as a person runs it: with an engine, without one, and ended in its middle."""

import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / "script" / "demo")
SECONDS = 240.0


def leftovers():
    """Folders and programs of a demo."""
    commands = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    return list(Path("/tmp").glob("cirrus-demo-*")), [
        command for command in commands if b"/tmp/cirrus-demo-" in command
    ]


def play(*arguments, **environ):
    return subprocess.run(
        [DEMO, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "CI": "", **environ},
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.timeout(SECONDS)
def test_without_an_engine_it_says_how_to_get_one_and_shows_the_rest():
    played = play("--once", DOCKER_HOST="tcp://127.0.0.1:9")

    assert played.returncode == 0, played.stdout + played.stderr
    assert "no Docker Engine answers; `sudo script/engine`" in played.stdout
    assert len(re.findall(r"✓ ns:rule:\d +succeeded", played.stdout)) == 4
    assert "Everything ended as expected." in played.stdout
    assert "\x1b" not in played.stdout
    assert leftovers() == ([], [])


@pytest.mark.genome
@pytest.mark.timeout(SECONDS)
def test_with_an_engine_it_shows_containers_and_the_genome():
    played = play("--once")

    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.count("occurred: its job triggered it") == 4
    assert '"contigs": 1' in played.stdout
    assert leftovers() == ([], [])


@pytest.mark.swarm
@pytest.mark.timeout(SECONDS)
def test_on_a_swarm_of_its_own_it_shows_the_same():
    played = play("--once", "--swarm")

    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.count("occurred: its job triggered it") == 8
    assert leftovers() == ([], [])


@pytest.mark.timeout(SECONDS)
def test_ctrl_c_in_the_middle_ends_all_that_it_started():
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(
        [DEMO], stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
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
    assert leftovers() == ([], [])
