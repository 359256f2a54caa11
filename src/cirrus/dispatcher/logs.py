"""The logs of attempts: capped, copied from engines that keep them, and read while they grow.

A log keeps its offsets for ever. Beyond its cap the middle is given back to the file system, as a
hole in the file; a reader who asks for it is told where the content goes on. Where holes cannot be
made, the log is cut back to its first part instead, and grows from there again.
"""

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from cirrus.core.agent import Attempt, Key
from cirrus.core.messages import LogRead, ReadLog
from cirrus.dispatcher.disk import Disk, append, write
from cirrus.errors import EngineError
from cirrus.executors.base import Executor

log = logging.getLogger(__name__)

HEAD_SHARE: Final = 16
"""The first sixteenth of what is kept comes from the log's beginning, the rest from its end."""
SLACK_BYTES: Final = 1024 * 1024
"""So far it may grow beyond the cap before something is done."""
READ_BYTES: Final = 512 * 1024
PENDING_BYTES: Final = 1024 * 1024
FIRST_CONTENT_SECONDS: Final = 2.0
COPY_SECONDS: Final = 120.0
"""How long the rest of a log may take to be copied once its attempt has ended."""
COPY_WAITS: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)

_KEEP_SIZE, _PUNCH_HOLE = 1, 2


# --- files --------------------------------------------------------------------------------------


def trim(path: Path, keep_bytes: int) -> int:
    """Keep at most about so many bytes of a log; its length so far, with what was dropped."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    if status.st_blocks * 512 > keep_bytes + SLACK_BYTES:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _drop_middle(descriptor, keep_bytes)
        finally:
            os.close(descriptor)
    return status.st_size


def trim_all(paths: list[Path], keep_bytes: int) -> dict[Path, int]:
    return {path: trim(path, keep_bytes) for path in paths}


def _drop_middle(descriptor: int, keep_bytes: int) -> None:
    status = os.fstat(descriptor)
    block = max(4096, status.st_blksize)
    head = keep_bytes // HEAD_SHARE // block * block
    end = (status.st_size - (keep_bytes - head)) // block * block
    if end > head and not _punched(descriptor, head, end - head):
        os.ftruncate(descriptor, head)


def _punched(descriptor: int, offset: int, length: int) -> bool:
    while _fallocate()(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length) != 0:
        if ctypes.get_errno() != errno.EINTR:
            return False
    return True


@lru_cache(maxsize=1)
def _fallocate() -> Callable[[int, int, int, int], int]:
    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
    return function


def read_part(path: Path, offset: int, length: int) -> tuple[int, bytes, int]:
    """Where the content begins, the content, and the log's length so far.

    A negative offset counts from the end. The content may begin later than was asked, and is
    shorter than was asked where the dropped middle begins.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        start = _seek(descriptor, start, os.SEEK_DATA, size)
        end = _seek(descriptor, start, os.SEEK_HOLE, size)
        return start, os.pread(descriptor, max(0, min(length, end - start)), start), size
    finally:
        os.close(descriptor)


def _seek(descriptor: int, offset: int, whence: int, size: int) -> int:
    """From this offset on, where content begins, or ends; the log's end when nothing does."""
    try:
        return min(size, os.lseek(descriptor, offset, whence))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size


# --- copies -------------------------------------------------------------------------------------


class _Copy:
    """A log on its way from the engine into its attempt's folder."""

    def __init__(self, seconds: float | None) -> None:
        self.deadline = asyncio.timeout(seconds)
        self.progress = asyncio.Event()
        self.over = asyncio.Event()
        self.whole = False


class Logs:
    """Copies the logs of attempts whose executor keeps them elsewhere: one copier for each."""

    def __init__(self, disk: Disk, keep_bytes: int) -> None:
        self._disk = disk
        self._keep_bytes = keep_bytes
        self._copies: dict[Key, _Copy] = {}

    def following(self, key: Key) -> bool:
        return key in self._copies

    async def follow(
        self, attempt: Attempt, folder: Path, executor: Executor, seconds: float | None = None
    ) -> bool:
        """Copy a log from its beginning to its end; whether it was reached within `seconds`."""
        key = attempt.key
        if key in self._copies:
            return await self._joined(self._copies[key], seconds)
        copy = self._copies[key] = _Copy(seconds)
        try:
            async with copy.deadline:
                await self._copy(copy, folder, executor, attempt.order.name)
            copy.whole = True
        except (EngineError, TimeoutError, OSError) as error:
            facts = {"attempt": attempt.order.name, "problem": str(error) or type(error).__name__}
            log.info("log not copied to its end", extra=facts)
        finally:
            del self._copies[key]
            copy.progress.set()
            copy.over.set()
        return copy.whole

    async def keep(self, attempt: Attempt, folder: Path, executor: Executor) -> None:
        """Have the whole log of an ended attempt in its folder, or what can be had of it."""
        for wait in COPY_WAITS:
            await asyncio.sleep(wait)
            if await self.follow(attempt, folder, executor, COPY_SECONDS):
                break
        await self._disk.do(partial(_finish, folder))

    async def first_content(self, key: Key) -> None:
        """Wait a little for a copier that has only just begun."""
        copy = self._copies.get(key)
        if copy is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_CONTENT_SECONDS):
                    await copy.progress.wait()

    async def _joined(self, copy: _Copy, seconds: float | None) -> bool:
        if seconds is not None and not copy.deadline.expired():
            copy.deadline.reschedule(asyncio.get_running_loop().time() + seconds)
        await copy.over.wait()
        return copy.whole

    async def _copy(self, copy: _Copy, folder: Path, executor: Executor, name: str) -> None:
        path = folder / "log.part"
        await self._disk.do(partial(write, str(path), b""))
        pending: list[asyncio.Future[None]] = []
        size = 0
        async for chunk in executor.logs(name, folder):
            pending.append(self._disk.do(partial(self._append, path, chunk)))
            size += len(chunk)
            if size > PENDING_BYTES or not copy.progress.is_set():
                await asyncio.gather(*pending)
                copy.progress.set()
                pending, size = [], 0
        await asyncio.gather(*pending)

    def _append(self, path: Path, chunk: bytes) -> None:
        append(str(path), chunk)
        trim(path, self._keep_bytes)


def _finish(folder: Path) -> None:
    with contextlib.suppress(OSError):  # there may be none
        (folder / "log.part").rename(folder / "log")


def answer(order: ReadLog, folders: Sequence[Path], *, whole: bool) -> LogRead:
    """What somebody wants to read. `whole`: nothing more comes. Blocks."""
    if not folders:
        problem = "this dispatcher has no log of this attempt, or no longer"
        return LogRead(order.request, 0, b"", 0, complete=True, problem=problem)
    length = min(order.length, READ_BYTES)
    for path in (folder / name for folder in folders for name in ("log", "log.part")):
        try:
            offset, content, size = read_part(path, order.offset, length)
        except FileNotFoundError:
            continue
        except OSError as error:
            problem = f"its log cannot be read: {error.strerror}"
            return LogRead(order.request, 0, b"", 0, complete=True, problem=problem)
        complete = whole and offset + len(content) >= size
        return LogRead(order.request, offset, content, size, complete)
    return LogRead(order.request, 0, b"", 0, complete=whole)
