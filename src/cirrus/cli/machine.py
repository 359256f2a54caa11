"""What `doctor` looks at on the machine itself: programs, folders, ports, limits, the clock."""

import ctypes
import os
import resource
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import apsw
import zmq
from msgspec import Struct

from cirrus import sockets
from cirrus.errors import SetupError

Level = Literal["ok", "warn", "bad"]

OLDEST_PYTHON: Final = (3, 11)
SOUND_SQLITE: Final = (3, 51, 3)
"""Before it, two connections could damage a database in WAL mode; some older ones have the fix."""
MENDED_SQLITE: Final = ((3, 44, 6), (3, 50, 7))
REMOTE_FILE_SYSTEMS: Final = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs")
FLEETING_FILE_SYSTEMS: Final = ("tmpfs", "ramfs")
FREE_BYTES: Final = 512 * 2**20
FREE_BYTES_LEAST: Final = 64 * 2**20
FILES: Final = 4096
FILES_LEAST: Final = 1024
CLOCK_IS_ON_ITS_OWN: Final = 5
"""What adjtimex returns for a clock that nothing keeps right."""


class Check(Struct, frozen=True):
    """One line of the answer; `mend` is a command, or what to do."""

    name: str
    level: Level
    text: str
    mend: str = ""


def programs() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    sound = sys.version_info >= OLDEST_PYTHON
    yield Check("python", "ok" if sound else "bad", version, "" if sound else "install Python 3.11")
    yield _sqlite(apsw.sqlite_lib_version())
    try:
        sockets.new_context().term()
    except SetupError as error:
        yield Check("libzmq", "bad", str(error), f"{sys.executable} -m pip install -U pyzmq")
    else:
        yield Check("libzmq", "ok", f"{zmq.zmq_version()}, with CURVE")


def _sqlite(version: str) -> Check:
    number = tuple(int(part) for part in version.split("."))
    mended = any(number[:2] == one[:2] and number >= one for one in MENDED_SQLITE)
    if number >= SOUND_SQLITE or mended:
        return Check("sqlite", "ok", version)
    problem = f"{version} can damage a database: two connections may reset its log at once"
    return Check("sqlite", "bad", problem, f"{sys.executable} -m pip install -U apsw")


# --- the data directory -------------------------------------------------------------------------


def data_directory(path: Path) -> Iterator[Check]:
    name, quoted = "data", shlex.quote(str(path))
    try:
        sockets.local_endpoint(path)
    except SetupError as error:
        yield Check(name, "bad", str(error), "cirrus up --data-dir /var/lib/cirrus")
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if there != path:
        if os.access(there, os.W_OK | os.X_OK):
            yield Check(name, "ok", f"{path} will be made by `cirrus up`")
        else:
            mend = f"sudo install -d -m 700 -o {os.geteuid()} {quoted}"
            yield Check(name, "bad", f"{path} is not there, and {there} cannot be written", mend)
    else:
        yield _reach(path, quoted)
    yield _file_system(there)
    yield _room(there)


def _reach(path: Path, quoted: str) -> Check:
    if not path.is_dir():
        return Check("data", "bad", f"{path} is no folder", "choose another --data-dir")
    facts = path.stat()
    if facts.st_uid != os.geteuid():
        mend = f"sudo chown -R {os.geteuid()} {quoted}"
        return Check("data", "bad", f"{path} belongs to user {facts.st_uid}", mend)
    if facts.st_mode & 0o077:
        return Check("data", "bad", f"others can reach {path}", f"chmod 700 {quoted}")
    if not os.access(path, os.W_OK | os.X_OK):
        return Check("data", "bad", f"{path} cannot be written", f"chmod 700 {quoted}")
    return Check("data", "ok", f"{path}, for this user alone")


def _file_system(path: Path) -> Check:
    kind = file_system(path, Path("/proc/self/mounts").read_text(encoding="utf-8"))
    if kind in REMOTE_FILE_SYSTEMS:
        problem = f"{kind} cannot keep a database whole: its locks and syncs are not to be trusted"
        return Check("file system", "bad", problem, "choose a --data-dir on a local disk")
    if kind in FLEETING_FILE_SYSTEMS:
        problem = f"{kind}: everything is gone when the machine restarts"
        return Check("file system", "warn", problem, "choose a --data-dir on a disk")
    return Check("file system", "ok", kind)


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that holds this path, by the longest mount point above it."""
    whole, kind, longest = path.resolve(), "unknown", -1
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(" ")
        place = Path(point.replace("\\040", " "))
        if whole.is_relative_to(place) and len(place.parts) >= longest:
            kind, longest = found, len(place.parts)
    return kind


def _room(path: Path) -> Check:
    usage = shutil.disk_usage(path)
    text = f"{usage.free / 2**30:.1f} GiB free"
    mend = f"make room on the file system of {path}"
    if usage.free < FREE_BYTES_LEAST:
        return Check("disk", "bad", text, mend)
    if usage.free < FREE_BYTES:
        return Check("disk", "warn", text, mend)
    return Check("disk", "ok", text)


# --- ports --------------------------------------------------------------------------------------


def port(name: str, host: str, number: int, option: str) -> Check:
    """Free, or held by whom. Whether the holder is Cirrus is for the caller to know."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
        except OSError as error:
            who = holder(number)
            by = f" by process {who[0]} ({who[1]})" if who else f" ({error.strerror})"
            mend = (
                f"kill {who[0]}, or choose another {option}" if who else f"choose another {option}"
            )
            return Check(name, "bad", f"{host}:{number} is taken{by}", mend)
    return Check(name, "ok", f"{host}:{number} is free")


def holder(number: int) -> tuple[int, str] | None:
    """The process that listens on this TCP port, as far as this user may see."""
    inodes = {f"socket:[{inode}]" for inode in _listening(number)}
    for link in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            if str(link.readlink()) in inodes:
                process = link.parts[2]
                return int(process), Path("/proc", process, "comm").read_text("utf-8").strip()
        except OSError:  # it ended meanwhile, or is not ours to look into
            continue
    return None


def is_listening(number: int) -> bool:
    return next(_listening(number), None) is not None


def has_address(address: str) -> bool:
    """Whether this machine could listen there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            return False
    return bool(address)


def _listening(number: int) -> Iterator[str]:
    """The inodes of sockets that listen on this port."""
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net", table)
        for line in path.read_text("utf-8").splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == number:
                yield fields[9]


# --- limits and the clock -----------------------------------------------------------------------


def limits() -> Iterator[Check]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    level: Level = "bad" if files < FILES_LEAST else "warn" if files < FILES else "ok"
    mend = "" if level == "ok" else "ulimit -n 65536, or LimitNOFILE=65536 in the unit file"
    yield Check("open files", level, f"{files} at once", mend)
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    yield Check("cgroups", "ok", "version 2" if unified else "version 1")


def clock() -> Check:
    """Order never depends on the clock; times that people read do."""
    buffer = ctypes.create_string_buffer(1024)
    state = ctypes.CDLL(None).adjtimex(buffer)
    if state == CLOCK_IS_ON_ITS_OWN:
        mend = "timedatectl set-ntp true, or install chrony"
        return Check("clock", "warn", "nothing keeps it right", mend)
    return Check("clock", "ok", "synchronised")
