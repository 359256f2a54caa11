"""A real dispatcher with real processes: killed, started again, flooded, disobeyed."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from tests.dispatching import order, until

from cirrus import wire
from cirrus.core.messages import (
    Accepted,
    Ended,
    Hello,
    LogRead,
    Order,
    Outcome,
    ReadLog,
    Report,
    Run,
    Settled,
    Started,
    Stop,
)
from cirrus.core.model import Limits, Process

MIB = 1024 * 1024
KEEP = 4 * MIB
R = TypeVar("R", bound=Report)


class Program:
    """A dispatcher in a process of its own, and what it has said so far."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.reports: list[Report] = []

    async def start(self, *options: str) -> None:
        self.reports.clear()
        self.process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "tests.system_dispatcher",
                str(self.state),
                str(KEEP),
                *options,
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=64 * MIB,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._listening = asyncio.create_task(self._listen())
        await self.first(Hello)

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if line.endswith(b"\n"):
                self.reports += wire.decode_reports(bytes.fromhex(line.decode()))

    async def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        await self.process.wait()
        await self._listening

    def give(self, *orders: Order) -> None:
        assert self.process.stdin is not None
        for data in wire.encode_orders(orders):
            self.process.stdin.write(data.hex().encode() + b"\n")

    def said(self, kind: type[R], job: str = "") -> list[R]:
        every = [report for report in self.reports if isinstance(report, kind)]
        return [report for report in every if not job or getattr(report, "job", "") == job]

    async def first(self, kind: type[R], job: str = "") -> R:
        await until(lambda: self.said(kind, job))
        return self.said(kind, job)[0]

    async def outcome_of(self, job: str) -> Outcome:
        return (await self.first(Ended, job)).outcome

    async def log_of(self, job: str, offset: int = 0, length: int = MIB) -> LogRead:
        self.give(ReadLog(len(self.reports), job, 1, offset, length))
        count = len(self.said(LogRead))
        await until(lambda: len(self.said(LogRead)) > count)
        return self.said(LogRead)[-1]

    def io(self, job: str) -> Path:
        return self.state / "attempts" / order(job).name / "io"


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    program = Program(tmp_path / "state")
    await program.start()
    try:
        yield program
    finally:
        for attempt in (tmp_path / "state" / "attempts").iterdir():
            _end(attempt)
        with contextlib.suppress(ProcessLookupError):
            await program.end()


def _end(attempt: Path) -> None:
    note = attempt / "process" / "shim"
    words = note.read_text().split() if note.exists() else []
    if len(words) > 2:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(words[2]), signal.SIGKILL)


def shell(text: str, **limits: float) -> Process:
    return Process(("sh", "-c", f"cd $CIRRUS_DIR; {text}"), limits=Limits(**limits))  # type: ignore[arg-type]


def processes_of(state: Path) -> set[int]:
    """Those whose environment names this folder, the dispatcher's own not."""
    return {
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _names(path, f"CIRRUS_DIR={state}".encode())
    }


def _names(path: Path, text: bytes) -> bool:
    try:
        return text in (path / "environ").read_bytes()
    except OSError:
        return False


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def process_run(job: str, text: str, **limits: float) -> Run:
    return order(job, activity=shell(text, **limits))


# --- killed and started again -------------------------------------------------------------------


async def test_a_process_runs_once_and_its_exit_code_is_collected(program: Program):
    program.give(process_run("a", "mkfifo fifo; echo ran >>marks; cat fifo; exit 7"))
    program.give(process_run("b", "echo ran >>marks; exit 8"))
    await program.first(Started, "a")
    await until((program.io("a") / "fifo").exists)
    await until(lambda: lines_of(program.io("b") / "marks"))
    await program.end()
    await program.start()
    assert await program.outcome_of("b") == Outcome("failure", 8, "exit code 8")
    started = await program.first(Started, "a")
    assert abs(started.time - time.time()) < 60
    (program.io("a") / "fifo").write_text("")
    assert await program.outcome_of("a") == Outcome("failure", 7, "exit code 7")
    assert lines_of(program.io("a") / "marks") == ["ran"]
    assert lines_of(program.io("b") / "marks") == ["ran"]


async def test_what_ends_while_nobody_is_there_is_found_ended(program: Program):
    program.give(process_run("a", "mkfifo fifo; echo ran >>marks; cat fifo; exit 7"))
    await program.first(Started)
    await until((program.io("a") / "fifo").exists)
    await until(lambda: lines_of(program.io("a") / "marks"))
    await program.end()
    (program.io("a") / "fifo").write_text("")
    await until(lambda: not processes_of(program.state))
    await program.start()
    ended = await program.first(Ended)
    assert ended.outcome.exit_code == 7
    assert ended.started is not None
    assert ended.finished is not None
    assert ended.started <= ended.finished
    assert lines_of(program.io("a") / "marks") == ["ran"]


@pytest.mark.parametrize("delay_seconds", [0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.05])
async def test_killed_at_any_moment_it_starts_nothing_twice(program: Program, delay_seconds: float):
    jobs = [f"job{number}" for number in range(8)]
    orders = [process_run(job, "echo ran >>marks; exit 3") for job in jobs]
    program.give(*orders)
    await asyncio.sleep(delay_seconds)
    await program.end()
    await program.start()
    program.give(*orders)  # as the coordinator does, when it did not hear that they are accepted
    outcomes = [await program.outcome_of(job) for job in jobs]
    assert {outcome.exit_code for outcome in outcomes} == {3}
    assert {len(lines_of(program.io(job) / "marks")) for job in jobs} == {1}


async def test_ended_kindly_it_leaves_what_runs(program: Program):
    program.give(process_run("a", "mkfifo fifo; cat fifo"))
    await program.first(Started)
    await until((program.io("a") / "fifo").exists)
    await program.end(signal.SIGTERM)
    assert program.process.returncode == 0
    assert processes_of(program.state)
    await program.start()
    await program.first(Started)
    (program.io("a") / "fifo").write_text("")
    assert await program.outcome_of("a") == Outcome("success", 0)


async def test_told_so_it_ends_with_its_parent(program: Program):
    await program.end()
    await program.start("--with-parent")
    assert program.process.stdin is not None
    program.process.stdin.write(b"whatever")
    program.process.stdin.close()
    async with asyncio.timeout(20):
        assert await program.process.wait() == 0


async def test_a_shim_that_was_killed_is_unknown(program: Program):
    program.give(process_run("a", "sleep 60"))
    await program.first(Started)
    note = program.io("a").parent / "process" / "shim"
    await until(lambda: lines_of(note))
    os.killpg(int(lines_of(note)[0].split()[2]), signal.SIGKILL)
    outcome = await program.outcome_of("a")
    assert (outcome.kind, outcome.exit_code) == ("unknown", None)


# --- stopped ------------------------------------------------------------------------------------

DEAF = "trap '' TERM; echo deaf >marks; while :; do sleep 0.05; done"


@pytest.mark.parametrize("why", ["cancelled", "timeout"])
async def test_a_process_that_is_deaf_to_term_is_killed_with_all_its_children(
    program: Program, why
):
    program.give(process_run("a", f'setsid sh -c "{DEAF}" & {DEAF}', grace_seconds=0.3))
    await until(lambda: lines_of(program.io("a") / "marks"))
    program.give(Stop("a", 1, why))
    assert await program.outcome_of("a") == Outcome(why, 137, "stopped by Cirrus")
    assert processes_of(program.state) == set()


async def test_a_stop_goes_on_after_a_restart(program: Program):
    program.give(process_run("a", DEAF, grace_seconds=1.0))
    await until(lambda: lines_of(program.io("a") / "marks"))
    program.give(Stop("a", 1))
    await until((program.io("a").parent / "stop").exists)
    await program.end()
    assert processes_of(program.state)
    await program.start()
    assert (await program.outcome_of("a")).kind == "cancelled"
    assert processes_of(program.state) == set()


async def test_a_timeout_stops_a_process(program: Program):
    program.give(process_run("a", "sleep 60", timeout_seconds=0.3))
    assert await program.outcome_of("a") == Outcome("timeout", 143, "stopped by Cirrus")
    assert processes_of(program.state) == set()


# --- what a process leaves ----------------------------------------------------------------------


async def test_an_output_comes_with_the_end(program: Program):
    program.give(process_run("a", "echo '{\"n\": 1}' >output.json"))
    ended = await program.first(Ended)
    assert (ended.outcome, ended.output) == (Outcome("success", 0), b'{"n": 1}\n')


@pytest.mark.parametrize(
    "text",
    [
        "echo garbage >output.json",
        "ln -s /etc/passwd output.json",
        "mkfifo output.json",
        "mkdir output.json",
        "head -c 70000 /dev/zero >output.json",
    ],
)
async def test_an_output_of_garbage_refuses_the_success(program: Program, text: str):
    program.give(process_run("a", text))
    outcome = await program.outcome_of("a")
    assert (outcome.kind, outcome.exit_code) == ("refused", 0)
    assert outcome.reason.startswith("output.json ")


async def test_what_can_never_be_started_is_refused(program: Program):
    program.give(order("a", activity=Process(("no-such-program",))))
    outcome = await program.outcome_of("a")
    assert outcome.kind == "refused"
    assert "no-such-program" in outcome.reason


async def test_a_flood_of_output_is_kept_within_its_cap_and_read_at_its_offsets(program: Program):
    text = "yes 0123456789abcde | head -c 67108864; cat fifo; echo the end"
    program.give(process_run("a", f"mkfifo fifo; {text}"))
    await program.first(Started)
    log = program.io("a").parent / "log"
    await until(lambda: log.exists() and log.stat().st_size == 64 * MIB)
    await until(lambda: log.stat().st_blocks * 512 <= KEEP + 2 * MIB)
    head = await program.log_of("a", 0)
    assert (head.offset, head.size, len(head.content)) == (0, 64 * MIB, KEEP // 16)
    tail = await program.log_of("a", KEEP // 16, 64)
    assert tail.offset >= 64 * MIB - KEEP - MIB
    assert (tail.content, tail.complete) == (b"0123456789abcde\n" * 4, False)
    (program.io("a") / "fifo").write_text("")
    await program.first(Ended)
    end = await program.log_of("a", -8)
    assert (end.content, end.complete, end.offset) == (b"the end\n", True, 64 * MIB)


async def test_a_log_stays_after_all_is_settled(program: Program):
    program.give(process_run("a", "echo hello"))
    await program.first(Ended)
    program.give(Settled("a", 1))
    await until((program.state / "ended" / order("a").name).exists)
    read = await program.log_of("a")
    assert (read.content, read.complete) == (b"hello\n", True)


# --- many ---------------------------------------------------------------------------------------


async def settle(program: Program, condition: Callable[[], object]) -> None:
    """As a coordinator does."""
    done: set[str] = set()
    while not condition():
        news = [one for one in program.said(Ended) if one.job not in done]
        done |= {one.job for one in news}
        program.give(*[Settled(one.job, one.attempt) for one in news])
        await asyncio.sleep(0.002)


async def test_many_at_once_all_succeed_and_leave_no_process(program: Program):
    jobs = [f"job{number}" for number in range(200)]
    program.give(*[order(job, activity=Process(("true",))) for job in jobs])
    ended = program.state / "ended"
    async with asyncio.timeout(50):
        await settle(program, lambda: len(list(ended.iterdir())) == len(jobs))
    assert {one.outcome for one in program.said(Ended)} == {Outcome("success", 0)}
    assert {one.job for one in program.said(Ended)} == set(jobs)
    assert not program.said(Accepted) or set(program.said(Accepted)).isdisjoint(program.said(Ended))
    assert processes_of(program.state) == set()
