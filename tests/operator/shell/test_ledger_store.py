"""What every ledger store must do. The Kubernetes one passes the same contract on a real API server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.operator.shell.fake_cluster import FakeCluster

from keelage_api.sync import By
from keelage_dev.memory_store import MemoryStore
from keelage_operator.core.ledger import Account, LedgerRecord, Row
from keelage_operator.shell.kubernetes_store import KubernetesStore
from keelage_operator.shell.ledger_store import LedgerKey, LedgerStore, StoreConflict, StoreFull, StoreUnreadable
from keelage_operator.shell.sqlite_store import SqliteStore

KEY = LedgerKey("shop/month", "2026-11")
SHARDS = tuple(LedgerKey("shop/user", "2026-11.tokens.u", shard) for shard in (0, 3, 31))
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


async def test_shards_of_a_window_are_kept_apart(store: LedgerStore) -> None:
    records = {
        key: replace(
            RECORD,
            epoch=key.shard,
            floor=7,
            seen={"pod.1": 5},
            shares={By.USER: {"alice": 5}, By.MODEL: {"claude-haiku-4-5": 7}},
            accounts={"": Account(recovered=7), "alice/~0f": Account(settled=3, forfeited=2)},
        )
        for key in SHARDS
    }
    for key, record in records.items():
        await store.create(key, record)
    assert set(await store.list_keys()) == set(SHARDS)
    for key, record in records.items():
        loaded = await store.load(key)
        assert loaded is not None
        assert loaded.record == record
        await store.delete(key, loaded.version)
    assert await store.list_keys() == ()


@pytest.mark.parametrize("store", ["sqlite", "kubernetes"], indirect=True)
async def test_a_record_that_no_store_should_take_is_refused_before_it_is_sent(store: LedgerStore) -> None:
    accounts = {f"{number:064d}": Account(settled=number) for number in range(15_000)}
    with pytest.raises(StoreFull, match="shop/month 2026-11 would have"):
        await store.create(KEY, replace(RECORD, accounts=accounts))
    assert await store.load(KEY) is None


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


async def test_a_record_of_a_newer_version_in_the_file_is_not_believed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "ledger.sqlite")
    await store.create(KEY, RECORD)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as file, file:
        file.execute("UPDATE ledger SET record = ?", (b'{"spent_by_a_later_rule": 7}',))
    with pytest.raises(StoreUnreadable, match=f"ledger {KEY} .*if a newer keelage wrote it, run that one"):
        await store.load(KEY)
    store.close()
