"""Which rules an occurrence fires, and what it becomes for those that it does not fire."""

from typing import Literal

from msgspec import Struct

from cirrus.core.acceptance import digest, settle
from cirrus.core.decision import (
    Change,
    Decision,
    Fired,
    FiringState,
    Joined,
    Occurrence,
    Recorded,
    Route,
    StateSet,
    Stood,
    Verdict,
    VerdictKind,
    View,
)
from cirrus.core.inputs import Occurred
from cirrus.core.model import (
    AutoTrigger,
    Cause,
    EventSet,
    Post,
    Rule,
    Standing,
    UnixTime,
    job_id,
    namespace_of,
)

MISSING_NAMED = 20
"""So many missing members a verdict names; the rest it counts."""


class Plan(Struct, frozen=True):
    """A firing that is to be made. `members`: the `seq`s that satisfy the set, 0 where none."""

    rule: Rule
    event_set: EventSet
    key: str
    state: FiringState
    members: tuple[int, ...]
    forced: bool
    root: int
    depth: int
    retried: str = ""


class Made(Struct, frozen=True):
    """What a firing changes, and what follows at once from an auto-trigger."""

    fired: Fired
    changes: tuple[Change, ...]
    follow: tuple[Occurred, ...]


def occurred(view: View, what: Occurred, now: UnixTime) -> Decision:
    if what.repeat:
        return _answered_again(view, what.post)
    seq = view.last_seq() + 1
    routes = view.routes(what.post.event)
    whole = _whole_verdict(view, what)
    counting = _Counting(view, what, Standing(seq, what.post.force), now)
    verdicts = counting.nothing(routes, whole) if whole else counting.everything(routes)
    recorded = Recorded(
        seq=seq,
        post=what.post,
        key=what.key,
        received=now,
        cause=what.cause,
        verdicts=verdicts,
        digest=digest(what.post) if what.post.identity else b"",
        whole=whole,
        problem=what.problem,
        by_worker=what.by_worker,
    )
    answer = Occurrence(seq, what.post.event, what.key, verdicts)
    return Decision(
        changes=(recorded, *counting.changes),
        follow=tuple(counting.follow),
        answers=(answer,) if what.asked else (),
    )


def _answered_again(view: View, post: Post) -> Decision:
    assert post.identity is not None
    stored = view.accepted(post.identity)
    assert stored is not None, post.identity
    return Decision(answers=(Occurrence(stored.seq, post.event, stored.key, duplicate=True),))


def _whole_verdict(view: View, what: Occurred) -> VerdictKind | Literal[""]:
    """The verdict that holds for every rule when the occurrence may not count at all."""
    if what.problem:
        return "refused"
    cause = what.cause
    if cause is None:
        return ""
    bounds = view.bounds
    if cause.depth > bounds.chain_depth or view.chain_length(cause.root) >= bounds.chain_length:
        return "stopped"
    if cause.stale:
        return "superseded"
    if cause.late or view.newest_reset(namespace_of(what.post.event), what.key) > cause.fired:
        return "late"
    return ""


class _Counting:
    """What one occurrence does to every set that it is a member of, as it adds up."""

    def __init__(self, view: View, what: Occurred, standing: Standing, now: UnixTime) -> None:
        self.view = view
        self.what = what
        self.standing = standing
        self.now = now
        self.seq = standing.seq
        self.changes: list[Change] = []
        self.follow: list[Occurred] = []

    def nothing(self, routes: tuple[Route, ...], verdict: VerdictKind) -> tuple[Verdict, ...]:
        return tuple(Verdict(rule.name, verdict) for route in routes for rule in route.rules)

    def everything(self, routes: tuple[Route, ...]) -> tuple[Verdict, ...]:
        event, key = self.what.post.event, self.what.key
        if not self.standing.forced and self.view.standing(event, key) is not None:
            return self.nothing(routes, "ignored")
        self.changes.append(Stood(event, key, self.standing))
        return tuple(
            self._verdict(rule, route, bits)
            for route in routes
            for bits in (self._join(route),)
            for rule in route.rules
        )

    def _join(self, route: Route) -> int:
        """The members that stand now, this one included."""
        if len(route.event_set.members) == 1:
            return 1
        before = self.view.stands(route.event_set, self.what.key)
        bits = before | 1 << route.place
        if bits != before:
            self.changes.append(Joined(route.event_set, self.what.key, bits))
        return bits

    def _verdict(self, rule: Rule, route: Route, bits: int) -> Verdict:
        event_set, key = route.event_set, self.what.key
        state = self.view.firing_state(rule.name, key)
        if not (state.open or self.standing.forced):
            # A rule that fired is closed. A member that comes after an `any` is a latecomer; one
            # that an edit brought into the set merely stands, ready for the next forced one.
            return Verdict(rule.name, "standing" if event_set.wants_all else "absorbed")
        lacking = event_set.needed - bits.bit_count()
        if lacking <= 0:
            return self._fire(rule, route, state)
        if not state.open:
            opened = FiringState(state.generation, state.fired, counted=state.counted)
            self.changes.append(StateSet(rule.name, key, opened))
        missing = missing_members(event_set, bits)
        return Verdict(rule.name, "waiting", missing=missing, lacking=lacking)

    def _fire(self, rule: Rule, route: Route, state: FiringState) -> Verdict:
        members = self._members(route)
        cause = self.what.cause
        plan = Plan(
            rule,
            route.event_set,
            self.what.key,
            state,
            members=tuple(member.seq if member else 0 for member in members),
            forced=any(m is not None and m.forced and m.seq > state.fired for m in members),
            root=cause.root if cause else self.standing.seq,
            depth=cause.depth + 1 if cause else 1,
        )
        self.seq += 1
        made = fire(self.view, plan, self.seq, self.now)
        self.changes += made.changes
        self.follow += made.follow
        return Verdict(rule.name, "fired", job=made.fired.job, generation=made.fired.generation)

    def _members(self, route: Route) -> tuple[Standing | None, ...]:
        if len(route.event_set.members) == 1:
            return (self.standing,)
        members = list(self.view.members(route.event_set, self.what.key))
        members[route.place] = self.standing
        return tuple(members)


def missing_members(event_set: EventSet, bits: int) -> tuple[str, ...]:
    """The first members that do not stand, in the set's order, at most MISSING_NAMED."""
    absent = ~bits & (1 << len(event_set.members)) - 1
    names: list[str] = []
    while absent and len(names) < MISSING_NAMED:
        lowest = absent & -absent
        names.append(event_set.members[lowest.bit_length() - 1])
        absent ^= lowest
    return tuple(names)


def fire(view: View, plan: Plan, seq: int, now: UnixTime) -> Made:
    """Make the firing with the next generation. An auto-trigger's job succeeds at once."""
    rule, state = plan.rule, plan.state
    generation = state.generation + 1
    auto = isinstance(rule.activity, AutoTrigger)
    job = job_id(rule.name, plan.key, generation)
    fired = Fired(
        seq=seq,
        time=now,
        job=job,
        rule=rule,
        event_set=plan.event_set,
        triggering=view.triggered_by(rule.triggering) if rule.triggering else (),
        key=plan.key,
        generation=generation,
        forced=plan.forced,
        cause=Cause(job, seq, plan.root, plan.depth),
        members=plan.members,
        state="succeeded" if auto else "triggered",
        retried=plan.retried,
    )
    counted = generation if auto else state.counted
    if plan.retried:
        # To try a job again uses nothing up: what is new to an open rule stays new, and opens it.
        after = FiringState(generation, state.fired, open=state.open, counted=counted)
    else:
        after = FiringState(generation, seq, open=False, counted=counted)
    follow = triggered(view, fired.triggering, fired.cause, Post("", force=fired.forced), plan.key)
    return Made(fired, (fired, StateSet(rule.name, plan.key, after)), follow if auto else ())


def triggered(
    view: View, events: tuple[str, ...], cause: Cause, like: Post, key: str
) -> tuple[Occurred, ...]:
    """The occurrences that a firing causes: `like` gives their data and force."""
    caused = []
    for name in events:
        post = Post(name, data=like.data, force=like.force)
        own_key, problem = settle(view.event(name), post, inherited=key)
        caused.append(Occurred(post, own_key, cause=cause, problem=problem))
    return tuple(caused)
