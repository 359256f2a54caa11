"""Which waiting job goes to which dispatcher. Pure; sending the order is link.py's job."""

from msgspec.structs import replace

from cirrus.core.decision import (
    Assigned,
    AttemptMade,
    Change,
    Decision,
    Job,
    Moved,
    Sent,
    View,
    Waiting,
)
from cirrus.core.inputs import Placed, Present
from cirrus.core.messages import Run
from cirrus.core.model import (
    AutoTrigger,
    Limits,
    UnixTime,
    attempt_name,
    executor_of,
)

SCAN_EXTRA = 16
"""So many more waiting jobs than there are free slots are looked at: some may not fit."""


class _Room:
    """What is free now: slots by dispatcher, cores and memory by engine."""

    def __init__(self, view: View, present: tuple[Present, ...]) -> None:
        self.present = [one for one in present if one.connected]
        self.slots = {one.name: one.slots for one in self.present}
        offers = [offer for one in self.present for offer in one.offers]
        self.cores = {offer.engine: offer.cores for offer in offers}
        self.memory = {offer.engine: offer.memory for offer in offers}
        self.engines = {
            (one.name, offer.executor): offer.engine for one in present for offer in one.offers
        }
        for job in view.active_jobs():
            assert isinstance(job.progress, Assigned)
            self.take(job, job.progress.dispatcher)

    def take(self, job: Job, dispatcher: str) -> None:
        if dispatcher in self.slots:
            self.slots[dispatcher] -= 1
        engine = self.engines.get((dispatcher, _executor(job)))
        if engine in self.cores:
            asked = _asked(job)
            self.cores[engine] -= asked.cpu_reservation
            self.memory[engine] -= asked.memory_reservation

    def for_job(self, job: Job) -> str | None:
        """The dispatcher with the most free slots that has the executor and room; by name."""
        asked = _asked(job)
        fitting = [
            (-self.slots[one.name], one.name)
            for one in self.present
            for offer in one.offers
            if offer.executor == _executor(job)
            and not offer.problem
            and self.slots[one.name] >= 1
            and self.cores[offer.engine] >= asked.cpu_reservation
            and self.memory[offer.engine] >= asked.memory_reservation
        ]
        return min(fitting)[1] if fitting else None

    def free(self) -> int:
        return sum(max(0, slots) for slots in self.slots.values())

    def largest(self, executor: str) -> tuple[float, int]:
        """The most cores and the most memory that are free on any engine of this executor."""
        engines = [
            offer.engine
            for one in self.present
            for offer in one.offers
            if offer.executor == executor and not offer.problem
        ]
        cores = max((self.cores[engine] for engine in engines), default=-1.0)
        return cores, max((self.memory[engine] for engine in engines), default=-1)


def placed(view: View, what: Placed, now: UnixTime) -> Decision:
    """Orders for as many waiting jobs as there is room for, the longest waiting first."""
    room = _Room(view, what.present)
    changes: list[Change] = []
    orders: list[Sent] = []
    for job in _waiting(view, room, now):
        if not room.free():
            break
        dispatcher = room.for_job(job)
        if dispatcher is None:
            continue
        room.take(job, dispatcher)
        moved = _dispatch(job, dispatcher, view.last_seq() + len(orders) + 1, now)
        made = AttemptMade(job.id, moved.attempt, dispatcher, _executor(job), now)
        changes += (moved, made)
        going = replace(job, attempt=moved.attempt)
        orders.append(Sent(dispatcher, order_to_run(view, going)))
    return Decision(tuple(changes), tuple(orders))


def _waiting(view: View, room: _Room, now: UnixTime) -> list[Job]:
    """The jobs that something has room for, the longest waiting first."""
    if not room.free():
        return []
    found: list[Job] = []
    limit = room.free() + SCAN_EXTRA
    for executor in sorted({executor for _, executor in room.engines}):
        cores, memory = room.largest(executor)
        found += view.waiting_jobs(executor, now, cores=cores, memory=memory, limit=limit)
    return sorted(found, key=_since)


def _since(job: Job) -> tuple[UnixTime, int]:
    assert isinstance(job.progress, Waiting)
    return job.progress.due, job.fired


def _dispatch(job: Job, dispatcher: str, seq: int, now: UnixTime) -> Moved:
    return Moved(
        seq=seq,
        time=now,
        job=job,
        state="dispatched",
        attempt=job.attempt + 1,
        failures=job.failures,
        crashes=job.crashes,
        progress=Assigned(dispatcher, now, accepted=False, stopping=False),
    )


def order_to_run(view: View, job: Job) -> Run:
    """The order for a job's current attempt. Its address and token are added when it is sent."""
    activity = job.rule.activity
    assert not isinstance(activity, AutoTrigger)
    name = attempt_name(view.instance, job.id, job.attempt)
    environment = {
        "TRIGGER": job.rule.on,
        "RULE_ID": job.rule.name,
        "NAME": name,
        "FORCE": "true" if job.forced else "false",
        "CIRRUS_JOB": job.id,
        "CIRRUS_ATTEMPT": str(job.attempt),
        "CIRRUS_KEY": job.key,
    }
    return Run(
        job=job.id,
        attempt=job.attempt,
        name=name,
        rule=job.rule.name,
        key=job.key,
        activity=activity,
        environment=environment,
        inputs=view.inputs(job.id),
    )


def _executor(job: Job) -> str:
    assert not isinstance(job.rule.activity, AutoTrigger)
    return executor_of(job.rule.activity)


def _asked(job: Job) -> Limits:
    assert not isinstance(job.rule.activity, AutoTrigger)
    return job.rule.activity.limits
