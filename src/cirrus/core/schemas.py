"""JSON Schemas of events: what is one, and what data breaks it.

Judging one opens no file and no connection, and takes no exponential time: references lead nowhere
but into the schema itself, and patterns are matched in linear time.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from cirrus.core.names import clip
from cirrus.errors import BadDocument

if TYPE_CHECKING:
    from jsonschema_rs import Validator

PATTERN_BYTES_MOST: Final = 1024 * 1024
"""What a compiled pattern may take."""
PROBLEMS_NAMED: Final = 3
PROBLEM_MOST: Final = 500
REFERENCE: Final = re.compile(rb'"\$\w*[rR]ef"\s*:')


def check_schema(schema: object) -> None:
    """Raise BadDocument for what is not a JSON Schema that stands on its own."""
    from jsonschema_rs import ReferencingError  # noqa: PLC0415  (rarely needed, 5 MB)

    try:
        _validator(msgspec.json.encode(schema))
    except (ValueError, ReferencingError) as error:
        first_line = str(error).partition("\n")[0]
        raise BadDocument(
            "bad_schema", f"not a JSON Schema: {clip(first_line)}", "schema"
        ) from error


def schema_problem(schema: bytes, data: dict[str, object]) -> str:
    """Why this data breaks the schema; empty if it does not."""
    validator = _validator(schema)
    if validator.is_valid(data):
        return ""
    if REFERENCE.search(schema):
        # To find where a recursive schema is broken can take exponentially long.
        return "the data does not match the event's schema"
    errors = [
        f"{'.'.join(str(step) for step in error.instance_path) or 'data'}: {error.message}"
        for error, _ in zip(validator.iter_errors(data), range(PROBLEMS_NAMED), strict=False)
    ]
    return "; ".join(errors)[:PROBLEM_MOST]


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> "Validator":
    from jsonschema_rs import RegexOptions, validator_for  # noqa: PLC0415  (as above)

    return validator_for(
        msgspec.json.decode(schema),
        offline=True,
        pattern_options=RegexOptions(size_limit=PATTERN_BYTES_MOST),
    )
