"""How much in how long: what a route's rules allow to callers, and what providers allow to a route's backends."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from keelage_api.proxy_config import Per
from keelage_api.v1alpha1.constraint import Constraint, constrained
from keelage_api.v1alpha1.limit import TOKENS_MAX
from keelage_api.v1alpha1.metadata import Duration, Part, duration_ms

RATE_MAX = 1_000_000
"""Requests in a minute or at one time: far above what providers sell."""
RATE_TOKENS_MAX = 1_000_000_000
"""Tokens in a minute, or in the window of a rate limit."""
QUEUE_WAIT_MAX = "5m"
RATE_WINDOW_MAX = "1h"
RATE_LIMITS_MAX = 8
"""Of one rule: each call reserves on all of them."""


@constrained(
    Constraint["Queue"](
        cel=f"duration(self.maxWait) <= duration('{QUEUE_WAIT_MAX}')",
        message=f"maxWait must not be longer than {QUEUE_WAIT_MAX}: a call that waits holds a connection of the"
        " application",
        holds=lambda part: duration_ms(part.max_wait) <= duration_ms(QUEUE_WAIT_MAX),
        field=".maxWait",
    )
)
class Queue(Part):
    """Where calls wait that do not fit a provider's limit now; then the tier's next model is tried."""

    depth: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Calls that may wait, in each sidecar; 0: none."""
    max_wait: Duration = "5s"
    """For how long each may."""


@constrained(
    Constraint["BackendLimits"](
        cel="!has(self.queue) || has(self.requestsPerMinute) || has(self.inputTokensPerMinute)"
        " || has(self.outputTokensPerMinute) || has(self.tokensPerDay) || has(self.concurrentRequests)",
        message="queue needs a limit that calls wait for: write one, as in concurrentRequests: 200, or leave queue out",
        holds=lambda part: part.queue is None or part.limited,
        field=".queue",
    )
)
class BackendLimits(Part):
    """What the provider allows, over all sidecars together: kept by keelage, so that it need not be refused there.

    Each refills continuously, as the providers' own limits do; what is left out is not limited. What the provider says
    to be left is believed where it is less.
    """

    requests_per_minute: Annotated[int, Field(ge=1, le=RATE_MAX)] | None = None
    """Attempts."""
    input_tokens_per_minute: Annotated[int, Field(ge=1, le=RATE_TOKENS_MAX)] | None = None
    """Without those that are read from a prompt cache."""
    output_tokens_per_minute: Annotated[int, Field(ge=1, le=RATE_TOKENS_MAX)] | None = None
    """As they are generated."""
    tokens_per_day: Annotated[int, Field(ge=1, le=TOKENS_MAX, json_schema_extra={"format": "int64"})] | None = None
    """Input and output together, in any 24 hours."""
    concurrent_requests: Annotated[int, Field(ge=1, le=RATE_MAX)] | None = None
    """In flight at one time."""
    queue: Queue | None = None
    """Where calls wait that do not fit now. Left out: up to 100 calls in each sidecar, each for 5s."""

    @property
    def limited(self) -> bool:
        """Whether anything is limited at all."""
        return any(value is not None for name, value in self if name != "queue")


@constrained(
    Constraint["RateLimit"](
        cel="has(self.requests) != has(self.tokens)",
        message="write either requests or tokens, as in {requests: 20, window: 60s}: a limit counts in one unit; for"
        " both write two entries",
        holds=lambda part: (part.requests is None) != (part.tokens is None),
    ),
    Constraint["RateLimit"](
        cel=f"duration(self.window) >= duration('1s') && duration(self.window) <= duration('{RATE_WINDOW_MAX}')",
        message=f"window must be from 1s to {RATE_WINDOW_MAX}: for longer ones use an LLMBudget with per",
        holds=lambda part: 1_000 <= duration_ms(part.window) <= duration_ms(RATE_WINDOW_MAX),
        field=".window",
    ),
)
class RateLimit(Part):
    """How many calls or tokens in how long, over all sidecars together. What is beyond is refused with 429 and
    Retry-After."""

    per: Per | None = None
    """For each user, feature or pod of its own; left out: for all calls of the rule together."""
    requests: Annotated[int, Field(ge=1, le=RATE_MAX)] | None = None
    """Calls; attempts of one call count once."""
    tokens: Annotated[int, Field(ge=1, le=RATE_TOKENS_MAX)] | None = None
    """Input and output together, cached ones too."""
    window: Duration = "60s"
    """In which so much is refilled, continuously: 20 in 60s gives one call back every three seconds."""


def _all_different(limits: tuple[RateLimit, ...]) -> bool:
    kinds = {(each.per, each.requests is None, duration_ms(each.window)) for each in limits}
    return len(kinds) == len(limits)


_SAME = (
    "has(a.requests) == has(b.requests) && has(a.per) == has(b.per) && (!has(a.per) || a.per == b.per)"
    " && duration(a.window) == duration(b.window)"
)

RateLimits = Annotated[
    tuple[RateLimit, ...],
    Field(max_length=RATE_LIMITS_MAX),
    Constraint[tuple[RateLimit, ...]](
        cel=f"self.all(a, self.exists_one(b, {_SAME}))",
        message="no two entries may limit the same: of those with the same unit, per and window only the lower would"
        " count; keep that one, or change per or window",
        holds=_all_different,
    ),
]
