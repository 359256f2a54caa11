"""docs/http.md: each of its curl examples works, and no route is missing."""

import re
import shlex
from pathlib import Path

import pytest
from tests.contracts.http_world import World

from cirrus.coordinator.http.job_listener import job_routes
from cirrus.coordinator.http.native import native_routes
from cirrus.coordinator.http.seed import seed_routes

TEXT = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")


@pytest.fixture
def world(tmp_path):
    with World(tmp_path) as world:
        yield world


def examples():
    """Each command as its words."""
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE):
        for command in re.split(r"^(?=curl )", block, flags=re.MULTILINE):
            if command:
                yield shlex.split(command.replace("\\\n", " "))


def run(world, words, job):
    """What curl would do, of as much of it as the examples use."""
    method, headers, body, url = "GET", {}, None, ""
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "-X":
                method = next(rest)
            case "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            case "-d":
                body = next(rest)
            case "-r":
                headers["Range"] = f"bytes={next(rest)}"
            case "-N":
                pass
            case _:
                url = word.replace("$JOB", job)
    host, path = url.split("/", 1)
    assert host == "localhost:7000", url
    data = None if body is None else body.encode()
    return world.call(method, f"/{path}", data=data, headers=headers, stream="feed" in path)


def test_every_example_of_the_reference_works(world):
    world.connect_dispatcher()
    job = ""
    for words in examples():
        if "$JOB" in " ".join(words) and not job:
            started = world.next_run()
            world.start(started)
            world.link.logs[started.job, 1] = b"line\n" * 100
            job = started.job
        answer = run(world, words, job)
        assert answer.status_code in (200, 206), (words, answer.text)
        if answer.headers["Content-Type"].startswith("application/json"):
            assert answer.json() is not None
        answer.close()
    assert job


def test_every_route_is_in_the_reference(world):
    mentioned = set(re.findall(r"/(?:v1|r|q|healthz|metrics)[a-z_/{}.]*", TEXT))
    routes = [
        *native_routes(world.coordinator),
        *seed_routes(world.coordinator),
        *(route for route in job_routes(world.coordinator) if "..." not in route.path),
    ]
    paths = {route.path.replace("...}", "}") for route in routes} - {"/v1/rules/{name}/resume"}
    assert paths - mentioned == set()


def test_every_code_of_the_reference_is_one():
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in (Path(__file__).parents[2] / "src" / "cirrus").rglob("*.py")
    )
    table = TEXT.partition("| status | means")[2].partition("\n\n")[0]
    codes = {code for row in table.splitlines() for code in re.findall(r"`([a-z_]{5,})`", row)}
    computed = {"unknown_field", "missing_field"}
    assert {code for code in codes - computed if f'"{code}"' not in source} == set()
