"""What the fake model says: words, or a call of an offered tool; the same request gets the same answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import orjson

from keelage_dev.provider.body import items, mapping, mappings, text
from keelage_dev.provider.settings import Settings

__all__ = ["Output", "Piece", "Tool", "output"]

WORDS = ("The ", "budget ", "holds ", "and ", "every ", "token ", "is ", "counted, ")
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one event and the tokens generated for it."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as both APIs offer it."""

    name: str
    schema: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Output:
    """Thinking first, then text or, with `tool`, the arguments of its call as JSON text."""

    thinking: int
    pieces: tuple[Piece, ...]
    tool: str | None
    capped: bool
    """The request's cap ended it."""

    @property
    def text(self) -> str:
        """All pieces together."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> int:
        """All that is billed as output."""
        return self.thinking + sum(piece.tokens for piece in self.pieces)


def output(settings: Settings, model: str, *, cap: int | None, thinking: int, tool: Tool | None) -> Output:
    """What the model says within `cap` tokens, thinking included; None is no cap."""
    if tool is not None:
        arguments = orjson.dumps(_example(tool.schema)).decode()
        pieces = _cut(arguments, settings.tokens_per_event)
    elif (reply := settings.replies.get(model, settings.replies.get("*"))) is not None:
        pieces = _cut(reply, settings.tokens_per_event)
    else:
        pieces = _words(settings.output_tokens, settings.tokens_per_event)
    if cap is None or thinking + sum(piece.tokens for piece in pieces) <= cap:
        return Output(thinking, pieces, None if tool is None else tool.name, capped=False)
    thinking = min(thinking, cap)
    kept: list[Piece] = []
    left = cap - thinking
    for piece in pieces:
        if piece.tokens > left:
            if left:
                kept.append(Piece(piece.text[: len(piece.text) * left // piece.tokens], left))
            break
        kept.append(piece)
        left -= piece.tokens
    return Output(thinking, tuple(kept), None if tool is None else tool.name, capped=True)


@lru_cache(maxsize=64)
def _words(tokens: int, per_event: int) -> tuple[Piece, ...]:
    per_event = max(1, per_event)
    return tuple(
        Piece("".join(WORDS[word % len(WORDS)] for word in range(at, min(at + per_event, tokens))), n)
        for at in range(0, tokens, per_event)
        if (n := min(per_event, tokens - at))
    )


def _cut(reply: str, per_event: int) -> tuple[Piece, ...]:
    size = CHARACTERS_PER_TOKEN * max(1, per_event)
    parts = [reply[at : at + size] for at in range(0, len(reply), size)]
    return tuple(Piece(part, -(-len(part) // CHARACTERS_PER_TOKEN)) for part in parts)


def _example(schema: Mapping[str, object], depth: int = 0) -> object:
    """A value that fits a JSON schema of the simple kind that tools have."""
    if choices := items(schema.get("enum")):
        return choices[0]
    if depth > 8:
        return None
    match text(schema.get("type")) or ("object" if "properties" in schema else ""):
        case "object":
            properties = mapping(schema.get("properties"))
            return {name: _example(mapping(each), depth + 1) for name, each in properties.items()}
        case "array":
            return [_example(mapping(schema.get("items")), depth + 1)]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "null":
            return None
        case _ if union := mappings(schema.get("anyOf")):
            return _example(union[0], depth + 1)
        case _:
            return "value"
