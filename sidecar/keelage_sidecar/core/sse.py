"""Bytes of a `text/event-stream` to events, whatever the cuts between chunks.

Line ends may be CR LF, LF or CR (WHATWG HTML, 9.2.6). An event's bytes include the blank line that ends it,
so that all events' bytes together are the stream.
"""

from __future__ import annotations

import re

import msgspec

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""An event beyond this is not parsed; the largest seen (a server tool's result in one block) was below 1 MiB."""

# Atomic: CR LF is one line end, never two.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")


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

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Events completed by this chunk, in order."""
        if self.lost:
            return []
        self._buffer += chunk
        events = self._take(final=False)
        if len(self._buffer) > EVENT_BYTES_MAX:
            self.lost = True
        return events

    def finish(self) -> list[SseEvent]:
        """What the end of the stream makes certain: a last event whose blank line may have been half a CR LF."""
        return [] if self.lost else self._take(final=True)

    def rest(self) -> bytes:
        """Bytes of no event so far; emptied by the call."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        return rest

    def _take(self, final: bool) -> list[SseEvent]:
        events: list[SseEvent] = []
        start = 0
        while (found := _BLANK_LINE.search(self._buffer, max(start, self._searched))) is not None:
            if not final and found.end() == len(self._buffer) and self._buffer[-1] == 0x0D:
                break  # its LF may come with the next chunk
            events.append(_event(bytes(self._buffer[start : found.end()])))
            start = found.end()
        del self._buffer[:start]
        self._searched = max(0, len(self._buffer) - 4)
        return events


def _event(raw: bytes) -> SseEvent:
    name = b""
    data: list[bytes] = []
    for line in _LINE_END.split(raw):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return SseEvent(name, b"\n".join(data), raw)
