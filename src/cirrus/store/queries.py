"""Named queries, kept as SQL in files: `-- name: what` begins one, the next begins the next."""

from importlib.resources import files
from types import SimpleNamespace


def named(file: str) -> SimpleNamespace:
    """The queries of `store/FILE`, as attributes by name."""
    text = files("cirrus.store").joinpath(file).read_text(encoding="utf-8")
    _, *parts = text.split("-- name: ")
    queries = {}
    for part in parts:
        name, _, sql = part.partition("\n")
        assert name.strip() not in queries, name
        queries[name.strip()] = sql.strip()
    return SimpleNamespace(**queries)
