"""Whatever happens, in whatever order: the laws of semantics.md hold after every step.

Beside the engine stands the reference model of joins.py and jobs.py.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cirrus.core.decision import Answer, Job, Occurrence
from cirrus.core.documents import parse
from cirrus.core.inputs import (
    Applied,
    CancelAsked,
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
from cirrus.errors import Conflict, Refused
from tests.core.toy import AUTO, PROCESS, Cirrus, dispatcher
from tests.laws.history import advance
from tests.laws.jobs import Model

BOUNDS = {"chain_depth": 6, "chain_length": 12, "crash_limit": 1}
ATTEMPTS = st.integers(1, 3)
BOOLEANS = st.booleans()
CONDITIONS = st.sampled_from(["all", "any", "at_least"])
EVENTS = st.sampled_from(["n:a", "n:b", "n:c", "m:d"])
KEYS = st.sampled_from(["", "k"])
MEMBERS = st.lists(EVENTS, min_size=1, max_size=4, unique=True)
NAMESPACES = st.sampled_from([None, "n", "m"])
OUTPUTS = st.sampled_from([b"", b"{}", b'{"x":"k"}', b"[]"])
OUTCOMES = st.sampled_from(
    ["success", "success", "failure", "timeout", "cancelled", "oom", "refused", "interrupted"]
    + ["unknown", "lost"]
)
RULES = st.sampled_from(["n:r1", "n:r2", "m:r3"])
RUNS = st.sampled_from([AUTO, PROCESS, PROCESS, {**PROCESS, "triggers": "worker"}])
# A set may be named like an event, and hides it then.
SETS = st.sampled_from(["n:s1", "n:s2", "n:b"])
TARGETS = EVENTS | SETS
MAYBE_TARGETS = st.none() | TARGETS

posts = st.builds(
    Post,
    EVENTS,
    key=st.none() | KEYS,
    data=st.sampled_from([{}, {"x": "k"}]),
    force=st.sampled_from([False, False, True]),
    identity=st.none() | st.builds(Identity, st.just("test"), st.sampled_from("123456")),
)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cirrus = Cirrus(**BOUNDS)
        self.model = Model(**BOUNDS)
        self.seen = 0
        self.accepted: dict[Identity, tuple[Post, int]] = {}
        self.acknowledged: set[int] = set()
        self.kept: dict[str, dict[int, tuple[Any, ...]]] = {}
        self.identified: list[Input] = []

    # --- what happens ---------------------------------------------------------------------------

    def tell(self, what: Input) -> tuple[Answer, ...] | None:
        """None when it is refused, which must leave no trace (I23)."""
        before = self.cirrus.dump()
        try:
            return self.cirrus.ask(what)
        except Refused:
            assert self.cirrus.dump() == before, f"I23: {what} was refused and left a trace"
            return None

    def define(self, kind: Any, name: str, document: object) -> None:
        self.tell(Applied(puts=(parse(kind, name, document),)))

    @rule(name=SETS, members=MEMBERS, condition=CONDITIONS)
    def put_a_set(self, name: str, members: list[str], condition: str) -> None:
        document: dict[str, object] = {condition: members}
        if condition == "at_least":
            document = {"at_least": (len(members) + 1) // 2, "of": members}
        self.define("event_set", name, document)

    @rule(
        name=RULES,
        on=TARGETS,
        run=RUNS,
        triggering=MAYBE_TARGETS,
        on_failure=MAYBE_TARGETS,
        attempts=ATTEMPTS,
    )
    def put_a_rule(self, name: str, **document: object) -> None:
        document["activity"] = document.pop("run")
        self.define("rule", name, document)

    @rule(name=EVENTS, by_path=BOOLEANS)
    def put_an_event(self, name: str, *, by_path: bool) -> None:
        self.define("event", name, {"key": "data.x"} if by_path else {})

    @rule(kind=st.sampled_from(["rule", "event_set"]), rule_name=RULES, set_name=SETS)
    def delete(self, kind: Any, rule_name: str, set_name: str) -> None:
        name = rule_name if kind == "rule" else set_name
        self.tell(Applied(deletes=((kind, name),)))

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

    @rule(
        key=st.none() | KEYS,
        namespace=NAMESPACES,
        id=st.sampled_from([None, "1", "2"]),
        cancel=BOOLEANS,
    )
    def reset(self, key: str | None, namespace: str | None, id: str | None, *, cancel: bool) -> None:
        identity = None if id is None else Identity("test", id)
        what = ResetAsked(key, namespace, identity, cancel_jobs=cancel)
        if self.tell(what) is not None and identity is not None:
            self.identified.append(what)

    @precondition(lambda self: self.identified)
    @rule(choice=st.integers(0, 999))
    def law_2_what_has_an_identity_is_said_again(self, choice: int) -> None:
        before = self.cirrus.dump()
        self.tell(self.identified[choice % len(self.identified)])
        assert self.cirrus.dump() == before, "law 2"

    # --- jobs and dispatchers -------------------------------------------------------------------

    def jobs(self, *, active: bool) -> list[Job]:
        rows = self.cirrus.rows("SELECT id FROM job ORDER BY seq")
        found = [self.cirrus.job_by_id(id) for (id,) in rows]
        return [job for job in found if job.attempt and (not active or not ended(job.state))]

    def chosen(self, choice: int, *, active: bool = True) -> Job:
        found = self.jobs(active=active)
        return found[choice % len(found)]

    def report(self, job: Job, attempt: int, report: Any, by: str = "d1") -> None:
        current = attempt == job.attempt and not ended(job.state) and by == "d1"
        before = self.cirrus.dump()
        self.tell(Reported(by, report))
        after = self.cirrus.dump()
        if not current or job.state == "triggered":
            before.pop("attempt"), after.pop("attempt")  # which only says that it came late
            assert after == before, f"law 5, I11: {report} of attempt {job.attempt} changed {job}"
        once = self.cirrus.dump()
        self.tell(Reported(by, report))
        twice = self.cirrus.dump()
        once.pop("attempt"), twice.pop("attempt")
        assert twice == once, f"law 2, I11: {report} was counted twice"

    @precondition(lambda self: self.jobs(active=True))
    @rule(choice=st.integers(0, 999), kind=OUTCOMES, output=OUTPUTS)
    def an_attempt_ends(self, choice: int, kind: Any, output: bytes) -> None:
        job = self.chosen(choice)
        report = Ended(job.id, job.attempt, Outcome(kind, 0, "why"), None, None, output)
        self.report(job, job.attempt, report)

    @precondition(lambda self: self.jobs(active=True))
    @rule(choice=st.integers(0, 999))
    def an_attempt_succeeds(self, choice: int) -> None:
        self.an_attempt_ends(choice, "success", b'{"x":"k"}')

    @precondition(lambda self: self.jobs(active=True))
    @rule(choice=st.integers(0, 999), started=BOOLEANS)
    def an_attempt_begins(self, choice: int, *, started: bool) -> None:
        job = self.chosen(choice)
        at = 7.0e10  # a dispatcher's clock may say anything
        report = Started(job.id, job.attempt, at) if started else Accepted(job.id, job.attempt)
        self.report(job, job.attempt, report)

    @precondition(lambda self: self.jobs(active=False))
    @rule(
        choice=st.integers(0, 999),
        off=st.sampled_from([-1, 0, 1]),
        kind=OUTCOMES,
        what=st.sampled_from(["accepted", "started", "ended"]),
        by=st.sampled_from(["d1", "d2"]),
    )
    def something_stale_is_reported(  # noqa: PLR0913  (a report's own facts)
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
    @rule(
        choice=st.integers(0, 999),
        off=st.sampled_from([0, 0, 0, -1]),
        event=EVENTS,
        key=st.none() | KEYS,
        force=BOOLEANS,
    )
    def a_worker_triggers(  # noqa: PLR0913  (as above)
        self, choice: int, off: int, event: str, key: str | None, *, force: bool
    ) -> None:
        job = self.chosen(choice, active=False)
        attempt = job.attempt + off
        what = WorkerPosted(job.id, attempt, Post(event, key=key, data={"x": "k"}, force=force))
        answer = self.tell(what)
        live = job.state in ("dispatched", "running") and off == 0
        assert (answer is not None) == (live and event in job.triggering), f"7.4: {answer}"
        if answer is not None:
            before = self.cirrus.dump()
            assert self.tell(what) is not None
            assert self.cirrus.dump() == before, "7.4: the second one is a duplicate"

    @precondition(lambda self: self.jobs(active=False))
    @rule(choice=st.integers(0, 999))
    def retry(self, choice: int) -> None:
        self.tell(RetryAsked(self.chosen(choice, active=False).id))

    @precondition(lambda self: self.jobs(active=False))
    @rule(choice=st.integers(0, 999))
    def cancel(self, choice: int) -> None:
        self.tell(CancelAsked(self.chosen(choice, active=False).id))

    @rule(name=RULES, paused=BOOLEANS)
    def pause(self, name: str, *, paused: bool) -> None:
        self.tell(PauseAsked(name, paused))

    @rule(seconds=st.sampled_from([0.5, 5.0, 31.0, 601.0]), listed=BOOLEANS)
    def time_passes(self, seconds: float, *, listed: bool) -> None:
        self.cirrus.now += seconds
        names = {(job.id, job.attempt): self.cirrus.now for job in self.jobs(active=True)}
        self.cirrus.present = (dispatcher(slots=3, listed=names if listed else {}),)
        self.tell(TimePassed(self.cirrus.present, 0.0))

    @rule(connected=BOOLEANS, choice=st.integers(0, 999))
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
TestMachine = Machine.TestCase
