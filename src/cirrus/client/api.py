"""Every request as a typed method.

An occurrence is always sent with an identity, so repeating it is harmless: what gets no answer is
tried again for `patience_seconds`. Errors are those of cirrus.errors.
"""

import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote

import msgspec

from cirrus.client.answers import (
    Applied,
    Definition,
    Dispatcher,
    Job,
    JobDetails,
    KeyDetails,
    KeySummary,
    Moment,
    Status,
)
from cirrus.client.envelopes import (
    AllAccepted,
    AllApplied,
    AllDispatchers,
    Cancelled,
    Page,
    Retried,
    Trigger,
    new_id,
)
from cirrus.client.feed import Change, Resync, feed
from cirrus.client.following import UNFINISHED, Following, may_be_the_last
from cirrus.client.http import Connection
from cirrus.core.decision import Occurrence
from cirrus.core.inputs import DefinitionKind
from cirrus.core.lifecycle import JobState, ended

URL: Final = "http://127.0.0.1:7000"
PAGE: Final = 500

T = TypeVar("T")


class Client:
    """A connection to one coordinator, for one thread at a time."""

    def __init__(
        self,
        url: str = URL,
        *,
        timeout_seconds: float = 30.0,
        patience_seconds: float = 30.0,
        source: str = "",
    ) -> None:
        """`source` names the sender of occurrences; by default the program's kind and machine.

        `timeout_seconds` bounds one try, `patience_seconds` the time in which tries are begun.
        """
        self.url = url
        self.source = source or f"python@{socket.gethostname()}"
        self._http = Connection(
            url, timeout_seconds=timeout_seconds, patience_seconds=patience_seconds
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # --- occurrences ----------------------------------------------------------------------------

    def trigger(  # noqa: PLR0913  (what an occurrence has)
        self,
        event: str,
        *,
        key: str | None = None,
        data: Mapping[str, object] | None = None,
        force: bool = False,
        id: str = "",
        source: str = "",
    ) -> Occurrence:
        """Let the event occur. It is durable, with all that it fired, when this returns."""
        given = Trigger(event, key=key, data=data or {}, force=force, id=id, source=source)
        return self.trigger_many([given])[0]

    def trigger_many(self, triggers: Iterable[Trigger]) -> tuple[Occurrence, ...]:
        """All of them, in their order, or none."""
        whole = [self._identified(trigger) for trigger in triggers]
        body = {"occurrences": whole}
        return self._http.ask(AllAccepted, "POST", "/v1/occurrences", body=body).occurrences

    def reset(
        self,
        *,
        key: str | None = None,
        namespace: str | None = None,
        cancel_jobs: bool = False,
        id: str = "",
    ) -> None:
        """Nothing stands any more; None for `key` or `namespace` means all of them."""
        body = {
            "key": key,
            "namespace": namespace,
            "cancel_jobs": cancel_jobs,
            "source": self.source,
            "id": id or new_id(),
        }
        self._http.ask(object, "POST", "/v1/resets", body=body)

    def _identified(self, trigger: Trigger) -> Trigger:
        return msgspec.structs.replace(
            trigger, id=trigger.id or new_id(), source=trigger.source or self.source
        )

    # --- definitions ----------------------------------------------------------------------------

    def apply(
        self,
        *,
        events: Mapping[str, object] | None = None,
        event_sets: Mapping[str, object] | None = None,
        rules: Mapping[str, object] | None = None,
        delete: Mapping[str, list[str]] | None = None,
    ) -> tuple[Applied, ...]:
        """Register documents by name, all or nothing. `delete` names events, event_sets, rules."""
        body = {
            "events": events or {},
            "event_sets": event_sets or {},
            "rules": rules or {},
            "delete": delete or {},
        }
        return self._http.ask(AllApplied, "POST", "/v1/definitions", body=body).definitions

    def delete(self, kind: DefinitionKind, name: str) -> None:
        self._http.ask(object, "DELETE", f"/v1/definitions/{kind}/{_quoted(name)}")

    def definition(self, kind: DefinitionKind, name: str) -> Definition:
        return self._http.ask(Definition, "GET", f"/v1/definitions/{kind}/{_quoted(name)}")

    def definitions(self, kind: DefinitionKind | None = None) -> Iterator[Definition]:
        return self._pages(Definition, "/v1/definitions", {"kind": kind})

    def pause(self, rule: str) -> None:
        """The rule goes on firing; its jobs wait."""
        self._http.ask(object, "POST", f"/v1/rules/{_quoted(rule)}/pause")

    def resume(self, rule: str) -> None:
        self._http.ask(object, "POST", f"/v1/rules/{_quoted(rule)}/resume")

    # --- jobs -----------------------------------------------------------------------------------

    def jobs(
        self, *, key: str | None = None, rule: str | None = None, state: Iterable[JobState] = ()
    ) -> Iterator[Job]:
        """The newest first; of any state if none is given. Asks for more while you go on."""
        return self._pages(
            Job, "/v1/jobs", {"key": key, "rule": rule, "state": ",".join(state) or None}
        )

    def job(self, id: str) -> JobDetails:
        return self._http.ask(JobDetails, "GET", f"/v1/jobs/{_quoted(id)}")

    def cancel(self, id: str) -> bool:
        """End the job. False when it had ended already."""
        return self._http.ask(Cancelled, "POST", f"/v1/jobs/{_quoted(id)}/cancel").changed

    def retry(self, id: str) -> str:
        """Run an ended job again, as its rule's next generation. Returns the new job's id."""
        path = f"/v1/jobs/{_quoted(id)}/retry"
        return self._http.ask(Retried, "POST", path, once=True).job

    def logs(
        self,
        id: str,
        *,
        attempt: int | None = None,
        follow: bool = False,
        tail_bytes: int | None = None,
    ) -> Iterator[bytes]:
        """The log of the newest attempt, or of that one, in pieces; or only its last bytes.

        `follow`: go on until the attempt has ended.
        """
        path = f"/v1/jobs/{_quoted(id)}/logs"
        query = {"attempt": attempt, "follow": "true" if follow else None, "tail": tail_bytes}
        with self._http.stream(path, query=query) as response:
            yield from response.iter_bytes()

    # --- what is there --------------------------------------------------------------------------

    def status(self) -> Status:
        return self._http.ask(Status, "GET", "/v1/status")

    def dispatchers(self) -> tuple[Dispatcher, ...]:
        return self._http.ask(AllDispatchers, "GET", "/v1/dispatchers").items

    def keys(self, prefix: str = "") -> Iterator[KeySummary]:
        return self._pages(KeySummary, "/v1/keys", {"prefix": prefix or None})

    def key(self, key: str) -> KeyDetails:
        return self._http.ask(KeyDetails, "GET", f"/v1/keys/{quote(key)}")

    def feed(self, after: int | None = None, *, ends: float | None = None) -> Iterator[Change]:
        """Every change beyond this `seq`, or from now on, for ever; it reconnects by itself.

        `ends` is a time.monotonic() at which TimeoutError is raised.
        """
        return feed(self._http, self.status().last_seq if after is None else after, ends)

    # --- waiting --------------------------------------------------------------------------------

    def wait_for_job(self, id: str, *, timeout_seconds: float | None = None) -> JobDetails:
        """Returns when the job has ended. Raises TimeoutError."""
        news = self.feed(self.status().last_seq, ends=_ends(timeout_seconds))
        details = self.job(id)
        while not ended(details.job.state):
            record = next(news).record
            if isinstance(record, Resync) or (isinstance(record, Moment) and record.job == id):
                details = self.job(id)
        return details

    def wait_for_key(self, key: str, *, timeout_seconds: float | None = None) -> None:
        """Returns when no job under the key is unfinished. Raises TimeoutError."""
        news = self.feed(self.status().last_seq, ends=_ends(timeout_seconds))
        while self._unfinished(key):
            while not may_be_the_last(next(news)):
                pass

    def follow(self, occurrence: Occurrence, *, timeout_seconds: float | None = None) -> Following:
        """Everything that it causes, until nothing of it is under way."""
        feed = self.feed(occurrence.seq - 1, ends=_ends(timeout_seconds))

        def idle() -> int | None:
            root = None if occurrence.key else occurrence.seq
            return None if self._unfinished(occurrence.key, root) else self.status().last_seq

        return Following(occurrence, feed, idle)

    def _unfinished(self, key: str, root: int | None = None) -> bool:
        jobs = self.jobs(key=key, state=UNFINISHED)
        return any(root in (None, job.root) for job in jobs)

    def _pages(self, kind: type[T], path: str, query: Mapping[str, object]) -> Iterator[T]:
        after: str | int | None = None
        while True:
            whole = {"limit": PAGE, "after": after, **query}
            page = self._http.ask(Page, "GET", path, query=whole)
            yield from msgspec.json.decode(page.items, type=list[kind])  # type: ignore[valid-type]
            if page.next is None:
                return
            after = page.next


def _quoted(name: str) -> str:
    return quote(name, safe=":@")


def _ends(timeout_seconds: float | None) -> float | None:
    return None if timeout_seconds is None else time.monotonic() + timeout_seconds
