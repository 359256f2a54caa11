"""/v1/definitions: what is registered, and how it was; changes to many at once, all or nothing."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

from cirrus.coordinator.http.body import BATCH_MOST
from cirrus.coordinator.http.message import Answer, Request, answer, refused
from cirrus.coordinator.http.native.pages import Limit, Page, page_of
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.posting import Name, path_name
from cirrus.coordinator.http.router import Route
from cirrus.core.decision import Done
from cirrus.core.documents import check_name, parse
from cirrus.core.inputs import Applied, Definition, DefinitionKind
from cirrus.core.names import clip
from cirrus.errors import BadDocument, NotFound, Refused
from cirrus.store import records
from cirrus.store.questions import definitions

CURSOR: Final[dict[str, Any]] = {"pattern": "^(event|event_set|rule)/"}


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`after`: the `next` of the page before, as `kind/name`."""

    kind: DefinitionKind | None = None
    after: Annotated[str, Meta(max_length=220, extra_json_schema=CURSOR)] | None = None
    limit: Limit = 100


class OneQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`version`: as it was then; otherwise as it is now."""

    version: Annotated[int, Meta(ge=1, le=2**53)] | None = None


class Deletions(Struct, forbid_unknown_fields=True):
    events: list[Name] = []
    event_sets: list[Name] = []
    rules: list[Name] = []


class Changes(Struct, forbid_unknown_fields=True):
    """Documents by name, and names to delete. Deleting what is not there is no error."""

    events: dict[str, object] = {}
    event_sets: dict[str, object] = {}
    rules: dict[str, object] = {}
    delete: Deletions = field(default_factory=Deletions)


class Changed(Struct, frozen=True):
    """`changed` is false where it was like that already."""

    kind: DefinitionKind
    name: str
    version: int
    changed: bool


class AllChanged(Struct, frozen=True):
    definitions: list[Changed]


def definition_routes(coordinator: Coordinator) -> list[Route]:
    room = _Definitions(coordinator)
    one = "/v1/definitions/{kind}/{name}"
    return [
        Route(
            "GET",
            "/v1/definitions",
            room.list_all,
            "What is registered, by kind and name.",
            query=ListQuery,
            answer=(Page[records.Definition],),
        ),
        Route(
            "POST",
            "/v1/definitions",
            room.apply,
            "Register and delete many at once, all or nothing.",
            body=(Changes,),
            answer=(AllChanged,),
        ),
        Route(
            "GET",
            one,
            room.show,
            "One definition, as it is or as it was.",
            query=OneQuery,
            answer=(records.Definition,),
            refusals=(404,),
        ),
        Route(
            "PUT",
            one,
            room.put,
            "Register one.",
            body=(object,),
            answer=(Changed,),
            refusals=(404,),
        ),
        Route("DELETE", one, room.delete, "Delete one.", answer=(Changed,), refusals=(404,)),
    ]


class _Definitions:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def list_all(self, request: Request) -> Answer:
        query = request.query(ListQuery)
        kind, slash, name = (query.after or "").partition("/")
        if query.after is not None and not slash:
            raise Refused("bad_cursor", "after is the next of another page: kind/name", "after")
        found = await self._coordinator.read(
            lambda reader: definitions.definitions(reader, query.kind, (kind, name), query.limit)
        )
        return answer(page_of(found, lambda one: f"{one.kind}/{one.name}"))

    async def show(self, request: Request) -> Answer:
        kind, name = _subject(request)
        version = request.query(OneQuery).version
        if version is None:
            found = await self._coordinator.read(
                lambda reader: definitions.definition(reader, kind, name)
            )
        else:
            found = await self._coordinator.read(
                lambda reader: definitions.definition_version(reader, kind, name, version)
            )
        if found is None:
            which = "" if version is None else f" in version {version}"
            raise NotFound(f"unknown_{kind}", f"no {kind.replace('_', ' ')} {name}{which}", "name")
        return answer(found)

    async def put(self, request: Request) -> Answer:
        kind, name = _subject(request)
        definition = parse(kind, name, await request.json())
        return await self._one(kind, name, Applied(puts=(definition,)))

    async def delete(self, request: Request) -> Answer:
        kind, name = _subject(request)
        await request.no_body()
        return await self._one(kind, name, Applied(deletes=((kind, name),)))

    async def apply(self, request: Request) -> Answer:
        changes = await request.typed(Changes, BATCH_MOST)
        puts = (
            *_parsed("event", changes.events, "events"),
            *_parsed("event_set", changes.event_sets, "event_sets"),
            *_parsed("rule", changes.rules, "rules"),
        )
        deletes = (
            *_named("event", changes.delete.events, "delete.events"),
            *_named("event_set", changes.delete.event_sets, "delete.event_sets"),
            *_named("rule", changes.delete.rules, "delete.rules"),
        )
        # Who is put and deleted at once is put; the engine answers in this order.
        order = dict.fromkeys([*deletes, *((put.kind, put.name) for put in puts)])
        answers = await self._coordinator.ask(Applied(puts, deletes))
        return answer(
            AllChanged(
                [
                    Changed(kind, name, done.version, done.changed)
                    for (kind, name), done in zip(order, answers, strict=True)
                    if isinstance(done, Done)
                ]
            )
        )

    async def _one(self, kind: DefinitionKind, name: str, applied: Applied) -> Answer:
        (done,) = await self._coordinator.ask(applied)
        assert isinstance(done, Done), done
        return answer(Changed(kind, name, done.version, done.changed))


def _subject(request: Request) -> tuple[DefinitionKind, str]:
    kind, name = request.values
    if b"if-match" in request.headers or b"if-none-match" in request.headers:
        raise refused(412, "no_preconditions", "definitions have versions, but take no conditions")
    match kind:
        case "event" | "event_set" | "rule":
            return kind, path_name(name)
        case _:
            raise refused(
                404, "unknown_kind", f"{clip(kind)}: there are event, event_set and rule", "kind"
            )


def _parsed(kind: DefinitionKind, documents: dict[str, object], place: str) -> list[Definition]:
    parsed = []
    for name, document in documents.items():
        try:
            parsed.append(parse(kind, name, document))
        except BadDocument as error:
            where = f"{place}.{name[:200]}.{error.field}".rstrip(".")
            raise BadDocument(error.code, error.message, where) from error
    return parsed


def _named(kind: DefinitionKind, names: list[str], place: str) -> list[tuple[DefinitionKind, str]]:
    return [(kind, check_name(name, f"{place}[{at}]")) for at, name in enumerate(names)]
