"""Further attempts of one call: how many, how soon, and how many of all calls may have them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.v1alpha1.constraint import Constraint, constrained
from keelage_api.v1alpha1.metadata import Duration, Part, duration_ms

HEDGE_AT_P95 = "P95"


@constrained(
    Constraint["Backoff"](
        cel="duration(self.base) <= duration(self.max)",
        message="base must not be longer than max: it is the first pause, max the longest",
        holds=lambda part: duration_ms(part.base) <= duration_ms(part.max),
        field=".base",
    )
)
class Backoff(Part):
    """Pauses between attempts at the same backend; each is drawn below a bound that doubles."""

    base: Duration = "500ms"
    """Bound of the first pause."""
    max: Duration = "8s"
    """Bound of any pause."""


class RetryBudget(Part):
    """How many of all calls may be tried again at the same backend and model, and hedged there, in each sidecar: a
    provider that is dying is not sent a multiple of its load. Who is over the budget goes on to the tier's next model
    at once, or gets the last answer."""

    percent: Annotated[int, Field(ge=0, le=100)] = 20
    """Of the calls of the last ten seconds."""
    min_retries: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Allowed in ten seconds, however few the calls are."""


class RetryPolicy(Part):
    """Further attempts after 429, 5xx and connection errors, until the first byte has reached the application."""

    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """In all, over all backends of the tier."""
    backoff: Backoff = Backoff()
    """Pauses between attempts."""
    budget: RetryBudget = RetryBudget()
    """Bound of all calls' retries together."""


def _is_delay(text: str) -> bool:
    try:
        return text == HEDGE_AT_P95 or duration_ms(text) >= 1
    except ValueError:
        return False


class Hedge(Part):
    """A second attempt, at the tier's next model, while the first one has not answered; who answers first is heard, the
    other one is aborted and charged at its bound unless it proves less. Only where the budgets can pay for both at
    once, and within the retry budget."""

    after: Annotated[
        str,
        StringConstraints(min_length=2, max_length=32),
        Constraint[str](
            cel=f"self == '{HEDGE_AT_P95}' || self.matches('^([0-9]{{1,5}}(ms|s|m|h)){{1,4}}$')"
            " && duration(self) >= duration('1ms')",
            message=f"must be {HEDGE_AT_P95} or a duration above zero: a number and ms, s, m or h, as in 500ms or 2s",
            holds=_is_delay,
        ),
    ] = HEDGE_AT_P95
    """How long the first byte may take before: a duration, or P95, which is longer than 95 of the last 100 calls of
    that backend and model took."""
