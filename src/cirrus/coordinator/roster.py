"""Which dispatchers are there: what they offer, and which attempts they answer for."""

import msgspec

from cirrus.core.inputs import Present
from cirrus.core.messages import Hello, Live
from cirrus.core.model import UnixTime

AWAY_AFTER_SECONDS = 8.0
"""Four heartbeats: a dispatcher that was silent for longer gets no work."""
KEPT_SECONDS = 3600.0


class Roster:
    """`present` is replaced, never changed: another thread may hold it."""

    def __init__(self) -> None:
        self.present: tuple[Present, ...] = ()

    def hello(self, hello: Hello, now: UnixTime) -> None:
        old = self.get(hello.dispatcher)
        one = Present(
            hello.dispatcher,
            hello.slots,
            hello.offers,
            connected=True,
            heard=now,
            listed=_listed(old, hello.live, now),
        )
        others = [other for other in self.present if other.name != one.name]
        self.present = tuple(sorted([*others, one], key=lambda present: present.name))

    def beat(self, name: str, live: tuple[Live, ...], now: UnixTime) -> bool:
        """False for one that has not said Hello since this coordinator started."""
        old = self.get(name)
        if old is None:
            return False
        self._replace(
            msgspec.structs.replace(old, connected=True, heard=now, listed=_listed(old, live, now))
        )
        return True

    def look(self, now: UnixTime) -> None:
        """Take note of who fell silent."""
        for one in self.present:
            if one.connected and now - one.heard > AWAY_AFTER_SECONDS:
                self._replace(msgspec.structs.replace(one, connected=False))

    def get(self, name: str) -> Present | None:
        return next((one for one in self.present if one.name == name), None)

    def _replace(self, new: Present) -> None:
        self.present = tuple(new if one.name == new.name else one for one in self.present)


def _listed(
    old: Present | None, live: tuple[Live, ...], now: UnixTime
) -> dict[tuple[str, int], UnixTime]:
    kept = old.listed if old is not None else {}
    listed = {name: time for name, time in kept.items() if now - time < KEPT_SECONDS}
    return listed | {(one.job, one.attempt): now for one in live}
