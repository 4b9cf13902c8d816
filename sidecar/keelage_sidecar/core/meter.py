"""Counts one answer's tokens beside the bytes that pass through."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

import msgspec
import orjson

from keelage_api.proxy_config import Dialect
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.endpoints import CHAT, MESSAGES, Kind
from keelage_sidecar.core.plain_answer import Told, told_by_completion, told_by_message
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate
from keelage_sidecar.core.sse import SseEvent, SseScanner, event_of
from keelage_sidecar.core.usage_fold import anthropic_usage, openai_usage, replaced, responses_usage, tells_output

PLAIN_BYTES_MAX = 16 * 1024 * 1024
"""A plain answer beyond this is passed on but not read, and charged at its bound; 128,000 tokens are about 1 MiB."""
_CONTENT = (b"content_block_delta", b"content_block_start", b"content_block_stop", b"ping")
WHOLE_BYTES = 64 * 1024
EDGE_BYTES = 8 * 1024
"""Of embeddings beyond the first, which may be 50 MB, so many bytes of either end are kept."""
_EDGE_MEMBERS = (
    (b"usage", re.compile(rb'"usage"\s*+:\s*+(\{(?:[^{}]|\{[^{}]*+\})*+\})')),
    (b"model", re.compile(rb'"model"\s*+:\s*+("[^"\\]{0,256}")')),
    (b"service_tier", re.compile(rb'"service_tier"\s*+:\s*+("[^"\\]{0,64}")')),
)


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What an answer proved about itself."""

    usage: TokenUsage | None
    """None where the answer said nothing."""
    complete: bool
    """The answer came to its proper end; false for a stream that was cut, by whomever."""
    stop_reason: str = ""
    response_model: str = ""
    error: str = ""
    """Type of the error that the answer or its stream carried; never its text."""
    final_usage: bool = False
    """`usage` is the final one, not what the first events said."""


class Meter(Protocol):
    """One answer, from the first body byte to the last."""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to forward now: the same object, unless a chunk that the application did not ask for is in it."""

    def finish(self) -> bytes:
        """Bytes held back so far; after the last `feed`."""

    def result(self, status: int, complete: bool) -> Reading:
        """After `finish`. `complete`: the transport says that the body ended as framed."""


def meter_for(facts: Facts, candidate: Candidate, streaming: bool | None = None) -> Meter:
    """A meter for the answer; `streaming` is whether it came as `text/event-stream`, None: as asked for."""
    if not (facts.stream if streaming is None else streaming):
        return _PLAIN.get(facts.endpoint.kind, _PlainMeter)(facts)
    if facts.endpoint.kind is Kind.RESPONSES or facts.endpoint.kind is Kind.STORED:
        return _ResponsesStream(facts.endpoint.metered)
    if candidate.backend.dialect is Dialect.ANTHROPIC:
        return _AnthropicStream(facts)
    return _OpenAIStream(facts)


class _PlainMeter:
    """One JSON document: kept until its end, then read."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size <= PLAIN_BYTES_MAX:
            self._parts.append(chunk)
        else:
            self._parts.clear()
        return chunk

    def finish(self) -> bytes:
        return b""

    def result(self, status: int, complete: bool) -> Reading:
        told = self._told() if status < 300 else None
        if told is not None:
            return Reading(told.usage, complete, told.stop_reason, told.model, "", True)
        answer = self._answer()
        error = _error_type(answer)
        if status >= 300 or error:
            return Reading(None, complete, error=error)
        raw = answer.get("usage")
        usage: TokenUsage | None = None
        if isinstance(raw, dict) and self._facts.endpoint.metered:
            if self._facts.endpoint.dialect is Dialect.ANTHROPIC:
                usage = anthropic_usage(raw, self._facts.weight.cached_long)
            else:
                usage = openai_usage(raw, _text(answer.get("service_tier")))
        stop = _text(answer.get("stop_reason")) or _finish_reason(answer)
        final = usage is not None and (
            not self._facts.endpoint.generates or (isinstance(raw, dict) and tells_output(raw))
        )
        return Reading(usage, complete, stop, _text(answer.get("model")), "", final)

    def _told(self) -> Told | None:
        endpoint, parts = self._facts.endpoint, self._parts
        if endpoint is MESSAGES:
            return told_by_message(_joined(parts), self._facts.weight.cached_long)
        return told_by_completion(_joined(parts)) if endpoint is CHAT else None

    def _answer(self) -> dict[str, object]:
        return _object(_joined(self._parts))


class _EmbeddingsMeter(_PlainMeter):
    """Of a long answer only the edges: there are usage and model, and nothing between is text that could say so."""

    _tail = b""

    def feed(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size <= WHOLE_BYTES:
            self._parts.append(chunk)
            return chunk
        if not self._tail:
            whole = b"".join((*self._parts, chunk))
            self._parts, self._tail = [whole[:EDGE_BYTES]], whole[-EDGE_BYTES:]
        else:
            self._tail = (self._tail + chunk[-EDGE_BYTES:])[-EDGE_BYTES:]
        return chunk

    def _answer(self) -> dict[str, object]:
        if not self._tail:
            return super()._answer()
        found: dict[str, object] = {}
        for name, pattern in _EDGE_MEMBERS:
            value = pattern.search(self._tail) or pattern.search(self._parts[0])
            if value is not None:
                found.update(_object(b'{"%b":%b}' % (name, value[1])))
        return found


class _ResponsesMeter(_PlainMeter):
    """One Response object."""

    def result(self, status: int, complete: bool) -> Reading:
        answer = self._answer()
        error = _error_type(answer)
        return Reading(None, complete, error=error) if status >= 300 else _of_response(answer, complete)


_PLAIN: dict[Kind, type[_PlainMeter]] = {Kind.EMBEDDINGS: _EmbeddingsMeter, Kind.RESPONSES: _ResponsesMeter}


class _MarkedStream(ABC):
    """A stream that passes as it is, of which only events with a mark in them say anything that counts."""

    _mark: ClassVar[bytes]

    def __init__(self) -> None:
        self._scanner = SseScanner()

    def feed(self, chunk: bytes) -> bytes:
        if self._mark not in chunk and b"error" not in chunk and self._scanner.whole(chunk):
            return chunk  # nearly every one of a stream
        for raw in self._scanner.split(chunk):
            self._look(raw)
        return chunk

    def finish(self) -> bytes:
        for raw in self._scanner.split_end():
            self._look(raw)
        return b""

    def _look(self, raw: bytes) -> None:
        if self._mark in raw or b"error" in raw:
            self._fold(event_of(raw))

    @abstractmethod
    def _fold(self, event: SseEvent) -> None:
        """Take in an event with the mark, or one that may be an error."""


class _AnthropicStream(_MarkedStream):
    """`message_start` says what went in, `message_delta` replaces counts by their final values."""

    _mark = b"message_"

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        super().__init__()
        self._usage: dict[str, object] | None = None
        self._final = self._ended = False
        self._stop = self._model = self._error = ""

    def result(self, status: int, complete: bool) -> Reading:
        usage = None if self._usage is None else anthropic_usage(self._usage, self._facts.weight.cached_long)
        return Reading(usage, self._ended and not self._error, self._stop, self._model, self._error, self._final)

    def _fold(self, event: SseEvent) -> None:
        if event.name in _CONTENT:
            return
        answer = _object(event.data)
        match answer.get("type"):
            case "message_start" if isinstance(message := answer.get("message"), dict):
                self._model = _text(message.get("model"))
                self._replace(message.get("usage"))
            case "message_delta":
                delta, usage = answer.get("delta"), answer.get("usage")
                stop = _text(delta.get("stop_reason")) if isinstance(delta, dict) else ""
                self._stop = stop or self._stop
                self._replace(usage)
                if stop and isinstance(usage, dict) and tells_output(usage):
                    self._final = True
            case "message_stop":
                self._ended = True
            case "error":
                self._error = _error_type(answer) or "error"

    def _replace(self, counts: object) -> None:
        if isinstance(counts, dict):
            self._usage = replaced(self._usage or {}, counts)


class _OpenAIStream:
    """The last `usage` that is not null counts.

    Where the application did not ask for usage, the chunk that only carries it (`choices: []`) is taken out
    of its copy; events are then forwarded whole, each when its blank line has come.
    """

    def __init__(self, facts: Facts) -> None:
        self._strip = not facts.asked_usage
        self._scanner = SseScanner()
        self._usage: dict[str, object] | None = None
        self._final = self._ended = False
        self._stop = self._model = self._error = self._tier = ""

    def feed(self, chunk: bytes) -> bytes:
        if self._model and self._scanner.whole(chunk) and _same(chunk):
            return chunk  # nearly every one of a stream
        was_lost = self._scanner.lost
        events = self._scanner.split(chunk)
        kept = [raw for raw in events if self._fold(raw)]
        if not self._strip or was_lost:
            return chunk
        if self._scanner.lost:
            kept.append(self._scanner.rest())
        if len(kept) == len(events) == 1 and kept[0] == chunk:
            return chunk
        return b"".join(kept)

    def finish(self) -> bytes:
        kept = [raw for raw in self._scanner.split_end() if self._fold(raw)]
        return b"".join((*kept, self._scanner.rest())) if self._strip else b""

    def result(self, status: int, complete: bool) -> Reading:
        usage = None if self._usage is None else openai_usage(self._usage, self._tier)
        ended = self._ended or (complete and bool(self._stop))
        final = self._usage is not None and tells_output(self._usage) and (self._final or ended)
        return Reading(usage, ended and not self._error, self._stop, self._model, self._error, final)

    def _fold(self, raw: bytes) -> bool:
        """Whether the application is to see the event."""
        if self._model and _same(raw):
            return True
        data = event_of(raw).data
        if data == b"[DONE]":
            self._ended = True
            return True
        if not data:
            return True
        answer = _object(data)
        self._error = self._error or _error_type(answer)
        self._model = self._model or _text(answer.get("model"))
        self._tier = _text(answer.get("service_tier")) or self._tier
        self._stop = _finish_reason(answer) or self._stop
        usage = answer.get("usage")
        if not isinstance(usage, dict):
            return True
        alone = answer.get("choices") == []
        # Servers may send running totals with every chunk: only one that comes alone is known to be the last.
        self._usage, self._final = usage, alone
        return not (self._strip and alone)


def _same(chunk: bytes) -> bool:
    """Whether chat chunks say nothing but text: whatever they name of usage, end and error is null."""
    if b'"error"' in chunk or b"[DONE]" in chunk:
        return False
    ends, uses = chunk.count(b'"finish_reason"'), chunk.count(b'"usage"')
    return (not ends or ends == chunk.count(b'"finish_reason":null') + chunk.count(b'"finish_reason": null')) and (
        not uses or uses == chunk.count(b'"usage":null') + chunk.count(b'"usage": null')
    )


class _ResponsesStream(_MarkedStream):
    """The last event but for an `error` holds the whole Response, with its usage.

    One that is read again (`GET /v1/responses/ID?stream=true`) was paid by the call that made it: not metered.
    """

    _mark = b'"response"'

    def __init__(self, metered: bool) -> None:
        super().__init__()
        self._metered = metered
        self._response: dict[str, object] = {}
        self._ended = False
        self._error = ""

    def result(self, status: int, complete: bool) -> Reading:
        reading = _of_response(self._response, self._ended and not self._error)
        reading = msgspec.structs.replace(reading, error=self._error or reading.error)
        return reading if self._metered else msgspec.structs.replace(reading, usage=None, final_usage=False)

    def _fold(self, event: SseEvent) -> None:
        if event.name not in _RESPONSE_EVENTS:
            return
        answer = _object(event.data)
        if isinstance(response := answer.get("response"), dict):
            self._response = response
        self._ended = self._ended or answer.get("type") in _LAST_EVENTS
        if answer.get("type") == "error":
            self._error = _text(answer.get("code")) or _error_type(answer) or "error"
        else:
            self._error = self._error or _error_type(answer)


_LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_RESPONSE_EVENTS = frozenset((b"", b"error", b"response.created", *(name.encode() for name in _LAST_EVENTS)))
"""Those that carry a Response or an error; some servers send events without a name."""


def _of_response(response: dict[str, object], complete: bool) -> Reading:
    """What a Response object proves; one that failed has been billed all the same if it counts tokens."""
    status, raw = _text(response.get("status")), response.get("usage")
    usage = responses_usage(raw, _text(response.get("service_tier"))) if isinstance(raw, dict) else None
    why = response.get("incomplete_details")
    stop = _text(why.get("reason")) if isinstance(why, dict) else ""
    final = isinstance(raw, dict) and tells_output(raw) and status not in ("queued", "in_progress")
    return Reading(usage, complete, stop or status, _text(response.get("model")), _error_type(response), final)


def _joined(parts: list[bytes]) -> bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _object(data: bytes) -> dict[str, object]:
    """The JSON object in those bytes; empty for anything else."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _error_type(answer: dict[str, object]) -> str:
    error = answer.get("error")
    if error is None:
        return ""
    if not isinstance(error, dict):
        return "error"
    return _text(error.get("type")) or _text(error.get("code")) or "error"


def _finish_reason(answer: dict[str, object]) -> str:
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return _text(first.get("finish_reason")) if isinstance(first, dict) else ""


def _text(value: object) -> str:
    return value[:256] if isinstance(value, str) else ""
