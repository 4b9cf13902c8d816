"""One JSON line per call: every decision, every count, no prompt, no key."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from keelage_api.money import format_usd
from keelage_api.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class CallRecord:
    time: str
    """RFC 3339, UTC, when the request was read."""
    request_id: str
    """Given by the sidecar."""
    endpoint: str
    outcome: str
    """`ok`, `upstream_error`, `refused`, `client_disconnect`, `truncated`, `error`; `settled` for the line that tells,
    once its results are known, what a batch has cost for one model and one set of budgets."""
    status: int
    """As sent to the application; 0 where it left before."""
    route: str = ""
    rule: str = ""
    backend: str = ""
    request_model: str = ""
    model: str = ""
    """As sent upstream."""
    response_model: str = ""
    attempts: int = 0
    sdk_retries: int = 0
    user: str = ""
    feature: str = ""
    stream: bool = False
    usage: TokenUsage | None = None
    cost: int = 0
    """Pico-dollars charged, all attempts together."""
    bound: int = 0
    """Pico-dollars reserved for the last attempt."""
    bound_violated: bool = False
    uncertain: bool = False
    latency_ms: float = 0.0
    first_token_ms: float | None = None
    wait_ms: float = 0.0
    """Spent waiting for a budget's rights."""
    stop_reason: str = ""
    reason: str = ""
    """Of a refusal, or the type of the upstream's error."""
    budget: str = ""
    """That refused the call, or had it downgraded."""
    upstream_request_id: str = ""
    injected: tuple[str, ...] = ()
    """Top-level fields that the sidecar put in."""
    limit: str = ""
    """The rate limit that refused the call."""
    unlimited: bool = False
    """It passed a rate limit that nobody could be asked about."""
    clamped: int = 0
    """The output cap that it was lowered to for a budget's sake; 0: it was not."""
    downgraded: str = ""
    """The cheaper tier that it was given for a budget's sake."""
    queue_ms: float = 0.0
    """Spent waiting for room in rates: those of the rule and those of the provider."""

    def line(self) -> bytes:
        """The record as one line, with its newline."""
        used = self.usage or TokenUsage()
        return orjson.dumps(
            {
                "time": self.time,
                "request_id": self.request_id,
                "endpoint": self.endpoint,
                "outcome": self.outcome,
                "status": self.status,
                "route": self.route,
                "rule": self.rule,
                "backend": self.backend,
                "request_model": self.request_model,
                "model": self.model,
                "response_model": self.response_model,
                "attempts": self.attempts,
                "sdk_retries": self.sdk_retries,
                "user": self.user,
                "feature": self.feature,
                "stream": self.stream,
                "usage_known": self.usage is not None,
                "input_tokens": used.input_tokens,
                "cache_read_input_tokens": used.cache_read_tokens,
                "cache_creation_5m_input_tokens": used.cache_write_5m_tokens,
                "cache_creation_1h_input_tokens": used.cache_write_1h_tokens,
                "output_tokens": used.output_tokens,
                "reasoning_tokens": used.reasoning_tokens,
                "web_searches": used.web_searches,
                "cost_usd": format_usd(self.cost),
                "cost_picodollars": self.cost,
                "bound_picodollars": self.bound,
                "bound_violated": self.bound_violated,
                "uncertain": self.uncertain,
                "latency_ms": round(self.latency_ms, 3),
                "first_token_ms": None if self.first_token_ms is None else round(self.first_token_ms, 3),
                "wait_ms": round(self.wait_ms, 3),
                "queue_ms": round(self.queue_ms, 3),
                "stop_reason": self.stop_reason,
                "reason": self.reason,
                "budget": self.budget,
                "limit": self.limit,
                "unlimited": self.unlimited,
                "clamped": self.clamped,
                "downgraded": self.downgraded,
                "upstream_request_id": self.upstream_request_id,
                "injected": self.injected,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
