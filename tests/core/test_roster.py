"""Which dispatchers are there, and which attempts they answer for."""

from cirrus.coordinator.roster import AWAY_AFTER_SECONDS, KEPT_SECONDS, Roster
from cirrus.core.messages import Hello, Live, Offer


def hello(name: str = "d1", *live: Live, slots: int = 4) -> Hello:
    offers = (Offer("process", f"{name}'s", 4.0, 2**30),)
    return Hello(name, "host", "1", slots, offers, live)


def running(job: str, attempt: int = 1) -> Live:
    return Live(job, attempt, "running")


def test_nobody_is_there_at_first():
    assert Roster().present == ()


def test_a_dispatcher_is_there_once_it_has_said_hello():
    roster = Roster()
    roster.hello(hello(slots=7), 10.0)

    one = roster.get("d1")

    assert one is not None
    assert (one.slots, one.connected, one.heard) == (7, True, 10.0)
    assert one.offers == hello().offers


def test_dispatchers_stand_in_the_order_of_their_names():
    roster = Roster()
    for name in ("d2", "d1", "d3"):
        roster.hello(hello(name), 0.0)

    assert [one.name for one in roster.present] == ["d1", "d2", "d3"]


def test_a_new_hello_takes_the_place_of_the_old_one():
    roster = Roster()
    roster.hello(hello(slots=1), 0.0)
    roster.hello(hello(slots=2), 1.0)

    assert [one.slots for one in roster.present] == [2]


def test_a_heartbeat_of_one_that_said_no_hello_is_not_known():
    assert not Roster().beat("d1", (), 0.0)


def test_a_heartbeat_renews_the_lease_of_what_it_lists_and_of_nothing_else():
    roster = Roster()
    roster.hello(hello("d1", running("a"), running("b")), 1.0)

    assert roster.beat("d1", (running("b"), running("c", 2)), 5.0)

    one = roster.get("d1")
    assert one is not None
    assert one.listed == {("a", 1): 1.0, ("b", 1): 5.0, ("c", 2): 5.0}


def test_a_dispatcher_that_fell_silent_is_away_until_it_is_heard_again():
    roster = Roster()
    roster.hello(hello("d1"), 0.0)
    roster.hello(hello("d2"), 0.0)
    roster.beat("d2", (), AWAY_AFTER_SECONDS)

    roster.look(AWAY_AFTER_SECONDS)
    assert [one.connected for one in roster.present] == [True, True]

    roster.look(AWAY_AFTER_SECONDS + 0.1)
    assert [one.connected for one in roster.present] == [False, True]

    roster.look(AWAY_AFTER_SECONDS + 0.2)
    roster.beat("d1", (), AWAY_AFTER_SECONDS + 0.3)
    assert [one.connected for one in roster.present] == [True, True]


def test_what_was_listed_long_ago_is_forgotten():
    roster = Roster()
    roster.hello(hello("d1", running("a")), 0.0)

    roster.beat("d1", (running("b"),), KEPT_SECONDS)

    one = roster.get("d1")
    assert one is not None
    assert one.listed == {("b", 1): KEPT_SECONDS}


def test_who_holds_the_roster_of_a_moment_sees_it_unchanged():
    roster = Roster()
    roster.hello(hello("d1", running("a")), 0.0)
    held = roster.present

    roster.beat("d1", (running("b"),), 1.0)
    roster.hello(hello("d2"), 1.0)
    roster.look(100.0)

    assert [(one.name, one.connected, one.listed) for one in held] == [
        ("d1", True, {("a", 1): 0.0})
    ]
