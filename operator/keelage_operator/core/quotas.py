"""Rates that a route asks for: its rules' own, those that its backends' providers set, and what is odd in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from keelage_api.account import rate_kind
from keelage_api.amount import measured
from keelage_api.proxy_config import ModelChoice, Quota, Rule, Unit
from keelage_api.usage import EXPECTED_OUTPUT_TOKENS
from keelage_api.v1alpha1.backend import Backend
from keelage_api.v1alpha1.llmroute import LLMRouteSpec, RouteRule
from keelage_api.v1alpha1.metadata import duration_ms
from keelage_api.v1alpha1.rate import Queue
from keelage_operator.core.problem import Problem

MINUTE_MS = 60_000
DAY_MS = 86_400_000


def quotas_of(namespace: str, route: str, spec: LLMRouteSpec) -> tuple[Quota, ...]:
    """The rules' rate limits, then the backends' limits, in the order of the manifest."""
    return (
        *(quota for rule in spec.rules for quota in _of_rule(namespace, route, rule)),
        *(quota for backend in spec.backends for quota in _of_backend(namespace, route, backend)),
    )


def narrow(
    quotas: Iterable[Quota], rules: Collection[Rule], tiers: Mapping[str, tuple[ModelChoice, ...]]
) -> Iterator[Problem]:
    """Limits in tokens that one call is expected to use up: calls then pass one by one."""
    for quota in quotas:
        if quota.unit not in (Unit.TOKENS, Unit.OUTPUT_TOKENS):
            continue
        caps = {
            rule.name: min(EXPECTED_OUTPUT_TOKENS, rule.max_output_tokens or EXPECTED_OUTPUT_TOKENS)
            for rule in rules
            if rule.name == quota.rule
            or any(choice.backend == quota.backend for tier in rule.tiers for choice in tiers[tier])
        }
        above = [name for name, cap in caps.items() if cap > quota.limit]
        if above:
            yield Problem(
                "LimitBelowOneCall",
                f"{_field(quota)}: {measured(quota.limit, quota.unit)} is less than the"
                f" {measured(caps[above[0]], Unit.OUTPUT_TOKENS)} that one call of rule {above[0]} is expected to use:"
                " calls pass one at a time, each when all of the limit is there: raise it, or lower the rule's"
                " output.maxTokens",
                refuses=False,
            )


def crowded_text(quota: Quota) -> str:
    """What its owner must know of a rate that has more values than are kept."""
    each = " and ".join(per.value for per in quota.per)
    return (
        f"{_field(quota)}: more values of {each} are in use than the operator keeps for all routes together, and"
        " calls of further ones pass without this limit: shorten the window, or limit per Feature or Pod"
    )


def _field(quota: Quota) -> str:
    if quota.rule:
        return f"spec.rules[{quota.rule}].rateLimits, {rate_text(quota)}"
    return f"spec.backends[{quota.backend.rpartition('/')[2]}].limits.{quota.name.rpartition(':')[2]}"


def rate_text(quota: Quota) -> str:
    """`20 requests in 60s for each User`."""
    window = f" in {duration_text(quota.window_ms)}" if quota.window_ms else ""
    each = f" for each {' and '.join(quota.per)}" if quota.per else ""
    return f"{measured(quota.limit, quota.unit)}{window}{each}"


def duration_text(milliseconds: int) -> str:
    """As in a manifest: `60s`, `1h`."""
    for unit, size in (("h", 3_600_000), ("s", 1_000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def _of_rule(namespace: str, route: str, rule: RouteRule) -> Iterator[Quota]:
    for each in rule.rate_limits:
        unit = Unit.REQUESTS if each.requests is not None else Unit.TOKENS
        per = (each.per,) if each.per is not None else ()
        window_ms = duration_ms(each.window)
        yield Quota(
            name=f"{namespace}/rate:{route}/{rule.name}:{rate_kind(unit, per, window_ms)}",
            unit=unit,
            limit=each.requests or each.tokens or 0,
            window_ms=window_ms,
            route=route,
            rule=rule.name,
            per=per,
        )


def _of_backend(namespace: str, route: str, backend: Backend) -> Iterator[Quota]:
    limits = backend.limits
    queue = limits.queue or Queue()
    for field, limit, unit, window_ms in (
        ("requestsPerMinute", limits.requests_per_minute, Unit.REQUESTS, MINUTE_MS),
        ("inputTokensPerMinute", limits.input_tokens_per_minute, Unit.INPUT_TOKENS, MINUTE_MS),
        ("outputTokensPerMinute", limits.output_tokens_per_minute, Unit.OUTPUT_TOKENS, MINUTE_MS),
        ("tokensPerDay", limits.tokens_per_day, Unit.TOKENS, DAY_MS),
        ("concurrentRequests", limits.concurrent_requests, Unit.CONCURRENT, 0),
    ):
        if limit is not None:
            yield Quota(
                name=f"{namespace}/limit:{route}/{backend.name}:{field}",
                unit=unit,
                limit=limit,
                window_ms=window_ms,
                route=route,
                backend=f"{route}/{backend.name}",
                queue_depth=queue.depth,
                queue_wait_ms=duration_ms(queue.max_wait),
            )
