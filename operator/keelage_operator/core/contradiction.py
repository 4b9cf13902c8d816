"""Budgets that contradict each other: limits that others keep from ever being reached, downgrades that disagree. Pure.

Only what the texts of the selectors prove is told: a warning that may be wrong is not read twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from keelage_api.amount import measured
from keelage_api.proxy_config import Per, Unit
from keelage_api.window import Every
from keelage_operator.core.overlap import covers_calls, may_share_calls
from keelage_operator.core.problem import Problem
from keelage_operator.core.terms import BudgetInForce

COMPARED_MAX = 300
"""Budgets of a namespace that are compared, each with each: a tenth of a second for every change of a manifest."""

_WITHIN: dict[Every, frozenset[Every]] = {
    Every.HOUR: frozenset(Every),
    Every.DAY: frozenset({Every.DAY, Every.WEEK, Every.MONTH}),
    Every.WEEK: frozenset({Every.WEEK}),
    Every.MONTH: frozenset({Every.MONTH}),
}
"""Windows that hold the whole of each such one, in the same time zone: a week may lie in two months."""


def contradictions(budgets: Sequence[BudgetInForce]) -> dict[str, tuple[Problem, ...]]:
    """By `<namespace>/<budget>`, for those that have any; `budgets` are all of one namespace."""
    if len(budgets) > COMPARED_MAX:
        problem = Problem(
            "NotCompared",
            f"the namespace has {len(budgets)} budgets, and whether they contradict each other is looked for up to"
            f" {COMPARED_MAX}: delete those that are not needed, or spread them over namespaces",
            about="Reachable",
            refuses=False,
        )
        return {budget.name: (problem,) for budget in budgets}
    found = {}
    for budget in budgets:
        others = [other for other in budgets if other.name != budget.name]
        problems = (*_never_reached(budget, others), *_conflicting(budget, others))
        if problems:
            found[budget.name] = problems
    return found


def _never_reached(budget: BudgetInForce, others: Iterable[BudgetInForce]) -> tuple[Problem, ...]:
    stricter = [other for other in others if _stops_before(other, budget)]
    if not stricter:
        return ()
    tightest = min(stricter, key=lambda other: (other.cap, other.name))
    more = f" (and {len(stricter) - 1} more)" if len(stricter) > 1 else ""
    field = _field(budget)
    return (
        Problem(
            "NeverReached",
            f"spec.limit: {limit_text(budget)} can never be reached: LLMBudget {_short(tightest)}{more} covers the same"
            f" calls and refuses them at {limit_text(tightest, with_overdraft=True)}: set {field} below that, raise"
            f" the limit of {_short(tightest)}, or delete one of the two",
            about="Reachable",
            refuses=False,
        ),
    )


def _stops_before(other: BudgetInForce, budget: BudgetInForce) -> bool:
    """Whether each account of `budget` lies within one of `other` that refuses calls at no higher an amount."""
    if not (
        other.hard
        and other.cap <= budget.limit
        and other.unit is budget.unit
        and set(other.per) <= set(budget.per)
        and other.zone == budget.zone
        and other.every in _WITHIN[budget.every]
        and covers_calls(other, budget)
    ):
        return False
    # Two that are the same: one of them is superfluous, and only that one is told.
    twins = other.cap == budget.cap and other.every is budget.every and other.per == budget.per
    return not (twins and budget.hard and covers_calls(budget, other) and budget.name < other.name)


def _conflicting(budget: BudgetInForce, others: Iterable[BudgetInForce]) -> tuple[Problem, ...]:
    own = _ladder(budget)
    if not own:
        return ()
    disagreeing = [
        other
        for other in others
        if (theirs := _ladder(other)) and not _agree(own, theirs) and may_share_calls(budget, other)
    ]
    if not disagreeing:
        return ()
    other = min(disagreeing, key=lambda each: each.name)
    more = f" (and otherwise by {len(disagreeing) - 1} more)" if len(disagreeing) > 1 else ""
    return (
        Problem(
            "ConflictingDowngrades",
            f"spec.thresholds: the same calls are downgraded to {' then '.join(own)} by this budget and to"
            f" {' then '.join(_ladder(other))} by LLMBudget {_short(other)}{more}: where both"
            " apply the higher percentage decides, whichever tier is cheaper: name the same tiers in the same order",
            refuses=False,
        ),
    )


def _ladder(budget: BudgetInForce) -> tuple[str, ...]:
    """Its tiers as usage rises, each once."""
    return tuple(dict.fromkeys(downgrade.tier for downgrade in budget.downgrades))


def _agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether one is a part of the other in the same order: of two of their tiers it is then known which is cheaper."""
    short, long = sorted((one, other), key=len)
    return [tier for tier in long if tier in short] == list(short)


def limit_text(budget: BudgetInForce, with_overdraft: bool = False) -> str:
    """`500.00 USD a month`, `1000 tokens a day for each user and feature`."""
    text = measured(budget.cap if with_overdraft else budget.limit, budget.unit)
    each = " and ".join(per.value.lower() for per in Per if per in budget.per)
    return f"{text} {'an' if budget.every is Every.HOUR else 'a'} {budget.every.value.lower()}" + (
        f" for each {each}" if each else ""
    )


def _field(budget: BudgetInForce) -> str:
    return "spec.limit.tokens" if budget.unit is Unit.TOKENS else "spec.limit.amount"


def _short(budget: BudgetInForce) -> str:
    return budget.name.partition("/")[2]
