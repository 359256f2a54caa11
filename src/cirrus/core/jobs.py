"""What becomes of a job: its attempts' reports, time, and what people ask for it."""

from typing import Final

import msgspec
from msgspec.structs import replace

from cirrus.core.acceptance import settle
from cirrus.core.decision import (
    Assigned,
    AttemptEnded,
    AttemptSeen,
    Change,
    Decision,
    Done,
    Job,
    Moved,
    Occurrence,
    Sent,
    StateSet,
    View,
    Waiting,
)
from cirrus.core.inputs import (
    CancelAsked,
    GivenUp,
    HelloSaid,
    Occurred,
    Reported,
    RetryAsked,
    TimePassed,
    WorkerPosted,
)
from cirrus.core.lifecycle import JobState, ended, may_move
from cirrus.core.messages import Accepted, Ended, Outcome, Settled, Started, Stop
from cirrus.core.model import AutoTrigger, Cause, Post, UnixTime, namespace_of
from cirrus.core.placement import order_to_run
from cirrus.core.triggering import Plan, fire, triggered
from cirrus.errors import BadDocument, Conflict, NotFound, Refused

RESEND_SECONDS: Final = 3.0
FORGOTTEN_SECONDS: Final = 30.0
"""A dispatcher that is there, and has not listed an accepted attempt for so long, lost it."""
BACKOFF_MOST_SECONDS: Final = 300.0
OUTPUT_BYTES_MOST: Final = 64 * 1024
OUTPUT_DEPTH_MOST: Final = 32


def backoff_seconds(attempt: int) -> float:
    """Wait after this attempt ended badly: doubles from 1 s, at most 300 s. It counts from 1."""
    # Nobody waits for 2 ** 1000 to be computed.
    return min(2.0 ** min(attempt - 1, 10), BACKOFF_MOST_SECONDS)


# --- reports ------------------------------------------------------------------------------------


def reported(view: View, what: Reported, now: UnixTime) -> Decision:
    report = what.report
    job = view.job(report.job)
    current = _current(job, report.attempt, what.dispatcher)
    match report:
        case Accepted():
            if current is None:
                return _disown(job, report, what.dispatcher)
            return _accepted(*current)
        case Started():
            if current is None:
                return _disown(job, report, what.dispatcher)
            return _started(view, current, report, now)
        case Ended():
            settled = Sent(what.dispatcher, Settled(report.job, report.attempt))
            if current is None:
                return Decision(_late(view, job, report), orders=(settled,))
            decision = _ended(view, current[0], report, now)
            return Decision(decision.changes, (settled,), decision.follow)


def _current(job: Job | None, attempt: int, dispatcher: str) -> tuple[Job, Assigned] | None:
    """The job with its assignment, if this attempt is its current one, at this dispatcher."""
    if job is None or job.attempt != attempt or not isinstance(job.progress, Assigned):
        return None
    return (job, job.progress) if job.progress.dispatcher == dispatcher else None


def _disown(job: Job | None, report: Accepted | Started, dispatcher: str) -> Decision:
    """An attempt that is not wanted any more is ended; its end is then settled like any other."""
    if job is not None and job.attempt == report.attempt and job.state == "succeeded":
        return Decision()
    return Decision(orders=(Sent(dispatcher, Stop(report.job, report.attempt)),))


def _accepted(job: Job, assigned: Assigned) -> Decision:
    if assigned.accepted:
        return Decision()
    return Decision((AttemptSeen(job.id, replace(assigned, accepted=True)),))


def _started(view: View, current: tuple[Job, Assigned], report: Started, now: UnixTime) -> Decision:
    job, assigned = current
    if job.state == "running":
        return Decision()
    # The dispatcher's clock is shown and never decided by: the move happens now.
    moved = _move(view, job, "running", now)
    progress = replace(assigned, accepted=True)
    return Decision((replace(moved, progress=progress, started=report.time),))


def _late(view: View, job: Job | None, report: Ended) -> tuple[Change, ...]:
    """The end of an attempt that was given up: kept to be seen, and nothing else."""
    recorded = None if job is None else view.attempt_outcome(job.id, report.attempt)
    if recorded not in ("lost", "unknown") or recorded == report.outcome.kind:
        return ()
    return (
        AttemptEnded(
            report.job, report.attempt, report.outcome, report.started, report.finished, late=True
        ),
    )


def _ended(view: View, job: Job, report: Ended, now: UnixTime) -> Decision:
    """An end is counted here and only here, once: afterwards the attempt is not current."""
    assert isinstance(job.progress, Assigned)
    data = _output(report.output)
    outcome = _outcome(job.progress, report.outcome, fits=data is not None)
    record = AttemptEnded(job.id, job.attempt, outcome, report.started, report.finished)
    decision: Decision
    match outcome.kind:
        case "success":
            moved = _move(view, job, "succeeded", now, outcome)
            decision = _succeeded(view, job, replace(moved, output=report.output), data or {})
        case "cancelled":
            decision = Decision((_move(view, job, "cancelled", now, outcome),))
        case "failure" | "timeout":
            decision = _again(view, replace(job, failures=job.failures + 1), outcome, now)
        case "interrupted" | "unknown" | "lost":
            decision = _again(view, replace(job, crashes=job.crashes + 1), outcome, now)
        case "oom" | "refused":
            decision = _failed(view, job, outcome, now)
    return Decision((record, *decision.changes), decision.orders, decision.follow)


def _outcome(assigned: Assigned, said: Outcome, *, fits: bool) -> Outcome:
    if said.kind == "success" and not fits:
        reason = f"its output is not a JSON object of at most {OUTPUT_BYTES_MOST} bytes"
        said = Outcome("refused", said.exit_code, reason)
    if assigned.stopping and said.kind != "success":
        return Outcome("cancelled", said.exit_code, said.reason)
    return said


def _output(encoded: bytes) -> dict[str, object] | None:
    """What a job wrote; None for what is no output, though a dispatcher should refuse it."""
    if len(encoded) > OUTPUT_BYTES_MOST:
        return None
    try:
        data = msgspec.json.decode(encoded or b"{}", type=dict[str, object])
    except (ValueError, RecursionError):  # every error of msgspec is a ValueError
        return None
    return data if _fits(data, OUTPUT_DEPTH_MOST) else None


def _fits(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels > 0 and all(_fits(inner, levels - 1) for inner in value.values())
    if isinstance(value, list):
        return levels > 0 and all(_fits(inner, levels - 1) for inner in value)
    return True


def _succeeded(view: View, job: Job, moved: Moved, data: dict[str, object]) -> Decision:
    cause = _cause(view, job)
    changes: list[Change] = [moved]
    if not cause.stale:
        state = view.firing_state(job.rule.name, job.key)
        changes.append(StateSet(job.rule.name, job.key, replace(state, counted=job.generation)))
    activity = job.rule.activity
    assert not isinstance(activity, AutoTrigger)
    events = job.triggering if activity.triggers == "cirrus" else ()
    follow = triggered(view, events, cause, Post("", data=data, force=job.forced), job.key)
    left = tuple(
        one for one in follow if not view.worker_triggered(job.id, one.post.event, one.key)
    )
    return Decision(tuple(changes), follow=left)


def _cause(view: View, job: Job) -> Cause:
    """What the job triggers now is caused by this."""
    counted = view.firing_state(job.rule.name, job.key).counted
    reset = view.newest_reset(namespace_of(job.rule.name), job.key)
    return replace(job.cause, stale=job.generation < counted, late=reset > job.fired)


def _again(view: View, job: Job, outcome: Outcome, now: UnixTime) -> Decision:
    """Another attempt, later, or the end of the job when its attempts are spent."""
    if job.failures >= job.rule.attempts or job.crashes > view.bounds.crash_limit:
        return _failed(view, job, outcome, now)
    due = Waiting(now + backoff_seconds(job.attempt))
    return Decision((replace(_move(view, job, "triggered", now, outcome), progress=due),))


def _failed(view: View, job: Job, outcome: Outcome, now: UnixTime) -> Decision:
    moved = _move(view, job, "failed", now, outcome)
    events = view.triggered_by(job.rule.on_failure) if job.rule.on_failure else ()
    data: dict[str, object] = {
        "job": job.id,
        "rule": job.rule.name,
        "outcome": outcome.kind,
        "exit_code": outcome.exit_code,
        "reason": outcome.reason,
    }
    # That a newer generation succeeded does not unsay that this one failed.
    cause = replace(_cause(view, job), stale=False)
    post = Post("", data=data, force=job.forced)
    return Decision((moved,), follow=triggered(view, events, cause, post, job.key))


def _move(
    view: View, job: Job, state: JobState, now: UnixTime, outcome: Outcome | None = None
) -> Moved:
    assert may_move(job.state, state), (job.id, job.state, state)
    return Moved(
        seq=view.last_seq() + 1,
        time=now,
        job=job,
        state=state,
        attempt=job.attempt,
        failures=job.failures,
        crashes=job.crashes,
        progress=None,
        outcome=outcome,
    )


# --- workers that trigger by themselves ---------------------------------------------------------


def worker_posted(view: View, what: WorkerPosted) -> Decision:
    job = view.job(what.job)
    if job is None or job.attempt != what.attempt or not isinstance(job.progress, Assigned):
        raise Conflict("stale_attempt", "this attempt has ended: its token triggers nothing more")
    post = what.post
    if post.event not in job.triggering:
        error = Refused("not_triggering", f"rule {job.rule.name} does not trigger {post.event}")
        error.status = 403
        raise error
    key, problem = settle(view.event(post.event), post, inherited=job.key)
    if problem:
        raise BadDocument("refused_by_event", f"{post.event}: {problem}", "data")
    first = view.worker_triggered(job.id, post.event, key)
    if first:
        return Decision(answers=(Occurrence(first, post.event, key, duplicate=True),))
    forced = replace(post, force=post.force or job.forced, identity=None)
    occurred = Occurred(forced, key, cause=_cause(view, job), asked=True, by_worker=True)
    return Decision(follow=(occurred,))


# --- what people ask ----------------------------------------------------------------------------


def cancel_asked(view: View, what: CancelAsked, now: UnixTime) -> Decision:
    """At once where nothing runs; otherwise when its attempt has ended."""
    job = _job(view, what.job)
    answers = (Done(job.id, changed=not ended(job.state)),) if what.asked else ()
    match job.progress:
        case None:
            return Decision(answers=answers)
        case Waiting():
            moved = _move(view, job, "cancelled", now, Outcome("cancelled"))
            return Decision((moved,), answers=answers)
        case Assigned() as assigned:
            stopping = replace(assigned, stopping=True)
            stop = Sent(assigned.dispatcher, Stop(job.id, job.attempt))
            return Decision((AttemptSeen(job.id, stopping),), (stop,), answers=answers)


def retry_asked(view: View, what: RetryAsked, now: UnixTime) -> Decision:
    job = _job(view, what.job)
    if not ended(job.state):
        raise Conflict(
            "not_ended", f"job {job.id} is {job.state}: only an ended job is tried again"
        )
    state = view.firing_state(job.rule.name, job.key)
    newest = view.rule(job.rule.name)
    if newest is None:
        raise Conflict("rule_deleted", f"rule {job.rule.name} is deleted: define it, then retry")
    event_set, members = view.job_members(job.id)
    plan = Plan(
        newest,
        event_set,
        job.key,
        state,
        members=members,
        forced=job.forced or job.state == "succeeded",
        root=job.cause.root,
        depth=job.cause.depth,
        retried=job.id,
    )
    made = fire(view, plan, view.last_seq() + 1, now)
    return Decision(made.changes, follow=made.follow, answers=(Done(made.fired.job),))


def _job(view: View, id: str) -> Job:
    job = view.job(id)
    if job is None:
        raise NotFound("unknown_job", f"no job {id}", "job")
    return job


# --- dispatchers and time -----------------------------------------------------------------------


def corrections(view: View, what: HelloSaid) -> tuple[Sent, ...]:
    """What a dispatcher must be told after it said what it has."""
    hello = what.hello
    orders: list[Sent] = []
    for live in hello.live:
        job = view.job(live.job)
        if _current(job, live.attempt, hello.dispatcher) is None and live.state != "ended":
            orders.append(Sent(hello.dispatcher, Stop(live.job, live.attempt)))
    for job in view.active_jobs(hello.dispatcher):
        assert isinstance(job.progress, Assigned)
        if job.progress.stopping:
            orders.append(Sent(hello.dispatcher, Stop(job.id, job.attempt)))
        elif not job.progress.accepted:
            orders.append(Sent(hello.dispatcher, order_to_run(view, job)))
    return tuple(orders)


def time_passed(view: View, what: TimePassed, now: UnixTime) -> Decision:
    """Say again what was perhaps not heard; give up an attempt that fell silent."""
    present = {one.name: one for one in what.present}
    orders: list[Sent] = []
    follow: list[GivenUp] = []
    for job in view.active_jobs():
        assigned = job.progress
        assert isinstance(assigned, Assigned)
        one = present.get(assigned.dispatcher)
        there = one is not None and one.connected
        listed = one.listed.get((job.id, job.attempt), 0.0) if one is not None else 0.0
        silent = now - max(listed, what.listening_since, assigned.since)
        outcome = _silence(view, assigned, silent, there=there)
        if outcome is not None:
            # Decided one by one: each must see what the one before has changed.
            follow.append(GivenUp(job.id, job.attempt, outcome))
        elif there and assigned.stopping:
            orders.append(Sent(assigned.dispatcher, Stop(job.id, job.attempt)))
        elif there and not assigned.accepted and now - assigned.since > RESEND_SECONDS:
            orders.append(Sent(assigned.dispatcher, order_to_run(view, job)))
    return Decision(orders=tuple(orders), follow=tuple(follow))


def given_up(view: View, what: GivenUp, now: UnixTime) -> Decision:
    job = view.job(what.job)
    assert job is not None, what
    return _ended(view, job, Ended(job.id, what.attempt, what.outcome, None, None), now)


def _silence(view: View, assigned: Assigned, silent: float, *, there: bool) -> Outcome | None:
    if silent > view.bounds.lost_after_seconds:
        return Outcome("lost", reason=f"dispatcher {assigned.dispatcher} was silent about it")
    if there and assigned.accepted and silent > FORGOTTEN_SECONDS:
        return Outcome("unknown", reason=f"dispatcher {assigned.dispatcher} does not know it")
    return None
