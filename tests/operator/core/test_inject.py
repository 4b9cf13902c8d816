"""Injection: golden files, and what holds for any pod."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.core.inject_golden import FOLDER, PLAN, TEMPLATE, Json, load, outcome, patched

from keelage_api.mounted import CONFIG_MAP, MountedKey
from keelage_operator.core.inject import (
    INJECTED_LABEL,
    TEMPLATE_ANNOTATION,
    Injected,
    InjectionPlan,
    NotInjected,
    inject,
)
from keelage_operator.core.sidecar_template import PodFacts, volumes

FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_pod_becomes_what_the_golden_file_says(file: Path) -> None:
    pod, expected = load(file)
    before = copy.deepcopy(pod)
    assert outcome(pod) == expected
    assert pod == before, "the pod that came in is not changed"


ENV = st.lists(st.sampled_from(["A", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY"]), max_size=3, unique=True).map(
    lambda names: [{"name": name, "value": "v"} for name in names]
)
REQUIRED: dict[str, st.SearchStrategy[object]] = {
    "name": st.sampled_from(["app", "web", "mesh", "warm-up"]),
    "image": st.just("i:1"),
}
OPTIONAL: dict[str, st.SearchStrategy[object]] = {
    "restartPolicy": st.just("Always"),
    "env": ENV,
    "resources": st.just({"limits": {"cpu": "1", "memory": "1Gi"}}),
}
CONTAINERS = st.fixed_dictionaries(REQUIRED, optional=OPTIONAL)
PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries({}, optional={"labels": st.just({"app": "a"}), "annotations": st.none()}),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(CONTAINERS, min_size=1, max_size=3)},
            optional={
                "initContainers": st.lists(CONTAINERS, max_size=3),
                "volumes": st.one_of(st.none(), st.just([{"name": "data", "emptyDir": {}}])),
                "shareProcessNamespace": st.booleans(),
            },
        ),
    }
)


@given(pod=PODS)
def test_second_look_changes_nothing(pod: Json) -> None:
    first = inject(pod, PLAN)
    assert isinstance(first, Injected)
    again = inject(patched(pod, first.patch), PLAN)
    assert again == Injected((), first.warnings)


@given(pod=PODS)
def test_sidecar_runs_before_every_ordinary_init_container(pod: Json) -> None:
    first = inject(pod, PLAN)
    assert isinstance(first, Injected)
    containers = _list(_dict(patched(pod, first.patch)["spec"])["initContainers"])
    position = [c["name"] for c in containers].index("keelage")
    assert all(c.get("restartPolicy") == "Always" for c in containers[:position])
    assert [c["name"] for c in containers].count("keelage") == 1


@given(pod=PODS)
def test_nothing_of_the_user_is_lost(pod: Json) -> None:
    first = inject(pod, PLAN)
    assert isinstance(first, Injected)
    after = _dict(patched(pod, first.patch)["spec"])
    spec = _dict(pod["spec"])
    for kind in ("containers", "initContainers"):
        rest = [c for c in _list(after.get(kind)) if c["name"] != "keelage"]
        for old, new in zip(_list(spec.get(kind)), rest, strict=True):
            assert {k: v for k, v in new.items() if k != "env"} == {k: v for k, v in old.items() if k != "env"}
            assert [e for e in _list(new.get("env")) if e in _list(old.get("env"))] == _list(old.get("env"))


def test_defaults_of_the_api_server_do_not_look_like_a_change() -> None:
    pod: Json = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "app", "image": "i:1"}]}}
    first = inject(pod, PLAN)
    assert isinstance(first, Injected)
    after = patched(pod, first.patch)
    sidecar = _list(_dict(after["spec"])["initContainers"])[0]
    sidecar |= {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
    _dict(sidecar["startupProbe"])["successThreshold"] = 1
    _list(sidecar["env"]).append({"name": "ADDED_BY_ANOTHER_WEBHOOK", "value": "1"})
    for volume in _list(_dict(after["spec"])["volumes"]):
        if "projected" in volume:
            _dict(volume["projected"])["defaultMode"] = 420
    assert inject(after, PLAN) == Injected(())


def test_new_image_shows_in_the_template_hash() -> None:
    pod: Json = {"metadata": {}, "spec": {"containers": [{"name": "app", "image": "i:1"}]}}
    hashes = set()
    for template in (TEMPLATE, dataclasses.replace(TEMPLATE, image="keelage/sidecar:0.2.0")):
        result = inject(pod, InjectionPlan(template))
        assert isinstance(result, Injected)
        metadata = _dict(patched(pod, result.patch)["metadata"])
        assert _dict(metadata["labels"])[INJECTED_LABEL] == "true"
        hashes.add(_dict(metadata["annotations"])[TEMPLATE_ANNOTATION])
    assert len(hashes) == 2


def test_authorities_are_mounted_beside_the_keys() -> None:
    keys = (MountedKey("corp-ca", "ca.crt", CONFIG_MAP), MountedKey("corp-ca", "key"), MountedKey("corp-ca", "ca.crt"))
    sources = next(
        volume["projected"]
        for volume in volumes(PodFacts(keys, "", "", "", guaranteed=False))
        if volume["name"] == "keelage-credentials"
    )
    held = [{"key": "ca.crt", "path": "corp-ca/ca.crt"}, {"key": "key", "path": "corp-ca/key"}]
    assert sources == {
        "sources": [
            {
                "configMap": {
                    "name": "corp-ca",
                    "optional": True,
                    "items": [{"key": "ca.crt", "path": "ConfigMap/corp-ca/ca.crt"}],
                }
            },
            {"secret": {"name": "corp-ca", "optional": True, "items": held}},
        ]
    }


def test_application_never_sees_token_or_credentials() -> None:
    pod: Json = {"metadata": {}, "spec": {"containers": [{"name": "app", "image": "i:1"}]}}
    result = inject(pod, PLAN)
    assert isinstance(result, Injected)
    (app,) = _list(_dict(patched(pod, result.patch)["spec"])["containers"])
    assert set(app) == {"name", "image", "env"}


def _dict(value: object) -> Json:
    assert isinstance(value, dict)
    return value


def _list(value: object) -> list[Json]:
    return value if isinstance(value, list) else []


@pytest.mark.parametrize("name", ["keelage-state", "keelage-token", "keelage-credentials", "keelage-empty"])
def test_a_volume_of_the_users_under_our_name_is_refused_and_not_taken_away(name: str) -> None:
    spec: Json = {"containers": [{"name": "app"}], "volumes": [{"name": name, "hostPath": {"path": "/data"}}]}
    found = inject({"metadata": {}, "spec": spec}, PLAN)
    assert isinstance(found, NotInjected)
    assert (found.reason, found.refused) == ("VolumeTaken", True)
    assert name in found.message


def test_an_application_cannot_mount_the_sidecars_provider_key() -> None:
    app: Json = {"name": "app", "volumeMounts": [{"name": "keelage-credentials", "mountPath": "/keys"}]}
    found = inject({"metadata": {}, "spec": {"containers": [app]}}, PLAN)
    assert isinstance(found, NotInjected)
    assert (found.reason, found.refused) == ("VolumeTaken", True)
    injected = inject({"metadata": {}, "spec": {"containers": [{"name": "app"}]}}, PLAN)
    assert isinstance(injected, Injected)
    pod = patched({"metadata": {}, "spec": {"containers": [{"name": "app"}]}}, injected.patch)
    spec = pod["spec"]
    assert isinstance(spec, dict)
    spec["containers"] = [app]
    assert isinstance(inject(pod, PLAN), NotInjected), "nor in a copy of an injected pod"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
WEIRD = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"labels": JSON, "annotations": JSON}),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                key: JSON
                | st.lists(
                    st.fixed_dictionaries(
                        {}, optional=dict.fromkeys(("name", "env", "ports", "resources", "volumeMounts"), JSON)
                    ),
                    max_size=2,
                )
                for key in ("containers", "initContainers", "volumes", "ephemeralContainers", "os", "hostNetwork")
            },
        ),
    },
)


@given(pod=WEIRD)
def test_no_pod_whatever_its_shape_breaks_the_injector(pod: Json) -> None:
    assert isinstance(inject(pod, PLAN), Injected | NotInjected)
