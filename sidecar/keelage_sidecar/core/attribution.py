"""Who spent a budget's money: by model, feature and user, for the lists of the greatest in its status.

Counted when an attempt is settled, told to the ledger's keeper with the statements, and bounded: a name that
applications may invent never costs more than its place in a short list.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from keelage_api.sync import By, Share

NAMES_MAX = 64
"""Per budget, window and dimension; the greatest ten are shown."""
OTHER = "(other)"
NOBODY = "(none)"
"""Of calls that name no feature or user."""
BUDGETS_MAX = 128
"""More than a pod falls under."""
TOGETHER = 64
"""So many attempts are added at once, while the code that does so is in the processor's caches."""
WINDOWS_MAX = 2
"""Of one budget: calls that began in the window before may end in this one."""


class Spender(msgspec.Struct, frozen=True, gc=False):
    model: str
    feature: str
    user: str


class _Names:
    """Amounts under the names of one kind."""

    __slots__ = ("amounts", "grown")

    def __init__(self) -> None:
        self.amounts: dict[str, int] = {}
        self.grown: set[str] = set()
        """Since they were told."""

    def add(self, name: str, amount: int) -> None:
        amounts = self.amounts
        if name not in amounts and len(amounts) >= NAMES_MAX - 1:
            name = OTHER
        amounts[name] = amounts.get(name, 0) + amount
        self.grown.add(name)


class _Period:
    """One window of a budget."""

    __slots__ = ("features", "models", "users")

    def __init__(self) -> None:
        self.models, self.features, self.users = _Names(), _Names(), _Names()

    def kinds(self) -> tuple[tuple[By, _Names], ...]:
        return (By.MODEL, self.models), (By.FEATURE, self.features), (By.USER, self.users)


class Attribution:
    """Cumulative amounts in each budget's unit."""

    def __init__(self) -> None:
        self._budgets: dict[str, dict[str, _Period]] = {}
        """By name and window."""
        self._telling: set[tuple[str, str, By, str]] = set()
        self._paid: list[tuple[list[tuple[str, str, int]], Spender]] = []
        """Not added yet."""

    def count(self, paid: list[tuple[str, str, int]], spender: Spender) -> None:
        """Budget, window and amount of each account that an attempt was charged to."""
        self._paid.append((paid, spender))
        if len(self._paid) >= TOGETHER:
            self._add_paid()

    def _add_paid(self) -> None:
        for paid, spender in self._paid:
            self._add(paid, spender)
        self._paid.clear()

    def _add(self, paid: list[tuple[str, str, int]], spender: Spender) -> None:
        for budget, window, amount in paid:
            if amount <= 0:
                continue
            windows = self._budgets.get(budget)
            period = windows.get(window) if windows is not None else None
            if period is None and (period := self._opened(budget, window)) is None:
                continue
            period.models.add(spender.model or NOBODY, amount)
            period.features.add(spender.feature or NOBODY, amount)
            period.users.add(spender.user or NOBODY, amount)

    def tell(self) -> tuple[Share, ...]:
        """What grew since it was told and heard last."""
        self._add_paid()
        for budget, window, by, names in self._all():
            self._telling.update((budget, window, by, name) for name in names.grown)
            names.grown.clear()
        amounts = {(budget, window, by): names.amounts for budget, window, by, names in self._all()}
        return tuple(
            Share(budget, window, by, name, amounts[budget, window, by][name])
            for budget, window, by, name in sorted(self._telling)
        )

    def heard(self, tell_all: bool) -> None:
        """The last `tell` arrived; `tell_all`: whoever heard it has heard nothing before."""
        self._telling = set()
        if tell_all:
            for _, _, _, names in self._all():
                names.grown.update(names.amounts)

    def _all(self) -> Iterator[tuple[str, str, By, _Names]]:
        for budget, windows in self._budgets.items():
            for window, period in windows.items():
                for by, names in period.kinds():
                    yield budget, window, by, names

    def _opened(self, budget: str, window: str) -> _Period | None:
        windows = self._budgets.get(budget)
        if windows is None:
            if len(self._budgets) >= BUDGETS_MAX:
                return None
            windows = self._budgets[budget] = {}
        if len(windows) >= WINDOWS_MAX:
            oldest = next(iter(windows))
            del windows[oldest]
            self._telling -= {key for key in self._telling if key[:2] == (budget, oldest)}
        period = windows[window] = _Period()
        return period
