"""`status`, `pause`, `resume` and `reset`: what is there, and what may stand."""

import itertools
import time
from collections.abc import Sequence
from typing import Final

import click
from msgspec import Struct

from cirrus.cli.output import Output, ago, colour, common, dim, printable, table
from cirrus.client import Client, Dispatcher, Job, KeyDetails, OpenJoin, Status
from cirrus.core.messages import Offer

KEYS_MOST: Final = 20
JOBS_MOST: Final = 5
NAMES_MOST: Final = 10
QUIET_SECONDS: Final = 60.0


class Waiting(Struct, frozen=True):
    """A join that waits, and under which key."""

    key: str
    join: OpenJoin


class Overview(Struct, frozen=True):
    """All that `status` shows; of waiting joins and failed jobs, the first few."""

    status: Status
    dispatchers: tuple[Dispatcher, ...]
    waiting: Sequence[Waiting]
    failed: Sequence[Job]


@click.command()
@click.option("--key", metavar="KEY", help="What this key has come to.")
@common
@click.pass_obj
def status(output: Output, key: str | None) -> None:
    """Show what is there: dispatchers, jobs, joins that wait."""
    with output.client() as client:
        if key is not None:
            details = client.key(key)
            if output.json:
                output.document(details)
            else:
                _show_key(details)
            return
        overview = Overview(
            client.status(), client.dispatchers(), _waiting(client), _newest_failed(client)
        )
    if output.json:
        output.document(overview)
    else:
        _show(output.url, overview)


@click.command()
@click.argument("rule")
@common
@click.pass_obj
def pause(output: Output, rule: str) -> None:
    """Let a rule's jobs wait until it is resumed. It still fires."""
    _pause(output, rule, paused=True)


@click.command()
@click.argument("rule")
@common
@click.pass_obj
def resume(output: Output, rule: str) -> None:
    """Let the jobs of a paused rule start again."""
    _pause(output, rule, paused=False)


@click.command()
@click.option("--key", metavar="KEY", help="Only what stands under this key.  [every key]")
@click.option("--namespace", metavar="NS", help="Only events of this namespace.  [all]")
@click.option("--cancel-jobs", is_flag=True, help="Cancel the jobs that have not ended, too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common
@click.pass_obj
def reset(
    output: Output, *, key: str | None, namespace: str | None, cancel_jobs: bool, yes: bool
) -> None:
    """Let nothing stand any more under a key, or under every key.

    History stays, and jobs go on; but what they still cause counts for nothing.
    """
    what = f"of namespace {namespace} " if namespace else ""
    under = "every key" if key is None else f"the key {printable(key)!r}"
    if not yes:
        click.confirm(f"Let all events {what}under {under} fall?", abort=True, err=True)
    with output.client(patience_seconds=10) as client:
        client.reset(key=key, namespace=namespace, cancel_jobs=cancel_jobs)
    if output.json:
        facts = {"key": key, "namespace": namespace, "cancel_jobs": cancel_jobs}
        output.document(facts)
    else:
        click.echo(f"nothing {what}stands any more under {under}")


def _pause(output: Output, rule: str, *, paused: bool) -> None:
    with output.client() as client:
        if paused:
            client.pause(rule)
        else:
            client.resume(rule)
    if output.json:
        output.document({"rule": rule, "paused": paused})
    else:
        click.echo(f"rule {rule} is {'paused' if paused else 'resumed'}")


def _waiting(client: Client) -> list[Waiting]:
    summaries = client.keys()
    standing = (summary.key for summary in summaries if summary.standing)
    return [
        Waiting(key, join)
        for key in itertools.islice(standing, KEYS_MOST)
        for join in client.key(key).joins
    ]


def _newest_failed(client: Client) -> list[Job]:
    return list(itertools.islice(client.jobs(state=("failed",)), JOBS_MOST))


# --- for people ---------------------------------------------------------------------------------


def _show(url: str, overview: Overview) -> None:
    now = overview.status
    counts = now.counts
    click.echo(f"{url}  version {now.version}{'' if now.ready else colour('  not ready')}")
    kinds = ("event", "event_set", "rule")
    defined = ", ".join(
        f"{counts.definitions.get(kind, 0)} {kind.replace('_', ' ')}s" for kind in kinds
    )
    click.echo(f"{defined}; {counts.occurrences} occurrences")
    jobs = [f"{number} {colour(state)}" for state, number in counts.jobs.items() if number]
    click.echo(f"jobs: {', '.join(jobs) or 'none'}")
    for rule in now.paused:
        click.echo(f"{colour('paused')}: {rule} {dim(f'(cirrus resume {rule})')}")
    click.echo()
    _show_dispatchers(overview.dispatchers)
    _show_joins(overview.waiting)
    if overview.failed:
        click.echo(click.style("\nfailed jobs, the newest first", bold=True))
        rows = [
            (job.id, job.rule, job.key, ago(job.finished or job.time)) for job in overview.failed
        ]
        table(("JOB", "RULE", "KEY", "AGO"), rows)


def _show_dispatchers(dispatchers: Sequence[Dispatcher]) -> None:
    if not dispatchers:
        click.echo("no dispatcher: jobs wait until one comes (cirrus dispatcher)")
        return
    rows = [
        (
            one.name,
            "ok" if one.connected else "away",
            "" if time.time() - one.heard < QUIET_SECONDS else ago(one.heard),
            f"{len(one.running)}/{one.slots}",
            ", ".join(map(_offer, one.offers)) or "nothing",
        )
        for one in dispatchers
    ]
    table(("DISPATCHER", "STATE", "HEARD", "SLOTS", "OFFERS"), rows)


def _offer(offer: Offer) -> str:
    room = f"{offer.cores:g} cores, {offer.memory / 2**30:.0f} GiB"
    return f"{offer.executor} ({offer.problem or room})"


def _show_joins(waiting: Sequence[Waiting]) -> None:
    if waiting:
        click.echo(click.style("\njoins that wait", bold=True))
    for each in waiting:
        place = f" under {printable(each.key)}" if each.key else ""
        click.echo(f"{each.join.event_set}{place} {_lacks(each.join)}")


def _lacks(join: OpenJoin) -> str:
    if join.ready:
        return "is ready: it fires at the next occurrence"
    choice = "" if join.lacking == len(join.missing) else f"{join.lacking} of "
    more = len(join.missing) - NAMES_MOST
    rest = f" and {more} more" if more > 0 else ""
    return f"waits for {choice}{', '.join(join.missing[:NAMES_MOST])}{rest}"


def _show_key(details: KeyDetails) -> None:
    click.echo(f"key {printable(details.key)!r}")
    jobs = [f"{number} {colour(state)}" for state, number in details.jobs.items() if number]
    click.echo(f"jobs: {', '.join(jobs) or 'none'}")
    if details.standing:
        rows = [
            (standing.event, str(standing.seq), "by force" if standing.forced else "")
            for standing in details.standing
        ]
        table(("STANDING EVENT", "SEQ", ""), rows)
    _show_joins([Waiting(details.key, join) for join in details.joins])
