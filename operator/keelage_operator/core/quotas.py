"""Rates that a route asks for: its rules' own, and those that its backends' providers set. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from keelage_api.account import rate_kind
from keelage_api.proxy_config import Quota, Unit
from keelage_api.v1alpha1.llmroute import Backend, LLMRouteSpec, RouteRule
from keelage_api.v1alpha1.metadata import duration_ms
from keelage_api.v1alpha1.rate import Queue

MINUTE_MS = 60_000
DAY_MS = 86_400_000


def quotas_of(namespace: str, route: str, spec: LLMRouteSpec) -> tuple[Quota, ...]:
    """The rules' rate limits, then the backends' limits, in the order of the manifest."""
    return (
        *(quota for rule in spec.rules for quota in _of_rule(namespace, route, rule)),
        *(quota for backend in spec.backends for quota in _of_backend(namespace, route, backend)),
    )


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
