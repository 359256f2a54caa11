"""What every executor promises: one suite, and each of them must pass it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from msgspec.structs import replace
from tests.executing import IMAGE, PATIENCE_SECONDS, Bench, begin, bench, swarm_engine

from cirrus.core.model import Container, Limits, Process
from cirrus.errors import StartRefused
from cirrus.executors.base import Executor
from cirrus.executors.docker import DockerExecutor
from cirrus.executors.process import ProcessExecutor
from cirrus.executors.swarm import SwarmExecutor

DEAF = "trap '' TERM; echo deaf; while :; do sleep 0.2; done"
KINDS = [
    "process",
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("swarm", marks=pytest.mark.swarm),
]
WITH_ENGINE = KINDS[1:]


@pytest.fixture(scope="module")
def swarm() -> Iterator[str]:
    with swarm_engine() as socket:
        yield f"unix://{socket}"


@pytest.fixture(params=KINDS)
async def on(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    address = request.getfixturevalue("swarm") if request.param == "swarm" else ""

    def make(instance: str, dispatcher: str) -> Executor:
        if request.param == "process":
            return ProcessExecutor(tmp_path, os.environ)
        kind = DockerExecutor if request.param == "docker" else SwarmExecutor
        return kind(instance, dispatcher, address)

    async with bench(make, tmp_path) as opened:
        await opened.executor.offer()
        yield opened


def activity(on: Bench, *cmd: str, workdir: str = "", **env: str) -> Process | Container:
    if isinstance(on.executor, ProcessExecutor):
        return Process(cmd, env, workdir)
    return container(on, IMAGE, cmd, env=env, workdir=workdir)


def container(on: Bench, image: str, cmd: tuple[str, ...], **fields: Any) -> Container:
    limits = Limits(cpu_reservation=0.1, memory_reservation=10**7)
    kind: Literal["docker", "swarm"] = "docker"
    if isinstance(on.executor, SwarmExecutor):
        kind = "swarm"
    return Container(kind, image, cmd, limits=limits, **fields)


def shell(on: Bench, text: str, **env: str) -> Process | Container:
    return activity(on, "sh", "-c", text, **env)


async def test_an_offer_says_which_engine_and_what_room_it_has(on: Bench):
    offer = await on.executor.offer()
    assert offer.problem == ""
    assert offer.engine
    assert offer.cores >= 1
    assert offer.memory > 10**8
    assert offer.gateway


async def test_an_attempt_that_succeeds_ends_with_0_and_its_times(on: Bench):
    order = on.order(shell(on, "sleep 0.3"))
    end = await on.run(order)
    assert (end.exit_code, end.oom_killed) == (0, False)
    assert end.started is not None
    assert end.finished is not None
    assert 0.2 < end.finished - end.started < PATIENCE_SECONDS


async def test_an_exit_code_is_what_the_command_said(on: Bench):
    assert (await on.run(on.order(shell(on, "exit 3")))).exit_code == 3


async def test_inputs_are_read_and_an_output_is_left(on: Bench):
    order = on.order(shell(on, 'cd "$CIRRUS_DIR" && cat inputs.json >output.json'))
    assert (await on.run(order)).exit_code == 0
    assert json.loads((on.folder(order) / "io" / "output.json").read_bytes()) == {"in": [1]}


async def test_cirrus_s_environment_comes_over_the_activity_s(on: Bench):
    order = on.order(shell(on, "echo $A-$B-$RULE_ID", A="a b", RULE_ID="mine"), B="2", RULE_ID="r")
    await on.run(order)
    assert await on.log(order) == b"a b-2-r\n"


async def test_the_working_directory_is_the_activity_s(on: Bench):
    order = on.order(activity(on, "sh", "-c", "pwd", workdir="/tmp"))
    await on.run(order)
    assert await on.log(order) == b"/tmp\n"


async def test_no_shell_reads_the_command(on: Bench):
    words = ("a  b", "$HOME", "`id`", ";", "*", "", "--", "'\"\\", "line\nline", "ü")
    order = on.order(activity(on, "printf", "[%s]", *words))
    await on.run(order)
    assert (await on.log(order)).decode() == "".join(f"[{word}]" for word in words)


async def test_a_running_attempt_is_seen_running(on: Bench):
    order = on.order(shell(on, "sleep 30"))
    await on.begin(order)
    sighting = await on.until(order, "running")
    assert sighting.started is not None
    assert sighting.exit_code is None


async def test_an_attempt_that_is_deaf_to_term_is_killed(on: Bench):
    order = on.order(shell(on, DEAF))
    await on.begin(order)
    await asyncio.sleep(0.5)  # the trap is set
    await on.executor.stop(order.name, 1.0)
    sighting = await on.seen(order)
    assert sighting is not None
    assert sighting.state == "exited"
    assert sighting.exit_code in {137, None}, "None: what would have noted it was killed as well"


async def test_an_attempt_that_hears_term_may_end_by_itself(on: Bench):
    order = on.order(shell(on, "trap 'echo bye; exit 5' TERM; while :; do sleep 0.1; done"))
    await on.begin(order)
    await asyncio.sleep(0.5)
    await on.executor.stop(order.name, 20.0)
    sighting = await on.seen(order)
    assert sighting is not None
    assert (sighting.state, sighting.exit_code) == ("exited", 5)
    assert (await on.log(order)).endswith(b"bye\n")


async def test_stopping_what_has_ended_or_is_not_there_does_nothing(on: Bench):
    order = on.order(shell(on, "exit 4"))
    await on.run(order)
    await on.executor.stop(order.name, 1.0)
    await on.executor.stop("cirrus-0-0-1", 1.0)
    sighting = await on.seen(order)
    assert sighting is not None
    assert sighting.exit_code == 4


async def test_the_log_has_what_went_to_both_streams(on: Bench):
    order = on.order(shell(on, "echo out; sleep 0.1; echo err >&2; sleep 0.1; printf end"))
    await on.run(order)
    assert await on.log(order) == b"out\nerr\nend"
    assert await on.log(order) == b"out\nerr\nend", "it can be read again"


async def test_a_log_is_bytes_and_loses_none(on: Bench):
    lines = "yes 0123456789abcdef0123456789abcdef | head -n 20000; printf '\\377\\000\\n'"
    order = on.order(shell(on, lines))
    await on.run(order)
    log = await on.log(order)
    assert log == b"0123456789abcdef0123456789abcdef\n" * 20000 + b"\xff\x00\n"


async def test_starting_twice_runs_once(on: Bench):
    order = on.order(shell(on, 'echo ran >>"$CIRRUS_DIR/marks"'))
    await on.begin(order)
    await on.begin(order)
    await on.until(order, "exited")
    await on.begin(order)
    await asyncio.sleep(0.5)
    assert (on.folder(order) / "io" / "marks").read_text() == "ran\n"


async def test_a_new_executor_finds_what_an_earlier_one_started(on: Bench):
    running = on.order(shell(on, 'echo ran >>"$CIRRUS_DIR/marks"; sleep 2; exit 6'))
    ended = on.order(shell(on, 'echo ran >>"$CIRRUS_DIR/marks"; exit 7'))
    await on.run(ended)
    await on.begin(running)
    await on.executor.close()
    on.executor = on.make()
    assert {one.name for one in await on.executor.look()} == {running.name, ended.name}
    for order, code in ((running, 6), (ended, 7)):
        await on.begin(order)
        assert (await on.until(order, "exited")).exit_code == code
        assert (on.folder(order) / "io" / "marks").read_text() == "ran\n"


async def test_a_command_that_is_not_there_never_counts_as_run(on: Bench):
    order = on.order(activity(on, "no-such-command"))
    if isinstance(on.executor, ProcessExecutor):
        with pytest.raises(StartRefused, match="no-such-command"):
            await on.begin(order)
    else:  # its init finds out, and says so in the log
        assert (await on.run(order)).exit_code == 127
        assert b"no-such-command" in await on.log(order)


async def test_what_is_removed_is_not_seen_again(on: Bench):
    order = on.order(shell(on, "true"))
    await on.run(order)
    await on.executor.remove(order.name)
    if not isinstance(on.executor, ProcessExecutor):  # its attempts are their folders
        assert await on.seen(order) is None
    await on.executor.remove(order.name)
    await on.executor.remove("cirrus-0-0-1")


async def test_waiting_returns_soon_after_an_end(on: Bench):
    order = on.order(shell(on, "sleep 1.5; exit 9"))
    await on.begin(order)
    async with asyncio.timeout(8):
        while (sighting := await on.seen(order)) is None or sighting.state != "exited":
            await on.executor.wait()
    assert sighting.exit_code == 9


async def test_waiting_may_be_given_up(on: Bench):
    order = on.order(shell(on, "sleep 0.5"))
    await on.begin(order)
    for _ in range(3):
        try:
            async with asyncio.timeout(0.1):
                await on.executor.wait()
        except TimeoutError:
            pass
    assert (await on.until(order, "exited")).exit_code == 0


async def test_many_at_once_are_told_apart(on: Bench):
    orders = [on.order(shell(on, f"echo {code}; exit {code}")) for code in range(1, 7)]
    await asyncio.gather(*[on.begin(order) for order in orders])
    for code, order in enumerate(orders, 1):
        assert (await on.until(order, "exited")).exit_code == code
        assert await on.log(order) == b"%d\n" % code


# --- what only an engine can promise ------------------------------------------------------------


@pytest.mark.parametrize("on", WITH_ENGINE, indirect=True)
async def test_what_runs_is_not_removed(on: Bench):
    order = on.order(shell(on, "sleep 30"))
    await on.begin(order)
    await on.until(order, "running")
    await on.executor.remove(order.name)
    assert (await on.until(order, "running")).name == order.name


@pytest.mark.parametrize("on", WITH_ENGINE, indirect=True)
async def test_what_another_owner_has_is_not_touched(on: Bench):
    order = on.order(shell(on, "sleep 30"))
    await on.begin(order)
    for stranger in (on.make(instance="0" * 8), on.make(dispatcher="there")):
        assert await stranger.look() == []
        await stranger.stop(order.name, 0.0)
        await stranger.remove(order.name)
        assert [piece async for piece in stranger.logs(order.name, on.folder(order))] == []
        with pytest.raises(StartRefused, match="something else has this name"):
            await begin(stranger, order, on.folder(order))
        await stranger.close()
    assert (await on.until(order, "running")).name == order.name


@pytest.mark.parametrize("on", WITH_ENGINE, indirect=True)
async def test_another_activity_of_the_same_name_is_refused(on: Bench):
    order = on.order(shell(on, "sleep 30"))
    await on.begin(order)
    other = replace(order, activity=shell(on, "sleep 31"))
    with pytest.raises(StartRefused, match="something else has this name"):
        await on.begin(other)


@pytest.mark.parametrize("on", WITH_ENGINE, indirect=True)
async def test_an_image_that_cannot_be_had_is_refused_soon(on: Bench):
    for pull, words in (("never", "`pull` is `never`"), ("missing", "cannot be pulled|no such")):
        order = on.order(container(on, "cirrus-has-no/such-image:1", ("true",), pull=pull))
        async with asyncio.timeout(30):
            with pytest.raises(StartRefused, match=words) as refusal:
                await on.begin(order)
        assert "cirrus-has-no/such-image:1" in str(refusal.value)
        assert await on.seen(order) is None


@pytest.mark.parametrize("on", WITH_ENGINE, indirect=True)
async def test_a_log_is_followed_while_it_grows(on: Bench):
    order = on.order(shell(on, "echo one; sleep 2; echo two"))
    await on.begin(order)
    await on.until(order, "running")
    pieces: list[bytes] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for piece in on.executor.logs(order.name, on.folder(order)):
            if not pieces:
                sighting = await on.seen(order)
                assert sighting is not None
                assert sighting.state == "running"
            pieces.append(piece)
    assert b"".join(pieces) == b"one\ntwo\n"


@pytest.mark.parametrize("on", WITH_ENGINE, indirect=True)
async def test_a_job_reaches_its_host_at_the_gateway(on: Bench):
    gateway = (await on.executor.offer()).gateway

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, gateway, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        order = on.order(activity(on, "wget", "-q", "-O", "-", f"http://{gateway}:{port}/"))
        end = await on.run(order)
    assert (end.exit_code, await on.log(order)) == (0, b"hello\n")
