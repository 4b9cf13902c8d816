"""What every ledger store must do. The Kubernetes one passes the same contract on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.operator.shell.fake_cluster import FakeCluster

from keelage_operator.core.ledger import Account, LedgerRecord, Row
from keelage_operator.shell.kubernetes_store import KubernetesStore
from keelage_operator.shell.ledger_store import LedgerKey, LedgerStore, MemoryStore, StoreConflict
from keelage_operator.shell.sqlite_store import SqliteStore

KEY = LedgerKey("shop/month", "2026-11")
RECORD = LedgerRecord(
    starts_at=datetime(2026, 11, 1, tzinfo=UTC),
    ends_at=datetime(2026, 12, 1, tzinfo=UTC),
    epoch=3,
    accounts={"": Account(rows={"pod.1": Row(granted=9 * 10**18, spent=1)})},
)
LATER = LedgerRecord(starts_at=RECORD.starts_at, ends_at=RECORD.ends_at, epoch=4)


@pytest.fixture(params=["memory", "sqlite", "kubernetes"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerStore]:
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "kubernetes":
        yield KubernetesStore(FakeCluster())
    else:
        sqlite = SqliteStore(tmp_path / "ledger.sqlite")
        yield sqlite
        sqlite.close()


async def test_what_was_created_is_loaded_and_listed(store: LedgerStore) -> None:
    assert await store.load(KEY) is None
    created = await store.create(KEY, RECORD)
    assert created.record == RECORD
    assert await store.load(KEY) == created
    assert await store.list_keys() == (KEY,)


async def test_a_key_is_created_once(store: LedgerStore) -> None:
    await store.create(KEY, RECORD)
    with pytest.raises(StoreConflict):
        await store.create(KEY, LATER)
    stored = await store.load(KEY)
    assert stored is not None
    assert stored.record == RECORD


async def test_only_the_newest_version_is_replaced(store: LedgerStore) -> None:
    first = await store.create(KEY, RECORD)
    second = await store.replace(KEY, LATER, first.version)
    assert second.version != first.version
    with pytest.raises(StoreConflict):
        await store.replace(KEY, RECORD, first.version)
    assert await store.load(KEY) == second


async def test_what_is_gone_is_not_replaced_and_its_versions_do_not_come_again(store: LedgerStore) -> None:
    first = await store.create(KEY, RECORD)
    second = await store.replace(KEY, LATER, first.version)
    with pytest.raises(StoreConflict):
        await store.delete(KEY, first.version)
    await store.delete(KEY, second.version)
    await store.delete(KEY, second.version)
    assert await store.load(KEY) is None
    with pytest.raises(StoreConflict):
        await store.replace(KEY, RECORD, second.version)
    again = await store.create(KEY, RECORD)
    assert again.version not in (first.version, second.version)
