"""A chat completion as a message of Anthropic's."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from keelage_sidecar.core.translation.json_read import EMPTY, content_of, object_of, objects_of, text_of
from keelage_sidecar.core.translation.stop_reason import CUT_BY_CAP, stop_reason
from keelage_sidecar.core.translation.tokens import messages_usage
from keelage_sidecar.core.usage_fold import openai_usage


def messages_answer(completion: Mapping[str, object]) -> bytes | None:
    """The body; None where that is no completion, or a call in it that is not cut off has arguments that are no JSON.

    What the server tells of its reasoning is left out: a thinking block without Anthropic's
    signature would be refused when the application sends it back.
    """
    choices = objects_of(completion, "choices")
    if not choices:
        return None
    said = object_of(choices[0], "message")
    refusal = text_of(said, "refusal")
    content: list[dict[str, object]] = [{"type": "text", "text": text} for text in (content_of(said), refusal) if text]
    calls = objects_of(said, "tool_calls")
    for number, call in enumerate(calls):
        function = object_of(call, "function")
        given = _arguments(text_of(function, "arguments"))
        if given is None and text_of(choices[0], "finish_reason") != CUT_BY_CAP:
            return None
        name = text_of(call, "id") or f"call_{number}"
        content.append({"type": "tool_use", "id": name, "name": text_of(function, "name"), "input": given or {}})
    reason = stop_reason(text_of(choices[0], "finish_reason"), refused=bool(refusal), called=bool(calls))
    usage = openai_usage(object_of(completion, "usage"), text_of(completion, "service_tier"))
    return orjson.dumps(
        {
            "id": text_of(completion, "id"),
            "type": "message",
            "role": "assistant",
            "model": text_of(completion, "model"),
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": messages_usage(usage),
        }
    )


def _arguments(text: str) -> dict[str, object] | None:
    """None for anything but an object; no text at all is an empty one, and so is `null`."""
    try:
        value = {} if text.strip() in EMPTY else orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
