"""`cirrus dispatcher`: the link, the executors of this machine, and the loop between them."""

import os
from collections.abc import Callable
from pathlib import Path

from cirrus.config import DispatcherSettings
from cirrus.core.messages import Order
from cirrus.dispatcher.link import Link
from cirrus.dispatcher.service import Options, run
from cirrus.errors import SetupError
from cirrus.executors.base import Executor
from cirrus.keys import coordinator_public, dispatcher_keys, enrol
from cirrus.sockets import local_endpoint

INSTANCE_FILE = "instance"
"""In the data directory: the coordinator's id, which names and labels of attempts carry."""


async def serve(settings: DispatcherSettings, *, with_parent: bool = False) -> None:
    """Run until SIGINT or SIGTERM; `with_parent`: or until its standard input ends."""
    data_dir = settings.data_dir
    coordinator = coordinator_public(data_dir)
    instance = _instance(data_dir)
    pair = dispatcher_keys(settings.folder)
    enrol(data_dir, settings.name, pair.public)

    def connect(on_orders: Callable[[list[Order]], None], on_connect: Callable[[], None]) -> Link:
        return Link(
            settings.coordinator or local_endpoint(data_dir),
            pair,
            coordinator=coordinator,
            on_orders=on_orders,
            on_connect=on_connect,
        )

    options = Options(
        name=settings.name,
        state=settings.folder,
        slots=settings.slots,
        log_keep_bytes=settings.log_keep_bytes,
        watch_parent=with_parent,
    )
    await run(options, _executors(settings, instance), connect)


def _instance(data_dir: Path) -> str:
    try:
        return (data_dir / INSTANCE_FILE).read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise SetupError(data_dir, "no coordinator has run here yet; start it first") from error


def _executors(settings: DispatcherSettings, instance: str) -> dict[str, Executor]:
    names = settings.executors or ("process", "docker", "swarm")
    return {name: _executor(name, settings, instance) for name in names}


def _executor(name: str, settings: DispatcherSettings, instance: str) -> Executor:
    # Imported here, because what talks to an engine costs memory that not everybody needs.
    if name == "process":
        from cirrus.executors.process import ProcessExecutor  # noqa: PLC0415

        return ProcessExecutor(settings.folder / "attempts", os.environ)
    if name == "docker":
        from cirrus.executors.docker import DockerExecutor  # noqa: PLC0415

        return DockerExecutor(instance, settings.name, private=(settings.data_dir,))
    from cirrus.executors.swarm import SwarmExecutor  # noqa: PLC0415

    return SwarmExecutor(instance, settings.name, private=(settings.data_dir,))
