"""How the application wants its chat completion: what the request said that only the answer shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Manner:
    usage: bool = False
    """In the stream, as its last chunk."""
    reasoning: bool = False
    """As `reasoning_content`, where the model shows any."""
    legacy: bool = False
    """Calls as `function_call`: the request offered `functions`."""


def manner_of(body: dict[str, object]) -> Manner:
    """Of a chat request's body."""
    options = body.get("stream_options")
    return Manner(
        usage=isinstance(options, dict) and options.get("include_usage") is True,
        reasoning=body.get("include_reasoning") is True,
        legacy=not body.get("tools") and bool(body.get("functions")),
    )
