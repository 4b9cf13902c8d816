"""Anthropic's Messages API: what it rejects, and what it answers, whole or as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

import orjson

from keelage_dev.provider.body import mapping, mappings, text, whole
from keelage_dev.provider.exchange import Event
from keelage_dev.provider.output import Output, Tool, output
from keelage_dev.provider.settings import Settings
from keelage_dev.provider.usage import PromptCache, Usage, prompt

__all__ = ["complaint", "count", "events", "message", "run"]

NO_SAMPLING_FROM = "2026-10-21"
SAMPLING = ("temperature", "top_p", "top_k")
BREAKPOINTS_MAX = 4
CONTEXT_TOKENS = 200_000
"""Of every model here; a longer prompt is refused, and not billed."""
THINKING_TOKENS_LEAST = 4
"""What enabled thinking yields when the settings do not say."""


def complaint(body: Mapping[str, object], version: str, *, counting: bool = False) -> str | None:
    """Why the request is refused with 400, as Anthropic words it; None when it is not."""
    if not version:
        return "anthropic-version: header is required"
    if not text(body.get("model")):
        return "model: Field required"
    cap = whole(body.get("max_tokens"))
    if not counting:
        if "max_tokens" not in body:
            return "max_tokens: Field required"
        if cap is None:
            return "max_tokens: Input should be a valid integer"
        if cap < 0:
            return "max_tokens: Input should be greater than or equal to 0"
    if "messages" not in body:
        return "messages: Field required"
    messages = mappings(body.get("messages"))
    if not messages:
        return "messages: at least one message is required"
    for at, each in enumerate(messages):
        if each.get("role") not in ("user", "assistant", "system"):
            return f"messages.{at}.role: Input should be 'user', 'assistant' or 'system'"
        if "content" not in each:
            return f"messages.{at}.content: Field required"
    if version >= NO_SAMPLING_FROM:
        for name in SAMPLING:
            if name in body:
                return f"{name}: Extra inputs are not permitted"
    thinking = mapping(body.get("thinking"))
    if thinking.get("type") == "enabled" and cap is not None:
        budget = whole(thinking.get("budget_tokens"))
        if budget is None or budget < 1024:
            return "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        if budget >= cap:
            return "`max_tokens` must be greater than `thinking.budget_tokens`."
    tokens, marks = prompt(body)
    if tokens > CONTEXT_TOKENS and not counting:
        return f"prompt is too long: {tokens} tokens > {CONTEXT_TOKENS} maximum"
    found = len(marks)
    if found > BREAKPOINTS_MAX:
        return f"A maximum of {BREAKPOINTS_MAX} blocks with cache_control may be provided. Found {found}."
    lives = [mark.ttl for mark in marks]
    if lives != sorted(lives):  # "1h" sorts before "5m"
        return "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
    if any(_marks_an_empty_text(each) for each in _texts(body)):
        return "cache_control cannot be set for empty text blocks"
    return None


def _texts(body: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    yield from mappings(body.get("system"))
    for message in mappings(body.get("messages")):
        yield from mappings(message.get("content"))


def _marks_an_empty_text(block: Mapping[str, object]) -> bool:
    return block.get("type") == "text" and bool(block.get("cache_control")) and not text(block.get("text")).strip()


def count(body: Mapping[str, object]) -> bytes:
    """The answer of `count_tokens`."""
    return orjson.dumps({"input_tokens": prompt(body)[0]})


def run(body: Mapping[str, object], settings: Settings, cache: PromptCache) -> tuple[Output, Usage]:
    """Let the model answer, and say what that is billed for."""
    thinking = 0
    if mapping(body.get("thinking")).get("type") in ("enabled", "adaptive", "between_tools"):
        thinking = settings.thinking_tokens or THINKING_TOKENS_LEAST
    said = output(
        settings,
        text(body.get("model")),
        cap=whole(body.get("max_tokens")),
        thinking=thinking,
        tool=_tool(body, settings),
    )
    tokens, marks = prompt(body)
    if settings.cached_tokens:
        read = min(settings.cached_tokens, tokens)
        usage = Usage(input=tokens - read, cache_read=read)
    else:
        usage = cache.usage(tokens, marks, min_tokens=settings.cache_min_tokens)
    return said, replace(usage, output=said.tokens, thinking=said.thinking)


def message(body: Mapping[str, object], said: Output, usage: Usage, number: int) -> bytes:
    """The whole reply."""
    content: list[dict[str, object]] = []
    if said.thinking:
        content.append({"type": "thinking", "thinking": "think " * said.thinking, "signature": "c2lnbmVk"})
    if said.tool is not None:
        arguments: object = {} if said.capped else orjson.loads(said.text)
        content.append({"type": "tool_use", "id": _tool_id(number), "name": said.tool, "input": arguments})
    elif said.pieces:
        content.append({"type": "text", "text": said.text, "citations": None})
    head = _head(body, number, content, _usage(usage))
    return orjson.dumps(head | {"stop_reason": _stop_reason(said)})


def events(body: Mapping[str, object], said: Output, usage: Usage, number: int) -> Iterator[Event]:
    """The reply as a stream; running totals are in `message_delta`."""
    started = replace(usage, output=min(usage.output, 1))
    head = _head(body, number, [], _usage(started))
    yield _event("message_start", {"type": "message_start", "message": head})
    at = 0
    if said.thinking:
        yield from _thinking(said.thinking, at)
        at += 1
    if said.pieces or said.tool:
        block: dict[str, object] = {"type": "text", "text": ""}
        if said.tool is not None:
            block = {"type": "tool_use", "id": _tool_id(number), "name": said.tool, "input": {}}
        yield _event("content_block_start", {"type": "content_block_start", "index": at, "content_block": block})
        yield Event(b'event: ping\ndata: {"type": "ping"}\n\n')
        for piece in said.pieces:
            yield Event(_delta(at, piece.text, said.tool is not None), piece.tokens)
        yield _event("content_block_stop", {"type": "content_block_stop", "index": at})
    totals = _usage(usage)
    for only_at_start in ("cache_creation", "service_tier", "inference_geo"):
        del totals[only_at_start]
    delta = {"stop_reason": _stop_reason(said), "stop_sequence": None}
    yield _event("message_delta", {"type": "message_delta", "delta": delta, "usage": totals})
    yield _event("message_stop", {"type": "message_stop"})


def _thinking(tokens: int, at: int) -> Iterator[Event]:
    block = {"type": "thinking", "thinking": "", "signature": ""}
    yield _event("content_block_start", {"type": "content_block_start", "index": at, "content_block": block})
    for _ in range(tokens):
        delta = {"type": "thinking_delta", "thinking": "think "}
        yield _event("content_block_delta", {"type": "content_block_delta", "index": at, "delta": delta}, 1)
    signature = {"type": "signature_delta", "signature": "c2lnbmVk"}
    yield _event("content_block_delta", {"type": "content_block_delta", "index": at, "delta": signature})
    yield _event("content_block_stop", {"type": "content_block_stop", "index": at})


def _head(
    body: Mapping[str, object], number: int, content: list[dict[str, object]], usage: dict[str, object]
) -> dict[str, object]:
    return {
        "id": f"msg_fake{number:08d}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.thinking},
        "service_tier": "standard",
        "inference_geo": "global",
    }


def _stop_reason(said: Output) -> str:
    if said.capped:
        return "max_tokens"
    return "end_turn" if said.tool is None else "tool_use"


def _tool(body: Mapping[str, object], settings: Settings) -> Tool | None:
    """The tool that the model calls: the forced one, else the first, unless its result has just come in."""
    offered = [each for each in mappings(body.get("tools")) if "input_schema" in each]
    choice = mapping(body.get("tool_choice"))
    kind = choice.get("type")
    if kind == "tool":
        offered = [each for each in offered if each.get("name") == choice.get("name")]
    if not offered or kind == "none":
        return None
    last = mappings(mappings(body.get("messages"))[-1].get("content"))
    answered = any(block.get("type") == "tool_result" for block in last)
    if kind not in ("tool", "any") and (answered or not settings.tool_calls):
        return None
    return Tool(text(offered[0].get("name")), mapping(offered[0].get("input_schema")))


def _tool_id(number: int) -> str:
    return f"toolu_fake{number:08d}"


@lru_cache(maxsize=4096)
def _delta(at: int, piece: str, tool: bool) -> bytes:
    """Cached, because streams are mostly made of these and the words repeat."""
    delta = {"type": "input_json_delta", "partial_json": piece} if tool else {"type": "text_delta", "text": piece}
    return _event("content_block_delta", {"type": "content_block_delta", "index": at, "delta": delta}).data


def _event(name: str, data: object, tokens: int = 0) -> Event:
    return Event(b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data)), tokens)
