"""`trigger`: an event occurs, and with --wait everything that it causes is followed to its end."""

import json
import socket
import time
from pathlib import Path

import click

from cirrus.cli import words
from cirrus.cli.output import Live, Output, common, dim, span
from cirrus.client import Following, Occurrence


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
    with output.client(patience_seconds=10) as client:
        client.source = f"cli@{socket.gethostname()}"
        content = _data(data)
        occurrence = client.trigger(event, key=key, data=content, force=force, id=id)
        if output.json:
            (output.line if wait else output.document)(occurrence)
        else:
            _tell(occurrence)
        if wait:
            following = client.follow(occurrence, timeout_seconds=timeout)
            ctx.exit(0 if _follow(output, following) else 1)


def _tell(occurrence: Occurrence) -> None:
    again = ", and had been accepted before" if occurrence.duplicate else ""
    subject = words.subject(occurrence.event, occurrence.key)
    click.echo(f"{subject} occurred{again} {dim(f'(seq {occurrence.seq})')}")
    for verdict in occurrence.verdicts:
        click.echo(f"  {words.verdict(verdict)}")
    if not occurrence.verdicts and not occurrence.duplicate:
        click.echo(dim("  no rule looks at it"))


def _follow(output: Output, following: Following) -> bool:
    """Whether everything ended well, in time."""
    late = False
    began = time.monotonic()
    live = Live(enabled=not output.json)
    try:
        for change in following:
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
    facts = {"ok": ok, "late": late, "jobs": len(following.jobs), "failed": following.failed}
    if output.json:
        output.line(facts)
    else:
        took = span(time.monotonic() - began)
        ending = "time is up; jobs go on" if late else f"{len(following.failed)} failed"
        click.echo(f"{len(following.jobs)} jobs in {took}, {ending}")
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
