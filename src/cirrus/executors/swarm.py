"""Attempts as Docker Swarm services: each a replicated job of one task, tried once, on this node.

An attempt's folder lies on this node, so its task runs here, and its container is this engine's: to
stop, to read its log, to see when it began. How it ended is what Swarm says of its task.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from cirrus.core.messages import Offer, Run
from cirrus.core.model import Container
from cirrus.errors import EngineAway, StartRefused
from cirrus.executors import images, networks, request
from cirrus.executors.base import Sighting
from cirrus.executors.containers import Containers, Inspected, Listed
from cirrus.executors.engine import CALL_SECONDS, Engine, Info, absence
from cirrus.executors.ground import ground_of
from cirrus.executors.hints import Hints
from cirrus.executors.images import LOGINS
from cirrus.executors.networks import DEFAULT_NETWORK
from cirrus.executors.request import Owner
from cirrus.executors.services import Service, Services, Task

BEGIN_SECONDS: Final = 30.0
"""How long a task may take to begin, once Swarm has given it a place."""

HURRY_SECONDS: Final = 0.05
"""Swarm learns a moment later than the engine that a container ended."""


class SwarmExecutor:
    writes_log = False
    prepares = True

    def __init__(
        self,
        instance: str,
        dispatcher: str,
        address: str = "",
        *,
        private: Iterable[Path] = (),
        logins: Path = LOGINS,
    ) -> None:
        """As DockerExecutor's."""
        self._owner = Owner(instance, dispatcher, "swarm")
        self._engine = Engine(address)
        self._containers = Containers(self._engine, self._owner)
        self._services = Services(self._engine, self._owner)
        self._hints = Hints(self._engine, self._owner, starts=True)
        self._private = tuple(private)
        self._logins = logins
        self._seen: dict[str, tuple[Task | None, Sighting]] = {}
        """By name: spares asking again about a task that stays as it is."""

    async def offer(self) -> Offer:
        try:
            info = await self._engine.info()
            bridge = await networks.find(self._engine, DEFAULT_NETWORK)
        except EngineAway as away:
            if problem := absence(away):
                return Offer("swarm", "", 0.0, 0, problem=problem)
            raise
        gateway = bridge.gateway if bridge else ""
        problem = _obstacle(info) or ("" if gateway else "the engine has no default bridge")
        return Offer("swarm", info.id, float(info.cores), info.memory, gateway, problem)

    async def prepare(self, order: Run, folder: Path) -> None:
        """Only what can fail: a service starts as soon as it is made."""
        activity = order.activity
        assert isinstance(activity, Container), order
        if activity.pull == "always" and not await self._services.find(order.name):
            await images.pull(self._engine, activity.image, self._logins)
        await self._body(order, folder)

    async def _body(self, order: Run, folder: Path) -> request.Request:
        activity = order.activity
        assert isinstance(activity, Container), order
        if activity.network:
            await networks.check_for_tasks(self._engine, activity.network)
        ground = await ground_of(self._engine, activity, self._private)
        # By its id: about a name, Swarm would ask a registry first, even if the image is here.
        image = await images.image_id(self._engine, activity, self._logins)
        node = (await self._engine.known()).swarm.node
        return request.service(order, folder, self._owner, replace(ground, image=image, node=node))

    async def start(self, order: Run, folder: Path) -> None:
        """Returns when its task has begun. EngineAway while Swarm lets it wait for room."""
        service = await self._services.called(order.name)
        if service is None:
            answer = await self._services.create(await self._body(order, folder))
            # After a conflict too: an earlier create got through, and its answer was lost.
            service = await self._services.called(order.name)
            if service is None:
                raise StartRefused(order.name, answer.message)
        request.check_same(order, self._owner, service.spec.labels)
        give_up = time.monotonic() + BEGIN_SECONDS
        while service and not await self._has_begun(service):
            if time.monotonic() > give_up:
                raise EngineAway(order.name, f"no task began in {BEGIN_SECONDS:.0f} s")
            await asyncio.sleep(HURRY_SECONDS)
            service = await self._services.find(order.name)

    async def _has_begun(self, service: Service) -> bool:
        name, task = service.spec.name, service.task
        if task is None or task.status.state == "running":
            return task is not None
        problem = task.status.problem
        if task.has_ended and _never_ran(task, await self._container(task)):
            raise StartRefused(name, problem)
        if problem and not task.has_ended:
            raise EngineAway(name, f"Swarm lets it wait: {problem}")
        return task.has_ended

    async def look(self) -> list[Sighting]:
        if (await self._engine.known()).swarm.state == "inactive":
            return []
        services = await self._services.ours()
        self._seen = {service.spec.name: await self._sighted(service) for service in services}
        begun = [task for task, _ in self._seen.values() if task and task.has_begun]
        self._hints.died &= {task.status.container.id for task in begun}
        return [sighting for _, sighting in self._seen.values()]

    async def _sighted(self, service: Service) -> tuple[Task | None, Sighting]:
        name, task = service.spec.name, service.task
        known = self._seen.get(name)
        if known and task and known[0] == task:
            return known
        if task is None or not (task.has_begun or task.has_ended):
            return task, Sighting(name, "created", problem=task.status.problem if task else "")
        container = await self._container(task)
        if task.has_ended:
            return task, _end(name, task, container)
        if container and not container.state.started:
            return task, Sighting(name, "created")
        started = container.state.started if container else None
        return task, Sighting(name, "running", started=started)

    async def _container(self, task: Task) -> Inspected | None:
        key = task.status.container.id
        return await self._containers.find(key) if key else None

    async def stop(self, name: str, grace_seconds: float) -> None:
        """A container that runs is stopped; a service that has none yet is removed."""
        give_up = time.monotonic() + grace_seconds + CALL_SECONDS
        while time.monotonic() < give_up:
            for container in await self._of(name):
                await self._containers.stop(container.id, grace_seconds)
            service = await self._services.find(name)
            if service is None or (service.task and service.task.has_ended):
                return
            if not (service.task and service.task.has_begun):
                await self._services.remove(service)
            await asyncio.sleep(HURRY_SECONDS)
        raise EngineAway(name, "its task does not end")

    async def logs(self, name: str, folder: Path) -> AsyncIterator[bytes]:  # noqa: ARG002
        for container in await self._of(name):
            async for piece in self._containers.logs(container.id):
                yield piece

    async def remove(self, name: str) -> None:
        service = await self._services.find(name)
        containers = await self._of(name)
        if any(container.is_running for container in containers):
            return
        # First the container: of a service that is gone nobody would look for it.
        for container in containers:
            await self._containers.remove(container.id)
        if service:
            await self._services.remove(service)

    async def _of(self, name: str) -> list[Listed]:
        """The containers of an attempt: one, once its task has got so far."""
        listed = await self._containers.ours()
        return [container for container in listed if self._owner.name(container.labels) == name]

    async def wait(self) -> None:
        await self._hints.wait(HURRY_SECONDS if self._hints.died else None)

    async def close(self) -> None:
        await self._hints.close()
        await self._engine.close()


def _obstacle(info: Info) -> str:
    if not info.swarm.node:
        return "the engine is no Swarm node: docker swarm init --advertise-addr 127.0.0.1"
    if not info.swarm.is_manager:
        return f"this node does not manage its Swarm: docker node promote {info.swarm.node}"
    return ""


def _end(name: str, task: Task, container: Inspected | None) -> Sighting:
    status = task.status
    if _never_ran(task, container):
        return Sighting(name, "created", problem=status.problem)
    if status.state == "orphaned":
        return Sighting(name, "dead", problem="its node was lost")
    code = status.container.exit_code
    return Sighting(
        name,
        "exited",
        # A task that failed with 0 is one whose container somebody took away.
        exit_code=code if code or status.state == "complete" else None,
        oom_killed=container.state.oom_killed if container else False,
        started=container.state.started if container else None,
        finished=(container.state.finished if container else None) or status.since.timestamp(),
        problem=status.problem,
    )


def _never_ran(task: Task, container: Inspected | None) -> bool:
    """Rejected, or its container was made and could not be started."""
    if container:
        return not container.state.started
    return not task.status.container.id
