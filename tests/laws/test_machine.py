"""Whatever happens, in whatever order: the laws of semantics.md hold after every step.

Beside the engine stands the reference model of joins.py and jobs.py.
"""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.core.toy import Cirrus, dispatcher
from tests.laws.drawn import (
    EVENTS,
    KEYS,
    NAMESPACES,
    OUTCOMES,
    OUTPUTS,
    RULES,
    SMALL,
    deletes,
    posts,
    puts,
)
from tests.laws.history import advance
from tests.laws.jobs import Model

from cirrus.core.decision import Answer, Job, Occurrence
from cirrus.core.inputs import (
    Applied,
    CancelAsked,
    Definition,
    HelloSaid,
    Input,
    PauseAsked,
    Posted,
    Reported,
    ResetAsked,
    RetryAsked,
    TimePassed,
    WorkerPosted,
)
from cirrus.core.lifecycle import ended
from cirrus.core.messages import Accepted, Ended, Hello, Live, Outcome, Run, Started
from cirrus.core.model import Identity, Post
from cirrus.errors import Refused

BOOLEANS = st.booleans()
CHOICES = st.integers(0, 999)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cirrus = Cirrus(**SMALL)
        self.model = Model(**SMALL)
        self.seen = 0
        self.accepted: dict[Identity, tuple[Post, int]] = {}
        self.acknowledged: set[int] = set()
        self.kept: dict[str, dict[int, tuple[Any, ...]]] = {}
        self.identified: list[Input] = []
        self._jobs: list[Job] | None = None

    # --- what happens ---------------------------------------------------------------------------

    def tell(self, what: Input) -> tuple[Answer, ...] | None:
        """None when it is refused, which must leave no trace (I23)."""
        before = self.written()
        self._jobs = None
        try:
            return self.cirrus.ask(what)
        except Refused:
            assert self.written() == before, f"I23: {what} was refused and left a trace"
            return None

    def written(self) -> int:
        """How many rows were ever written: the same number, the same store."""
        return self.cirrus.store._connection.total_changes()

    @initialize(first=st.lists(puts, min_size=3, max_size=6))
    def define(self, first: list[Definition]) -> None:
        self.tell(Applied(puts=tuple(first)))

    @rule(what=puts | deletes)
    def change_a_definition(self, what: Any) -> None:
        applied = Applied(deletes=(what,)) if isinstance(what, tuple) else Applied(puts=(what,))
        self.tell(applied)

    @rule(sent=st.lists(posts, min_size=1, max_size=3))
    def post(self, sent: list[Post]) -> None:
        what = Posted(tuple(sent))
        answers = self.tell(what)
        if answers is None:
            return
        assert len(answers) == len(sent)
        for one, answer in zip(sent, answers, strict=True):
            assert isinstance(answer, Occurrence)
            assert answer.event == one.event
            self.acknowledged.add(answer.seq)
            if one.identity is not None:
                first, seq = self.accepted.setdefault(one.identity, (one, answer.seq))
                assert (seq, answer.duplicate) == (answer.seq, first is not one), "I2"
        if all(one.identity for one in sent):
            self.identified.append(what)

    @rule(sent=posts)
    def post_it_alone(self, sent: Post) -> None:
        self.post([sent])

    @rule(key=KEYS, force=BOOLEANS)
    def post_all_events(self, key: str, *, force: bool) -> None:
        self.post([Post(name, key=key, force=force) for name in ("n:a", "n:b", "m:c")])

    @rule(
        key=st.none() | KEYS,
        namespace=NAMESPACES,
        identity=st.none() | st.builds(Identity, st.just("test"), st.sampled_from("12")),
        cancel=BOOLEANS,
    )
    def reset(
        self, key: str | None, namespace: str | None, identity: Identity | None, *, cancel: bool
    ) -> None:
        what = ResetAsked(key, namespace, identity, cancel_jobs=cancel)
        if self.tell(what) is not None and identity is not None:
            self.identified.append(what)

    @precondition(lambda self: self.identified)
    @rule(choice=CHOICES)
    def law_2_what_has_an_identity_is_said_again(self, choice: int) -> None:
        before = self.written()
        self.tell(self.identified[choice % len(self.identified)])
        assert self.written() == before, "law 2"

    # --- jobs and dispatchers -------------------------------------------------------------------

    def jobs(self, *, active: bool) -> list[Job]:
        if self._jobs is None:
            rows = self.cirrus.rows("SELECT id FROM job WHERE attempt > 0 ORDER BY seq")
            self._jobs = [self.cirrus.job_by_id(row[0]) for row in rows]
        return [job for job in self._jobs if not active or not ended(job.state)]

    def chosen(self, choice: int, *, active: bool = True) -> Job:
        found = self.jobs(active=active) or self.jobs(active=False)
        return found[choice % len(found)]

    def report(self, job: Job, attempt: int, report: Any, by: str = "d1") -> None:
        live = job.state in ("dispatched", "running")
        current = live and attempt == job.attempt and by == "d1"
        before = self.written()
        self.tell(Reported(by, report))
        once = self.written()
        self.tell(Reported(by, report))
        twice = self.written()
        # One row may say now that the end of a given up attempt came after all.
        late = 0 if current else 1
        assert current or once - before <= late, f"law 5, I11: {report} changed {job}"
        assert current or self.cirrus.again(job) == job, f"law 5, I11: {report} changed {job}"
        assert twice == once, f"law 2: {report} was counted twice"

    @precondition(lambda self: self.jobs(active=True))
    @rule(choice=CHOICES, kind=OUTCOMES, output=OUTPUTS)
    def an_attempt_ends(self, choice: int, kind: Any, output: bytes) -> None:
        job = self.chosen(choice)
        report = Ended(job.id, job.attempt, Outcome(kind, 0, "why"), None, None, output)
        self.report(job, job.attempt, report)

    @precondition(lambda self: self.jobs(active=True))
    @rule(choice=CHOICES)
    def an_attempt_succeeds(self, choice: int) -> None:
        self.an_attempt_ends(choice, "success", b'{"x":"k"}')

    @precondition(lambda self: self.jobs(active=True))
    @rule(choice=CHOICES, started=BOOLEANS)
    def an_attempt_begins(self, choice: int, *, started: bool) -> None:
        job = self.chosen(choice)
        at = 7.0e10  # a dispatcher's clock may say anything
        report = Started(job.id, job.attempt, at) if started else Accepted(job.id, job.attempt)
        self.report(job, job.attempt, report)

    @precondition(lambda self: self.jobs(active=False))
    @rule(
        choice=CHOICES,
        off=st.sampled_from([-1, 0, 1]),
        kind=OUTCOMES,
        what=st.sampled_from(["accepted", "started", "ended"]),
        by=st.sampled_from(["d1", "d2"]),
    )
    def something_stale_is_reported(
        self, choice: int, off: int, kind: Any, what: str, by: str
    ) -> None:
        job = self.chosen(choice, active=False)
        attempt = max(1, job.attempt + off)
        made = {
            "accepted": Accepted(job.id, attempt),
            "started": Started(job.id, attempt, 1.0),
            "ended": Ended(job.id, attempt, Outcome(kind), None, None),
        }
        self.report(job, attempt, made[what], by)

    @precondition(lambda self: self.jobs(active=False))
    @rule(choice=CHOICES, off=st.sampled_from([0, 0, 0, -1]), event=EVENTS, sent=posts)
    def a_worker_triggers(self, choice: int, off: int, event: str, sent: Post) -> None:
        job = self.chosen(choice, active=choice % 4 > 0)
        if choice % 5 and job.triggering:
            event = job.triggering[choice % len(job.triggering)]
        posted = Post(event, key=sent.key, data={"x": "k"}, force=sent.force)
        what = WorkerPosted(job.id, job.attempt + off, posted)
        answer = self.tell(what)
        live = job.state in ("dispatched", "running") and off == 0
        assert (answer is not None) == (live and event in job.triggering), f"7.4: {answer}"
        if answer is not None:
            before = self.written()
            assert self.tell(what) is not None
            assert self.written() == before, "7.4: the second one is a duplicate"

    @precondition(lambda self: self.jobs(active=False))
    @rule(choice=CHOICES, ask=st.sampled_from([RetryAsked, RetryAsked, CancelAsked]))
    def somebody_asks(self, choice: int, ask: Any) -> None:
        self.tell(ask(self.chosen(choice, active=ask is CancelAsked and choice % 9 > 0).id))

    @rule(name=RULES, paused=st.sampled_from([False, False, True]))
    def pause(self, name: str, *, paused: bool) -> None:
        self.tell(PauseAsked(name, paused))

    @rule(seconds=st.sampled_from([0.5, 5.0, 31.0, 601.0]), listed=BOOLEANS)
    def time_passes(self, seconds: float, *, listed: bool) -> None:
        self.cirrus.now += seconds
        names = {(job.id, job.attempt): self.cirrus.now for job in self.jobs(active=True)}
        self.cirrus.present = (dispatcher(slots=3, listed=names if listed else {}),)
        self.tell(TimePassed(self.cirrus.present, 0.0))

    @rule(connected=BOOLEANS, choice=CHOICES)
    def a_dispatcher_comes_or_goes(self, choice: int, *, connected: bool) -> None:
        one = dispatcher(slots=3, connected=connected)
        self.cirrus.present = (one,)
        live = tuple(Live(job.id, max(1, choice % 3), "running") for job in self.jobs(active=False))
        if connected:
            self.tell(HelloSaid(Hello("d1", "host", "1", 3, one.offers, live)))

    # --- what holds after every step ------------------------------------------------------------

    @invariant()
    def laws_3_4_and_7_the_reference_model_agrees(self) -> None:
        """And I4, I9, I10, I12: see joins.py and jobs.py."""
        self.seen = advance(self.model, self.cirrus, self.seen)

    @invariant()
    def law_4_generations_have_no_gap_and_no_double(self) -> None:
        for count, newest, distinct in self.cirrus.rows(
            "SELECT count(*), max(generation), count(DISTINCT generation) FROM job"
            " GROUP BY rule, key"
        ):
            assert count == newest == distinct, "law 4, I5"

    @invariant()
    def i1_and_i3_what_was_committed_stays_and_new_rows_come_after_it(self) -> None:
        for table in ("occurrence", "reset", "moment"):
            kept = self.kept.setdefault(table, {})
            newest = max((max(rows, default=0) for rows in self.kept.values()), default=0)
            now = {row[0]: row for row in self.cirrus.rows(f"SELECT * FROM {table}")}
            assert {seq: now.get(seq) for seq in kept} == kept, f"I1: {table}"
            assert all(seq > 0 and (seq in kept or seq > self.seen_before) for seq in now), "I3"
            assert newest <= self.cirrus.store.last_seq()
            self.kept[table] = now
        self.seen_before = self.cirrus.store.last_seq()
        assert self.acknowledged <= set(self.kept["occurrence"]), "I1"

    seen_before = 0

    @invariant()
    def i2_an_identity_has_one_occurrence(self) -> None:
        stored = self.cirrus.rows("SELECT source, id, seq FROM occurrence WHERE id IS NOT NULL")
        expected = [(one.source, one.id, seq) for one, (_, seq) in self.accepted.items()]
        assert sorted(stored) == sorted(expected), "I2"

    @invariant()
    def i6_a_firing_uses_what_came_before_it_under_its_key(self) -> None:
        for seq, key, used, occurred_under in self.cirrus.rows(
            "SELECT job.seq, job.key, o.seq, o.key FROM job, json_each(job.members) AS m"
            " JOIN occurrence AS o ON o.seq = m.value"
        ):
            assert used < seq, "I6"
            assert key == occurred_under, "4.9"

    @invariant()
    def i7_every_fired_verdict_has_its_job_and_every_job_its_firing(self) -> None:
        verdicts = self.cirrus.rows(
            "SELECT json_extract(v.value, '$.job') FROM occurrence, json_each(verdicts) AS v"
            " WHERE json_extract(v.value, '$.verdict') = 'fired'"
        )
        assert sorted(verdicts) == sorted(
            self.cirrus.rows("SELECT id FROM job WHERE retried = ''")
        ), "I7"

    @invariant()
    def i8_attempts_are_numbered_without_gaps_and_one_at_most_is_live(self) -> None:
        for job, state, attempt, made, newest, live in self.cirrus.rows(
            "SELECT job.id, job.state, job.attempt, count(a.attempt), max(a.attempt),"
            " count(*) FILTER (WHERE a.attempt IS NOT NULL AND a.outcome IS NULL)"
            " FROM job LEFT JOIN attempt AS a ON a.job = job.id GROUP BY job.id"
        ):
            assert made == attempt == (newest or 0), f"I8: {job}"
            assert live == (state in ("dispatched", "running")), f"I8, I10: {job}"

    @invariant()
    def i13_an_order_to_run_is_for_a_committed_attempt_that_nobody_accepted(self) -> None:
        runs = [sent for sent in self.cirrus.orders if isinstance(sent.order, Run)]
        for sent in runs:
            assert isinstance(sent.order, Run)
            committed = self.cirrus.rows(
                "SELECT attempt, dispatcher, accepted FROM job WHERE id = ?", sent.order.job
            )
            assert committed == [(sent.order.attempt, sent.dispatcher, 0)], "I13, I15"
        assert len({(sent.order.job, sent.order.attempt) for sent in runs}) == len(runs), "I13"  # type: ignore[union-attr]

    @invariant()
    def what_is_kept_at_hand_says_what_stands(self) -> None:
        for key, name, version, bits in self.cirrus.rows("SELECT * FROM joined"):
            event_set = self.cirrus.store._event_set(name)
            if event_set is None or event_set.version != version:
                continue
            stands = [self.cirrus.store.standing(event, key) for event in event_set.members]
            expected = sum(1 << place for place, one in enumerate(stands) if one)
            assert int.from_bytes(bits, "little") == expected, f"{name} at {key!r}"


Machine.TestCase.settings = settings(stateful_step_count=40)
TestMachine = pytest.mark.timeout(600)(Machine.TestCase)
