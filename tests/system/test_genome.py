"""The genome example, with parts of Cirrus killed in its middle: one report, nothing run twice."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.running import Up, until

RUN = Path(__file__).parents[2] / "examples" / "genome" / "run"
JOBS = 9
SECONDS = 200

pytestmark = [pytest.mark.genome, pytest.mark.timeout(SECONDS + 60)]


class Assembly:
    """`examples/genome/run`, going on beside the test."""

    def __init__(self, up: Up, key: str, out: Path) -> None:
        self.up = up
        self.key = key
        self.out = out
        self.process = subprocess.Popen(
            [RUN, "--url", up.url, "--key", key, "--out", out, "--force"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def states(self) -> Counter[str]:
        return Counter(job.state for job in self.up.client.jobs(key=self.key))

    def has_come_to(self, done: int, running: int) -> bool:
        states = self.states()
        return states["succeeded"] >= done and states["running"] >= running

    def report(self) -> dict[str, object]:
        said, _ = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, said
        report: dict[str, object] = json.loads((self.out / "report.json").read_text())
        assert report.pop("key") == self.key
        return report

    def assert_everything_ran_once(self) -> None:
        jobs = list(self.up.client.jobs(key=self.key))
        assert len(jobs) == JOBS
        assert [job.state for job in jobs] == ["succeeded"] * JOBS
        assert [job.attempt for job in jobs] == [1] * JOBS


def started_containers(up: Up, since: str) -> Counter[str]:
    """How often each of its containers was started, by the engine's own account."""
    instance = (up.data_dir / "instance").read_text()
    filters = ["--filter", "event=start", "--filter", f"label=cirrus.instance={instance}"]
    events = subprocess.run(
        [*("docker", "events", "--since", since, "--until", "0s"), "--format={{json .}}", *filters],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in events.stdout.splitlines()]
    return Counter(line["Actor"]["Attributes"]["name"] for line in lines)


def engine_time() -> str:
    asked = subprocess.run(
        ["docker", "info", "--format", "{{.SystemTime}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return asked.stdout.strip()


@pytest.mark.parametrize("what", ["coordinator", "dispatcher", "everything"])
def test_killed_in_the_middle_it_ends_with_the_same_report(tmp_path: Path, what: str) -> None:
    since = engine_time()
    with Up(tmp_path / "data") as up:
        assembly = Assembly(up, f"killed-{what}", tmp_path / "out")
        kill: Callable[[], None] = getattr(up, f"kill_{what}")
        # Twice: while the first containers run, and when half of the work is done.
        for done, running in ((0, 1), (4, 1)):
            until(partial(assembly.has_come_to, done, running), SECONDS)
            kill()
            if what != "dispatcher":
                up.start()
        report = assembly.report()
        assembly.assert_everything_ran_once()
    assert report == expected(report)
    starts = started_containers(up, since)
    assert len(starts) == JOBS
    assert set(starts.values()) == {1}


def expected(report: dict[str, object]) -> dict[str, object]:
    """One contig of the whole genome; versions of the tools may move the rest a little."""
    contigs, longest, variants = report["contigs"], report["longest"], report["variants"]
    assert contigs == 1
    assert isinstance(longest, int)
    assert 48_000 < longest < 48_600
    assert isinstance(variants, int)
    assert 70 < variants < 100
    covered = report["reference_covered"]
    assert isinstance(covered, float)
    assert covered > 0.99
    return {
        "contigs": 1,
        "n50": longest,
        "longest": longest,
        "reference_covered": covered,
        "variants": variants,
    }


def test_two_keys_at_once_do_not_mix(tmp_path: Path) -> None:
    with Up(tmp_path / "data") as up:
        assemblies = [Assembly(up, f"pair-{n}", tmp_path / f"out{n}") for n in (1, 2)]
        first, second = [assembly.report() for assembly in assemblies]
        for assembly in assemblies:
            assembly.assert_everything_ran_once()
    assert first == second == expected(first)
