"""What is asked of an engine: only what has a line in request.py, whatever the activity says."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cirrus.core.messages import Run
from cirrus.core.model import Container, Limits, Mount, attempt_name
from cirrus.errors import StartRefused
from cirrus.executors import request
from cirrus.executors.request import Ground, Owner

OWNER = Owner("0123abcd", "here", "docker")
FOLDER = Path("/data/attempts/one")
GROUND = Ground((), "", "sha256:1", "node1")

texts = st.text(max_size=20)
mounts = st.builds(Mount, texts, texts, st.sampled_from(("bind", "volume", "tmpfs")), st.booleans())
limits = st.builds(
    Limits,
    st.floats(0, 64),
    st.integers(0, 2**40),
    st.floats(0, 64),
    st.integers(0, 2**40),
    st.just(0.0),
    st.floats(0, 3600),
)
activities = st.builds(
    Container,
    st.sampled_from(("docker", "swarm")),
    texts,
    st.lists(texts, max_size=3).map(tuple),
    st.dictionaries(texts, texts, max_size=3),
    st.lists(mounts, max_size=3).map(tuple),
    texts,
    texts,
    texts,
    st.sampled_from(("missing", "always", "never")),
    st.dictionaries(texts | texts.map("cirrus.{}".format), texts, max_size=3),
    limits,
)


def order(activity: Container, environment: dict[str, str] | None = None) -> Run:
    name = attempt_name(OWNER.instance, "0" * 16, 2)
    return Run("0" * 16, 2, name, "a rule", "key", activity, environment or {}, b"{}")


def keys(value: Any, path: str = "") -> set[str]:
    """Every path into a request at which an engine would look for something."""
    if isinstance(value, list):
        return {found for one in value for found in keys(one, f"{path}[]")}
    if not isinstance(value, dict) or path.endswith((".Labels", ".Options", ".Config")):
        return {path}
    return {found for key, one in value.items() for found in keys(one, f"{path}.{key}")}


@given(activities, st.dictionaries(texts, texts, max_size=3))
def test_a_container_is_asked_for_by_known_fields_only(activity, environment):
    run = order(activity, environment)
    body = request.container(run, FOLDER, OWNER, Ground(activity.mounts, activity.user))
    assert {path.removeprefix(".HostConfig") for path in keys(body)} <= {
        *{".Image", ".Cmd", ".Cmd[]", ".Env[]", ".WorkingDir", ".User", ".Labels"},
        *{f".Mounts[].{field}" for field in ("Type", "Source", "Target", "ReadOnly")},
        *{".NetworkMode", ".NanoCpus", ".Memory", ".MemorySwap", ".MemoryReservation"},
        *{".PidsLimit", ".SecurityOpt[]", ".Init", ".RestartPolicy.Name", ".AutoRemove"},
        *{".LogConfig.Type", ".LogConfig.Config"},
    }


@given(activities)
def test_a_service_is_asked_for_by_known_fields_only(activity):
    ground = replace(GROUND, mounts=activity.mounts)
    body = request.service(order(activity), FOLDER, OWNER, ground)
    task, spec = ".TaskTemplate", ".TaskTemplate.ContainerSpec"
    spec_fields = ("Image", "Args", "Args[]", "Env[]", "Dir", "User", "Labels", "Init")
    assert keys(body) <= {
        *{".Name", ".Labels", ".Mode.ReplicatedJob.MaxConcurrent"},
        ".Mode.ReplicatedJob.TotalCompletions",
        *{f"{spec}.{field}" for field in spec_fields},
        *{f"{spec}.StopGracePeriod", f"{spec}.Privileges.NoNewPrivileges"},
        *{f"{spec}.Mounts[].{field}" for field in ("Type", "Source", "Target", "ReadOnly")},
        *{f"{task}.Networks[].Target", f"{task}.Placement.Constraints[]"},
        *{f"{task}.Resources.Limits.{field}" for field in ("NanoCPUs", "MemoryBytes", "Pids")},
        *{f"{task}.Resources.Reservations.{field}" for field in ("NanoCPUs", "MemoryBytes")},
        *{f"{task}.RestartPolicy.Condition", f"{task}.RestartPolicy.MaxAttempts"},
        *{f"{task}.LogDriver.Name", f"{task}.LogDriver.Options"},
    }


@given(activities)
def test_nobody_s_labels_come_before_cirrus_s(activity):
    labels = request.labels(order(activity), OWNER)
    assert OWNER.owns(labels)
    assert OWNER.name(labels) == order(activity).name
    own = {label for label in labels if label.startswith("cirrus.")}
    assert own == {
        f"cirrus.{name}"
        for name in ("instance", "dispatcher", "executor", "job", "attempt", "rule", "key", "spec")
    }


@given(activities, activities)
def test_what_has_the_name_must_be_the_same_attempt_of_the_same_activity(one, other):
    made = request.labels(order(one, {"CIRRUS_URL": "a token"}), OWNER)
    # A repeated order may bring a new token: the attempt is the same all the same.
    request.check_same(order(one, {"CIRRUS_URL": "another"}), OWNER, made)
    strangers = [
        (order(one), replace(OWNER, instance="ffffffff")),
        (order(one), replace(OWNER, dispatcher="there")),
        (replace(order(one), attempt=3), OWNER),
        (replace(order(one), job="1" * 16), OWNER),
    ]
    if one != other:
        strangers.append((order(other), OWNER))
    for run, owner in strangers:
        with pytest.raises(StartRefused, match="something else has this name"):
            request.check_same(run, owner, made)
    with pytest.raises(StartRefused):
        request.check_same(order(one), OWNER, {})


def test_what_cirrus_says_comes_over_what_the_activity_says():
    activity = Container("docker", "image", env={"A": "1", "RULE_ID": "x", "CIRRUS_DIR": "/x"})
    body = request.container(order(activity, {"RULE_ID": "r"}), FOLDER, OWNER, GROUND)
    assert body["Env"] == ["A=1", "RULE_ID=r", "CIRRUS_DIR=/cirrus"]


def test_labels_that_make_no_name_name_nothing():
    labels = request.labels(order(Container("docker", "image")), OWNER)
    for broken in (
        {"cirrus.attempt": "x"},
        {"cirrus.attempt": ""},
        {"cirrus.job": ""},
        {"cirrus.instance": "other"},
    ):
        assert OWNER.name(labels | broken) == ""
    assert OWNER.name({}) == ""


def test_swarm_reserves_what_the_seed_did_where_nothing_is_given():
    def reserved(limits: Limits) -> Any:
        activity = Container("swarm", "image", limits=limits)
        body: Any = request.service(order(activity), FOLDER, OWNER, GROUND)
        return body["TaskTemplate"]["Resources"]["Reservations"]

    assert reserved(Limits()) == {"NanoCPUs": 10**9, "MemoryBytes": 10**9}
    given = Limits(cpu_reservation=0.5, memory_reservation=1000)
    assert reserved(given) == {"NanoCPUs": 5 * 10**8, "MemoryBytes": 1000}
