"""The largest output cap that can still be paid for, where a rule allows less than the request asks.

Asked after the wait for money was in vain and before a cheaper tier is tried.
"""

from __future__ import annotations

from collections.abc import Callable

from keelage_sidecar.core.bound import Bound, bound_of, thinking_budget
from keelage_sidecar.core.claim import Charge
from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate


def least_cap(facts: Facts, output_cap: int, at_least: int) -> int | None:
    """The lowest cap that the call may be sent with; None: it must not be lowered.

    `output_cap` is what it would be sent with (0: its own), `at_least` the rule's `clampAtLeast`. Thinking needs a
    cap above its budget, and a request that lets it go beyond the cap is not bounded by one.
    """
    own = output_cap or facts.max_output
    if not at_least or not facts.endpoint.generates or not own:
        return None
    budget = thinking_budget(facts.parsed) if facts.endpoint.kind is Kind.MESSAGES else None
    least = max(at_least, budget + 1) if isinstance(budget, int) else at_least
    return least if least < own else None


def largest_cap(
    facts: Facts, candidate: Candidate, least: int, below: int, fits: Callable[[Charge], bool]
) -> int | None:
    """The greatest cap in [least, below) whose bound `fits`; None where even the least does not.

    `fits` must be monotone: what fits, fits with less.
    """

    def fit(cap: int) -> bool:
        bound = bound_of(facts, candidate, cap)
        return isinstance(bound, Bound) and fits(bound.charge)

    if least >= below or not fit(least):
        return None
    low, high = least, below
    while high - low > 1:
        middle = (low + high) // 2
        if fit(middle):
            low = middle
        else:
            high = middle
    return low
