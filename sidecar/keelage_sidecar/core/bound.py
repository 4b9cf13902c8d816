"""The most that one attempt can cost, known before it is sent."""

from __future__ import annotations

from dataclasses import dataclass

from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate


@dataclass(frozen=True, slots=True)
class Bound:
    amount: int
    """Pico-dollars that the attempt's bill cannot exceed."""
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Unbounded:
    """Nothing in the request limits the cost; under a hard budget it is refused."""

    field: str
    reason: str
    """Says object, value and remedy; ready for a `Refusal.message`."""


def bound_of(facts: Facts, candidate: Candidate, output_cap: int) -> Bound | Unbounded:
    """The bound of an attempt that is sent with that cap put in (`candidate.output_cap`; 0: none put in)."""
    raise AssertionError
