"""Pods without the sidecar that they should have."""

from __future__ import annotations

import pytest

from keelage_operator.core.reconcile import MESSAGE_LENGTH_MAX, Target
from keelage_operator.core.watchdog import TOLD_MAX, bare, told

META = {"namespace": "shop", "name": "web-1", "uid": "u1"}


@pytest.mark.parametrize(
    "pod",
    [
        {"metadata": META, "status": {"phase": "Succeeded"}},
        {"metadata": META, "status": {"phase": "Failed"}},
        {"metadata": {**META, "deletionTimestamp": "2026-11-21T12:00:00Z"}},
        {"metadata": {**META, "annotations": {"kubernetes.io/config.mirror": "x"}}},
        {"metadata": META, "spec": {"os": {"name": "windows"}}},
    ],
)
def test_pods_that_end_or_never_get_a_sidecar_are_not_told(pod: dict[str, object]) -> None:
    assert bare(pod) is None


def test_a_running_pod_is_told_with_its_remedy_and_always_in_the_same_event() -> None:
    target = bare({"metadata": META, "status": {"phase": "Running"}})
    assert target == Target("Pod", "shop", "web-1", "u1")
    (post,) = told([target])
    assert post.reason == "SidecarMissing"
    assert "pod shop/web-1" in post.message
    assert "rollout restart" in post.message
    assert told([target]) == (post,)


def test_events_are_bounded() -> None:
    posts = told([Target("Pod", "n" * 63, "p" * 253, f"uid-{number}") for number in range(1000)])
    assert len(posts) == TOLD_MAX
    assert all(len(post.message) <= MESSAGE_LENGTH_MAX for post in posts)
