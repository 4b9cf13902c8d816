"""The rate at which a budget is spent, as the book finds it in what it is told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from tests.simulation.virtual_time import run

from keelage_api.sync import Statement, SyncRequest
from keelage_api.window import Every
from keelage_dev.memory_store import MemoryStore
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import Checkpoint
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.ledger_book import LedgerBook

BUDGET = BudgetInForce("shop/day", uid="u", limit=10**15, every=Every.DAY, zone="UTC", hard=True)
POD = PodIdentity("shop", "a-0", "a")
BEGIN = datetime(2026, 11, 21, 12, tzinfo=UTC)


def book_with(checkpoint: Checkpoint | None = None) -> LedgerBook:
    clock = asyncio.get_running_loop().time
    book = LedgerBook(MemoryStore(), lambda: BEGIN + timedelta(seconds=clock()), clock)
    book.set_budgets({BUDGET.name: BUDGET}, {BUDGET.name: checkpoint} if checkpoint is not None else {})
    return book


def burn_of(book: LedgerBook) -> int:
    found = book.figures(BUDGET.name)
    assert found is not None
    return found.burn


def test_steady_spending_is_shown_per_hour() -> None:
    async def story() -> None:
        book = book_with()
        await book.lead()
        for number in range(1, 300):
            spent = (number - 1) * 2 * 10**9
            told = Statement(BUDGET.name, "", number, granted=spent, spent=spent, want=10**10, min_want=1)
            await book.sync(POD, SyncRequest("x", statements=(told,)))
            burn_of(book)
            await asyncio.sleep(2.0)
        assert burn_of(book) == pytest.approx(3600 * 10**9, rel=0.05)
        await book.stop_leading()

    run(story())


def test_what_a_checkpoint_counts_is_no_spending_of_late() -> None:
    async def story() -> None:
        book = book_with(Checkpoint("2026-11-21", 10**14))
        await book.lead()
        assert burn_of(book) == 0
        await asyncio.sleep(5.0)
        told = Statement(BUDGET.name, "2026-11-21", 1, granted=10**14, spent=10**13)
        await book.sync(POD, SyncRequest("x", statements=(told,)))
        assert burn_of(book) == 0
        await asyncio.sleep(5.0)
        assert burn_of(book) == 0
        await book.stop_leading()

    run(story())
