"""Which budgets can serve no more in their window, by what sidecars were told; for the status only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from keelage_api.sync import Right, SyncRequest
from keelage_operator.core.identity import PodIdentity


class Ledgers(Protocol):
    """The ledger book, as sidecars meet it."""

    async def sync(self, pod: PodIdentity, request: SyncRequest) -> tuple[Right, ...]: ...


class Refusals:
    """Stands between the control channel and the ledgers, changes nothing, and takes note."""

    def __init__(self, ledgers: Ledgers, changed: Callable[[str], None]) -> None:
        """`changed` is told the name of a budget about which something is new."""
        self._ledgers = ledgers
        self._changed = changed
        self._refused: dict[str, tuple[str, int]] = {}
        """By budget: window and limit under which a call could not be served. Bounded by budgets in force."""

    async def sync(self, pod: PodIdentity, request: SyncRequest) -> tuple[Right, ...]:
        rights = await self._ledgers.sync(pod, request)
        for right in rights:
            under = (right.window, right.limit)
            # Where each value has a limit of its own, one that is spent does not exhaust the budget.
            if right.exhausted and not right.value and self._refused.get(right.budget) != under:
                self._refused[right.budget] = under
                self._changed(right.budget)
        return rights

    def refused(self, budget: str, window: str, limit: int) -> bool:
        """Whether a call was refused for good in that window under that limit."""
        return self._refused.get(budget) == (window, limit)
