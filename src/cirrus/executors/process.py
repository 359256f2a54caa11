"""Attempts as plain processes on the dispatcher's machine. They outlive the dispatcher.

Between the two stands a tiny shell, the shim, the leader of a session of its own. It writes down
who it is, runs the command, and writes down the exit code. It never reads the command as text.

    FOLDER/process/shim   first line: the boot's id, when it was started, the shim's pid. A claim:
                          made only once, so that a second shim for an attempt runs nothing.
                          Second line, when the command has ended: its exit code

A pid is given out again. So a process counts as an attempt's only if its environment, too, names
the attempt's folder, as CIRRUS_DIR; or as long as such a shim is alive, if it is in its session.
"""

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from cirrus.core.agent import Sighting
from cirrus.core.messages import Offer, Run
from cirrus.core.model import Process, UnixTime
from cirrus.errors import EngineAway, StartRefused

# $0 is FOLDER/process, $1 the boot's id and the time, $2 the working directory; the command is the
# rest, its first word a path: a bare word could be one that the shell itself knows. `:` as a trap
# lets the shim outlive a signal to its group, and leaves the command's own handling as it was.
# What a shell says of a command that was killed is kept out of the log.
SHIM: Final = """\
set -C
echo "$1 $$" >"$0/shim" || exit 125
trap : HUP INT QUIT TERM USR1 USR2 ALRM
cd -- "$2" && shift 2 && exec 3>&2 2>/dev/null && "$@" 2>&3 3>&-
echo $? >>"$0/shim"
"""
GATEWAY: Final = "127.0.0.2"
"""Where the coordinator listens for jobs of this kind."""
USUAL_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLAIM_SECONDS: Final = 10.0
"""A claim that is still empty after so long stays empty: its shim was killed."""
KILL_SECONDS: Final = 10.0
COMMANDS_MOST: Final = 1000
SHIM_SECONDS: Final = 2.0
LOOKS: Final = 2
"""A process that is just becoming another program can be overlooked once."""
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class _Note(Struct, frozen=True):
    """What a shim has written. `pid` is 0 as long as its first line is not whole."""

    boot: str
    started: UnixTime
    pid: int
    exit_code: int | None
    changed: UnixTime


class _Watched:
    """A shim that is watched, or the end of one."""

    __slots__ = ("descriptor", "over", "pid", "sighting")

    def __init__(self, sighting: Sighting, pid: int = 0, descriptor: int = -1) -> None:
        self.sighting = sighting
        self.pid = pid
        self.descriptor = descriptor
        self.over: asyncio.Event | None = None


class ProcessExecutor:
    """Used on the event loop's thread only. `attempts` is where the attempts' folders are."""

    writes_log = True
    prepares = False

    def __init__(self, attempts: Path, environ: Mapping[str, str]) -> None:
        """Of `environ`, jobs get PATH, HOME and LANG, and nothing else."""
        self._attempts = attempts
        self._base = {
            "PATH": environ.get("PATH") or USUAL_PATH,
            "HOME": environ.get("HOME") or "/",
            "LANG": environ.get("LANG") or "C.UTF-8",
        }
        self._boot = BOOT_ID.read_text(encoding="ascii").strip()
        self._nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._watched: dict[str, _Watched] = {}
        self._commands: dict[tuple[str, str], str] = {}
        self._changed = asyncio.Event()
        _keep_descriptors()

    async def offer(self) -> Offer:
        cores = len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Offer("process", f"host-{_machine_id()}", cores, memory, GATEWAY)

    async def prepare(self, order: Run, folder: Path) -> None:
        """There is nothing to prepare."""

    async def start(self, order: Run, folder: Path) -> None:
        here, io = f"{folder}/process", f"{folder}/io"
        if order.name in self._watched or os.access(f"{here}/shim", os.F_OK):
            return
        process = order.activity
        assert isinstance(process, Process), order.name
        workdir = process.workdir or io
        environment = self._base | process.env | order.environment | {"CIRRUS_DIR": io}
        if process.workdir:
            _check_folder(workdir)
        command = self._command(process.cmd[0], workdir, environment["PATH"])
        now = time.time()
        shim = ["/bin/sh", "-c", SHIM, here, f"{self._boot} {now:.3f}", workdir]
        argv = [*shim, command, *process.cmd[1:]]
        pid = self._spawn(argv, environment, f"{folder}/log")
        sighting = Sighting(order.name, "running", started=now)
        self._watch(_Watched(sighting, pid, os.pidfd_open(pid)))

    async def look(self) -> list[Sighting]:
        names = os.listdir(self._attempts)  # noqa: PTH208  (names are what is wanted)
        for name in self._watched.keys() - set(names):
            self._forget(name)
        seen = [self._see(name) for name in names]
        return [sighting for sighting in seen if sighting is not None]

    async def stop(self, name: str, grace_seconds: float) -> None:
        """TERM goes to the command; once it has ended, to whatever it left. KILL goes to all."""
        for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, KILL_SECONDS)):
            if await self._ended_by(name, number, seconds):
                return
        problem = f"some process is still there {KILL_SECONDS:g} s after SIGKILL"
        raise EngineAway(name, problem)

    async def logs(self, name: str, folder: Path) -> AsyncIterator[bytes]:
        """Not used: attempts write their logs themselves."""
        raise NotImplementedError(name, folder)
        yield b""

    async def remove(self, name: str) -> None:
        self._forget(name)

    async def wait(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def close(self) -> None:
        """The processes go on."""
        for watched in self._watched.values():
            _let_go(watched)
        self._watched.clear()
        os.close(self._nothing)

    def _command(self, name: str, workdir: str, path: str) -> str:
        """Remembered, and looked at again: most jobs of a rule run the same command."""
        if "/" in name:
            return _find(name, workdir, path)
        known = self._commands.get((name, path))
        if known is None or not os.access(known, os.X_OK):
            known = _find(name, workdir, path)
            if len(self._commands) >= COMMANDS_MOST:
                self._commands.clear()
            self._commands[name, path] = known
        return known

    def _spawn(self, argv: list[str], environment: dict[str, str], log: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        actions = (
            (os.POSIX_SPAWN_DUP2, self._nothing, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        )
        usual = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them
        what = f"a process with {len(argv)} words and {len(environment)} variables"
        try:
            return os.posix_spawn(
                argv[0],
                argv,
                environment,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=usual,
            )
        except ValueError as error:
            raise StartRefused(what, f"cannot be passed on: {error}") from error
        except OSError as error:
            kind = StartRefused if error.errno == errno.E2BIG else EngineAway
            raise kind(what, error.strerror or "") from error

    # --- watching -------------------------------------------------------------------------------

    def _see(self, name: str) -> Sighting | None:
        """How an attempt is; None when it is none of ours. What is on the disk is the truth."""
        watched = self._watched.get(name)
        if watched is not None:
            return watched.sighting
        note = self._read(name)
        if note is None:
            ours = (self._attempts / name / "process").is_dir()
            return Sighting(name, "created") if ours else None
        if note.exit_code is None:
            if not note.pid and abs(time.time() - note.changed) < CLAIM_SECONDS:
                return Sighting(name, "running")
            if note.pid and self._attach(name, note):
                return self._watched[name].sighting
            note = self._read(name)  # it may have ended just now
        return self._gone(name, note)

    def _attach(self, name: str, note: _Note) -> bool:
        """Watch a shim that an earlier dispatcher started; False when it is gone."""
        if note.boot != self._boot:
            return False
        try:
            descriptor = os.pidfd_open(note.pid)
        except OSError:
            return False
        # Asked after opening: what the descriptor means is now certain.
        if not _is_shim(note.pid, _mark(self._attempts / name)):
            os.close(descriptor)
            return False
        sighting = Sighting(name, "running", started=note.started)
        self._watch(_Watched(sighting, note.pid, descriptor))
        return True

    def _watch(self, watched: _Watched) -> None:
        self._watched[watched.sighting.name] = watched
        loop = asyncio.get_running_loop()
        loop.add_reader(watched.descriptor, self._shim_ended, watched)

    def _shim_ended(self, watched: _Watched) -> None:
        name = watched.sighting.name
        _let_go(watched)
        self._reap(name, watched)
        del self._watched[name]
        if (seen := self._see(name)) is None or seen.state == "created":
            self._gone(name, None)  # it could not even write its claim: the disk is full, say
        if watched.over is not None:
            watched.over.set()
        self._changed.set()

    def _reap(self, name: str, watched: _Watched) -> None:
        """End what a command left in its session, as with a container; daemons may stay."""
        stopping = watched.over is not None  # then these have their grace
        try:
            # As long as the shim was not waited for, its number cannot mean another group.
            if os.waitid(os.P_PID, watched.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                if not stopping:
                    os.killpg(watched.pid, signal.SIGKILL)
                os.waitpid(watched.pid, 0)
        except ChildProcessError:  # an earlier dispatcher's
            if not stopping:
                self._belonging(name).end_session()

    def _gone(self, name: str, note: _Note | None) -> Sighting:
        """The end of an attempt whose shim is gone. It is final."""
        started = note.started if note is not None and note.pid else None
        if note is None or note.exit_code is None:
            problem = "its process vanished without an exit code: killed, or the machine went down"
            sighting = Sighting(name, "exited", started=started, problem=problem)
        else:
            finished = note.changed
            sighting = Sighting(name, "exited", note.exit_code, started=started, finished=finished)
        self._watched[name] = _Watched(sighting)
        return sighting

    def _forget(self, name: str) -> None:
        watched = self._watched.get(name)
        if watched is not None and watched.descriptor < 0:
            del self._watched[name]

    def _read(self, name: str) -> _Note | None:
        return _read_note(f"{self._attempts}/{name}/process/shim")

    # --- stopping -------------------------------------------------------------------------------

    async def _ended_by(self, name: str, number: signal.Signals, seconds: float) -> bool:
        """Send a signal to all its processes and wait; whether none is left."""
        loop = asyncio.get_running_loop()
        began_at, pause = loop.time(), 0.01
        until = began_at + seconds
        told: set[int] = set()
        missed = 0
        while missed < LOOKS:
            belonging = self._belonging(name)
            found = await asyncio.to_thread(belonging.find)
            missed = 0 if found else missed + 1
            if found and loop.time() >= until:
                return False
            for pid in belonging.aims(found, number, loop.time() - began_at):
                if number == signal.SIGKILL or pid not in told:
                    belonging.tell(pid, number)
                    told.add(pid)
            await self._over_within(name, min(pause, max(0.0, until - loop.time())))
            pause = min(pause * 2, 0.5)
        return True

    def _belonging(self, name: str) -> "_Belonging":
        return _Belonging(self._attempts / name, self._boot, self._watched.get(name))

    async def _over_within(self, name: str, seconds: float) -> None:
        watched = self._watched.get(name)
        if watched is None or watched.descriptor < 0:
            await asyncio.sleep(seconds)
            return
        watched.over = watched.over or asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await watched.over.wait()


class _Belonging:
    """Which processes are an attempt's."""

    def __init__(self, folder: Path, boot: str, watched: _Watched | None) -> None:
        self._mark = _mark(folder)
        self._shim = 0
        self._alive = watched is not None and watched.descriptor >= 0
        if watched is not None and self._alive:
            self._shim = watched.pid
            return
        note = _read_note(f"{folder}/process/shim")
        if note is not None and note.boot == boot:
            self._shim = note.pid
            self._alive = _is_shim(note.pid, self._mark)

    def find(self) -> "dict[int, _Stat]":
        """By pid. Blocks."""
        names = os.listdir("/proc")  # noqa: PTH208  (names are what is wanted)
        found = {int(name): self._belongs(int(name)) for name in names if name.isdigit()}
        return {pid: stat for pid, stat in found.items() if stat is not None}

    def aims(
        self, found: "dict[int, _Stat]", number: signal.Signals, seconds: float
    ) -> Iterable[int]:
        """Whom to send a signal to, so many seconds after the first one."""
        # The shim is spared, so that it can say how its command ended; but not for ever.
        others = [pid for pid in found if pid != self._shim]
        if number == signal.SIGKILL:
            return others if seconds < SHIM_SECONDS else found
        commands = [pid for pid in others if found[pid].parent == self._shim]
        # One that still is the shim's copy would let it pass, as the shim itself does.
        return [pid for pid in commands if not _is_copy(pid)] if commands else others

    def end_session(self) -> None:
        for pid, stat in self.find().items():
            if stat.session == self._shim:
                self.tell(pid, signal.SIGKILL)

    def tell(self, pid: int, number: signal.Signals) -> None:
        """Send a signal, if the number still means a process that belongs here."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return
        try:
            if self._belongs(pid):
                signal.pidfd_send_signal(descriptor, number)
        except OSError:
            return
        finally:
            os.close(descriptor)

    def _belongs(self, pid: int) -> "_Stat | None":
        stat = _stat(pid)
        if stat is None or stat.ended:
            return None
        if self._alive and stat.session == self._shim:
            return stat
        return stat if _has_mark(pid, self._mark) else None


def _check_folder(workdir: str) -> None:
    if not Path(workdir).is_dir():
        subject, problem = f"workdir {workdir}", "there is no such folder"
        raise StartRefused(subject, problem)


def _find(name: str, workdir: str, path: str) -> str:
    """Where the command is, as a path that can be executed. Raises StartRefused."""
    places = [workdir] if "/" in name else [one for one in path.split(":") if one.startswith("/")]
    candidates = [name] if name.startswith("/") else [f"{place}/{name}" for place in places]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and Path(candidate).is_file():
            return candidate
    where = f"in {workdir}" if "/" in name else f"on the PATH {path}"
    subject, problem = f"cmd {name}", f"there is no such program {where}"
    raise StartRefused(subject, problem)


def _keep_descriptors() -> None:
    """Whatever this process was given open is not passed on to its jobs, which may outlive it."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  (names are what is wanted)
        if int(name) > 2:  # noqa: PLR2004  (stdin, stdout and stderr are replaced)
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), False)  # noqa: FBT003  (its only form)


def _let_go(watched: _Watched) -> None:
    if watched.descriptor >= 0:
        asyncio.get_running_loop().remove_reader(watched.descriptor)
        os.close(watched.descriptor)
        watched.descriptor = -1


# --- what the kernel and the shim say -----------------------------------------------------------


class _Stat(Struct, frozen=True):
    ended: bool
    parent: int
    session: int


def _read(path: str) -> tuple[bytes, UnixTime]:
    """A small file and when it was changed; nothing when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b"", 0.0
    try:
        return os.read(descriptor, 1 << 20), os.fstat(descriptor).st_mtime
    except OSError:
        return b"", 0.0
    finally:
        os.close(descriptor)


def _read_note(path: str) -> _Note | None:
    content, changed = _read(path)
    if not changed:
        return None
    first, whole, rest = content.partition(b"\n")
    words = first.decode("ascii", "replace").split()
    exit_code = int(rest) if rest.endswith(b"\n") and rest.strip().isdigit() else None
    if not whole or len(words) != 3:  # noqa: PLR2004  (as the shim writes them)
        return _Note("", 0.0, 0, exit_code, changed)
    return _Note(words[0], float(words[1]), int(words[2]), exit_code, changed)


def _stat(pid: int) -> _Stat | None:
    content, _ = _read(f"/proc/{pid}/stat")
    if not content:
        return None
    # The name stands in brackets, and may hold anything.
    fields = content.rpartition(b")")[2].split()
    return _Stat(fields[0] in b"ZX", int(fields[1]), int(fields[3]))


def _mark(folder: Path) -> bytes:
    return f"CIRRUS_DIR={folder}/io".encode()


def _has_mark(pid: int, mark: bytes) -> bool:
    return mark in _read(f"/proc/{pid}/environ")[0].split(b"\0")


def _is_copy(pid: int) -> bool:
    """Whether it is forked from a shim, and will become the command in a moment."""
    return SHIM.encode() in _read(f"/proc/{pid}/cmdline")[0]


def _is_shim(pid: int, mark: bytes) -> bool:
    stat = _stat(pid)
    return stat is not None and not stat.ended and stat.session == pid and _has_mark(pid, mark)


def _machine_id() -> str:
    """The same for all dispatchers on a machine. A fresh image may have none."""
    for path in (Path("/etc/machine-id"), BOOT_ID):
        if found := _read(str(path))[0].decode("ascii", "replace").strip():
            return found
    return "unknown"
