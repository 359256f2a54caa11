"""Registries are shown the logins that the docker command would show them, and no others."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cirrus.executors.images import login

MAIN = "https://main.registry.example/v1/"
"""Whose images are those that name no registry: an engine says which."""


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def shown(tmp_path: Path, image: str, configuration: object) -> Any:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(configuration))
    header = await login(image, MAIN, file)
    if not header:
        return None
    return json.loads(base64.urlsafe_b64decode(header["X-Registry-Auth"]))


AUTHS = {
    "auths": {
        MAIN: {"auth": encoded("me:main secret")},
        "lab.example:5000": {"auth": encoded("lab:with:colons")},
        "https://old.example/v1/": {"auth": encoded("old:secret")},
        "token.example": {"identitytoken": "a token"},
        "broken.example": {"auth": "???"},
        "empty.example": {},
    }
}


@pytest.mark.parametrize(
    ("image", "user", "password"),
    [
        ("ubuntu", "me", "main secret"),
        ("library/ubuntu:22.04", "me", "main secret"),
        ("registry.example/library/ubuntu", "me", "main secret"),
        ("lab.example:5000/tools/bwa:1", "lab", "with:colons"),
        ("old.example/x@sha256:00", "old", "secret"),
    ],
)
async def test_a_login_is_found_by_the_image_s_registry(tmp_path, image, user, password):
    said = await shown(tmp_path, image, AUTHS)
    assert (said["username"], said["password"]) == (user, password)


async def test_a_token_is_shown_as_one(tmp_path):
    said = await shown(tmp_path, "token.example/x", AUTHS)
    assert said == {"identitytoken": "a token", "serveraddress": "token.example"}


@pytest.mark.parametrize(
    "image", ["localhost/x", "other.example/x", "broken.example/x", "empty.example/x"]
)
async def test_a_registry_without_a_login_is_shown_none(tmp_path, image):
    assert await shown(tmp_path, image, AUTHS) is None


async def test_without_a_configuration_nothing_is_shown(tmp_path):
    assert await login("ubuntu", MAIN, tmp_path / "none.json") == {}
    (tmp_path / "bad.json").write_text("{")
    assert await login("ubuntu", MAIN, tmp_path / "bad.json") == {}


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper called `safe` that knows one registry."""
    program = tmp_path / "bin" / "docker-credential-safe"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        'read -r registry; [ "$1 $registry" = "get lab.example" ] || exit 1\n'
        'echo \'{"Username": "\'${SAFE_USER:-lab}\'", "Secret": "s3"}\'\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


@pytest.mark.parametrize(
    "configuration", [{"credHelpers": {"lab.example": "safe"}}, {"credsStore": "safe"}]
)
@pytest.mark.usefixtures("helper")
async def test_a_credential_helper_is_asked(tmp_path, configuration, monkeypatch):
    said = await shown(tmp_path, "lab.example/x", configuration)
    assert (said["username"], said["password"]) == ("lab", "s3")
    assert await shown(tmp_path, "other.example/x", configuration) is None
    monkeypatch.setenv("SAFE_USER", "<token>")
    said = await shown(tmp_path, "lab.example/x", configuration)
    assert said["identitytoken"] == "s3"


async def test_a_helper_that_is_not_there_or_talks_nonsense_knows_nothing(tmp_path, helper):
    configuration = {"credHelpers": {"lab.example": "missing", "two.example": "safe"}}
    assert await shown(tmp_path, "lab.example/x", configuration) is None
    helper.write_text("#!/bin/sh\necho nonsense\n")
    assert await shown(tmp_path, "two.example/x", configuration) is None
