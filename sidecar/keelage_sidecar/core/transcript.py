"""A piece of a conversation as plain text, for whoever is to summarize it; the same in each API. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

TEXT_MAX = 20_000
"""Characters of one text: what a tool has returned may be long, and a summary of it is short."""
_PARTS_DEPTH_MAX = 8
_TEXTS = ("text", "input_text", "output_text", "refusal")


def transcript(messages: Iterable[object]) -> str:
    """Who said what, called what, and what came back; thinking is left out, pictures are named."""
    return "".join(f"{who}: {said}\n" for message in messages for who, said in _lines(message))


def _lines(message: object) -> Iterator[tuple[str, str]]:
    if not isinstance(message, dict):
        return
    kind, role = message.get("type"), message.get("role")
    if kind == "function_call":  # an item of a Responses call
        yield "assistant", _called(message.get("name"), message.get("arguments"))
    elif isinstance(kind, str) and kind.endswith("_call_output"):
        yield "tool", _cut(_text(message.get("output")))
    elif role == "tool":
        yield "tool", _cut(_text(message.get("content")))
    elif isinstance(role, str):
        yield from _blocks(role, message.get("content"))
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                yield role, _called(function.get("name"), function.get("arguments"))


def _blocks(role: str, content: object) -> Iterator[tuple[str, str]]:
    if isinstance(content, str):
        yield role, _cut(content)
        return
    for block in content if isinstance(content, list) else ():
        match block:
            case {"type": "tool_use", "name": name, "input": given}:
                yield role, _called(name, given)
            case {"type": "tool_result"}:
                yield "tool", _cut(_text(block.get("content")))
            case {"type": "thinking" | "redacted_thinking"}:
                pass
            case _:
                if said := _text(block):
                    yield role, _cut(said)


def _called(name: object, arguments: object) -> str:
    try:
        given = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    except orjson.JSONEncodeError:  # it reads deeper nesting than it writes
        given = "(much)"
    # Another value may be nested deeper than Python can print.
    return _cut(f"calls {name if isinstance(name, str) else 'something'} with {given}")


def _text(value: object, depth: int = 0) -> str:
    """The texts in a value; the names of what else is in it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth < _PARTS_DEPTH_MAX:
        return " ".join(filter(None, (_text(each, depth + 1) for each in value)))
    if not isinstance(value, dict):
        return ""
    kind = value.get("type")
    if kind in _TEXTS:
        return _text(value.get("text") or value.get("refusal"), depth + 1)
    if kind == "document" and isinstance(source := value.get("source"), dict) and source.get("type") == "text":
        return _text(source.get("data"), depth + 1)
    return f"({kind})" if isinstance(kind, str) else ""


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]} (cut)"
