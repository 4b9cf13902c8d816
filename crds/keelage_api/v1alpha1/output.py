"""Bounds of an answer: how long it may become, and what ends it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.v1alpha1.constraint import Constraint, constrained, pattern
from keelage_api.v1alpha1.metadata import Part

StopSequence = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256),
    pattern(r"[\s\S]*[^ \t\r\n][\s\S]*", "must hold more than blanks: providers refuse others"),
]


@constrained(
    Constraint["Output"](
        cel="!has(self.clampAtLeast) || !has(self.maxTokens) || self.clampAtLeast <= self.maxTokens",
        message="clampAtLeast must not be greater than maxTokens: it is the least that an answer's cap may be lowered"
        " to",
        holds=lambda part: (
            part.clamp_at_least is None or part.max_tokens is None or part.clamp_at_least <= part.max_tokens
        ),
        field=".clampAtLeast",
    )
)
class Output(Part):
    """Bounds of the answer."""

    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Cap put into requests that have none. A low cap makes reservations small."""
    clamp_at_least: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Where a budget cannot pay for a call's whole cap, the cap is lowered to what it can pay for, but never below
    this. Left out: such a call goes to the budget's Downgrade tier or is refused. A message batch is never clamped."""
    stop_sequences: Annotated[tuple[StopSequence, ...], Field(max_length=4)] = ()
    """An answer ends before it would say one of these; they are put in after the application's own. OpenAI takes 4 in
    all, and none for models that reason and for the Responses API: what it would refuse is left out."""
