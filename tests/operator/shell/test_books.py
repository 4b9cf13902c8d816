"""Both books as sidecars meet them: each statement goes where it belongs, and neither holds up the other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.simulation.virtual_time import run

from keelage_api.proxy_config import Quota, Unit
from keelage_api.sync import Statement, SyncRequest
from keelage_api.window import Every
from keelage_dev.memory_store import MemoryStore
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import LedgerRecord
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.books import Books
from keelage_operator.shell.ledger_book import LedgerBook, LedgerUnavailable
from keelage_operator.shell.ledger_store import LedgerKey, Stored, StoreUnavailable
from keelage_operator.shell.quota_book import QuotaBook
from keelage_operator.shell.quota_measures import QuotaMeasures
from keelage_operator.shell.refusals import Refusals

BUDGET = BudgetInForce("shop/day", uid="u", limit=1000, every=Every.DAY, zone="UTC", hard=True)
QUOTA = Quota("shop/limit:chat/main:requestsPerMinute", Unit.REQUESTS, 60, 60_000, "chat", backend="chat/main")
POD = PodIdentity("shop", "a-0", "a")
MONEY = Statement(BUDGET.name, "", 1, want=100, min_want=100)
RATE = Statement(QUOTA.name, "", 2, want=5, min_want=1)


class Store(MemoryStore):
    down = False

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        if self.down:
            raise StoreUnavailable("no answer")
        return await super().create(key, record)


class Leader:
    def __init__(self) -> None:
        def clock() -> float:
            return asyncio.get_running_loop().time()

        self.store = Store()
        self.changed: list[str] = []
        self.ledgers = LedgerBook(self.store, lambda: datetime(2026, 11, 21, 12, tzinfo=UTC), clock)
        self.refusals = Refusals(self.ledgers, self.changed.append)
        self.quotas = QuotaBook(clock)
        self.books = Books(self.ledgers, self.refusals, self.quotas)
        self.books.set_budgets({BUDGET.name: BUDGET}, {})
        self.books.set_quotas({QUOTA.name: QUOTA})


def on_virtual_time(test: Coroutine[object, object, None]) -> None:
    run(test)


def test_each_statement_is_answered_by_its_book() -> None:
    async def scene() -> None:
        leader = Leader()
        await leader.books.lead(after_nobody=True)
        rights = await leader.books.sync(POD, SyncRequest("1", statements=(RATE, MONEY)))
        assert [(right.budget, right.window, right.granted) for right in rights] == [
            (BUDGET.name, "2026-11-21", 100),
            (QUOTA.name, "rate", 5),
        ]
        assert leader.books.pods() == {"a"}
        await leader.books.pod_gone("a")
        assert leader.books.pods() == frozenset()
        await leader.books.stop_leading()

    on_virtual_time(scene())


def test_rates_go_on_while_the_ledgers_cannot_be_stored() -> None:
    async def scene() -> None:
        leader = Leader()
        await leader.books.lead(after_nobody=True)
        leader.store.down = True
        (right,) = await leader.books.sync(POD, SyncRequest("1", statements=(RATE, MONEY)))
        assert (right.budget, right.granted) == (QUOTA.name, 5)
        with pytest.raises(LedgerUnavailable):
            await leader.books.sync(POD, SyncRequest("1", statements=(MONEY,)))
        await leader.books.stop_leading()

    on_virtual_time(scene())


def test_a_rate_that_is_used_up_is_no_exhausted_budget() -> None:
    async def scene() -> None:
        leader = Leader()
        await leader.books.lead()
        leader.changed.clear()
        (right,) = await leader.books.sync(POD, SyncRequest("1", statements=(RATE,)))
        assert right.exhausted
        assert leader.changed == []
        await leader.books.stop_leading()

    on_virtual_time(scene())


@pytest.mark.parametrize("statements", [(RATE,), (MONEY,), (RATE, MONEY)])
def test_who_does_not_lead_answers_nothing(statements: tuple[Statement, ...]) -> None:
    async def scene() -> None:
        leader = Leader()
        await leader.books.lead()
        await leader.books.stop_leading()
        assert not leader.books.leading
        with pytest.raises(LedgerUnavailable):
            await leader.books.sync(POD, SyncRequest("1", statements=statements))

    on_virtual_time(scene())


def test_metrics_name_the_quotas_and_no_values() -> None:
    async def scene() -> None:
        leader = Leader()
        await leader.books.lead(after_nobody=True)
        await leader.books.sync(POD, SyncRequest("1", statements=(RATE,)))
        registry = CollectorRegistry()
        registry.register(QuotaMeasures(leader.quotas.figures))
        told = generate_latest(registry).decode()
        label = '{namespace="shop",quota="limit:chat/main:requestsPerMinute"}'
        assert f"keelage_quota_leased_total{label} 5.0\n" in told
        assert f"keelage_quota_refusals_total{label} 0.0\n" in told
        assert f"keelage_quota_values{label} 1.0\n" in told
        assert f"keelage_quota_held{label} 5.0\n" in told
        await leader.books.stop_leading()

    on_virtual_time(scene())
