"""OpenAI's `prompt_cache_key`: calls that begin alike go to the same machine, whose cache has their beginning. Pure.

OpenAI caches unasked, and picks the machine by the first tokens of the prompt and this key.
"""

from __future__ import annotations

import hashlib

from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.json_span import Member, located, outermost
from keelage_sidecar.core.request import Facts

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


def _instructions(body: bytes, messages: Member) -> bytes:
    """The first message of a chat as it stands, if it instructs the model."""
    found = outermost(body, messages) if body[messages.start : messages.start + 1] == b"[" else None
    if found is None or body[found[0].start : found[0].start + 1] != b"{":
        return b""
    first = body[found[0].start : found[0].end]
    role = located(first)[0].get("role")
    return first if role is not None and first[role.start : role.end] in _INSTRUCTING else b""
