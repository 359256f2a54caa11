"""What may be a name or a key, and how somebody's text is shown in a message."""

import re
from typing import Final

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}", re.ASCII)
KEY_MOST: Final = 200
# Control characters would disturb logs and terminals; half of a surrogate pair is no text at all.
NOT_IN_KEYS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
SHOWN_MOST: Final = 60


def is_name(text: str) -> bool:
    """1 to 200 characters, the first a letter or digit, then also `. _ : @ -`."""
    return NAME.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Up to 200 characters, none of them a control character."""
    return len(text) <= KEY_MOST and NOT_IN_KEYS.search(text) is None


def clip(text: str) -> str:
    """Somebody's text, safe and short enough to stand in a message."""
    return repr(text if len(text) <= SHOWN_MOST else text[:SHOWN_MOST] + "…")
