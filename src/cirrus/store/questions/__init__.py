"""What may be asked of the store: each module its subject, each function one question."""

from typing import Any, Final

from msgspec import Raw, Struct

END: Final = 2**63 - 1
"""Beyond every `seq`."""

NULL: Final = Raw(b"null")


class Window(Struct, frozen=True):
    """Which part of a list: beyond `after`, short of `before`, at most so many."""

    after: int = 0
    before: int = END
    limit: int = 100


def narrowed(sql: str, *conditions: str) -> str:
    """The query with these conditions, which are ours and never come from a request."""
    return sql.replace("/*narrowed*/", "".join(f" AND {one}" for one in conditions))


def raw(value: Any) -> Raw:  # noqa: ANN401  (a column)
    return NULL if value is None else Raw(value)
