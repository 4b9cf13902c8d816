"""What an attempt will likely use of a rate limit in tokens: learned from those that were settled.

A bound would be far too much to reserve: a request names the greatest output that it can bear, and models seldom
write it. What was expected too low is charged in full when the attempt is settled, and paid back by those after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from keelage_api.usage import EXPECTED_OUTPUT_TOKENS, TokenUsage
from keelage_sidecar.core.bound import Bound, Unbounded
from keelage_sidecar.core.claim import Charge

MODELS_MAX = 256
"""Learned about; applications may invent names. Others are expected as at the start."""
WEIGHT = 0.1
"""Of the newest call in the averages; the first ones weigh more, what is assumed at the start weighs as one call."""
TOKENS_PER_BYTE = 0.25
"""English text; the median error over recorded calls was 5 %."""


@dataclass(slots=True)
class _Learned:
    input_per_byte: float = TOKENS_PER_BYTE
    fresh_per_byte: float = TOKENS_PER_BYTE
    """Without what was read from a prompt cache."""
    output: float = EXPECTED_OUTPUT_TOKENS
    calls: int = 0


class Expectations:
    """Moving averages by model."""

    def __init__(self) -> None:
        self._models: dict[str, _Learned] = {}

    def of(self, model: str, body_bytes: int, bound: Bound | Unbounded) -> Charge:
        """What an attempt will likely use, one token at least and never more than its bound; money is not told."""
        learned = self._models.get(model) or _Learned()
        fresh, prompt, output = (
            max(1, round(learned.fresh_per_byte * body_bytes)),
            max(1, round(learned.input_per_byte * body_bytes)),
            max(1, round(learned.output)),
        )
        if isinstance(bound, Bound):
            fresh, prompt = min(fresh, bound.input_tokens), min(prompt, bound.input_tokens)
            output = min(output, bound.output_tokens)
        return Charge(0, prompt + output, fresh, output, 1)

    def learn(self, model: str, body_bytes: int, usage: TokenUsage) -> None:
        """From the final usage of an attempt."""
        learned = self._models.get(model)
        if learned is None:
            if len(self._models) >= MODELS_MAX:
                return
            learned = self._models[model] = _Learned()
        learned.calls += 1
        weight = max(WEIGHT, 1 / (learned.calls + 1))
        size = max(1, body_bytes)
        fresh = usage.prompt_tokens - usage.cache_read_tokens
        learned.input_per_byte += weight * (usage.prompt_tokens / size - learned.input_per_byte)
        learned.fresh_per_byte += weight * (fresh / size - learned.fresh_per_byte)
        learned.output += weight * (usage.output_tokens - learned.output)
