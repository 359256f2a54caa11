"""The Swarm services of one owner, and the task of each. Nobody else's are touched."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct, field

from cirrus.errors import EngineAway
from cirrus.executors.engine import NOT_FOUND, Answer, Engine, part
from cirrus.executors.request import Owner, Request

CREATE_SECONDS: Final = 120.0


class _Ran(Struct, frozen=True):
    id: str = field(name="ContainerID", default="")
    exit_code: int = field(name="ExitCode", default=0)


class _Status(Struct, frozen=True):
    state: str = field(name="State")
    since: datetime = field(name="Timestamp")
    problem: str = field(name="Err", default="")
    container: _Ran = field(name="ContainerStatus", default=_Ran())


class Task(Struct, frozen=True):
    id: str = field(name="ID")
    service: str = field(name="ServiceID")
    created: str = field(name="CreatedAt")
    status: _Status = field(name="Status")

    @property
    def has_begun(self) -> bool:
        """Its container may be running."""
        return self.status.state in {"starting", "running"}

    @property
    def has_ended(self) -> bool:
        ends = {"complete", "failed", "rejected", "shutdown", "orphaned", "remove"}
        return self.status.state in ends


class _Specification(Struct, frozen=True):
    name: str = field(name="Name")
    labels: dict[str, str] = field(name="Labels")


class Service(Struct, frozen=True):
    id: str = field(name="ID")
    spec: _Specification = field(name="Spec")
    task: Task | None = None
    """Its newest; none for a moment after it was made."""


class Services:
    def __init__(self, engine: Engine, owner: Owner) -> None:
        self._engine = engine
        self._owner = owner

    async def create(self, body: Request) -> Answer:
        return await self._engine.call("POST", "services/create", body=body, seconds=CREATE_SECONDS)

    async def ours(self) -> list[Service]:
        query = {"filters": self._owner.filters()}
        services = (await self._engine.call("GET", "services", query)).read(list[Service])
        return _joined(services, await self._tasks(query)) if services else []

    async def called(self, name: str) -> Service | None:
        """The service of this name, whosever it is."""
        service = await self._engine.get(f"services/{part(name)}", Service)
        if service is None:
            return None
        query = {"filters": msgspec.json.encode({"service": [service.id]}).decode()}
        return _joined([service], await self._tasks(query))[0]

    async def find(self, name: str) -> Service | None:
        service = await self.called(name)
        return service if service and self._owner.owns(service.spec.labels) else None

    async def remove(self, service: Service) -> None:
        answer = await self._engine.call("DELETE", f"services/{service.id}")
        if not answer.ok and answer.status != NOT_FOUND:
            raise EngineAway(service.spec.name, answer.message)

    async def _tasks(self, query: dict[str, str]) -> list[Task]:
        return (await self._engine.call("GET", "tasks", query)).read(list[Task])


def _joined(services: Iterable[Service], tasks: Iterable[Task]) -> list[Service]:
    newest = {task.service: task for task in sorted(tasks, key=lambda task: task.created)}
    return [msgspec.structs.replace(service, task=newest.get(service.id)) for service in services]
