"""What the services log, as lines on standard error: when, how grave, what, and its facts."""

import logging
import sys
import time
from typing import Final

import msgspec

from cirrus.config import LogLevel

STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; all else was given as a fact."""


class Lines(logging.Formatter):
    """`2026-11-23T12:00:00.123Z warning dispatcher refused, problem="…" (cirrus.wire)`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        facts = "".join(
            f", {name}={_value(value)}"
            for name, value in vars(record).items()
            if name not in STANDARD
        )
        text = record.getMessage().replace("\n", " ")
        head = f"{moment}.{record.msecs:03.0f}Z {record.levelname.lower()}"
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{head} {text}{facts} ({record.name}){trace}"


def _value(value: object) -> str:
    if isinstance(value, str) and value and value.isprintable() and not set(value) & set(' ",='):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()


def log_to_stderr(level: LogLevel) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Requests are not logged, and what a library says of its own daily life is nobody's concern.
    for library in ("aiohttp", "aiodocker", "asyncio", "uvicorn"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
