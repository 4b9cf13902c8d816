"""The operator against a real API server: its store's compare-and-swap, its leadership, how little it writes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.aio import client, config
from msgspec.structs import replace
from tests.cluster.conftest import leader
from tests.cluster.kube import BUDGET, ROUTE, SYSTEM, Kube, Space
from tests.cluster.processes import OPERATOR, process_of, stopped

from keelage_operator.core.ledger import Account, LedgerRecord, Row
from keelage_operator.shell.cluster import KubernetesCluster
from keelage_operator.shell.kubernetes_store import KubernetesStore
from keelage_operator.shell.ledger_store import LedgerKey, StoreConflict

pytestmark = pytest.mark.cluster

RECORD = LedgerRecord(
    starts_at=datetime(2026, 11, 21, 14, tzinfo=UTC),
    ends_at=datetime(2026, 11, 21, 15, tzinfo=UTC),
    epoch=3,
    accounts={
        "": Account(
            settled=8_999_999_123_456_789_012,
            rows={"4c0f3f5e-0000-4000-8000-000000000000.a1": Row(granted=9 * 10**18, spent=2, seq=9)},
        )
    },
)


@pytest.fixture
async def store(space: Space) -> AsyncIterator[KubernetesStore]:
    """As the operator's service account: nobody else may write ledgers."""
    settings = client.Configuration()
    await config.load_kube_config(config_file=space.kube.kubeconfig, client_configuration=settings)  # type: ignore[no-untyped-call]
    api = client.ApiClient(configuration=settings)
    api.set_default_header("Impersonate-User", f"system:serviceaccount:{SYSTEM}:keelage")  # type: ignore[no-untyped-call]
    cluster = KubernetesCluster(api)
    yield KubernetesStore(cluster)
    await cluster.close()


async def test_of_many_writers_at_one_version_exactly_one_wins(space: Space, store: KubernetesStore) -> None:
    key = LedgerKey(f"{space.name}/month", "2026-11-21T14Z")
    first = await store.create(key, RECORD)
    assert first.record == RECORD
    assert await store.load(key) == first
    assert key in await store.list_keys()

    outcomes = await asyncio.gather(
        *(store.replace(key, replace(RECORD, epoch=number), first.version) for number in range(10, 20)),
        return_exceptions=True,
    )
    won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(won) == 1
    assert all(isinstance(each, StoreConflict) for each in outcomes if each is not won[0])
    assert await store.load(key) == won[0]

    with pytest.raises(StoreConflict):
        await store.create(key, RECORD)
    with pytest.raises(StoreConflict):
        await store.delete(key, first.version)
    await store.delete(key, won[0].version)
    assert await store.load(key) is None
    with pytest.raises(StoreConflict):
        await store.replace(key, RECORD, won[0].version)


def status_writes(kube: Kube) -> float:
    """Statuses that the leader wrote since it started."""
    text = kube.kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{leader(kube)}:8080/proxy/metrics")
    found = re.search(r"^keelage_status_writes_total (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found.group(1))


def accepted(space: Space) -> Any:
    """The budget's status once it tells of its newest generation."""
    found = space.json("get", "llmbudget", "cap")
    status = found.get("status", {})
    return status if status.get("observedGeneration") == found["metadata"]["generation"] else None


def test_when_the_leader_is_killed_another_goes_on(space: Space) -> None:
    kube = space.kube
    space.apply(BUDGET.replace("AMOUNT", "5.00"))
    kube.until("the budget's status", lambda: accepted(space))
    before = leader(kube)
    kube.kubectl("-n", SYSTEM, "delete", "pod", before, "--grace-period=0", "--force")
    space.apply(BUDGET.replace("AMOUNT", "6.00"))

    kube.until("another leader", lambda: leader(kube) not in ("", before), 40)
    status = kube.until("the changed limit", lambda: (accepted(space) or {}).get("limit") == "6.00 USD", 40)
    assert status
    kube.kubectl("-n", SYSTEM, "rollout", "status", "deploy/keelage", "--timeout=120s")


def test_a_leader_that_stood_still_too_long_starts_anew_in_its_container(space: Space) -> None:
    kube = space.kube
    before = leader(kube)
    pod = kube.json("-n", SYSTEM, "get", "pod", before)
    with stopped(process_of(pod["metadata"]["uid"], OPERATOR)):
        kube.until("another leader", lambda: leader(kube) not in ("", before), 40)

    def serves_again() -> bool:
        _, ended, after = kube.kubectl("-n", SYSTEM, "logs", before).rpartition("leadership ended")
        return bool(ended) and '"serving"' in after

    kube.until("the former leader to serve again", serves_again, 60)
    after = kube.json("-n", SYSTEM, "get", "pod", before)["status"]["containerStatuses"][0]
    assert after["restartCount"] == pod["status"]["containerStatuses"][0]["restartCount"]
    kube.kubectl("-n", SYSTEM, "rollout", "status", "deploy/keelage", "--timeout=120s")


def test_an_object_that_changed_in_nothing_that_matters_is_not_written(space: Space) -> None:
    kube = space.kube
    space.apply(ROUTE.replace("NAMESPACE", space.name))
    space.apply(BUDGET.replace("AMOUNT", "5.00"))
    kube.until("the budget's status", lambda: accepted(space))
    kube.until("the route's status", lambda: space.json("get", "llmroute", "-o", "name") is not None)
    version = space.json("get", "llmbudget", "cap")["status"]
    for number in range(3):
        space.kubectl("annotate", "llmbudget", "cap", f"touched={number}", "--overwrite")
    # A change that is written comes after those that are not: when it is there, they were looked at.
    space.kubectl("patch", "llmbudget", "cap", "--type=merge", "-p", '{"spec":{"limit":{"amount":"7.00"}}}')
    status = kube.until("the changed limit", lambda: accepted(space))

    assert [each["lastTransitionTime"] for each in status["conditions"]] == [
        each["lastTransitionTime"] for each in version["conditions"]
    ]
    fields = space.kubectl("get", "llmbudget", "cap", "--show-managed-fields", "-o", "json")
    assert '"manager": "keelage"' in fields
    assert "kopf" not in fields
    assert "finalizers" not in fields
    assert status_writes(kube) > 0
