"""Register the diamond: five events, an event set of two of them, and four rules; then ask."""

import json
import os
from pprint import pprint

import requests

CIRRUS_URL = os.environ.get("CIRRUS_URL", "http://127.0.0.1:7000")

EVENTS = {f"ns:event:{number}": {} for number in range(1, 6)}

# An event set for each single event, and one that waits for two.
EVENT_SETS = {event: [event] for event in EVENTS}
EVENT_SETS["ns:event_set:1"] = ["ns:event:1", "ns:event:4"]

# Nothing runs: a rule only triggers the next event. 1 → 2 → 3 → 4, and 1 with 4 → 5.
ACTIVITY = {"cmd": "__auto_trigger__"}


def rules(activity: dict[str, object]) -> dict[str, object]:
    """By name: the event set that fires the rule, and what the rule does then."""
    steps = {
        "ns:rule:1": ("ns:event:1", "ns:event:2"),
        "ns:rule:2": ("ns:event:2", "ns:event:3"),
        "ns:rule:3": ("ns:event:3", "ns:event:4"),
        "ns:rule:4": ("ns:event_set:1", "ns:event:5"),
    }
    return {
        name: {waits_for: {"activity": activity, "triggering": triggering, "attempts": 1}}
        for name, (waits_for, triggering) in steps.items()
    }


def register(kind: str, definitions: dict[str, object]) -> None:
    """Each with a PUT, whose body is JSON inside a JSON string, as the first scripts sent it."""
    for name, payload in definitions.items():
        answer = requests.put(f"{CIRRUS_URL}/r/{kind}/{name}", json=json.dumps(payload), timeout=10)
        print(answer.json())
        answer.raise_for_status()


def register_diamond(activity: dict[str, object]) -> None:
    register("event", EVENTS)
    register("event_set", EVENT_SETS)
    register("rule", rules(activity))


if __name__ == "__main__":
    register_diamond(ACTIVITY)
    for query in ("queue:event", "event", "event_set", "rule"):
        answer = requests.get(f"{CIRRUS_URL}/q/{query}", timeout=10)
        answer.raise_for_status()
        print(f"\n{query}:")
        pprint(answer.json())
