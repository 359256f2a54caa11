"""Prometheus' text format, for the few series that say how Cirrus is."""

from collections.abc import Mapping
from typing import Any, Final

Value = float | Mapping[Any, int]
HELP: Final = {
    "cirrus_ready": ("gauge", "1 while it decides."),
    "cirrus_last_seq": ("counter", "The newest seq: everything that is recorded counts one."),
    "cirrus_definitions": ("gauge", "What is registered."),
    "cirrus_occurrences": ("gauge", "Occurrences in the store."),
    "cirrus_jobs": ("gauge", "Jobs in the store, by state."),
    "cirrus_dispatchers": ("gauge", "Dispatchers that are connected."),
    "cirrus_feed_subscribers": ("gauge", "Who follows the feed or a log."),
    "cirrus_storage_bytes": ("gauge", "The size of the database."),
    "cirrus_storage_free_bytes": ("gauge", "What is free on its disk."),
}


def exposition(values: Mapping[str, Value]) -> str:
    """`values`: by name; where a series has a label, by its value (`kind` or `state`)."""
    lines = []
    for name, (kind, text) in HELP.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        value = values[name]
        if isinstance(value, Mapping):
            label = "kind" if name == "cirrus_definitions" else "state"
            lines += [f'{name}{{{label}="{one}"}} {count}' for one, count in value.items()]
        else:
            lines.append(f"{name} {value}")
    return "\n".join([*lines, ""])
