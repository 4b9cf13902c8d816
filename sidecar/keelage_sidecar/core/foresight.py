"""What budgets would do to a call, without a reservation: for rehearsals and replays.

The order is that of a call which is really made: a threshold's tier from the start; at the limit a lower output cap,
a cheaper tier, a refusal. Only waiting is left out: money that others hold counts as there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from keelage_sidecar.core.bound import Unbounded, bound_of
from keelage_sidecar.core.claim import Charge, Claim, DenialReason, Room
from keelage_sidecar.core.clamp import largest_cap, least_cap
from keelage_sidecar.core.downgrade import at_limit, at_start
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable


@dataclass(frozen=True, slots=True)
class Foreseen:
    candidate: Candidate
    """The first that would be asked, or for whom it was refused."""
    tier: str
    reason: str = ""
    """Of the refusal; empty: it is served."""
    budget: str = ""
    """That refused or changed it; the last one, if several did."""
    downgraded: bool = False
    clamped: int = 0
    """The output cap that it is lowered to; 0: it is not."""
    needed: int = 0
    """The claim that did not fit first, in the budget's unit; 0: all did."""
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Foresight:
    table: RoutingTable
    room: Callable[[Claim], Room]
    """What a claim's account could pay."""
    used: Callable[[str, str], int | None]
    """Percent of a budget's limit that is used, for a value; None where it is not known."""

    def of(self, facts: Facts, plan: Plan, budgets: Collection[str]) -> Foreseen:
        """What becomes of the call if these budgets, and no others, are enforced as the table says."""
        budget, needed, left = "", 0, None

        def end(reason: str = "", clamped: int = 0) -> Foreseen:
            tier = plan.rule.tier
            return Foreseen(candidate, tier, reason, budget, bool(plan.tried), clamped, needed, left)

        lower = at_start(
            self.table, plan, facts, lambda each, value: self.used(each, value) if each in budgets else None
        )
        if lower is not None:
            plan, budget = lower.plan, lower.budget
        index = 0
        while True:
            candidate = plan.candidates[index]
            bound = bound_of(facts, candidate, candidate.output_cap)
            if isinstance(bound, Unbounded) and candidate.hard:
                return end(bound.refusal().reason)
            claim = self._missing(facts, plan, candidate, bound.charge, budgets)
            if claim is None:
                return end()
            budget, needed, left = claim.budget, needed or claim.amount, self.room(claim).left
            cap = self._clamped(facts, plan, candidate, budgets)
            if cap is not None:
                return end(clamped=cap)
            cheaper = at_limit(self.table, plan, index, budget, facts)
            if cheaper is None:
                return end(DenialReason.BUDGET_EXHAUSTED)
            plan, index = cheaper.plan, cheaper.candidate

    def _missing(
        self, facts: Facts, plan: Plan, candidate: Candidate, most: Charge, budgets: Collection[str]
    ) -> Claim | None:
        """The first that cannot be paid."""
        for claim in self.table.claims(candidate, plan.rule, facts, most):
            if claim.hard and claim.budget in budgets:
                there = self.room(claim)
                if there.known and claim.amount > there.left:
                    return claim
        return None

    def _clamped(self, facts: Facts, plan: Plan, candidate: Candidate, budgets: Collection[str]) -> int | None:
        least = least_cap(facts, candidate.output_cap, plan.rule.clamp_at_least)
        if least is None:
            return None

        def fits(most: Charge) -> bool:
            return self._missing(facts, plan, candidate, most, budgets) is None

        return largest_cap(facts, candidate, least, candidate.output_cap or facts.max_output, fits)
