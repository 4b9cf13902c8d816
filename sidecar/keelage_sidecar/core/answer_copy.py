"""A copy of what the application is told, made while it is told."""

from __future__ import annotations

import orjson

from keelage_sidecar.core.held_bytes import HeldBytes
from keelage_sidecar.core.meter import Meter, Reading
from keelage_sidecar.core.sse import SseScanner

_DONE = b"[DONE]"
"""The last event of OpenAI's streams, the only one whose data is not JSON."""


class AnswerCopy:
    """Of one answer, up to `bytes_max` of its body, as long as there is `memory`. `drop` it in the end."""

    __slots__ = ("_bytes_max", "_memory", "_pieces", "_size", "cut", "headers", "status", "whole")

    def __init__(self, bytes_max: int, memory: HeldBytes) -> None:
        self._bytes_max = bytes_max
        self._memory = memory
        self._pieces: list[bytes] = []
        self._size = 0
        self.cut = False
        """It was too long: there is no copy."""
        self.status = 0
        self.whole = False
        """The answer came to its proper end."""
        self.headers: tuple[tuple[bytes, bytes], ...] = ()

    def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = tuple(headers)

    def add(self, piece: bytes) -> None:
        if self.cut:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if not self._memory.take(len(piece)) or self._size > self._bytes_max:
            self.cut = True
            self.drop()

    def drop(self) -> None:
        """Forget it."""
        self._memory.give_back(self._size)
        self._pieces, self._size = [], 0

    def sound(self) -> bytes | None:
        """The body; None where it was cut or too long, or an application could not read every part of it."""
        if not self.whole or self.cut:
            return None
        body = b"".join(self._pieces)
        streamed = any(
            name == b"content-type" and value.startswith(b"text/event-stream") for name, value in self.headers
        )
        return body if all(map(_is_json, _texts(body) if streamed else [body])) else None


def _texts(stream: bytes) -> list[bytes]:
    """The data of its events; of one that never ends, the half that came."""
    scanner = SseScanner()
    events = [*scanner.feed(stream), *scanner.finish()]
    return [event.data for event in events if event.data and event.data != _DONE] + [
        rest for rest in (scanner.rest(),) if rest
    ]


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


class CopiedAnswer:
    """A `Meter` whose bytes to forward are copied."""

    __slots__ = ("_copy", "_meter")

    def __init__(self, meter: Meter, copy: AnswerCopy) -> None:
        self._meter = meter
        self._copy = copy

    def feed(self, chunk: bytes) -> bytes:
        out = self._meter.feed(chunk)
        self._copy.add(out)
        return out

    def finish(self) -> bytes:
        tail = self._meter.finish()
        self._copy.add(tail)
        return tail

    def result(self, status: int, complete: bool) -> Reading:
        return self._meter.result(status, complete)
