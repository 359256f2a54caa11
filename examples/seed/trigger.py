"""Trigger events of the diamond: those that are named, else 1, 2, 3 and 5; always by force."""

import os
import sys

import requests

CIRRUS_URL = os.environ.get("CIRRUS_URL", "http://127.0.0.1:7000")
EVENTS = ["ns:event:1", "ns:event:2", "ns:event:3", "ns:event:5"]

for event in sys.argv[1:] or EVENTS:
    answer = requests.post(
        f"{CIRRUS_URL}/r/event/{event}", json={"action": "trigger", "force": "true"}, timeout=10
    )
    print(answer.json())
    answer.raise_for_status()
