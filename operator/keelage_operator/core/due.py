"""What of a namespace is to be looked at. Of a thousand budgets one is spent from: the others stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Due:
    routes: bool = False
    """All of them: each shows how many of the sidecars obey it."""
    budgets: set[str] = field(default_factory=set)
    """Without namespace."""
    all_budgets: bool = False

    @staticmethod
    def everything() -> Due:
        return Due(routes=True, all_budgets=True)

    @property
    def anything(self) -> bool:
        return self.routes or self.all_budgets or bool(self.budgets)

    def add(self, other: Due) -> None:
        self.routes = self.routes or other.routes
        self.all_budgets = self.all_budgets or other.all_budgets
        self.budgets |= other.budgets
