"""What is odd about a set of definitions: unknown names, cycles, sets that nothing can fill."""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import Final, Literal

from msgspec import Struct

from cirrus.core.inputs import DefinitionKind
from cirrus.core.model import Event, EventSet, Rule

Severity = Literal["error", "warning", "info"]

CYCLES_MOST: Final = 20
NAMES_MOST: Final = 5
SUGGESTIONS_MOST: Final = 20
"""Looking for what was meant takes long among very many names."""


class Finding(Struct, frozen=True):
    """One thing about one definition. `near`: the name that was probably meant."""

    severity: Severity
    code: Literal[
        "unknown_name",
        "undeclared_event",
        "cycle",
        "unfillable_set",
        "unreachable_rule",
        "unused_event",
        "unused_set",
        "unheard_rule",
    ]
    kind: DefinitionKind
    name: str
    message: str
    near: str = ""


class Graph:
    """The definitions, and who waits for what. A name may be an event's and a set's at once."""

    def __init__(
        self, events: Iterable[Event], event_sets: Iterable[EventSet], rules: Iterable[Rule]
    ) -> None:
        self.events = {event.name for event in events}
        self.sets = {event_set.name: event_set for event_set in event_sets}
        self.rules = tuple(rules)
        self.on: dict[str, list[Rule]] = defaultdict(list)
        self.triggered: set[str] = set()
        for rule in self.rules:
            self.on[rule.on].append(rule)
            self.triggered.update(self.events_of(rule))
        self.waiting: dict[str, list[EventSet]] = defaultdict(list)
        for waited in (*self.sets.values(), *self._single_sets()):
            for member in waited.members:
                self.waiting[member].append(waited)

    def members(self, name: str) -> tuple[str, ...]:
        """The events that this name stands for: a set hides an event of its name."""
        return self.sets[name].members if name in self.sets else (name,)

    def events_of(self, rule: Rule) -> list[str]:
        """Every event that the rule can make occur, each once."""
        targets = [target for target in (rule.triggering, rule.on_failure) if target]
        return list(dict.fromkeys(event for target in targets for event in self.members(target)))

    def _single_sets(self) -> Iterator[EventSet]:
        """A rule on an event's name needs no set of that name."""
        for name in self.on:
            if name not in self.sets:
                yield EventSet(name, (name,), 1)


def check(
    events: Iterable[Event], event_sets: Iterable[EventSet], rules: Iterable[Rule]
) -> tuple[Finding, ...]:
    """All findings, errors first."""
    graph = Graph(events, event_sets, rules)
    cycles = list(_cycles(graph))
    found = [
        *_unknown(graph),
        *(_cycle(cycle) for cycle in cycles),
        *_out_of_reach(graph, _reachable(graph, cycles)),
        *_unused(graph),
    ]
    order: tuple[Severity, ...] = ("error", "warning", "info")
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def near(name: str, names: Collection[str]) -> str:
    """The most similar of these names; empty if none is similar."""
    return next(iter(get_close_matches(name, names, n=1)), "")


# --- names --------------------------------------------------------------------------------------


def _unknown(graph: Graph) -> Iterator[Finding]:
    """A name that one rule triggers and another waits for was surely meant; a lone one not."""
    agreed = graph.triggered & graph.waiting.keys()
    for event in sorted(agreed - graph.events):
        message = f"event {event} is triggered and waited for, but not defined"
        yield Finding("warning", "undeclared_event", "event", event, message)
    events = sorted(graph.events | agreed)
    names = sorted({*events, *graph.sets})
    lone = (mention for mention in _mentions(graph) if mention.unknown not in agreed)
    for place, mention in enumerate(lone):
        candidates = events if mention.kind == "event_set" else names
        meant = near(mention.unknown, candidates) if place < SUGGESTIONS_MOST else ""
        what, hint = (
            "neither an event nor an event set",
            f"; did you mean {meant}?" if meant else "",
        )
        if mention.unknown in graph.sets:
            what = "an event set; the members of a set are events"
        message = f"{mention.phrase} {mention.unknown}, which is {what}{hint}"
        yield Finding("error", "unknown_name", mention.kind, mention.name, message, meant)


class _Mention(Struct, frozen=True):
    """A definition that mentions a name that nothing defines."""

    kind: DefinitionKind
    name: str
    phrase: str
    unknown: str


def _mentions(graph: Graph) -> Iterator[_Mention]:
    for name, event_set in graph.sets.items():
        for member in event_set.members:
            if member not in graph.events:
                yield _Mention("event_set", name, f"event set {name} waits for", member)
    for rule in graph.rules:
        for phrase, name in (
            ("is on", rule.on),
            ("triggers", rule.triggering),
            ("triggers on failure", rule.on_failure),
        ):
            if name and name not in graph.events and name not in graph.sets:
                yield _Mention("rule", rule.name, f"rule {rule.name} {phrase}", name)


# --- cycles -------------------------------------------------------------------------------------


def _cycles(graph: Graph) -> Iterator[tuple[Rule, ...]]:
    """The first cycles, each as its rules in order; a cycle is cut open where it was found."""
    before = _edges(graph)
    rules = {rule.name: rule for rule in graph.rules}
    for _ in range(CYCLES_MOST):
        try:
            TopologicalSorter(before).prepare()
        except CycleError as error:
            path: list[_Node] = error.args[1]
            before[path[1]].remove(path[0])
            yield tuple(rules[name] for kind, name in path[:-1] if kind == "rule")
        else:
            return


_Node = tuple[DefinitionKind, str]


def _edges(graph: Graph) -> dict[_Node, set[_Node]]:
    """For each node, what comes right before it: rule, event, set, rule, and so on."""
    before: dict[_Node, set[_Node]] = defaultdict(set)
    for rule in graph.rules:
        before["rule", rule.name].add(("event_set", rule.on))
        for event in graph.events_of(rule):
            before["event", event].add(("rule", rule.name))
    for event, waiting in graph.waiting.items():
        for event_set in waiting:
            before["event_set", event_set.name].add(("event", event))
    return before


def _cycle(rules: tuple[Rule, ...]) -> Finding:
    first = min(range(len(rules)), key=lambda place: rules[place].name)
    turned = [rule.name for rule in (*rules[first:], *rules[:first])]
    path = " → ".join([*turned, turned[0]])
    message = f"these rules form a cycle: {path}; under one key it goes round once, unless forced"
    return Finding("warning", "cycle", "rule", turned[0], message)


# --- what can happen ----------------------------------------------------------------------------


def _reachable(graph: Graph, cycles: Iterable[tuple[Rule, ...]]) -> set[str]:
    """The events that can occur: those that come from outside, and all that may follow.

    A cycle that nothing leads into is begun by hand, where one event is enough to begin it.
    """
    unknown = graph.waiting.keys() - graph.events
    outside = {event for event in graph.events | unknown if event not in graph.triggered}
    reached = _closure(graph, outside)
    for cycle in cycles:
        sets = [graph.sets.get(rule.on, EventSet(rule.on, (rule.on,), 1)) for rule in cycle]
        if not any(_fillable(event_set, reached) for event_set in sets):
            outside.update(event for each in sets if each.needed == 1 for event in each.members)
            reached = _closure(graph, outside)
    return reached


def _closure(graph: Graph, outside: Iterable[str]) -> set[str]:
    reached = set(outside)
    due = deque(reached)
    standing: Counter[str] = Counter()
    while due:
        for event_set in graph.waiting.get(due.popleft(), ()):
            standing[event_set.name] += 1
            if standing[event_set.name] != event_set.needed:
                continue
            for rule in graph.on.get(event_set.name, ()):
                new = [event for event in graph.events_of(rule) if event not in reached]
                reached.update(new)
                due.extend(new)
    return reached


def _fillable(event_set: EventSet, reached: Collection[str]) -> bool:
    return sum(member in reached for member in event_set.members) >= event_set.needed


def _out_of_reach(graph: Graph, reached: Collection[str]) -> Iterator[Finding]:
    for name, event_set in graph.sets.items():
        if not _fillable(event_set, reached):
            lacking = [member for member in event_set.members if member not in reached]
            message = (
                f"event set {name} cannot be filled: nothing triggers {_some(lacking)} before it"
            )
            yield Finding("warning", "unfillable_set", "event_set", name, message)
    for rule in graph.rules:
        event_set = graph.sets.get(rule.on) or EventSet(rule.on, (rule.on,), 1)
        if not _fillable(event_set, reached):
            message = f"rule {rule.name} never fires: nothing fills {rule.on} before it"
            yield Finding("warning", "unreachable_rule", "rule", rule.name, message)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_MOST} more" if len(names) > NAMES_MOST else ""
    return ", ".join(names[:NAMES_MOST]) + more


# --- what nobody needs --------------------------------------------------------------------------


def _unused(graph: Graph) -> Iterator[Finding]:
    for event in sorted(graph.events - graph.triggered - graph.waiting.keys()):
        message = f"event {event} is not used: no set or rule waits for it, and no rule triggers it"
        yield Finding("warning", "unused_event", "event", event, message)
    targets = {target for rule in graph.rules for target in (rule.triggering, rule.on_failure)}
    for name, event_set in graph.sets.items():
        # The seed makes a set of its own for every event, whether a rule needs it or not.
        if event_set.members != (name,) and name not in graph.on and name not in targets:
            message = f"event set {name} is not used: no rule is on it, and none triggers it"
            yield Finding("info", "unused_set", "event_set", name, message)
    for rule in graph.rules:
        heard = (
            graph.on.get(each.name)
            for event in graph.events_of(rule)
            for each in graph.waiting.get(event, ())
        )
        if rule.triggering and not any(heard):
            message = f"rule {rule.name} triggers {rule.triggering}, and no rule waits for it"
            yield Finding("info", "unheard_rule", "rule", rule.name, message)
