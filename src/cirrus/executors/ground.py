"""What a job may see of the machine: what its user chose, but never what rules the engine.

A path is judged, and then mounted, as it is with every symlink followed.
"""

import asyncio
import os
import posixpath
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from cirrus.core.model import Container, Mount
from cirrus.errors import StartRefused
from cirrus.executors.engine import Engine, part
from cirrus.executors.request import JOB_DIRECTORY, Ground

# A container that sees one of these can make the engine do anything, or act outside itself.
RULERS: Final = (
    "/proc",
    "/sys",
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/run/podman",
    "/var/lib/docker",
    "/var/lib/containerd",
)


class _Volume(Struct, frozen=True):
    options: dict[str, str] | None = field(name="Options", default=None)


async def ground_of(engine: Engine, activity: Container, private: Iterable[Path]) -> Ground:
    """As whom it runs, and its mounts with their sources resolved. StartRefused names a bad one.

    `private`: what no job may see besides, such as the folder where Cirrus keeps its keys.
    """
    user = f"{os.getuid()}:{os.getgid()}" if activity.user == "caller" else activity.user
    if not activity.mounts:
        return Ground((), user)
    info = await engine.known()
    walls = await asyncio.to_thread(_walls, [*RULERS, info.data, engine.socket, *private])
    for mount in activity.mounts:
        _check_target(mount.target)
        if mount.kind == "volume":
            await _check_volume(engine, mount.source, walls)
    bound = await asyncio.to_thread(lambda: [_bound(mount, walls) for mount in activity.mounts])
    return Ground(tuple(bound), user)


def _walls(paths: Iterable[str | Path | None]) -> tuple[Path, ...]:
    return tuple(Path(path).resolve() for path in paths if path)


def _check_target(target: str) -> None:
    inside = posixpath.normpath(target)
    if not inside.startswith("/") or inside in {"/", "//"}:
        raise StartRefused(target, "a mount's target is an absolute path below /")
    if inside == JOB_DIRECTORY or inside.startswith(f"{JOB_DIRECTORY}/"):
        raise StartRefused(target, "this is where a job finds its inputs: mount it elsewhere")


async def _check_volume(engine: Engine, name: str, walls: tuple[Path, ...]) -> None:
    """A volume may have been made as another name for a folder."""
    found = await engine.get(f"volumes/{part(name)}", _Volume)
    options = (found.options if found else None) or {}
    if "bind" in options.get("o", ""):
        folder = Mount(target="/", source=options.get("device", ""))
        await asyncio.to_thread(_bound, folder, walls)


def _bound(mount: Mount, walls: tuple[Path, ...]) -> Mount:
    if mount.kind != "bind":
        return mount
    source = _existing(mount.source)
    for wall in walls:
        if source == wall or source in wall.parents or wall in source.parents:
            raise StartRefused(mount.source, f"a job may not see {wall}")
    mode = source.stat().st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise StartRefused(mount.source, "only files and folders can be mounted")
    return Mount(mount.target, str(source), mount.kind, mount.read_only)


def _existing(given: str) -> Path:
    if not Path(given).is_absolute():
        raise StartRefused(given, "a bind mount's source is an absolute path")
    try:
        return Path(given).resolve(strict=True)
    except FileNotFoundError as error:
        raise StartRefused(given, "this bind mount's source does not exist") from error
    except (OSError, RuntimeError) as error:
        raise StartRefused(
            given, f"this bind mount's source cannot be looked at: {error}"
        ) from error
