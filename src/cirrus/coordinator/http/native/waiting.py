"""Why a job that could run does not: one sentence for people."""

from datetime import UTC, datetime

from cirrus.core.inputs import Present
from cirrus.core.model import UnixTime
from cirrus.store.records import Job


def why_waiting(job: Job, *, rule_paused: bool, present: tuple[Present, ...], now: UnixTime) -> str:
    """Empty for a job that does not wait."""
    if job.state == "dispatched":
        return f"dispatcher {job.dispatcher} is starting it"
    if job.state != "triggered":
        return ""
    if rule_paused:
        return f"rule {job.rule} is paused: resume it"
    if job.due is not None and job.due > now:
        at = datetime.fromtimestamp(job.due, UTC).strftime("%H:%M:%S")
        return f"its next attempt is due at {at} UTC"
    return _placing(job, present)


def _placing(job: Job, present: tuple[Present, ...]) -> str:
    offers = [
        offer
        for one in present
        if one.connected
        for offer in one.offers
        if offer.executor == job.executor
    ]
    if not offers:
        return f"no dispatcher that is there has the executor {job.executor}"
    ready = [offer for offer in offers if not offer.problem]
    if not ready:
        return f"{job.executor} takes no work now: {offers[0].problem}"
    if not any(job.cores <= offer.cores and job.memory <= offer.memory for offer in ready):
        most = max(ready, key=lambda offer: (offer.cores, offer.memory))
        return (
            f"it asks for {job.cores:g} cores and {job.memory / 1e9:g} GB; the largest machine has"
            f" {most.cores:g} and {most.memory / 1e9:g}"
        )
    return "it waits for room: other jobs have all slots, cores or memory"
