"""`doctor`: what is wrong with this machine, and how to mend it."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from msgspec import Struct, field

from cirrus.cli import machine
from cirrus.cli.machine import Check
from cirrus.cli.output import Output, colour, common, dim, printable
from cirrus.config import Settings, read_settings
from cirrus.errors import CirrusError, EngineError, Unavailable
from cirrus.executors.engine import Engine
from cirrus.executors.networks import find
from cirrus.executors.request import JOB_NETWORK

OPEN_ENGINE_PORT: Final = 2375
ENGINE_SECONDS: Final = 5.0


@click.command()
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="As `cirrus up`.")
@click.option("--data-dir", metavar="FOLDER", help="As `cirrus up`.")
@common
@click.pass_context
def doctor(ctx: click.Context, config: Path | None, data_dir: str | None) -> None:
    """Say what is wrong with this machine, and how to mend it.

    Exit code 1 when something is bad; a warning alone is none.
    """
    output = ctx.ensure_object(Output)
    settings = read_settings(Settings, {"data_dir": data_dir}, os.environ, config=config)
    checks = []
    for check in _checks(output, settings):
        checks.append(check)
        if not output.json:
            _show(check)
    sound = all(check.level != "bad" for check in checks)
    if output.json:
        output.document({"ok": sound, "checks": checks})
    ctx.exit(0 if sound else 1)


def _show(check: Check) -> None:
    level = colour(check.level) + " " * (4 - len(check.level))
    click.echo(f"{level}  {check.name:<11}  {printable(check.text)}")
    if check.mend:
        click.echo(f"{'':<19}{dim('mend:')} {check.mend}")


def _checks(output: Output, settings: Settings) -> Iterator[Check]:
    yield from machine.programs()
    yield from machine.data_directory(settings.data_dir)
    yield from machine.limits()
    yield machine.clock()
    yield from _engine()
    yield from _coordinator(output, settings)


# --- the engine ---------------------------------------------------------------------------------


class _Swarm(Struct, frozen=True):
    state: str = field(name="LocalNodeState", default="inactive")
    is_manager: bool = field(name="ControlAvailable", default=False)


class _Info(Struct, frozen=True):
    version: str = field(name="ServerVersion", default="")
    live_restore: bool = field(name="LiveRestoreEnabled", default=False)
    limits_memory: bool = field(name="MemoryLimit", default=True)
    swarm: _Swarm = field(name="Swarm", default=_Swarm())


def _engine() -> Iterator[Check]:
    mend = "sudo script/engine, or: sudo apt-get install docker.io"
    try:
        info, gateway = asyncio.run(asyncio.wait_for(_ask_engine(), ENGINE_SECONDS))
    except (EngineError, TimeoutError) as error:
        problem = f"none answers, so only jobs of the process executor run: {error or 'too slow'}"
        if "ermission" in problem:
            mend = "sudo usermod -aG docker $USER, then log in again"
        yield Check("engine", "warn", problem, mend)
        return
    yield Check("engine", "ok", f"Docker Engine {info.version}")
    if not info.live_restore and info.swarm.state == "inactive":  # a swarm's nodes cannot have it
        problem = "its restart ends all containers (live-restore is off)"
        yield Check("engine", "warn", problem, '{"live-restore": true} in /etc/docker/daemon.json')
    if not info.limits_memory:
        yield Check("engine", "warn", "it cannot limit memory", "cgroup_enable=memory at boot")
    yield _swarm(info.swarm)
    yield _job_network(gateway)
    if machine.is_listening(OPEN_ENGINE_PORT):
        problem = f"something listens on {OPEN_ENGINE_PORT}: an open engine gives root to anybody"
        yield Check("engine", "bad", problem, "remove -H tcp:// from the engine's options")


async def _ask_engine() -> tuple[_Info, str | None]:
    """What it says of itself, and the job network's gateway: None where there is no network yet."""
    engine = Engine()
    try:
        info = (await engine.call("GET", "info")).read(_Info)
        network = await find(engine, JOB_NETWORK)
        return info, None if network is None else network.gateway
    finally:
        await engine.close()


def _swarm(swarm: _Swarm) -> Check:
    if swarm.state == "active" and swarm.is_manager:
        return Check("swarm", "ok", "active, and this node is a manager")
    if swarm.state == "active":
        return Check("swarm", "warn", "active, but no manager", "run the dispatcher on a manager")
    return Check("swarm", "ok", "not in use; `docker swarm init` would let swarm jobs run")


def _job_network(gateway: str | None) -> Check:
    name = "job network"
    if gateway is None:
        return Check(name, "ok", "will be made by the first dispatcher")
    if not machine.has_address(gateway):
        problem = f"{gateway or 'its gateway'} is no address of this machine: jobs cannot report"
        mend = f"docker network rm {JOB_NETWORK}, while no job runs; it is made again"
        return Check(name, "bad", problem, mend)
    return Check(name, "ok", f"jobs reach this machine at {gateway}")


# --- the coordinator ----------------------------------------------------------------------------


def _coordinator(output: Output, settings: Settings) -> Iterator[Check]:
    try:
        with output.client() as client:
            status = client.status()
    except Unavailable as error:
        yield Check("coordinator", "warn", str(error), "cirrus up")
        yield machine.port("port", settings.host, settings.port, "--port")
        yield machine.port("port", settings.host, settings.monitor_port, "--monitor-port")
    except CirrusError as error:
        yield Check("coordinator", "bad", str(error))
    else:
        yield Check("coordinator", "ok", f"{output.url} answers, version {status.version}")
