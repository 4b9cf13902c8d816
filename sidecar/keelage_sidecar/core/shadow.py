"""What rules and budgets in `mode: Shadow` would have done with a call, decided by the code that decides when they
are enforced.

The table of the configuration has a second one in which they are: `RoutingTable.rehearsal`. Nothing here changes
the call, waits or costs anything; whoever is asked about room does not reserve it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keelage_api.pricing import cost_of
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Unbounded, bound_of
from keelage_sidecar.core.claim import Charge, Claim, Room
from keelage_sidecar.core.clamp import largest_cap, least_cap
from keelage_sidecar.core.downgrade import at_limit, at_start
from keelage_sidecar.core.log_line import ShadowBudget, ShadowRule, Would
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Of one call."""

    rule: Plan | Refusal | None
    """Where the first rule that matches is in shadow: whom it would have asked, or why nobody could be."""
    name: tuple[str, str]
    """Route and name of that rule."""
    budgets: tuple[ShadowBudget, ...]
    """Those that would have refused or changed the call, as it was really sent."""

    def told(self, real: Candidate | None, usage: TokenUsage | None) -> ShadowRule | None:
        """The rule for the log line; the difference is known once the answer is counted, and both have a price."""
        if self.rule is None:
            return None
        route, name = self.name
        if isinstance(self.rule, Refusal):
            return ShadowRule(route, name, reason=self.rule.reason)
        first = self.rule.candidates[0]
        told = ShadowRule(route, name, self.rule.rule.tier, first.backend.name, first.model)
        if usage is not None and first.price is not None and real is not None and real.price is not None:
            told.compare(cost_of(usage, first.price), cost_of(usage, real.price))
        return told


def rehearse(
    table: RoutingTable,
    facts: Facts,
    plan: Plan | Refusal,
    room: Callable[[Claim], Room],
    used: Callable[[str, str], int | None],
) -> Rehearsal | None:
    """What would be otherwise; None where nothing would. `plan`: what is really done.

    `room` says what a claim's account could pay, `used` what percentage of a budget's limit is used for a value.
    """
    then = table.rehearsal
    if then is None:
        return None
    rule = then.rule(facts)
    budgets: tuple[ShadowBudget, ...] = ()
    if isinstance(plan, Plan) and facts.endpoint.metered:
        budgets = _budgets(then, facts, plan, room, used)
    if isinstance(rule, Refusal) or not rule.shadow:
        return Rehearsal(None, ("", ""), budgets) if budgets else None
    return Rehearsal(then.on_tier(rule, facts), (rule.route, rule.name), budgets)


def _budgets(
    then: RoutingTable,
    facts: Facts,
    plan: Plan,
    room: Callable[[Claim], Room],
    used: Callable[[str, str], int | None],
) -> tuple[ShadowBudget, ...]:
    """Each budget in shadow for itself: what it would do to the plan's first candidate."""
    again = then.on_tier(plan.rule, facts)
    if isinstance(again, Refusal):
        return ()
    shadows = {
        terms.name for terms in then.budgets(plan.rule.route, again.candidates[0].model, facts.feature) if terms.shadow
    }
    stages = (_Stage(then, facts, name, room, used) for name in sorted(shadows))
    told = (stage.play(again) for stage in stages)
    return tuple(each for each in told if each is not None)


@dataclass(frozen=True, slots=True)
class _Stage:
    """One budget, as if it were the only one in shadow."""

    then: RoutingTable
    facts: Facts
    name: str
    room: Callable[[Claim], Room]
    used: Callable[[str, str], int | None]

    def play(self, plan: Plan) -> ShadowBudget | None:
        """In the order of an enforced budget: a threshold's tier; at the limit a lower output cap, a cheaper tier, a
        refusal."""
        lower = at_start(self.then, plan, self.facts, self._used)
        plan, tier = (plan, "") if lower is None else (lower.plan, lower.plan.rule.tier)
        index, needed, left = 0, 0, None
        while True:
            candidate = plan.candidates[index]
            bound = bound_of(self.facts, candidate, candidate.output_cap)
            if isinstance(bound, Unbounded):
                return ShadowBudget(self.name, Would.REFUSE, reason=bound.refusal().reason)
            claim = self._missing(plan, candidate, bound.charge)
            if claim is None:
                if not tier:
                    return None
                return ShadowBudget(self.name, Would.DOWNGRADE, tier=tier, needed=needed, left=left)
            needed, left = needed or claim.amount, self.room(claim).left
            cap = self._clamped(plan, candidate)
            if cap is not None:
                return ShadowBudget(self.name, Would.CLAMP, tier=tier, clamped=cap, needed=needed, left=left)
            cheaper = at_limit(self.then, plan, index, self.name, self.facts)
            if cheaper is None:
                return ShadowBudget(self.name, Would.REFUSE, reason="BudgetExhausted", needed=needed, left=left)
            plan, index, tier = cheaper.plan, cheaper.candidate, cheaper.plan.rule.tier

    def _used(self, name: str, value: str) -> int | None:
        return self.used(name, value) if name == self.name else None

    def _missing(self, plan: Plan, candidate: Candidate, most: Charge) -> Claim | None:
        """The budget's claim, if it cannot be paid; a model that the budget does not count needs nothing of it."""
        for claim in self.then.claims(candidate, plan.rule, self.facts, most):
            if claim.budget == self.name:
                there = self.room(claim)
                return claim if there.known and claim.amount > there.left else None
        return None

    def _clamped(self, plan: Plan, candidate: Candidate) -> int | None:
        least = least_cap(self.facts, candidate.output_cap, plan.rule.clamp_at_least)
        if least is None:
            return None
        below = candidate.output_cap or self.facts.max_output
        return largest_cap(
            self.facts, candidate, least, below, lambda most: self._missing(plan, candidate, most) is None
        )
