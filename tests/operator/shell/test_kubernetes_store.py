"""What is peculiar to the API server; what all stores do is in test_ledger_store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from tests.operator.shell.fake_cluster import FakeCluster, Fault

from keelage_operator.core.ledger import Account, LedgerRecord, Row
from keelage_operator.shell.cluster import Json
from keelage_operator.shell.kubernetes_store import AT_ONCE, KubernetesStore
from keelage_operator.shell.ledger_store import LedgerKey, StoreConflict, StoreGone, StoreUnavailable, StoreUnreadable

KEY = LedgerKey("shop/month", "2026-11-21T14Z")
PATH = "/apis/keelage.dev/v1alpha1/namespaces/shop/llmledgers/month-2026-11-21t14z"
HOUR: Json = {"starts_at": "2026-11-21T14:00:00Z", "ends_at": "2026-11-21T15:00:00Z"}
RECORD = LedgerRecord(
    starts_at=datetime(2026, 11, 21, 14, tzinfo=UTC),
    ends_at=datetime(2026, 11, 21, 15, tzinfo=UTC),
    epoch=3,
    accounts={"": Account(settled=8_999_999_123_456_789_012, rows={"uid.1": Row(granted=5, spent=2, seq=9)})},
)


async def test_a_record_comes_back_as_it_was_stored() -> None:
    cluster = FakeCluster()
    store = KubernetesStore(cluster)
    created = await store.create(KEY, RECORD)

    loaded = await store.load(KEY)
    assert loaded == created
    assert loaded is not None
    assert loaded.record == RECORD
    assert await store.list_keys() == (KEY,)
    assert cluster.objects[PATH]["kind"] == "LLMLedger"
    assert "ownerReferences" not in str(cluster.objects[PATH])


async def test_a_write_at_an_old_version_conflicts() -> None:
    store = KubernetesStore(FakeCluster())
    first = await store.create(KEY, RECORD)
    second = await store.replace(KEY, RECORD, first.version)

    with pytest.raises(StoreConflict):
        await store.replace(KEY, RECORD, first.version)
    with pytest.raises(StoreConflict):
        await store.create(KEY, RECORD)
    with pytest.raises(StoreConflict):
        await store.delete(KEY, first.version)
    await store.delete(KEY, second.version)
    await store.delete(KEY, second.version)
    assert await store.load(KEY) is None
    with pytest.raises(StoreConflict):
        await store.replace(KEY, RECORD, second.version)
    assert (store.writes, store.conflicts) == (2, 4)


@pytest.mark.parametrize("fault", list(Fault))
async def test_an_answer_that_never_came_is_no_success(fault: Fault) -> None:
    cluster = FakeCluster(fail_at=0, fault=fault)
    store = KubernetesStore(cluster)

    with pytest.raises(StoreUnavailable):
        await store.create(KEY, RECORD)
    assert (await store.load(KEY) is None) == (fault is Fault.BEFORE)


async def test_a_ledger_that_cannot_be_read_is_not_an_empty_one() -> None:
    cluster = FakeCluster()
    cluster.add(PATH, {"kind": "LLMLedger", "record": {"epoch": "many"}})

    with pytest.raises(StoreUnavailable, match="delete the LLMLedger"):
        await KubernetesStore(cluster).load(KEY)


async def test_in_a_namespace_that_was_deleted_nothing_can_be_kept() -> None:
    cluster = FakeCluster(deleted_namespaces={"shop"})
    store = KubernetesStore(cluster)

    with pytest.raises(StoreGone, match="namespace shop is gone"):
        await store.create(KEY, RECORD)
    with pytest.raises(StoreConflict, match="was deleted"):
        await store.replace(KEY, RECORD, "7")


@pytest.mark.parametrize(
    "record",
    [
        {"starts_at": "2026-11-21T14:00:00", "ends_at": "2026-11-21T15:00:00Z"},
        {"starts_at": "2026-11-21T14:00:00Z", "ends_at": "2026-11-21T15:00:00Z", "floor": -1},
        HOUR | {"accounts": {"": {"settled": -1}}},
        HOUR | {"accounts": {"alice": {"rows": {"a.1": {"granted": -1}}}}},
        HOUR | {"settled": 7},
        HOUR | {"accounts": {"": {"settled": 7, "spent_by_a_later_rule": 7}}},
    ],
)
async def test_a_record_that_the_operator_never_writes_is_not_believed(record: Json) -> None:
    cluster = FakeCluster()
    cluster.add(PATH, {"kind": "LLMLedger", "record": record})
    with pytest.raises(StoreUnreadable, match=r"if a newer operator wrote it.*delete the LLMLedger shop/"):
        await KubernetesStore(cluster).load(KEY)


async def test_a_shard_has_an_object_of_its_own() -> None:
    cluster = FakeCluster()
    store = KubernetesStore(cluster)
    keys = [LedgerKey("shop/user", "2026-11.tokens.uf", shard) for shard in (3, 31)]
    for key in keys:
        await store.create(key, RECORD)
    home = "/apis/keelage.dev/v1alpha1/namespaces/shop/llmledgers"
    assert [cluster.objects[f"{home}/user-2026-11.tokens.uf-{shard}"]["shard"] for shard in (3, 31)] == [3, 31]
    assert await store.list_keys() == tuple(keys)
    cluster.objects[f"{home}/user-2026-11.tokens.uf-3"]["shard"] = 32
    cluster.objects[f"{home}/user-2026-11.tokens.uf-31"]["shard"] = "31"
    assert await store.list_keys() == (), "nobody would ask for them"


async def test_a_ledger_whose_name_says_something_else_is_not_listed() -> None:
    cluster = FakeCluster()
    cluster.add(PATH, {"kind": "LLMLedger", "budget": "../../../secrets", "window": "2026-11-21T14Z", "record": {}})
    assert await KubernetesStore(cluster).list_keys() == ()


class BusyCluster(FakeCluster):
    """Answers nobody until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.asking = 0

    async def create(self, path: str, body: Json) -> Json:
        self.asking += 1
        await self.free.wait()
        return await super().create(path, body)


async def test_a_busy_api_server_is_asked_no_more_at_once_than_leaves_room_for_the_leader() -> None:
    cluster = BusyCluster()
    store = KubernetesStore(cluster)
    keys = [LedgerKey(f"shop/budget-{number}", "2026-11-21T14Z") for number in range(10 * AT_ONCE)]
    async with asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(store.create(key, RECORD))
        for _ in keys:
            await asyncio.sleep(0)
        assert cluster.asking == AT_ONCE
        cluster.free.set()
    assert store.writes == len(keys)
