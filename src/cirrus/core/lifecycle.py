"""The states of a job and its legal moves, as one table. docs/lifecycle.md is made from it."""

from typing import Final, Literal

JobState = Literal["triggered", "dispatched", "running", "succeeded", "failed", "cancelled"]

MOVES: Final[dict[JobState, dict[JobState, str]]] = {
    "triggered": {
        "dispatched": "an order for its next attempt was committed",
        "succeeded": "an auto-trigger: there is nothing to run",
        "failed": "it cannot run: the engine's or Cirrus's refusal is final",
        "cancelled": "somebody cancelled it",
    },
    "dispatched": {
        "running": "its attempt started",
        "triggered": "its attempt ended badly and another is due",
        "succeeded": "its attempt succeeded; the report of its start was lost",
        "failed": "its last attempt ended badly",
        "cancelled": "somebody cancelled it",
    },
    "running": {
        "triggered": "its attempt ended badly and another is due",
        "succeeded": "its attempt succeeded",
        "failed": "its last attempt ended badly",
        "cancelled": "somebody cancelled it",
    },
    "succeeded": {},
    "failed": {},
    "cancelled": {},
}
"""From each state, where a job may go and when."""

SEED_STATES: Final[dict[str, tuple[str, ...]]] = {
    "triggered": ("triggered",),
    "dispatched": ("dispatch",),
    "running": ("start",),
    "retried": ("fail",),
    "succeeded": ("success", "end"),
    "failed": ("fail", "end"),
    "cancelled": ("end",),
}
"""The words that the seed's rule-state queue uses for each move; `retried` is one back."""


def ended(state: JobState) -> bool:
    """Whether a job in this state never changes again."""
    return not MOVES[state]


def may_move(before: JobState, after: JobState) -> bool:
    return after in MOVES[before]
