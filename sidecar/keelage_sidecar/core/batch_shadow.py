"""What a rule and budgets in shadow would have done with a message batch, by its bound: what it will cost is known
when its results are, a day later. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from keelage_api.pricing import batch_share
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Bound, bound_of
from keelage_sidecar.core.claim import Claim, DenialReason, Room
from keelage_sidecar.core.log_line import ShadowBudget, ShadowRule, Would
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate, RoutingTable
from keelage_sidecar.core.selection import Case, on_tier_at_once


@dataclass(frozen=True, slots=True)
class BatchRehearsal:
    """Of one batch; it is told as the rehearsal of a call is (`shadow.Rehearsal`)."""

    rule: ShadowRule | None
    budgets: tuple[ShadowBudget, ...]

    def told(self, real: Candidate | None, usage: TokenUsage | None) -> ShadowRule | None:
        """All is known before it is sent."""
        return self.rule


class BatchShadow:
    """Collects while the requests of a batch are read."""

    def __init__(self, table: RoutingTable, used: Callable[[str, str], int | None], unix_s: float) -> None:
        """`table` is the one in which all is enforced (`RoutingTable.rehearsal`)."""
        self._table = table
        self._used = used
        self._unix_s = unix_s
        self._rule: ShadowRule | None = None
        self._cost = self._real = 0
        self._priced = True

    def add(self, facts: Facts, real: Bound) -> None:
        """One request, and what is reserved for it. Of several rules in shadow the first one's is told."""
        rule = self._table.rule(facts)
        if isinstance(rule, Refusal) or not rule.shadow:
            return
        if self._rule is not None and (self._rule.route, self._rule.rule) != (rule.route, rule.name):
            return
        plan = on_tier_at_once(self._table, rule, Case(facts, self._used, self._unix_s))
        if isinstance(plan, Refusal):
            self._rule = self._rule or ShadowRule(rule.route, rule.name, reason=plan.reason)
            self._priced = False
            return
        first = plan.candidates[0]
        if self._rule is None:
            self._rule = ShadowRule(rule.route, rule.name, plan.rule.tier, first.backend.name, first.model)
        bound = bound_of(facts, first, first.output_cap)
        if isinstance(bound, Bound) and first.price is not None:
            self._cost += batch_share(bound.amount, first.price, facts.parsed.get("speed"))
            self._real += real.amount
        else:
            self._priced = False

    def rehearsal(self, claims: tuple[Claim, ...], room: Callable[[Claim], Room]) -> BatchRehearsal | None:
        """After the last request; `claims` of all lots. None where nothing would be otherwise."""
        if self._rule is not None and self._priced:
            self._rule.compare(self._cost, self._real)
        shadows = {terms.name for terms in self._table.terms if terms.shadow}
        needed: defaultdict[tuple[str, str], int] = defaultdict(int)
        rooms: dict[tuple[str, str], Room] = {}
        for claim in claims:
            if claim.budget in shadows:
                needed[claim.budget, claim.value] += claim.amount
                rooms[claim.budget, claim.value] = room(claim)
        lacking = {
            account[0]: account for account, there in rooms.items() if there.known and needed[account] > there.left
        }
        budgets = tuple(
            ShadowBudget(
                name, Would.REFUSE, DenialReason.BUDGET_EXHAUSTED, needed=needed[account], left=rooms[account].left
            )
            for name, account in sorted(lacking.items())
        )
        return BatchRehearsal(self._rule, budgets) if self._rule is not None or budgets else None
