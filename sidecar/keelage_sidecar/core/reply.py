"""What a model's answer says, read from its bytes as they come: its text, whether it calls a tool, how it ends. Pure.

For whoever must judge an answer before the application gets it. Of several choices the first is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import orjson

from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.sse import SseEvent, SseScanner

PLAIN_BYTES_MAX = 16 * 1024 * 1024
"""As much as is counted of an answer that is no stream (`meter.PLAIN_BYTES_MAX`)."""


_RUN_THERE = (
    "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call",
)  # fmt: skip
"""Items of a Response that tell of a tool which the provider has run itself: the answer comes behind."""


class Reply(Protocol):
    stop: str
    """Why it ended, in the provider's word; empty so far."""
    calls: bool
    """It calls a tool of the application."""
    strange: bool
    """It is an error, or nothing that can be read."""

    def feed(self, data: bytes) -> str:
        """The text that these bytes complete; what follows a call is none."""

    def finish(self) -> str:
        """The text that the end completes."""


def reply_of(kind: Kind, *, streaming: bool) -> Reply:
    """To a call of that kind: MESSAGES, CHAT or RESPONSES."""
    if streaming:
        return _STREAMS[kind]()
    return _Plain(_WHOLE[kind])


class _Plain:
    """One JSON document: it says nothing before its end."""

    def __init__(self, read: Callable[[dict[str, object]], _Whole | None]) -> None:
        self._read = read
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
        whole = None if self.strange else self._read(_object(b"".join(self._parts)))
        if whole is None:
            self.strange = True
            return ""
        self.stop, self.calls = whole.stop, whole.calls
        return whole.text


@dataclass(frozen=True, slots=True)
class _Whole:
    text: str
    stop: str
    calls: bool


def _whole_message(answer: dict[str, object]) -> _Whole | None:
    blocks = _objects(answer, "content")
    said = list(takewhile(lambda block: not _is_call(block), blocks))
    text = "".join(_text(block, "text") for block in said if block.get("type") == "text")
    return _Whole(text, _text(answer, "stop_reason"), len(said) < len(blocks)) if "content" in answer else None


def _whole_chat(answer: dict[str, object]) -> _Whole | None:
    choice = next(iter(_objects(answer, "choices")), {})
    message = _member(choice, "message")
    calls = bool(message.get("tool_calls") or message.get("function_call"))
    return _Whole(_text(message, "content"), _text(choice, "finish_reason"), calls) if choice else None


def _whole_response(answer: dict[str, object]) -> _Whole | None:
    """One that is not made yet, or has failed, is none."""
    if answer.get("status") not in ("completed", "incomplete"):
        return None
    items = _objects(answer, "output")
    said = list(takewhile(lambda item: not _is_call_item(item), items))
    parts = (part for item in said for part in _objects(item, "content") if item.get("type") == "message")
    text = "".join(_text(part, "text") for part in parts if part.get("type") == "output_text")
    return _Whole(text, _text(_member(answer, "incomplete_details"), "reason"), len(said) < len(items))


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


class _ResponseStream(_Stream):
    def _fold(self, event: SseEvent) -> str:
        if event.data in (b"", b"[DONE]"):
            return ""
        said = _object(event.data)
        match _text(said, "type"):
            case "response.output_text.delta" if not self.calls:
                return _text(said, "delta")
            case "response.output_item.added":
                self.calls = self.calls or _is_call_item(_member(said, "item"))
            case "response.incomplete":
                self.stop = _text(_member(_member(said, "response"), "incomplete_details"), "reason")
            case "" | "error" | "response.failed":
                self.strange = True
        return ""


_STREAMS: dict[Kind, type[_Stream]] = {
    Kind.MESSAGES: _MessageStream,
    Kind.CHAT: _ChatStream,
    Kind.RESPONSES: _ResponseStream,
}
_WHOLE = {Kind.MESSAGES: _whole_message, Kind.CHAT: _whole_chat, Kind.RESPONSES: _whole_response}


def _is_call_item(item: dict[str, object]) -> bool:
    kind = _text(item, "type")
    return kind.endswith("_call") and kind not in _RUN_THERE


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
