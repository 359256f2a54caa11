"""Verdicts, jobs and changes in words: one line each."""

from typing import Final

import click

from cirrus.cli.output import colour, dim, printable, span
from cirrus.client import (
    Attempt,
    Change,
    Definition,
    Firing,
    Job,
    Moment,
    OccurrenceRecord,
    Reset,
    Resync,
    Verdict,
)
from cirrus.core.decision import VerdictKind

MEANINGS: Final[dict[VerdictKind, str]] = {
    "fired": "fired",
    "used": "was used up by a firing",
    "standing": "it stands; the rule has fired already, and opens when forced",
    "waiting": "waits for",
    "queued": "queued for a later firing",
    "absorbed": "absorbed: the rule has fired already",
    "superseded": "superseded by something newer",
    "ignored": "ignored: it had occurred before under this key; --force lets it count",
    "unmatched": "does not match the rule's condition",
    "expired": "came too late for its window",
    "late": "comes from before a reset, and counts for nothing",
    "stopped": "stopped: the chain of causes is too long",
    "refused": "refused",
}


def verdict(given: Verdict) -> str:
    """What became of an occurrence for one rule."""
    mark = {"fired": click.style("●", fg="green"), "waiting": click.style("○", fg="yellow")}
    text = MEANINGS[given.verdict]
    if given.verdict == "fired":
        text = f"fired: job {given.job}" + generation(given.generation)
    elif given.verdict == "waiting":
        more = given.lacking - len(given.missing)
        text += f" {', '.join(given.missing)}" + (f" and {more} more" if more > 0 else "")
    return f"{mark.get(given.verdict, dim('·'))} {given.rule} {text}"


def generation(number: int) -> str:
    return f", generation {number}" if number > 1 else ""


def subject(name: str, key: str) -> str:
    """A name, and the key that it is about, if any."""
    return f"{name} {dim('[' + printable(key) + ']')}" if key else name


def change(one: Change) -> str:
    """A line for people; empty for what need not be told."""
    match one.record:
        case OccurrenceRecord() as record:
            forced = " by force" if record.force else ""
            fate = f", {record.whole}" if record.whole else ""
            what = f"{subject(record.event, record.key)} occurred{forced}{fate}"
            return f"{click.style('◆', fg='cyan')} {what}"
        case Firing() as firing:
            what = f"{subject(firing.rule, firing.key)} fired{generation(firing.generation)}"
            return f"{click.style('●', fg='green')} {what}"
        case Moment() as moment:
            return _move(moment) if moment.kind == "move" else ""
        case Definition() | Reset() | Resync():
            return ""


def _move(move: Moment) -> str:
    attempt = f", attempt {move.attempt}" if move.attempt > 1 else ""
    why = f": {printable(move.reason or move.outcome)}" if move.reason or _bad(move) else ""
    state = "waits to be tried again" if move.state == "triggered" else colour(move.state)
    mark = {"succeeded": click.style("✓", fg="green"), "failed": click.style("✗", fg="red")}
    return f"{mark.get(move.state, dim('·'))} {subject(move.rule, move.key)} {state}{attempt}{why}"


def _bad(move: Moment) -> bool:
    return move.outcome not in ("", "success")


def duration(job: Job, now: float) -> str:
    """How long since the firing; until its end, where it has ended."""
    return span((job.finished or now) - job.time)


def ran(attempt: Attempt) -> str:
    """How long it ran, as far as that is known."""
    if attempt.started is None or attempt.finished is None:
        return ""
    return span(attempt.finished - attempt.started)


def outcome(attempt: Attempt) -> str:
    parts = [attempt.outcome or "under way"]
    if attempt.reason:
        parts.append(attempt.reason)
    elif attempt.exit_code:
        parts.append(f"exit code {attempt.exit_code}")
    return ": ".join(parts) + (" (late)" if attempt.late else "")
