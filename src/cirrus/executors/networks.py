"""The job network, and which other networks a job may join: any, but never its host's own."""

from typing import Final

from msgspec import Struct, field

from cirrus.errors import EngineAway, StartRefused
from cirrus.executors.engine import CONFLICT, Engine, part
from cirrus.executors.request import JOB_NETWORK, NETWORK_LABELS, job_network

NO_NETWORK: Final = "none"
DEFAULT_NETWORK: Final = "bridge"
"""What a Swarm task is on that names no network. It has its gateway even while no task runs."""


class _Range(Struct, frozen=True):
    gateway: str = field(name="Gateway", default="")


class _Addresses(Struct, frozen=True):
    ranges: list[_Range] | None = field(name="Config", default=None)


class Network(Struct, frozen=True):
    driver: str = field(name="Driver")
    scope: str = field(name="Scope")
    labels: dict[str, str] | None = field(name="Labels", default=None)
    addresses: _Addresses = field(name="IPAM", default=_Addresses())

    @property
    def gateway(self) -> str:
        """The host's address as containers on this network see it; empty if it has none."""
        return next((area.gateway for area in self.addresses.ranges or () if area.gateway), "")


async def find(engine: Engine, name: str) -> Network | None:
    return await engine.get(f"networks/{part(name)}", Network)


async def mended(engine: Engine) -> bool:
    """Whether the job network had to be made: somebody may have removed it while it was idle."""
    if await find(engine, JOB_NETWORK):
        return False
    made = await engine.call("POST", "networks/create", body=job_network())
    if not made.ok and made.status != CONFLICT:
        raise EngineAway(JOB_NETWORK, f"the job network cannot be made: {made.message}")
    return True


async def job_gateway(engine: Engine) -> str:
    """The gateway of the job network, which is made if it is not there."""
    await mended(engine)
    network = await find(engine, JOB_NETWORK)
    if network is None or not (network.labels or {}).items() >= NETWORK_LABELS.items():
        raise EngineAway(
            JOB_NETWORK, "a network of this name is not Cirrus's: docker network rm cirrus"
        )
    return network.gateway


async def check(engine: Engine, name: str) -> Network | None:
    """StartRefused unless a job may join the network called so. None for the engine's `none`."""
    if name == NO_NETWORK:
        return None
    network = await find(engine, name)
    if network is None:
        raise StartRefused(name, f"there is no such network: docker network create {name}")
    # Asked of the engine, for a network's id is a name too.
    if network.driver == "host" or name == "host" or ":" in name:
        raise StartRefused(name, "a job may not use the network of its host")
    return network


async def check_for_tasks(engine: Engine, name: str) -> None:
    """`check`, for a Swarm task."""
    network = await check(engine, name)
    if network is None:
        raise StartRefused(name, "Swarm runs no job without a network; task_type docker does")
    if network.scope != "swarm" and name != DEFAULT_NETWORK:
        raise StartRefused(name, "Swarm takes its own networks: docker network create -d overlay")
