"""The provider's side: pooled HTTP/1.1 connections, TLS, deadlines. The only HTTP client of the sidecar.

A connection returns to its pool when its reply has arrived and its request has left, both
in whole. An idle connection that its peer has closed is found out before anything is
written to it, so that a stale one never turns into an attempt with an unknown outcome.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from keelage_api.proxy_config import Timeouts
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.shell.answer import Answer, UpstreamError

SWEEP_S = 0.1
"""How late a deadline may be noticed."""
IDLE_S = 30.0
"""A pooled connection is used no later; shorter than what load balancers and nginx keep one (60 s, 75 s)."""
IDLE_MAX = 64
"""Idle connections kept per origin."""
HEAD_BYTES = 256 * 1024
JOIN_BYTES = 64 * 1024
"""Head and body up to this size leave in one write, so in as few packets as can be."""


@dataclass(frozen=True, slots=True)
class Origin:
    secure: bool
    host: str
    port: int


def origin_of(endpoint: str) -> Origin:
    """Scheme, host and port of a URL."""
    parts = urlsplit(endpoint)
    secure = parts.scheme == "https"
    return Origin(secure, parts.hostname or "", parts.port or (443 if secure else 80))


class Upstream:
    """All connections to providers. `tls` is called once, for the first secure origin."""

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[Origin, list[Connection]] = {}
        self._origins: dict[str, Origin] = {}
        self.active: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self.connects = 0
        """Connections ever opened."""

    async def open(self, endpoint: str, connect_s: float) -> Connection:
        """A connection to use for one request; raises UpstreamError with `Failure.CONNECT`."""
        origin = self._origins.get(endpoint)
        if origin is None:
            origin = self._origins[endpoint] = origin_of(endpoint)
        connection = self._pooled(origin, asyncio.get_running_loop().time())
        return connection if connection is not None else await self._connect(origin, connect_s)

    async def close(self) -> None:
        """Close every connection; running answers fail."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()
        for connection in list(self.active):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def sweep(self, now_s: float) -> None:
        """Fail what is overdue, close what has been idle for long."""
        for connection in list(self.active):
            answer = connection.answer
            if answer is not None and answer.deadline_s is not None and answer.deadline_s <= now_s:
                answer.failed(Failure.TIMEOUT, "no answer in time")
                connection.abort()
        for origin, connections in list(self._idle.items()):
            fresh = [each for each in connections if each.idle_since_s + IDLE_S > now_s]
            if len(fresh) < len(connections):
                for each in connections:
                    if each.idle_since_s + IDLE_S <= now_s:
                        each.abort()
                self._idle[origin] = fresh
            if not fresh:
                del self._idle[origin]

    # for connections

    def began(self, connection: Connection) -> None:
        """A request leaves on it."""
        self.active.add(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_again)

    def ended(self, connection: Connection, reusable: bool) -> None:
        """The reply has arrived, or never will."""
        self.active.discard(connection)
        if reusable:
            idle = self._idle.setdefault(connection.origin, [])
            if len(idle) < IDLE_MAX:
                connection.idle_since_s = asyncio.get_running_loop().time()
                idle.append(connection)
                return
        connection.close()

    def lost(self, connection: Connection) -> None:
        """The connection is closed."""
        self.active.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle is not None and connection in idle:
            idle.remove(connection)

    def _pooled(self, origin: Origin, now_s: float) -> Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()  # the youngest: the others may grow old and go
            if connection.usable(now_s):
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin, timeout_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        if origin.secure and self._tls is None:
            self._tls = self._make_tls()
        self.connects += 1
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, origin),
                    origin.host,
                    origin.port,
                    ssl=self._tls if origin.secure else None,
                    server_hostname=origin.host if origin.secure else None,
                )
        except TimeoutError as error:
            raise UpstreamError(
                Failure.CONNECT, f"{origin.host}:{origin.port}: no connection within {timeout_s:.1f} s"
            ) from error
        except (OSError, ssl.SSLError, UnicodeError) as error:
            raise UpstreamError(Failure.CONNECT, f"{origin.host}:{origin.port}: {error}") from error
        return connection

    def _sweep_again(self) -> None:
        loop = asyncio.get_running_loop()
        self.sweep(loop.time())
        self._sweeper = loop.call_later(SWEEP_S, self._sweep_again) if self.active or self._idle else None


class Connection(asyncio.Protocol):
    """One connection: the callbacks of asyncio and of the parser, filling one answer after the other."""

    def __init__(self, upstream: Upstream, origin: Origin) -> None:
        self._upstream = upstream
        self.origin = origin
        self.idle_since_s = 0.0
        self.answer: Answer | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._probe: select.poll | None = None
        self._closed = False
        self._paused = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._raw_bytes = 0
        self._head_done = False
        self._framed = False
        self._done = False
        self._keep = False

    def send(
        self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes, timeouts: Timeouts
    ) -> Answer:
        """Write a request, complete with its framing headers; what comes back fills the answer.

        Await its `head`, then `read` it to the end or `abort` it.
        """
        assert self._transport is not None
        parts = [method.encode(), b" ", target.encode("latin-1"), b" HTTP/1.1\r\n"]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n")
        answer = self.answer = Answer(self, timeouts)
        self._begin()
        self._upstream.began(self)
        if len(body) <= JOIN_BYTES:
            parts.append(body)
            self._transport.write(b"".join(parts))
        else:
            self._transport.write(b"".join(parts))
            self._transport.write(body)
        if self._closed:
            self.answer = None
            self._upstream.lost(self)
            answer.failed(Failure.RESET, f"{self.origin.host}:{self.origin.port}: closed")
        return answer

    def usable(self, now_s: float) -> bool:
        """Nothing says that the peer has closed it: an idle connection has nothing to read."""
        if self._closed or self._transport is None or self._transport.is_closing():
            return False
        return now_s - self.idle_since_s < IDLE_S and (self._probe is None or not self._probe.poll(0))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def pause(self) -> None:
        if self._transport is not None and not self._closed:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused and not self._closed:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        socket = transport.get_extra_info("socket")
        if socket is not None:
            self._probe = select.poll()
            self._probe.register(socket.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:
            self.abort()  # nobody asked
            return
        if not self._head_done:
            self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"not a valid HTTP/1.1 reply: {error}")
            return
        if not self._head_done and self._raw_bytes > HEAD_BYTES:
            self._fail(f"the reply's head has more than {HEAD_BYTES} bytes")
            return
        if self._done:
            self._end(reusable=self._keep)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        answer = self.answer
        if answer is not None:
            self.answer = None
            if error is None and self._head_done and not self._framed:
                answer.got_end()  # the body's end is the connection's
            else:
                text = str(error) if error is not None else "closed before the whole reply had arrived"
                answer.failed(Failure.RESET, f"{self.origin.host}:{self.origin.port}: {text}")
        self._upstream.lost(self)

    # the parser

    def on_message_begin(self) -> None:
        if self._done:
            self._keep = False  # a second reply to one request
            return
        self._begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done and not self._done:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._done or status < 200 or self.answer is None:
            return
        self._head_done = True
        self._framed = status in (204, 304) or any(
            name == b"content-length" or (name == b"transfer-encoding" and value.lower().endswith(b"chunked"))
            for name, value in self._headers
        )
        self.answer.got_head(status, tuple(self._headers))

    def on_body(self, data: bytes) -> None:
        if self._head_done and not self._done and self.answer is not None:
            self.answer.got_body(data)

    def on_message_complete(self) -> None:
        if self._done or not self._head_done:
            return  # of an informational reply: the real one follows
        self._done = True
        # Asked here: afterwards llhttp has reset its flags, says no, and every request connects anew.
        self._keep = self._parser.should_keep_alive()

    def _begin(self) -> None:
        self._headers = []
        self._raw_bytes = 0
        self._head_done = self._framed = self._done = self._keep = False

    def _end(self, *, reusable: bool) -> None:
        answer, self.answer = self.answer, None
        self.resume()
        sent = self._transport is not None and self._transport.get_write_buffer_size() == 0
        self._upstream.ended(self, reusable and sent and not self._closed)
        if answer is not None:
            answer.got_end()

    def _fail(self, text: str) -> None:
        if self.answer is not None:
            self.answer.failed(Failure.RESET, f"{self.origin.host}:{self.origin.port}: {text}")
        self.abort()
