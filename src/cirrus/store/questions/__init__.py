"""What may be asked of the store: each module its subject, each function one question."""

from typing import Any, Final

from msgspec import Raw

END: Final = 2**63 - 1
"""Beyond every `seq`."""

NULL: Final = Raw(b"null")


def narrowed(sql: str, *conditions: str) -> str:
    """The query with these conditions, which are ours and never come from a request."""
    return sql.replace("/*narrowed*/", "".join(f" AND {one}" for one in conditions))


def raw(value: Any) -> Raw:  # noqa: ANN401  (a column)
    return NULL if value is None else Raw(value)
