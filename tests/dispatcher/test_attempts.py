"""The folders of attempts: what is kept, what a job may leave there, and for how long."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from tests.dispatching import order

from cirrus.core.agent import Attempt
from cirrus.core.messages import Ended, Outcome
from cirrus.core.model import Process
from cirrus.dispatcher import attempts, disk
from cirrus.dispatcher.attempts import Archive, Folders, Retention, lock, read_output, with_output
from cirrus.dispatcher.disk import Disk
from cirrus.errors import SetupError


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


# --- folders ------------------------------------------------------------------------------------


def test_an_attempt_is_known_by_its_folder_alone(folders: Folders, tmp_path: Path):
    folders.create(order("a"), marked=False)
    folders.create(order("b"), marked=False)
    folders.mark(order("b").name)
    folders.create(order("c", activity=Process(("true",))), marked=True)
    folders.note_stop(order("c").name, "timeout")
    ended = Ended("c", 1, Outcome("timeout", 143), 1.0, 2.0, b"{}")
    folders.write_end(ended, order("c").name)
    found, problems = Folders(tmp_path).load(now=1000.0)
    assert problems == []
    a, b, c = found
    assert a == Attempt(order("a"), filed=True, log_kept=True)
    assert (b.marked, b.shaken, b.log_kept, b.end) == (True, True, False, None)
    assert (c.marked, c.killed, c.end) == (True, "timeout", ended)
    assert 999 < (b.started_at or 0) <= 1000.0


def test_making_a_folder_again_is_harmless_until_it_is_marked(folders: Folders):
    folders.create(order("a"), marked=False)
    (folders.of(order("a").name) / "leftover").write_text("")
    folders.create(order("a"), marked=False)
    assert not (folders.of(order("a").name) / "leftover").exists()
    folders.mark(order("a").name)
    folders.mark(order("a").name)
    with pytest.raises(FileExistsError):
        folders.create(order("a"), marked=False)


def test_every_mark_is_synced_with_its_order_and_its_names(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
):
    synced: list[str] = []
    monkeypatch.setattr(attempts, "sync_file", synced.append)
    monkeypatch.setattr(attempts, "sync_folder", synced.append)
    folders.create(order("a"), marked=False)
    folders.commit()
    assert synced == []
    folders.mark(order("a").name)
    folders.create(order("b"), marked=True)
    folders.commit()
    a, b = folders.of(order("a").name), folders.of(order("b").name)
    assert synced == [f"{a}/started", f"{a}", f"{b}/started", f"{b}", f"{folders.attempts}"]
    folders.commit()
    assert len(synced) == 5


def test_nobody_else_may_look_inside(folders: Folders, tmp_path: Path):
    for folder in (tmp_path, folders.attempts, folders.ended):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_put_away_replaces_one_of_the_same_name(folders: Folders):
    for text in ("first", "second"):
        folders.create(order("a"), marked=True)
        (folders.of(order("a").name) / "log").write_text(text)
        assert folders.retire(order("a").name) > 0
    assert (folders.ended / order("a").name / "log").read_text() == "second"


# --- outputs ------------------------------------------------------------------------------------

DEEP = b'{"a":' * 33 + b"1" + b"}" * 33


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{}", ""),
        (b' {"a": [1, {"b": null}]}\n', ""),
        (b'{"a":' * 32 + b"1" + b"}" * 32, ""),
        (b'{"a": "' + b"x" * (64 * 1024 - 9) + b'"}', ""),
        (b'{"a": "' + b"x" * (64 * 1024 - 8) + b'"}', "is larger than 65536 bytes"),
        (b"", "is not JSON: Input data was truncated"),
        (b"{", "is not JSON: Input data was truncated"),
        (b"{} {}", "is not JSON: "),
        (b'{"a": NaN}', "is not JSON: "),
        (b'{"a": "\xff"}', "is not JSON: "),
        (b'{"a": "\\ud800"}', "is not JSON: "),
        (b'{"a": [9007199254740992]}', ""),
        (b'{"a": [9007199254740993]}', "holds an integer beyond"),
        (b'{"a": {"b": 1, "b": 1}}', "has the same key twice"),
        (b"[1]", "is not a JSON object"),
        (b'"text"', "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (DEEP, "is nested more than 32 deep"),
        (b"[" * 60_000, "is not JSON: "),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "is n"),
    ],
)
def test_an_output_is_one_json_object_or_says_what_is_wrong(
    tmp_path: Path, content: bytes, problem: str
):
    path = tmp_path / "output.json"
    path.write_bytes(content)
    found, said = read_output(str(path))
    assert said.startswith(problem)
    assert bool(said) == bool(problem)
    assert found == (b"" if problem else content)


def test_an_output_that_is_no_file_is_not_read(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("{}")
    path = tmp_path / "output.json"
    assert read_output(str(path)) == (b"", "")
    path.symlink_to(secret)
    assert read_output(str(path)) == (b"", "is a link")
    path.unlink()
    path.mkdir()
    assert read_output(str(path)) == (b"", "is not a regular file")
    path.rmdir()
    os.mkfifo(path)
    assert read_output(str(path)) == (b"", "is not a regular file")


def test_a_bad_output_refuses_a_success_and_nothing_else(tmp_path: Path):
    (tmp_path / "io").mkdir()
    (tmp_path / "io" / "output.json").write_text("[]")
    refused = Outcome("refused", 0, "output.json is not a JSON object")
    assert with_output(Outcome("success", 0), str(tmp_path)) == (refused, b"")
    assert with_output(Outcome("failure", 3), str(tmp_path)) == (Outcome("failure", 3), b"")
    assert with_output(Outcome("timeout"), str(tmp_path)) == (Outcome("timeout"), b"")
    (tmp_path / "io" / "output.json").write_text("{}")
    assert with_output(Outcome("failure", 3), str(tmp_path)) == (Outcome("failure", 3), b"{}")
    assert with_output(Outcome("timeout"), str(tmp_path)) == (Outcome("timeout"), b"")


# --- how long they are kept ---------------------------------------------------------------------


def names(paths: list[str]) -> list[str]:
    return [Path(path).name for path in paths]


def test_folders_go_by_number_by_size_and_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    archive = Archive(tmp_path, Retention(seconds=100.0, count=3, total_bytes=50))
    for number in range(5):
        archive.add(f"x-{number}-1", 10)
    assert names(archive.expired(1)) == ["x-0-1"]
    assert names(archive.expired(9)) == ["x-1-1"]
    archive.add("x-5-1", 31)  # 3 of 10 and this: too large together
    assert names(archive.expired(9)) == ["x-2-1", "x-3-1"]
    now = 1101.0
    archive.add("x-6-1", 1)
    assert names(archive.expired(9)) == ["x-4-1", "x-5-1"]
    assert archive.expired(9) == []
    assert archive.find("6", 1) == tmp_path / "x-6-1"
    assert archive.find("5", 1) is None


def test_what_an_earlier_dispatcher_put_away_is_older(tmp_path: Path):
    for number, name in enumerate(("x-b-1", "x-a-1", "x-c-1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_bytes(b"x" * 10_000)
        os.utime(tmp_path / name, (number, number))
    archive = Archive(tmp_path, Retention(seconds=1e12, count=3))
    archive.add("x-new-1", 1)
    assert "x-a-1" in archive  # known already, though not scanned
    archive.recall(archive.scan())
    assert names(archive.expired(9)) == ["x-b-1"]
    assert archive.find("a", 1) == tmp_path / "x-a-1"


# --- the disk's thread --------------------------------------------------------------------------


async def test_nobody_is_told_before_the_commit():
    seen: list[str] = []
    thread = Disk(lambda: seen.append("commit"))
    first = thread.do(lambda: seen.append("first"))
    await first
    assert seen[:2] == ["first", "commit"]
    thread.close()


async def test_a_commit_that_fails_fails_its_whole_go_and_no_other():
    broken = True

    def commit() -> None:
        if broken:
            raise OSError(28, "No space left on device")

    thread = Disk(commit)
    with pytest.raises(OSError, match="No space"):
        await thread.do(lambda: 1)
    broken = False
    assert await thread.do(lambda: 2) == 2
    with pytest.raises(ZeroDivisionError):
        await thread.do(lambda: 1 // 0)
    assert await thread.do(lambda: 3) == 3
    thread.close()


async def test_what_nobody_waits_for_is_done_soon_and_before_the_end():
    thread = Disk(lambda: None)
    async with asyncio.timeout(5):
        assert await thread.do_later(lambda: 1) == 1
    later = [thread.do_later(lambda: 2), thread.do_later(lambda: 3)]
    assert await thread.do(lambda: 4) == 4
    assert await asyncio.gather(*later) == [2, 3]
    gone = thread.do_later(lambda: 5)
    gone.cancel()
    thread.close()
    await asyncio.sleep(0)


def test_what_cannot_be_removed_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x").mkdir()

    def refuse(*_args, **_facts):
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", refuse)
        disk.remove_all([f"{tmp_path}/x", f"{tmp_path}/not there"])
    disk.remove_all([f"{tmp_path}/x"])
    assert not (tmp_path / "x").exists()


# --- one dispatcher for a folder ----------------------------------------------------------------


LOCKER = """
import asyncio, sys, time
from pathlib import Path
from cirrus.dispatcher.attempts import lock
asyncio.run(lock(Path(sys.argv[1])))
print("locked", flush=True)
time.sleep(60)
"""


async def test_the_lock_is_free_when_its_holder_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOCKER, tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"locked\n"
    with monkeypatch.context() as patched:
        patched.setattr(attempts, "LOCK_SECONDS", 0.1)
        with pytest.raises(SetupError, match=f"another dispatcher, process {holder.pid}, "):
            await lock(tmp_path)
    waiting = asyncio.create_task(lock(tmp_path))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    holder.kill()
    os.close(await waiting)
    await holder.wait()


async def test_a_folder_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(SetupError, match="belongs to another user"):
        await lock(tmp_path)
