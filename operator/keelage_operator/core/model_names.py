"""What the price data does not say about models: dated names, output limits, and which have a choice of place."""

from __future__ import annotations

ANTHROPIC_DATED = (
    "claude-2.0",
    "claude-2.1",
    "claude-3-haiku-20240307",
    "claude-3-sonnet-20240229",
    "claude-3-opus-20240229",
    "claude-3-5-sonnet-20240620",
    "claude-3-5-sonnet-20241022",
    "claude-3-5-sonnet-latest",
    "claude-3-5-haiku-20241022",
    "claude-3-7-sonnet-20250219",
    "claude-opus-4-20250514",
    "claude-opus-4-1-20250805",
    "claude-opus-4-5-20251101",
    "claude-sonnet-4-20250514",
    "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5-20251001",
)
"""Full names that the price data covers by a prefix only. From `anthropic` 2.11.0 (`types/model.py` and
DEPRECATED_MODELS) and earlier releases of the same files."""

OPENAI_DATED = (
    "gpt-5-nano-2025-08-07",
    "gpt-5.4-mini-2026-03-17",
    "gpt-5.4-nano-2026-03-17",
    "gpt-5.5-2026-04-23",
    "gpt-5.2-2025-12-11",
    "gpt-5.2-pro-2025-12-11",
    "gpt-5.1-2025-11-13",
)
"""Full names that the price data covers by an expression only. From `openai` 3.52.0 (`types/shared/chat_model.py`)."""

ONE_PLACE = frozenset(
    {
        "claude-v1",
        "claude-2",
        "claude-3-haiku",
        "claude-3-sonnet",
        "claude-3-opus-latest",
        "claude-3-5-haiku-latest",
        "claude-3-5-sonnet",
        "claude-3-7-sonnet-latest",
        "claude-opus-4-0",
        "claude-opus-4-1",
        "claude-opus-4-5",
        "claude-sonnet-4-0",
        "claude-sonnet-4-5",
        "claude-haiku-4-5",
    }
)
"""Ids in the price data of the models before Claude Opus 4.6, which refuse `inference_geo`. Every other one of
Anthropic's is taken to have the choice, and its 10 % for `us`."""

NOT_BOUNDED_BY_TOKENS = (
    "audio",
    "realtime",
    "transcribe",
    "tts",
    "image",
    "search",
    "deep-research",
    "computer-use",
    "ft",
)
"""Parts of the names of models that bill other units than tokens of text, search by themselves, or are fine-tunes whose
real names are longer. A price by text tokens alone would read too low, so they have none."""

MAX_OUTPUT_TOKENS = {
    # platform.claude.com, models overview: with the largest beta (`output-128k`) where one exists.
    "claude-3-haiku": 4_096,
    "claude-3-sonnet": 4_096,
    "claude-3-opus-latest": 4_096,
    "claude-3-5-haiku-latest": 8_192,
    "claude-3-5-sonnet": 8_192,
    "claude-3-7-sonnet-latest": 128_000,
    "claude-opus-4-0": 32_000,
    "claude-opus-4-1": 32_000,
    "claude-opus-4-5": 64_000,
    "claude-sonnet-4-0": 64_000,
    "claude-sonnet-4-5": 64_000,
    "claude-haiku-4-5": 64_000,
    # platform.openai.com, models: "max output tokens".
    "gpt-3.5-turbo": 4_096,
    "gpt-4": 8_192,
    "gpt-4-turbo": 4_096,
    "gpt-4o": 16_384,
    "gpt-4o-mini": 16_384,
    "gpt-4.1": 32_768,
    "gpt-4.1-mini": 32_768,
    "gpt-4.1-nano": 32_768,
    "gpt-5": 128_000,
    "gpt-5-mini": 128_000,
    "gpt-5-nano": 128_000,
    "gpt-5.1": 128_000,
    "gpt-5.2": 128_000,
    "o1": 100_000,
    "o1-mini": 65_536,
    "o1-preview": 32_768,
    "o3": 100_000,
    "o3-mini": 100_000,
    "o4-mini": 100_000,
}
"""By id in the price data. A model that is not here is bounded by its context window: too high is safe, too low not."""
