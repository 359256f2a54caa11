"""/v1/occurrences: post one or many, all or nothing, with the verdicts; read what occurred."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from cirrus.coordinator.http.body import BATCH_MOST, BODY_MOST, typed
from cirrus.coordinator.http.message import Answer, Request, answer
from cirrus.coordinator.http.native.pages import Limit, Page, Seq, Text, page_of
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.posting import Accepted, Sent, occurrences, post_of
from cirrus.coordinator.http.router import Route
from cirrus.core.decision import Occurrence
from cirrus.core.inputs import Posted
from cirrus.core.model import Post
from cirrus.errors import NotFound, Refused, TooLarge
from cirrus.store import records
from cirrus.store.questions import END, Window
from cirrus.store.questions import occurrences as questions

POSTS_MOST: Final = 1000
COUNT: Final[dict[str, Any]] = {"minItems": 1, "maxItems": POSTS_MOST}
SEQ: Final = re.compile(r"[1-9][0-9]{0,15}")


class Many(Struct, forbid_unknown_fields=True):
    """1 to 1,000 occurrences, decided in their order, in one transaction."""

    occurrences: Annotated[list[Sent], Meta(extra_json_schema=COUNT)]


class AllAccepted(Struct, frozen=True):
    occurrences: list[Accepted]


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The newest first; with `after`, the oldest first, beyond that `seq`. `before`: up to there.

    `next` goes into `after` where that was given, otherwise into `before`.
    """

    event: Text | None = None
    key: Text | None = None
    after: Seq | None = None
    before: Seq | None = None
    limit: Limit = 100


def occurrence_routes(coordinator: Coordinator) -> list[Route]:
    room = _Occurrences(coordinator)
    return [
        Route(
            "POST",
            "/v1/occurrences",
            room.post,
            "Post one occurrence, or many, all or nothing. Answers after the commit.",
            body=(Sent, Many),
            answer=(Accepted, AllAccepted),
            refusals=(404, 409),
        ),
        Route(
            "GET",
            "/v1/occurrences",
            room.list_all,
            "What occurred.",
            query=ListQuery,
            answer=(Page[records.Occurrence],),
        ),
        Route(
            "GET",
            "/v1/occurrences/{seq}",
            room.show,
            "One occurrence, with its verdicts.",
            answer=(records.Occurrence,),
            refusals=(404,),
        ),
    ]


class _Occurrences:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def post(self, request: Request) -> Answer:
        value = await request.json(BATCH_MOST)
        if isinstance(value, dict) and "occurrences" in value:
            posts = _posts(typed(value, Many))
            accepted = await self._accepted(posts)
            return answer(AllAccepted(accepted))
        if request.size > BODY_MOST:
            raise TooLarge("body_too_large", f"the body has more than {BODY_MOST} bytes")
        sent = typed(value, Sent)
        (one,) = await self._accepted((post_of(sent.event, sent),))
        return answer(one)

    async def list_all(self, request: Request) -> Answer:
        query = request.query(ListQuery)
        listed = questions.newest if query.after is None else questions.oldest
        window = Window(
            after=query.after or 0,
            before=END if query.before is None else query.before,
            limit=query.limit,
        )
        found = await self._coordinator.read(
            lambda reader: listed(reader, query.event, query.key, window)
        )
        return answer(page_of(found, lambda one: one.seq))

    async def show(self, request: Request) -> Answer:
        text = request.values[0]
        seq = int(text) if SEQ.fullmatch(text) else 0
        found = await self._coordinator.read(lambda reader: questions.occurrence(reader, seq))
        if found is None:
            raise NotFound("unknown_occurrence", f"no occurrence has the seq {text[:20]}", "seq")
        return answer(found)

    async def _accepted(self, posts: tuple[Post, ...]) -> list[Accepted]:
        answers = occurrences(await self._coordinator.ask(Posted(posts, strict=True)))
        assert len(answers) == len(posts), answers
        first_of = {
            post.identity: one.seq
            for post, one in zip(posts, answers, strict=True)
            if post.identity and not one.duplicate
        }
        accepted = []
        for post, one in zip(posts, answers, strict=True):
            if one.duplicate:
                assert post.identity is not None, post
                seq = one.seq or first_of[post.identity]
                accepted.append(await self._duplicate(one, seq))
            else:
                accepted.append(
                    Accepted(one.seq, one.event, one.key, duplicate=False, verdicts=one.verdicts)
                )
        return accepted

    async def _duplicate(self, one: Occurrence, seq: int) -> Accepted:
        """With the verdicts that it had when it was accepted."""
        first = await self._coordinator.read(lambda reader: questions.occurrence(reader, seq))
        key, verdicts = (one.key, one.verdicts) if first is None else (first.key, first.verdicts)
        return Accepted(seq, one.event, key, duplicate=True, verdicts=verdicts)


def _posts(many: Many) -> tuple[Post, ...]:
    sent: Sequence[Sent] = many.occurrences
    if not sent:
        raise Refused("no_occurrences", "give at least one occurrence", "occurrences")
    if len(sent) > POSTS_MOST:
        raise TooLarge(
            "too_many_occurrences",
            f"{len(sent)} occurrences in one request: send {POSTS_MOST} at most",
            "occurrences",
        )
    return tuple(
        post_of(one.event, one, f"occurrences[{place}].") for place, one in enumerate(sent)
    )
