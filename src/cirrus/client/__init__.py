"""The Python client: what a program says to a coordinator, and what it hears."""

from cirrus.client.answers import (
    Applied,
    Attempt,
    Definition,
    Dispatcher,
    Firing,
    Job,
    JobDetails,
    KeyDetails,
    KeySummary,
    Moment,
    OccurrenceRecord,
    OpenJoin,
    Reset,
    Status,
)
from cirrus.client.api import Client
from cirrus.client.envelopes import Trigger
from cirrus.client.feed import Change, Resync
from cirrus.client.following import Following
from cirrus.core.decision import Occurrence, Verdict

__all__ = [
    "Applied",
    "Attempt",
    "Change",
    "Client",
    "Definition",
    "Dispatcher",
    "Firing",
    "Following",
    "Job",
    "JobDetails",
    "KeyDetails",
    "KeySummary",
    "Moment",
    "Occurrence",
    "OccurrenceRecord",
    "OpenJoin",
    "Reset",
    "Resync",
    "Status",
    "Trigger",
    "Verdict",
]
