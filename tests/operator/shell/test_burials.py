"""From a new leader's lists to its ledgers: the controller over the real book."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from tests.operator.shell.fake_cluster import FakeCluster
from tests.operator.shell.shop import PODS, pod
from tests.simulation.virtual_time import run

from keelage_api.sync import Statement, SyncRequest
from keelage_api.window import Every
from keelage_dev.memory_store import MemoryStore
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import LedgerRecord
from keelage_operator.core.price_book import price_book
from keelage_operator.core.speakers import Speakers
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.apply import Applier
from keelage_operator.shell.books import Books
from keelage_operator.shell.catalog import Catalog
from keelage_operator.shell.controller import RETRY_S, Controller
from keelage_operator.shell.gather import Gatherer
from keelage_operator.shell.ledger_book import LedgerBook
from keelage_operator.shell.ledger_store import LedgerKey, Stored, StoreUnavailable
from keelage_operator.shell.measures import Measures
from keelage_operator.shell.quota_book import QuotaBook
from keelage_operator.shell.refusals import Refusals
from keelage_operator.shell.work_queue import WorkQueue

DAY, HOUR = "shop/day", "shop/hour"
BUDGETS = {
    DAY: BudgetInForce(DAY, uid="1", limit=1000, every=Every.DAY, zone="UTC", hard=True),
    HOUR: BudgetInForce(HOUR, uid="2", limit=1000, every=Every.HOUR, zone="UTC", hard=True),
}


class Store(MemoryStore):
    down = False

    async def replace(self, key: LedgerKey, record: LedgerRecord, version: str) -> Stored:
        if self.down:
            raise StoreUnavailable("no answer")
        return await super().replace(key, record, version)

    def record(self, budget: str) -> LedgerRecord:
        (record,) = [stored.record for key, stored in self._stored.items() if key.budget == budget]
        return record


def clock() -> float:
    return asyncio.get_running_loop().time()


def wall() -> datetime:
    return datetime(2026, 11, 21, 12, tzinfo=UTC) + timedelta(seconds=clock())


async def book_of(store: Store) -> LedgerBook:
    book = LedgerBook(store, wall, clock)
    book.set_budgets(BUDGETS, {})
    await book.lead()
    return book


async def hire(book: LedgerBook, uid: str) -> None:
    """A pod that is granted 100 on both budgets and tells that it spent 30 of the day's."""
    spent = Statement(DAY, "", 1, spent=30, want=70, min_want=70)
    untouched = Statement(HOUR, "", 1, want=100, min_want=100)
    await book.sync(PodIdentity("shop", uid, uid), SyncRequest("1", statements=(spent, untouched)))


def controller_of(cluster: FakeCluster, book: LedgerBook) -> Controller:
    catalog, speakers = Catalog(price_book()), Speakers()
    refusals, quotas = Refusals(book, lambda _: None), QuotaBook(clock)
    return Controller(
        cluster,
        catalog,
        Gatherer(catalog, speakers, book, refusals, quotas, clock, wall),
        Applier(cluster, catalog, clock, wall),
        Books(book, refusals, quotas),
        speakers,
        WorkQueue(clock, asyncio.sleep),
        Measures(),
        clock,
    )


def test_a_new_leader_settles_every_ledger_of_pods_that_vanished_while_nobody_led() -> None:
    async def scene() -> None:
        cluster, store = FakeCluster(), Store()
        cluster.add(f"{PODS}/web-1", pod("here"))
        before = await book_of(store)
        await hire(before, "here")
        await hire(before, "vanished")
        await before.stop_leading()

        book = await book_of(store)
        assert book.pods() == {"here", "vanished"}
        controller = controller_of(cluster, book)
        await controller.list_once()
        running = asyncio.create_task(controller.run())
        await controller.led()
        await asyncio.sleep(1)
        for budget, settled, forfeited in ((DAY, 30, 70), (HOUR, 0, 100)):
            account = store.record(budget).account()
            assert (list(account.rows), account.settled, account.forfeited) == (["here.1"], settled, forfeited)
        running.cancel()
        await asyncio.wait([running])
        await book.stop_leading()

    run(scene())


def test_a_vanished_pod_is_settled_when_the_store_answers_again() -> None:
    async def scene() -> None:
        cluster, store = FakeCluster(), Store()
        book = await book_of(store)
        await hire(book, "vanished")
        store.down = True
        controller = controller_of(cluster, book)
        await controller.list_once()
        running = asyncio.create_task(controller.run())
        await controller.led()
        await asyncio.sleep(3 * RETRY_S)
        assert list(store.record(DAY).account().rows) == ["vanished.1"]
        store.down = False
        await asyncio.sleep(2 * RETRY_S)
        assert store.record(DAY).account().rows == {}
        running.cancel()
        await asyncio.wait([running])
        await book.stop_leading()

    run(scene())
