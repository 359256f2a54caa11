"""Which tests may be skipped, which need the machine for themselves, how hard Hypothesis tries."""

import functools
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

# Where everything must be there (CI), a skipped test is a failed one.
REQUIRE_ALL = os.environ.get("CIRRUS_REQUIRE_ALL") == "1"

# A shared machine is slow at times: neither a late example nor a slow start says anything about us.
settings.register_profile(
    "dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=1000, print_blob=True)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "dev")
)


@functools.cache
def docker_says(*arguments: str) -> bool:
    try:
        answer = subprocess.run(
            ["docker", *arguments], capture_output=True, timeout=20, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def missing_docker() -> str | None:
    if not docker_says("version"):
        return "no Docker Engine answers: script/engine starts one"
    if not docker_says("image", "inspect", "busybox:latest", "worker:latest"):
        return "images are missing: script/images makes them"
    return None


def missing_genome() -> str | None:
    if docker_says("version") and not docker_says("image", "inspect", "cirrus-genome:latest"):
        return "the image cirrus-genome is missing: script/images makes it"
    return missing_docker()


def missing_swarm() -> str | None:
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        return "a swarm of its own needs root and dockerd"
    return missing_docker()


MISSING = {"docker": missing_docker, "genome": missing_genome, "swarm": missing_swarm}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    system = Path(__file__).parent / "system"
    for item in items:
        if system in item.path.parents or any(map(item.get_closest_marker, MISSING)):
            item.add_marker("real")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in MISSING.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return required((yield))


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def required(report: Report) -> Report:
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where every test must run: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    terminalreporter.section(f"NOT TESTED ON THIS MACHINE: {len(skipped)}", yellow=True, bold=True)
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.line(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}", yellow=True)
