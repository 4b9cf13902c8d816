"""A Messages stream as the chunks of a chat completion; each event goes out when it has come."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.sse import SseEvent, SseScanner
from keelage_sidecar.core.translation.chat_answer import refusal_of
from keelage_sidecar.core.translation.counted_stream import CALL_COST, HELD_MAX, TOO_LARGE
from keelage_sidecar.core.translation.error import error_event
from keelage_sidecar.core.translation.json_read import index_of, object_of, parsed, text_of
from keelage_sidecar.core.translation.manner import Manner
from keelage_sidecar.core.translation.stop_reason import finish_reason
from keelage_sidecar.core.translation.tokens import chat_usage
from keelage_sidecar.core.usage_fold import anthropic_usage, replaced

_DONE = b"data: [DONE]\n\n"
_PING = b": ping\n\n"


class ChatStream:
    """Feed the upstream's bytes, get the application's."""

    def __init__(self, manner: Manner, created_s: int, request_id: str) -> None:
        self._manner = manner
        self._created_s = created_s
        self._request_id = request_id
        self._scanner = SseScanner()
        self._head = self._headed({})
        self._tail = b',"usage":null}\n\n' if manner.usage else b"}\n\n"
        self._usage: dict[str, object] = {}
        self._calls: dict[int, int] = {}
        """Number of the call by index of its block; blocks of other types take indexes too."""
        self._started: dict[int, bytes] = {}
        """What a call whose arguments have not begun has to say if none come."""
        self._held = 0
        """What all calls so far count for."""
        self._ended = False

    def feed(self, chunk: bytes) -> bytes:
        out = b"".join(map(self._event, self._scanner.feed(chunk)))
        if not self._ended and (self._scanner.lost or self._held > HELD_MAX):
            out += self._fail(TOO_LARGE)
        return out

    def finish(self) -> bytes:
        """What the end of the stream makes certain; a stream without its own end gets none here."""
        return b"".join(map(self._event, self._scanner.finish()))

    def _event(self, event: SseEvent) -> bytes:
        if self._ended or not event.data:
            return b""
        if event.name == b"ping":
            return _PING
        said = parsed(event.data)
        match said.get("type"):
            case "content_block_delta":
                return self._delta(said, object_of(said, "delta"))
            case "message_start":
                return self._start(object_of(said, "message"))
            case "content_block_start":
                return self._block(said, object_of(said, "content_block"))
            case "content_block_stop":
                return self._call_ends(said)
            case "message_delta":
                return self._stop(said)
            case "message_stop":
                self._ended = True
                return self._totals() + _DONE
            case "error":
                return self._fail(said)
            case _:
                return b""

    def _start(self, message: Mapping[str, object]) -> bytes:
        self._head = self._headed(message)
        self._count(message)
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def _headed(self, message: Mapping[str, object]) -> bytes:
        """How every chunk begins; without a name where the upstream's answer has not begun in its API's order."""
        head = {
            "id": text_of(message, "id"),
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": text_of(message, "model"),
        }
        return b"data: " + orjson.dumps(head)[:-1]

    def _block(self, said: Mapping[str, object], block: Mapping[str, object]) -> bytes:
        if block.get("type") == "text":
            return self._chunk({"content": text}) if (text := text_of(block, "text")) else b""
        index = index_of(said)
        if block.get("type") != "tool_use" or index is None:
            return b""
        number = self._calls[index] = len(self._calls)
        try:
            whole = self._started[index] = orjson.dumps(object_of(block, "input"))
        except orjson.JSONEncodeError:  # it reads deeper nesting than it writes
            return self._fail({"error": {"message": "the provider's call of a tool is nested too deep"}})
        self._held += CALL_COST + len(whole)
        function = {"name": text_of(block, "name"), "arguments": ""}
        if self._manner.legacy:
            return self._chunk({"function_call": function}) if number == 0 else b""
        call = {"index": number, "id": text_of(block, "id"), "type": "function", "function": function}
        return self._chunk({"tool_calls": [call]})

    def _delta(self, said: Mapping[str, object], delta: Mapping[str, object]) -> bytes:
        match delta.get("type"):
            case "text_delta":
                text = text_of(delta, "text")
                return self._chunk({"content": text}) if text else b""
            case "input_json_delta":
                index, fragment = index_of(said), text_of(delta, "partial_json")
                if index not in self._calls or not fragment:
                    return b""
                self._started.pop(index, None)
                return self._arguments(self._calls[index], fragment)
            case "thinking_delta" if self._manner.reasoning:
                return self._chunk({"reasoning_content": text_of(delta, "thinking")})
            case _:
                return b""

    def _call_ends(self, said: Mapping[str, object]) -> bytes:
        """Arguments that came whole with the block's start, or never: `{}`."""
        index = index_of(said)
        whole = None if index is None else self._started.pop(index, None)
        return b"" if whole is None or index is None else self._arguments(self._calls[index], whole.decode())

    def _arguments(self, number: int, fragment: str) -> bytes:
        if self._manner.legacy:
            return self._chunk({"function_call": {"arguments": fragment}}) if number == 0 else b""
        return self._chunk({"tool_calls": [{"index": number, "function": {"arguments": fragment}}]})

    def _stop(self, said: Mapping[str, object]) -> bytes:
        self._count(said)
        delta = object_of(said, "delta")
        stop = text_of(delta, "stop_reason")
        if not stop:
            return b""
        reason = finish_reason(stop)
        if reason == "tool_calls" and self._manner.legacy:
            reason = "function_call"
        refusal = refusal_of(delta) if reason == "content_filter" else None
        return self._chunk({"refusal": refusal} if refusal else {}, orjson.dumps(reason))

    def _totals(self) -> bytes:
        if not self._manner.usage:
            return b""
        usage = chat_usage(anthropic_usage(self._usage, long_cache=False))
        return b'%b,"choices":[],"usage":%b}\n\n' % (self._head, orjson.dumps(usage))

    def _chunk(self, delta: dict[str, object], reason: bytes = b"null") -> bytes:
        choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}' % (orjson.dumps(delta), reason)
        return b'%b,"choices":[%b]%b' % (self._head, choice, self._tail)

    def _count(self, holder: Mapping[str, object]) -> None:
        self._usage = replaced(self._usage, object_of(holder, "usage"))

    def _fail(self, said: Mapping[str, object]) -> bytes:
        """No `[DONE]` follows: an SDK would take what came so far for the whole."""
        self._ended = True
        return error_event(said, Dialect.OPENAI, self._request_id)
