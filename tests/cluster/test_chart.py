"""The chart on the real cluster: admission end to end, upgrades that keep trust, an uninstall that blocks nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.conftest import install, uninstall
from tests.cluster.kube import BUDGET, ROUTE, SYSTEM, Kube, KubectlFailed, Space, program
from tests.cluster.programs import BURST

pytestmark = pytest.mark.cluster

POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: plain}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: app
    image: keelage/demo:dev
    imagePullPolicy: IfNotPresent
    command: [sleep, "600"]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""


def sidecars(space: Space, pod: str) -> list[str]:
    spec = space.json("get", "pod", pod)["spec"]
    return [container["name"] for container in spec.get("initContainers", [])]


def bundles(kube: Kube) -> set[str]:
    found = set()
    for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
        for hook in kube.json("get", kind, "keelage")["webhooks"]:
            found.add(hook["clientConfig"].get("caBundle", ""))
    return found


def test_helm_test_passes(installed: Kube) -> None:
    assert "Succeeded" in installed.helm("test", "keelage", "--namespace", SYSTEM)


def test_pod_runs_in_a_restricted_namespace_with_the_secrets_of_a_route_applied_with_it(space: Space) -> None:
    space.kube.kubectl("label", "namespace", space.name, "pod-security.kubernetes.io/enforce=restricted")
    together = [ROUTE.replace("NAMESPACE", space.name), BUDGET.replace("AMOUNT", "1.00"), POD.replace("NAME", "first")]
    space.apply("---".join(together))
    spec = space.json("get", "pod", "first")["spec"]
    assert "keelage-credentials" in [volume["name"] for volume in spec["volumes"]]
    space.kube.until("the pod", lambda: space.json("get", "pod", "first")["status"]["phase"] == "Running", 60)
    space.kube.until(
        "a sidecar that obeys", lambda: space.json("get", "llmroute", "assistant")["status"]["sidecars"] == "1/1", 60
    )


def test_host_network_is_refused_with_its_reason_and_a_pod_may_opt_out(space: Space) -> None:
    pod = POD.replace("NAME", "host").replace("spec:", "spec:\n  hostNetwork: true", 1)
    with pytest.raises(KubectlFailed, match="hostNetwork is true"):
        space.apply(pod)
    space.apply(pod.replace("app: plain", 'app: plain, keelage.dev/inject: "false"'))
    assert sidecars(space, "host") == []


def test_ledger_is_written_by_the_operator_only(space: Space) -> None:
    with pytest.raises(KubectlFailed, match="written by the keelage operator only"):
        space.apply("{apiVersion: keelage.dev/v1alpha1, kind: LLMLedger, metadata: {name: cap-2026-11}}")


def test_upgrade_keeps_the_webhooks_trusted(installed: Kube, space: Space) -> None:
    before = bundles(installed)
    assert len(before) == 1
    assert before != {""}
    try:
        install(installed, "--set", "logLevel=debug")
        assert bundles(installed) == before
        space.apply(POD.replace("NAME", "after"))
        assert sidecars(space, "after") == ["keelage"]
    finally:
        install(installed)


@pytest.fixture
def uninstalled(installed: Kube, space: Space) -> Iterator[Space]:
    uninstall(installed)
    yield space
    install(installed)


def test_uninstall_leaves_pods_creatable_and_budgets_in_place(uninstalled: Space) -> None:
    uninstalled.apply(POD.replace("NAME", "free"))
    assert sidecars(uninstalled, "free") == []
    assert "llmbudgets.keelage.dev" in uninstalled.kube.kubectl("get", "crd", "-o", "name")


def test_an_unknown_value_is_refused_by_name(kube: Kube) -> None:
    with pytest.raises(AssertionError, match="replica"):
        install(kube, "--dry-run=server", "--set", "replica=3")


@pytest.fixture
def spent(space: Space) -> Space:
    """A namespace in which a part of the budget is spent."""
    space.apply(ROUTE.replace("NAMESPACE", space.name))
    space.apply(BUDGET.replace("AMOUNT", "5.00"))
    space.apply(program("burst", 1, BURST, env='{name: CALLS, value: "10"}'))
    space.kube.until("the calls to be counted", lambda: settled(space) > 0)
    return space


def settled(space: Space) -> int:
    """Pico-dollars spent by the status, once all ten calls are in it; before, 0."""
    figures = space.budget().get("amounts", {})
    counted: int = figures.get("spent", 0)
    return counted if space.provider("/fake/bill")["calls"] == 10 and counted == space.bill() else 0


def test_uninstalled_and_installed_again_the_budget_has_not_forgotten_what_was_spent(spent: Space) -> None:
    before = settled(spent)
    [pod] = [pod["metadata"]["name"] for pod in spent.pods("app=burst")]
    uninstall(spent.kube)
    install(spent.kube)
    spent.kubectl("rollout", "restart", "deploy/burst")
    spent.kube.until("the former pod to be gone", lambda: pod not in str(spent.pods("app=burst")))

    def doubled() -> bool:
        bill = spent.bill()
        return bill > before and spent.budget()["amounts"]["spent"] == bill

    spent.kube.until("twenty calls in the status", doubled)
