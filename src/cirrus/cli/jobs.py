"""`jobs`, `logs`, `cancel` and `retry`."""

import itertools
import json
import re
import sys
import time
from typing import Final

import click

from cirrus.cli import words
from cirrus.cli.output import Output, ago, colour, common, dim, printable, table
from cirrus.client import Client, Job, JobDetails
from cirrus.core.lifecycle import MOVES, JobState

STATES: Final = click.Choice(list(MOVES))
TAIL_BYTES_MOST: Final = 8 * 2**20
# What a log may do to a terminal: colours, new lines, tabs, and to begin a line again.
UNSAFE: Final = re.compile(
    r"\x1b\[[0-9;:]*m|([\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f](?:\[[0-?]*[ -/]*[@-~])?)"
)


@click.command()
@click.argument("job", required=False)
@click.option("--key", metavar="KEY", help="Only those under this key.")
@click.option("--rule", metavar="RULE", help="Only those of this rule.")
@click.option("--state", type=STATES, multiple=True, help="Only those; may be repeated.")
@click.option("--limit", default=30, show_default=True, type=click.IntRange(1), metavar="N")
@common
@click.pass_obj
def jobs(  # noqa: PLR0913  (one for each option)
    output: Output,
    job: str | None,
    *,
    key: str | None,
    rule: str | None,
    state: tuple[JobState, ...],
    limit: int,
) -> None:
    """List jobs, the newest first, or show one with its attempts."""
    with output.client() as client:
        if job:
            details = client.job(job)
            if output.json:
                output.document(details)
            else:
                _show(details)
            return
        found = list(itertools.islice(client.jobs(key=key, rule=rule, state=state), limit + 1))
    if output.json:
        output.document(found[:limit])
        return
    _list(found[:limit])
    if len(found) > limit:
        click.echo(dim(f"older ones are left out: --limit {limit}"))


@click.command()
@click.argument("job", metavar="JOB")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Not the newest, but this.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the attempt ends.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
@common
@click.pass_obj
def logs(output: Output, job: str, *, attempt: int | None, follow: bool, tail: int | None) -> None:
    """Print the log of a job: of its newest attempt, or of another one."""
    terminal = sys.stdout.isatty()
    with output.client() as client:
        size = None if tail is None else _size_of_lines(client, job, attempt, tail)
        for piece in client.logs(job, attempt=attempt, follow=follow, tail_bytes=size):
            if output.json:
                output.line({"text": piece.decode(errors="replace")})
            else:
                sys.stdout.buffer.write(harmless(piece) if terminal else piece)
                sys.stdout.buffer.flush()


@click.command()
@click.argument("job", metavar="JOB")
@common
@click.pass_obj
def cancel(output: Output, job: str) -> None:
    """End a job that has not ended; nothing is triggered."""
    with output.client() as client:
        changed = client.cancel(job)
    text = "is being cancelled" if changed else "had ended already"
    _done(output, {"job": job, "changed": changed}, f"job {job} {text}")


@click.command()
@click.argument("job", metavar="JOB")
@common
@click.pass_obj
def retry(output: Output, job: str) -> None:
    """Run an ended job again, as its rule's next generation."""
    with output.client() as client:
        new = client.retry(job)
    _done(output, {"job": new, "retried": job}, f"job {new} tries {job} again")


def _size_of_lines(client: Client, job: str, attempt: int | None, lines: int) -> int:
    """How many bytes the last so many lines take, of lines that are not extremely long."""
    most = min(max(64 * 1024, lines * 1024), TAIL_BYTES_MOST)
    end = b"".join(client.logs(job, attempt=attempt, tail_bytes=most))
    return len(b"".join(end.splitlines(keepends=True)[-lines:] if lines else []))


def harmless(piece: bytes) -> bytes:
    """Log text without what could move the cursor or change the terminal."""
    text = piece.decode(errors="replace")
    return UNSAFE.sub(lambda found: "" if found[1] else found[0], text).encode()


def _done(output: Output, facts: object, text: str) -> None:
    if output.json:
        output.document(facts)
    else:
        click.echo(text)


def _list(found: list[Job]) -> None:
    if not found:
        click.echo("no jobs")
        return
    now = time.time()
    rows = [
        (
            job.id,
            job.state,
            job.rule,
            job.key,
            str(job.generation),
            str(job.attempt),
            job.executor or "auto",
            ago(job.time),
            words.duration(job, now),
        )
        for job in found
    ]
    headers = ("JOB", "STATE", "RULE", "KEY", "GEN", "TRY", "BY", "FIRED", "TOOK")
    table(headers, rows)


def _show(details: JobDetails) -> None:
    job = details.job
    click.echo(
        f"job {job.id}  {colour(job.state)}" + ("  rule is paused" if details.rule_paused else "")
    )
    facts = {
        "rule": job.rule,
        "key": job.key,
        "generation": f"{job.generation}{' (forced)' if job.forced else ''}",
        "fired": f"{ago(job.time)} ago, took {words.duration(job, time.time())}",
        "waits": details.waits_for,
        "retries": job.retried,
        "output": json.dumps(details.output) if details.output is not None else "",
    }
    for name, text in facts.items():
        if text:
            click.echo(f"  {dim(f'{name:<12}')}{printable(text)}")
    for member in details.members:
        came = f"occurrence {member.seq}" if member.seq else "had not occurred"
        click.echo(f"  {dim('event       ')}{member.event}: {came}")
    if details.attempts:
        rows = [
            (
                str(attempt.attempt),
                attempt.dispatcher,
                attempt.executor,
                ago(attempt.dispatched),
                words.ran(attempt),
                words.outcome(attempt),
            )
            for attempt in details.attempts
        ]
        table(("TRY", "DISPATCHER", "BY", "SENT", "RAN", "OUTCOME"), rows)
    for occurrence in details.triggered:
        click.echo(f"triggered {words.subject(occurrence.event, occurrence.key)}")
        for verdict in occurrence.verdicts:
            click.echo(f"  {words.verdict(verdict)}")
