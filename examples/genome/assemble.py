"""Assemble the lambda genome with Cirrus: apply the rules, trigger, watch, take the report.

Ends with exit code 0 only when DIR/report.json of this key is there; 1 when it cannot come, 2 when
the command is no good, 130 after Ctrl-C (the jobs go on: `--watch` waits for them again).
"""

import argparse
import json
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from cirrus import Client
from cirrus.cli.files import read
from cirrus.client import Job
from cirrus.errors import CirrusError, Unavailable

HERE = Path(__file__).resolve().parent
NAMESPACE = "genome"
FIRST_EVENT = "genome:reads:arrived"
REPORT_RULE = "genome:report"
FINAL = {"succeeded", "failed", "cancelled"}
POLL_SECONDS = 0.25
LOG_LINES = 15
LOG_TAIL_BYTES = 8192

T = TypeVar("T")


class NoReport(Exception):
    """The report cannot be had; the text says why, and what to do."""


def main() -> int:
    options = parse_options()
    try:
        with Client(options.url, patience_seconds=0, source="examples/genome") as client:
            assemble(client, options)
    except (NoReport, CirrusError) as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = shlex.join(["--url", options.url, "--key", options.key, "--out", str(options.out)])
        print(f"\nthe jobs go on; to wait for them: examples/genome/run --watch {again}")
        return 130
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run", description="Assemble the lambda phage genome.")
    url = os.environ.get("CIRRUS_URL", "http://127.0.0.1:7000")
    parser.add_argument("--url", default=url, help="where Cirrus answers (%(default)s)")
    parser.add_argument("--key", help="the sample's name; by default the date and time")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="for report.json")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--force", action="store_true", help="run a key again")
    again.add_argument("--watch", action="store_true", help="only wait for a key's report")
    options = parser.parse_args()
    if options.watch and options.key is None:
        parser.error("--watch needs the --key to wait for")
    if options.key is None:
        options.key = f"{datetime.now().astimezone():%Y-%m-%d.%H%M%S.%f}"
    return options


def assemble(client: Client, options: argparse.Namespace) -> None:
    """Everything, from the rules to DIR/report.json."""
    definitions = read_definitions()
    progress = Progress(list(definitions["rules"]))
    cirrus = Patient(client, options.key, progress)
    known = cirrus.jobs()
    if known and not options.force and not options.watch:
        problem = (
            f"the key {options.key!r} was triggered before: take another --key, "
            "or --watch to wait for its report, or --force to run it again"
        )
        raise NoReport(problem)
    if options.watch and not known:
        problem = f"the key {options.key!r} has no job yet: without --watch, run begins it"
        raise NoReport(problem)
    make_folders(options.out)
    progress.say(f"key {options.key} at {options.url}")
    if not options.watch:
        cirrus.begin(definitions, force=options.force)
    report_job = watch(cirrus, earlier=[] if options.watch else known)
    write_report(cirrus.output(report_job), options)


def read_definitions() -> dict[str, dict[str, Any]]:
    """What rules.yaml says, with this folder in the place of /GENOME."""
    reading = read([HERE / "rules.yaml"])
    if reading.problems:
        problem = f"{reading.problems[0].where}: {reading.problems[0].message}"
        raise NoReport(problem)
    definitions: dict[str, dict[str, Any]] = {"events": {}, "event_sets": {}, "rules": {}}
    for (kind, name), written in reading.definitions.items():
        definitions[f"{kind}s"][name] = written.document
    for rule in definitions["rules"].values():
        mounts = rule["activity"]["mounts"]
        rule["activity"]["mounts"] = [mount.replace("/GENOME", str(HERE), 1) for mount in mounts]
    return definitions


def make_folders(out: Path) -> None:
    """An earlier report goes: nobody shall take it for this one."""
    try:
        (HERE / "work").mkdir(exist_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").unlink(missing_ok=True)
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}"
        raise NoReport(problem) from error


def write_report(report: object, options: argparse.Namespace) -> None:
    """DIR/report.json is there in one piece or not at all."""
    if not isinstance(report, dict) or report.get("key") != options.key:
        problem = f"this is not the report of {options.key!r}: {report}"
        raise NoReport(problem)
    path = options.out / "report.json"
    part = options.out / f".report.json.{uuid.uuid4().hex}"
    try:
        part.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        part.replace(path)
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}"
        raise NoReport(problem) from error
    print(f"{path}: {json.dumps(report, ensure_ascii=False)}")


class Patient:
    """What this asks of Cirrus about one key. Waits while Cirrus is away, and says so once."""

    def __init__(self, client: Client, key: str, progress: "Progress") -> None:
        self.progress = progress
        self._client = client
        self._key = key

    def begin(self, definitions: dict[str, dict[str, Any]], *, force: bool) -> None:
        """Registers the rules and lets the reads arrive; with force, as if for the first time."""
        # With an id, nothing is done twice when an answer is lost and the call repeated.
        identity = uuid.uuid4().hex
        self._ask(lambda: self._client.apply(**definitions))
        if force:
            # Else each new chunk would be merged with three old ones: force carries them over.
            self._ask(lambda: self._reset(identity))
        self._ask(
            lambda: self._client.trigger(FIRST_EVENT, key=self._key, force=force, id=identity)
        )

    def _reset(self, identity: str) -> None:
        self._client.reset(key=self._key, namespace=NAMESPACE, cancel_jobs=True, id=identity)

    def jobs(self) -> list[Job]:
        """The key's jobs of the genome's rules, of every generation."""
        found = self._ask(lambda: list(self._client.jobs(key=self._key)))
        return [job for job in found if job.rule in self.progress.rules]

    def output(self, job: Job) -> object:
        return self._ask(lambda: self._client.job(job.id)).output

    def why(self, job: Job) -> str:
        """What became of a job that did not succeed, with the end of its log."""
        details = self._ask(lambda: self._client.job(job.id))
        reason = (details.attempts[-1].reason if details.attempts else None) or ""
        log = self._ask(lambda: b"".join(self._client.logs(job.id, tail_bytes=LOG_TAIL_BYTES)))
        lines = log.decode(errors="replace").splitlines()[-LOG_LINES:]
        what = f"{job.rule} {job.state}{reason and f': {reason}'} (job {job.id}); its log ends:"
        return "\n    ".join([what, *lines])

    def _ask(self, question: Callable[[], T]) -> T:
        away = False
        while True:
            try:
                answer = question()
            except Unavailable as error:
                if error.code == "no_coordinator":
                    raise
                if not away:
                    self.progress.say(f"waiting: {error}")
                away = True
                time.sleep(POLL_SECONDS)
            else:
                if away:
                    self.progress.say("Cirrus answers again")
                return answer


def newest(jobs: Iterable[Job]) -> dict[str, Job]:
    """The job of each rule's newest generation."""
    return {job.rule: job for job in sorted(jobs, key=lambda job: job.generation)}


def watch(cirrus: Patient, *, earlier: list[Job]) -> Job:
    """The report's job, when it has succeeded and whatever else was fired is done too.

    `earlier` jobs neither count nor show.
    """
    old = {job.id for job in earlier}
    while True:
        jobs = cirrus.jobs()
        shown = newest(job for job in jobs if job.id not in old)
        cirrus.progress.show(shown)
        bad = [job for job in shown.values() if job.state in {"failed", "cancelled"}]
        if bad:
            raise NoReport("\n".join(cirrus.why(job) for job in bad))
        # What a job triggers is stored with its end: so when none goes on, none will come.
        if all(job.state in FINAL for job in jobs):
            if REPORT_RULE in shown:
                return shown[REPORT_RULE]
            problem = f"everything ended, and nothing fired {REPORT_RULE}"
            raise NoReport(problem)
        time.sleep(POLL_SECONDS)


class Progress:
    """Each step with its state and seconds: a table that updates, or plain lines of changes."""

    def __init__(self, rules: list[str]) -> None:
        self.rules = rules
        self._width = max(map(len, rules))
        self._live = sys.stdout.isatty()
        self._drawn = 0
        self._state: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._ended: dict[str, float] = {}

    def say(self, text: str) -> None:
        print(text, flush=True)
        self._drawn = 0  # the table is drawn anew, below the text

    def show(self, jobs: dict[str, Job]) -> None:
        changed = [rule for rule, job in jobs.items() if self._note(job)]
        if self._live:
            self._redraw()
            return
        for rule in sorted(changed, key=self.rules.index):
            print(self._line(rule), flush=True)

    def _note(self, job: Job) -> bool:
        """Whether its state changed. The seconds begin with the job's newest attempt."""
        state = job.state if job.attempt <= 1 else f"{job.state}, attempt {job.attempt}"
        if self._state.get(job.rule) == state:
            return False
        self._state[job.rule] = state
        now = time.monotonic()
        if job.rule not in self._began or job.state in {"triggered", "dispatched"}:
            self._began[job.rule] = now
        self._ended.pop(job.rule, None)
        if job.state in FINAL:
            self._ended[job.rule] = now
        return True

    def _line(self, rule: str) -> str:
        name = f"  {rule:<{self._width}}"
        if rule not in self._began:
            return f"{name}       -"
        seconds = self._ended.get(rule, time.monotonic()) - self._began[rule]
        return f"{name}  {seconds:5.1f} s  {self._state[rule]}"

    def _redraw(self) -> None:
        """Writes the table over the one that was drawn before."""
        back = f"\x1b[{self._drawn}F" if self._drawn else ""
        lines = "".join(f"\x1b[2K{self._line(rule)}\n" for rule in self.rules)
        print(back + lines, end="", flush=True)
        self._drawn = len(self.rules)


if __name__ == "__main__":
    sys.exit(main())
