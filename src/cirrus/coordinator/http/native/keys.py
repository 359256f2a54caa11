"""/v1/keys and /v1/resets: what stands under a key, what it waits for; making it fall."""

from msgspec import UNSET, Struct, UnsetType

from cirrus.coordinator.http.message import Answer, Request, answer, refused
from cirrus.coordinator.http.native.pages import Limit, Page, Text, page_of
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.posting import Id, Key, Name, identity_of, path_key
from cirrus.coordinator.http.router import Route
from cirrus.core.decision import Done
from cirrus.core.documents import check_key, check_name
from cirrus.core.inputs import ResetAsked
from cirrus.core.names import clip
from cirrus.errors import NotFound
from cirrus.store import records
from cirrus.store.questions import keys as questions


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """In the order of their bytes."""

    prefix: Text = ""
    after: Text | None = None
    limit: Limit = 100


class Reset(Struct, forbid_unknown_fields=True):
    """`key` null: every key. `namespace`: only events of it. With `id` it may be sent again."""

    key: Key | UnsetType | None = UNSET
    namespace: Name | UnsetType | None = UNSET
    source: Key | None = None
    id: Id | None = None
    cancel_jobs: bool = False


class WasReset(Struct, frozen=True):
    seq: int
    duplicate: bool


def key_routes(coordinator: Coordinator) -> list[Route]:
    room = _Keys(coordinator)
    return [
        Route(
            "GET",
            "/v1/keys",
            room.list_all,
            "Keys that something occurred under.",
            query=ListQuery,
            answer=(Page[records.KeySummary],),
        ),
        Route(
            "GET",
            "/v1/keys/{key...}",
            room.show,
            "What stands under a key, and which joins wait there. A key may hold slashes.",
            answer=(records.KeyDetails,),
            refusals=(404,),
        ),
        Route(
            "POST",
            "/v1/resets",
            room.reset,
            "Let all that stands under a key, or under every key, fall.",
            body=(Reset,),
            answer=(WasReset,),
            refusals=(409,),
        ),
    ]


class _Keys:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def list_all(self, request: Request) -> Answer:
        query = request.query(ListQuery)
        found = await self._coordinator.read(
            lambda reader: questions.keys(reader, query.prefix, query.after, query.limit)
        )
        return answer(page_of(found, lambda one: one.key))

    async def show(self, request: Request) -> Answer:
        key = path_key(request.values[0])
        found = await self._coordinator.read(lambda reader: questions.key_details(reader, key))
        if found is None:
            raise NotFound("unknown_key", f"nothing occurred under the key {clip(key)}", "key")
        return answer(found)

    async def reset(self, request: Request) -> Answer:
        asked = await request.typed(Reset)
        if asked.key is UNSET and asked.namespace is UNSET:
            raise refused(422, "no_key", "say which key to reset; null resets every key", "key")
        key = asked.key if isinstance(asked.key, str) else None
        namespace = asked.namespace if isinstance(asked.namespace, str) else None
        if key is not None:
            check_key(key)
        if namespace is not None:
            check_name(namespace, "namespace")
        (done,) = await self._coordinator.ask(
            ResetAsked(
                key,
                namespace,
                identity=identity_of(asked.source, asked.id),
                cancel_jobs=asked.cancel_jobs,
            )
        )
        assert isinstance(done, Done), done
        return answer(WasReset(done.version, duplicate=not done.changed))
