"""What must become of jobs, and what they must cause, by semantics.md section 7 alone."""

import json
from collections import Counter, deque
from types import SimpleNamespace as Row
from typing import Any

from tests.laws.joins import At, Joins

FROM = {
    "dispatched": ("triggered",),
    "running": ("dispatched",),
    "retried": ("dispatched", "running"),
    "succeeded": ("dispatched", "running"),
    "failed": ("triggered", "dispatched", "running"),
    "cancelled": ("triggered", "dispatched", "running"),
}
ENDS = {"success": "succeeded", "cancelled": "cancelled", "oom": "failed", "refused": "failed"}


class Model(Joins):
    def __init__(self, chain_depth: int, chain_length: int, crash_limit: int) -> None:
        super().__init__()
        self.bounds = chain_depth, chain_length
        self.crash_limit = crash_limit
        self.counted: Counter[At] = Counter()
        self.chain: Counter[int] = Counter()
        self.due: deque[tuple[Any, ...]] = deque()  # what jobs must cause, in this order

    def caused(self, row: Row) -> str:
        job = self.jobs[row.job]
        assert (row.root, row.depth) == (job.root, job.depth), row
        if row.by_worker:
            assert job.state in ("dispatched", "running"), f"7.4: {row} of an ended attempt"
            assert row.event in job.triggering, f"7.4: {row} is not its rule's"
            assert (row.event, row.key) not in job.triggered, f"7.4: {row} comes twice"
            assert row.force >= job.forced, f"4.4: {row} is not forced"
            job.triggered.add((row.event, row.key))
            stale = self.counted[job.rule, job.key] > job.generation
        else:
            *expected, stale, data = self.due.popleft()
            found = [row.job, row.event, row.key, row.force, row.problem > ""]
            assert found == expected, f"7.3, I12: {found}, not {expected}"
            assert data in (None, json.loads(row.data)), f"7.3: {row.data}, not {data}"
        self.chain[job.root] += 1
        if row.problem:
            return "refused"
        if row.depth > self.bounds[0] or self.chain[job.root] > self.bounds[1]:
            return "stopped"
        if stale:
            return "superseded"
        areas = ((row.event, row.key), (job.rule, job.key))
        since = [reset for reset in self.resets if reset.seq > job.seq]
        return "late" if any(self.covers(reset, at) for reset in since for at in areas) else ""

    def fired(self, row: Row) -> None:
        super().fired(row)
        (row.body,) = self.defined["rule"][row.rule].values()
        target = row.body.get("triggering")
        row.triggering = self.members(target)[0] if target else []
        row.triggered, row.attempt, row.failures, row.crashes = set(), 0, 0, 0
        row.state = "triggered"
        if row.body["activity"] == {"cmd": "__auto_trigger__"}:
            self.succeeded(row, {})

    def succeeded(self, job: Row, data: dict[str, Any]) -> None:
        job.state, at = "succeeded", (job.rule, job.key)
        stale = self.counted[at] > job.generation
        self.counted[at] = max(self.counted[at], job.generation)
        if job.body["activity"].get("triggers") != "worker":
            self.cause(job, job.triggering, stale, data)

    def cause(self, job: Row, names: list[str], stale: bool, data: Any) -> None:  # noqa: FBT001
        given = data or {}
        for name in names:
            path = self.defined["event"].get(name, {}).get("key", "").removeprefix("data.")
            key, refused = given.get(path, job.key), path > "" and path not in given
            if data is None or (name, key) not in job.triggered:
                self.due.append((job.id, name, key, job.forced, refused, stale, data))

    def move(self, row: Row) -> None:
        job = self.jobs[row.job]
        assert job.state in FROM[row.state], f"I9: from {job.state} to {row.state}"
        job.attempt += row.state == "dispatched"
        assert row.attempt == job.attempt, f"law 4, I8: attempt {row.attempt}"
        job.failures += row.outcome in ("failure", "timeout")
        job.crashes += row.outcome in ("interrupted", "unknown", "lost")
        spent = job.failures >= job.body.get("attempts", 1) or job.crashes > self.crash_limit
        ended = ENDS.get(row.outcome, "failed" if spent else "retried")
        expected = ended if row.outcome else row.state
        assert row.state == expected, f"7.1, I10: {row.outcome} makes it {expected}: {row}"
        job.state = "triggered" if row.state == "retried" else row.state
        if job.state == "succeeded":
            self.succeeded(job, json.loads(row.output or b"{}"))
        if job.state == "failed" and (target := job.body.get("on_failure")):
            self.cause(job, self.members(target)[0], stale=False, data=None)

    def settled(self) -> None:
        assert not self.due, f"I12: {self.due} did not occur in the same transaction"
        assert not self.firing, f"law 3: {self.firing} did not fire in its own transaction"
