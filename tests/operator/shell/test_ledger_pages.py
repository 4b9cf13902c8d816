"""The ledgers in hand."""

from __future__ import annotations

from datetime import UTC, datetime

from keelage_dev.memory_store import MemoryStore
from keelage_operator.shell.ledger_book import LedgerBook
from keelage_operator.shell.ledger_page import GATHER_S, LedgerPage
from keelage_operator.shell.ledger_pages import LedgerPages
from keelage_operator.shell.ledger_store import LedgerKey


def page(budget: str, window: str, shard: int = 0) -> LedgerPage:
    book = LedgerBook(MemoryStore(), lambda: datetime(2026, 11, 21, tzinfo=UTC), lambda: 0.0)
    return LedgerPage(LedgerKey(budget, window, shard), None, MemoryStore(), book, GATHER_S)


def test_pages_are_found_by_budget_until_they_are_dropped() -> None:
    pages = LedgerPages()
    november, december, other = (
        page("shop/month", "2026-11"),
        page("shop/month", "2026-12"),
        page("shop/day", "2026-11"),
    )
    for each in (november, december, other):
        pages.add(each)
    assert set(pages.of_budget("shop/month")) == {november, december}
    pages.drop(november)
    pages.drop(november)
    assert pages.of_budget("shop/month") == [december]
    assert set(pages.values()) == {december, other}
    pages.drop(december)
    assert pages.of_budget("shop/month") == []


def test_a_page_that_was_replaced_does_not_take_its_successor_along() -> None:
    pages = LedgerPages()
    former, latter = page("shop/month", "2026-11"), page("shop/month", "2026-11")
    pages.add(former)
    pages.add(latter)
    pages.drop(former)
    assert pages[latter.key] is latter
