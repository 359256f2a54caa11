"""Logs: their cap, and who reads what of them."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirrus.core.messages import ReadLog
from cirrus.dispatcher import logs
from cirrus.dispatcher.disk import append
from cirrus.dispatcher.logs import answer, read_part, trim, trim_all

MIB = 1024 * 1024
KEEP = 4 * MIB
HEAD = KEEP // 16


def line(number: int) -> bytes:
    return b"%015d\n" % number


def numbered(path: Path, count: int, start: int = 0) -> None:
    append(str(path), b"".join(line(number) for number in range(start, start + count)))


def occupied(path: Path) -> int:
    return path.stat().st_blocks * 512


def read_all(path: Path, length: int = MIB) -> list[tuple[int, bytes]]:
    """As somebody who follows it does."""
    parts: list[tuple[int, bytes]] = []
    offset = 0
    while True:
        start, content, size = read_part(path, offset, length)
        assert start >= offset
        if not content:
            assert start == size
            return parts
        parts.append((start, content))
        offset = start + len(content)


def test_a_short_log_is_left_as_it_is(tmp_path: Path):
    path = tmp_path / "log"
    assert trim(path, KEEP) == 0
    numbered(path, KEEP // 16)
    assert trim(path, KEEP) == KEEP
    assert read_all(path, 100_000)[0][0] == 0
    assert b"".join(content for _, content in read_all(path, 100_000)) == path.read_bytes()


def test_of_a_long_log_the_beginning_and_the_end_are_kept_at_their_offsets(tmp_path: Path):
    path = tmp_path / "log"
    for part in range(64):  # 64 MiB, a part at a time
        numbered(path, MIB // 16, part * MIB // 16)
        trim_all([path], KEEP)
        assert occupied(path) <= KEEP + 2 * MIB
    assert path.stat().st_size == 64 * MIB
    parts = read_all(path)
    for offset, content in parts:
        assert content[: 16 - offset % 16] == line(offset // 16)[offset % 16 :]
    kept = sum(len(content) for _, content in parts)
    assert KEEP - MIB < kept <= KEEP + 2 * MIB
    head = [content for offset, content in parts if offset < HEAD]
    assert sum(map(len, head)) == HEAD
    assert parts[-1][1].endswith(line(64 * MIB // 16 - 1))


def test_who_asks_for_what_was_dropped_is_told_where_it_goes_on(tmp_path: Path):
    path = tmp_path / "log"
    numbered(path, 2 * MIB)
    trim(path, KEEP)
    start, content, size = read_part(path, HEAD, 32)
    assert size == 32 * MIB
    assert start >= 32 * MIB - KEEP
    assert content == line(start // 16) + line(start // 16 + 1)
    assert read_part(path, HEAD - 16, 1000) == (HEAD - 16, line(HEAD // 16 - 1), size)


def test_where_no_holes_can_be_made_the_beginning_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logs, "_fallocate", lambda: lambda *_: -1)
    path = tmp_path / "log"
    for _ in range(20):
        numbered(path, MIB // 16)
        trim(path, KEEP)
        assert occupied(path) <= KEEP + 2 * MIB
    assert path.read_bytes()[:HEAD] == b"".join(line(number) for number in range(HEAD // 16))


@given(size=st.integers(0, 300), offset=st.integers(-400, 400), length=st.integers(0, 400))
def test_reading_is_slicing(tmp_path_factory: pytest.TempPathFactory, size, offset, length):
    path = tmp_path_factory.getbasetemp() / "sliced"
    whole = bytes(number % 251 for number in range(size))
    path.write_bytes(whole)
    start, content, found = read_part(path, offset, length)
    assert found == size
    assert start == (max(0, size + offset) if offset < 0 else min(offset, size))
    assert content == whole[start : start + length]


def test_an_answer_says_when_all_was_read(tmp_path: Path):
    def ask(offset: int, length: int, *, whole: bool):
        return answer(ReadLog(7, "a", 1, offset, length), [tmp_path], whole=whole)

    assert (ask(0, 10, whole=True).size, ask(0, 10, whole=True).complete) == (0, True)
    assert not ask(0, 10, whole=False).complete
    (tmp_path / "log").write_bytes(b"0123456789")
    assert not ask(0, 10, whole=False).complete
    assert ask(0, 10, whole=True).complete
    assert not ask(0, 9, whole=True).complete
    assert ask(-1, 9, whole=True).content == b"9"
    assert ask(99, 9, whole=True) == ask(10, 9, whole=True)
    assert ask(0, -5, whole=True).content == b""


def test_a_log_that_is_no_file_is_not_read(tmp_path: Path):
    (tmp_path / "secret").write_text("hidden")
    (tmp_path / "log").symlink_to(tmp_path / "secret")
    read = answer(ReadLog(7, "a", 1, 0, 100), [tmp_path], whole=True)
    assert (read.content, read.problem[:21]) == (b"", "its log cannot be rea")


async def test_a_flood_is_kept_within_the_cap_while_it_is_written(tmp_path: Path):
    path = tmp_path / "log"
    flood = await asyncio.create_subprocess_shell(
        f"head -c {64 * MIB} /dev/zero | tr '\\0' x >>{path}"
    )
    largest = 0
    while flood.returncode is None:
        trim(path, KEEP)
        largest = max(largest, occupied(path)) if path.exists() else 0
        await asyncio.sleep(0.001)
    trim(path, KEEP)
    assert path.stat().st_size == 64 * MIB
    assert occupied(path) <= KEEP + 2 * MIB
    assert largest < 64 * MIB
