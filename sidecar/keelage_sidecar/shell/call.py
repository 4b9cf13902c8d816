"""One request of the application, and the way its reply goes back; framing is decided here and nowhere else."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

import msgspec

from keelage_sidecar.core.refusal import Headers

JOIN_BYTES = 64 * 1024
"""Head and body up to this size leave in one piece; beyond it a copy costs more than a second buffer."""
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"keep-alive"))
_BODILESS = (204, 304)
_STATUS_LINES: dict[int, bytes] = {}
_STATUS_LINES_MAX = 1000
_line = b": ".join


class Framing(enum.Enum):
    """How the application learns where a reply's body ends."""

    NONE = enum.auto()
    """No body at all: HEAD, 204, 304."""
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()
    """HTTP/1.0 and a length that nobody knows."""


_NONE, _LENGTH, _CHUNKED = Framing.NONE, Framing.LENGTH, Framing.CHUNKED


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

    @property
    def local(self) -> bool:
        """Whoever asks is in the same network namespace, or forwarded into it by the kubelet."""

    def write(self, data: bytes, /) -> None:
        """Queue bytes; dropped on a closed connection."""

    async def writable(self) -> None:
        """Return when not `full`, or closed."""

    def close(self) -> None:
        """Send what is queued, then close."""


class Call(msgspec.Struct, eq=False):
    """A complete request; replied to once, by `reply` or by `begin`, `write` … `end`."""

    wire: Wire
    method: str
    target: str
    """Path and query as received."""
    headers: Headers
    """Names in lower case."""
    body: bytes
    http11: bool = True
    keeps_connection: bool = True
    """Another request may follow on the connection; valid when `finished`."""
    received_s: float = 0.0
    """On the server's clock, when the request was complete."""
    started: bool = False
    """A byte of the reply went out: another attempt can no longer replace it."""
    finished: bool = False
    survives: bool = False
    """Set by the handler that wants to go on when the application leaves; else it is cancelled."""
    status: int = 0
    """As sent; 0 before."""
    _head: bytes = b""
    _framing: Framing = _NONE
    _left: int = 0
    _missed: bool = False

    @property
    def gone(self) -> bool:
        """The application has left."""
        return self.wire.closed

    @property
    def deserted(self) -> bool:
        """It has left before the reply's end: one that closes its connection behind an answer has got that."""
        return self._missed if self.finished else self.wire.closed

    def reply(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """The whole reply, in one write. Framing headers among `headers` are ignored."""
        self.begin(status, [each for each in headers if each[0] not in _FRAMING], len(body))
        self.end(body)

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]], length: int | None) -> None:
        """Fix status and headers; they leave with the first bytes of the body, in one packet.

        `headers` without those that frame the body; `length` of the body, None where it is unknown.
        """
        assert not self.started, "a reply has begun already"
        self.status = status
        lines = [_STATUS_LINES.get(status) or _status_line(status), *map(_line, headers)]
        bodiless = status in _BODILESS
        if length is not None and not bodiless:
            lines.append(b"content-length: %d" % length)
            self._left = length
        if self.method == "HEAD" or bodiless:
            self._framing = _NONE
        elif length is not None:
            self._framing = _LENGTH
        elif self.http11:
            self._framing = _CHUNKED
            lines.append(b"transfer-encoding: chunked")
        else:
            self._framing = Framing.CLOSE
            self.keeps_connection = False
        if not self.keeps_connection or self.wire.draining:
            self.keeps_connection = False
            lines.append(b"connection: close")
        elif not self.http11:
            lines.append(b"connection: keep-alive")
        lines += (b"", b"")
        self._head = b"\r\n".join(lines)

    def write(self, data: bytes) -> None:
        """Send a piece of the body, which is not empty; ask `wire.full` and await `writable` before the next."""
        framing = self._framing
        if framing is _CHUNKED:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif framing is _LENGTH:
            data = data[: self._left]
            self._left -= len(data)
        elif framing is _NONE:
            data = b""
        if self._head:
            self._send(data)
        else:
            self.wire.write(data)

    async def writable(self) -> None:
        await self.wire.writable()

    def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body, which may be empty, and what ends it."""
        framing = self._framing
        if framing is _LENGTH:
            if len(data) != self._left:
                data = data[: self._left]
                # Shorter than announced: only closing tells the application.
                self.keeps_connection = self.keeps_connection and len(data) == self._left
        elif framing is _CHUNKED:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        elif framing is _NONE:
            data = b""
        if self._head:
            self._send(data)
        elif data:
            self.wire.write(data)
        self._missed, self.finished = self.wire.closed, True
        if not self.keeps_connection:
            self.wire.close()

    def fail(self, data: bytes = b"") -> None:
        """Send a last piece, then close without an end: the application must see that the body was cut.

        Closed and not reset: a reset would throw away the error event that is still on its way.
        """
        if data:
            self.write(data)
        self.keeps_connection = False
        self._missed, self.finished = self.wire.closed, True
        self.wire.close()

    def _send(self, framed: bytes) -> None:
        """The first bytes, with the head."""
        self.started = True
        if len(framed) > JOIN_BYTES:
            self.wire.write(self._head)
            self.wire.write(framed)
        else:
            self.wire.write(self._head + framed)
        self._head = b""


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded" if status == 529 else "Unknown"
    line = b"HTTP/1.1 %d %b" % (status, phrase.encode())
    if len(_STATUS_LINES) < _STATUS_LINES_MAX:
        _STATUS_LINES[status] = line
    return line
