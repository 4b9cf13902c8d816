"""Which cheaper tier a call uses: near a budget's limit from its start, at the limit instead of a refusal."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Plan, RoutingTable, value_of


class Downgraded(msgspec.Struct, frozen=True):
    plan: Plan
    """Its rule's tier is the cheaper one."""
    candidate: int
    """Index of the tier's first candidate in it."""
    budget: str
    """`<namespace>/<budget>` that asked for it."""


def at_start(
    table: RoutingTable, plan: Plan, facts: Facts, used: Callable[[str, str], int | None]
) -> Downgraded | None:
    """The tier of the highest threshold that a budget of the call has passed.

    `used`: percent of a budget's limit that is used, for a value; None where it is not known.
    """
    if not table.downgrades or not facts.endpoint.metered:
        return None
    passed = [
        (step.percent, step.tier, terms.name)
        for terms in table.budgets(plan.rule.route, plan.candidates[0].model, facts.feature)
        if terms.downgrades and (percent := used(terms.name, value_of(terms.per, facts))) is not None
        for step in terms.downgrades
        if percent >= step.percent
    ]
    for _, tier, budget in sorted(passed, key=lambda each: -each[0]):
        if tier == plan.rule.tier:
            return None
        lowered = table.lowered(plan, 0, tier, facts)
        if lowered is not None:
            return Downgraded(lowered, 0, budget)
    return None


def at_limit(table: RoutingTable, plan: Plan, index: int, budget: str, facts: Facts) -> Downgraded | None:
    """The next tier of the budget that could not pay for candidate `index`; None: there is none left.

    The plan's candidates up to that one stay, so that attempts are counted on.
    """
    for terms in table.config.budgets:
        if terms.name == budget:
            for step in terms.downgrades:
                lowered = table.lowered(plan, index + 1, step.tier, facts)
                if lowered is not None:
                    return Downgraded(lowered, index + 1, budget)
    return None
