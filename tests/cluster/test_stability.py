"""With the operator away, what runs goes on; what is wrong is said and breaks nothing."""

from __future__ import annotations

import re

import pytest
from tests.cluster.conftest import leader, operators
from tests.cluster.kube import BUDGET, ROUTE, SYSTEM, KubectlFailed, Space, program
from tests.cluster.processes import kill
from tests.cluster.programs import STEADY

pytestmark = pytest.mark.cluster


def answered(space: Space) -> int:
    """Calls that the steady program has had answered."""
    [pod] = space.pods("app=steady")
    counts = re.findall(r"OK (\d+)", space.kubectl("logs", pod["metadata"]["name"], "-c", "app", "--tail=200"))
    return int(counts[-1]) if counts else 0


def start(space: Space) -> None:
    space.apply(ROUTE.replace("NAMESPACE", space.name))
    space.apply(BUDGET.replace("AMOUNT", "5.00"))
    space.apply(program("steady", 1, STEADY))
    space.ready("steady", 1)
    space.kube.until("the first answers", lambda: answered(space) > 3, 60)


def test_with_the_operator_down_calls_go_on_and_a_restarted_sidecar_goes_on(space: Space) -> None:
    start(space)
    space.kube.kubectl("-n", SYSTEM, "scale", "deploy", "keelage", "--replicas=0")
    try:
        space.kube.until(
            "the operator to be gone",
            lambda: not operators(space.kube),
            90,
        )
        before = answered(space)
        space.kube.until("calls without an operator", lambda: answered(space) > before + 5, 30)
        [pod] = space.pods("app=steady")
        kill(pod["metadata"]["uid"])
        space.kube.until(
            "the restarted sidecar",
            lambda: space.pods("app=steady")[0]["status"]["initContainerStatuses"][0]["restartCount"] == 1,
            60,
        )
        before = answered(space)
        space.kube.until("calls through the restarted sidecar", lambda: answered(space) > before + 5, 60)
    finally:
        space.kube.kubectl("-n", SYSTEM, "scale", "deploy", "keelage", "--replicas=2")
        space.kube.kubectl("-n", SYSTEM, "rollout", "status", "deploy/keelage", "--timeout=120s")
        space.kube.until("one of them to lead", lambda: leader(space.kube) in operators(space.kube), 60)


def test_a_bad_route_is_refused_and_an_unknown_price_is_said_until_it_is_mended(space: Space) -> None:
    start(space)
    good = ROUTE.replace("NAMESPACE", space.name)

    with pytest.raises(KubectlFailed, match="patience"):
        space.apply(good.replace("retry: {attempts: 3}", "retry: {attempts: 3, patience: 5s}"))
    with pytest.raises(KubectlFailed, match="tier"):
        space.apply(good.replace("select: [{tier: fast}]", "select: [{tier: fsat}]"))
    before = answered(space)
    space.kube.until("calls by the route as it was", lambda: answered(space) > before + 5, 30)

    space.apply(good.replace("model: claude-haiku-4-5", "model: claude-haiku-99"))
    said = space.kube.until(
        "the route to say that the price is unknown",
        lambda: (found := space.condition("llmroute", "assistant", "ResolvedRefs")).get("status") == "False" and found,
        60,
    )
    assert said["reason"] == "PriceUnknown"
    assert "claude-haiku-99" in said["message"]

    space.apply(good)
    space.kube.until(
        "the route to have its prices again",
        lambda: space.condition("llmroute", "assistant", "ResolvedRefs").get("status") == "True",
        60,
    )
    before = answered(space)
    space.kube.until("calls by the mended route", lambda: answered(space) > before + 5, 30)


def test_a_missing_secret_is_said_on_the_route(space: Space) -> None:
    space.apply(ROUTE.replace("NAMESPACE", space.name).replace("key: provider", "key: absent"))
    space.apply(BUDGET.replace("AMOUNT", "5.00"))
    space.apply(program("steady", 1, STEADY))
    space.ready("steady", 1)
    said = space.kube.until(
        "the route to say that the credential is missing",
        lambda: (found := space.condition("llmroute", "assistant", "ResolvedRefs")).get("status") == "False" and found,
        60,
    )
    assert "llm-keys" in said["message"]
    assert "absent" in said["message"]


def test_sidecars_acknowledge_the_route_in_its_status(space: Space) -> None:
    start(space)
    space.kube.until(
        "Programmed with 1/1",
        lambda: (
            space.json("get", "llmroute", "assistant")["status"].get("sidecars") == "1/1"
            and space.condition("llmroute", "assistant", "Programmed").get("status") == "True"
        ),
        60,
    )
