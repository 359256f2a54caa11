"""The committed history of a store, row by row, as the reference model is given it."""

from collections.abc import Iterator
from types import SimpleNamespace as Row

from tests.core.toy import Cirrus
from tests.laws.jobs import Model

COLUMNS = {
    "definition": "seq kind name document",
    "occurrence": "seq event key job root depth force by_worker whole verdicts problem data",
    "fired": "seq id rule key generation forced members root depth retried",
    "move": "seq job state attempt outcome output",
    "reset": "seq key namespace",
}
TABLES = {
    "definition": "definition",
    "occurrence": "occurrence",
    "fired": "job",
    "move": "(SELECT moment.*, job.output FROM moment JOIN job ON job.id = moment.job"
    " WHERE kind = 'move')",
    "reset": "reset",
}


def history(cirrus: Cirrus, after: int = 0) -> Iterator[tuple[str, Row]]:
    """Every row after this `seq`, in order, with the name of what it is."""
    found = []
    for what, columns in COLUMNS.items():
        names = columns.split()
        sql = f"SELECT {', '.join(names)} FROM {TABLES[what]} WHERE seq > ?"
        found += [
            (values[0], what, Row(**dict(zip(names, values, strict=True))))
            for values in cirrus.rows(sql, after)
        ]
    seqs = [seq for seq, *_ in found]
    assert len(seqs) == len(set(seqs)), f"I3: two rows share a seq: {sorted(seqs)}"
    for _, what, row in sorted(found, key=lambda one: one[0]):
        yield what, row


def advance(model: Model, cirrus: Cirrus, after: int) -> int:
    """Give the model what came since; returns the newest `seq`."""
    newest = after
    for what, row in history(cirrus, after):
        getattr(model, what)(row)
        newest = row.seq
    model.settled()
    return newest


def replayed(cirrus: Cirrus) -> Model:
    """A model that has seen all of it. AssertionError where Cirrus did what it must not."""
    bounds = cirrus.store.bounds
    model = Model(bounds.chain_depth, bounds.chain_length, bounds.crash_limit)
    advance(model, cirrus, 0)
    return model
