"""When a backend's model counts as failing, and for how long nobody asks it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from keelage_api.v1alpha1.constraint import Constraint, constrained
from keelage_api.v1alpha1.metadata import Duration, Part, duration_ms


@constrained(
    Constraint["OpenTime"](
        cel="duration(self.base) <= duration(self.max)",
        message="base must not be longer than max: it is the first time that the circuit is open, max the longest",
        holds=lambda part: duration_ms(part.base) <= duration_ms(part.max),
        field=".base",
    )
)
class OpenTime(Part):
    """How long a failing model is not asked; a part of it is drawn, so that sidecars do not come back together."""

    base: Duration = "5s"
    """The first time; doubled each time that the model fails again."""
    max: Duration = "60s"
    """The longest."""


class CircuitBreaker(Part):
    """Kept by each sidecar for each model of the backend. It opens when calls fail: 5xx, timeouts, connections that
    break, streams that are cut. Other 4xx never count. While it is open the tier's next model is asked at once; where
    there is none, calls are refused with 503 and Retry-After. After a 429 with Retry-After the model is asked last for
    so long."""

    consecutive_failures: Annotated[int, Field(ge=1, le=1_000)] = 5
    """Opens it."""
    failure_percent: Annotated[int, Field(ge=1, le=100)] = 50
    """Of the calls within `window`: opens it, too."""
    min_calls: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Within `window`, before `failurePercent` means anything."""
    window: Duration = "30s"
    """How far back calls are looked at."""
    open_time: OpenTime = OpenTime()
    """How long it stays open."""
    probes: Annotated[int, Field(ge=1, le=100)] = 1
    """Calls that are let through at a time when that time is over; so many successes close it, one failure opens it
    again."""
