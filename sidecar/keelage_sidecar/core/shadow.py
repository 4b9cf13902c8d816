"""What rules and budgets in `mode: Shadow` would have done with a call, decided by the code that decides when they
are enforced.

The table of the configuration has a second one in which they are: `RoutingTable.rehearsal`. Nothing here changes
the call, waits or costs anything; whoever is asked about room does not reserve it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from keelage_api.pricing import cost_of
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.claim import Claim, Room
from keelage_sidecar.core.foresight import Foreseen, Foresight
from keelage_sidecar.core.log_line import ShadowBudget, ShadowRule, Would
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable
from keelage_sidecar.core.selection import Case, on_tier_at_once


class Rehearsal(msgspec.Struct, frozen=True):
    """Of one call."""

    rule: Plan | Refusal | None
    """Where the first rule that matches is in shadow: whom it would have asked, or why nobody could be."""
    name: tuple[str, str]
    """Route and name of that rule."""
    budgets: tuple[ShadowBudget, ...]
    """Those that would have refused or changed the call, as it was really sent."""
    free: bool = False
    """A kept answer served it."""

    def told(self, real: Candidate | None, usage: TokenUsage | None) -> ShadowRule | None:
        """The rule for the log line; the difference is known once the answer is counted, and both have a price."""
        if self.rule is None:
            return None
        route, name = self.name
        if isinstance(self.rule, Refusal):
            return ShadowRule(route, name, reason=self.rule.reason)
        first = self.rule.candidates[0]
        told = ShadowRule(route, name, self.rule.rule.tier, first.backend.name, first.model)
        if self.free:
            if self.rule.rule.response_cache is not None:
                told.compare(0, 0)
        elif usage is not None and first.price is not None and real is not None and real.price is not None:
            told.compare(cost_of(usage, first.price), cost_of(usage, real.price))
        return told


def rehearse(
    table: RoutingTable,
    facts: Facts,
    plan: Plan | Refusal | None,
    room: Callable[[Claim], Room],
    used: Callable[[str, str], int | None],
    unix_s: float,
) -> Rehearsal | None:
    """What would be otherwise; None where nothing would. `plan`: what is really done; None: a kept answer is given,
    which no budget is asked about.

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
    would = on_tier_at_once(then, rule, Case(facts, used, unix_s))
    return Rehearsal(would, (rule.route, rule.name), budgets, free=plan is None)


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
    foresight = Foresight(then, room, used)
    told = ((name, foresight.of(facts, again, (name,))) for name in sorted(shadows))
    return tuple(_told(name, seen) for name, seen in told if seen.reason or seen.clamped or seen.downgraded)


def _told(name: str, seen: Foreseen) -> ShadowBudget:
    would = Would.REFUSE if seen.reason else Would.CLAMP if seen.clamped else Would.DOWNGRADE
    tier = seen.tier if seen.downgraded and not seen.reason else ""
    return ShadowBudget(name, would, seen.reason, tier, seen.clamped, seen.needed, seen.left)
