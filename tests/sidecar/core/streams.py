"""Streams as the providers send them, for tests of what reads them."""

from __future__ import annotations

import orjson


def anthropic_events(*events: dict[str, object]) -> bytes:
    """A Messages stream of those events, each named by its type."""
    return b"".join(b"event: %s\ndata: %s\n\n" % (str(e["type"]).encode(), orjson.dumps(e)) for e in events)


def openai_chunks(*chunks: dict[str, object], done: bool = True) -> bytes:
    """A chat stream of those chunks."""
    return b"".join(b"data: %s\n\n" % orjson.dumps(c) for c in chunks) + (b"data: [DONE]\n\n" if done else b"")


MESSAGE_START: dict[str, object] = {
    "type": "message_start",
    "message": {
        "model": "claude-haiku-4-5-20251001",
        "usage": {
            "input_tokens": 25,
            "cache_creation_input_tokens": 10,
            "cache_read_input_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 4},
            "output_tokens": 1,
            "service_tier": "standard",
            "inference_geo": "global",
        },
    },
}
TEXT: dict[str, object] = {
    "type": "content_block_delta",
    "index": 0,
    "delta": {"type": "text_delta", "text": "Grüße\n\n"},
}
MESSAGE_DELTA: dict[str, object] = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {"input_tokens": 30, "output_tokens": 42, "cache_read_input_tokens": None},
}
MESSAGE_STOP: dict[str, object] = {"type": "message_stop"}
ERROR: dict[str, object] = {"type": "error", "error": {"type": "overloaded_error", "message": "secret prompt"}}

FIRST_CHUNK: dict[str, object] = {
    "id": "c",
    "model": "gpt-5-mini-2025-08-07",
    "service_tier": "default",
    "choices": [{"index": 0, "delta": {"content": "Grüße\n\n"}, "finish_reason": None}],
    "usage": None,
}
LAST_CHUNK: dict[str, object] = {
    **FIRST_CHUNK,
    "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
}
USAGE_CHUNK: dict[str, object] = {
    **FIRST_CHUNK,
    "choices": [],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 5},
    },
}
