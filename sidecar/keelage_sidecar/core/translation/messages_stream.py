"""The chunks of a chat completion as a Messages stream; each event goes out as soon as Anthropic's order allows.

Blocks are open one at a time there. A chat stream may mix the fragments of parallel calls: the first block is
sent as it comes, those after it wait until its arguments are whole, or the answer ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import orjson

from keelage_api.proxy_config import Dialect
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.sse import SseEvent, SseScanner
from keelage_sidecar.core.translation.counted_stream import CALL_COST, HELD_MAX, TOO_LARGE
from keelage_sidecar.core.translation.error import error_event
from keelage_sidecar.core.translation.json_read import (
    EMPTY,
    content_of,
    index_of,
    object_of,
    objects_of,
    parsed,
    text_of,
)
from keelage_sidecar.core.translation.pending_block import PendingBlock
from keelage_sidecar.core.translation.stop_reason import CUT_BY_CAP, stop_reason
from keelage_sidecar.core.translation.tokens import delta_usage, messages_usage
from keelage_sidecar.core.usage_fold import openai_usage

NO_JSON: dict[str, object] = {
    "error": {"message": "the provider's call of a tool has arguments that are no JSON object"}
}
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'


class MessagesStream:
    """Feed the upstream's bytes, get the application's."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._scanner = SseScanner()
        self._blocks: deque[PendingBlock] = deque()
        """In the order in which they began; those that have ended are no longer there."""
        self._open = False
        """The first of them has been opened."""
        self._number = 0
        """Of the first of them."""
        self._closed: set[int | str | None] = set()
        """Calls that have ended, by number and by id."""
        self._held = 0
        """Characters of unfinished blocks, and of what is remembered of every call."""
        self._usage: Mapping[str, object] = {}
        self._tier = self._reason = ""
        self._began = self._refused = self._called = self._ended = False

    def feed(self, chunk: bytes) -> bytes:
        out = b"".join(map(self._event, self._scanner.feed(chunk)))
        if not self._ended and (self._scanner.lost or self._held > HELD_MAX):
            out += self._fail(TOO_LARGE)
        return out

    def finish(self) -> bytes:
        """The end of an answer that said why it ends; one that did not was cut, and gets none here."""
        out = b"".join(map(self._event, self._scanner.finish()))
        return out + self._end() if self._reason and not self._ended else out

    def _event(self, event: SseEvent) -> bytes:
        if self._ended:
            return b""
        if not event.data:
            return _PING if self._began else b""  # a comment, sent while the provider is slow
        if event.data == b"[DONE]":
            return self._end() if self._began else self._fail({})
        said = parsed(event.data)
        if said.get("error") is not None:
            return self._fail(said)
        choices = objects_of(said, "choices")
        if not (choices or self._began or text_of(said, "id")):
            return b""  # no JSON, or Azure's word on the prompt, which comes before the answer has a name
        out = b"" if self._began else self._start(said)
        self._tier = text_of(said, "service_tier") or self._tier
        self._usage = object_of(said, "usage") or self._usage
        if choices:
            out += self._delta(object_of(choices[0], "delta"))
            self._reason = text_of(choices[0], "finish_reason") or self._reason
        elif self._reason and self._usage:
            out += self._end()
        return out

    def _start(self, said: Mapping[str, object]) -> bytes:
        self._began = True
        message: dict[str, object] = {
            "id": text_of(said, "id"),
            "type": "message",
            "role": "assistant",
            "model": text_of(said, "model"),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": messages_usage(TokenUsage()),
        }
        return _sent("message_start", {"message": message})

    def _delta(self, delta: Mapping[str, object]) -> bytes:
        out = b""
        if text := content_of(delta):
            out += self._text(text)
        if refusal := text_of(delta, "refusal"):
            self._refused = True
            out += self._text(refusal)
        for call in objects_of(delta, "tool_calls"):
            out += self._call(call)
        return out

    def _text(self, text: str) -> bytes:
        if not self._blocks or self._blocks[-1].call is not None:
            self._blocks.append(PendingBlock())
        return self._add(self._blocks[-1], text)

    def _call(self, call: Mapping[str, object]) -> bytes:
        function = object_of(call, "function")
        block = self._block_of(index_of(call), text_of(call, "id"))
        if block is None:
            return b""
        if not block.name:
            block.name = text_of(function, "name")
            self._held += len(block.name)
        arguments = text_of(function, "arguments")
        return self._add(block, "" if arguments in EMPTY and not block.begun else arguments)

    def _block_of(self, index: int | None, name: str) -> PendingBlock | None:
        """The block that a fragment belongs to; None for one that is closed, as its arguments were whole.

        Some servers number all calls alike, or not at all: then another id is another call.
        """
        for block in reversed(self._blocks):
            if block.call is not None and block.index == index and name in ("", block.call):
                return block
        if (name or index) in self._closed:
            return None
        block = PendingBlock(name or f"call_{self._number + len(self._blocks)}", index=index)
        self._blocks.append(block)
        self._held += CALL_COST + len(name)
        return block

    def _add(self, block: PendingBlock, text: str) -> bytes:
        if text:
            block.add(text)
            self._held += len(text)
        out = b""
        while not self._ended:
            out += self._flush()
            if len(self._blocks) < 2 or not self._blocks[0].whole:
                break
            out += self._close()
        return out

    def _flush(self) -> bytes:
        """What the first block has to say."""
        block = self._blocks[0]
        if block.call is not None and not block.name:
            return b""
        out = b"" if self._open else self._begin(block)
        text = block.take()
        if block.call is None:
            self._held -= len(text)
        if not text:
            return out
        kind = {"type": "text_delta", "text": text}
        if block.call is not None:
            kind = {"type": "input_json_delta", "partial_json": text}
        return out + _sent("content_block_delta", {"index": self._number, "delta": kind})

    def _begin(self, block: PendingBlock) -> bytes:
        self._open = True
        content: dict[str, object] = {"type": "text", "text": ""}
        if block.call is not None:
            self._called = True
            content = {"type": "tool_use", "id": block.call, "name": block.name, "input": {}}
        return _sent("content_block_start", {"index": self._number, "content_block": content})

    def _close(self) -> bytes:
        block = self._blocks.popleft()
        out = _sent("content_block_stop", {"index": self._number}) if self._open else b""
        if block.call is not None:
            self._closed |= {block.index, block.call}
            self._held -= sum(map(len, block.sent))
            if self._reason != CUT_BY_CAP and not block.proper:
                return self._fail(NO_JSON)
        self._number += self._open
        self._open = False
        return out

    def _end(self) -> bytes:
        out = b""
        while self._blocks:
            out += self._flush() + self._close()
            if self._ended:
                return out
        self._ended = True
        reason = stop_reason(self._reason, refused=self._refused, called=self._called)
        delta = {"stop_reason": reason, "stop_sequence": None}
        usage = delta_usage(openai_usage(self._usage, self._tier))
        return out + _sent("message_delta", {"delta": delta, "usage": usage}) + _sent("message_stop", {})

    def _fail(self, said: Mapping[str, object]) -> bytes:
        self._ended = True
        return error_event(said, Dialect.ANTHROPIC, self._request_id)


def _sent(name: str, fields: dict[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))
