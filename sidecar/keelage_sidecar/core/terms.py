"""A budget or rate in force, as the holder needs it: both are accounts, with limits that others keep."""

from __future__ import annotations

import msgspec

from keelage_api.account import RATE_WINDOW, kind_of, window_kind
from keelage_api.proxy_config import BudgetTerms, Per, Quota, Unit


class Terms(msgspec.Struct, frozen=True):
    name: str
    """`<namespace>/<budget>` or `Quota.name`."""
    hard: bool
    per: tuple[Per, ...] = ()
    """The limit holds for each value of these: an account for each, opened when a call of its asks."""
    unit: Unit = Unit.PICODOLLARS
    rate: Quota | None = None
    """It refills, and is nobody's money: while no leader answers the sidecar keeps it for itself."""

    @property
    def valued(self) -> bool:
        return bool(self.per)

    def fits(self, window: str) -> bool:
        """Whether amounts in that window are of these terms: a budget may have counted something else before."""
        if self.rate is not None:
            return window == RATE_WINDOW
        return kind_of(window) == window_kind(self.unit, self.per)

    @staticmethod
    def of_budget(budget: BudgetTerms) -> Terms:
        return Terms(budget.name, budget.hard, budget.per, budget.unit)

    @staticmethod
    def of_rate(quota: Quota) -> Terms:
        return Terms(quota.name, True, quota.per, quota.unit, quota)
