"""One answer's token counts in the words of the other API."""

from __future__ import annotations

from keelage_api.usage import TokenUsage


def chat_usage(usage: TokenUsage) -> dict[str, object]:
    """As `usage` of a chat completion: the prompt includes what was read from and written to the cache."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def messages_usage(usage: TokenUsage) -> dict[str, object]:
    """As `usage` of a message: three disjoint classes of input."""
    return {
        **delta_usage(usage),
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "service_tier": "priority" if usage.speed == "fast" else "standard",
    }


def delta_usage(usage: TokenUsage) -> dict[str, object]:
    """As `usage` of `message_delta`, which replaces what `message_start` said."""
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }
