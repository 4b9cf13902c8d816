"""The ledgers that a leader has in hand, by key and by budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keelage_operator.shell.ledger_page import LedgerPage
from keelage_operator.shell.ledger_store import LedgerKey


class LedgerPages(Mapping[LedgerKey, LedgerPage]):
    def __init__(self) -> None:
        self._pages: dict[LedgerKey, LedgerPage] = {}
        self._keys: dict[str, set[LedgerKey]] = {}
        """By budget: a change of one of a thousand budgets must not look through the ledgers of all."""

    def __getitem__(self, key: LedgerKey) -> LedgerPage:
        return self._pages[key]

    def __iter__(self) -> Iterator[LedgerKey]:
        return iter(self._pages)

    def __len__(self) -> int:
        return len(self._pages)

    def add(self, page: LedgerPage) -> None:
        self._pages[page.key] = page
        self._keys.setdefault(page.key.budget, set()).add(page.key)

    def drop(self, page: LedgerPage) -> None:
        """Nothing if another one has its place, or none."""
        if self._pages.get(page.key) is not page:
            return
        del self._pages[page.key]
        keys = self._keys[page.key.budget]
        keys.discard(page.key)
        if not keys:
            del self._keys[page.key.budget]

    def of_budget(self, name: str) -> list[LedgerPage]:
        """Of all its windows and shards."""
        return [self._pages[key] for key in self._keys.get(name, ())]

    def clear(self) -> None:
        self._pages.clear()
        self._keys.clear()
