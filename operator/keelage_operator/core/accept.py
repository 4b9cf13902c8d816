"""Whether one spec can be obeyed: its form, then what the schema cannot say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from keelage_api.errors import ManifestError
from keelage_api.mounted import MountedKey
from keelage_api.pricing import ModelPrice
from keelage_api.proxy_config import (
    Backend,
    BackendTLS,
    CircuitBreaker,
    Hedge,
    History,
    ModelChoice,
    PromptCaching,
    Quota,
    Retry,
    RetryBudget,
    Rule,
    Summary,
    Timeouts,
)
from keelage_api.response_cache import SharedCache
from keelage_api.selection import Selection
from keelage_api.v1alpha1 import circuit_breaker, history, llmroute, prompt_cache, retry
from keelage_api.v1alpha1.llmbudget import LLMBudgetSpec
from keelage_api.v1alpha1.llmroute import LLMRouteSpec
from keelage_api.v1alpha1.manifest import Malformed
from keelage_api.v1alpha1.metadata import duration_ms
from keelage_api.v1alpha1.mode import Mode
from keelage_operator.core.escalation import cascade_of, escalation_problems, latency_budget_of, tiers_instead
from keelage_operator.core.kept_answers import (
    embedder_problems,
    embedders_of,
    mounted_for,
    response_cache_of,
    shared_cache_of,
)
from keelage_operator.core.manifests import BudgetManifest, RouteManifest
from keelage_operator.core.price_book import Book, price_of
from keelage_operator.core.problem import Problem
from keelage_operator.core.quotas import quotas_of
from keelage_operator.core.selections import ZoneUnknown, match_of, offsets_of, selections_of, unsearchable
from keelage_operator.core.terms import BudgetInForce, in_force


@dataclass(frozen=True, slots=True)
class AcceptedRoute:
    name: str
    spec: LLMRouteSpec
    rules: tuple[Rule, ...]
    backends: Mapping[str, Backend]
    """By `<route>/<backend>`."""
    credentials: tuple[MountedKey, ...]
    """Keys and authorities that its sidecars need, sorted."""
    tiers: Mapping[str, tuple[ModelChoice, ...]]
    """All of the spec's, by their own names."""
    quotas: tuple[Quota, ...]
    """Of its rules, then of its backends."""

    def models(self, downgrades: Collection[str] = ()) -> tuple[tuple[str, str], ...]:
        """(`Backend.name`, model) that a call may come to: those of rules, of what they ask instead or beside, of
        embedders and of downgrades to one of these tiers; without those whose model the application chooses."""
        histories = [rule.history for rule in self.rules if rule.history is not None]
        summaries = [each.summary.tier for each in histories if each.summary is not None]
        selected = (tier for rule in self.rules for tier in rule.tiers)
        instead = (tier for rule in self.rules for tier in tiers_instead(rule))
        chosen = [self.tiers.get(tier, ()) for tier in (*selected, *downgrades, *summaries, *instead)]
        chosen.append(embedders_of(self.rules))
        return tuple({(each.backend, each.model): None for choices in chosen for each in choices if each.model})


@dataclass(frozen=True, slots=True)
class AcceptedBudget:
    spec: LLMBudgetSpec
    in_force: BudgetInForce


def accept_route(
    namespace: str, name: str, spec: LLMRouteSpec | Malformed, book: Book
) -> AcceptedRoute | tuple[Problem, ...]:
    """The route as sidecars obey it, or why it cannot be obeyed (at least one problem)."""
    if isinstance(spec, Malformed):
        return tuple(Problem("Invalid", text) for text in spec.problems)
    problems = []
    backends: dict[str, Backend] = {}
    credentials: set[MountedKey] = set(mounted_for(spec.shared_cache))
    for backend in spec.backends:
        prices: dict[str, ModelPrice] = {}
        for override in backend.prices:
            try:
                price = price_of(backend, override.model, book)
            except ManifestError as error:
                problems.append(Problem("PriceRefused", f"spec.backends[{backend.name}].prices: {error}"))
                continue
            if price is not None:
                prices[override.model] = price
        credential = ""
        if backend.credentials is not None:
            reference = backend.credentials.secret_key_ref
            key = MountedKey(reference.name, reference.key)
            credentials.add(key)
            credential = key.path
        tls: BackendTLS | None = None
        if backend.tls is not None:
            trusted = [MountedKey(each.name, each.key, each.kind.value) for each in backend.tls.ca_certificate_refs]
            credentials.update(trusted)
            tls = BackendTLS(tuple(each.path for each in trusted), backend.tls.hostname or "")
        full_name = f"{name}/{backend.name}"
        backends[full_name] = Backend(
            name=full_name,
            provider=backend.provider,
            endpoint=backend.url,
            credential=credential,
            timeouts=Timeouts(
                connect_ms=duration_ms(backend.timeouts.connect),
                first_byte_ms=duration_ms(backend.timeouts.first_byte),
                idle_ms=duration_ms(backend.timeouts.idle),
                request_ms=duration_ms(backend.timeouts.request),
            ),
            circuit_breaker=_breaker(backend.circuit_breaker),
            prices=prices,
            tls=tls,
        )
    problems += escalation_problems(spec)
    problems += embedder_problems(spec)
    selected: dict[str, tuple[Selection, ...]] = {}
    for rule in spec.rules:
        problems += unsearchable(rule.name, rule.select)
        try:
            selected[rule.name] = selections_of(namespace, rule.select)
        except ZoneUnknown as error:
            problems.append(_zone_unknown(f"spec.rules[{rule.name}].select: timeZone", str(error)))
    if problems:
        return tuple(problems)
    tiers = {
        tier.name: tuple(
            ModelChoice(f"{name}/{entry.backend}", entry.model or "", entry.weight)
            # Of weighted models the heaviest is the first to fall back on; without weights the sort changes nothing.
            for entry in sorted(tier.models, key=lambda entry: -(entry.weight or 0))
        )
        for tier in spec.tiers
    }
    shared = shared_cache_of(namespace, spec.shared_cache)
    rules = tuple(_rule(name, rule, tiers, selected[rule.name], shared) for rule in spec.rules)
    return AcceptedRoute(
        name, spec, rules, backends, tuple(sorted(credentials)), tiers, quotas_of(namespace, name, spec)
    )


def _rule(
    route: str,
    rule: llmroute.RouteRule,
    tiers: Mapping[str, tuple[ModelChoice, ...]],
    selected: tuple[Selection, ...],
    shared: SharedCache | None,
) -> Rule:
    tier = rule.select[-1].tier
    return Rule(
        route=route,
        name=rule.name,
        choices=tiers[tier],
        tier=tier,
        select=selected,
        matches=tuple(match_of(match) for match in rule.matches),
        retry=Retry(
            attempts=rule.retry.attempts,
            base_ms=duration_ms(rule.retry.backoff.base),
            max_ms=duration_ms(rule.retry.backoff.max),
            budget=RetryBudget(rule.retry.budget.percent, rule.retry.budget.min_retries),
        ),
        hedge=_hedge(rule.hedge),
        cascade=cascade_of(rule.cascade),
        first_token_within=latency_budget_of(rule.first_token_within),
        answer_within=latency_budget_of(rule.answer_within),
        max_output_tokens=rule.output.max_tokens or 0,
        on_client_disconnect=rule.on_client_disconnect,
        clamp_at_least=rule.output.clamp_at_least or 0,
        stop_sequences=tuple(rule.output.stop_sequences),
        prompt_cache=_prompt_cache(rule.prompt_cache),
        history=_history(rule.history),
        response_cache=response_cache_of(route, rule.response_cache, shared),
        shadow=rule.mode is Mode.SHADOW,
    )


def _breaker(spec: circuit_breaker.CircuitBreaker) -> CircuitBreaker:
    return CircuitBreaker(
        consecutive_failures=spec.consecutive_failures,
        failure_percent=spec.failure_percent,
        min_calls=spec.min_calls,
        window_ms=duration_ms(spec.window),
        open_base_ms=duration_ms(spec.open_time.base),
        open_max_ms=duration_ms(spec.open_time.max),
        probes=spec.probes,
    )


def _hedge(spec: retry.Hedge | None) -> Hedge | None:
    if spec is None:
        return None
    return Hedge(0 if spec.after == retry.HEDGE_AT_P95 else duration_ms(spec.after))


def _prompt_cache(spec: prompt_cache.PromptCache | None) -> PromptCaching | None:
    if spec is None or spec.insert is prompt_cache.CacheInsertion.NEVER:
        return None
    return PromptCaching(long=spec.ttl is prompt_cache.PromptCacheTTL.HOUR)


def _history(spec: history.History | None) -> History | None:
    if spec is None:
        return None
    over = spec.summarize_over
    return History(spec.keep_turns, None if over is None else Summary(over.tokens, over.tier))


def accept_budget(
    namespace: str, name: str, uid: str, spec: LLMBudgetSpec | Malformed
) -> AcceptedBudget | tuple[Problem, ...]:
    """The budget as it is enforced, or why it cannot be."""
    if isinstance(spec, Malformed):
        return tuple(Problem("Invalid", text) for text in spec.problems)
    try:
        offsets_of(spec.window.time_zone)
    except ZoneUnknown:
        return (_zone_unknown("spec.window.timeZone", spec.window.time_zone),)
    return AcceptedBudget(spec, in_force(f"{namespace}/{name}", uid, spec))


def _zone_unknown(field: str, zone: str) -> Problem:
    return Problem(
        "TimeZoneUnknown",
        f"{field}: {zone} is not in the IANA database: write a name such as UTC or Europe/Berlin",
    )


def judge_route(raw: Mapping[str, object], book: Book) -> tuple[Problem, ...]:
    """What would keep a route from being accepted; for admission and `keelage check`."""
    manifest = RouteManifest.of(raw)
    accepted = accept_route("", manifest.name, manifest.spec(), book)
    return () if isinstance(accepted, AcceptedRoute) else accepted


def judge_budget(raw: Mapping[str, object]) -> tuple[Problem, ...]:
    """What would keep a budget from being accepted; for admission and `keelage check`."""
    manifest = BudgetManifest.of(raw)
    accepted = accept_budget("", manifest.name, manifest.uid, manifest.spec())
    return () if isinstance(accepted, AcceptedBudget) else accepted
