"""The dispatcher's decide: what it answers for + what an engine shows + time → what to do.

Pure. Looks, notes of what was done, folders and messages are service.py's job. Times named `…_at`
and `now` are seconds of the dispatcher's monotonic clock; `UnixTime` is only shown to people.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from cirrus.core.messages import (
    Accepted,
    Ended,
    Live,
    Outcome,
    OutcomeKind,
    Report,
    Run,
    Settled,
    Started,
    Stop,
)
from cirrus.core.model import Container, UnixTime

Why = Literal["cancelled", "timeout"]
Key = tuple[str, int]
"""Job and attempt."""


class Sighting(Struct, frozen=True):
    """An attempt as its engine shows it right now.

    `created`: exists and was never started. `exited`: its end is final. `dead`: the engine can
    neither run nor remove it.
    """

    name: str
    state: Literal["created", "running", "exited", "dead"]
    exit_code: int | None = None
    oom_killed: bool = False
    started: UnixTime | None = None
    finished: UnixTime | None = None
    problem: str = ""


class Look(Struct, frozen=True):
    """What an engine showed when it was asked at `began_at`."""

    began_at: float
    sightings: Mapping[str, Sighting]
    outage: tuple[UnixTime, UnixTime] | None = None
    """When contact with the engine was last lost, and when it was back."""


class Attempt(Struct, frozen=True):
    """An attempt that this dispatcher answers for, from its Run until its end is settled."""

    order: Run
    filed: bool = False
    """Its folder exists."""
    marked: bool = False
    """Its `started` mark exists: it may have been started."""
    started_at: float | None = None
    """When it began to run; its timeout counts from here."""
    started: UnixTime | None = None
    """The same, as it was reported; None: nobody was told yet that it runs."""
    shaken: bool = False
    """Contact with its engine was lost after it was last seen running."""
    stop: Why | None = None
    """It is to be stopped."""
    killed: Why | None = None
    """It was told to stop."""
    end: Ended | None = None
    settled: bool = False
    log_kept: bool = False
    """Its whole log is in its folder, or what could be had of it."""
    acted_at: float = 0.0
    """When something was last done about it: an older look may show the time before."""
    rests_until: float = 0.0
    """Something failed; it is not tried again before."""
    failures: int = 0
    """How often in a row."""

    @property
    def key(self) -> Key:
        return self.order.job, self.order.attempt


# --- what the dispatcher does about an attempt --------------------------------------------------


class Start(Struct, frozen=True):
    """Prepare it, mark it, start it."""


class Began(Struct, frozen=True):
    """It runs, which nobody was told yet."""

    started: UnixTime | None


class Kill(Struct, frozen=True):
    """TERM, the attempt's grace, KILL."""

    why: Why


class End(Struct, frozen=True):
    """It has ended. Its output is still to be read."""

    outcome: Outcome
    started: UnixTime | None = None
    finished: UnixTime | None = None


class Clear(Struct, frozen=True):
    """All is said and settled: remove it from its engine, put its folder away."""


Action = Start | Began | Kill | End | Clear


def decide(attempt: Attempt, look: Look | None, now: float) -> Action | None:
    """What to do about one attempt. Without a look, only what needs none."""
    if attempt.end is not None:
        return _ended(attempt, look, now)
    if look is None:
        return None if attempt.marked else _never_started(attempt, now)
    if look.began_at < attempt.acted_at:
        return None
    return _seen(attempt, look, now)


def _seen(attempt: Attempt, look: Look, now: float) -> Action | None:
    sighting = look.sightings.get(attempt.order.name)
    if sighting is None:
        return _gone(attempt) if attempt.marked else _never_started(attempt, now)
    match sighting.state:
        case "created":
            return _never_started(attempt, now)
        case "running":
            return _running(attempt, sighting, now)
        case "exited" | "dead":
            return _over(attempt, sighting, look.outage)


def _ended(attempt: Attempt, look: Look | None, now: float) -> Action | None:
    if now < attempt.rests_until:
        return None
    sighting = look.sightings.get(attempt.order.name) if look else None
    if look and sighting and sighting.state == "running" and look.began_at >= attempt.acted_at:
        # Its end never changes; but an engine that had lost it has found it again.
        return Kill(attempt.killed or "cancelled")
    return Clear() if attempt.settled and attempt.log_kept else None


def _never_started(attempt: Attempt, now: float) -> Action | None:
    if attempt.stop:
        return End(Outcome(attempt.stop, reason="it was never started"))
    return Start() if now >= attempt.rests_until else None


def _gone(attempt: Attempt) -> Action:
    outcome = classify(None, killed=attempt.killed or attempt.stop)
    return End(outcome, attempt.started)


def _running(attempt: Attempt, sighting: Sighting, now: float) -> Action | None:
    why = attempt.killed or attempt.stop or ("timeout" if _overdue(attempt, now) else None)
    if why is not None:
        return Kill(why) if now >= attempt.rests_until else None
    return Began(sighting.started) if attempt.started is None else None


def _over(attempt: Attempt, sighting: Sighting, outage: tuple[UnixTime, UnixTime] | None) -> Action:
    # A process has no engine that could lose its exit code.
    shaken = attempt.shaken and isinstance(attempt.order.activity, Container)
    outcome = classify(sighting, killed=attempt.killed, shaken=shaken)
    grace_seconds = attempt.order.activity.limits.grace_seconds
    if outcome.kind == "success" and shaken and _within(sighting.finished, outage, grace_seconds):
        outcome = replace(outcome, reason="it ended while its engine was away: see its log")
    return End(outcome, sighting.started or attempt.started, sighting.finished)


def _within(
    finished: UnixTime | None, outage: tuple[UnixTime, UnixTime] | None, grace_seconds: float
) -> bool:
    if finished is None or outage is None:
        return False
    return outage[0] - grace_seconds <= finished <= outage[1] + grace_seconds


def _overdue(attempt: Attempt, now: float) -> bool:
    due_at = _timeout_at(attempt)
    return due_at is not None and due_at <= now


def _timeout_at(attempt: Attempt) -> float | None:
    timeout_seconds = attempt.order.activity.limits.timeout_seconds
    if attempt.started_at is None or timeout_seconds <= 0:
        return None
    return attempt.started_at + timeout_seconds


def steadied(attempt: Attempt, look: Look) -> Attempt:
    """The same attempt; if this look shows it running, contact with it was not lost since."""
    sighting = look.sightings.get(attempt.order.name)
    if attempt.shaken and sighting is not None and sighting.state == "running":
        return replace(attempt, shaken=False)
    return attempt


def next_due(attempts: Iterable[Attempt], now: float) -> float | None:
    """When time alone next asks for a look at one of these; None: never."""
    due = [attempt.rests_until for attempt in attempts]
    due += [at for attempt in attempts if not attempt.end and (at := _timeout_at(attempt))]
    return min((at for at in due if at > now), default=None)


# --- how an attempt ended -----------------------------------------------------------------------

MEANINGS = {
    126: "the command could not be executed",
    127: "the command was not found",
    129: "killed by SIGHUP",
    130: "killed by SIGINT",
    131: "killed by SIGQUIT",
    132: "killed by SIGILL",
    134: "killed by SIGABRT",
    136: "killed by SIGFPE",
    137: "killed by SIGKILL",
    139: "killed by SIGSEGV",
    141: "killed by SIGPIPE",
    143: "killed by SIGTERM",
}
"""What shells and engines mean by these exit codes."""


def classify(
    sighting: Sighting | None, *, killed: Why | None = None, shaken: bool = False
) -> Outcome:
    """An attempt's outcome, from what its engine shows of it in the end; None: nothing.

    `killed`: we told it to stop. `shaken`: contact with the engine was lost after it was last seen
    running, so what the engine says of its end may be the engine's own doing.
    """
    if killed:
        code = sighting.exit_code if sighting else None
        return Outcome(killed, code, "stopped by Cirrus")
    if sighting is None:
        return Outcome("unknown", reason="the engine does not know it any more: it was removed")
    if sighting.state == "dead" or sighting.exit_code is None:
        problem = sighting.problem or "its exit code is lost"
        return Outcome("unknown", sighting.exit_code, problem)
    kind, reason = _kind(sighting, sighting.exit_code, shaken=shaken)
    return Outcome(kind, sighting.exit_code, reason)


def _kind(sighting: Sighting, code: int, *, shaken: bool) -> tuple[OutcomeKind, str]:
    match code:
        case 0:
            note = "a process in it was killed for want of memory" if sighting.oom_killed else ""
            return "success", note
        case 137 if sighting.oom_killed:
            return "oom", "it needed more memory than its limit"
        case 137 | 143 if shaken:
            return "interrupted", "its engine went away and took it along"
        case 255 if shaken:
            return "unknown", "its engine went away: the exit code may not be its own"
    return "failure", sighting.problem or _meaning(code)


def _meaning(code: int) -> str:
    meaning = MEANINGS.get(code)
    return f"exit code {code}: {meaning}" if meaning else f"exit code {code}"


# --- what the coordinator orders ----------------------------------------------------------------


class Reply(Struct, frozen=True):
    """What an order changes, and what is said at once. `note` is for the log."""

    changed: tuple[Attempt, ...] = ()
    reports: tuple[Report, ...] = ()
    note: str = ""


def obey(known: Mapping[Key, Attempt], order: Run | Stop | Settled) -> Reply:
    """Orders may be lost, doubled, late or reordered: each is judged by what is known."""
    attempt = known.get((order.job, order.attempt))
    match order:
        case Run():
            return _run(known, order, attempt)
        case Stop():
            return _stop(order, attempt)
        case Settled():
            if attempt is None or attempt.end is None or attempt.settled:
                return Reply()
            return Reply((replace(attempt, settled=True),))


def _run(known: Mapping[Key, Attempt], order: Run, attempt: Attempt | None) -> Reply:
    if attempt is not None:
        return Reply(reports=reports_of(attempt))
    others = [one for one in known.values() if one.order.job == order.job]
    if any(one.order.attempt > order.attempt for one in others):
        return Reply(note="an older attempt was ordered: ignored")
    # The coordinator has given the older ones up; two attempts of a job never run side by side.
    older = tuple(replace(one, stop=one.stop or "cancelled") for one in others if not one.end)
    return Reply((*older, Attempt(order)))


def _stop(order: Stop, attempt: Attempt | None) -> Reply:
    if attempt is None:
        outcome = Outcome(order.why, reason="this dispatcher does not know it")
        report = Ended(order.job, order.attempt, outcome, None, None)
        return Reply(reports=(report,), note="an unknown attempt was to be stopped")
    if attempt.end is not None:
        return Reply(reports=reports_of(attempt))
    return Reply((replace(attempt, stop=attempt.stop or order.why),))


# --- what the coordinator is told ---------------------------------------------------------------


def reports_of(attempt: Attempt) -> tuple[Report, ...]:
    """Where it stands; nothing while its folder does not exist yet, or when all is settled."""
    job, number = attempt.key
    if not attempt.filed or attempt.settled:
        return ()
    if attempt.end is not None:
        return (attempt.end,)
    if attempt.started is not None:
        return (Started(job, number, attempt.started),)
    return (Accepted(job, number),)


def live(attempts: Iterable[Attempt]) -> tuple[Live, ...]:
    """What this dispatcher answers for: these leases are renewed."""
    return tuple(
        Live(*attempt.key, _state(attempt))
        for attempt in attempts
        if attempt.filed and not attempt.settled
    )


def _state(attempt: Attempt) -> Literal["accepted", "running", "ended"]:
    if attempt.end is not None:
        return "ended"
    return "accepted" if attempt.started is None else "running"
