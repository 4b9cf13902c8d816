"""One request of the application, and the way its reply goes back; framing is decided here and nowhere else."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

from keelage_sidecar.core.refusal import Headers

_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"keep-alive"))
_BODILESS = (204, 304)
_STATUS_LINES: dict[int, bytes] = {}
_STATUS_LINES_MAX = 1000


class Framing(enum.Enum):
    """How the application learns where a reply's body ends."""

    NONE = enum.auto()
    """No body at all: HEAD, 204, 304."""
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()
    """HTTP/1.0 and a length that nobody knows."""


class Wire(Protocol):
    """The application's connection, as far as a reply needs it."""

    @property
    def closed(self) -> bool:
        """Nothing that is written arrives any more."""

    @property
    def draining(self) -> bool:
        """The application should open another connection for its next request."""

    @property
    def full(self) -> bool:
        """The application reads more slowly than we write: wait before writing on."""

    def write(self, data: bytes) -> None:
        """Queue bytes; dropped on a closed connection."""

    async def writable(self) -> None:
        """Return when not `full`, or closed."""

    def close(self) -> None:
        """Send what is queued, then close."""


class Call:
    """A complete request; replied to once, by `reply` or by `begin`, `write` … `end`."""

    __slots__ = (
        "_framing", "_head", "_keep", "_left", "_wire", "body", "finished", "headers", "http11", "method", "received_s",
        "started", "status", "survives", "target",
    )  # fmt: skip

    def __init__(
        self,
        wire: Wire,
        method: str,
        target: str,
        headers: Headers,
        body: bytes,
        *,
        http11: bool = True,
        keep_alive: bool = True,
        received_s: float = 0.0,
    ) -> None:
        self._wire = wire
        self.method = method
        self.target = target
        """Path and query as received."""
        self.headers = headers
        self.body = body
        self.http11 = http11
        self.received_s = received_s
        """On the server's clock, when the request was complete."""
        self.started = False
        """A byte of the reply went out: another attempt can no longer replace it."""
        self.finished = False
        self.survives = False
        """Set by the handler that wants to go on when the application leaves; else it is cancelled."""
        self.status = 0
        """As sent; 0 before."""
        self._keep = keep_alive
        self._head = b""
        self._framing = Framing.NONE
        self._left = 0

    @property
    def gone(self) -> bool:
        """The application has left."""
        return self._wire.closed

    @property
    def full(self) -> bool:
        return self._wire.full

    @property
    def keeps_connection(self) -> bool:
        """Another request may follow on the connection; valid when `finished`."""
        return self._keep

    def reply(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """The whole reply, in one write."""
        self.begin(status, headers, len(body))
        self.end(body)

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]], length: int | None) -> None:
        """Fix status and headers; they leave with the first bytes of the body, in one packet.

        `length` of the body, None where it is unknown. Framing headers among `headers` are ignored.
        """
        assert not self.started, "a reply has begun already"
        self.status = status
        if self.method == "HEAD" or status in _BODILESS:
            self._framing = Framing.NONE
        elif length is not None:
            self._framing = Framing.LENGTH
        elif self.http11:
            self._framing = Framing.CHUNKED
        else:
            self._framing = Framing.CLOSE
        self._keep = self._keep and self._framing is not Framing.CLOSE and not self._wire.draining
        self._left = length or 0
        parts = [_status_line(status)]
        for name, value in headers:
            if name not in _FRAMING:
                parts += (name, b": ", value, b"\r\n")
        if length is not None and status not in _BODILESS:
            parts.append(b"content-length: %d\r\n" % length)
        elif self._framing is Framing.CHUNKED:
            parts.append(b"transfer-encoding: chunked\r\n")
        if not self._keep:
            parts.append(b"connection: close\r\n")
        elif not self.http11:
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")
        self._head = b"".join(parts)

    def write(self, data: bytes) -> None:
        """Send a piece of the body; ask `full` and await `writable` before the next."""
        if data:
            self._send(self._framed(data))

    async def writable(self) -> None:
        await self._wire.writable()

    def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body, which may be empty, and what ends it."""
        framed = self._framed(data) if data else b""
        if self._framing is Framing.CHUNKED:
            framed += b"0\r\n\r\n"
        if framed or self._head:
            self._send(framed)
        self.finished = True
        if self._framing is Framing.LENGTH and self._left:
            self._keep = False  # shorter than announced: only closing tells the application
        if not self._keep:
            self._wire.close()

    def fail(self, data: bytes = b"") -> None:
        """Send a last piece, then close without an end: the application must see that the body was cut.

        Closed and not reset: a reset would throw away the error event that is still on its way.
        """
        if data:
            self._send(self._framed(data))
        self._keep = False
        self.finished = True
        self._wire.close()

    def _framed(self, data: bytes) -> bytes:
        match self._framing:
            case Framing.CHUNKED:
                return b"%x\r\n%b\r\n" % (len(data), data)
            case Framing.LENGTH:
                data = data[: self._left]
                self._left -= len(data)
                return data
            case Framing.NONE:
                return b""
            case Framing.CLOSE:
                return data

    def _send(self, framed: bytes) -> None:
        if self._head:
            framed, self._head = self._head + framed, b""
        self.started = True
        self._wire.write(framed)


def _status_line(status: int) -> bytes:
    line = _STATUS_LINES.get(status)
    if line is None:
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Overloaded" if status == 529 else "Unknown"
        line = b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode())
        if len(_STATUS_LINES) < _STATUS_LINES_MAX:
            _STATUS_LINES[status] = line
    return line
