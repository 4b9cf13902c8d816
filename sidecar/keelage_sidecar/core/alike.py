"""Which calls may be answered with the answer to another one that asks the same in other words. Pure."""

from __future__ import annotations

import hashlib

import msgspec

from keelage_api.response_cache import ResponseCache, Semantic
from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.response_key import body_of, digest_of
from keelage_sidecar.core.wording import wording

_TURNS = {Kind.MESSAGES: "messages", Kind.CHAT: "messages", Kind.RESPONSES: "input"}
_INSTRUCTING = ("system", "developer")
_TEXTS = ("text", "input_text")  # no set: a block's type may be a list, which no set can look for
_TOOLS = ("tools", "functions", "tool_choice", "function_call")


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A question that may have been asked in other words."""

    partition: bytes
    """32 bytes that two calls share if they are the same but for the words of the question, and it has the same
    `wording`: model, system prompt, parameters, tenant and embedder included."""
    text: str


class _Place(msgspec.Struct, gc=False):
    """Where a question stands in a body."""

    holder: dict[str, object]
    name: str
    text: str
    words: tuple[str, ...] = ()


def never_alike(facts: Facts) -> str:
    """Why only the very same call has the same answer, for people; empty: another one may have it."""
    found = _place(facts, body_of(facts))
    return found if isinstance(found, str) else ""


def asked_of(
    salt: bytes, terms: ResponseCache, semantic: Semantic, tier: str, facts: Facts, target: str, headers: Headers
) -> Asked | None:
    """None where `never_alike`. `tier`: the one that the call selected, as other words may select another one."""
    body = body_of(facts)
    place = _place(facts, body)
    if body is None or isinstance(place, str):
        return None
    place.holder[place.name] = None
    whom = (semantic.backend, semantic.model, semantic.dimensions)
    own = hashlib.sha256(salt + msgspec.json.encode((tier, whom, place.words))).digest()
    return Asked(digest_of(own, terms, facts, target, headers, body), place.text)


def _place(facts: Facts, body: dict[str, object] | None) -> _Place | str:
    """The question, or why the call is more than that."""
    if facts.endpoint.kind not in _TURNS:
        return "calls of this endpoint ask no question"
    if body is None:
        return "its body nests too deep"
    if any(body.get(name) for name in _TOOLS):
        return "it has tools"
    temperature = body.get("temperature")
    if temperature is not None and _number(temperature) != 0:
        return "its temperature is above 0"
    place = _question(facts.endpoint.kind, body)
    if place is None:
        return "it is more than one question in plain text"
    place.words = wording(place.text)
    return place if place.words else "its question is empty or too long"


def _number(value: object) -> float:
    """Of a number as `body_of` reads it; -1: it is none."""
    if isinstance(value, msgspec.Raw):
        return float(bytes(value))
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else -1.0


def _question(kind: Kind, body: dict[str, object]) -> _Place | None:
    """Without its words; None where a conversation, a picture or anything else belongs to it."""
    turns = body.get(_TURNS[kind])
    holder, name = body, _TURNS[kind]
    if isinstance(turns, list):
        spoken = [turn for turn in turns if not (isinstance(turn, dict) and turn.get("role") in _INSTRUCTING)]
        if len(spoken) != 1 or spoken[0] is not turns[-1]:
            return None
        holder, name = turns[-1], "content"
        if not isinstance(holder, dict) or holder.get("role") != "user":
            return None
    blocks = holder.get(name)
    if isinstance(blocks, list) and blocks:
        if not all(isinstance(block, dict) and block.get("type") in _TEXTS for block in blocks):
            return None
        holder, name = blocks[-1], "text"
    text = holder.get(name)
    return _Place(holder, name, text) if isinstance(text, str) else None
