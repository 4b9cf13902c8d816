"""A message of Anthropic's as a chat completion."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from keelage_sidecar.core.translation.json_read import object_of, objects_of, text_of
from keelage_sidecar.core.translation.manner import Manner
from keelage_sidecar.core.translation.stop_reason import finish_reason
from keelage_sidecar.core.translation.tokens import chat_usage
from keelage_sidecar.core.usage_fold import anthropic_usage


def chat_answer(message: Mapping[str, object], manner: Manner, created_s: int) -> bytes | None:
    """The body; None where that is no message. `created_s`: Unix time, which Anthropic's answer lacks."""
    if not isinstance(message.get("content"), list):
        return None
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, object]] = []
    for block in objects_of(message, "content"):
        match block.get("type"):
            case "text":
                texts.append(text_of(block, "text"))
            case "thinking":
                thoughts.append(text_of(block, "thinking"))
            case "tool_use":
                arguments = orjson.dumps(object_of(block, "input")).decode()
                function = {"name": text_of(block, "name"), "arguments": arguments}
                calls.append({"id": text_of(block, "id"), "type": "function", "function": function})
    reason = finish_reason(text_of(message, "stop_reason"))
    said: dict[str, object] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": refusal_of(message) if reason == "content_filter" else None,
    }
    if calls and manner.legacy:
        said["function_call"] = calls[0]["function"]
    elif calls:
        said["tool_calls"] = calls
    if manner.reasoning and any(thoughts):
        said["reasoning_content"] = "".join(thoughts)
    if reason == "tool_calls" and manner.legacy:
        reason = "function_call"
    return orjson.dumps(
        {
            "id": text_of(message, "id"),
            "object": "chat.completion",
            "created": created_s,
            "model": text_of(message, "model"),
            "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": reason}],
            "usage": chat_usage(anthropic_usage(object_of(message, "usage"), long_cache=False)),
        }
    )


def refusal_of(holder: Mapping[str, object]) -> str | None:
    """What Anthropic says about a refusal, in a message or in a stream's `delta`."""
    return text_of(object_of(holder, "stop_details"), "explanation") or None
