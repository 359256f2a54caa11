"""Requests that are repeated while that is safe, and answers that become values or errors."""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec
from msgspec import Struct

from cirrus.errors import (
    BadDocument,
    CirrusError,
    Conflict,
    NotFound,
    Refused,
    StorageFull,
    TooLarge,
    Unavailable,
)

WAIT_MOST_SECONDS: Final = 5.0
MANY_REQUESTS: Final = 429
SERVER_ERROR: Final = 500
STORAGE_FULL: Final = 507
AWAY: Final = (MANY_REQUESTS, 503)

T = TypeVar("T")
Query = Mapping[str, object]
"""None means not given; a list gives the same name several times."""


class _Facts(Struct):
    code: str
    message: str
    field: str = ""


class _Error(Struct):
    error: _Facts


class Patience:
    """How long to try again. The wait doubles from 0.1 s, and its length is left to chance."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Something was answered: whatever goes wrong next has all the time again."""
        self._ends = time.monotonic() + self._seconds
        self._wait = 0.1

    def wait_or_raise(self, problem: CirrusError, at_least: float = 0.0) -> None:
        """Sleep a little before the next try, or raise the problem when it is too late for one."""
        pause = max(at_least, random.uniform(self._wait / 2, self._wait))  # noqa: S311  (no secret)
        if time.monotonic() + pause > self._ends:
            raise problem
        time.sleep(pause)
        self._wait = min(self._wait * 2, WAIT_MOST_SECONDS)


class Connection:
    """One coordinator's address. Safe to use from one thread at a time."""

    def __init__(self, url: str, *, timeout_seconds: float, patience_seconds: float) -> None:
        self.url = url.rstrip("/")
        self.patience_seconds = patience_seconds
        self._timeout_seconds = timeout_seconds
        _check_url(url)
        self._http = httpx2.Client(
            base_url=self.url,
            timeout=timeout_seconds,
            trust_env=False,  # a proxy of the environment does not lead to this machine
            verify=self.url.startswith("https:"),  # reading all certificates takes 50 ms
        )

    def close(self) -> None:
        self._http.close()

    def ask(  # noqa: PLR0913  (what a request has)
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        once: bool = False,
    ) -> T:
        """The answer. `once`: it may be done although no answer comes, so it is not repeated."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        patience = Patience(self.patience_seconds)
        while True:
            try:
                response = self._http.request(
                    method, path, params=_params(query), content=content, headers=headers
                )
            except httpx2.TransportError as error:
                problem: CirrusError = self._away(error)
                if once and not isinstance(error, httpx2.ConnectError):
                    raise problem from error
                patience.wait_or_raise(problem)
                continue
            if response.is_success:
                return self._decoded(response, kind)
            problem = self._error(response)
            if once or (
                response.status_code < SERVER_ERROR and not isinstance(problem, Unavailable)
            ):
                raise problem
            patience.wait_or_raise(problem, _retry_after(response))

    @contextmanager
    def stream(
        self, path: str, *, query: Query | None = None, quiet_seconds: float | None = None
    ) -> Iterator[httpx2.Response]:
        """An answer that comes in pieces. Raises Unavailable also when it breaks off.

        `quiet_seconds`: how long nothing may come; None: for ever.
        """
        timeout = httpx2.Timeout(self._timeout_seconds, read=quiet_seconds)
        try:
            with self._http.stream("GET", path, params=_params(query), timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise self._error(response)
                yield response
        except httpx2.TransportError as error:
            raise self._away(error) from error

    def _decoded(self, response: httpx2.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise self._stranger(response, str(error)) from error

    def _away(self, error: httpx2.TransportError) -> Unavailable:
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return Unavailable(f"no coordinator answers at {self.url}; start one with `cirrus up`")
        return Unavailable(
            f"the coordinator at {self.url} broke off: {error or type(error).__name__}"
        )

    def _error(self, response: httpx2.Response) -> CirrusError:
        try:
            facts = msgspec.json.decode(response.content, type=_Error).error
        except (msgspec.DecodeError, msgspec.ValidationError):
            return self._stranger(response, response.reason_phrase)
        status = response.status_code
        if status < SERVER_ERROR and status != MANY_REQUESTS:
            kinds = {404: NotFound, 409: Conflict, 413: TooLarge, 422: BadDocument}
            refused = kinds.get(status, Refused)(facts.code, facts.message, facts.field)
            refused.status = status
            return refused
        if status == STORAGE_FULL:
            return StorageFull()
        error = Unavailable(facts.message) if status in AWAY else CirrusError(facts.message)
        error.code = facts.code
        return error

    def _stranger(self, response: httpx2.Response, reason: str) -> CirrusError:
        error = Unavailable(
            f"{self.url} answers, but not like a coordinator ({response.status_code} {reason}):"
            " is that its address?"
        )
        error.code = "no_coordinator"
        return error


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        message = f"{url!r} is not an address such as http://127.0.0.1:7000"
        raise Refused("bad_url", message, "url")


def _params(query: Query | None) -> dict[str, Any]:
    return {name: value for name, value in (query or {}).items() if value is not None}


def _retry_after(response: httpx2.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), WAIT_MOST_SECONDS) if value.isdigit() else 0.0
