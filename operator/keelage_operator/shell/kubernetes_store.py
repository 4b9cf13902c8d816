"""Ledgers as LLMLedger objects: etcd behind the API server keeps them, resourceVersion is the compare-and-swap."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

import msgspec

from keelage_api.v1alpha1 import llmledger
from keelage_api.v1alpha1.llmledger import ledger_name
from keelage_api.v1alpha1.metadata import API_VERSION, GROUP, VERSION
from keelage_operator.core.ledger import LedgerRecord
from keelage_operator.core.shard import SHARDS
from keelage_operator.shell.cluster import Cluster, Json, Refused, Unreachable, list_all, member
from keelage_operator.shell.ledger_store import (
    LedgerKey,
    StoreConflict,
    Stored,
    StoreGone,
    StoreUnavailable,
    StoreUnreadable,
    check_size,
)

LOG = logging.getLogger(__name__)

AT_ONCE = 16
"""Requests: what waits, waits here and gathers. A thousand at the API server would keep the leader's own renewals from
being answered, and whoever leads ends."""

PLURAL = "llmledgers"
BUDGET_LABEL = "keelage.dev/budget"


class KubernetesStore:
    """A LedgerStore. No owner reference to the budget: who deletes and re-creates it has still spent."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.writes = 0
        self.conflicts = 0

    async def load(self, key: LedgerKey) -> Stored | None:
        try:
            async with self._slots:
                return _stored(key, await self._cluster.get(_path(key)))
        except Refused as error:
            if error.not_found:
                return None
            raise StoreUnavailable(f"ledger {key}: {error}") from error
        except Unreachable as error:
            raise StoreUnavailable(str(error)) from error

    async def list_keys(self) -> tuple[LedgerKey, ...]:
        try:
            items = await list_all(self._cluster, f"/apis/{GROUP}/{VERSION}/{PLURAL}")
        except (Refused, Unreachable) as error:
            raise StoreUnavailable(f"ledgers cannot be listed: {error}") from error
        return tuple(sorted(key for item in items if (key := key_of(item)) is not None))

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        namespace, _ = _split(key)
        try:
            async with self._slots:
                return await self._write(key, self._cluster.create(_collection(namespace), _object(key, record)))
        except _Missing as error:
            raise StoreGone(f"ledger {key}: namespace {namespace} is gone") from error

    async def replace(self, key: LedgerKey, record: LedgerRecord, version: str) -> Stored:
        try:
            async with self._slots:
                return await self._write(key, self._cluster.replace(_path(key), _object(key, record, version)))
        except _Missing as error:
            self.conflicts += 1
            raise StoreConflict(f"ledger {key} was deleted") from error

    async def delete(self, key: LedgerKey, version: str) -> None:
        body: Json = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"resourceVersion": version},
        }
        try:
            async with self._slots:
                await self._cluster.delete(_path(key), body)
        except Refused as error:
            if error.not_found:
                return
            raise self._failure(key, error) from error
        except Unreachable as error:
            raise StoreUnavailable(str(error)) from error

    async def _write(self, key: LedgerKey, call: Awaitable[Json]) -> Stored:
        try:
            written = await call
        except Refused as error:
            if error.not_found:
                raise _Missing from error
            raise self._failure(key, error) from error
        except Unreachable as error:
            raise StoreUnavailable(str(error)) from error
        self.writes += 1
        return _stored(key, written)

    def _failure(self, key: LedgerKey, error: Refused) -> StoreConflict | StoreUnavailable:
        text = f"ledger {key}: {error}"
        if error.conflict:
            self.conflicts += 1
            return StoreConflict(text)
        return StoreUnavailable(text)


class _Missing(Exception):
    """404 to a write; never leaves this module."""


def _split(key: LedgerKey) -> tuple[str, str]:
    namespace, _, budget = key.budget.partition("/")
    return namespace, budget


def _collection(namespace: str) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"


def _path(key: LedgerKey) -> str:
    namespace, budget = _split(key)
    return f"{_collection(namespace)}/{_name(budget, key)}"


def _name(budget: str, key: LedgerKey) -> str:
    return ledger_name(budget, key.window, key.shard if key.valued else None)


def key_of(item: Json) -> LedgerKey | None:
    """None: its name is not made of its budget, window and shard, so that it cannot be the operator's."""
    metadata, budget, shard = member(item, "metadata"), str(item.get("budget")), item.get("shard", 0)
    key = LedgerKey(
        f"{metadata.get('namespace')}/{budget}", str(item.get("window")), shard if isinstance(shard, int) else -1
    )
    if metadata.get("name") != _name(budget, key) or not 0 <= key.shard < (SHARDS if key.valued else 1):
        LOG.error("LLMLedger %s/%s is not the operator's: delete it", metadata.get("namespace"), metadata.get("name"))
        return None
    return key


def _object(key: LedgerKey, record: LedgerRecord, version: str = "") -> Json:
    namespace, budget = _split(key)
    metadata: Json = {
        "name": _name(budget, key),
        "namespace": namespace,
        "labels": {BUDGET_LABEL: budget},
    }
    if version:
        metadata["resourceVersion"] = version
    check_size(key, len(msgspec.json.encode(record)))
    found: Json = {
        "apiVersion": API_VERSION,
        "kind": llmledger.KIND,
        "metadata": metadata,
        "budget": budget,
        "window": key.window,
        "record": msgspec.to_builtins(record),
    }
    return found | {"shard": key.shard} if key.valued else found


def _stored(key: LedgerKey, found: Json) -> Stored:
    """A record that cannot be read is never taken for an empty one."""
    try:
        record = msgspec.convert(found.get("record"), LedgerRecord)
    except msgspec.ValidationError as error:
        raise _unreadable(key, str(error)) from error
    fault = _fault(record)
    if fault:
        raise _unreadable(key, fault)
    return Stored(record, str(member(found, "metadata").get("resourceVersion", "")))


def _fault(record: LedgerRecord) -> str:
    """What the operator never writes; empty: nothing."""
    if record.starts_at.tzinfo is None or record.ends_at.tzinfo is None:
        return "record.starts_at or record.ends_at names no time zone"
    least = min(record.epoch, record.floor)
    for account in record.accounts.values():
        least = min(least, account.settled, account.settled_uncertain, account.forfeited, account.recovered)
        for row in account.rows.values():
            least = min(least, row.granted, row.spent, row.uncertain, row.reserved)
    return "an amount in the record is negative" if least < 0 else ""


def _unreadable(key: LedgerKey, why: str) -> StoreUnreadable:
    namespace, budget = _split(key)
    return StoreUnreadable(
        f"ledger {key} cannot be read: {why}: if a newer operator wrote it, end the upgrade or the rollback; if it is"
        f" damaged, delete the LLMLedger {namespace}/{_name(budget, key)} to have it rebuilt from the budget's status"
        " (take the chart's ValidatingAdmissionPolicyBinding for ledgers away for that moment)"
    )
