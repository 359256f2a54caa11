"""The connection to a Docker Engine: calls with deadlines, streams, answers as values.

aiodocker finds the engine (context, TLS, ssh, socket). The calls are made here: an answer's fields
are typed, logs stay bytes, and a connection that broke is never taken for an end.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import quote

import aiodocker
import aiohttp
import msgspec
from msgspec import Struct, field
from yarl import URL

from cirrus.errors import EngineAway

CONNECT_SECONDS: Final = 2.0
CALL_SECONDS: Final = 30.0
NOT_MODIFIED: Final = 304
NOT_FOUND: Final = 404
CONFLICT: Final = 409
REFUSALS: Final = 400
FAULTS: Final = 500

T = TypeVar("T")


class Swarm(Struct, frozen=True):
    state: str = field(name="LocalNodeState", default="inactive")
    node: str = field(name="NodeID", default="")
    is_manager: bool = field(name="ControlAvailable", default=False)


class Info(Struct, frozen=True):
    """What an engine says of itself."""

    id: str = field(name="ID")
    cores: int = field(name="NCPU")
    memory: int = field(name="MemTotal")
    data: str = field(name="DockerRootDir", default="")
    registry: str = field(name="IndexServerAddress", default="")
    """Whose images are those without a registry in their name."""
    swarm: Swarm = field(name="Swarm", default=Swarm())


class _Said(Struct):
    message: str = ""


class _Version(Struct):
    number: str = field(name="ApiVersion")


class Answer(Struct, frozen=True):
    """What the engine answered. A refusal is a value: callers know what their 404 means."""

    status: int
    content: bytes

    @property
    def ok(self) -> bool:
        return self.status < REFUSALS

    @property
    def message(self) -> str:
        try:
            text = msgspec.json.decode(self.content, type=_Said).message
        except msgspec.MsgspecError:
            text = self.content.decode(errors="replace")
        return one_line(text) or f"status {self.status}"

    def read(self, kind: type[T]) -> T:
        if not self.ok:
            raise EngineAway("docker", self.message)
        try:
            return msgspec.json.decode(self.content, type=kind)
        except msgspec.MsgspecError as error:
            raise EngineAway("docker", f"its answer makes no sense: {error}") from error


class Stream:
    """An answer that arrives bit by bit, on a connection of its own."""

    def __init__(self, docker: aiodocker.Docker, response: aiohttp.ClientResponse) -> None:
        self._docker = docker
        self._response = response
        self.status = response.status

    async def read(self) -> bytes:
        """Whatever has arrived, at least a byte; empty at the end."""
        with _contact():
            return await self._response.content.readany()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def close(self) -> None:
        self._response.close()
        await self._docker.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Engine:
    """`address` is what DOCKER_HOST may hold; empty: what the docker command would choose.

    Every method raises EngineAway when the engine does not answer in time, or makes no sense.
    """

    def __init__(self, address: str = "") -> None:
        self._address = address
        self._docker: aiodocker.Docker | None = None
        self._version = ""
        self._info: Info | None = None

    async def call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: object = None,
        seconds: float = CALL_SECONDS,
    ) -> Answer:
        """One request, sent once: nobody but the caller repeats a POST."""
        with _contact():
            docker = self._connected()
            async with docker.session.request(
                method,
                await self._url(docker, path, query, seconds),
                data=None if body is None else msgspec.json.encode(body),
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
            ) as response:
                return Answer(response.status, await response.read())

    async def get(self, path: str, kind: type[T], query: dict[str, str] | None = None) -> T | None:
        """None when it is not there."""
        answer = await self.call("GET", path, query)
        return None if answer.status == NOT_FOUND else answer.read(kind)

    async def open(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        *,
        headers: dict[str, str] | None = None,
        silence_seconds: float | None = None,
    ) -> Stream:
        """An answer that goes on and on; `silence_seconds` is how long nothing may come of it.

        Its connection is not one of the hundred that calls share: however many logs are followed, a
        call finds its way.
        """
        with _contact():
            docker = _dial(self._address)
            try:
                response = await docker.session.request(
                    method,
                    await self._url(docker, path, query),
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds
                    ),
                )
            except BaseException:
                await docker.close()
                raise
        return Stream(docker, response)

    async def info(self) -> Info:
        self._info = (await self.call("GET", "info")).read(Info)
        return self._info

    async def known(self) -> Info:
        """`info`, asked once: for what does not change while an engine lives."""
        return self._info or await self.info()

    @property
    def socket(self) -> Path | None:
        with _contact():
            connector = self._connected().connector
        return Path(connector.path) if isinstance(connector, aiohttp.UnixConnector) else None

    async def close(self) -> None:
        if self._docker:
            await self._docker.close()
            self._docker = None

    def _connected(self) -> aiodocker.Docker:
        if self._docker is None:
            self._docker = _dial(self._address)
        return self._docker

    async def _url(
        self,
        docker: aiodocker.Docker,
        path: str,
        query: dict[str, str] | None,
        seconds: float = CALL_SECONDS,
    ) -> URL:
        if not self._version:
            timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
            url = URL(f"{docker.docker_host}/version")
            async with docker.session.get(url, timeout=timeout) as response:
                answer = Answer(response.status, await response.read())
            self._version = f"v{answer.read(_Version).number}"
        return URL(f"{docker.docker_host}/{self._version}/{path}").with_query(query)


def absence(away: EngineAway) -> str:
    """In one line what to do, if there is no engine at all, or none for us; otherwise empty."""
    cause = away.__cause__
    if isinstance(cause, aiohttp.ClientConnectorError):
        cause = cause.os_error
    if isinstance(cause, PermissionError):
        return f"{away}; join the group docker: sudo usermod -aG docker $USER, and log in anew"
    if isinstance(cause, FileNotFoundError | ConnectionRefusedError):
        return f"{away}; install and start one: apt-get install docker.io, or set DOCKER_HOST"
    return ""


def one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def part(name: str) -> str:
    """A name as one part of a path, whatever is in it."""
    return quote(name, safe=":@")


@contextmanager
def _contact() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise EngineAway("docker", f"no engine answers: {reason}") from error


def _dial(address: str) -> aiodocker.Docker:
    try:
        return aiodocker.Docker(address or None)
    except (AssertionError, ValueError, aiodocker.DockerError) as error:
        # It asserts that it has found a socket.
        raise FileNotFoundError(str(error) or "there is no engine's socket") from error
