"""OpenAI's chat completions: what it rejects, and what it answers, whole or as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import orjson

from keelage_dev.provider.body import items, mapping, mappings, packed, text, whole
from keelage_dev.provider.exchange import Event
from keelage_dev.provider.output import Output, Tool, output
from keelage_dev.provider.settings import Settings
from keelage_dev.provider.usage import Usage, tokens_of

__all__ = ["Complaint", "complaint", "completion", "events", "run"]

REASONING = ("gpt-5", "o1", "o3", "o4")
"""Models of these families take `max_completion_tokens` only, and no sampling parameters."""
CHOICES_MAX = 128
CREATED = 1_760_000_000
"""Unix time of every reply: replies are the same whenever they are made."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a request is refused with 400."""

    message: str
    param: str | None = None
    code: str | None = None


def complaint(body: Mapping[str, object]) -> Complaint | None:
    """What OpenAI would refuse; None when nothing."""
    model = text(body.get("model"))
    if not model:
        return Complaint("you must provide a model parameter")
    if "messages" not in body:
        return Complaint("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if not mappings(body.get("messages")):
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array."
        return Complaint(message, "messages", "empty_array")
    for name in ("max_tokens", "max_completion_tokens", "n"):
        value = body.get(name)
        if value is not None and (whole(value) or 0) < 1:
            message = f"Invalid '{name}': integer below minimum value. Expected a value >= 1."
            return Complaint(message, name, "integer_below_min_value")
    if (whole(body.get("n")) or 1) > CHOICES_MAX:
        message = f"Invalid 'n': integer above maximum value. Expected a value <= {CHOICES_MAX}."
        return Complaint(message, "n", "integer_above_max_value")
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        return Complaint(message, "max_tokens", "invalid_parameter_combination")
    if model.startswith(REASONING):
        if body.get("max_tokens") is not None:
            message = (
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead."
            )
            return Complaint(message, "max_tokens", "unsupported_parameter")
        if body.get("temperature", 1) not in (None, 1):
            message = "Unsupported value: 'temperature' does not support this value with this model."
            return Complaint(message, "temperature", "unsupported_value")
    if body.get("stream_options") is not None and body.get("stream") is not True:
        return Complaint("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    return None


def run(body: Mapping[str, object], settings: Settings) -> tuple[Output, Usage]:
    """Let the model answer, and say what that is billed for; with `n` every choice is the same."""
    model = text(body.get("model"))
    cap = whole(body.get("max_completion_tokens")) or whole(body.get("max_tokens"))
    thinking = settings.thinking_tokens if model.startswith(REASONING) else 0
    said = output(settings, model, cap=cap, thinking=thinking, tool=_tool(body, settings))
    tokens = tokens_of(packed(body.get("tools"), body.get("messages"), body.get("prompt")))
    read = min(settings.cached_tokens, tokens)
    choices = whole(body.get("n")) or 1
    usage = Usage(input=tokens - read, cache_read=read)
    return said, replace(usage, output=choices * said.tokens, thinking=choices * said.thinking)


def completion(body: Mapping[str, object], said: Output, usage: Usage, number: int) -> bytes:
    """The whole reply."""
    message: dict[str, object] = {"role": "assistant", "content": said.text, "refusal": None, "annotations": []}
    if said.tool is not None:
        function = {"name": said.tool, "arguments": said.text}
        call = {"id": f"call_fake{number:08d}", "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    reason = _finish_reason(said)
    choices = [
        {"index": at, "message": message, "logprobs": None, "finish_reason": reason}
        for at in range(whole(body.get("n")) or 1)
    ]
    return orjson.dumps(_head(body, number, "chat.completion") | {"choices": choices, "usage": _usage(usage)})


def events(body: Mapping[str, object], said: Output, usage: Usage, number: int) -> Iterator[Event]:
    """The reply as a stream; usage comes last and only with `stream_options.include_usage`."""
    asked = mapping(body.get("stream_options")).get("include_usage") is True
    head = orjson.dumps(_head(body, number, "chat.completion.chunk"))[:-1]
    tail = b',"usage":null}\n\n' if asked else b"}\n\n"
    choices = range(whole(body.get("n")) or 1)

    def chunk(at: int, delta: bytes, reason: bytes = b"null", tokens: int = 0) -> Event:
        choice = b'{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}' % (at, delta, reason)
        return Event(b'data: %b,"choices":[%b]%b' % (head, choice, tail), tokens)

    for at in choices:
        opening: dict[str, object] = {"role": "assistant", "content": "", "refusal": None}
        if said.tool is not None:
            function = {"name": said.tool, "arguments": ""}
            call = {"index": 0, "id": f"call_fake{number:08d}", "type": "function", "function": function}
            opening |= {"content": None, "tool_calls": [call]}
        yield chunk(at, orjson.dumps(opening), tokens=said.thinking)
    for piece in said.pieces:
        for at in choices:
            yield chunk(at, _delta(piece.text, said.tool is not None), tokens=piece.tokens)
    for at in choices:
        yield chunk(at, b"{}", orjson.dumps(_finish_reason(said)))
    if asked:
        yield Event(b'data: %b,"choices":[],"usage":%b}\n\n' % (head, orjson.dumps(_usage(usage))))
    yield Event(b"data: [DONE]\n\n")


def _head(body: Mapping[str, object], number: int, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-fake{number:08d}",
        "object": kind,
        "created": CREATED,
        "model": body["model"],
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.thinking,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _finish_reason(said: Output) -> str:
    if said.capped:
        return "length"
    return "stop" if said.tool is None else "tool_calls"


def _tool(body: Mapping[str, object], settings: Settings) -> Tool | None:
    """The tool that the model calls: the forced one, else the first, unless its result has just come in."""
    offered = [each for each in (mapping(tool.get("function")) for tool in mappings(body.get("tools"))) if each]
    choice = body.get("tool_choice")
    forced = choice == "required"
    if isinstance(choice, dict):
        name = mapping(choice.get("function")).get("name")
        offered = [each for each in offered if each.get("name") == name]
        forced = True
    if not offered or choice == "none":
        return None
    answered = mapping(items(body.get("messages"))[-1]).get("role") == "tool"
    if not forced and (answered or not settings.tool_calls):
        return None
    return Tool(text(offered[0].get("name")), mapping(offered[0].get("parameters")))


@lru_cache(maxsize=4096)
def _delta(piece: str, tool: bool) -> bytes:
    """Cached, because streams are mostly made of these and the words repeat."""
    if tool:
        return orjson.dumps({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    return orjson.dumps({"content": piece})
