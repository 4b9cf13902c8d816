"""Bytes of a `text/event-stream` to events, whatever the cuts between chunks.

Line ends may be CR LF, LF or CR (WHATWG HTML, 9.2.6). An event's bytes include the blank line that ends it,
so that all events' bytes together are the stream; a blank line after another is an event of its own, an empty one.
"""

from __future__ import annotations

import re

import msgspec

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""An event beyond this is not parsed; the largest seen (a server tool's result in one block) was below 1 MiB."""

# Atomic: CR LF is one line end, never two.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
"""After these nothing is left of an event; after CR CR an LF may follow, which belongs to it."""
QUICK_BYTES = 64 * 1024
"""A longer unfinished event is not searched again from its beginning with every chunk."""


class SseEvent(msgspec.Struct, frozen=True):
    name: bytes
    """Of the `event:` line; empty where there is none."""
    data: bytes
    """`data:` lines joined by LF; empty for comments."""
    raw: bytes
    """As received, with the blank line that ends it."""


class SseScanner:
    """Feed chunks, get the events that they completed.

    After an event larger than EVENT_BYTES_MAX the scanner is `lost`: it returns no more events.
    """

    __slots__ = ("_buffer", "_searched", "lost")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self.lost = False

    def whole(self, chunk: bytes) -> bool:
        """Whether the chunk, fed now, would begin and end with its events: it need not be fed then."""
        return not self._buffer and chunk.endswith(_EVENT_ENDS)

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Events completed by this chunk, in order."""
        return [event_of(raw) for raw in self.split(chunk)]

    def finish(self) -> list[SseEvent]:
        """What the end of the stream makes certain: a last event whose blank line is half a CR LF, or never came.

        By the specification one without it is none; but the SDKs take a stream that lacks it for whole, and of one that
        was cut the data is no JSON.
        """
        return [event_of(raw) for raw in self.split_end()]

    def split(self, chunk: bytes) -> list[bytes]:
        """As `feed`, but the events as they came: `event_of` reads those that matter."""
        if self.lost:
            return []
        self._buffer += chunk
        events = self._take(final=False)
        if len(self._buffer) > EVENT_BYTES_MAX:
            self.lost = True
        return events

    def split_end(self) -> list[bytes]:
        """As `finish`."""
        if self.lost:
            return []
        events = self._take(final=True)
        rest = self.rest()
        return [*events, rest] if rest else events

    def rest(self) -> bytes:
        """Bytes of no event so far; emptied by the call."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        return rest

    def _take(self, final: bool) -> list[bytes]:
        buffer = self._buffer
        if self._searched < QUICK_BYTES and not (
            b"\r" in buffer or b"\n\n\n" in buffer or buffer.startswith(b"\n")
        ):  # as providers write them
            *events, rest = bytes(buffer).split(b"\n\n")
            self._drop(len(buffer) - len(rest))
            return [event + b"\n\n" for event in events]
        events = []
        start = 0
        while start < len(buffer):
            found = _LINE_END.match(buffer, start) or _BLANK_LINE.search(buffer, max(start, self._searched))
            if found is None or (not final and found.end() == len(buffer) and buffer[-1] == 0x0D):
                break  # its LF may come with the next chunk
            events.append(bytes(buffer[start : found.end()]))
            start = found.end()
        self._drop(start)
        return events

    def _drop(self, done: int) -> None:
        """Forget that many bytes, and what needs no second look."""
        del self._buffer[:done]
        self._searched = max(0, len(self._buffer) - 4)


def event_of(raw: bytes) -> SseEvent:
    """The fields of one event."""
    name = b""
    data: list[bytes] = []
    for line in raw.split(b"\n") if b"\r" not in raw else _LINE_END.split(raw):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return SseEvent(name, b"\n".join(data), raw)
