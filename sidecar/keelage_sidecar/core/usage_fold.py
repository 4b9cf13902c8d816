"""A provider's `usage` object to token counts; counts that contradict each other are read the dearer way."""

from __future__ import annotations

import math
from collections.abc import Mapping

from keelage_api.usage import TokenUsage

FAST_TIERS = ("priority", "fast", "ultrafast", "scale")
_EXTRA_ITERATIONS = ("compaction", "advisor_message")
"""Billed beside the top-level totals; the other kinds are parts of them."""

_RUNNING = (
    "input_tokens", "output_tokens", "output_tokens_details", "cache_read_input_tokens", "cache_creation_input_tokens",
    "cache_creation", "server_tool_use", "speed", "inference_geo", "service_tier", "iterations",
)  # fmt: skip
"""What `anthropic_usage` reads."""


def anthropic_usage(raw: Mapping[str, object], long_cache: bool) -> TokenUsage:
    """Counts of a Messages answer. `long_cache`: writes whose life is not told were for 1h."""
    used = _one(raw, long_cache)
    extra: list[tuple[str, TokenUsage]] = []
    iterations = raw.get("iterations")
    for entry in iterations if isinstance(iterations, list) else ():
        if isinstance(entry, dict) and entry.get("type") in _EXTRA_ITERATIONS:
            model = entry.get("model")
            extra.append((model if isinstance(model, str) else "", _one(entry, long_cache)))
    if not extra:
        return used
    return TokenUsage(
        used.input_tokens,
        used.cache_read_tokens,
        used.cache_write_5m_tokens,
        used.cache_write_1h_tokens,
        used.output_tokens,
        used.reasoning_tokens,
        used.web_searches,
        used.speed,
        used.geo,
        used.service_tier,
        tuple(extra),
    )


def _one(raw: Mapping[str, object], long_cache: bool) -> TokenUsage:
    split = _object(raw, "cache_creation")
    short, long = _count(split, "ephemeral_5m_input_tokens"), _count(split, "ephemeral_1h_input_tokens")
    rest = max(0, _count(raw, "cache_creation_input_tokens") - short - long)
    return TokenUsage(
        input_tokens=_count(raw, "input_tokens"),
        cache_read_tokens=_count(raw, "cache_read_input_tokens"),
        cache_write_5m_tokens=short + (0 if long_cache else rest),
        cache_write_1h_tokens=long + (rest if long_cache else 0),
        output_tokens=_count(raw, "output_tokens"),
        reasoning_tokens=_count(_object(raw, "output_tokens_details"), "thinking_tokens"),
        web_searches=_count(_object(raw, "server_tool_use"), "web_search_requests"),
        speed=_text(raw, "speed"),
        geo=_text(raw, "inference_geo"),
        service_tier=_text(raw, "service_tier"),
    )


def openai_usage(raw: Mapping[str, object], service_tier: str) -> TokenUsage:
    """Counts of a chat or embeddings answer; `service_tier` is the answer's own top-level field.

    `prompt_tokens` includes what was read from and written to the cache. Gemini's compatible endpoint
    leaves thinking out of `completion_tokens` but not out of `total_tokens`.
    """
    prompt, completion = _count(raw, "prompt_tokens"), _count(raw, "completion_tokens")
    details, thought = _object(raw, "prompt_tokens_details"), _object(raw, "completion_tokens_details")
    read = max(_count(details, "cached_tokens"), _count(raw, "prompt_cache_hit_tokens"))
    written = _count(details, "cache_write_tokens")
    written_long = min(written, _count(_object(details, "cache_write_tokens_details"), "ttl_12h_tokens"))
    return TokenUsage(
        input_tokens=max(0, prompt - read - written),
        cache_read_tokens=read,
        cache_write_5m_tokens=written - written_long,
        cache_write_1h_tokens=written_long,
        output_tokens=max(completion, _count(raw, "total_tokens") - prompt),
        reasoning_tokens=_count(thought, "reasoning_tokens"),
        # Priority costs about twice as much, as Anthropic's fast mode does; the record has no rate of its own for it.
        speed="fast" if service_tier in FAST_TIERS else "",
        service_tier=service_tier,
    )


_CHAT_NAMES = {
    "input_tokens": "prompt_tokens",
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens": "completion_tokens",
    "output_tokens_details": "completion_tokens_details",
}


def responses_usage(raw: Mapping[str, object], service_tier: str) -> TokenUsage:
    """Counts of a Responses answer: those of a chat under other names."""
    return openai_usage({_CHAT_NAMES.get(name, name): value for name, value in raw.items()}, service_tier)


def replaced(totals: Mapping[str, object], counts: Mapping[str, object]) -> dict[str, object]:
    """The running totals of an Anthropic stream, with what an event names anew; null says nothing.

    Only names that are read: a stream may bring others without end.
    """
    named = {name: value for name in _RUNNING if (value := counts.get(name)) is not None}
    return {**totals, **named}


def tells_output(raw: Mapping[str, object]) -> bool:
    """Whether the object counts the output at all, be it 0."""
    names = ("output_tokens", "completion_tokens", "total_tokens")
    return any(isinstance(raw.get(name), int | float) for name in names)


def _count(raw: Mapping[str, object], name: str) -> int:
    value = raw.get(name)
    if isinstance(value, float) and math.isfinite(value):
        value = math.ceil(value)  # some compatible servers count so
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _object(raw: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _text(raw: Mapping[str, object], name: str) -> str:
    value = raw.get(name)
    return value[:64] if isinstance(value, str) else ""
