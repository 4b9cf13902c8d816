"""How many sidecars, how many budgets, how much they call. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LIMIT = "1000000.00"
"""Never reached: what is measured is the work, not the refusals."""


@dataclass(frozen=True, slots=True)
class Budget:
    namespace: str
    name: str
    per: tuple[str, ...]

    def manifest(self) -> dict[str, object]:
        spec: dict[str, object] = {
            "limit": {"amount": LIMIT, "currency": "USD"},
            "applies": {"podSelector": {"matchLabels": {"budget": self.name}}},
            "enforcement": "Hard",
        }
        if self.per:
            spec["per"] = list(self.per)
        return {
            "apiVersion": "keelage.dev/v1alpha1",
            "kind": "LLMBudget",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    sidecars: int
    namespaces: tuple[str, ...]
    budgets: tuple[Budget, ...]
    calls_per_s: float
    """Of each sidecar."""
    users: int = 0
    """0: the limit does not hold per user."""

    @property
    def title(self) -> str:
        budgets = f"{len(self.budgets)} budget{'s' if len(self.budgets) > 1 else ''}"
        per = f" per user, {self.users} users" if self.users else ""
        return f"{self.sidecars} sidecars, {budgets}{per}"


def one_budget(sidecars: int, calls_per_s: float) -> Scenario:
    return Scenario("one", sidecars, ("scale-one",), (Budget("scale-one", "month", ()),), calls_per_s)


def many_budgets(budgets: int, per_namespace: int, calls_per_s: float) -> Scenario:
    """One sidecar each."""
    spaces = tuple(f"scale-many-{number}" for number in range((budgets + per_namespace - 1) // per_namespace))
    made = tuple(Budget(spaces[number // per_namespace], f"month-{number}", ()) for number in range(budgets))
    return Scenario("many", budgets, spaces, made, calls_per_s)


def users(sidecars: int, count: int, calls_per_s: float) -> Scenario:
    """One budget whose limit holds for each user."""
    made = (Budget("scale-users", "month", ("User",)),)
    return Scenario("users", sidecars, ("scale-users",), made, calls_per_s, count)
