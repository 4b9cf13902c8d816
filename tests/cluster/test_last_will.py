"""A pod that ends without a word, on the real kubelet: its last will settles the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.cluster.kube import BUDGET, ROUTE, KubectlFailed, Space, program
from tests.cluster.processes import process_of, stopped
from tests.cluster.programs import BURST

pytestmark = pytest.mark.cluster

LIMIT = "1.00"


def usd(status: Mapping[str, Any], field: str) -> float:
    return float(str(status.get(field) or "0"))


def test_a_pod_whose_sidecar_is_killed_in_silence_forfeits_nothing(space: Space) -> None:
    space.apply(ROUTE.replace("NAMESPACE", space.name))
    space.apply(BUDGET.replace("AMOUNT", LIMIT))
    space.apply(program("burst", 1, BURST, env='{name: CALLS, value: "20"}'))
    space.ready("burst", 1)
    (pod,) = space.pods("app=burst")
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]

    def rested() -> Mapping[str, Any] | None:
        status = space.budget()
        told = "RESULT" in space.kubectl("logs", name, "-c", "app", "--tail=5")
        return status if told and usd(status, "reserved") == 0 and usd(status, "leased") > 0 else None

    space.kube.until("calls that are done and a lease that is held", rested, 120)
    with stopped(process_of(uid)):
        space.kubectl("delete", "deployment", "burst", "--wait=false")

        def gone() -> bool:
            try:
                space.json("get", "pod", name)
            except KubectlFailed as failure:
                return "NotFound" in str(failure)
            return False

        space.kube.until("the pod to be gone", gone, 60)

    def settled() -> Mapping[str, Any] | None:
        status = space.budget()
        return status if usd(status, "leased") == 0 else None

    status = space.kube.until("the ledger to be settled", settled, 60)
    bill = float(space.provider("/fake/bill")["usd"])
    assert usd(status, "forfeited") == 0, status
    assert bill > 0
    # Nothing was in flight, so the will is exact.
    assert abs(usd(status, "spent") - bill) <= 1e-6, (bill, status)
