"""Answers as the providers give them, whole and as streams, and what the official SDKs make of ours.

The SDKs run here without a network: their HTTP client is handed the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anthropic
import httpx2
import openai
import orjson
from anthropic.types import Message
from openai.types.chat import ChatCompletion
from tests.sidecar.core.streams import anthropic_events, openai_chunks

Json = dict[str, object]
CREATED_S = 1_760_000_000
MESSAGES_USAGE: Json = {
    "input_tokens": 60,
    "cache_creation_input_tokens": 10,
    "cache_read_input_tokens": 30,
    "output_tokens": 20,
    "output_tokens_details": {"thinking_tokens": 5},
}
CHAT_USAGE: Json = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 5},
}


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: Json


Said = Sequence[str | Call]
"""Texts and calls of tools, in order."""


def message(said: Said, stop: str = "end_turn") -> Json:
    """Anthropic's whole answer."""
    content: list[Json] = [
        {"type": "text", "text": each, "citations": None}
        if isinstance(each, str)
        else {"type": "tool_use", "id": f"toolu_{at}", "name": each.name, "input": each.arguments}
        for at, each in enumerate(said)
    ]
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": content,
        "stop_reason": stop, "stop_sequence": None, "usage": MESSAGES_USAGE,
    }  # fmt: skip


def message_stream(said: Said, stop: str = "end_turn", size: int = 3) -> bytes:
    """The same as a stream, each delta `size` characters long."""
    opening = {**message([]), "stop_reason": None, "usage": {**MESSAGES_USAGE, "output_tokens": 1}}
    events: list[Json] = [{"type": "message_start", "message": opening}, {"type": "ping"}]
    for at, each in enumerate(said):
        block: Json = {"type": "text", "text": ""}
        text = each if isinstance(each, str) else ""
        if isinstance(each, Call):
            block = {"type": "tool_use", "id": f"toolu_{at}", "name": each.name, "input": {}}
            text = orjson.dumps(each.arguments).decode() if each.arguments else ""
        events.append({"type": "content_block_start", "index": at, "content_block": block})
        for piece in pieces(text, size):
            delta = {"type": "text_delta", "text": piece}
            if isinstance(each, Call):
                delta = {"type": "input_json_delta", "partial_json": piece}
            events.append({"type": "content_block_delta", "index": at, "delta": delta})
        events.append({"type": "content_block_stop", "index": at})
    events.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": MESSAGES_USAGE})
    return anthropic_events(*events, {"type": "message_stop"})


def completion(said: Said, reason: str = "stop") -> Json:
    """OpenAI's whole answer; texts are one there, before the calls."""
    calls = [each for each in said if isinstance(each, Call)]
    reply: Json = {"role": "assistant", "content": "".join(each for each in said if isinstance(each, str)) or None}
    if calls:
        reply["tool_calls"] = [_call(at, each, orjson.dumps(each.arguments).decode()) for at, each in enumerate(calls)]
    choice = {"index": 0, "message": reply, "logprobs": None, "finish_reason": reason}
    return _head("chat.completion") | {"choices": [choice], "usage": CHAT_USAGE}


def completion_stream(said: Said, reason: str = "stop", size: int = 3, mixed: bool = False) -> bytes:
    """The same as a stream; `mixed`: the fragments of all calls in turn."""
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    text = "".join(each for each in said if isinstance(each, str))
    deltas += ({"content": piece} for piece in pieces(text, size))
    calls = [each for each in said if isinstance(each, Call)]
    fragments: list[list[Json]] = []
    for at, each in enumerate(calls):
        rest = pieces(orjson.dumps(each.arguments).decode(), size)
        more: list[Json] = [{"index": at, "function": {"arguments": piece}} for piece in rest]
        fragments.append([{"index": at, **_call(at, each, "")}, *more])
    while any(fragments):
        for each_call in fragments:
            while each_call:
                deltas.append({"tool_calls": [each_call.pop(0)]})
                if mixed:
                    break
    chunks = [_chunk(delta) for delta in deltas] + [_chunk({}, reason)]
    return openai_chunks(*chunks, {**_chunk({}), "choices": [], "usage": CHAT_USAGE})


def read_message(body: bytes) -> Message:
    """As the official SDK reads it, strictly."""
    return _anthropic(body, "application/json").messages.create(model="m", max_tokens=1, messages=[])


def accumulate_message(stream: bytes) -> Message:
    """As the official SDK puts a stream together."""
    with _anthropic(stream, "text/event-stream").messages.stream(model="m", max_tokens=1, messages=[]) as events:
        return events.get_final_message()


def read_completion(body: bytes) -> ChatCompletion:
    """As the official SDK reads it, strictly."""
    return _openai(body, "application/json").chat.completions.create(model="m", messages=[])


def accumulate_completion(stream: bytes) -> ChatCompletion:
    """As the official SDK puts a stream together."""
    with _openai(stream, "text/event-stream").chat.completions.stream(model="m", messages=[]) as events:
        whole: ChatCompletion = events.get_final_completion()
    return whole


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _head(kind: str) -> Json:
    return {"id": "chatcmpl-1", "object": kind, "created": CREATED_S, "model": "gpt-4o", "service_tier": "default"}


def _chunk(delta: Json, reason: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return _head("chat.completion.chunk") | {"choices": [choice], "usage": None}


def _call(at: int, call: Call, arguments: str) -> Json:
    return {"id": f"call_{at}", "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _anthropic(body: bytes, kind: str) -> anthropic.Anthropic:
    client = httpx2.Client(transport=httpx2.MockTransport(_answering(body, kind)))
    return anthropic.Anthropic(api_key="k", http_client=client, max_retries=0, _strict_response_validation=True)


def _openai(body: bytes, kind: str) -> openai.OpenAI:
    client = httpx2.Client(transport=httpx2.MockTransport(_answering(body, kind)))
    return openai.OpenAI(api_key="k", http_client=client, max_retries=0, _strict_response_validation=True)


def _answering(body: bytes, kind: str) -> Callable[[httpx2.Request], httpx2.Response]:
    return lambda request: httpx2.Response(200, headers={"content-type": kind}, content=body)
