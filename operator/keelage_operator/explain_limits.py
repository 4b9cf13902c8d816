"""What limits mean for a call that `explain_request` follows: budgets, rates, the clamp and the downgrades.

Decided by the sidecar's own cores; what is left of a budget or rate, only the operator knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from keelage_api.amount import measured, plain
from keelage_api.proxy_config import BudgetTerms, Per, Quota, Unit
from keelage_operator.core.quotas import duration_text, rate_text
from keelage_operator.core.terms import BudgetInForce
from keelage_sidecar.core.account import Account
from keelage_sidecar.core.bound import Bound, Unbounded
from keelage_sidecar.core.claim import NOTHING, Charge, Claim, DenialReason
from keelage_sidecar.core.clamp import largest_cap, least_cap
from keelage_sidecar.core.denial import explain
from keelage_sidecar.core.downgrade import at_limit
from keelage_sidecar.core.expectation import Expectations
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.response_key import never_cached
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable, value_of
from keelage_sidecar.core.terms import Terms
from keelage_sidecar.core.translation.interpreter import bound_at
from keelage_sidecar.shell.refusals import denied


@dataclass(frozen=True, slots=True)
class Limits:
    """All that hold for the pods of a folder."""

    table: RoutingTable
    budgets: Mapping[str, BudgetInForce]
    """By `<namespace>/<budget>`."""

    def of_rule(self, plan: Plan, facts: Facts) -> list[str]:
        """The rule's rates: a line for each."""
        first = plan.candidates[0]
        if not facts.endpoint.metered:
            return []
        claims = self.table.rate_claims(plan.rule, facts, _expected(facts, first))
        quotas = self.table.rates.get((plan.rule.route, plan.rule.name), ())
        return [
            f"rate limit of {rate_text(quota)}: takes {_about(claim)}{_whose(quota.per, facts)}, once for the whole"
            " call; beyond it the call gets 429 with Retry-After"
            for quota, claim in zip(quotas, claims, strict=True)
        ]

    def of_backend(self, candidate: Candidate, facts: Facts) -> list[str]:
        """The provider's limits: a line for each."""
        if not facts.endpoint.metered:
            return []
        claims = self.table.limit_claims(candidate, facts, _expected(facts, candidate))
        quotas = self.table.limits.get(candidate.backend.name, ())
        return [
            f"provider's limit of {rate_text(quota)}: takes {_about(claim)}; beyond it the call {_beyond(quota)}"
            for quota, claim in zip(quotas, claims, strict=True)
        ]

    def of_budgets(
        self, plan: Plan, index: int, facts: Facts, said: Facts, bound: Bound | Unbounded
    ) -> tuple[list[str], Refusal | None]:
        """What an attempt at candidate `index` reserves; a refusal where even an unspent budget could not pay.

        `said` is the call as that candidate gets it: `facts`, or their translation.
        """
        candidate = plan.candidates[index]
        if not facts.endpoint.metered:
            return ["budgets: none: the call is free"], None
        claims = self._claims(plan, candidate, facts, bound.charge if isinstance(bound, Bound) else NOTHING)
        if not claims:
            return ["budgets: none applies"], None
        lines = [self._reserved(claim, facts) for claim in claims]
        tight = next((claim for claim in claims if claim.hard and claim.amount > self.budgets[claim.budget].cap), None)
        least = least_cap(said, candidate.output_cap, plan.rule.clamp_at_least)
        if tight is None:
            return [*lines, *self._at_limit(plan, index, facts, claims, least)], None
        cap = None if least is None else self._clamped(plan, candidate, said, least)
        if cap is not None:
            return [*lines, f"too much for {tight.budget}: the output cap is lowered to {cap} tokens"], None
        cheaper = at_limit(self.table, plan, index, tight.budget, facts)
        if cheaper is not None and self._affordable(cheaper.plan, cheaper.candidate, facts):
            return [*lines, f"too much for {tight.budget}: tier {cheaper.plan.rule.tier} is used instead"], None
        budget = self.budgets[tight.budget]
        account = Account(0, tight.budget, "", told_limit=budget.cap)
        terms = Terms.of_budget(budget.terms)
        return lines, denied(explain(tight, DenialReason.BUDGET_TOO_SMALL, account, terms, "", 0.0), 0.0)

    def thresholds(self, plan: Plan, facts: Facts) -> Iterator[str]:
        """What becomes of the call when a part of a budget is used: a line for each downgrade."""
        if not facts.endpoint.metered:
            return
        model = plan.candidates[0].model
        for terms in self.table.budgets(plan.rule.route, model, facts.feature):
            budget = self.budgets[terms.name]
            for step in () if budget.shadow else budget.downgrades:
                yield (
                    f"from {step.percent}% of budget {_owner(terms, facts)} on: tier {step.tier}:"
                    f" {self._lowered(plan, step.tier, facts)}"
                )

    def _lowered(self, plan: Plan, tier: str, facts: Facts) -> str:
        if tier == plan.rule.tier:
            return "the call uses it already"
        lowered = self.table.lowered(plan, 0, tier, facts)
        if lowered is None:
            return f"nothing changes: LLMRoute {plan.rule.route} has no such tier with a backend for the call"
        return ", then ".join(
            f"{each.model} at {each.backend.name}, {most(bound_at(facts, each, each.output_cap))}"
            for each in lowered.candidates
        )

    def _reserved(self, claim: Claim, facts: Facts) -> str:
        budget = self.budgets[claim.budget]
        why = "Shadow" if budget.shadow else "Observe"
        does = f"reserves {plain(claim.amount, claim.unit)}" if claim.hard else f"counts what it costs ({why})"
        beyond = f" and an overdraft of {measured(budget.overdraft, budget.unit)}" if budget.overdraft else ""
        return f"budget {_owner(budget.terms, facts)}: {does} of {measured(budget.limit, budget.unit)}{beyond}"

    def _at_limit(
        self, plan: Plan, index: int, facts: Facts, claims: Iterable[Claim], least: int | None
    ) -> Iterator[str]:
        """What happens instead of a refusal when the money is nearly spent."""
        steps = []
        if least is not None:
            bound = bound_at(facts, plan.candidates[index], least)
            steps.append(f"the output cap is lowered, down to {least} tokens ({most(bound)})")
        hard = [claim for claim in claims if claim.hard]
        for claim in hard:
            cheaper = at_limit(self.table, plan, index, claim.budget, facts)
            if cheaper is not None:
                steps.append(f"tier {cheaper.plan.rule.tier} is used where {claim.budget} cannot pay")
        cache = plan.rule.response_cache
        if cache is not None and cache.stale_ms and not never_cached(facts, cache):
            steps.append("an older answer to the same call is given, where one was kept (staleOnError)")
        if hard and steps:
            yield f"near the limit, in this order: {'; '.join(steps)}; then the call is refused"

    def _clamped(self, plan: Plan, candidate: Candidate, facts: Facts, least: int) -> int | None:
        def fits(most: Charge) -> bool:
            claims = self._claims(plan, candidate, facts, most)
            return all(claim.amount <= self.budgets[claim.budget].cap for claim in claims if claim.hard)

        return largest_cap(facts, candidate, least, candidate.output_cap or facts.max_output, fits)

    def _affordable(self, plan: Plan, index: int, facts: Facts) -> bool:
        candidate = plan.candidates[index]
        bound = bound_at(facts, candidate, candidate.output_cap)
        if isinstance(bound, Unbounded):
            return not candidate.hard
        claims = self._claims(plan, candidate, facts, bound.charge)
        return all(claim.amount <= self.budgets[claim.budget].cap for claim in claims if claim.hard)

    def _claims(self, plan: Plan, candidate: Candidate, facts: Facts, most: Charge) -> tuple[Claim, ...]:
        return self.table.claims(candidate, plan.rule, facts, most)


def most(bound: Bound | Unbounded) -> str:
    """`at most 0.0123 USD and 2048 tokens`."""
    if isinstance(bound, Unbounded):
        return f"no bound: {bound.reason}"
    tokens = f"{bound.charge.tokens} tokens"
    return f"at most {measured(bound.amount, Unit.PICODOLLARS)} and {tokens}" if bound.priced else f"at most {tokens}"


def _expected(facts: Facts, candidate: Candidate) -> Charge:
    """As of a sidecar that has just begun: rates are reserved by what calls usually use."""
    bound = bound_at(facts, candidate, candidate.output_cap)
    return Expectations().of(candidate.model, len(facts.body), bound)


def _about(claim: Claim) -> str:
    """`1 request`; tokens are not known before they are used."""
    return f"{'about ' if claim.amount > 1 else ''}{measured(claim.amount, claim.unit)}"


def _beyond(quota: Quota) -> str:
    if not quota.queue_depth:
        return "goes on to the next backend, or is refused"
    return f"waits up to {duration_text(quota.queue_wait_ms)} among at most {quota.queue_depth}"


def _owner(terms: BudgetTerms, facts: Facts) -> str:
    return f"{terms.name}{_whose(terms.per, facts, of=', ')}"


def _whose(per: tuple[Per, ...], facts: Facts, of: str = " of ") -> str:
    """`User alice`; a call that names none has the value `-`, and from which pod it comes only its sidecar knows."""
    value = value_of(per, facts)
    parts = zip(per, value.split("/"), strict=True) if value else ()
    names = [f"{kind} {'(its own)' if kind is Per.POD and not facts.pod else part}" for kind, part in parts]
    return of + " ".join(names) if names else ""
