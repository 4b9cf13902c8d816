"""An upstream's answer on its way to the application: as received, counted beside the stream."""

from __future__ import annotations

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.meter import Meter
from keelage_sidecar.core.refusal import Headers, stream_error
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.shell.answer import Answer, UpstreamError
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.decoding import decoder_for
from keelage_sidecar.shell.refusals import TRUNCATED

_HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"content-length",
    }
)  # fmt: skip


class Body:
    """The answer's body with a content encoding that nobody asked for undone."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        given = dict(answer.headers)
        self._decoder = decoder_for(given[b"content-encoding"]) if b"content-encoding" in given else None
        self.decoded = self._decoder is not None
        self.streaming = given.get(b"content-type", b"").lstrip().lower().startswith(b"text/event-stream")
        length = given.get(b"content-length", b"")
        self.length = int(length) if length.isdigit() and not self.decoded and not self.streaming else None
        """As announced; None where unknown, or where bytes may be taken out on the way."""

    @property
    def at_end(self) -> bool:
        return self._answer.at_end and not (self._decoder is not None and self._decoder.pending)

    async def read(self) -> bytes:
        """The next piece, empty at the end; raises UpstreamError."""
        while True:
            unpacking = self._decoder is not None and self._decoder.pending
            data = b"" if unpacking else await self._answer.read()
            if self._decoder is None or not (data or unpacking):
                return data
            try:
                plain = self._decoder.decode(data)
            except ValueError as error:
                raise UpstreamError(Failure.RESET, str(error)) from error
            if plain:
                return plain


def reply_headers(headers: Headers, *, decoded: bool, final: bool, request_id: str) -> list[tuple[bytes, bytes]]:
    """What the application gets of the upstream's headers; `final`: its SDK is not to try again."""
    named = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    kept = [
        (name, value)
        for name, value in headers
        if name not in _HOP_BY_HOP
        and name not in named
        and not (decoded and name == b"content-encoding")
        and not (final and name == b"x-should-retry")
    ]
    if final:
        kept.append((b"x-should-retry", b"false"))
    kept.append((b"x-keelage-request-id", request_id.encode()))
    return kept


async def relay(call: Call, body: Body, meter: Meter, first: bytes, dialect: Dialect, request_id: str) -> bool:
    """Pass everything on, `first` included; whether the answer came to its proper end.

    The reply has begun. A cut stream is never ended cleanly: both SDKs would take it for
    a complete one. It gets an error event, then the connection is closed without an end.
    """
    last = b"\n\n"
    piece = first
    try:
        while True:
            out = meter.feed(piece)
            if body.at_end:
                break
            if out:
                last = out[-4:]
                call.write(out)
                if call.full:
                    await call.writable()
            piece = await body.read()
            if not piece:
                out = b""
                break
    except UpstreamError:
        _cut(call, body.streaming, last, dialect, request_id)
        return False
    tail = meter.finish()
    if body.streaming and call.status < 300:
        reading = meter.result(call.status, True)
        if not reading.complete and not reading.error:
            _cut(call, True, (out or last)[-4:], dialect, request_id, out)  # without the tail: part of an event
            return False
    call.end(out + tail)
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
