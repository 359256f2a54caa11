"""Docker jobs on a real engine: limits, users, mounts, networks, and what people do to them."""

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.executing import IMAGE, Bench, bench

from cirrus.core.messages import Run
from cirrus.core.model import Container, Limits, Mount
from cirrus.errors import EngineAway, StartRefused
from cirrus.executors.docker import DockerExecutor

pytestmark = pytest.mark.docker


@pytest.fixture
async def on(tmp_path: Path) -> AsyncIterator[Bench]:
    def make(instance: str, dispatcher: str) -> DockerExecutor:
        return DockerExecutor(instance, dispatcher, private=[tmp_path / "keys"])

    async with bench(make, tmp_path / "attempts") as opened:
        await opened.executor.offer()
        yield opened


def job(*cmd: str, **fields: Any) -> Container:
    return Container("docker", IMAGE, cmd, **fields)


def shell(text: str, **fields: Any) -> Container:
    return job("sh", "-c", text, **fields)


def docker(*arguments: str) -> str:
    answer = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True)
    return answer.stdout.strip()


def inspected(order: Run) -> Any:
    return json.loads(docker("inspect", order.name))[0]


async def said(on: Bench, activity: Container) -> str:
    """What a job that succeeds wrote to its log."""
    order = on.order(activity)
    end = await on.run(order)
    log = (await on.log(order)).decode()
    assert end.exit_code == 0, log
    return log


# --- what is asked of the engine ----------------------------------------------------------------


async def test_a_container_has_the_limits_it_was_given_and_no_rights_besides(on: Bench):
    limits = Limits(cpu=0.5, memory=64 * 2**20, memory_reservation=16 * 2**20)
    order = on.order(shell("true", limits=limits, labels={"team": "b", "cirrus.job": "other"}))
    await on.run(order)
    found = inspected(order)
    host = found["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (5 * 10**8, 2**26, 2**26)
    assert host["MemoryReservation"] == 2**24
    assert host["PidsLimit"] == 4096
    assert host["LogConfig"] == {"Type": "local", "Config": {"max-size": "16m", "max-file": "2"}}
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Init"] is True
    for closed in ("Privileged", "AutoRemove", "PublishAllPorts"):
        assert host[closed] is False
    for empty in ("CapAdd", "Binds", "Devices", "PidMode", "UTSMode", "UsernsMode", "VolumesFrom"):
        assert not host[empty]
    labels = found["Config"]["Labels"]
    assert labels["team"] == "b"
    assert (labels["cirrus.job"], labels["cirrus.attempt"]) == (order.job, "1")
    assert (labels["cirrus.rule"], labels["cirrus.key"]) == ("a rule", "a key")


async def test_too_little_memory_ends_it_as_oom(on: Bench):
    limits = Limits(memory=16 * 2**20)
    order = on.order(shell("head -c 100m /dev/zero | tail", limits=limits))
    end = await on.run(order)
    assert (end.exit_code, end.oom_killed) == (137, True)


async def test_an_empty_command_is_the_image_s_own(on: Bench):
    # busybox starts a shell, which finds its input closed.
    assert await said(on, job()) == ""


async def test_limits_that_the_engine_does_not_take_are_refused(on: Bench):
    with pytest.raises(StartRefused, match="memory limit"):
        await on.begin(on.order(shell("true", limits=Limits(memory=1000))))


async def test_a_user_that_the_image_does_not_know_is_refused(on: Bench):
    with pytest.raises(StartRefused, match="nobody-knows-me"):
        await on.begin(on.order(shell("true", user="nobody-knows-me")))


async def test_the_caller_s_outputs_belong_to_the_caller(on: Bench):
    order = on.order(shell('id -u; id -g; echo {} >"$CIRRUS_DIR/output.json"', user="caller"))
    await on.run(order)
    assert (await on.log(order)).decode().split() == [str(os.getuid()), str(os.getgid())]
    assert (on.folder(order) / "io" / "output.json").stat().st_uid == os.getuid()


async def test_any_user_can_leave_an_output(on: Bench):
    order = on.order(shell('id -u; echo {} >"$CIRRUS_DIR/output.json"', user="12345:12345"))
    await on.run(order)
    assert await on.log(order) == b"12345\n"
    assert (on.folder(order) / "io" / "output.json").read_text() == "{}\n"


# --- mounts -------------------------------------------------------------------------------------


async def test_folders_are_seen_as_they_are_mounted(on: Bench, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "reads").write_text("ACGT\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    text = "cat /in/reads; echo x >/in/new || echo read-only; cp /in/reads /out/; cat /one"
    mounts = (
        Mount("/in", str(tmp_path / "link"), read_only=True),
        Mount("/out", str(tmp_path / "out")),
        Mount("/one", str(tmp_path / "data" / "reads")),
    )
    log = await said(on, shell(f"{text} 2>/dev/null", mounts=mounts))
    assert log.replace("sh: can't create /in/new: Read-only file system\n", "") == (
        "ACGT\nread-only\nACGT\n"
    )
    assert (tmp_path / "out" / "reads").read_text() == "ACGT\n"


async def test_a_volume_is_kept_and_a_tmpfs_is_not(on: Bench):
    volume = f"cirrus-test-{on.instance}"
    mounts = (Mount("/keep", volume, "volume"), Mount("/scratch", kind="tmpfs"))
    try:
        await said(on, shell("echo 1 >/keep/a; echo 2 >/scratch/b", mounts=mounts))
        assert await said(on, shell("ls /keep /scratch", mounts=mounts)) == (
            "/keep:\na\n\n/scratch:\n"
        )
        await on.clear()
        assert docker("volume", "ls", "--quiet", "--filter", f"name={volume}") == volume
    finally:
        docker("volume", "rm", volume)


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "//",
        "/etc/..",
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run",
        "/var/run",
        "/var/lib/docker",
        "/var/lib/docker/volumes",
        "/var/lib",
        "/proc",
        "/proc/self/root",
        "/sys",
    ],
)
async def test_what_rules_the_engine_is_not_mounted(on: Bench, source: str):
    order = on.order(shell("true", mounts=(Mount("/x", source),)))
    with pytest.raises(StartRefused, match="a job may not see"):
        await on.begin(order)
    assert await on.seen(order) is None


async def test_no_detour_leads_to_what_may_not_be_mounted(on: Bench, tmp_path: Path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "first").symlink_to(tmp_path / "second")
    (tmp_path / "second").symlink_to("/var/run")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for name, words in (
        ("first", "may not see"),
        ("second/docker.sock", "may not see"),
        ("keys", "may not see"),
        (".", "may not see"),
        ("loop", "cannot be looked at"),
        ("fifo", "only files and folders"),
        ("socket", "only files and folders"),
        ("missing", "does not exist"),
    ):
        order = on.order(shell("true", mounts=(Mount("/x", str(tmp_path / name)),)))
        with pytest.raises(StartRefused, match=words):
            await on.begin(order)


async def test_a_mount_has_a_place_of_its_own(on: Bench, tmp_path: Path):
    for target in ("/", "/cirrus", "/cirrus/io", "/x/../cirrus", "x", ""):
        order = on.order(shell("true", mounts=(Mount(target, str(tmp_path.parent)),)))
        with pytest.raises(StartRefused, match=r"target|inputs"):
            await on.begin(order)
    with pytest.raises(StartRefused, match="absolute"):
        await on.begin(on.order(shell("true", mounts=(Mount("/x", "relative"),))))


async def test_a_volume_that_is_the_machine_in_disguise_is_refused(on: Bench):
    volume = f"cirrus-test-{on.instance}"
    options = ("--opt", "type=none", "--opt", "o=rbind", "--opt", "device=/")
    docker("volume", "create", *options, volume)
    try:
        with pytest.raises(StartRefused, match="may not see"):
            await on.begin(on.order(shell("true", mounts=(Mount("/x", volume, "volume"),))))
    finally:
        docker("volume", "rm", volume)


# --- networks -----------------------------------------------------------------------------------


async def test_a_job_is_on_the_job_network_or_on_none(on: Bench):
    order = on.order(shell("ip -o address"))
    await on.run(order)
    assert b"eth0" in await on.log(order)
    assert list(inspected(order)["NetworkSettings"]["Networks"]) == ["cirrus"]
    assert "eth0" not in await said(on, shell("ip -o address", network="none"))


@pytest.mark.parametrize(("network", "heard"), [("", b""), ("bridge", b"hello\n")])
async def test_on_the_job_network_jobs_do_not_reach_each_other(on: Bench, network, heard):
    speaker = on.order(shell("nc -l -p 9999 -e echo hello", network=network))
    await on.begin(speaker)
    await on.until(speaker, "running")
    networks = inspected(speaker)["NetworkSettings"]["Networks"]
    address = networks[network or "cirrus"]["IPAddress"]
    order = on.order(shell(f"sleep 1; nc -w 2 {address} 9999 2>/dev/null", network=network))
    await on.run(order)
    assert await on.log(order) == heard


async def test_a_network_can_be_named_but_not_the_host_s(on: Bench):
    network = f"cirrus-test-{on.instance}"
    docker("network", "create", network)
    try:
        order = on.order(shell("true", network=network))
        await on.run(order)
        assert list(inspected(order)["NetworkSettings"]["Networks"]) == [network]
        await on.executor.remove(order.name)
    finally:
        docker("network", "rm", network)
    host = docker("network", "ls", "--quiet", "--filter", "name=host")
    container = docker("run", "--detach", IMAGE, "sleep", "60")
    try:
        for name, words in (
            ("host", "network of its host"),
            (host, "network of its host"),
            (network, f"no such network: docker network create {network}"),
            (f"container:{container}", "no such network"),
        ):
            with pytest.raises(StartRefused, match=words):
                await on.begin(on.order(shell("true", network=name)))
    finally:
        docker("rm", "--force", container)


# --- what people do to containers ---------------------------------------------------------------


async def test_a_container_that_ended_is_never_started_again(on: Bench):
    order = on.order(shell('echo ran >>"$CIRRUS_DIR/marks"'))
    first = await on.run(order)
    for _ in range(2):
        await on.begin(order)
        again = on.make()
        await again.start(order, on.folder(order))
        await again.close()
    await asyncio.sleep(1)
    assert await on.seen(order) == first
    assert (on.folder(order) / "io" / "marks").read_text() == "ran\n"


async def test_a_container_that_somebody_removes_is_not_seen(on: Bench):
    order = on.order(shell("sleep 60"))
    await on.begin(order)
    await on.until(order, "running")
    docker("rm", "--force", order.name)
    assert await on.seen(order) is None
    await on.executor.start(order, on.folder(order))
    assert await on.seen(order) is None


async def test_a_container_that_somebody_renames_is_still_known(on: Bench):
    order = on.order(shell("sleep 60"))
    await on.begin(order)
    docker("rename", order.name, f"{order.name}-renamed")
    assert (await on.until(order, "running")).name == order.name
    await on.executor.stop(order.name, 0.0)
    assert (await on.until(order, "exited")).exit_code in {137, 143}


async def test_a_container_that_somebody_paused_can_be_stopped(on: Bench):
    order = on.order(shell("sleep 60"))
    await on.begin(order)
    await on.until(order, "running")
    docker("pause", order.name)
    sighting = await on.seen(order)
    assert sighting is not None
    assert (sighting.state, sighting.problem) == ("running", "somebody paused it")
    await on.executor.stop(order.name, 1.0)
    assert (await on.until(order, "exited")).exit_code in {137, 143}


async def test_containers_with_forged_labels_are_left_alone(on: Bench):
    order = on.order(shell("true"))
    labels = {"instance": "0" * 8, "dispatcher": "here", "executor": "docker", "job": order.job}
    marks = [f"--label=cirrus.{name}={text}" for name, text in labels.items()]
    docker(
        "run",
        "--detach",
        "--name",
        order.name,
        *marks,
        "--label=cirrus.attempt=1",
        IMAGE,
        "sleep",
        "60",
    )
    try:
        assert await on.executor.look() == []
        await on.executor.stop(order.name, 0.0)
        await on.executor.remove(order.name)
        with pytest.raises(StartRefused, match="something else has this name"):
            await on.begin(order)
        assert docker("inspect", "--format", "{{.State.Status}}", order.name) == "running"
    finally:
        docker("rm", "--force", order.name)


async def test_labels_that_make_no_attempt_are_no_sighting(on: Bench):
    labels = {"instance": on.instance, "dispatcher": "here", "executor": "docker"}
    marks = [f"--label=cirrus.{name}={text}" for name, text in labels.items()]
    container = docker("create", *marks, "--label=cirrus.attempt=x", IMAGE)
    try:
        assert await on.executor.look() == []
    finally:
        docker("rm", container)


# --- an engine that is not there ----------------------------------------------------------------


async def test_without_an_engine_the_offer_says_how_to_get_one(tmp_path: Path):
    executor = DockerExecutor("0" * 8, "here", f"unix://{tmp_path}/docker.sock")
    offer = await executor.offer()
    assert "apt-get install docker.io" in offer.problem
    assert "\n" not in offer.problem
    with pytest.raises(EngineAway):
        await executor.look()
    with pytest.raises(EngineAway):
        await executor.wait()
    await executor.close()
