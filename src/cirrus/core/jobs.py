"""What becomes of a job: its attempts' reports, time, and what people ask for it."""

import msgspec

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
    HelloSaid,
    Occurred,
    Reported,
    RetryAsked,
    TimePassed,
    WorkerPosted,
)
from cirrus.core.lifecycle import JobState, ended, may_move
from cirrus.core.messages import Accepted, Ended, Outcome, Settled, Started, Stop
from cirrus.core.model import AutoTrigger, Post, UnixTime
from cirrus.core.placement import order_to_run
from cirrus.core.triggering import Plan, fire, triggered
from cirrus.errors import Conflict, NotFound, Refused

INFRASTRUCTURE = ("interrupted", "unknown", "lost")
"""Outcomes that are nobody's fault: they spend `crash_limit`, not `attempts`."""
RESEND_SECONDS = 3.0
FORGOTTEN_SECONDS = 30.0
"""A dispatcher that is there, and has not listed an accepted attempt for so long, lost it."""
BACKOFF_MOST_SECONDS = 300.0


def backoff_seconds(failed: int) -> float:
    """Wait before the next attempt: doubles from 1 s. `failed` counts the ends before, from 1."""
    return float(min(2 ** min(failed - 1, 20), BACKOFF_MOST_SECONDS))


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
            return _started(view, *current, report)
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
    progress = msgspec.structs.replace(assigned, accepted=True)
    return Decision((AttemptSeen(job.id, progress),))


def _started(view: View, job: Job, assigned: Assigned, report: Started) -> Decision:
    if job.state == "running":
        return Decision()
    progress = msgspec.structs.replace(assigned, accepted=True)
    return Decision((_move(view, job, "running", report.time, progress=progress),))


def _late(view: View, job: Job | None, report: Ended) -> tuple[Change, ...]:
    """The end of an attempt that was given up: kept to be seen, and nothing else."""
    if job is None or view.attempt_outcome(job.id, report.attempt) not in ("lost", "unknown"):
        return ()
    return (
        AttemptEnded(
            report.job, report.attempt, report.outcome, report.started, report.finished, late=True
        ),
    )


def _ended(view: View, job: Job, report: Ended, now: UnixTime) -> Decision:
    """An end is counted here and only here, once: afterwards the attempt is not current."""
    assert isinstance(job.progress, Assigned)
    outcome = report.outcome
    if job.progress.stopping and outcome.kind != "success":
        outcome = Outcome("cancelled", outcome.exit_code, outcome.reason)
    record = AttemptEnded(job.id, job.attempt, outcome, report.started, report.finished)
    match outcome.kind:
        case "success":
            decision = _succeeded(view, job, report, now)
        case "cancelled":
            decision = Decision((_move(view, job, "cancelled", now, outcome=outcome),))
        case "failure" | "timeout":
            decision = _again(view, job, outcome, now, failures=job.failures + 1)
        case "interrupted" | "unknown" | "lost":
            decision = _again(view, job, outcome, now, crashes=job.crashes + 1)
        case "oom" | "refused":
            decision = _failed(view, job, outcome, now)
    return Decision((record, *decision.changes), decision.orders, decision.follow)


def _succeeded(view: View, job: Job, report: Ended, now: UnixTime) -> Decision:
    state = view.firing_state(job.rule.name, job.key)
    cause = msgspec.structs.replace(job.cause, stale=job.generation < state.counted)
    data = msgspec.json.decode(report.output, type=dict[str, object]) if report.output else {}
    changes: list[Change] = [
        _move(view, job, "succeeded", now, outcome=report.outcome, output=report.output)
    ]
    if job.generation > state.counted:
        changes.append(
            StateSet(job.rule.name, job.key, msgspec.structs.replace(state, counted=job.generation))
        )
    activity = job.rule.activity
    assert not isinstance(activity, AutoTrigger)
    events = job.triggering if activity.triggers == "cirrus" else ()
    follow = triggered(view, events, cause, Post("", data=data, force=job.forced), job.key)
    left = tuple(
        one for one in follow if not view.worker_triggered(job.id, one.post.event, one.key)
    )
    return Decision(tuple(changes), follow=left)


def _again(
    view: View, job: Job, outcome: Outcome, now: UnixTime, *, failures: int = 0, crashes: int = 0
) -> Decision:
    """Another attempt, later, or the end of the job when its attempts are spent."""
    if failures >= job.rule.attempts or crashes > view.bounds.crash_limit:
        return _failed(view, job, outcome, now, failures=failures, crashes=crashes)
    spent = Moved(
        seq=view.last_seq() + 1,
        time=now,
        job=job,
        state="triggered",
        attempt=job.attempt,
        failures=failures or job.failures,
        crashes=crashes or job.crashes,
        progress=Waiting(now + backoff_seconds(max(failures, crashes, 1))),
        outcome=outcome,
    )
    return Decision((spent,))


def _failed(
    view: View, job: Job, outcome: Outcome, now: UnixTime, *, failures: int = 0, crashes: int = 0
) -> Decision:
    moved = _move(view, job, "failed", now, outcome=outcome)
    moved = msgspec.structs.replace(
        moved, failures=failures or job.failures, crashes=crashes or job.crashes
    )
    events = view.triggered_by(job.rule.on_failure) if job.rule.on_failure else ()
    data: dict[str, object] = {
        "job": job.id,
        "rule": job.rule.name,
        "outcome": outcome.kind,
        "exit_code": outcome.exit_code,
        "reason": outcome.reason,
    }
    post = Post("", data=data, force=job.forced)
    return Decision((moved,), follow=triggered(view, events, job.cause, post, job.key))


def _move(  # noqa: PLR0913  (the row's own columns)
    view: View,
    job: Job,
    state: JobState,
    now: UnixTime,
    *,
    progress: Assigned | None = None,
    outcome: Outcome | None = None,
    output: bytes = b"",
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
        progress=progress,
        outcome=outcome,
        output=output,
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
        raise Refused("refused_by_event", f"{post.event}: {problem}", "data")
    first = view.worker_triggered(job.id, post.event, key)
    if first:
        return Decision(answers=(Occurrence(first, post.event, key, duplicate=True),))
    state = view.firing_state(job.rule.name, job.key)
    cause = msgspec.structs.replace(job.cause, stale=job.generation < state.counted)
    forced = msgspec.structs.replace(post, force=post.force or job.forced, identity=None)
    return Decision(follow=(Occurred(forced, key, cause=cause, asked=True, by_worker=True),))


# --- what people ask ----------------------------------------------------------------------------


def cancel_asked(view: View, what: CancelAsked, now: UnixTime) -> Decision:
    """At once where nothing runs; otherwise when its attempt has ended."""
    job = _job(view, what.job)
    answers = (Done(job.id, changed=not ended(job.state)),) if what.asked else ()
    match job.progress:
        case None:
            return Decision(answers=answers)
        case Waiting():
            moved = _move(view, job, "cancelled", now, outcome=Outcome("cancelled"))
            return Decision((moved,), answers=answers)
        case Assigned() as assigned:
            stopping = msgspec.structs.replace(assigned, stopping=True)
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
    for job in view.active_jobs():
        assigned = job.progress
        assert isinstance(assigned, Assigned)
        one = present.get(assigned.dispatcher)
        there = one is not None and one.connected
        listed = one.listed.get((job.id, job.attempt), 0.0) if one is not None else 0.0
        silent = now - max(listed, what.listening_since, assigned.since)
        outcome = _given_up(view, assigned, silent, there=there)
        if outcome is not None:
            decision = _ended(view, job, Ended(job.id, job.attempt, outcome, None, None), now)
            # One at a time: the next decision must see what this one has changed.
            return Decision(decision.changes, follow=(*decision.follow, what))
        if there and assigned.stopping:
            orders.append(Sent(assigned.dispatcher, Stop(job.id, job.attempt)))
        elif there and not assigned.accepted and now - assigned.since > RESEND_SECONDS:
            orders.append(Sent(assigned.dispatcher, order_to_run(view, job)))
    return Decision(orders=tuple(orders))


def _given_up(view: View, assigned: Assigned, silent: float, *, there: bool) -> Outcome | None:
    if silent > view.bounds.lost_after_seconds:
        return Outcome("lost", reason=f"dispatcher {assigned.dispatcher} was silent about it")
    if there and assigned.accepted and silent > FORGOTTEN_SECONDS:
        return Outcome("unknown", reason=f"dispatcher {assigned.dispatcher} does not know it")
    return None
