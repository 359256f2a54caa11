"""The demo, act by act: the seed's diamond, the same with containers, the genome of a virus."""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from screen import Screen
from stage import ROOT, Failed, Stage

from cirrus import Client
from cirrus.cli.files import read
from cirrus.client import Change, Firing, Moment, OccurrenceRecord
from cirrus.errors import CirrusError

HERE = Path(__file__).resolve().parent
ACT_SECONDS = 300.0
LOG_BYTES = 2000
PICTURE = (
    "ns:event:1 ─▶ ns:rule:1 ─▶ ns:event:2 ─▶ ns:rule:2 ─▶ ns:event:3 ─▶ ns:rule:3 ─▶ ns:event:4",
    "ns:event:1 and ns:event:4 ─▶ ns:rule:4 ─▶ ns:event:5",
)


class Demo:
    def __init__(self, screen: Screen, stage: Stage, client: Client) -> None:
        self.ok = True
        self._screen = screen
        self._stage = stage
        self._client = client
        self._act = 0

    def play(self, *, swarm: bool) -> None:
        self._title(
            "The diamond: a rule that waits for two events. Nothing runs, rules only trigger."
        )
        for line in PICTURE:
            self._screen.note(line)
        self._follow("diamond.yaml", key="")
        problem = self._prepare_engine()
        if problem:
            self._screen.step("!", "no containers", problem)
            self.ok = self.ok and os.environ.get("CI") != "true"
            self._title("The same diamond for another key: now each rule runs a process.")
            self._stage.await_executor("process")
            self._follow("process.yaml", key="process")
            return
        self._title("The same diamond for another key: now each rule runs a container.")
        self._stage.await_executor("docker")
        self._follow("docker.yaml", key="docker")
        if swarm:
            self._title("Once more, as services of a Swarm on an engine of its own.")
            self._stage.add_swarm(["worker:latest"])
            self._stage.await_executor("swarm")
            self._follow("swarm.yaml", key="swarm")
        self._title("Real work: the genome of the lambda phage, from reads to report.")
        self._genome()

    # --- acts -----------------------------------------------------------------------------------

    def _title(self, text: str) -> None:
        self._act += 1
        self._screen.title(f"{self._act}  {text}")

    def _follow(self, name: str, *, key: str) -> None:
        """Register a file, trigger the first event, and show all that it causes."""
        reading = read([HERE / name])
        maps: dict[str, dict[str, object]] = {"events": {}, "event_sets": {}, "rules": {}}
        for (kind, subject), written in reading.definitions.items():
            maps[f"{kind}s"][subject] = written.document
        self._client.apply(
            events=maps["events"], event_sets=maps["event_sets"], rules=maps["rules"]
        )
        fired: list[str] = []
        following = self._client.follow(
            self._client.trigger("ns:event:1", key=key), timeout_seconds=ACT_SECONDS
        )
        for change in following:
            if isinstance(change.record, Firing):
                fired.append(change.record.rule)
            self._show(change)
            under_way = len(following.under_way)
            self._screen.status(f"{under_way} under way" if under_way else "")
        self._screen.status("")
        if sorted(fired) != sorted(maps["rules"]) or following.failed:
            self._fail(f"these fired: {', '.join(fired)}; {len(following.failed)} jobs failed")

    def _show(self, change: Change) -> None:
        match change.record:
            case OccurrenceRecord() as record:
                how = "its job triggered it" if record.by_worker else ""
                waiting = [one for one in record.verdicts if one.verdict == "waiting"]
                if waiting:
                    how = f"{waiting[0].rule} now waits for {', '.join(waiting[0].missing)}"
                self._screen.step("◆", record.event, f"occurred{how and f': {how}'}")
            case Firing() as firing:
                self._screen.step("●", firing.rule, f"fired, on {firing.event_set}")
            case Moment(kind="move", state="running") as move:
                attempt = f", attempt {move.attempt}" if move.attempt > 1 else ""
                self._screen.step("▶", move.rule, f"runs{attempt}")
            case Moment(kind="move", state="succeeded") as move:
                self._screen.step("✓", move.rule, "succeeded")
            case Moment(kind="move", state="failed" | "cancelled") as move:
                self._screen.step("✗", move.rule, f"{move.state}: {move.reason or move.outcome}")
                log = b"".join(self._client.logs(move.job, tail_bytes=LOG_BYTES))
                for line in log.decode(errors="replace").splitlines():
                    self._screen.note(f"           {line}")
            case _:
                pass

    def _prepare_engine(self) -> str:
        """Images on an engine that answers; or in one line what is missing, and how to get it."""
        if not _engine_answers():
            return "no Docker Engine answers; `sudo script/engine` installs and starts one"
        try:
            self._stage.script("images", "worker", "genome")
        except Failed as failed:
            return f"the images are missing; {failed}"
        return ""

    def _genome(self) -> None:
        genome = ROOT / "examples" / "genome"
        out = genome / "work" / "demo"
        command = [genome / "run", "--url", self._stage.url, "--key", "lambda", "--out", out]
        with subprocess.Popen(  # noqa: S603  (our own)
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        ) as program:
            try:
                assert program.stdout is not None
                self._screen.status("assembling")
                for line in program.stdout:
                    self._screen.say(f"  {line.decode(errors='replace').rstrip()}")
            finally:
                self._screen.status("")
                program.terminate()
        if program.wait():
            self._fail("the genome has no report")

    def _fail(self, why: str) -> None:
        self.ok = False
        self._screen.step("✗", "not as expected", why)


def _engine_answers() -> bool:
    try:
        asked = subprocess.run(  # noqa: S603  (found on the path)
            [shutil.which("docker") or "docker", "version"],
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/demo", description="Show Cirrus at work.")
    parser.add_argument("--once", action="store_true", help="end when all is shown")
    parser.add_argument("--swarm", action="store_true", help="on a private Swarm, too (as root)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Screen() as screen, Stage(screen) as stage:
            return _play(screen, stage, options)
    except KeyboardInterrupt:
        print("\nended")
        return 130


def _play(screen: Screen, stage: Stage, options: argparse.Namespace) -> int:
    try:
        client = stage.start()
        screen.say(f"Cirrus is up: {stage.url}, monitor {stage.monitor}")
        demo = Demo(screen, stage, client)
        demo.play(swarm=options.swarm or bool(os.environ.get("CIRRUS_DEMO_SWARM")))
    except (Failed, CirrusError, TimeoutError) as error:
        stage.keep = True
        screen.say(screen.paint(f"The demo failed: {error or 'it takes too long'}", "red"))
        return 1
    screen.say()
    screen.say("Everything ended as expected." if demo.ok else "Not everything ended as expected.")
    stage.keep = not demo.ok
    if not options.once:
        screen.say(f"Look at it: {stage.monitor}   (Ctrl-C ends it)")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0 if demo.ok else 1


if __name__ == "__main__":
    sys.exit(main())
