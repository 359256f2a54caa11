"""Images are pulled from a registry, by the rule's `pull` and with the right login."""

import asyncio
import base64
import gzip
import hashlib
import json
import secrets
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.executing import IMAGE, Bench, bench

from cirrus.core.model import Container
from cirrus.errors import StartRefused
from cirrus.executors.docker import DockerExecutor

pytestmark = pytest.mark.docker

LOGIN = base64.b64encode(b"me:secret").decode()


def docker(*arguments: str) -> bytes:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True).stdout


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Registry:
    """A registry of one image, `tool:1`, of one layer, for those who log in."""

    def __init__(self) -> None:
        self.address = ""
        self.pulls = 0
        container = docker("create", IMAGE).decode().strip()
        self._files = docker("export", container)
        docker("rm", container)
        self._label = secrets.token_hex(8)
        self.says("first")

    def remove_images(self) -> None:
        ours = f"label=registry={self._label}"
        images = docker("image", "ls", "--quiet", "--filter", ours).decode().split()
        if images:
            docker("image", "rm", "--force", *set(images))

    def says(self, text: str) -> None:
        """What the image's own command prints."""
        layer = gzip.compress(self._files)
        command = {"Cmd": ["echo", text], "Labels": {"registry": self._label}}
        image = {"architecture": "amd64", "os": "linux", "config": command, "history": []}
        image["rootfs"] = {"type": "layers", "diff_ids": [digest(self._files)]}
        configuration = json.dumps(image).encode()
        self._blobs = {digest(blob): blob for blob in (layer, configuration)}
        self._manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": _described("container.image.v1+json", configuration),
                "layers": [_described("image.rootfs.diff.tar.gzip", layer)],
            }
        ).encode()

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Basic {LOGIN}":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="test"'})
        found = self._found(request.match_info["path"])
        if found is None:
            error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            return web.json_response(error, status=404)
        content, mime = found
        self.pulls += mime != "application/octet-stream" and request.method == "GET"
        headers = {"Docker-Content-Digest": digest(content), "Content-Type": mime}
        return web.Response(body=content, headers=headers)

    def _found(self, path: str) -> tuple[bytes, str] | None:
        name, _, reference = path.rpartition("/")
        if not path:
            return b"{}", "application/octet-stream"
        if name == "tool/blobs" and reference in self._blobs:
            return self._blobs[reference], "application/octet-stream"
        if name == "tool/manifests" and reference in {"1", digest(self._manifest)}:
            return self._manifest, "application/vnd.docker.distribution.manifest.v2+json"
        return None


def _described(kind: str, content: bytes) -> dict[str, Any]:
    return {
        "mediaType": f"application/vnd.docker.{kind}",
        "size": len(content),
        "digest": digest(content),
    }


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    registry = Registry()
    application = web.Application()
    application.router.add_route("*", "/v2/{path:.*}", registry.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    registry.address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield registry
    await runner.cleanup()
    await asyncio.to_thread(registry.remove_images)


@pytest.fixture
async def on(registry: Registry, tmp_path: Path) -> AsyncIterator[Bench]:
    logins = tmp_path / "config.json"
    logins.write_text(json.dumps({"auths": {registry.address: {"auth": LOGIN}}}))
    async with bench(partial(DockerExecutor, logins=logins), tmp_path) as opened:
        await opened.executor.offer()
        yield opened


async def said(on: Bench, activity: Container) -> bytes:
    order = on.order(activity)
    assert (await on.run(order)).exit_code == 0
    return await on.log(order)


async def test_a_missing_image_is_pulled_once_with_the_login(on: Bench, registry: Registry):
    activity = Container("docker", f"{registry.address}/tool:1")
    assert await said(on, activity) == b"first\n"
    pulls = registry.pulls
    registry.says("second")
    assert await said(on, activity) == b"first\n"
    assert registry.pulls == pulls > 0


async def test_always_means_the_newest(on: Bench, registry: Registry):
    activity = Container("docker", f"{registry.address}/tool:1", pull="always")
    assert await said(on, activity) == b"first\n"
    registry.says("second")
    assert await said(on, activity) == b"second\n"


async def test_an_image_that_the_registry_does_not_have_is_refused_at_once(
    on: Bench, registry: Registry
):
    with pytest.raises(StartRefused, match="no such image, or it needs a docker login"):
        await on.begin(on.order(Container("docker", f"{registry.address}/other:1")))


async def test_without_the_login_it_says_that_one_is_needed(
    on: Bench, registry: Registry, tmp_path: Path
):
    (tmp_path / "config.json").unlink()
    with pytest.raises(StartRefused, match="needs a docker login"):
        await on.begin(on.order(Container("docker", f"{registry.address}/tool:1")))


async def test_a_registry_that_is_not_there_is_given_up_within_seconds(on: Bench):
    with pytest.raises(StartRefused, match="cannot be pulled"):
        await on.begin(on.order(Container("docker", "127.0.0.1:9/tool:1")))
