"""When rules must fire, by semantics.md section 4 alone; it shares no code with Cirrus.

It is given each row of a committed history in the order of `seq`, keeps everything, searches all
of it for every answer, and asserts that what Cirrus recorded is what had to come.
"""

import json
from collections import Counter
from types import SimpleNamespace as Row
from typing import Any

At = tuple[str, str]  # a rule or an event, and a key


class Joins:
    def __init__(self) -> None:
        self.defined: dict[str, dict[str, Any]] = {"event": {}, "event_set": {}, "rule": {}}
        self.standing: dict[At, Row] = {}
        self.closed: dict[At, list[str]] = {}  # each closed rule, and the members that fired it
        self.last: dict[At, int] = {}  # its last firing that was no retry
        self.generation: Counter[At] = Counter()
        self.jobs: dict[str, Row] = {}
        self.resets: list[Row] = []
        self.firing: dict[At, tuple[Any, ...]] = {}  # what must fire next

    def definition(self, row: Row) -> None:
        self.defined[row.kind].pop(row.name, None)
        if row.document is not None:
            self.defined[row.kind][row.name] = json.loads(row.document)

    def members(self, name: str) -> tuple[list[str], int]:
        found = self.defined["event_set"].get(name, [name])
        if isinstance(found, list):
            return found, len(found)
        return (found["any"], 1) if "any" in found else (found["of"], found["at_least"])

    def reset(self, row: Row) -> None:
        self.resets.append(row)
        gone = {one for one in self.standing if self.covers(row, one)}
        self.standing = {one: stood for one, stood in self.standing.items() if one not in gone}
        for rule, key in list(self.closed):
            now = [m for on in self.defined["rule"].get(rule, ()) for m in self.members(on)[0]]
            if any((event, key) in gone for event in now + self.closed[rule, key]):
                del self.closed[rule, key]

    @staticmethod
    def covers(reset: Row, at: At) -> bool:
        return reset.namespace in (None, at[0].split(":")[0]) and reset.key in (None, at[1])

    def occurrence(self, row: Row) -> None:
        assert not self.firing, f"law 3: {self.firing} did not fire at once"
        whole = self.caused(row) if row.job else ""
        assert row.whole == whole, f"4.5, 4.7, 4.8: {row} is not {whole!r}"
        stood = self.standing.get((row.event, row.key))
        if not whole and (row.force or not stood):
            self.standing[row.event, row.key] = row
        expected = {
            rule: whole or ("ignored" if stood and not row.force else self.verdict(rule, row))
            for rule, body in self.defined["rule"].items()
            if any(row.event in self.members(on)[0] for on in body)
        }
        given = json.loads(row.verdicts)
        found = {one["rule"]: one["verdict"] for one in given}
        assert found == expected, f"law 7: {row.event} at {row.key!r}: {found}, not {expected}"
        assert len(given) == len(found), f"law 7: two verdicts for one rule: {given}"

    def caused(self, row: Row) -> str:
        raise NotImplementedError

    def verdict(self, rule: str, row: Row) -> str:
        (on,), at = self.defined["rule"][rule], (rule, row.key)
        members, needed = self.members(on)
        stand = [self.standing.get((event, row.key)) for event in members]
        if at in self.closed and not row.force:
            return "standing" if needed == len(members) else "absorbed"
        self.closed.pop(at, None)
        if len(stand) - stand.count(None) < needed:
            return "waiting"
        forced = any(one.force for one in stand if one and one.seq > self.last.get(at, 0))
        seqs = [one.seq if one else 0 for one in stand]
        self.firing[at] = (forced, seqs, row.root, row.depth + 1)
        self.closed[at] = [event for event, one in zip(members, stand, strict=True) if one]
        return "fired"

    def fired(self, row: Row) -> None:
        at = (row.rule, row.key)
        if row.retried:
            old = self.jobs[row.retried]
            assert old.state in ("succeeded", "failed", "cancelled"), f"7.5: retried {old}"
            again = old.forced or old.state == "succeeded"
            expected = (again, json.loads(old.members), old.root, old.depth)
        else:
            assert at in self.firing, f"law 3: {at} fired early"
            expected, self.last[at] = self.firing.pop(at), row.seq
        found = (row.forced, json.loads(row.members), row.root, row.depth)
        assert found == expected, f"4.4, I4: {at} fired as {found}, not {expected}"
        self.generation[at] += 1
        assert row.generation == self.generation[at], f"law 4: a gap or a double at {at}"
        self.jobs[row.id] = row
