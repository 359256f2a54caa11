"""Blocking file work, kept off the event loop: one thread, many pieces at one go."""

import asyncio
import contextlib
import os
import queue
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

LATER_SECONDS: Final = 0.25
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Disk:
    """Runs short pieces of file work on a thread of its own, in order.

    After each go comes `commit`; only then is anybody told. If it fails, all of that go has failed.
    """

    def __init__(self, commit: Callable[[], None]) -> None:
        self._commit = commit
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._deferred: deque[_Work] = deque()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def do(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Work(call, future))
        return future

    def do_later(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """After the next go, or soon: nobody is in a hurry."""
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._deferred:
            self._loop.call_later(LATER_SECONDS, self._queue.put, _Work(_nothing))
        self._deferred.append(_Work(call, future))
        return future

    def close(self) -> None:
        """Returns when all that was asked for is done."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            works = [work for work in batch if work is not None]
            going = len(works) == len(batch)
            self._go(works)
            deferred = [self._deferred.popleft() for _ in range(len(self._deferred))]
            self._go(deferred)

    def _go(self, works: "list[_Work]") -> None:
        for work in works:
            work.run()
        try:
            self._commit()
        except OSError as error:
            for work in works:
                work.error = work.error or error
        if works:
            self._loop.call_soon_threadsafe(_tell, works)


class _Work:
    __slots__ = ("call", "error", "future", "result")

    def __init__(
        self, call: Callable[[], object], future: "asyncio.Future[Any] | None" = None
    ) -> None:
        self.call = call
        self.future = future
        self.result: object = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.result = self.call()
        except Exception as error:  # noqa: BLE001  (whatever it is, it belongs to whoever asked)
            self.error = error


def _nothing() -> None:
    """Wakes the thread."""


def _tell(works: list[_Work]) -> None:
    for work in works:
        if work.future is None or work.future.done():  # whoever asked has gone
            continue
        if work.error is not None:
            work.future.set_exception(work.error)
        else:
            work.future.set_result(work.result)


# --- small pieces of file work ------------------------------------------------------------------
# Paths are strings here: at a thousand small jobs a second, Path objects cost more than the disk.


def make_folder(path: str, mode: int = 0o700) -> None:
    os.mkdir(path, mode)  # noqa: PTH102


def rename(path: str, to: str) -> None:
    os.rename(path, to)  # noqa: PTH104


def exists(path: str) -> bool:
    return os.access(path, os.F_OK)


def write(path: str, content: bytes | str, mode: int = 0o600) -> None:
    data = content.encode() if isinstance(content, str) else content
    _put(os.open(path, _WRITE | os.O_TRUNC, mode), data)


def append(path: str, content: bytes) -> None:
    _put(os.open(path, _WRITE | os.O_APPEND, 0o600), content)


def _put(descriptor: int, data: bytes) -> None:
    try:
        written = os.write(descriptor, data)
        while written < len(data):
            written += os.write(descriptor, data[written:])
    finally:
        os.close(descriptor)


def read(path: str) -> bytes | None:
    """None when there is no such file."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def sync_file(path: str) -> None:
    """Make a new file's content durable. Its name needs its folder to be synced, too."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(folder: str) -> int:
    """What a folder occupies, in bytes, as far as it can be seen. Links are not followed."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += size_of(entry.path)
            else:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def remove(folder: str) -> None:
    """As far as it can be removed: a container may have left what only its user can remove."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_all(folders: Iterable[str]) -> None:
    for folder in folders:
        remove(folder)
