"""Whether the tiers that a budget downgrades to are there and cost less. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from keelage_api.errors import ManifestError
from keelage_api.proxy_config import ModelChoice, Unit
from keelage_operator.core.accept import AcceptedRoute
from keelage_operator.core.overlap import may_share_pods
from keelage_operator.core.price_book import Book, price_of
from keelage_operator.core.problem import Problem
from keelage_operator.core.terms import BudgetInForce

Cost = tuple[int, int]
"""Pico-dollars per token of input and of output."""


def tier_problems(budget: BudgetInForce, routes: Sequence[AcceptedRoute], book: Book) -> Iterator[Problem]:
    """What is wrong with the budget's Downgrade tiers; `routes` are those in force in its namespace."""
    own = [
        route
        for route in routes
        if (not budget.routes or route.name in budget.routes)
        and may_share_pods(budget.pod_selector, route.spec.pod_selector)
    ]
    for tier in dict.fromkeys(downgrade.tier for downgrade in budget.downgrades):
        having = [route for route in own if tier in route.tiers]
        if not having:
            names = ", ".join(route.name for route in own) or "none"
            yield Problem(
                "TierNotFound",
                f"spec.thresholds: no LLMRoute that the budget applies to (here: {names}) has a tier {tier}: calls keep"
                " their models at that threshold: add the tier to spec.tiers of the route or correct its name",
                about="Enforced",
                refuses=False,
            )
        elif budget.unit is Unit.PICODOLLARS and not any(_saves(route, tier, book) for route in having):
            names = ", ".join(route.name for route in having)
            yield Problem(
                "TierNotCheaper",
                f"spec.thresholds: tier {tier} of LLMRoute {names} costs no less than the tiers that calls would leave"
                " for it: name a cheaper one, or give it cheaper models",
                refuses=False,
            )


def _saves(route: AcceptedRoute, tier: str, book: Book) -> bool:
    """Whether some call of the route may become cheaper by it; also where a price is not known."""
    lower = _cost(route, route.tiers[tier], book)
    for rule in route.rules:
        for other in rule.tiers:
            before = _cost(route, route.tiers[other], book)
            if lower is None or before is None:
                return True
            if other != tier and (lower[0] < before[0] or lower[1] < before[1]):
                return True
    return False


def _cost(route: AcceptedRoute, choices: Iterable[ModelChoice], book: Book) -> Cost | None:
    """Of the dearest of a tier's models, for short prompts; None where one is not known, or the application chooses."""
    backends = {f"{route.name}/{backend.name}": backend for backend in route.spec.backends}
    costs = []
    for choice in choices:
        try:
            price = price_of(backends[choice.backend], choice.model, book) if choice.model else None
        except ManifestError:  # told where it is written
            price = None
        if price is None:
            return None
        rates = price.rates(0)
        costs.append((rates.input, rates.output))
    return max(cost[0] for cost in costs), max(cost[1] for cost in costs)
