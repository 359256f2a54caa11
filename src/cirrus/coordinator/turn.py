"""One turn: decide a batch of inputs in one transaction. Nothing is said before the commit."""

from collections import deque
from collections.abc import Sequence

import msgspec

from cirrus.core.decision import Answer, Fired, Moved, Sent
from cirrus.core.engine import decide
from cirrus.core.inputs import HelloSaid, Input, Placed, Present, TimePassed
from cirrus.core.model import UnixTime
from cirrus.errors import Refused
from cirrus.store.base import Writer


class Speech(msgspec.Struct):
    """What may be said now: an answer for each input of the batch, and orders."""

    answers: list[tuple[Answer, ...] | Refused]
    orders: list[Sent]
    last_seq: int


def turn(
    store: Writer, batch: Sequence[Input], present: tuple[Present, ...], now: UnixTime
) -> Speech:
    """All of the batch is committed, or none. What it makes ready to run is placed with it."""
    speech = Speech([], [], 0)
    with store.transaction():
        ready = False
        for what in batch:
            try:
                answers, made_ready = _carry_out(store, what, now, speech.orders)
            except Refused as refused:
                speech.answers.append(refused)
            else:
                speech.answers.append(answers)
                ready = ready or made_ready
        if ready:
            _carry_out(store, Placed(present), now, speech.orders)
        speech.last_seq = store.last_seq()
    return speech


def _carry_out(
    store: Writer, first: Input, now: UnixTime, orders: list[Sent]
) -> tuple[tuple[Answer, ...], bool]:
    """Decide an input and what it causes, first in, first out.

    Returns the answers, and whether a job may have become ready or room may have become free.
    """
    answers: list[Answer] = []
    ready = isinstance(first, HelloSaid | TimePassed)
    waiting = deque((first,))
    while waiting:
        decision = decide(store, waiting.popleft(), now)
        for change in decision.changes:
            store.apply(change)
            ready = ready or _makes_ready(change)
        answers += decision.answers
        orders += decision.orders
        waiting += decision.follow
    return tuple(answers), ready


def _makes_ready(change: object) -> bool:
    return (isinstance(change, Fired) and change.state == "triggered") or isinstance(change, Moved)
