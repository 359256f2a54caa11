"""Bring an image to the engine as the rule's `pull` says, with the docker command's own logins."""

import asyncio
import base64
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field

from cirrus.core.model import Container
from cirrus.errors import StartRefused
from cirrus.executors.engine import REFUSALS, Answer, Engine, Stream, one_line, part

LOGINS: Final = Path.home() / ".docker" / "config.json"
"""Where the docker command keeps them, or the names of the programs that do."""

PULL_SECONDS: Final = 3600.0
SILENCE_SECONDS: Final = 300.0
"""A pull of which nothing is heard for so long is given up."""

TRIES_SECONDS: Final = 4.0
"""A registry that cannot be reached is tried again for so long."""

PAUSE_SECONDS: Final = 1.0
HELPER_SECONDS: Final = 20.0

# So registries say that there is no such image, or not for us; trying again would not help.
FINAL: Final = (
    "not found",
    "manifest unknown",
    "name unknown",
    "denied",
    "unauthorized",
    "no basic auth credentials",
    "no matching manifest",
    "invalid reference",
)

T = TypeVar("T")


class _Login(Struct, frozen=True):
    auth: str = ""
    identity: str = field(name="identitytoken", default="")


class _Configuration(Struct, frozen=True):
    """The docker command's config.json, as far as it is about logins."""

    auths: dict[str, _Login] = {}
    helpers: dict[str, str] = field(name="credHelpers", default_factory=dict)
    store: str = field(name="credsStore", default="")


class _Secret(Struct, frozen=True):
    """What a credential helper prints."""

    user: str = field(name="Username", default="")
    secret: str = field(name="Secret", default="")


class _Progress(Struct, frozen=True):
    error: str = ""


class _Image(Struct, frozen=True):
    id: str = field(name="Id")


async def image_id(engine: Engine, activity: Container, logins: Path) -> str:
    """The id of an image that is on the engine, pulled if it was not and may be."""
    path = f"images/{'/'.join(map(part, activity.image.split('/')))}/json"
    found = await engine.get(path, _Image)
    if not found:
        await fetch(engine, activity, logins)
        found = await engine.get(path, _Image)
    if not found:
        raise StartRefused(activity.image, "it was pulled, but is not there")
    return found.id


async def fetch(engine: Engine, activity: Container, logins: Path) -> None:
    """Pull an image that is missing, unless the rule forbids it."""
    if activity.pull == "never":
        raise StartRefused(activity.image, "it is not on this engine, and `pull` is `never`")
    await pull(engine, activity.image, logins)


async def pull(engine: Engine, image: str, logins: Path) -> None:
    """StartRefused when it cannot be had: at once if the registry says so, else within seconds."""
    header = await login(image, (await engine.known()).registry, logins)
    give_up = time.monotonic() + TRIES_SECONDS
    while problem := await _try_to_pull(engine, image, header):
        if any(words in problem.lower() for words in FINAL):
            raise StartRefused(image, f"no such image, or it needs a docker login ({problem})")
        if time.monotonic() > give_up:
            raise StartRefused(image, f"not on this engine, and it cannot be pulled ({problem})")
        await asyncio.sleep(PAUSE_SECONDS)


async def _try_to_pull(engine: Engine, image: str, header: dict[str, str]) -> str:
    """What went wrong; empty if nothing did."""
    query = {"fromImage": image}
    if not {":", "@"} & set(image.rpartition("/")[2]):
        query["tag"] = "latest"  # without one the engine would pull every tag there is
    try:
        async with (
            asyncio.timeout(PULL_SECONDS),
            await engine.open(
                "POST", "images/create", query, headers=header, silence_seconds=SILENCE_SECONDS
            ) as progress,
        ):
            if progress.status >= REFUSALS:
                content = b"".join([chunk async for chunk in progress])
                return Answer(progress.status, content).message
            return await _problem(progress)
    except TimeoutError:
        return f"nothing came of it in {PULL_SECONDS:.0f} s"


async def _problem(progress: Stream) -> str:
    """A pull that fails half-way says so in its last line."""
    problem, rest = "", b""
    async for chunk in progress:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(bytes.strip, lines):
            problem = msgspec.json.decode(line, type=_Progress).error or problem
    return one_line(problem)


async def login(image: str, registry: str, logins: Path) -> dict[str, str]:
    """The header that shows who pulls, where the docker command would show it.

    `registry`: whose images are those that name none.
    """
    first, slash, _ = image.partition("/")
    named = slash and (first == "localhost" or {".", ":"} & set(first))
    if named and not _host(registry).endswith(first):
        registry = first
    given = await asyncio.to_thread(_read, logins)
    helper = _for_host(given.helpers, registry) or given.store
    found = _for_host(given.auths, registry)
    secret = await _ask(helper, registry) if helper else _decoded(found) if found else None
    if not secret:
        return {}
    if not secret.user or secret.user == "<token>":
        who = {"identitytoken": secret.secret}
    else:
        who = {"username": secret.user, "password": secret.secret}
    text = msgspec.json.encode(who | {"serveraddress": registry})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text).decode()}


def _read(logins: Path) -> _Configuration:
    try:
        return msgspec.json.decode(logins.read_bytes(), type=_Configuration)
    except (OSError, msgspec.MsgspecError):
        return _Configuration()  # then images are pulled as anybody may pull them


def _for_host(choices: Mapping[str, T], registry: str) -> T | None:
    """Keys are hosts or whole addresses: both are in use."""
    host = _host(registry)
    return next((value for key, value in choices.items() if _host(key) == host), None)


def _host(address: str) -> str:
    return urlsplit(address if "://" in address else f"//{address}").netloc


def _decoded(login: _Login) -> _Secret | None:
    if login.identity:
        return _Secret("", login.identity)
    try:
        user, colon, password = base64.b64decode(login.auth).decode().partition(":")
    except ValueError:
        return None
    return _Secret(user, password) if colon else None


async def _ask(helper: str, registry: str) -> _Secret | None:
    try:
        process = await asyncio.create_subprocess_exec(
            f"docker-credential-{helper}",
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(HELPER_SECONDS):
            said, _ = await process.communicate(registry.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    try:
        return msgspec.json.decode(said, type=_Secret) if process.returncode == 0 else None
    except msgspec.MsgspecError:
        return None
