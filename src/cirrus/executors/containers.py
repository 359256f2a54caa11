"""The containers of one owner: list, inspect, follow, stop, remove. Nobody else's are touched."""

import math
from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime
from typing import Final

from msgspec import Struct, field

from cirrus.core.model import UnixTime
from cirrus.errors import EngineAway
from cirrus.executors.base import Sighting
from cirrus.executors.engine import (
    CALL_SECONDS,
    CONFLICT,
    NOT_FOUND,
    REFUSALS,
    Answer,
    Engine,
    part,
)
from cirrus.executors.request import Owner

RUNNING: Final = frozenset({"running", "paused", "restarting"})
HEADER_BYTES: Final = 8
KILLS: Final = 2
"""How often one that outlived its grace is killed again."""


class State(Struct, frozen=True):
    status: str = field(name="Status")
    exit_code: int = field(name="ExitCode")
    is_paused: bool = field(name="Paused", default=False)
    oom_killed: bool = field(name="OOMKilled", default=False)
    error: str = field(name="Error", default="")
    started_at: datetime | None = field(name="StartedAt", default=None)
    finished_at: datetime | None = field(name="FinishedAt", default=None)

    @property
    def started(self) -> UnixTime | None:
        return _unix(self.started_at)

    @property
    def finished(self) -> UnixTime | None:
        return _unix(self.finished_at)

    @property
    def is_running(self) -> bool:
        return self.status in RUNNING


class _Config(Struct, frozen=True):
    labels: dict[str, str] | None = field(name="Labels", default=None)


class Inspected(Struct, frozen=True):
    id: str = field(name="Id")
    state: State = field(name="State")
    config: _Config = field(name="Config")

    @property
    def labels(self) -> dict[str, str]:
        return self.config.labels or {}

    def sighting(self, name: str) -> Sighting:
        state = self.state
        if state.status == "created":
            return Sighting(name, "created", problem=state.error)
        if state.is_running:
            problem = "somebody paused it" if state.is_paused else ""
            return Sighting(name, "running", started=state.started, problem=problem)
        if state.status != "exited":
            return Sighting(name, "dead", problem=f"the engine says: {state.status}")
        return Sighting(
            name,
            "exited",
            exit_code=state.exit_code,
            oom_killed=state.oom_killed,
            started=state.started,
            finished=state.finished,
            problem=state.error,
        )


class Made(Struct, frozen=True):
    id: str = field(name="Id")


class Listed(Struct, frozen=True):
    id: str = field(name="Id")
    status: str = field(name="State")
    labels: dict[str, str] = field(name="Labels")

    @property
    def is_running(self) -> bool:
        return self.status in RUNNING


class Containers:
    """Every method sees only containers that carry the owner's labels."""

    def __init__(self, engine: Engine, owner: Owner) -> None:
        self._engine = engine
        self._owner = owner

    async def ours(self) -> list[Listed]:
        query = {"all": "1", "filters": self._owner.filters()}
        answer = await self._engine.call("GET", "containers/json", query)
        return answer.read(list[Listed])

    async def find(self, name: str) -> Inspected | None:
        found = await self._engine.get(f"containers/{part(name)}/json", Inspected)
        return found if found and self._owner.owns(found.labels) else None

    async def stop(self, name: str, grace_seconds: float) -> None:
        """TERM, wait, KILL, and see that it has ended."""
        for grace in (math.ceil(grace_seconds), *[0] * KILLS):
            found = await self.find(name)
            if not found or not found.state.is_running:
                return
            if found.state.is_paused:  # signals would wait until somebody wakes it up
                await self._engine.call("POST", f"containers/{found.id}/unpause")
            await self._engine.call(
                "POST",
                f"containers/{found.id}/stop",
                {"t": str(grace)},
                seconds=grace + CALL_SECONDS,
            )
        raise EngineAway(name, "it does not end, though it was killed")

    async def logs(self, id: str) -> AsyncIterator[bytes]:
        """Both streams from their beginning, until it ends."""
        query = {"follow": "1", "stdout": "1", "stderr": "1"}
        async with await self._engine.open("GET", f"containers/{id}/logs", query) as stream:
            if stream.status == NOT_FOUND:
                return
            if stream.status >= REFUSALS:
                content = b"".join([chunk async for chunk in stream])
                raise EngineAway(id, Answer(stream.status, content).message)
            async for piece in demultiplexed(stream):
                yield piece

    async def remove(self, id: str) -> None:
        """Nothing happens to one that runs, or that is gone or going."""
        answer = await self._engine.call("DELETE", f"containers/{id}", {"v": "1"})
        if not answer.ok and answer.status not in {NOT_FOUND, CONFLICT}:
            raise EngineAway(id, answer.message)


async def demultiplexed(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The content alone, in order: before every piece, 8 bytes tell its stream and its length."""
    header, left = b"", 0
    async for chunk in chunks:
        pieces, at = [], 0
        while at < len(chunk):
            if left:
                pieces.append(chunk[at : at + left])
                at += len(pieces[-1])
                left -= len(pieces[-1])
            else:
                wanted = HEADER_BYTES - len(header)
                header += chunk[at : at + wanted]
                at += wanted
                if len(header) == HEADER_BYTES:
                    header, left = b"", int.from_bytes(header[4:], "big")
        if pieces:
            yield b"".join(pieces)


def _unix(moment: datetime | None) -> UnixTime | None:
    """An engine writes the year 1 for what has not happened."""
    return moment.timestamp() if moment and moment.year > 1 else None
