"""An upstream's answer on its way to the application: as received, counted beside the stream."""

from __future__ import annotations

from collections.abc import Awaitable

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.meter import Meter
from keelage_sidecar.core.refusal import Headers, stream_error
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.shell.answer import Answer, UpstreamError
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.decoding import Decoder, decoder_for
from keelage_sidecar.shell.refusals import TRUNCATED

_HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"content-length",
    }
)  # fmt: skip
_USUAL = (b"keep-alive", b"close")
"""Values of `connection` that name no other header."""


class Body:
    """The answer's body with a content encoding that nobody asked for undone."""

    __slots__ = ("_decoder", "answer", "decoded", "length", "streaming")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        given = answer.fields
        self._decoder = decoder_for(given[b"content-encoding"]) if b"content-encoding" in given else None
        self.decoded = self._decoder is not None
        self.streaming = given.get(b"content-type", b"").lstrip().lower().startswith(b"text/event-stream")
        length = given.get(b"content-length", b"")
        self.length = int(length) if length.isdigit() and not self.decoded and not self.streaming else None
        """As announced; None where unknown, or where bytes may be taken out on the way."""

    @property
    def at_end(self) -> bool:
        return self.answer.at_end and not (self._decoder is not None and self._decoder.pending)

    def read(self) -> Awaitable[bytes]:
        """The next piece, empty at the end; raises UpstreamError."""
        return self.answer.read() if self._decoder is None else self._unpacked(self._decoder)

    async def _unpacked(self, decoder: Decoder) -> bytes:
        while True:
            data = b"" if decoder.pending else await self.answer.read()
            if not (data or decoder.pending):
                return b""
            try:
                plain = decoder.decode(data)
            except ValueError as error:
                raise UpstreamError(Failure.RESET, str(error)) from error
            if plain:
                return plain


def reply_headers(headers: Headers, *, decoded: bool, final: bool, request_id: str) -> list[tuple[bytes, bytes]]:
    """What the application gets of the upstream's headers; `final`: its SDK is not to try again."""
    kept = [field for field in headers if field[0] not in _HOP_BY_HOP]
    naming = [field[1] for field in headers if field[0] == b"connection" and field[1] not in _USUAL]
    dropped = [token.strip().lower() for value in naming for token in value.split(b",")]
    if decoded:
        dropped.append(b"content-encoding")
    if final:
        dropped.append(b"x-should-retry")
    if dropped:
        kept = [field for field in kept if field[0] not in dropped]
    if final:
        kept.append((b"x-should-retry", b"false"))
    kept.append((b"x-keelage-request-id", request_id.encode()))
    return kept


class _Flow:
    """Passes on what an answer's connection receives, in the callback that received it: no task wakes up for it."""

    __slots__ = ("_meter", "call", "last")

    def __init__(self, call: Call, meter: Meter) -> None:
        self.call = call
        self._meter = meter
        self.last = b"\n\n"
        """The end of what has gone out."""

    def take(self, data: bytes) -> bool:
        """Whether the application can take more."""
        out = self._meter.feed(data)
        if out:
            self.call.write(out)
            self.last = out if len(out) > 3 else self.last[-4:] + out
        return not self.call.wire.full


async def relay(call: Call, body: Body, meter: Meter, first: bytes, dialect: Dialect, request_id: str) -> bool:
    """Pass everything on, `first` included; whether the answer came to its proper end.

    The reply has begun. A cut stream is never ended cleanly: both SDKs would take it for
    a complete one. It gets an error event, then the connection is closed without an end.
    """
    last, out = b"\n\n", b""
    if body.at_end:
        out = meter.feed(first)
    else:
        flow = _Flow(call, meter)
        try:
            more = flow.take(first)
            while True:
                if not more:
                    await call.writable()
                if not body.decoded:
                    if await body.answer.pour(flow.take):
                        break
                    more = False
                elif piece := await body.read():
                    more = flow.take(piece)
                else:
                    break
        except UpstreamError:
            _cut(call, body.streaming, flow.last, dialect, request_id)
            return False
        last = flow.last
    tail = meter.finish()
    if body.streaming and call.status < 300:
        reading = meter.result(call.status, True)
        if not reading.complete and not reading.error:
            _cut(call, True, out or last, dialect, request_id, out)  # without the tail: part of an event
            return False
    call.end(out + tail if tail else out)
    return True


def _cut(call: Call, streaming: bool, last: bytes, dialect: Dialect, request_id: str, out: bytes = b"") -> None:
    if not streaming:
        call.fail(out)
        return
    event = stream_error(TRUNCATED, dialect, request_id)
    if last.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
        call.fail(out + event)
    elif dialect is Dialect.ANTHROPIC:
        # In mid-event: its last `event:` field wins, and SDKs show the data of an error as it is.
        call.fail(out + b"\n" + event)
    else:
        # In mid-event without event names: whatever followed would be taken for the same data.
        call.fail(out)
