"""The seed's routes, /r and /q. What they mean is the engine's; how they look, seed_shapes.py's."""

from cirrus.coordinator.http import seed_shapes
from cirrus.coordinator.http.body import read_json, typed
from cirrus.coordinator.http.message import Answer, NoQuery, Request, answer, refused
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.posting import SeedSent, occurrences, path_name, post_of
from cirrus.coordinator.http.router import Route
from cirrus.coordinator.http.seed_lists import (
    QueueQuery,
    all_definitions,
    event_queue,
    state_queue,
)
from cirrus.core.documents import parse
from cirrus.core.inputs import (
    Applied,
    DefinitionKind,
    NoteMade,
    Posted,
    ResetAsked,
    StatesCleared,
)
from cirrus.core.names import clip
from cirrus.store.questions import definitions


def seed_routes(coordinator: Coordinator) -> list[Route]:
    seed = _Seed(coordinator)
    return [
        Route("GET", "/r/{type}/{name}", seed.show),
        Route("PUT", "/r/{type}/{name}", seed.put),
        Route("POST", "/r/{type}/{name}", seed.post),
        Route("DELETE", "/r/{type}/{name}", seed.delete),
        Route("GET", "/q/{list}", seed.show_list, query=QueueQuery),
        Route("DELETE", "/q/{list}", seed.clear_list),
    ]


class _Seed:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def show(self, request: Request) -> Answer:
        kind, name = _kind(request.values[0]), path_name(request.values[1])
        found = await self._coordinator.read(
            lambda reader: definitions.definition(reader, kind, name)
        )
        if found is None:
            raise refused(404, "not_found", f"{kind}:{name} not found")
        return answer({**seed_shapes.definition(found), "status": "OK"})

    async def put(self, request: Request) -> Answer:
        kind, name = _kind(request.values[0]), path_name(request.values[1])
        definition = parse(kind, name, await read_seed(request))
        await self._coordinator.ask(Applied(puts=(definition,)))
        return seed_shapes.done(f"set {kind}:{name}")

    async def post(self, request: Request) -> Answer:
        kind, name = _kind(request.values[0]), path_name(request.values[1])
        sent = typed(await read_seed(request), SeedSent)
        if kind == "event" and sent.action == "trigger":
            posted = Posted((post_of(name, sent),))
            return seed_shapes.triggered(occurrences(await self._coordinator.ask(posted)))
        if kind == "rule" and (note := seed_shapes.note_of(sent)):
            await self._coordinator.ask(NoteMade(name, note))
            return seed_shapes.noted(name, note)
        return seed_shapes.wrong_action(sent)

    async def delete(self, request: Request) -> Answer:
        kind, name = _kind(request.values[0]), path_name(request.values[1])
        await request.no_body()
        await self._coordinator.ask(Applied(deletes=((kind, name),)))
        return seed_shapes.done(f"{kind}:{name} deleted")

    async def show_list(self, request: Request) -> Answer:
        match request.values[0]:
            case "queue:event":
                return await event_queue(self._coordinator, request.query(QueueQuery))
            case "queue:rule_state":
                return await state_queue(self._coordinator, request.query(QueueQuery))
            case other:
                request.query(NoQuery)
                return await all_definitions(self._coordinator, _kind(other))

    async def clear_list(self, request: Request) -> Answer:
        await request.no_body()
        match request.values[0]:
            case "queue:event":
                await self._coordinator.ask(ResetAsked(None, None))
            case "queue:rule_state":
                await self._coordinator.ask(StatesCleared())
            case other:
                await self._delete_all(_kind(other))
        return seed_shapes.done(f"{request.values[0]} deleted")

    async def _delete_all(self, kind: DefinitionKind) -> None:
        names = await self._coordinator.read(lambda reader: definitions.names(reader, kind))
        await self._coordinator.ask(Applied(deletes=tuple((kind, name) for name in names)))


async def read_seed(request: Request) -> object:
    """A body as JSON, or as JSON in a JSON string: then it is decoded exactly once more."""
    value = await request.json()
    return read_json(value.encode()) if isinstance(value, str) else value


def _kind(text: str) -> DefinitionKind:
    match text:
        case "event" | "event_set" | "rule":
            return text
        case _:
            raise refused(
                404, "not_found", f"{clip(text)} not found: there are event, event_set and rule"
            )
