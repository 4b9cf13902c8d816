"""Tokens to pico-dollars by flat integer records, compiled once by the operator.

A record holds exact integers: every published token price is a whole number of
pico-dollars. The sidecar sums products and never rounds.
"""

from __future__ import annotations

import msgspec

from keelage_api.usage import TokenUsage


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """Pico-dollars per token for prompts of more than `above` tokens."""

    above: int
    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int


class ModelPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one model costs at one provider.

    `tiers` ascend by `above` and the first has `above == 0`; the whole request is
    charged at the last tier whose `above` is less than its prompt. Percentages
    multiply the sum of token costs; 0 says that no such variant has a price.
    """

    tiers: tuple[Rates, ...]
    context_window: int = 0
    """Prompt tokens beyond which the provider refuses; 0 where unknown."""
    max_output_tokens: int = 0
    """Output tokens beyond which the provider refuses; 0 where unknown."""
    fast_percent: int = 0
    us_percent: int = 100
    """Anthropic `inference_geo: us`; 100 for models that have no such choice."""
    batch_percent: int = 50
    """Of the token costs, in a message batch; Anthropic's price page has half for every model."""
    web_search: int = 0
    """Pico-dollars for one search; 0 where it has no price."""

    def rates(self, prompt_tokens: int) -> Rates:
        """The tier for a prompt of that size."""
        chosen = self.tiers[0]
        if len(self.tiers) > 1:
            for tier in self.tiers[1:]:
                if prompt_tokens > tier.above:
                    chosen = tier
        return chosen


def batch_share(amount: int, price: ModelPrice, speed: object) -> int:
    """What of pico-dollars for tokens is due in a batch, rounded up; all of it for a speed that batches do not have."""
    return -(-amount * price.batch_percent // 100) if speed in (None, "", "standard") else amount


def cost_of(usage: TokenUsage, price: ModelPrice, *, batch: bool = False) -> int:
    """Pico-dollars of one answer, without its `extra` inferences; `batch`: in a message batch.

    A variant that the record has no price for is charged at the dearest known
    one: an answer is never priced below what it may cost.
    """
    rates = price.rates(usage.prompt_tokens)
    total = (
        usage.input_tokens * rates.input
        + usage.cache_read_tokens * rates.cache_read
        + usage.cache_write_5m_tokens * rates.cache_write_5m
        + usage.cache_write_1h_tokens * rates.cache_write_1h
        + usage.output_tokens * rates.output
    )
    if usage.speed not in ("", "standard"):
        total = -(-total * max(price.fast_percent, 200) // 100)
    if usage.geo == "us":
        total = -(-total * price.us_percent // 100)
    if batch:
        total = batch_share(total, price, usage.speed)
    return total + usage.web_searches * price.web_search
