"""The genome example, with parts of Cirrus killed in its middle: one report, nothing run twice."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
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


class Starts:
    """Every start of a container, as the engine announces it while this is open."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "starts"
        command = ["docker", "events", "--filter=event=start", "--filter=label=cirrus.job"]
        # What was announced before a moment ago is told too, so that none is missed at first.
        since = str(time.time() - 1)
        with self._path.open("wb") as file:
            self._process = subprocess.Popen(
                [*command, "--since", since, "--format={{json .Actor.Attributes}}"], stdout=file
            )

    def of(self, up: Up) -> Counter[str]:
        instance = (up.data_dir / "instance").read_text()
        lines = [json.loads(line) for line in self._path.read_text().splitlines()]
        return Counter(one["name"] for one in lines if one["cirrus.instance"] == instance)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)


@pytest.mark.parametrize("what", ["coordinator", "dispatcher", "everything"])
def test_killed_in_the_middle_it_ends_with_the_same_report(tmp_path: Path, what: str) -> None:
    with closing(Starts(tmp_path)) as starts, Up(tmp_path / "data") as up:
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
        until(lambda: len(starts.of(up)) == JOBS)
        assert set(starts.of(up).values()) == {1}


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
