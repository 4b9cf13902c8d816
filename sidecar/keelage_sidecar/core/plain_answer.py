"""What a plain answer says about itself where it is as its provider documents it: read without the text in it.

Anything else (an error, counts that are no counts, further inferences) yields None, and `meter` reads the answer
field by field, as tolerantly as it can: that costs five times as much.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from keelage_api.usage import TokenUsage
from keelage_sidecar.core.usage_fold import FAST_TIERS

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Told(msgspec.Struct, frozen=True, gc=False):
    usage: TokenUsage
    model: str
    stop_reason: str


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: _Count = 0
    ephemeral_1h_input_tokens: _Count = 0


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: _Count = 0


class _ServerTools(msgspec.Struct, gc=False):
    web_search_requests: _Count = 0


class _MessageUsage(msgspec.Struct, gc=False):
    input_tokens: _Count
    output_tokens: _Count
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    speed: str | None = None
    inference_geo: str | None = None
    service_tier: str | None = None
    iterations: object = None


class _Message(msgspec.Struct, gc=False):
    model: str
    usage: _MessageUsage
    stop_reason: str | None = None
    error: object = None


_MESSAGE = msgspec.json.Decoder(_Message)
_TEXT_MAX = 64
_NAME_MAX = 256
"""As `usage_fold` and `meter` cut what a provider may write at any length."""


def told_by_message(body: bytes, long_cache: bool) -> Told | None:
    """Of an Anthropic message. `long_cache`: cache writes whose life is not told were for 1h."""
    try:
        answer = _MESSAGE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    used = answer.usage
    if answer.error is not None or used.iterations is not None:
        return None
    short = long = 0
    if used.cache_creation is not None:
        short, long = used.cache_creation.ephemeral_5m_input_tokens, used.cache_creation.ephemeral_1h_input_tokens
    if used.cache_creation_input_tokens:
        rest = max(0, used.cache_creation_input_tokens - short - long)
        short, long = (short, long + rest) if long_cache else (short + rest, long)
    usage = TokenUsage(
        used.input_tokens,
        used.cache_read_input_tokens or 0,
        short,
        long,
        used.output_tokens,
        used.output_tokens_details.thinking_tokens if used.output_tokens_details is not None else 0,
        used.server_tool_use.web_search_requests if used.server_tool_use is not None else 0,
        used.speed[:_TEXT_MAX] if used.speed else "",
        used.inference_geo[:_TEXT_MAX] if used.inference_geo else "",
        used.service_tier[:_TEXT_MAX] if used.service_tier else "",
    )
    return Told(usage, answer.model[:_NAME_MAX], (answer.stop_reason or "")[:_NAME_MAX])


class _CacheWrites(msgspec.Struct, gc=False):
    ttl_12h_tokens: _Count = 0


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    cache_write_tokens_details: _CacheWrites | None = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count | None = None


class _ChatUsage(msgspec.Struct, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: _Count | None = None


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Completion(msgspec.Struct, gc=False):
    model: str
    usage: _ChatUsage
    choices: list[_Choice] = []
    service_tier: str | None = None
    error: object = None


_COMPLETION = msgspec.json.Decoder(_Completion)


def told_by_completion(body: bytes) -> Told | None:
    """Of an OpenAI chat completion; `usage_fold.openai_usage` says how its counts are read."""
    try:
        answer = _COMPLETION.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if answer.error is not None:
        return None
    used, read, written, written_long = answer.usage, 0, 0, 0
    if (details := used.prompt_tokens_details) is not None:
        read, written = details.cached_tokens or 0, details.cache_write_tokens or 0
        if details.cache_write_tokens_details is not None:
            written_long = min(written, details.cache_write_tokens_details.ttl_12h_tokens)
    read = max(read, used.prompt_cache_hit_tokens or 0)
    thought = used.completion_tokens_details
    tier = answer.service_tier[:_NAME_MAX] if answer.service_tier else ""
    usage = TokenUsage(
        max(0, used.prompt_tokens - read - written),
        read,
        written - written_long,
        written_long,
        max(used.completion_tokens, used.total_tokens - used.prompt_tokens),
        (thought.reasoning_tokens or 0) if thought is not None else 0,
        0,
        "fast" if tier in FAST_TIERS else "",
        "",
        tier,
    )
    stop = answer.choices[0].finish_reason if answer.choices else None
    return Told(usage, answer.model[:_NAME_MAX], (stop or "")[:_NAME_MAX])
