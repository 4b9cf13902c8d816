"""Answers that are kept, and given again to the same call."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import StringConstraints

from keelage_api.response_cache import CacheScope
from keelage_api.v1alpha1.constraint import Constraint, constrained, pattern
from keelage_api.v1alpha1.metadata import Duration, Part, duration_ms
from keelage_api.v1alpha1.semantic_cache import SemanticCache

TTL_MAX = "720h"
_UNITS = {"Ki": 1024, "Mi": 1024 * 1024}


class SampledAnswers(enum.StrEnum):
    NEVER = "Never"
    ALLOW = "Allow"


Memory = Annotated[
    str,
    StringConstraints(min_length=3, max_length=8),
    pattern(
        "(6[4-9]|[7-9][0-9]|[1-9][0-9]{2,5})Ki|([1-9][0-9]{0,2}|10[01][0-9]|102[0-4])Mi",
        "must be an amount of memory from 64Ki to 1024Mi: a whole number and Ki or Mi, as in 16Mi",
    ),
]


def memory_bytes(text: Memory) -> int:
    return int(text[:-2]) * _UNITS[text[-2:]]


@constrained(
    Constraint["ExactCache"](
        cel=f"duration(self.ttl) <= duration('{TTL_MAX}')",
        message=f"ttl must not be longer than {TTL_MAX}: models change behind their names",
        holds=lambda part: duration_ms(part.ttl) <= duration_ms(TTL_MAX),
        field=".ttl",
    )
)
class ExactCache(Part):
    """The same call gets the same answer: same rule, path, body and provider's headers. Blanks and the order of keys in
    the body do not matter, nor do fields that only say who asks."""

    ttl: Duration = "1h"
    """How old an answer may be."""


@constrained(
    Constraint["ResponseCache"](
        cel=f"!has(self.staleOnError) || duration(self.staleOnError) <= duration('{TTL_MAX}')",
        message=f"staleOnError must not be longer than {TTL_MAX}: models change behind their names",
        holds=lambda part: part.stale_on_error is None or duration_ms(part.stale_on_error) <= duration_ms(TTL_MAX),
        field=".staleOnError",
    ),
    Constraint["ResponseCache"](
        cel="!has(self.semantic) || !has(self.semantic.ttl) || duration(self.semantic.ttl) <= duration(self.exact.ttl)",
        message="semantic.ttl must not be longer than exact.ttl: an answer is kept no longer than that",
        holds=lambda part: (
            part.semantic is None
            or part.semantic.ttl is None
            or duration_ms(part.semantic.ttl) <= duration_ms(part.exact.ttl)
        ),
        field=".semantic.ttl",
    ),
)
class ResponseCache(Part):
    """Answers that the sidecar keeps in its memory. One that is given again costs nothing and reserves nothing; calls
    that ask for the same at the same time wait for the first. A changed rule, tier or endpoint begins anew."""

    exact: ExactCache = ExactCache()
    """Answers to the very same call."""
    semantic: SemanticCache | None = None
    """Answers to a call that asks the same in other words; left out: none."""
    scope: CacheScope = CacheScope.WORKLOAD
    """Workload: the calls under this rule share the answers, with `sharedCache` those of all the route's pods.
    Namespace: also calls under other rules and routes that say so and ask the same models in the same way. User: only
    calls of the same user under this rule do, and calls without a user are not cached."""
    sampled: SampledAnswers = SampledAnswers.NEVER
    """Never: only embeddings and calls with temperature 0 are cached. Allow: also calls whose answer would be worded
    differently each time."""
    stale_on_error: Duration | None = None
    """For how long after its ttl an answer is still given where the call would otherwise end in 429 or 5xx: the
    providers fail, or a budget or rate limit is used up. Left out: not at all."""
    memory: Memory = "16Mi"
    """How much the sidecar may keep, for all its rules together; where several rules say so, the most counts. The
    answers that were used longest ago make room."""
