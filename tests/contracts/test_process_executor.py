"""What only processes promise. What they share with containers is in test_executors.py."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.executing import Bench, bench

from cirrus.core.model import Process
from cirrus.errors import StartRefused
from cirrus.executors import process
from cirrus.executors.process import USUAL_PATH, ProcessExecutor

BOOT = process.BOOT_ID.read_text().strip()


@pytest.fixture
async def on(tmp_path: Path) -> AsyncIterator[Bench]:
    environ = {"PATH": USUAL_PATH, "SECRET": "hidden"}
    async with bench(lambda *_: ProcessExecutor(tmp_path, environ), tmp_path) as opened:
        yield opened


def shell(text: str, **env: str) -> Process:
    return Process(("sh", "-c", text), env)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def exists(pid: int) -> bool:
    """Zombies included."""
    return Path(f"/proc/{pid}").exists()


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def line_of(path: Path) -> str:
    await until(lambda: text_of(path).endswith("\n"))
    return text_of(path).strip()


def own(on: Bench) -> ProcessExecutor:
    assert isinstance(on.executor, ProcessExecutor)
    return on.executor


# --- what a command gets ------------------------------------------------------------------------


async def test_the_environment_is_clean(on: Bench):
    order = on.order(Process(("env",), {"MINE": "1"}), RULE_ID="r")
    await on.run(order)
    names = {line.partition("=")[0] for line in (await on.log(order)).decode().splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH",
        "HOME",
        "LANG",
        "MINE",
        "RULE_ID",
        "CIRRUS_DIR",
    }


async def test_a_command_that_the_shell_knows_by_itself_is_the_program(on: Bench):
    order = on.order(Process(("echo", "-e", "a\\tb")))  # dash's own echo would print the -e
    await on.run(order)
    assert await on.log(order) == b"a\tb\n"


async def test_its_standard_input_is_empty_and_nothing_else_is_open(on: Bench):
    order = on.order(shell("cat; ls /proc/$$/fd"))
    await on.run(order)
    assert (await on.log(order)).split() == [b"0", b"1", b"2"]


async def test_no_signal_is_ignored_or_held_back(on: Bench):
    order = on.order(Process(("grep", "Sig[BI]", "/proc/self/status")))
    await on.run(order)
    masks = [int(line.split()[1], 16) for line in (await on.log(order)).splitlines()]
    ours = sum(1 << number - 1 for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM))
    assert [mask & ours for mask in masks] == [0, 0]


async def test_it_leads_a_session_of_its_own(on: Bench):
    order = on.order(shell("cut -d' ' -f6 /proc/self/stat"))
    await on.run(order)
    assert int(await on.log(order)) != os.getsid(0)


async def test_a_relative_command_is_looked_for_in_the_working_directory(on: Bench, tmp_path: Path):
    script = tmp_path / "tools" / "hello"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho hello $1\n")
    script.chmod(0o755)
    order = on.order(Process(("./hello", "you"), workdir=str(script.parent)))
    await on.run(order)
    assert await on.log(order) == b"hello you\n"


# --- what is never started ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activity", "words"),
    [
        (Process(("no-such-program",)), "no-such-program: there is no such program on the PATH"),
        (Process(("/etc/passwd",)), "/etc/passwd: there is no such program"),
        (Process(("./nothing",)), "nothing: there is no such program in "),
        (Process(("/tmp",)), "/tmp: there is no such program"),
        (Process(("true",), workdir="/no/such/folder"), "workdir /no/such/folder: there is no"),
        (Process(("true", "x" * 200_000)), "Argument list too long"),
        (Process(("true", "a\0b")), "cannot be passed on: embedded null"),
        (Process(("true",), {"A": "\ud800"}), "cannot be passed on"),
    ],
)
async def test_what_cannot_be_started_is_refused_in_words(on: Bench, activity: Process, words: str):
    order = on.order(activity)
    with pytest.raises(StartRefused, match=words):
        await on.begin(order)


async def test_a_script_whose_interpreter_is_missing_fails_with_127(on: Bench, tmp_path: Path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    order = on.order(Process((str(script),)))
    assert (await on.run(order)).exit_code == 127
    assert b"not found" in await on.log(order)


# --- stopping -----------------------------------------------------------------------------------


async def test_a_daemon_that_a_deaf_command_made_is_killed_too(on: Bench):
    order = on.order(
        shell(
            "trap '' TERM; cd $CIRRUS_DIR;"
            " setsid sh -c \"trap '' TERM; echo $$ >daemon; while :; do sleep 0.1; done\" &"
            " while :; do sleep 0.1; done"
        )
    )
    await on.begin(order)
    await line_of(on.folder(order) / "io" / "daemon")
    await on.executor.stop(order.name, 0.2)
    assert (await on.until(order, "exited")).exit_code == 137
    assert own(on)._belonging(order.name).find() == {}


async def test_what_a_command_leaves_in_its_group_ends_with_it(on: Bench):
    order = on.order(shell("cd $CIRRUS_DIR; sh -c 'echo $$ >left; sleep 60' & sleep 0.3"))
    await on.begin(order)
    left = int(await line_of(on.folder(order) / "io" / "left"))
    assert (await on.until(order, "exited")).exit_code == 0
    await until(lambda: not alive(left))


async def test_so_it_is_when_an_earlier_dispatcher_started_it(on: Bench):
    order = on.order(shell("cd $CIRRUS_DIR; sh -c 'echo $$ >left; sleep 60' & cat fifo"))
    fifo = on.folder(order) / "io" / "fifo"
    os.mkfifo(fifo)
    await on.begin(order)
    left = int(await line_of(fifo.parent / "left"))
    await on.executor.close()
    on.executor = on.make()
    await on.until(order, "running")
    fifo.write_text("")
    assert (await on.until(order, "exited")).exit_code == 0
    await until(lambda: not alive(left))


async def test_what_a_stopped_command_leaves_has_the_rest_of_the_grace(on: Bench):
    child = "trap 'echo saved; exit' TERM; echo ready; while :; do sleep 0.05; done"
    order = on.order(shell(f'cd $CIRRUS_DIR; sh -c "{child}" >child & cat fifo'))
    os.mkfifo(on.folder(order) / "io" / "fifo")
    await on.begin(order)
    await line_of(on.folder(order) / "io" / "child")
    await on.executor.stop(order.name, 20.0)
    assert (on.folder(order) / "io" / "child").read_text() == "ready\nsaved\n"


async def test_stopping_touches_nothing_else(on: Bench):
    other = on.order(shell("sleep 30"))
    order = on.order(shell("sleep 30"))
    await on.begin(other)
    await on.begin(order)
    await on.executor.stop(order.name, 5.0)
    assert (await on.until(order, "exited")).exit_code == 143
    assert (await on.until(other, "running")).exit_code is None


# --- what is found again ------------------------------------------------------------------------


async def test_a_shim_that_was_killed_leaves_no_exit_code(on: Bench):
    order = on.order(shell("sleep 30"))
    await on.begin(order)
    os.kill(own(on)._watched[order.name].pid, signal.SIGKILL)
    sighting = await on.until(order, "exited")
    assert sighting.exit_code is None
    assert "vanished" in sighting.problem


async def ended_and_stopped(on: Bench, line: str) -> None:
    """An attempt whose shim has left this line is found ended; stopping it touches nobody."""
    order = on.order(shell("true"))
    (on.folder(order) / "process" / "shim").write_text(line)
    sighting = await on.seen(order)
    assert sighting is not None
    assert (sighting.state, sighting.exit_code) == ("exited", None)
    await on.executor.stop(order.name, 0.1)


@pytest.mark.parametrize("boot", [BOOT, "another-boot"])
async def test_a_process_that_got_the_number_of_a_dead_shim_is_not_taken_for_it(
    on: Bench, boot: str
):
    stranger = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    try:
        await ended_and_stopped(on, f"{boot} 1.0 {stranger.pid}\n")
        assert alive(stranger.pid)
    finally:
        stranger.kill()
        await stranger.wait()


async def test_after_a_reboot_nothing_runs_any_more(on: Bench):
    order = on.order(shell("sleep 30"))
    await on.begin(order)
    note = on.folder(order) / "process" / "shim"
    line = await line_of(note)
    note.write_text(line.replace(BOOT, "another-boot") + "\n")
    await on.executor.close()
    on.executor = on.make()
    sighting = await on.until(order, "exited")
    assert sighting.exit_code is None


async def test_a_claim_that_is_not_whole_counts_as_running_only_for_a_while(on: Bench):
    order = on.order(shell("true"))
    note = on.folder(order) / "process" / "shim"
    note.write_text("")
    assert (await on.until(order, "running")).exit_code is None
    os.utime(note, (0, 1))
    assert (await on.until(order, "exited")).exit_code is None


async def test_of_two_shims_for_one_attempt_only_one_runs_the_command(on: Bench):
    order = on.order(shell("echo ran >>$CIRRUS_DIR/marks; cat $CIRRUS_DIR/fifo; exit 4"))
    os.mkfifo(on.folder(order) / "io" / "fifo")
    for _ in range(5):  # as dispatchers that die right after the start, and know nothing of it
        executor = on.make()
        await executor.start(order, on.folder(order))
        await executor.close()
    await line_of(on.folder(order) / "io" / "marks")
    await on.until(order, "running")
    (on.folder(order) / "io" / "fifo").write_text("")
    assert (await on.until(order, "exited")).exit_code == 4
    assert (on.folder(order) / "io" / "marks").read_text() == "ran\n"


async def test_a_shim_that_cannot_write_runs_nothing(on: Bench):
    order = on.order(shell("echo ran >$CIRRUS_DIR/marks"))
    on.folder(order).joinpath("process").rmdir()
    await on.executor.start(order, on.folder(order))
    sighting = await on.until(order, "exited")
    assert sighting.exit_code is None
    assert not (on.folder(order) / "io" / "marks").exists()


async def test_what_is_no_attempt_of_this_kind_is_not_seen(on: Bench, tmp_path: Path):
    (tmp_path / "cirrus-a-container-1" / "docker").mkdir(parents=True)
    (tmp_path / "a file").write_text("")
    assert await on.executor.look() == []


async def test_nothing_is_left_of_what_has_ended_and_is_put_away(on: Bench, tmp_path: Path):
    order = on.order(Process(("true",)))
    descriptors = open_descriptors()
    await on.begin(order)
    shim = own(on)._watched[order.name].pid
    await on.until(order, "exited")
    assert not exists(shim)
    assert open_descriptors() == descriptors
    on.folder(order).rename(tmp_path.parent / "elsewhere")
    assert await on.executor.look() == []
    assert own(on)._watched == {}
