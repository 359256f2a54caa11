"""Settings, read once: defaults, then a TOML file, the environment, the command line.

Each later place wins over the earlier ones. What is wrong is refused in one line that names where.
"""

import ipaddress
import os
import re
import socket
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from cirrus.errors import SetupError

Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
LogLevel = Literal["debug", "info", "warning", "error"]

FILE_NAME: Final = "cirrus.toml"
DISPATCHER_TABLE: Final = "dispatcher"
PREFIX: Final = "CIRRUS_"
DISPATCHER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


class Settings(Struct, frozen=True, kw_only=True):
    """What `cirrus up` needs to know."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: Port = 7000
    monitor_port: Port = 3000
    dispatch: str = ""
    """Where further dispatchers connect, as `tcp://127.0.0.1:7777`; empty: nowhere."""
    no_dispatcher: bool = False
    log_keep_bytes: Annotated[int, Meta(ge=64 * 1024, le=2**40)] = 16 * 2**20
    """Kept of each attempt's log."""
    lost_after_seconds: Annotated[float, Meta(ge=5, le=10**9)] = 600.0
    """How long a dispatcher may be silent about an attempt before that counts as lost."""
    crash_limit: Annotated[int, Meta(ge=0, le=1000)] = 5
    chain_depth: Count = 10_000
    chain_length: Count = 100_000
    slots: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Attempts that the local dispatcher runs at once; 0: two for each core."""
    log_level: LogLevel = "info"


class DispatcherSettings(Struct, frozen=True, kw_only=True):
    """What `cirrus dispatcher` needs to know."""

    data_dir: Path
    coordinator: str = ""
    """Its `tcp://` address; empty: the coordinator whose data directory this is."""
    name: str
    executors: tuple[Literal["process", "docker", "swarm"], ...] = ()
    """Empty: whatever answers on this machine."""
    slots: Annotated[int, Meta(ge=0, le=100_000)] = 0
    log_keep_bytes: Annotated[int, Meta(ge=64 * 1024, le=2**40)] = 16 * 2**20
    log_level: LogLevel = "info"

    @property
    def folder(self) -> Path:
        """Where this dispatcher keeps the folders of its attempts."""
        return self.data_dir / "dispatchers" / self.name


class Given(Struct, frozen=True):
    """A value before it is checked, and where it stands. `text`: numbers are still written out."""

    value: object
    where: str
    text: bool = False
    folder: Path = Path()
    """What a relative path is relative to."""


S = TypeVar("S", Settings, DispatcherSettings)


def read_settings(
    kind: type[S],
    options: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    config: Path | None = None,
) -> S:
    """`options` are the command line's; None means not given. Raises SetupError."""
    above = _from_environment(environ, kind.__struct_fields__) | _from_options(options)
    data_dir = above.get("data_dir") or Given(default_data_dir(environ), "data_dir")
    path = config or _folder(data_dir) / FILE_NAME
    given = _from_file(path, kind) if config or path.is_file() else {}
    if "data_dir" in given and not config:
        raise _bad(given["data_dir"].where, "this file lies in the data directory itself")
    merged = {"data_dir": data_dir} | given | above
    if kind is DispatcherSettings:
        merged = {"name": Given(_machine_name(), "the machine's name")} | merged
    checked: dict[str, Any] = {name: _checked(kind, name, merged[name]) for name in merged}
    settings = kind(**checked)
    if isinstance(settings, Settings):
        _check_up(settings, merged)
    else:
        _check_dispatcher(settings, merged)
    return settings


def default_data_dir(environ: Mapping[str, str]) -> str:
    if os.geteuid() == 0:
        return "/var/lib/cirrus"
    state = environ.get("XDG_STATE_HOME", "")
    return str(Path(state if state.startswith("/") else "~/.local/state") / "cirrus")


# --- the places ---------------------------------------------------------------------------------


def _from_options(options: Mapping[str, object]) -> dict[str, Given]:
    return {
        name: Given(value, f"--{name.replace('_', '-')}", text=isinstance(value, str))
        for name, value in options.items()
        if value is not None
    }


def _from_environment(environ: Mapping[str, str], fields: tuple[str, ...]) -> dict[str, Given]:
    given = {}
    for variable, value in environ.items():
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or not value:
            continue
        if name in fields:
            parts = value.split(",") if name == "executors" else value
            given[name] = Given(parts, variable, text=True)
        elif name not in _all_fields() and (near := get_close_matches(name, fields, 1, 0.8)):
            # Other programs have variables of this prefix too: only a slip is judged.
            raise _bad(variable, f"no such setting; did you mean {PREFIX}{near[0].upper()}?")
    return given


def _from_file(path: Path, kind: type[Settings] | type[DispatcherSettings]) -> dict[str, Given]:
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise _bad(str(path), error.strerror or "cannot be read") from error
    except ValueError as error:
        raise _bad(str(path), f"not TOML: {error}") from error
    inner = tables.pop(DISPATCHER_TABLE, {})
    start = _line_of(text, rf"\[\s*{DISPATCHER_TABLE}\s*\]")
    if not isinstance(inner, dict):
        raise _bad(str(path), f"{DISPATCHER_TABLE} is a table: [{DISPATCHER_TABLE}]")
    top = _known(path, text, tables, Settings.__struct_fields__)
    own = _known(path, text, inner, DispatcherSettings.__struct_fields__, after=start)
    if kind is Settings:
        return top
    # What stands at the top holds for a dispatcher too, where both have it.
    return {name: top[name] for name in top if name in kind.__struct_fields__} | own


def _known(
    path: Path, text: str, table: Mapping[str, object], fields: tuple[str, ...], after: int = 0
) -> dict[str, Given]:
    given = {}
    for name, value in table.items():
        pattern = rf"\[*\s*[\"']?{re.escape(name)}[\"']?\s*[=.\]]"
        where = f"{path}:{_line_of(text, pattern, after) or 1}"
        if name not in fields:
            near = get_close_matches(name, [*fields, DISPATCHER_TABLE], 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
            raise _bad(where, f"no setting {name}; {hint}")
        given[name] = Given(value, f"{where}: {name}", folder=path.parent)
    return given


def _line_of(text: str, pattern: str, after: int = 0) -> int:
    """The first line, counted from 1 and beyond `after`, that begins like this; 0 if none does."""
    for number, line in enumerate(text.splitlines(), 1):
        if number > after and re.match(rf"\s*{pattern}", line):
            return number
    return 0


def _all_fields() -> set[str]:
    return {*Settings.__struct_fields__, *DispatcherSettings.__struct_fields__}


def _machine_name() -> str:
    return re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower()).strip("-")[:63] or "dispatcher"


# --- the checks ---------------------------------------------------------------------------------


def _checked(kind: type[Struct], name: str, given: Given) -> object:
    wanted = next(field.type for field in msgspec.structs.fields(kind) if field.name == name)
    if wanted is Path:
        return _folder(given)
    try:
        return msgspec.convert(given.value, wanted, strict=not given.text)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at")[0].replace("`", "")
        problem = f"{reason[0].lower()}{reason[1:]}, not {given.value!r}"
        raise _bad(given.where, problem) from error


def _folder(given: Given) -> Path:
    if not isinstance(given.value, str | Path) or not str(given.value):
        raise _bad(given.where, "give the path of a folder")
    return given.folder.absolute() / Path(given.value).expanduser()


def _check_up(settings: Settings, given: Mapping[str, Given]) -> None:
    if not _is_loopback(settings.host):
        problem = (
            f"{settings.host} is not a loopback address. Cirrus has no access tokens yet, so it"
            " serves this machine only: 127.0.0.1, ::1 or localhost"
        )
        raise _bad(given["host"].where, problem)
    if settings.port == settings.monitor_port:
        where = (given.get("monitor_port") or given["port"]).where
        raise _bad(where, f"port and monitor_port are both {settings.port}: give two numbers")
    if settings.dispatch:
        _check_tcp(settings.dispatch, given["dispatch"].where)


def _check_dispatcher(settings: DispatcherSettings, given: Mapping[str, Given]) -> None:
    if not DISPATCHER_NAME.fullmatch(settings.name):
        problem = (
            f"{settings.name!r} cannot name a dispatcher: 1 to 63 of a-z, 0-9 and -, beginning"
            " with a letter or digit"
        )
        raise _bad(given["name"].where, problem)
    if settings.coordinator and not settings.coordinator.startswith("ipc:///"):
        _check_tcp(settings.coordinator, given["coordinator"].where)


def _check_tcp(address: str, where: str) -> None:
    parts = urlsplit(address)
    try:
        fits = parts.scheme == "tcp" and parts.port and not parts.path
    except ValueError:
        fits = False
    if not fits or not _is_loopback(parts.hostname or ""):
        problem = f"{address} is not tcp://ADDRESS:PORT with a loopback address"
        raise _bad(where, f"{problem}, such as tcp://127.0.0.1:7777")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bad(where: str, problem: str) -> SetupError:
    return SetupError(f"{where}: {problem}")
