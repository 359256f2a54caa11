"""The engine's events about one owner's containers: they save time, and nothing depends on them."""

import asyncio

import msgspec
from msgspec import Struct, field

from cirrus.errors import EngineAway
from cirrus.executors.engine import Engine, Stream
from cirrus.executors.request import Owner


class _Actor(Struct, frozen=True):
    id: str = field(name="ID")


class _Event(Struct, frozen=True):
    action: str = field(name="Action")
    actor: _Actor = field(name="Actor")


class Hints:
    """`starts`: whether the start of a container is news."""

    def __init__(self, engine: Engine, owner: Owner, *, starts: bool) -> None:
        self._engine = engine
        events = ["die", "oom", "destroy", "remove", *(["start"] if starts else [])]
        self._query = {"filters": owner.filters(type=["container"], event=events)}
        self._stream: Stream | None = None
        self._begun = b""
        self.died: set[str] = set()
        """Ids whose end was told. For a moment longer the engine may list them as running."""

    async def wait(self, seconds: float | None = None) -> None:
        """Return when something may have changed, or when `seconds` have passed.

        The end of the stream means that contact with the engine was lost: EngineAway.
        """
        if self._stream is None:
            self._stream = await self._engine.open("GET", "events", self._query)
            return  # what happened before it began can only be seen by looking
        try:
            async with asyncio.timeout(seconds):
                while content := await self._stream.read():
                    if self._is_news(content):
                        return
        except TimeoutError:
            return
        except EngineAway:
            await self.close()
            raise
        await self.close()
        raise EngineAway("docker", "the engine ended its stream of events")

    def _is_news(self, content: bytes) -> bool:
        news = False
        *lines, self._begun = (self._begun + content).split(b"\n")
        for line in filter(bytes.strip, lines):
            event = msgspec.json.decode(line, type=_Event)
            if event.action not in {"destroy", "remove"}:
                news = True
                if event.action == "die":
                    self.died.add(event.actor.id)
            elif event.actor.id in self.died:  # else its end is known, and we removed it
                news = True
                self.died.remove(event.actor.id)
        return news

    async def close(self) -> None:
        if self._stream:
            await self._stream.close()
        self._stream, self._begun = None, b""
        self.died.clear()
