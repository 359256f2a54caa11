"""Questions about keys: what stands under them, and what their joins wait for."""

from typing import Final

from cirrus.core.documents import event_set_of
from cirrus.core.model import EventSet
from cirrus.store.questions.definitions import definition
from cirrus.store.reader import SQL, Reader
from cirrus.store.records import KeyDetails, KeySummary, OpenJoin, Part, StandingEvent

MOST: Final = 1000
"""So many names a list of events shows."""
JOINS_MOST: Final = 200


def keys(reader: Reader, prefix: str, after: str | None, limit: int) -> Part[KeySummary]:
    """In the order of their bytes, beyond `after`. The empty key is there if something stands."""
    found = []
    if after is None and not prefix:
        standing, newest = reader.rows(SQL.empty_key)[0]
        found = [KeySummary("", standing, newest)] if standing else []
    values = {"after": after or "", "prefix": prefix}
    part = reader.part(SQL.keys, values, limit, lambda row: KeySummary(*row))
    found += [one for one in part.items if one.key.startswith(prefix)]
    more = (part.more and len(found) >= len(part.items)) or len(found) > limit
    return Part(found[:limit], more=more)


def key_details(reader: Reader, key: str) -> KeyDetails | None:
    """None for a key that nothing ever occurred under."""
    values = {"key": key, "limit": MOST}
    standing = tuple(
        StandingEvent(event, seq, bool(forced))
        for event, seq, forced in reader.rows(SQL.standing, values)
    )
    if key and not standing and not reader.number(SQL.key_is_known, {"key": key}):
        return None
    sets = reader.rows(SQL.heard_sets, {"key": key, "limit": JOINS_MOST})
    joins = (_open_join(reader, key, event_set) for (event_set,) in sets)
    counts = reader.rows(SQL.count_jobs_of_key if key else SQL.count_jobs_of_empty_key, values)
    return KeyDetails(
        key,
        standing=standing,
        joins=tuple(join for join in joins if join is not None),
        jobs=dict(counts),
    )


def _open_join(reader: Reader, key: str, name: str) -> OpenJoin | None:
    values = {"key": key, "event_set": name, "limit": MOST}
    rules = tuple(rule for (rule,) in reader.rows(SQL.open_rules, values))
    if not rules:
        return None
    kept = definition(reader, "event_set", name)
    if kept is None:
        event_set = EventSet(name, (name,), 1)
        members = [(name, 1)]
    else:
        event_set = event_set_of(name, bytes(kept.document), kept.version)
        members = [(event, seq) for event, seq in reader.rows(SQL.members, values)]
    standing = tuple(event for event, seq in members if seq)
    missing = tuple(event for event, seq in members if not seq)
    lacking = max(0, event_set.needed - len(standing))
    return OpenJoin(
        name,
        rules,
        needed=event_set.needed,
        standing=standing[:MOST],
        missing=missing[:MOST],
        lacking=lacking,
        ready=lacking == 0,
    )
