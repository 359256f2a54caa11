"""`trigger`: an event occurs, and with --wait everything that it causes is followed to its end."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from cirrus.cli import words
from cirrus.cli.output import Live, Output, common, dim, span
from cirrus.client import (
    Change,
    Client,
    Definition,
    Firing,
    Moment,
    Occurrence,
    OccurrenceRecord,
    Reset,
    Resync,
)
from cirrus.client.api import UNFINISHED

FAILED: Final = ("failed", "cancelled")


@click.command()
@click.argument("event")
@click.option("--key", metavar="KEY", help="What it is about.  [the event's own key path, or none]")
@click.option("--data", metavar="JSON", help="A JSON object; @FILE reads it from a file.")
@click.option("--force", is_flag=True, help="Let it count although it occurred before.")
@click.option("--id", metavar="ID", default="", help="Sent twice, it counts once.  [a new one]")
@click.option("--wait", is_flag=True, help="Follow what it causes, until all of it has ended.")
@click.option("--timeout", type=float, metavar="SECONDS", help="With --wait: at most so long.")
@common
@click.pass_context
def trigger(  # noqa: PLR0913  (one for each option)
    ctx: click.Context,
    event: str,
    *,
    key: str | None,
    data: str | None,
    force: bool,
    id: str,
    wait: bool,
    timeout: float | None,
) -> None:
    """Let EVENT occur, and say what became of it, rule by rule.

    With --wait the exit code is 1 when a job that it caused failed or was cancelled, or when the
    time is up; jobs go on.
    """
    output = ctx.ensure_object(Output)
    ends = None if timeout is None else time.monotonic() + timeout
    with output.client(patience_seconds=10) as client:
        client.source = f"cli@{socket.gethostname()}"
        content = _data(data)
        occurrence = client.trigger(event, key=key, data=content, force=force, id=id)
        if output.json:
            (output.line if wait else output.document)(occurrence)
        else:
            _tell(occurrence)
        if wait:
            following = Following(client, occurrence, ends)
            ctx.exit(0 if _follow(output, following) else 1)


class Following:
    """What an occurrence causes, change by change, until nothing of it is under way.

    Under a key, all its jobs are waited for; under none, those that this occurrence began.
    """

    def __init__(self, client: Client, occurrence: Occurrence, ends: float | None) -> None:
        self.failed: list[str] = []
        """The jobs that failed, or were cancelled."""
        self.jobs = 0
        self.under_way: set[str] = set()
        self._client = client
        self._key = occurrence.key
        self._root = occurrence.seq
        self._mine: set[str] = set()
        self._ends = ends

    def changes(self) -> Iterator[Change]:
        """Raises TimeoutError."""
        last = self._last_if_idle()
        for change in self._client.feed(self._root - 1, ends=self._ends):
            if self._concerns(change):
                yield change
            if last is None and _may_be_the_last(change):
                last = self._last_if_idle()
            if last is not None and change.seq >= last:
                return

    def _last_if_idle(self) -> int | None:
        """The newest `seq`, when nothing is under way; otherwise None."""
        unfinished = self._client.jobs(key=self._key, state=UNFINISHED)
        if any(self._key or job.root == self._root for job in unfinished):
            return None
        return self._client.status().last_seq

    def _concerns(self, change: Change) -> bool:
        match change.record:
            case OccurrenceRecord() as record:
                mine = record.root == self._root or bool(self._key and record.key == self._key)
                if mine:
                    self._mine.update(verdict.job for verdict in record.verdicts if verdict.job)
                return mine
            case Firing() as firing:
                mine = firing.job in self._mine or bool(self._key and firing.key == self._key)
                self._mine.update([firing.job] if mine else [])
                self.jobs += mine
                return mine
            case Moment() as moment:
                if moment.job in self._mine and moment.kind == "move":
                    self._moved(moment)
                return moment.job in self._mine
            case Definition() | Reset() | Resync():
                return False

    def _moved(self, move: Moment) -> None:
        if _ended(move):
            self.under_way.discard(move.job)
        else:
            self.under_way.add(move.job)
        if move.state in FAILED:
            self.failed.append(move.job)


def _ended(moment: Moment) -> bool:
    return moment.kind == "move" and moment.state not in UNFINISHED


def _may_be_the_last(change: Change) -> bool:
    record = change.record
    return isinstance(record, Resync) or (isinstance(record, Moment) and _ended(record))


def _tell(occurrence: Occurrence) -> None:
    again = ", and had been accepted before" if occurrence.duplicate else ""
    subject = words.subject(occurrence.event, occurrence.key)
    click.echo(f"{subject} occurred{again} {dim(f'(seq {occurrence.seq})')}")
    for verdict in occurrence.verdicts:
        click.echo(f"  {words.verdict(verdict)}")
    if not occurrence.verdicts and not occurrence.duplicate:
        click.echo(dim("  no rule looks at it"))


def _follow(output: Output, following: "Following") -> bool:
    """Whether everything ended well, in time."""
    late = False
    began = time.monotonic()
    live = Live(enabled=not output.json)
    try:
        for change in following.changes():
            if output.json:
                output.line(change)
            elif line := words.change(change):
                live.say(line)
            live.show(f"{len(following.under_way)} under way, {span(time.monotonic() - began)}")
    except TimeoutError:
        late = True
    finally:
        live.clear()
    ok = not late and not following.failed
    facts = {"ok": ok, "late": late, "jobs": following.jobs, "failed": following.failed}
    if output.json:
        output.line(facts)
    else:
        took = span(time.monotonic() - began)
        ending = "time is up; jobs go on" if late else f"{len(following.failed)} failed"
        click.echo(f"{following.jobs} jobs in {took}, {ending}")
    return ok


def _data(text: str | None) -> dict[str, object]:
    """A JSON object from the command line, or from a file."""
    if text is None:
        return {}
    problem = 'not a JSON object, such as {"n": 1}'
    try:
        content = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
        data = json.loads(content)
    except OSError as error:
        problem = f"{text[1:]}: {error.strerror}"
    except ValueError as error:
        problem = f"not JSON: {error}"
    else:
        if isinstance(data, dict):
            return data
    raise click.BadParameter(problem, param_hint="--data")
