"""What is said at once, what waits a moment, and what is said again."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.dispatching import until

from cirrus.core.messages import Accepted, Ended, Heartbeat, Outcome, Report, Started
from cirrus.dispatcher import reporting
from cirrus.dispatcher.reporting import Reporter


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[Report, ...]] = []

    def open(self) -> None: ...

    def send(self, reports: Sequence[Report]) -> bool:
        self.heard.append(tuple(reports))
        return True

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "LINGER_SECONDS", 0.3)


def ended(job: str) -> Ended:
    return Ended(job, 1, Outcome("success", 0), 1.0, 2.0)


async def test_a_beginning_waits_and_its_end_replaces_it():
    ear = Ear()
    reporter = Reporter(ear)
    reporter.say(Accepted("short", 1))
    reporter.say(Started("short", 1, 1.0))
    reporter.say(Accepted("long", 1))
    reporter.say(ended("short"))
    await until(lambda: ear.heard)
    assert ear.heard == [(ended("short"),)]
    reporter.say(Started("long", 1, 1.0))
    await until(lambda: len(ear.heard) > 1)
    assert ear.heard[1:] == [(Started("long", 1, 1.0),)]


async def test_ends_of_the_same_moment_go_together():
    ear = Ear()
    reporter = Reporter(ear)
    for job in ("a", "b", "a"):
        reporter.say(ended(job))
    await until(lambda: ear.heard)
    assert ear.heard == [(ended("a"), ended("b"))]


async def test_an_end_is_insisted_on_until_it_is_settled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reporting, "INSIST_MOST_SECONDS", 0.02)
    ear = Ear()
    reporter = Reporter(ear)
    reporter.insist(ended("a"), 0.01)
    reporter.insist(ended("b"), 0.01)
    await until(lambda: len(ear.heard) > 5)
    reporter.settled(("a", 1))
    await asyncio.sleep(0.05)
    ear.heard.clear()
    await until(lambda: len(ear.heard) > 2)
    assert {one for reports in ear.heard for one in reports} == {ended("b")}
    reporter.settled(("b", 1))
    reporter.settled(("never heard of", 1))
    await asyncio.sleep(0.05)
    ear.heard.clear()
    await asyncio.sleep(0.1)
    assert ear.heard == []


async def test_with_a_new_connection_all_ends_are_said_at_once():
    ear = Ear()
    reporter = Reporter(ear)
    for job in ("a", "b"):
        reporter.insist(ended(job))
    await until(lambda: ear.heard)
    ear.heard.clear()
    reporter.connected()
    await until(lambda: ear.heard)
    assert ear.heard == [(ended("a"), ended("b"))]
    reporter.close()


async def test_what_waits_is_said_before_the_end():
    ear = Ear()
    reporter = Reporter(ear)
    reporter.say(Heartbeat(()))
    reporter.say(Accepted("a", 1))
    reporter.insist(ended("b"))
    reporter.close()
    assert ear.heard == [(Heartbeat(()),), (ended("b"),), (Accepted("a", 1),)]
    await asyncio.sleep(0.6)
    assert len(ear.heard) == 3
