"""Whether an occurrence may be accepted, under which key, and how a repeat is recognised."""

import hashlib

import msgspec

from cirrus.core.decision import Decision, View
from cirrus.core.inputs import Occurred, Posted
from cirrus.core.model import Event, Identity, Post
from cirrus.core.names import clip, is_key
from cirrus.core.schemas import schema_problem
from cirrus.errors import BadDocument, Conflict, NotFound


def posted(view: View, what: Posted) -> Decision:
    """All or nothing: a wrong one refuses the whole request, before anything is changed."""
    follow: list[Occurred] = []
    inside: dict[Identity, Post] = {}
    for place, post in enumerate(what.posts):
        field = f"occurrences[{place}]" if len(what.posts) > 1 else ""
        if _repeats(view, post, inside):
            follow.append(Occurred(post, post.key or "", asked=True, repeat=True))
            continue
        event = view.event(post.event)
        if what.strict and event is None and not view.mentioned(post.event):
            raise _unknown_event(view, post.event, field)
        key, problem = settle(event, post, inherited="")
        if problem:
            raise BadDocument("refused_by_event", f"{post.event}: {problem}", field or "data")
        follow.append(Occurred(post, key, asked=True))
    return Decision(follow=tuple(follow))


def _repeats(view: View, post: Post, inside: dict[Identity, Post]) -> bool:
    """Whether its identity was accepted, or stands earlier in this request; else it does now.

    Raises Conflict when the earlier one had other content.
    """
    identity = post.identity
    if identity is None:
        return False
    if identity in inside:
        earlier = digest(inside[identity])
    elif (stored := view.accepted(identity)) is not None:
        earlier = stored.digest
    else:
        inside[identity] = post
        return False
    if earlier != digest(post):
        raise Conflict(
            "identity_taken",
            f"source {clip(identity.source)} with id {clip(identity.id)} was accepted with other"
            " content: give a new occurrence a new id",
            "id",
        )
    return True


def _unknown_event(view: View, name: str, field: str) -> NotFound:
    near = view.near(name, "event")
    hint = f"; did you mean {near}?" if near else "; define it, or a set or rule that waits for it"
    return NotFound("unknown_event", f"no event {name}{hint}", f"{field}.event".strip("."))


def digest(post: Post) -> bytes:
    """16 bytes over what makes a repeat equal: event, given key, data, force."""
    content = msgspec.json.encode(
        (post.event, post.key, post.data, post.force), order="deterministic"
    )
    return hashlib.sha256(content).digest()[:16]


def settle(event: Event | None, post: Post, inherited: str) -> tuple[str, str]:
    """The key: given, else by the event's path, else inherited. And why it is refused, or empty."""
    if event is not None and event.schema:
        problem = schema_problem(event.schema, post.data)
        if problem:
            return post.key or inherited, problem
    if post.key is not None:
        return post.key, ""
    if event is None or not event.key:
        return inherited, ""
    return _key_at(event.key, post, inherited)


def _key_at(path: str, post: Post, inherited: str) -> tuple[str, str]:
    if path == "key":
        return inherited, ""
    if path == "event":
        return post.event, ""
    found: object = post.data
    for step in path.split(".")[1:]:
        if not isinstance(found, dict) or step not in found:
            return inherited, f"its key path {path} leads nowhere in the data"
        found = found[step]
    if isinstance(found, bool) or not isinstance(found, str | int):
        return inherited, f"its key path {path} leads to neither a text nor a whole number"
    key = str(found)
    if not is_key(key):
        return inherited, f"its key path {path} leads to {clip(key)}, which is not a key"
    return key, ""
