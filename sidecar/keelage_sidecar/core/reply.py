"""What a model's answer says, read from its bytes as they come: its text, whether it calls a tool, how it ends. Pure.

For whoever must judge an answer before the application gets it. Of several choices the first is read.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Protocol

import orjson

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.sse import SseEvent, SseScanner

PLAIN_BYTES_MAX = 16 * 1024 * 1024
"""As much as is counted of an answer that is no stream (`meter.PLAIN_BYTES_MAX`)."""


class Reply(Protocol):
    stop: str
    """Why it ended, in the provider's word; empty so far."""
    calls: bool
    """It calls a tool."""
    strange: bool
    """It is an error, or nothing that can be read."""

    def feed(self, data: bytes) -> str:
        """The text that these bytes complete; what follows a call is none."""

    def finish(self) -> str:
        """The text that the end completes."""


def reply_of(dialect: Dialect, *, streaming: bool) -> Reply:
    if not streaming:
        return _Plain(dialect)
    return _MessageStream() if dialect is Dialect.ANTHROPIC else _ChatStream()


class _Plain:
    """One JSON document: it says nothing before its end."""

    def __init__(self, dialect: Dialect) -> None:
        self._anthropic = dialect is Dialect.ANTHROPIC
        self._parts: list[bytes] = []
        self._size = 0
        self.stop = ""
        self.calls = self.strange = False

    def feed(self, data: bytes) -> str:
        self._size += len(data)
        if self._size > PLAIN_BYTES_MAX:
            self._parts.clear()
            self.strange = True
        else:
            self._parts.append(data)
        return ""

    def finish(self) -> str:
        answer = _object(b"".join(self._parts))
        if not answer or self.strange:
            self.strange = True
            return ""
        if self._anthropic:
            self.stop = _text(answer, "stop_reason")
            blocks = _objects(answer, "content")
            said = list(takewhile(lambda block: not _is_call(block), blocks))
            self.calls = len(said) < len(blocks)
            self.strange = "content" not in answer
            return "".join(_text(block, "text") for block in said if block.get("type") == "text")
        choice = next(iter(_objects(answer, "choices")), {})
        message = _member(choice, "message")
        self.stop = _text(choice, "finish_reason")
        self.calls = bool(message.get("tool_calls") or message.get("function_call"))
        self.strange = not choice
        return _text(message, "content")


class _Stream:
    def __init__(self) -> None:
        self._scanner = SseScanner()
        self.stop = ""
        self.calls = self.strange = False

    def feed(self, data: bytes) -> str:
        events = self._scanner.feed(data)
        self.strange = self.strange or self._scanner.lost
        return "".join([self._fold(event) for event in events])

    def finish(self) -> str:
        return "".join([self._fold(event) for event in self._scanner.finish()])

    def _fold(self, event: SseEvent) -> str:
        raise AssertionError("each kind of stream has its own")


class _MessageStream(_Stream):
    def _fold(self, event: SseEvent) -> str:
        match event.name:
            case b"content_block_start":
                block = _member(_object(event.data), "content_block")
                self.calls = self.calls or _is_call(block)
                return _text(block, "text") if block.get("type") == "text" and not self.calls else ""
            case b"content_block_delta" if not self.calls:
                return _text(_member(_object(event.data), "delta"), "text")
            case b"message_delta":
                self.stop = _text(_member(_object(event.data), "delta"), "stop_reason") or self.stop
            case b"error":
                self.strange = True
        return ""


class _ChatStream(_Stream):
    def _fold(self, event: SseEvent) -> str:
        if event.data in (b"", b"[DONE]"):
            return ""
        answer = _object(event.data)
        if answer.get("error") is not None or not answer:
            self.strange = True
            return ""
        said = ""
        for choice in _objects(answer, "choices"):
            if choice.get("index") not in (0, None):
                continue
            delta = _member(choice, "delta")
            said += "" if self.calls else _text(delta, "content")
            self.calls = self.calls or bool(delta.get("tool_calls") or delta.get("function_call"))
            self.stop = _text(choice, "finish_reason") or self.stop
        return said


def _is_call(block: dict[str, object]) -> bool:
    kind = block.get("type")
    return isinstance(kind, str) and kind.endswith("tool_use")


def _object(data: bytes) -> dict[str, object]:
    """Empty for anything that is no JSON object."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _member(of: dict[str, object], name: str) -> dict[str, object]:
    found = of.get(name)
    return found if isinstance(found, dict) else {}


def _objects(of: dict[str, object], name: str) -> list[dict[str, object]]:
    found = of.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _text(of: dict[str, object], name: str) -> str:
    found = of.get(name)
    return found if isinstance(found, str) else ""
