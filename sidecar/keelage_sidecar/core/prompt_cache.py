"""Where a Messages call gets breakpoints for the provider's prompt cache, if the application has set none.

The prompt is rendered tools, system, messages; a breakpoint caches all that comes before it. The fixed part gets
one at the end of tools, of system and of the documents before the first question; a conversation gets one at its
newest turn too, which the next call will repeat. Four in all, which is as many as a call may have.

Bytes are only inserted. Where a text is given in short, as a string, it becomes the one block that it stands for.
"""

from __future__ import annotations

import enum
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.json_span import Member, elements, located, outermost
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate

BYTES_PER_TOKEN = 5
"""English has 4.2 to 4.8: what is long enough by this is so for the provider, and little is marked in vain."""
DOCUMENT_BYTES = 4096
"""A text of that length before another block is a document, whatever it is called."""

LEAST_TOKENS = {
    "claude-opus-5": 512,
    "claude-sonnet-5-5": 512,
    "claude-haiku-5-5": 512,
    "claude-fable-5": 512,
    "claude-mythos-5": 512,
    "claude-opus-4-8": 1024,
    "claude-sonnet-5": 1024,
    "claude-sonnet-4": 1024,
    "claude-opus-4-7": 2048,
    "claude-opus-4-6": 4096,
    "claude-opus-4-5": 4096,
    "claude-haiku-4-5": 4096,
}
"""By the beginning of the name: the shortest prompt that is cached, from `prompt_cache_min_tokens` of litellm 1.109.1.
A breakpoint before that many tokens does nothing, and costs nothing."""
LEAST_TOKENS_ELSE = 4096


class Extent(enum.StrEnum):
    """How far into the prompt the breakpoints go."""

    FIXED = "fixed"
    """Tools, system, documents."""
    TURNS = "turns"
    """And the turns of the conversation."""


class _Edit(msgspec.Struct, frozen=True, order=True):
    at: int
    """Offset in the body before which `text` goes."""
    text: bytes


class _Tool(msgspec.Struct):
    name: object = None
    defer_loading: object = None
    cache_control: object = msgspec.UNSET


class _Block(msgspec.Struct):
    type: object = None
    text: object = None
    cache_control: object = msgspec.UNSET


_TOOL = msgspec.json.Decoder(_Tool)
_BLOCK = msgspec.json.Decoder(_Block)
_TEXT = msgspec.json.Decoder(str)
_QUOTE, _BRACKET, _BRACE = b'"[{'
_DOCUMENTS = ("text", "document", "search_result")
_LAST_BLOCKS = (*_DOCUMENTS, "image", "tool_result")


@lru_cache(maxsize=256)
def least_tokens(model: str) -> int:
    """The shortest prompt that the model's provider caches; the longest such length for a model not known here."""
    names = [name for name in LEAST_TOKENS if model.startswith(name)]
    return LEAST_TOKENS[max(names, key=len)] if names else LEAST_TOKENS_ELSE


def extent_of(facts: Facts, candidate: Candidate) -> Extent | None:
    """How far breakpoints may go in this call; None: there are to be none.

    Not in a call that has any of its own, nor where caches are no cheaper than what they hold.
    """
    if facts.endpoint.kind is not Kind.MESSAGES or facts.weight.cached:
        return None
    price = candidate.price or candidate.dearest
    if price is None or not 0 < price.tiers[0].cache_read < price.tiers[0].input:
        return None
    if len(facts.body) < least_tokens(candidate.model) * BYTES_PER_TOKEN:
        return None
    return Extent.TURNS if b'"assistant"' in facts.body else Extent.FIXED


def with_breakpoints(facts: Facts, model: str, extent: Extent, long: bool) -> Facts | None:
    """The call with breakpoints for 5 minutes or, if `long`, for an hour; None: nothing in it is worth one.

    Its weight says that it writes to caches, so that its bound has the dearer price for every token of the input.
    """
    try:
        edits = _edits(facts.body, least_tokens(model) * BYTES_PER_TOKEN, extent, _CONTROLS[long])
    except (msgspec.DecodeError, RecursionError):  # it is nested deeper than this decoder reads
        return None
    if not edits:
        return None
    weight = replace(facts.weight, cached=True, cached_long=long)
    return replace(facts, body=_edited(facts.body, sorted(edits)), weight=weight)


_CONTROLS = (b',"cache_control":{"type":"ephemeral"}', b',"cache_control":{"type":"ephemeral","ttl":"1h"}')


def _edited(body: bytes, edits: list[_Edit]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for edit in edits:
        parts += (body[at : edit.at], edit.text)
        at = edit.at
    parts.append(body[at:])
    return b"".join(parts)


def _edits(body: bytes, bytes_min: int, extent: Extent, control: bytes) -> list[_Edit]:
    members, _ = located(body)
    edits: list[_Edit] = []
    before = 0
    if (tools := members.get("tools")) is not None and body[tools.start] == _BRACKET:
        before += tools.end - tools.start
        if before >= bytes_min:
            edits += _after_tools(body, tools, control)
    if (system := members.get("system")) is not None:
        before += system.end - system.start
        if before >= bytes_min:
            edits += _after_text(body, system, control, _DOCUMENTS)
    messages = members.get("messages")
    found = outermost(body, messages) if messages is not None and body[messages.start] == _BRACKET else None
    if messages is None or found is None:
        return edits
    first, last, count = found
    edits += _after_documents(body, first, bytes_min - before, control)
    if extent is Extent.TURNS and count > 1 and before + last.end - messages.start >= bytes_min:
        content = _content_of_user(body, last)
        edits += () if content is None else _after_text(body, content, control, _LAST_BLOCKS)
    return edits


def _after_tools(body: bytes, tools: Member, control: bytes) -> tuple[_Edit, ...]:
    """Tools whose loading is deferred are not in the prompt, and may not be marked."""
    found = outermost(body, tools)
    if found is None or body[found[1].start] != _BRACE:
        return ()
    last = found[1]
    tool = _TOOL.decode(memoryview(body)[last.start : last.end])
    if tool.name is None or tool.defer_loading or tool.cache_control is not msgspec.UNSET:
        return ()
    return (_Edit(last.end - 1, control),)


def _after_text(body: bytes, text: Member, control: bytes, types: tuple[str, ...]) -> tuple[_Edit, ...]:
    """At the end of a string or of a list of blocks. Empty texts may not be marked."""
    if body[text.start] == _QUOTE:
        if not _TEXT.decode(memoryview(body)[text.start : text.end]).strip():
            return ()
        return (_Edit(text.start, b'[{"type":"text","text":'), _Edit(text.end, control + b"}]"))
    found = outermost(body, text) if body[text.start] == _BRACKET else None
    return _after_block(body, found[1], control, types) if found is not None else ()


def _after_block(body: bytes, block: Member, control: bytes, types: tuple[str, ...]) -> tuple[_Edit, ...]:
    if body[block.start] != _BRACE:
        return ()
    said = _BLOCK.decode(memoryview(body)[block.start : block.end])
    empty = said.type == "text" and not (isinstance(said.text, str) and said.text.strip())
    if empty or said.type not in types or said.cache_control is not msgspec.UNSET:
        return ()
    return (_Edit(block.end - 1, control),)


def _after_documents(body: bytes, first: Member, bytes_min: int, control: bytes) -> tuple[_Edit, ...]:
    """After the last document that the conversation begins with; what follows it is the question."""
    content = _content_of_user(body, first)
    if content is None or body[content.start] != _BRACKET:
        return ()
    blocks = elements(body, content) or ()
    for block in reversed(blocks[:-1]):
        if block.end - first.start < bytes_min:
            break
        if block.end - block.start >= DOCUMENT_BYTES and (edit := _after_block(body, block, control, _DOCUMENTS)):
            return edit
    return ()


def _content_of_user(body: bytes, message: Member) -> Member | None:
    """Where the content of a message lies, if it is one of a user."""
    if body[message.start] != _BRACE:
        return None
    members, _ = located(body[message.start : message.end])
    role, content = members.get("role"), members.get("content")
    if role is None or content is None:
        return None
    at = message.start
    if body[at + role.start : at + role.end] != b'"user"':
        return None
    return Member(at + content.start, at + content.end)
