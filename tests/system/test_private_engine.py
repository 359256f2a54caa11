"""What can only be tried on an engine that nobody else uses: no room, no network, sudden death."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.executing import IMAGE, Bench, bench, swarm_engine

from cirrus.core.model import Container, Limits, Mount
from cirrus.errors import EngineAway, StartRefused
from cirrus.executors.docker import DockerExecutor
from cirrus.executors.engine import Engine
from cirrus.executors.swarm import SwarmExecutor

pytestmark = pytest.mark.swarm

LITTLE = Limits(cpu_reservation=0.1, memory_reservation=10**7)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with swarm_engine() as socket:
        yield f"unix://{socket}"


@pytest.fixture
async def swarm(address: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(partial(SwarmExecutor, address=address), tmp_path) as opened:
        yield opened


@pytest.fixture
async def docker(address: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(partial(DockerExecutor, address=address), tmp_path) as opened:
        await opened.executor.offer()
        yield opened


def task(text: str, limits: Limits = LITTLE, **fields: Any) -> Container:
    return Container("swarm", IMAGE, ("sh", "-c", text), limits=limits, **fields)


def command(address: str, *arguments: str) -> str:
    answer = subprocess.run(
        ["docker", "--host", address, *arguments], check=True, capture_output=True, text=True
    )
    return answer.stdout.strip()


async def test_a_task_without_room_waits_and_says_why(swarm: Bench):
    order = swarm.order(task("true", Limits(cpu_reservation=1000)))
    with pytest.raises(EngineAway, match="insufficient resources"):
        await swarm.begin(order)
    sighting = await swarm.seen(order)
    assert sighting is not None
    assert sighting.state == "created"
    assert "insufficient resources" in sighting.problem
    await swarm.executor.stop(order.name, 0.0)
    assert await swarm.seen(order) is None


async def test_what_waits_for_room_can_be_removed(swarm: Bench):
    order = swarm.order(task("true", Limits(cpu_reservation=1000)))
    with pytest.raises(EngineAway):
        await swarm.begin(order)
    await swarm.executor.remove(order.name)
    assert await swarm.seen(order) is None


async def test_a_task_runs_when_there_is_room_again(swarm: Bench):
    cores = (await swarm.executor.offer()).cores
    holder = swarm.order(task("sleep 60", Limits(cpu_reservation=cores - 0.5)))
    waiter = swarm.order(task("exit 3", Limits(cpu_reservation=1.0)))
    await swarm.begin(holder)
    with pytest.raises(EngineAway):
        await swarm.begin(waiter)
    await swarm.executor.stop(holder.name, 0.0)
    assert (await swarm.until(waiter, "exited")).exit_code == 3
    await swarm.begin(waiter)


async def test_without_reservations_a_task_gets_a_core_and_a_gigabyte(swarm: Bench, address: str):
    order = swarm.order(task("true", Limits()))
    await swarm.run(order)
    form = "{{json .Spec.TaskTemplate.Resources.Reservations}}"
    found = command(address, "service", "inspect", "--format", form, order.name)
    assert found == '{"NanoCPUs":1000000000,"MemoryBytes":1000000000}'


async def test_a_task_that_cannot_be_started_is_refused_with_the_reason(swarm: Bench):
    order = swarm.order(task("true", user="nobody-knows-me"))
    with pytest.raises(StartRefused, match="nobody-knows-me"):
        await swarm.begin(order)
    sighting = await swarm.seen(order)
    assert sighting is not None
    assert sighting.state == "created"
    again = swarm.make()
    with pytest.raises(StartRefused, match="nobody-knows-me"):
        await again.start(order, swarm.folder(order))
    await again.close()
    await swarm.executor.remove(order.name)


async def test_a_task_sees_its_mounts_and_its_limits(swarm: Bench, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "reads").write_text("ACGT\n")
    mounts = (
        Mount("/in", str(tmp_path / "data"), read_only=True),
        Mount("/scratch", kind="tmpfs"),
        Mount("/keep", f"keep-{swarm.instance}", "volume"),
    )
    limits = Limits(1.0, 32 * 2**20, 0.1, 10**7)
    order = swarm.order(
        task(
            "cat /in/reads; touch /scratch/a /keep/b; head -c 100m /dev/zero | tail",
            limits,
            mounts=mounts,
        )
    )
    end = await swarm.run(order)
    assert (await swarm.log(order)).startswith(b"ACGT\n")
    assert (end.exit_code, end.oom_killed) == (137, True)
    with pytest.raises(StartRefused, match="may not see"):
        await swarm.begin(swarm.order(task("true", mounts=(Mount("/x", "/run"),))))


async def test_networks_that_swarm_cannot_give_are_refused(swarm: Bench, address: str):
    command(address, "network", "create", "local-one")
    command(address, "network", "create", "--driver", "overlay", "wide-one")
    for network, words in (
        ("none", "no job without a network"),
        ("host", "network of its host"),
        ("local-one", "its own networks"),
        ("no-such", "there is no such network"),
    ):
        with pytest.raises(StartRefused, match=words):
            await swarm.begin(swarm.order(task("true", network=network)))
    for network in ("bridge", "wide-one"):
        order = swarm.order(task("true", network=network))
        assert (await swarm.run(order)).exit_code == 0


async def test_a_removed_attempt_leaves_no_container_behind(swarm: Bench, address: str):
    order = swarm.order(task("true"))
    await swarm.run(order)
    label = f"label=cirrus.instance={swarm.instance}"
    assert command(address, "ps", "--all", "--quiet", "--filter", label)
    await swarm.executor.remove(order.name)
    assert not command(address, "ps", "--all", "--quiet", "--filter", label)
    assert not command(address, "service", "ls", "--quiet", "--filter", label)


async def test_docker_and_swarm_on_one_engine_do_not_mix(swarm: Bench, address: str):
    order = swarm.order(task("sleep 30"))
    await swarm.begin(order)
    other = DockerExecutor(swarm.instance, "here", address)
    assert await other.look() == []
    await other.stop(order.name, 0.0)
    await other.close()
    assert (await swarm.until(order, "running")).name == order.name


async def test_a_job_network_that_was_pruned_is_made_again(docker: Bench, address: str):
    order = docker.order(Container("docker", IMAGE, ("true",)))
    await docker.executor.prepare(order, docker.folder(order))
    command(address, "network", "rm", "cirrus")
    await docker.executor.start(order, docker.folder(order))
    assert (await docker.until(order, "exited")).exit_code == 0


async def test_a_network_that_only_has_the_name_is_not_used(docker: Bench, address: str):
    command(address, "network", "rm", "cirrus")
    command(address, "network", "create", "cirrus")
    try:
        with pytest.raises(EngineAway, match="docker network rm cirrus"):
            await docker.executor.offer()
    finally:
        command(address, "network", "rm", "cirrus")


@pytest.fixture
def own_engine() -> Iterator[Path]:
    """For a test that leaves it unusable."""
    with swarm_engine() as socket:
        yield socket


async def test_an_engine_that_is_no_swarm_says_how_to_make_it_one(tmp_path: Path, own_engine: Path):
    address = f"unix://{own_engine}"
    command(address, "swarm", "leave", "--force")
    async with bench(partial(SwarmExecutor, address=address), tmp_path) as alone:
        offer = await alone.executor.offer()
        assert "docker swarm init" in offer.problem
        assert "\n" not in offer.problem
        assert await alone.executor.look() == []


async def test_an_engine_that_dies_is_away(tmp_path: Path, own_engine: Path):
    executor = DockerExecutor("0" * 8, "here", f"unix://{own_engine}")
    on = Bench(lambda *_: executor, tmp_path)
    await on.begin(on.order(Container("docker", IMAGE, ("sleep", "60"), network="none")))
    await executor.wait()
    os.kill(int((own_engine.parent / "pid").read_text()), signal.SIGKILL)
    for call in (executor.wait, executor.wait, executor.look):
        with pytest.raises(EngineAway):
            await call()
    assert "apt-get install" in (await executor.offer()).problem
    await executor.close()


async def test_an_engine_that_hangs_is_away(own_engine: Path):
    daemon = int((own_engine.parent / "pid").read_text())
    engine = Engine(f"unix://{own_engine}")
    os.kill(daemon, signal.SIGSTOP)
    try:
        with pytest.raises(EngineAway):
            await engine.call("GET", "info", seconds=0.5)
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert (await engine.call("GET", "info")).ok
    await engine.close()
