"""decide(): what is known + what happened + what time it is → what to write and what to say."""

from typing import Final

from cirrus.core.acceptance import digest, posted
from cirrus.core.decision import (
    Change,
    Decision,
    Defined,
    DispatcherKnown,
    Done,
    Noted,
    Paused,
    Sent,
    View,
    WasReset,
)
from cirrus.core.inputs import (
    Applied,
    CancelAsked,
    DefinitionKind,
    GivenUp,
    HelloSaid,
    Input,
    NoteMade,
    Occurred,
    PauseAsked,
    Placed,
    Posted,
    Reported,
    ResetAsked,
    RetryAsked,
    StatesCleared,
    TimePassed,
    WorkerPosted,
)
from cirrus.core.jobs import (
    cancel_asked,
    corrections,
    given_up,
    reported,
    retry_asked,
    time_passed,
    worker_posted,
)
from cirrus.core.messages import Welcome
from cirrus.core.model import Post, UnixTime
from cirrus.core.placement import placed
from cirrus.core.triggering import occurred
from cirrus.errors import Conflict, NotFound

STATES_CLEARED: Final = "cleared"
"""The note after which the seed's rule-state queue begins anew."""


def decide(view: View, what: Input, now: UnixTime) -> Decision:  # noqa: C901, PLR0911, PLR0912
    """Same arguments, same decision. Raises Refused, having decided nothing."""
    match what:
        case Occurred():
            return occurred(view, what, now)
        case Posted():
            return posted(view, what)
        case WorkerPosted():
            return worker_posted(view, what)
        case Reported():
            return reported(view, what, now)
        case Placed():
            return placed(view, what, now)
        case TimePassed():
            return time_passed(view, what, now)
        case GivenUp():
            return given_up(view, what, now)
        case HelloSaid():
            return _hello_said(view, what, now)
        case Applied():
            return _applied(view, what, now)
        case ResetAsked():
            return _reset_asked(view, what, now)
        case CancelAsked():
            return cancel_asked(view, what, now)
        case RetryAsked():
            return retry_asked(view, what, now)
        case PauseAsked():
            return _pause_asked(view, what, now)
        case NoteMade():
            noted = Noted(view.last_seq() + 1, now, what.rule, what.state, what.job)
            return Decision((noted,), answers=(Done(what.rule),))
        case StatesCleared():
            noted = Noted(view.last_seq() + 1, now, "", STATES_CLEARED)
            return Decision((noted,), answers=(Done(),))


def _applied(view: View, what: Applied, now: UnixTime) -> Decision:
    seq = view.last_seq()
    changes: list[Change] = []
    answers: list[Done] = []
    wanted: dict[tuple[DefinitionKind, str], bytes | None] = dict.fromkeys(what.deletes)
    wanted |= {(put.kind, put.name): put.document for put in what.puts}
    for (kind, name), document in wanted.items():
        version, kept = view.definition(kind, name)
        if kept == document:
            answers.append(Done(name, version, changed=False))
            continue
        seq += 1
        changes.append(Defined(seq, now, kind, name, version + 1, document))
        answers.append(Done(name, version + 1))
    return Decision(tuple(changes), answers=tuple(answers))


def _reset_asked(view: View, what: ResetAsked, now: UnixTime) -> Decision:
    content = b""
    if what.identity is not None:
        content = digest(Post("reset", key=what.key, data={"namespace": what.namespace}))
        earlier = view.reset_accepted(what.identity)
        if earlier is not None and earlier.digest != content:
            raise Conflict(
                "identity_taken", "another reset has this source and id: give it a new id", "id"
            )
        if earlier is not None:
            return Decision(answers=(Done(str(earlier.seq), earlier.seq, changed=False),))
    seq = view.last_seq() + 1
    reset = WasReset(seq, now, what.key, what.namespace, what.identity, content)
    jobs = view.jobs_under(what.key, what.namespace) if what.cancel_jobs else ()
    return Decision(
        (reset,),
        follow=tuple(CancelAsked(job, asked=False) for job in jobs),
        answers=(Done(str(seq), seq),),
    )


def _pause_asked(view: View, what: PauseAsked, now: UnixTime) -> Decision:
    version, _ = view.definition("rule", what.rule)
    # The jobs of a deleted rule may wait still.
    if not version:
        near = view.near(what.rule, "rule")
        hint = f"; did you mean {near}?" if near else ""
        raise NotFound("unknown_rule", f"no rule {what.rule}{hint}", "rule")
    state = "paused" if what.paused else "resumed"
    noted = Noted(view.last_seq() + 1, now, what.rule, state)
    return Decision((Paused(what.rule, what.paused), noted), answers=(Done(what.rule),))


def _hello_said(view: View, what: HelloSaid, now: UnixTime) -> Decision:
    welcome = Sent(what.hello.dispatcher, Welcome(view.instance))
    return Decision((DispatcherKnown(what.hello, now),), (welcome, *corrections(view, what)))
