"""What one attempt is charged, once all is known that will be."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from keelage_api.pricing import cost_of
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Bound, Unbounded
from keelage_sidecar.core.claim import NOTHING, SENT, Charge
from keelage_sidecar.core.meter import Reading
from keelage_sidecar.core.routing import Candidate


class Settlement(msgspec.Struct, frozen=True, gc=False):
    charge: Charge
    violated: bool = False
    """The bill was above the bound, in money or in tokens: charged in full, counted, raised."""
    doubtful: bool = False
    """Charged without full evidence: the bound, or a part of it."""
    uncertain: Charge = NOTHING
    """The part of `charge` for which there is none."""

    @property
    def amount(self) -> int:
        """Pico-dollars."""
        return self.charge.picodollars


def settle_attempt(
    reading: Reading, bound: Bound | Unbounded | None, candidate: Candidate, status: int, sent: bool
) -> Settlement:
    """What one attempt is charged, in every unit.

    `status` is 0 where no answer came; `sent` is false where no byte of the request left.
    With a bound: exact with final usage; for a cut stream what its events prove and the whole output
    cap; without evidence the bound. Without one (no hard budget): what usage says.
    """
    if not sent:
        return Settlement(NOTHING)
    if never_billed(status, reading.error):
        return Settlement(SENT)
    usage = reading.usage
    if usage is None:
        charge = bound.charge if bound is not None else SENT
        return Settlement(charge, doubtful=True, uncertain=charge.less(SENT))
    proven = used(usage, candidate)
    certain = bool(reading.final_usage and usage.prompt_tokens and candidate.price)
    if not isinstance(bound, Bound):
        return Settlement(proven, doubtful=not certain, uncertain=proven.less(known(proven, candidate)))
    within = proven.picodollars <= bound.amount and proven.tokens <= bound.input_tokens + bound.output_tokens
    if certain and within:
        return Settlement(proven)
    most = bound.charge
    possible = used(replace(usage, output_tokens=max(usage.output_tokens, bound.output_tokens)), candidate)
    if not bound.priced:
        most = replace(most, picodollars=possible.picodollars)
    violated = proven.picodollars > most.picodollars or proven.tokens > most.tokens
    if not usage.prompt_tokens:
        # Every call has input: what counts none was not counted.
        charge = each_unit(max, proven, most)
    elif reading.final_usage:
        charge = proven
    else:
        charge = each_unit(max, proven, each_unit(min, possible, most))
    return Settlement(charge, violated, not certain, charge.less(known(proven, candidate)))


def never_billed(status: int, error: str) -> bool:
    """Refused by the provider itself, before any output; `error` is the type of error that its answer carried.

    A 5xx without the provider's error in it, or a 504, may come from something between that gave up
    waiting while the provider went on: the outcome is unknown.
    """
    if 300 <= status < 500:
        return True
    return status >= 500 and status != 504 and bool(error)


def used(usage: TokenUsage, candidate: Candidate, *, batch: bool = False) -> Charge:
    """What that usage is in every unit; no money where no price is known at all. `batch`: at a batch's price."""
    price = candidate.price or candidate.dearest
    cost = cost_of(usage, price, batch=batch) if price is not None else 0
    prompt, output, cached = usage.prompt_tokens, usage.output_tokens, usage.cache_read_tokens
    for model, inference in usage.extra:
        prompt += inference.prompt_tokens
        output += inference.output_tokens
        cached += inference.cache_read_tokens
        # Another model's price is not at hand here: the dearest known one is charged.
        rates = price if model in ("", candidate.model) else candidate.dearest or price
        cost += cost_of(inference, rates, batch=batch) if rates is not None else 0
    return Charge(cost, prompt + output, prompt - cached, output, 1)


def known(proven: Charge, candidate: Candidate) -> Charge:
    """What of it was billed for sure: no money where the dearest price stands in for an unknown one."""
    return proven if candidate.price is not None else replace(proven, picodollars=0)


def each_unit(choose: Callable[[int, int], int], one: Charge, other: Charge) -> Charge:
    """One of the two, or both made into one, unit by unit."""
    return Charge(
        choose(one.picodollars, other.picodollars),
        choose(one.tokens, other.tokens),
        choose(one.input_tokens, other.input_tokens),
        choose(one.output_tokens, other.output_tokens),
        choose(one.requests, other.requests),
    )
