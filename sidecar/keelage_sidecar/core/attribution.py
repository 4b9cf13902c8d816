"""Who spent a budget's money: by model, feature and user, for the lists of the greatest in its status.

Counted when an attempt is settled, told to the ledger's keeper with the statements, and bounded: a name that
applications may invent never costs more than its place in a short list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keelage_api.sync import By, Share

NAMES_MAX = 64
"""Per budget, window and dimension; the greatest ten are shown."""
OTHER = "(other)"
NOBODY = "(none)"
"""Of calls that name no feature or user."""
BUDGETS_MAX = 128
"""More than a pod falls under."""
WINDOWS_MAX = 2
"""Of one budget: calls that began in the window before may end in this one."""


@dataclass(frozen=True, slots=True)
class Spender:
    model: str
    feature: str
    user: str


class Attribution:
    """Cumulative amounts in each budget's unit."""

    def __init__(self) -> None:
        self._amounts: dict[str, dict[str, dict[By, dict[str, int]]]] = {}
        """By budget and window."""
        self._grown: set[tuple[str, str, By, str]] = set()
        self._telling: set[tuple[str, str, By, str]] = set()

    def count(self, paid: Iterable[tuple[str, str, int]], spender: Spender) -> None:
        """Budget, window and amount of each account that an attempt was charged to."""
        names = {By.MODEL: spender.model, By.FEATURE: spender.feature, By.USER: spender.user}
        for budget, window, amount in paid:
            if amount <= 0:
                continue
            period = self._period(budget, window)
            if period is None:
                continue
            for by, name in names.items():
                amounts = period[by]
                known = name or NOBODY
                if known not in amounts and len(amounts) >= NAMES_MAX - 1:
                    known = OTHER
                amounts[known] = amounts.get(known, 0) + amount
                self._grown.add((budget, window, by, known))

    def tell(self) -> tuple[Share, ...]:
        """What grew since it was told and heard last."""
        self._telling |= self._grown
        self._grown = set()
        return tuple(
            Share(budget, window, by, name, self._amounts[budget][window][by][name])
            for budget, window, by, name in sorted(self._telling)
        )

    def heard(self, tell_all: bool) -> None:
        """The last `tell` arrived; `tell_all`: whoever heard it has heard nothing before."""
        self._telling = set()
        if tell_all:
            self._grown |= {
                (budget, window, by, name)
                for budget, windows in self._amounts.items()
                for window, period in windows.items()
                for by, amounts in period.items()
                for name in amounts
            }

    def _period(self, budget: str, window: str) -> dict[By, dict[str, int]] | None:
        windows = self._amounts.get(budget)
        if windows is None:
            if len(self._amounts) >= BUDGETS_MAX:
                return None
            windows = self._amounts[budget] = {}
        period = windows.get(window)
        if period is None:
            if len(windows) >= WINDOWS_MAX:
                oldest = next(iter(windows))
                del windows[oldest]
                for keys in (self._grown, self._telling):
                    keys -= {key for key in keys if key[:2] == (budget, oldest)}
            period = windows[window] = {by: {} for by in By}
        return period
