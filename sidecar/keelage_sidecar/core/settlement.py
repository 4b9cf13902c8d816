"""What one attempt is charged, once all is known that will be."""

from __future__ import annotations

from dataclasses import dataclass, replace

from keelage_api.pricing import ModelPrice, cost_of
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Bound, Unbounded
from keelage_sidecar.core.meter import Reading
from keelage_sidecar.core.routing import Candidate


@dataclass(frozen=True, slots=True)
class Settlement:
    amount: int
    """Pico-dollars to charge."""
    violated: bool = False
    """The bill was above the bound: charged in full, counted, raised."""
    uncertain: bool = False
    """Charged without full evidence: the bound, or a part of it."""


def settle_amount(
    reading: Reading, bound: Bound | Unbounded | None, candidate: Candidate, status: int, sent: bool
) -> Settlement:
    """What one attempt is charged.

    `status` is 0 where no answer came; `sent` is false where no byte of the request left.
    With a bound: exact with final usage; for a cut stream what its events prove and the whole output
    cap; without evidence the bound. Without one (no hard budget): what usage says.
    """
    if not sent or _never_billed(status, reading):
        return Settlement(0)
    price = candidate.price or candidate.dearest
    most = bound.amount if isinstance(bound, Bound) else None
    if reading.usage is None or price is None:
        return Settlement(most or 0, uncertain=True)
    proven = _cost(reading.usage, price, candidate)
    if not reading.usage.prompt_tokens:
        # Every call has input: what counts none was not counted.
        return Settlement(max(proven, most or 0), most is not None and proven > most, uncertain=True)
    if reading.final_usage:
        return Settlement(proven, most is not None and proven > most, candidate.price is None)
    if not isinstance(bound, Bound):
        return Settlement(proven, uncertain=True)
    output_tokens = max(reading.usage.output_tokens, bound.output_tokens)
    possible = _cost(replace(reading.usage, output_tokens=output_tokens), price, candidate)
    return Settlement(max(proven, min(possible, bound.amount)), proven > bound.amount, uncertain=True)


def _never_billed(status: int, reading: Reading) -> bool:
    """Refused by the provider itself, before any output.

    A 5xx without the provider's error in it, or a 504, may come from something between that gave up
    waiting while the provider went on: the outcome is unknown.
    """
    if 300 <= status < 500:
        return True
    return status >= 500 and status != 504 and bool(reading.error)


def _cost(usage: TokenUsage, price: ModelPrice, candidate: Candidate) -> int:
    total = cost_of(usage, price)
    for model, inference in usage.extra:
        # Another model's price is not at hand here: the dearest known one is charged.
        own = model in ("", candidate.model)
        total += cost_of(inference, price if own else candidate.dearest or price)
    return total
