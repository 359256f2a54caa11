"""Turns away what is not meant for us: other hosts' names, other pages' scripts, odd headers."""

import re
from collections.abc import Collection
from typing import Final

from cirrus.coordinator.http.message import Scope, refused

SAFE: Final = ("GET", "HEAD")
SINGLE: Final = (b"host", b"origin", b"content-type", b"content-length", b"authorization")
HOST: Final = re.compile(rb"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::[0-9]{1,5})?")
SEEN_MOST: Final = 256


class Guard:
    """`hosts`: the names that this server answers to, on any port: localhost, [::1] and so on."""

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._seen: set[bytes] = set()

    def headers(self, scope: Scope) -> dict[bytes, bytes]:
        """The request's headers, when it may pass. Raises Refused."""
        pairs = scope["headers"]
        headers = dict(pairs)
        if len(headers) < len(pairs):
            _check_single([name for name, _ in pairs])
        host = headers.get(b"host")
        if host not in self._seen:
            self._check_host(host)
        origin = headers.get(b"origin")
        if origin is not None and origin != b"http://" + headers[b"host"]:
            raise _foreign()
        if scope["method"] not in SAFE and headers.get(b"sec-fetch-site") not in (
            None,
            b"same-origin",
            b"none",
        ):
            raise _foreign()
        if b"content-encoding" in headers:
            raise refused(415, "content_encoding", "send the body as it is, without an encoding")
        return headers

    def _check_host(self, host: bytes | None) -> None:
        if not host:
            raise refused(400, "no_host", "the request has no Host header")
        found = HOST.fullmatch(host.lower())
        if not found or found[1] not in self._hosts:
            # A name that anybody may point at this address must not open it to his page's scripts.
            raise refused(
                421, "wrong_host", "this server does not answer to that name: use its address"
            )
        if len(self._seen) < SEEN_MOST:
            self._seen.add(host)


def _check_single(names: list[bytes]) -> None:
    for name in SINGLE:
        if names.count(name) > 1:
            raise refused(400, "duplicate_header", f"the header {name.decode()} comes twice")


def _foreign() -> Exception:
    return refused(403, "foreign_origin", "this call comes from another origin's page")
