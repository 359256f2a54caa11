"""The folders of attempts: all that a dispatcher remembers. What they mean is core/agent.py's job.

    attempts/NAME/   order       the Run, in its wire form; written last: with it, the folder counts
                     started     the same file, renamed: the mark. It may have been started
                     io/         inputs.json, and output.json by the job; /cirrus in a container
                     EXECUTOR/   what the executor of this name keeps
                     log         log.part while it is still being copied from the engine
                     stop        why it was told to stop
                     end         the report of its end, in its wire form
    ended/NAME/      the same, once its end is settled: kept for its log, for a while

Only the mark is synced, and the order with it, before any start: what else a power cut takes was
either not promised yet, or can be seen again at the engine. Files are few on purpose: making and
removing them is most of what a small job costs here.
"""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import time
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from cirrus import wire
from cirrus.core.agent import Attempt, Why
from cirrus.core.messages import Ended, Outcome, Run
from cirrus.core.model import UnixTime, executor_of
from cirrus.dispatcher.disk import (
    exists,
    make_folder,
    read,
    remove,
    rename,
    size_of,
    sync_file,
    sync_folder,
    write,
)
from cirrus.errors import SetupError, WireError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
OUTPUT_BYTES: Final = 64 * 1024
OUTPUT_DEPTH: Final = 32
INTEGER_MOST: Final = 2**53
LOCK_SECONDS: Final = 5.0
WHYS: Final[tuple[Why, ...]] = ("cancelled", "timeout")


class Folders:
    """Every method blocks: called through Disk, or on a thread."""

    def __init__(self, state: Path) -> None:
        self.attempts = state / "attempts"
        self.ended = state / "ended"
        self._marked: list[str] = []
        for folder in (state, self.attempts, self.ended):
            _own(folder)

    def of(self, name: str) -> Path:
        return self.attempts / name

    def create(self, order: Run, *, marked: bool) -> None:
        """FileExistsError when it was there already, and marked."""
        folder = f"{self.attempts}/{order.name}"
        try:
            make_folder(folder)
        except FileExistsError:
            if exists(f"{folder}/started"):
                raise
            remove(folder)  # what an earlier try that failed has left
            make_folder(folder)
        make_folder(f"{folder}/{executor_of(order.activity)}")
        make_folder(f"{folder}/io")
        Path(folder, "io").chmod(0o777)  # whatever user a container runs as, it writes there
        write(f"{folder}/io/inputs.json", order.inputs, 0o644)
        write(f"{folder}/order", wire.encode_run(order))
        if marked:
            self.mark(order.name)

    def mark(self, name: str) -> None:
        """It is about to be started. This holds only after `commit`. May be repeated."""
        folder = f"{self.attempts}/{name}"
        with contextlib.suppress(FileNotFoundError):
            rename(f"{folder}/order", f"{folder}/started")
        self._marked.append(folder)

    def commit(self) -> None:
        """Make all marks durable. Many share the wait: the first sync writes the others out too."""
        marked, self._marked = self._marked, []
        for folder in marked:
            sync_file(f"{folder}/started")
            sync_folder(folder)
        if marked:
            sync_folder(str(self.attempts))

    def note_stop(self, name: str, why: Why) -> None:
        write(f"{self.attempts}/{name}/stop", why)

    def write_end(self, ended: Ended, name: str) -> None:
        [data] = wire.encode_reports([ended])
        write(f"{self.attempts}/{name}/end", data)

    def end_of(self, folder: Path) -> Ended | None:
        """The report that was written down there."""
        data = read(f"{folder}/end")
        reports = wire.decode_reports(data) if data else []
        return next((report for report in reports if isinstance(report, Ended)), None)

    def load(self, now: float) -> tuple[list[Attempt], list[str]]:
        """Every attempt that has a folder, and which folders cannot be understood.

        Of these, one without a mark is removed: it was not started, and its order will come again.
        """
        attempts, problems = [], []
        for folder in sorted(self.attempts.iterdir()):
            try:
                attempts.append(self._load(folder, now))
            except (OSError, ValueError, WireError) as error:
                problems.append(f"{folder}: {error}")
                if not (folder / "started").exists():
                    remove(str(folder))
        return attempts, problems

    def _load(self, folder: Path, now: float) -> Attempt:
        mark = folder / "started"
        marked = mark.exists()
        # The wall clock is asked here alone, and for its timeout alone.
        age_seconds = max(0.0, time.time() - mark.stat().st_ctime) if marked else 0.0
        why = read(f"{folder}/stop")
        return Attempt(
            wire.decode_run((mark if marked else folder / "order").read_bytes()),
            filed=True,
            marked=marked,
            started_at=now - age_seconds if marked else None,
            shaken=marked,
            killed=next((one for one in WHYS if why == one.encode()), None),
            end=self.end_of(folder),
            log_kept=not marked or (folder / "log").exists(),
        )

    def retire(self, name: str) -> int:
        """Put a settled attempt's folder away; how many bytes it occupies."""
        folder, kept = f"{self.attempts}/{name}", f"{self.ended}/{name}"
        try:
            rename(folder, kept)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            remove(kept)  # an attempt of the same name, from a store that was put back in time
            rename(folder, kept)
        return _size_of(kept)


def _size_of(folder: str) -> int:
    """What a log and what a job left occupy, in bytes. The rest is small."""
    try:
        log = os.lstat(f"{folder}/log").st_blocks * 512
    except FileNotFoundError:
        log = 0
    return log + size_of(f"{folder}/io")


class Retention(Struct, frozen=True):
    """How long the folders of settled attempts are kept: within all three, the oldest go first."""

    seconds: float = 7 * 86400.0
    count: int = 10_000
    total_bytes: int = 2 * 2**30


class Archive:
    """The folders of settled attempts, the oldest first. Only `scan` blocks."""

    def __init__(self, folder: Path, retention: Retention) -> None:
        self.complete = False
        """It knows what an earlier dispatcher left."""
        self._folder = folder
        self._retention = retention
        self._kept: dict[str, tuple[UnixTime, int]] = {}
        """By name: when it was put away, its size in bytes."""
        self._total_bytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._kept or (not self.complete and (self._folder / name).exists())

    def scan(self) -> dict[str, tuple[UnixTime, int]]:
        """What is there."""
        with os.scandir(self._folder) as entries:
            found = sorted((one.stat().st_mtime, one.name) for one in entries)
        return {name: (ended, _size_of(f"{self._folder}/{name}")) for ended, name in found}

    def recall(self, found: dict[str, tuple[UnixTime, int]]) -> None:
        self._kept = found | {name: self._kept[name] for name in self._kept}
        self._total_bytes = sum(size for _, size in self._kept.values())
        self.complete = True

    def add(self, name: str, size: int) -> None:
        self._kept[name] = time.time(), size
        self._total_bytes += size

    def find(self, job: str, attempt: int) -> Path | None:
        suffix = f"-{job}-{attempt}"
        name = next((name for name in reversed(self._kept) if name.endswith(suffix)), None)
        return self._folder / name if name else None

    def expired(self, most: int) -> list[str]:
        """Folders that are kept no longer, at most so many. The caller removes them."""
        limits, oldest = self._retention, time.time() - self._retention.seconds
        gone: list[str] = []
        while self._kept and len(gone) < most:
            name, (ended, size) = next(iter(self._kept.items()))
            over = len(self._kept) > limits.count or self._total_bytes > limits.total_bytes
            if ended >= oldest and not over:
                break
            del self._kept[name]
            self._total_bytes -= size
            gone.append(f"{self._folder}/{name}")
        return gone


# --- what a job left ----------------------------------------------------------------------------


def with_output(outcome: Outcome, folder: str) -> tuple[Outcome, bytes]:
    """The outcome, and the job's output.json; what is wrong with it refuses a success."""
    if outcome.kind not in ("success", "failure"):
        return outcome, b""
    output, problem = read_output(f"{folder}/io/output.json")
    if problem and outcome.kind == "success":
        outcome = Outcome("refused", outcome.exit_code, f"output.json {problem}")
    return outcome, output


def read_output(path: str) -> tuple[bytes, str]:
    """A job's output, and what is wrong with it. The job may have made anything of that file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", ""
    except OSError as error:
        reason = "is a link" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        return b"", reason
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b"", "is not a regular file"
        content = os.read(descriptor, OUTPUT_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > OUTPUT_BYTES:
        return b"", f"is larger than {OUTPUT_BYTES} bytes"
    problem = _json_problem(content)
    return (b"", problem) if problem else (content, "")


def _json_problem(content: bytes) -> str:
    """As strict as the coordinator is with what comes from outside."""
    try:
        found = msgspec.json.decode(content)
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {str(error)[:200]}"
    if not isinstance(found, dict):
        return "is not a JSON object"
    level: list[object] = [found]
    for _ in range(OUTPUT_DEPTH + 1):
        if any(isinstance(value, int) and abs(value) > INTEGER_MOST for value in level):
            return f"holds an integer beyond {INTEGER_MOST}: other programs would read another one"
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        return f"is nested more than {OUTPUT_DEPTH} deep"
    try:
        json.loads(content, object_pairs_hook=_once)
    except ValueError as error:
        return str(error)
    return ""


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        problem = "has the same key twice in an object"
        raise ValueError(problem)
    return found


# --- the state folder ---------------------------------------------------------------------------


def _own(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        problem = "it belongs to another user: give a folder of your own"
        raise SetupError(folder, problem)
    folder.chmod(0o700)


async def lock(state: Path) -> int:
    """Keep other dispatchers away from this folder, for as long as the descriptor is open."""
    _own(state)
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_SECONDS  # a predecessor may be just ending
    while not _locked(descriptor):
        if time.monotonic() >= until:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            problem = f"another dispatcher, process {holder}, works in this folder"
            raise SetupError(state, problem)
        await asyncio.sleep(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
