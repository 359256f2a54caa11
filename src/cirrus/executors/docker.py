"""Attempts as containers of a Docker Engine: made, started once, watched, stopped, removed.

Docker starts an *exited* container again when it is told to start it, and calls that a success: so
`start` looks first, and never repeats itself blindly.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

from cirrus.core.messages import Offer, Run
from cirrus.core.model import Container
from cirrus.errors import EngineAway, StartRefused
from cirrus.executors import images, networks, request
from cirrus.executors.base import Sighting
from cirrus.executors.containers import RUNNING, Containers, Inspected, Listed, Made
from cirrus.executors.engine import CONFLICT, FAULTS, NOT_FOUND, Answer, Engine, absence, part
from cirrus.executors.ground import ground_of
from cirrus.executors.hints import Hints
from cirrus.executors.images import LOGINS
from cirrus.executors.request import Owner

SECONDS: Final = 120.0
"""Create and start take their time on a busy machine."""

PAUSES: Final = (0.0, 0.5, 1.0)
"""What may be a passing fault of the engine is tried again after these."""

HURRY_SECONDS: Final = 0.05
"""After that an engine looks at what it said had ended and listed as running."""

SETTLE_SECONDS: Final = 1.0
"""So long a start whose answer was lost may still be on its way."""


class DockerExecutor:
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
        """`address` is what DOCKER_HOST may hold; empty: what the docker command would choose.

        `private`: folders that no job may mount. `logins`: the docker command's config.json.
        """
        self._owner = Owner(instance, dispatcher, "docker")
        self._engine = Engine(address)
        self._containers = Containers(self._engine, self._owner)
        self._private = tuple(private)
        self._logins = logins
        self._hints = Hints(self._engine, self._owner, starts=False)
        self._ids: dict[str, str] = {}
        """By name: of containers that are ours."""
        self._untouched: set[str] = set()
        """Made by this object, and no start of it was ever asked for."""
        self._seen: dict[str, tuple[str, Sighting]] = {}
        """By id, with its status: spares inspecting again what stays as it is."""

    async def offer(self) -> Offer:
        try:
            info = await self._engine.info()
            gateway = await networks.job_gateway(self._engine)
        except EngineAway as away:
            if problem := absence(away):
                return Offer("docker", "", 0.0, 0, problem=problem)
            raise
        return Offer("docker", info.id, float(info.cores), info.memory, gateway)

    async def prepare(self, order: Run, folder: Path) -> None:
        activity = order.activity
        assert isinstance(activity, Container), order
        if activity.network:
            await networks.check(self._engine, activity.network)
        ground = await ground_of(self._engine, activity, self._private)
        if activity.pull == "always" and not await self._containers.find(order.name):
            await images.pull(self._engine, activity.image, self._logins)
        body = request.container(order, folder, self._owner, ground)
        answer = await self._create(order, body)
        if answer.status == NOT_FOUND and "no such image" in answer.message.lower():
            await images.fetch(self._engine, activity, self._logins)
            answer = await self._create(order, body)
        if answer.status != CONFLICT and not answer.ok:
            raise StartRefused(activity.image, answer.message)

    async def _create(self, order: Run, body: request.Request) -> Answer:
        """A conflict means that an earlier create got through: then it must be the same."""
        query, problem = {"name": order.name}, ""
        for pause in PAUSES:
            await asyncio.sleep(pause)
            answer = await self._engine.call(
                "POST", "containers/create", query, body=body, seconds=SECONDS
            )
            if answer.ok:
                self._ids[order.name] = answer.read(Made).id
                self._untouched.add(order.name)
                return answer
            if answer.status == CONFLICT:
                self._untouched.discard(order.name)
                found = await self._engine.get(f"containers/{part(order.name)}/json", Inspected)
                if found:
                    request.check_same(order, self._owner, found.labels)
                    return answer
            elif answer.status < FAULTS and not await networks.mended(self._engine):
                return answer
            problem = answer.message
        raise StartRefused(order.name, problem)

    async def start(self, order: Run, folder: Path) -> None:  # noqa: ARG002  (Swarm needs it)
        if not await self._may_start(order.name):
            return
        problem = ""
        for pause in PAUSES:
            await asyncio.sleep(pause)
            path = f"containers/{part(order.name)}/start"
            answer = await self._engine.call("POST", path, seconds=SECONDS)
            if answer.ok or not await self._is_startable(order.name):
                return
            problem = answer.message
            if not await networks.mended(self._engine) and answer.status < FAULTS:
                break
        raise StartRefused(order.name, problem)

    async def _may_start(self, name: str) -> bool:
        if name in self._untouched:
            self._untouched.discard(name)
            return True
        if not await self._is_startable(name):
            return False
        await asyncio.sleep(SETTLE_SECONDS)
        return await self._is_startable(name)

    async def _is_startable(self, name: str) -> bool:
        found = await self._containers.find(name)
        return found is not None and found.state.status == "created" and not found.state.started

    async def look(self) -> list[Sighting]:
        seen = {}
        for listed in await self._containers.ours():
            if name := self._owner.name(listed.labels):
                seen[listed.id] = await self._sighted(listed, name)
        self._seen = {key: known for key, known in seen.items() if known}
        self._ids = {sighting.name: key for key, (_, sighting) in self._seen.items()}
        self._hints.died -= {
            key for key, (status, _) in self._seen.items() if status not in RUNNING
        }
        return [sighting for _, sighting in self._seen.values()]

    async def _sighted(self, listed: Listed, name: str) -> tuple[str, Sighting] | None:
        if listed.status == "created":
            return listed.status, Sighting(name, "created")
        known = self._seen.get(listed.id)
        if known and known[0] == listed.status and listed.id not in self._hints.died:
            return known
        found = await self._containers.find(listed.id)
        return (found.state.status, found.sighting(name)) if found else None

    async def stop(self, name: str, grace_seconds: float) -> None:
        await self._containers.stop(self._ids.get(name, name), grace_seconds)

    async def logs(self, name: str, folder: Path) -> AsyncIterator[bytes]:  # noqa: ARG002
        if key := await self._id(name):
            async for piece in self._containers.logs(key):
                yield piece

    async def remove(self, name: str) -> None:
        self._untouched.discard(name)
        if key := await self._id(name):
            await self._containers.remove(key)

    async def _id(self, name: str) -> str:
        """Of a container of ours, or empty."""
        if name in self._ids:
            return self._ids[name]
        found = await self._containers.find(name)
        return found.id if found else ""

    async def wait(self) -> None:
        await self._hints.wait(HURRY_SECONDS if self._hints.died else None)

    async def close(self) -> None:
        await self._hints.close()
        await self._engine.close()
