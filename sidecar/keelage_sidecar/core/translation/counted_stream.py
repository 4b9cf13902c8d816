"""A stream that is counted as the upstream sends it, and passed on as the application's API has it."""

from __future__ import annotations

from typing import Protocol

from keelage_sidecar.core.meter import Meter, Reading
from keelage_sidecar.core.sse import EVENT_BYTES_MAX

HELD_MAX = EVENT_BYTES_MAX
"""Characters that a translator holds at a time; no answer has as many."""
CALL_COST = 4096
"""Characters that a call of a tool counts for besides its arguments, so that their number has an end too."""
TOO_LARGE: dict[str, object] = {
    "error": {"message": "the provider's stream has too large an event, or too many calls of tools"}
}


class StreamTranslator(Protocol):
    """A stream, from the first byte to the last, whatever the cuts."""

    def feed(self, chunk: bytes) -> bytes:
        """The application's bytes, whole events of them."""

    def finish(self) -> bytes:
        """After the last `feed`."""


class CountedStream:
    """A `Meter` whose bytes to forward are the translated ones."""

    __slots__ = ("_meter", "_translator")

    def __init__(self, meter: Meter, translator: StreamTranslator) -> None:
        self._meter = meter
        self._translator = translator

    def feed(self, chunk: bytes) -> bytes:
        return self._translator.feed(self._meter.feed(chunk))

    def finish(self) -> bytes:
        return self._translator.feed(self._meter.finish()) + self._translator.finish()

    def result(self, status: int, complete: bool) -> Reading:
        return self._meter.result(status, complete)
