"""The engine's events about one owner's containers: they save time, and nothing depends on them."""

import asyncio
from typing import Final

import msgspec
from msgspec import Struct, field

from cirrus.errors import EngineAway
from cirrus.executors.engine import Engine, Stream
from cirrus.executors.request import Owner

EVENTS: Final = ["start", "die", "oom", "destroy", "remove"]  # Podman's word for destroy: remove


class _Event(Struct, frozen=True):
    id: str = ""
    action: str = field(name="Action", default="")


class Hints:
    def __init__(self, engine: Engine, owner: Owner) -> None:
        self._engine = engine
        self._owner = owner
        self._stream: Stream | None = None
        self._begun = b""
        self.died: set[str] = set()
        """Ids whose end was told. For a moment longer the engine may list them as running."""

    async def wait(self, seconds: float | None = None) -> None:
        """Return when something may have changed, or when `seconds` have passed.

        The end of the stream means that contact with the engine was lost: EngineAway.
        """
        if self._stream is None:
            query = {"filters": self._owner.filters(type=["container"], event=EVENTS)}
            self._stream = await self._engine.open("GET", "events", query)
            return  # what happened before it began can only be seen by looking
        try:
            async with asyncio.timeout(seconds):
                content = await self._stream.read()
        except TimeoutError:
            return
        except EngineAway:
            await self.close()
            raise
        if not content:
            await self.close()
            raise EngineAway("docker", "the engine ended its stream of events")
        self._note(content)

    def _note(self, content: bytes) -> None:
        *lines, self._begun = (self._begun + content).split(b"\n")
        for line in filter(bytes.strip, lines):
            event = msgspec.json.decode(line, type=_Event)
            if event.action == "die":
                self.died.add(event.id)
            elif event.action in {"destroy", "remove"}:
                self.died.discard(event.id)

    async def close(self) -> None:
        if self._stream:
            await self._stream.close()
        self._stream, self._begun = None, b""
        self.died.clear()
