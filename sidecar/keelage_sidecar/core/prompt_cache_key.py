"""Calls that begin alike go where their beginning is cached: at OpenAI by a key, and among weighted models. Pure.

OpenAI caches unasked, and picks the machine by the first tokens of the prompt and `prompt_cache_key`.
"""

from __future__ import annotations

import hashlib

from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.json_span import Member, elements, located, outermost
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Plan

NAME = "prompt_cache_key"
BYTES_MIN = 4096
"""OpenAI caches prompts from 1,024 tokens on."""
_INSTRUCTING = (b'"system"', b'"developer"')


def key_for(facts: Facts, scope: str) -> str | None:
    """The same for calls of one scope and user that have the same tools and instructions; tells nothing of them.

    None where the request has one, or is too short to be cached.
    """
    if NAME in facts.parsed or len(facts.body) < BYTES_MIN:
        return None
    members, _ = located(facts.body)
    parts = [scope.encode(), facts.user.encode("utf-8", "surrogatepass")]
    parts += [facts.body[span.start : span.end] for name in ("tools", "instructions") if (span := members.get(name))]
    if facts.endpoint.kind is Kind.CHAT and (messages := members.get("messages")) is not None:
        parts.append(_instructions(facts.body, messages))
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).hexdigest()


def stays_with(plan: Plan, facts: Facts) -> str:
    """Who gets the same of several weighted models each time: the user; else, where prompts are cached, the
    conversation, known by its first message. Empty: nobody does."""
    if facts.user or plan.rule.prompt_cache is None or plan.candidates[0].weight is None:
        return facts.user
    members, _ = located(facts.body)
    array = members.get("input" if facts.endpoint.kind is Kind.RESPONSES else "messages")
    spans = elements(facts.body, array) if array is not None and _is_array(facts.body, array) else None
    for span in spans or ():
        message = facts.body[span.start : span.end]
        if not _instructs(message):
            return hashlib.blake2b(message, digest_size=16).hexdigest()
    return ""


def _instructions(body: bytes, messages: Member) -> bytes:
    """The first message of a chat as it stands, if it instructs the model."""
    found = outermost(body, messages) if _is_array(body, messages) else None
    first = body[found[0].start : found[0].end] if found is not None else b""
    return first if _instructs(first) else b""


def _is_array(body: bytes, member: Member) -> bool:
    return body[member.start : member.start + 1] == b"["


def _instructs(message: bytes) -> bool:
    if not message.startswith(b"{"):
        return False
    role = located(message)[0].get("role")
    return role is not None and message[role.start : role.end] in _INSTRUCTING
