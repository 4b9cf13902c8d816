"""Which rule a call falls under, whom to ask in which order, and which budgets pay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from keelage_api.account import account_value
from keelage_api.pricing import ModelPrice, Rates
from keelage_api.proxy_config import (
    Backend,
    BudgetTerms,
    Dialect,
    ModelChoice,
    Per,
    Provider,
    ProxyConfig,
    Quota,
    Rule,
    Unit,
)
from keelage_api.selection import When
from keelage_sidecar.core.claim import Charge, Claim
from keelage_sidecar.core.endpoints import Endpoint
from keelage_sidecar.core.judge import Conditions
from keelage_sidecar.core.matching import Asks, Told, any_fits, models_taken, takes
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.response_key import changing_of, salt_of

KNOWN_MAX = 1024
"""Answers that a table remembers, of each kind: far more than pods have models, features and users that matter."""
_Asked = TypeVar("_Asked")
_Found = TypeVar("_Found")


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One upstream that may answer the call, with all that an attempt at it needs to know."""

    backend: Backend
    model: str
    """As sent upstream; empty for endpoints without one."""
    price: ModelPrice | None
    """None where neither the route nor the price book knows the model."""
    hard: bool = False
    """A hard budget pays for it: what cannot be bounded is refused."""
    output_cap: int = 0
    """Tokens to put in as the output cap, because the request has none; 0: nothing is put in."""
    dearest: ModelPrice | None = None
    """What is charged for models without a price: each rate the dearest known one of that provider."""
    needs_price: bool = True
    """False: the hard budgets that pay for it count tokens only, so a model without a price has a bound too."""
    weight: int | None = None
    """Its share of the calls; None: the order says it all."""
    stop_sequences: tuple[str, ...] = ()
    """To put in after the request's own."""
    cache_scope: str = ""
    """Of the `prompt_cache_key` to put in; empty: none is."""


class Plan(msgspec.Struct, frozen=True, gc=False):
    rule: Rule
    candidates: tuple[Candidate, ...]
    """In fallback order, never empty: first the backends of the request's dialect, then those of the other."""
    tried: tuple[str, ...] = ()
    """Tiers that the call has left already."""
    spare: bool = False
    """There is an answer already, for which this one would stand: an error is not handed on in its place."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """A configuration, ready to be asked."""

    config: ProxyConfig
    rules: tuple[Rule, ...]
    """Those that take calls, in order."""
    terms: tuple[BudgetTerms, ...]
    """Of all budgets, as they hold: one in shadow downgrades nothing."""
    rehearsal: RoutingTable | None
    """The same with all that is in shadow enforced; None: nothing is."""
    dearest: dict[str, ModelPrice | None]
    """By backend."""
    rates: dict[tuple[str, str], tuple[Quota, ...]]
    """By route and rule."""
    limits: dict[str, tuple[Quota, ...]]
    """Of providers, by backend."""
    asks: Asks | None
    """What decides which rule a call falls under, beside its model and feature; None: nothing."""
    downgrades: bool
    """A budget has a cheaper tier."""
    salts: dict[tuple[str, str], bytes]
    """By route and rule, of those that keep answers."""
    changing: dict[tuple[str, str], tuple[When, ...]]
    """Of the same rules, those whose selection changes by itself."""
    conditions: dict[tuple[str, str], Conditions]
    """Of cascades, by route and rule."""
    _rules: dict[tuple[Endpoint, str, str, Told], Rule] = field(default_factory=dict, repr=False)
    _plans: dict[tuple[str, str, str, int, Endpoint, str, str, bool], Plan] = field(default_factory=dict, repr=False)
    _budgets: dict[tuple[str, str, str], tuple[BudgetTerms, ...]] = field(default_factory=dict, repr=False)
    """What was found before: whatever the number of rules, the same question is answered once."""

    @classmethod
    def build(cls, config: ProxyConfig) -> RoutingTable:
        rules = tuple(rule for rule in config.rules if not rule.shadow)
        terms = tuple(replace(each, downgrades=()) if each.shadow else each for each in config.budgets)
        if rules == config.rules and terms == config.budgets and not any(each.shadow for each in terms):
            return cls._of(config, rules, terms, None)
        enforced = tuple(replace(each, hard=True) if each.shadow else each for each in config.budgets)
        return cls._of(config, rules, terms, cls._of(config, config.rules, enforced, None))

    @classmethod
    def _of(
        cls,
        config: ProxyConfig,
        rules: tuple[Rule, ...],
        terms: tuple[BudgetTerms, ...],
        rehearsal: RoutingTable | None,
    ) -> RoutingTable:
        dearest = {
            name: _dearest((*backend.prices.values(), *config.prices.get(backend.provider, {}).values()))
            for name, backend in config.backends.items()
        }
        rates: dict[tuple[str, str], tuple[Quota, ...]] = {}
        limits: dict[str, tuple[Quota, ...]] = {}
        for quota in config.quotas:
            if quota.backend:
                limits[quota.backend] = (*limits.get(quota.backend, ()), quota)
            else:
                key = (quota.route, quota.rule)
                rates[key] = (*rates.get(key, ()), quota)
        downgrades = any(each.downgrades for each in terms)
        salts = {
            (each.route, each.name): salt_of(config, each, each.response_cache) for each in rules if each.response_cache
        }
        changing = {
            (each.route, each.name): found for each in rules if each.response_cache and (found := changing_of(each))
        }
        conditions = {(rule.route, rule.name): Conditions(rule.cascade) for rule in rules if rule.cascade is not None}
        asks = Asks.of(rules)
        return cls(
            config, rules, terms, rehearsal, dearest, rates, limits, asks, downgrades, salts, changing, conditions
        )

    def plan(self, facts: Facts) -> Plan | Refusal:
        """The first rule that matches, on its default tier or, where that has nobody for the call, another one."""
        rule = self.rule(facts)
        return rule if isinstance(rule, Refusal) else self.on_any_tier(rule, facts)

    def rule(self, facts: Facts) -> Rule | Refusal:
        """The first rule that matches; which of its tiers the call uses is another question.

        Calls without a model (lists of models, batches) take the first rule that has a
        backend of the dialect, whatever models it names.
        """
        asked = (facts.endpoint, facts.model, facts.feature, self.asks.told(facts) if self.asks is not None else ())
        known = self._rules.get(asked)
        if known is not None:
            return known
        rule = self._rule(facts)
        if isinstance(rule, Rule):
            _remember(self._rules, asked, rule)
        return rule

    def on_tier(self, rule: Rule, facts: Facts, tier: str | None = None) -> Plan | Refusal:
        """Whom to ask in which order, on that tier of the rule's route (None: the rule's default), or why nobody can.

        The plan's rule says the tier it is on.
        """
        tier = rule.tier if tier is None else tier
        cap = rule.max_output_tokens
        asked = (rule.route, rule.name, tier, cap, facts.endpoint, facts.model, facts.feature, facts.capped)
        known = self._plans.get(asked)
        if known is not None:
            return known
        if tier != rule.tier:
            rule = replace(rule, tier=tier, choices=self.config.tiers.get(f"{rule.route}/{tier}", ()))
        plan = self.among(rule, facts)
        if isinstance(plan, Plan):
            _remember(self._plans, asked, plan)
        return plan

    def on_any_tier(self, rule: Rule, facts: Facts) -> Plan | Refusal:
        """The first of the rule's tiers that has anybody for the call, the default one before the others."""
        default = self.on_tier(rule, facts)
        if isinstance(default, Plan):
            return default
        plans = (self.on_tier(rule, facts, tier) for tier in rule.tiers)
        return next((plan for plan in plans if isinstance(plan, Plan)), default)

    def among(self, rule: Rule, facts: Facts) -> Plan | Refusal:
        """The same among the rule's own choices, which need not be those of a tier."""
        candidates = self._candidates(rule, facts)
        return Plan(rule, candidates) if candidates else _nobody(rule, facts)

    def _rule(self, facts: Facts) -> Rule | Refusal:
        matched: Rule | None = None
        for rule in self.rules:
            if not takes(rule, facts):
                continue
            if facts.endpoint.has_model or isinstance(self.on_any_tier(rule, facts), Plan):
                return rule
            matched = matched or rule
        if matched is not None:
            return matched
        if not self.rules:
            return Refusal(404, "NoMatchingRoute", "no LLMRoute selects this pod: apply one in its namespace", "model")
        also = self.asks.text if self.asks is not None else ""
        return Refusal(
            404,
            "NoMatchingRoute",
            f"no rule of the LLMRoutes that select this pod matches model {facts.model[:120]!r}, "
            f"feature {facts.feature!r} and user {facts.user!r}{models_taken(self.rules)}{also}: ask for what a rule "
            "matches, or add one to spec.rules",
            "model",
        )

    def budgets(self, route: str, model: str, feature: str) -> tuple[BudgetTerms, ...]:
        """Those that an attempt with that model falls under."""
        asked = (route, model, feature)
        known = self._budgets.get(asked)
        if known is None:
            known = tuple(terms for terms in self.terms if _applies(terms, route, model, feature))
            _remember(self._budgets, asked, known)
        return known

    def claims(self, candidate: Candidate, rule: Rule, facts: Facts, most: Charge) -> tuple[Claim, ...]:
        """The budgets that an attempt falls under, each with what is to be reserved of its unit.

        `most`: the attempt's bound (`Bound.charge`).
        """
        return tuple(
            [
                Claim(
                    terms.name,
                    most.of(terms.unit),
                    terms.hard,
                    value_of(terms.per, facts) if terms.per else "",
                    terms.unit,
                )
                for terms in self.budgets(rule.route, candidate.model, facts.feature)
            ]
        )

    def rate_claims(self, rule: Rule, facts: Facts, expected: Charge) -> tuple[Claim, ...]:
        """The rule's rate limits, for the whole call; `expected`: what it will likely use."""
        quotas = self.rates.get((rule.route, rule.name), ())
        return tuple(_quota_claim(quota, facts, expected, at_once=True) for quota in quotas)

    def limit_claims(
        self, candidate: Candidate, facts: Facts, expected: Charge, at_once: bool = False
    ) -> tuple[Claim, ...]:
        """The provider's limits, for one attempt; `at_once`: it does not wait for others to end."""
        quotas = self.limits.get(candidate.backend.name, ())
        return tuple(_quota_claim(quota, facts, expected, at_once) for quota in quotas)

    def lowered(self, plan: Plan, left: int, tier: str, facts: Facts) -> Plan | None:
        """The same call on a cheaper tier of its route: the first `left` candidates as they are, then the tier's.

        None where the route has no tier of that name for the call's API, or the call was or is there already.
        """
        if tier == plan.rule.tier or tier in plan.tried:
            return None
        cheaper = self.on_tier(plan.rule, facts, tier)
        if isinstance(cheaper, Refusal):
            return None
        candidates = (*plan.candidates[:left], *cheaper.candidates)
        return Plan(cheaper.rule, candidates, (*plan.tried, plan.rule.tier), plan.spare)

    def _candidates(self, rule: Rule, facts: Facts) -> tuple[Candidate, ...]:
        """Those of the call's own API first, as nothing is lost on the way to them; then the others.

        A model that the application named is only looked for at the other API where it is known to be, and then not
        at those of its own that do not know it. What a compatible server has is not known: it is asked for anything
        where the tier has nobody of the call's own API.
        """
        found = [(self._candidate(rule, choice, facts), bool(choice.model)) for choice in rule.choices]
        own = [(each, named) for each, named in found if each.backend.dialect is facts.endpoint.dialect]
        if not facts.endpoint.translates:
            return tuple(each for each, _ in own)
        other = [
            (each, named)
            for each, named in found
            if each.backend.dialect is not facts.endpoint.dialect
            and (named or each.price or (not own and each.backend.provider is Provider.OPENAI_COMPATIBLE))
        ]
        elsewhere = not all(named for _, named in other)
        own = [(each, named) for each, named in own if named or each.price or not elsewhere]
        return tuple(each for each, _ in (*own, *other))

    def _candidate(self, rule: Rule, choice: ModelChoice, facts: Facts) -> Candidate:
        backend = self.config.backends[choice.backend]
        model = (choice.model or facts.model) if facts.endpoint.has_model else ""
        price = backend.prices.get(model) or self.config.prices.get(backend.provider, {}).get(model)
        units = (
            {terms.unit for terms in self.budgets(rule.route, model, facts.feature) if terms.hard}
            if facts.endpoint.metered
            else set()
        )
        hard = bool(units)
        # Anthropic takes no call without a cap.
        needed = backend.dialect is Dialect.ANTHROPIC and facts.endpoint.dialect is not Dialect.ANTHROPIC
        cap = _output_cap(rule, price, facts, hard or needed)
        return Candidate(
            backend,
            model,
            price,
            hard,
            cap,
            self.dearest[backend.name],
            not hard or Unit.PICODOLLARS in units,
            choice.weight,
            rule.stop_sequences,
            f"{rule.route}/{rule.name}" if rule.prompt_cache and backend.provider is Provider.OPENAI else "",
        )


def _nobody(rule: Rule, facts: Facts) -> Refusal:
    where = f"LLMRoute {rule.route}, rule {rule.name}" + (f", tier {rule.tier}" if rule.tier else "")
    wanted = "Anthropic" if facts.endpoint.dialect is Dialect.ANTHROPIC else "OpenAI or OpenAICompatible"
    if facts.endpoint.translates:
        why = f"which calls of this API go to, and no other is known to have model {facts.model[:120]!r}"
        remedy = "add one to the tier, or name a model in the tier's choice"
    else:
        why, remedy = "as this call has no counterpart in another API", "add one to the tier"
    return Refusal(400, "NoBackendForDialect", f"{where}: no backend with provider {wanted}, {why}: {remedy}", "model")


def _remember(known: dict[_Asked, _Found], asked: _Asked, found: _Found) -> None:
    """Applications may invent models, features and users: when there are too many, begin anew."""
    if len(known) >= KNOWN_MAX:
        known.clear()
    known[asked] = found


def value_of(per: tuple[Per, ...], facts: Facts) -> str:
    """Whose account a call falls under; empty where the limit holds for all together."""
    if not per:
        return ""
    parts = {Per.USER: facts.user, Per.FEATURE: facts.feature, Per.POD: facts.pod}
    return account_value(parts[each] for each in per)


def _quota_claim(quota: Quota, facts: Facts, expected: Charge, at_once: bool) -> Claim:
    # What is expected is no bound: a call that may take more than a whole window's worth passes when all is there.
    amount = 1 if quota.unit is Unit.CONCURRENT else min(expected.of(quota.unit), quota.limit)
    return Claim(quota.name, amount, True, value_of(quota.per, facts), quota.unit, quota=True, at_once=at_once)


def _dearest(prices: tuple[ModelPrice, ...]) -> ModelPrice | None:
    tiers = [rates for price in prices for rates in price.tiers]
    if not tiers:
        return None
    return ModelPrice(
        (
            Rates(
                0,
                max(rates.input for rates in tiers),
                max(rates.cache_read for rates in tiers),
                max(rates.cache_write_5m for rates in tiers),
                max(rates.cache_write_1h for rates in tiers),
                max(rates.output for rates in tiers),
            ),
        ),
        fast_percent=max(price.fast_percent for price in prices),
        us_percent=max(price.us_percent for price in prices),
        batch_percent=max(price.batch_percent for price in prices),
        web_search=max(price.web_search for price in prices),
    )


def _output_cap(rule: Rule, price: ModelPrice | None, facts: Facts, needed: bool) -> int:
    """What to put in where the request names no cap; the model's own maximum only where one is needed."""
    if not facts.endpoint.generates or facts.capped:
        return 0
    most = price.max_output_tokens if price is not None else 0
    if rule.max_output_tokens:
        return min(rule.max_output_tokens, most) if most else rule.max_output_tokens
    return most if needed else 0


def _applies(terms: BudgetTerms, route: str, model: str, feature: str) -> bool:
    return (
        (not terms.routes or route in terms.routes)
        and (not terms.models or any_fits(terms.models, model))
        and (not terms.features or feature in terms.features)
    )
