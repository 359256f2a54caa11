"""Stories that people can read: commands, `----`, and what must come of them.

`CIRRUS_REWRITE=1 .venv/bin/pytest tests/scenarios` writes down what comes of them now: read the
difference before you keep it. The commands are the methods of Story.
"""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.core.toy import AUTO, PROCESS, Cirrus, dispatcher, post

from cirrus.core.decision import Occurrence, Verdict
from cirrus.core.inputs import PauseAsked, Posted, Reported, ResetAsked, WorkerPosted
from cirrus.core.messages import Accepted, Ended, Outcome, OutcomeKind, Run, Settled, Started
from cirrus.core.model import Identity
from cirrus.errors import Refused

FOLDER = Path(__file__).parent
REWRITE = os.environ.get("CIRRUS_REWRITE") == "1"


class Story:
    """Runs commands, one line each, and tells what they changed."""

    def __init__(self) -> None:
        self.cirrus = Cirrus()
        self.told = 0
        self.said: list[str] = []

    def run(self, commands: list[str]) -> list[str]:
        lines: list[str] = []
        for command in commands:
            verb, *words = shlex.split(command)
            options = dict(word.split("=", 1) for word in words if "=" in word)
            self.said, self.cirrus.orders = [], []
            try:
                getattr(self, verb)(*(word for word in words if "=" not in word), **options)
            except Refused as refused:
                self.said.append(f"refused: {refused.code}")
            lines += [*self.news(), *self.said, *self.orders()]
        return lines or ["nothing"]

    # --- commands -------------------------------------------------------------------------------

    def bounds(self, **limits: str) -> None:
        self.cirrus = Cirrus(**{name: int(limit) for name, limit in limits.items()})

    def event(self, name: str, **fields: str) -> None:
        self.cirrus.put("event", name, fields)

    def set(self, name: str, *members: str) -> None:
        self.cirrus.put("event_set", name, list(members))

    def any(self, name: str, *members: str) -> None:
        self.cirrus.put("event_set", name, {"any": list(members)})

    def at_least(self, count: str, name: str, *members: str) -> None:
        self.cirrus.put("event_set", name, {"at_least": int(count), "of": list(members)})

    def auto(self, name: str, on: str, **rest: str) -> None:
        self.rule(name, on, AUTO, **rest)

    def job(self, name: str, on: str, triggers: str = "cirrus", **rest: str) -> None:
        self.rule(name, on, {**PROCESS, "triggers": triggers}, **rest)

    def rule(self, name: str, on: str, run: object, attempts: str = "1", **rest: str) -> None:
        document = {"on": on, "activity": run, "attempts": int(attempts), **rest}
        self.cirrus.put("rule", name, document)

    def delete(self, kind: str, name: str) -> None:
        assert kind in ("event", "event_set", "rule")
        self.cirrus.delete(kind, name)  # type: ignore[arg-type]

    def trigger(self, *events: str, key: str | None = None, id: str | None = None) -> None:
        """`force` at the end forces them all."""
        *names, last = events
        force = last == "force"
        wanted = names if force else events
        posts = tuple(post(name, key, force=force, id=id) for name in wanted)
        self.hear(self.cirrus.ask(Posted(posts)))

    def worker(self, rule: str, generation: str, event: str, key: str = "", at: str = "") -> None:
        """`at`: the key that the worker gives."""
        job = self.cirrus.job(rule, int(generation), key)
        self.hear(self.cirrus.ask(WorkerPosted(job.id, job.attempt, post(event, at or None))))

    def accepted(self, rule: str, generation: str, attempt: str = "", key: str = "") -> None:
        self.cirrus.ask(Reported("d1", Accepted(*self._attempt(rule, generation, attempt, key))))

    def started(self, rule: str, generation: str, attempt: str = "", key: str = "") -> None:
        job = self._attempt(rule, generation, attempt, key)
        self.cirrus.ask(Reported("d1", Started(*job, self.cirrus.now)))

    def ended(  # noqa: PLR0913  (as the reports have it)
        self,
        rule: str,
        generation: str,
        kind: OutcomeKind,
        *,
        attempt: str = "",
        key: str = "",
        output: str = "",
        by: str = "d1",
    ) -> None:
        job = self._attempt(rule, generation, attempt, key)
        report = Ended(*job, Outcome(kind), None, None, output.encode())
        self.cirrus.ask(Reported(by, report))

    def _attempt(self, rule: str, generation: str, attempt: str, key: str) -> tuple[str, int]:
        job = self.cirrus.job(rule, int(generation), key)
        return job.id, int(attempt or job.attempt)

    def retry(self, rule: str, generation: str, key: str = "") -> None:
        self.cirrus.retry(self.cirrus.job(rule, int(generation), key))

    def cancel(self, rule: str, generation: str, key: str = "") -> None:
        self.cirrus.cancel(self.cirrus.job(rule, int(generation), key))

    def pause(self, rule: str) -> None:
        self.cirrus.ask(PauseAsked(rule, paused=True))

    def resume(self, rule: str) -> None:
        self.cirrus.ask(PauseAsked(rule, paused=False))

    def reset(
        self, *cancel: str, key: str | None = None, namespace: str | None = None, id: str = ""
    ) -> None:
        identity = Identity("", id) if id else None
        self.cirrus.ask(ResetAsked(key, namespace, identity, cancel_jobs=cancel == ("cancel",)))

    def wait(self, seconds: str) -> None:
        self.cirrus.wait(float(seconds))

    def away(self) -> None:
        self.cirrus.present = (dispatcher(connected=False),)

    def back(self) -> None:
        self.cirrus.present = (dispatcher(),)

    # --- what came of it ------------------------------------------------------------------------

    def hear(self, answers: tuple[object, ...]) -> None:
        for answer in answers:
            if isinstance(answer, Occurrence) and answer.duplicate:
                self.said.append(f"{answer.event} had occurred as #{answer.seq}")

    def news(self) -> list[str]:
        found = sorted(
            [
                *self._occurrences(),
                *self._firings(),
                *self._moments(),
                *self._resets(),
                *self._definitions(),
            ]
        )
        self.told = self.cirrus.store.last_seq()
        return [line for _, line in found]

    def _rows(self, sql: str) -> list[tuple[object, ...]]:
        return self.cirrus.rows(f"{sql} WHERE seq > {self.told}")

    def _occurrences(self) -> Iterator[tuple[object, str]]:
        for seq, event, key, force, whole, verdicts in self._rows(
            "SELECT seq, event, key, force, whole, verdicts FROM occurrence"
        ):
            assert isinstance(verdicts, bytes)
            each = msgspec.json.decode(verdicts, type=tuple[Verdict, ...])
            became = whole or ", ".join(map(_verdict, each)) or "nobody waits for it"
            yield seq, f"{event} #{seq}{_at(key)}{', forced' * bool(force)}: {became}"

    def _firings(self) -> Iterator[tuple[object, str]]:
        for seq, job, forced, members, retried in self._rows(
            "SELECT seq, id, forced, members, retried FROM job"
        ):
            assert isinstance(members, bytes)
            used = " and ".join(f"#{one}" for one in msgspec.json.decode(members) if one)
            again = ", a retry" * bool(retried)
            yield seq, f"{self._name(job)} fired by {used}{', forced' * bool(forced)}{again}"

    def _moments(self) -> Iterator[tuple[object, str]]:
        for seq, kind, rule, job, state, attempt, outcome in self._rows(
            "SELECT seq, kind, rule, job, state, attempt, outcome FROM moment"
        ):
            if kind == "move":
                why = f": {outcome}" if outcome and outcome != "success" else ""
                yield seq, f"{self._name(job)} {state}, attempt {attempt}{why}"
            else:
                yield seq, f"{rule} {state}"

    def _resets(self) -> Iterator[tuple[object, str]]:
        for seq, key, namespace in self._rows("SELECT seq, key, namespace FROM reset"):
            what = "every key" if key is None else f"key '{key}'"
            yield seq, f"{what} reset{'' if namespace is None else f' in {namespace}'}"

    def _definitions(self) -> Iterator[tuple[object, str]]:
        for seq, kind, name, version, document in self._rows(
            "SELECT seq, kind, name, version, document FROM definition"
        ):
            yield (
                seq,
                f"{kind} {name} {'deleted by' if document is None else 'is'} version {version}",
            )

    def orders(self) -> Iterator[str]:
        for sent in self.cirrus.orders:
            if isinstance(sent.order, Run):
                again = ", forced" * (sent.order.environment["FORCE"] == "true")
                yield f"> {sent.dispatcher}: run {self._name(sent.order.job)}{again}"
            elif not isinstance(sent.order, Settled):
                word = type(sent.order).__name__.lower()
                job = getattr(sent.order, "job", "")
                yield f"> {sent.dispatcher}: {word} {self._name(job)}"

    def _name(self, job: object) -> str:
        found = self.cirrus.job_by_id(str(job))
        return f"{found.rule.name} {found.generation}{_at(found.key)}"


def _at(key: object) -> str:
    return f" at {key}" if key else ""


def _verdict(verdict: Verdict) -> str:
    if verdict.verdict == "waiting":
        return f"{verdict.rule} waits for {verdict.lacking} of {' '.join(verdict.missing)}"
    return f"{verdict.rule} {verdict.verdict}"


# --- files --------------------------------------------------------------------------------------


def blocks(text: str) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Comments, commands and expected lines of each block; blank lines stand between blocks."""
    for part in text.strip().split("\n\n"):
        lines = part.split("\n")
        comments = [line for line in lines if line.startswith("#")]
        rest = [line for line in lines if not line.startswith("#")]
        bar = rest.index("----") if "----" in rest else len(rest)
        yield comments, rest[:bar], rest[bar + 1 :]


def retold(text: str) -> str:
    """The same commands, with what comes of them now."""
    story = Story()
    parts = []
    for comments, commands, _ in blocks(text):
        outcome = ["----", *story.run(commands)] if commands else []
        parts.append("\n".join([*comments, *commands, *outcome]))
    return "\n\n".join(parts) + "\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_story_goes_as_it_is_written(path: Path):
    text = path.read_text()
    now = retold(text)
    if REWRITE:
        path.write_text(now)
    assert now.splitlines() == text.splitlines()


def test_there_are_stories_and_each_has_an_end_to_check():
    stories = list(FOLDER.glob("*.txt"))

    assert len(stories) >= 10
    for path in stories:
        assert all(expected for _, commands, expected in blocks(path.read_text()) if commands), path
