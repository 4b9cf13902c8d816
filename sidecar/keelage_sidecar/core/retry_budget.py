"""How many calls may be tried again: so that a provider that is dying is not sent a multiple of its load. Pure."""

from __future__ import annotations

from keelage_api.proxy_config import RetryBudget
from keelage_sidecar.core.tally import Tally

WINDOW_S = 10.0
"""As in Gateway API's budgets and in Linkerd's."""


class RetryLedger:
    """Calls to one model of one backend, and how many attempts more they have caused."""

    __slots__ = ("_recent", "refused")

    def __init__(self) -> None:
        self._recent = Tally(WINDOW_S)
        self.refused = 0
        """Retries, ever."""

    def called(self, now_s: float) -> None:
        """A call has its first attempt here."""
        self._recent.add(now_s, 1, 0)

    def fits(self, budget: RetryBudget, now_s: float) -> bool:
        calls, retries = self._recent.read(now_s)
        return retries < max(budget.min_retries, calls * budget.percent // 100)

    def retried(self, now_s: float) -> None:
        """One more attempt; the caller has seen that it fits."""
        self._recent.add(now_s, 0, 1)
