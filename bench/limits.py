"""What the machine itself can do, measured beside Cirrus in the same run."""

import asyncio
import os
import subprocess
import tempfile
import time
from pathlib import Path

import aiodocker


def syncs_per_second(folder: Path, seconds: float = 1.0) -> float:
    """Appends of 4 KiB, each followed by fdatasync."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            os.pwrite(file.fileno(), b"x" * 4096, count * 4096)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.perf_counter() - began)


def chain_of_processes(length: int) -> float:
    """Seconds for `true`, one after the other."""
    began = time.perf_counter()
    for _ in range(length):
        subprocess.run(["/bin/true"], check=True)
    return time.perf_counter() - began


def fan_of_processes(width: int, at_once: int) -> float:
    """Seconds for `true`, so many at once."""

    async def one(gate: asyncio.Semaphore) -> None:
        async with gate:
            process = await asyncio.create_subprocess_exec("/bin/true")
            await process.wait()

    async def fan() -> None:
        gate = asyncio.Semaphore(at_once)
        await asyncio.gather(*(one(gate) for _ in range(width)))

    began = time.perf_counter()
    asyncio.run(fan())
    return time.perf_counter() - began


async def containers(count: int, at_once: int) -> float:
    """Seconds for create + start + wait + remove of `busybox true` with the bare API.

    The containers have what a job's container has: an init, a mount, a capped log.
    """
    docker = aiodocker.Docker()
    config = {
        "Image": "busybox:latest",
        "Cmd": ["true"],
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [{"Type": "bind", "Source": tempfile.gettempdir(), "Target": "/cirrus"}],
            "Init": True,
            "PidsLimit": 4096,
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "local", "Config": {"max-size": "10m", "max-file": "2"}},
        },
    }
    gate = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with gate:
            container = await docker.containers.create(config)
            await container.start()
            await container.wait()
            await container.delete()

    began = time.perf_counter()
    try:
        await asyncio.gather(*(one() for _ in range(count)))
    finally:
        await docker.close()
    return time.perf_counter() - began
