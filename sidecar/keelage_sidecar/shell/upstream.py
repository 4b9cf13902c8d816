"""The provider's side: pooled HTTP/1.1 connections, TLS, deadlines. The only HTTP client of the sidecar.

A connection returns to its pool when its reply has arrived and its request has left, both
in whole. An idle connection that its peer has closed is found out before anything is
written to it, so that a stale one never turns into an attempt with an unknown outcome.
"""

from __future__ import annotations

import asyncio
import math
import select
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import httptools
import msgspec

from keelage_api.proxy_config import BackendTLS, Timeouts
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.shell.answer import Answer, UpstreamError, answer_from
from keelage_sidecar.shell.call import JOIN_BYTES
from keelage_sidecar.shell.tls_session import remember
from keelage_sidecar.shell.trust import TrustError

SWEEP_S = 0.1
"""How late a deadline may be noticed."""
IDLE_S = 30.0
"""A pooled connection is used no later; shorter than what load balancers and nginx keep one (60 s, 75 s)."""
IDLE_MAX = 64
"""Idle connections kept per origin."""
HEAD_BYTES = 256 * 1024
_PUBLIC = BackendTLS()
_line = b": ".join


class Origin(msgspec.Struct, frozen=True):
    secure: bool
    host: str
    port: int
    tls: BackendTLS = _PUBLIC


def origin_of(endpoint: str, tls: BackendTLS = _PUBLIC) -> Origin:
    """Scheme, host and port of a URL, and how the host proves itself. Raises ValueError."""
    parts = urlsplit(endpoint)
    secure = parts.scheme == "https"
    return Origin(secure, parts.hostname or "", parts.port or (443 if secure else 80), tls)


class Pool:
    """The idle connections to one origin, the youngest last."""

    __slots__ = ("idle", "is_cold", "origin", "used_s", "warmed_s")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.idle: list[Connection] = []
        self.used_s = -math.inf
        """When the last answer had come."""
        self.warmed_s = -math.inf
        """When a connection was last opened ahead."""
        self.is_cold = False
        """It is in `Upstream.cold`."""


class Upstream:
    """All connections to providers."""

    def __init__(self, tls: Callable[[tuple[str, ...]], ssl.SSLContext]) -> None:
        """Must be called inside a running loop. `tls` gives the context for the files of `BackendTLS.authorities`,
        for each new connection; it may raise TrustError."""
        # Asked once: up to Python 3.11 each time is a system call.
        self.loop = asyncio.get_running_loop()
        self._tls = tls
        self._pools: dict[Origin, Pool] = {}
        self._by_endpoint: dict[tuple[str, BackendTLS | None], Pool] = {}
        self.active: set[Connection] = set()
        self.sweeper: asyncio.TimerHandle | None = None
        self.connects = 0
        """Connections ever opened."""
        self.cold: asyncio.Queue[Pool] = asyncio.Queue()
        """Whose last idle connection is gone, each once; for whoever opens connections ahead."""

    async def open(self, endpoint: str, connect_s: float, tls: BackendTLS | None = None) -> Connection:
        """A connection to use for one request; raises UpstreamError with `Failure.CONNECT`."""
        pool = self._by_endpoint.get((endpoint, tls)) or self.pool(endpoint, tls)
        return self.at_hand(pool) or await self._connect(pool, connect_s)

    def at_hand(self, pool: Pool) -> Connection | None:
        """An idle connection to use for one request; None if there is none."""
        idle = pool.idle
        while idle:
            connection = idle.pop()  # the youngest: the others may grow old and go
            if connection.usable():
                return connection
            connection.abort()
        return None

    def pool(self, endpoint: str, tls: BackendTLS | None = None) -> Pool:
        """The one of that endpoint, which is made where there is none; raises UpstreamError for what is no URL."""
        try:
            origin = origin_of(endpoint, tls or _PUBLIC)
        except ValueError as error:  # the schema lets through a port of 99999
            raise UpstreamError(Failure.CONNECT, f"{error}: correct backends[].endpoint") from error
        pool = self._by_endpoint[endpoint, tls] = self._pools.setdefault(origin, Pool(origin))
        return pool

    async def warm(self, pool: Pool, connect_s: float) -> None:
        """Open a connection that nobody needs yet; raises UpstreamError."""
        connection = await self._connect(pool, connect_s)
        connection.idle_since_s = self.loop.time()
        pool.idle.append(connection)
        if self.sweeper is None:
            self.sweep_later()

    def cooled(self, pool: Pool) -> None:
        """It may have lost its last idle connection."""
        if not (pool.idle or pool.is_cold):
            pool.is_cold = True
            self.cold.put_nowait(pool)

    async def close(self) -> None:
        """Close every connection; running answers fail."""
        for pool in self._pools.values():
            for connection in pool.idle:
                connection.abort()
            pool.idle.clear()
        for connection in list(self.active):
            connection.abort()
        if self.sweeper is not None:
            self.sweeper.cancel()
            self.sweeper = None

    def sweep(self, now_s: float) -> None:
        """Fail what is overdue, close what has been idle for long."""
        for connection in list(self.active):
            answer = connection.answer
            if answer is not None and answer.overdue(now_s):
                answer.failed(Failure.TIMEOUT, "no answer in time")
                connection.abort()
        for pool in self._pools.values():
            old = [each for each in pool.idle if each.idle_since_s + IDLE_S <= now_s]
            for connection in old:
                pool.idle.remove(connection)
                connection.retire()
            if old:
                self.cooled(pool)

    # for connections

    def sweep_later(self) -> None:
        """From now on, while there is anything to look after."""
        self.sweeper = self.loop.call_later(SWEEP_S, self._sweep_again)

    def ended(self, connection: Connection, reusable: bool) -> None:
        """The reply has arrived, or never will."""
        self.active.discard(connection)
        idle = connection.pool.idle
        if reusable and len(idle) < IDLE_MAX:
            connection.pool.used_s = connection.idle_since_s = self.loop.time()
            idle.append(connection)
        else:
            connection.close()

    def lost(self, connection: Connection) -> None:
        """The connection is closed."""
        self.active.discard(connection)
        if connection in connection.pool.idle:
            connection.pool.idle.remove(connection)
            self.cooled(connection.pool)

    async def _connect(self, pool: Pool, timeout_s: float) -> Connection:
        loop, origin = self.loop, pool.origin
        self.connects += 1
        try:
            context = self._tls(origin.tls.authorities) if origin.secure else None
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, pool),
                    origin.host,
                    origin.port,
                    ssl=context,
                    server_hostname=(origin.tls.hostname or origin.host) if origin.secure else None,
                )
        except TimeoutError as error:
            raise UpstreamError(
                Failure.CONNECT, f"{origin.host}:{origin.port}: no connection within {timeout_s:.1f} s"
            ) from error
        except (OSError, ssl.SSLError, UnicodeError, TrustError) as error:
            raise UpstreamError(Failure.CONNECT, f"{origin.host}:{origin.port}: {error}") from error
        return connection

    def _sweep_again(self) -> None:
        self.sweeper = None
        self.sweep(self.loop.time())
        if self.active or any(pool.idle for pool in self._pools.values()):
            self.sweep_later()


class Connection(asyncio.Protocol):
    """One connection: the callbacks of asyncio and of the parser, filling one answer after the other."""

    def __init__(self, upstream: Upstream, pool: Pool) -> None:
        self._upstream = upstream
        self.pool = pool
        self.idle_since_s = 0.0
        self.answer: Answer | None = None
        self._transport: asyncio.Transport | None = None
        self._probe: select.poll | None = None
        self._secured: ssl.SSLObject | None = None
        """Until its session is remembered."""
        self._closed = False
        self._paused = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._raw_bytes = 0
        """Received since the request, or since the body's last piece: of the head, of what chunks are framed with, of
        trailers."""
        self._head_done = False
        self._done = False
        self._keep = False
        self._pieces: list[bytes] = []
        self._last_piece = 0
        # Without a Python function in between: it is called for every chunk of every stream.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)

    def send(
        self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes, timeouts: Timeouts
    ) -> Answer:
        """Write a request, complete with its framing headers; what comes back fills the answer.

        Await its `head`, then `read` or `pour` it to the end, or `abort` it.
        """
        transport = self._transport
        assert transport is not None
        answer = self.answer = answer_from(self, self._upstream.loop, timeouts)
        self._headers = []
        self._raw_bytes = 0
        self._head_done = self._done = self._keep = False
        upstream = self._upstream
        upstream.active.add(self)
        if upstream.sweeper is None:
            upstream.sweep_later()
        lines = [b"%b %b HTTP/1.1" % (method.encode(), target.encode("latin-1")), *map(_line, headers), b""]
        if len(body) <= JOIN_BYTES:
            lines.append(body)
            transport.write(b"\r\n".join(lines))
        else:
            lines.append(b"")
            transport.write(b"\r\n".join(lines))
            transport.write(body)
        if self._closed:
            self.answer = None
            self._upstream.lost(self)
            answer.failed(Failure.RESET, f"{self._peer}: closed")
        return answer

    def usable(self) -> bool:
        """Nothing says that the peer has closed it: an idle connection has nothing to read."""
        if self._closed or self._transport is None or self._transport.is_closing():
            return False
        return self._probe is None or not self._probe.poll(0)

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

    def retire(self) -> None:
        """Close it, idle for long: its TLS session serves the next one, also if nothing was ever asked on it."""
        self._remember()
        self.abort()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._secured = transport.get_extra_info("ssl_object")
        socket = transport.get_extra_info("socket")
        if socket is not None:
            self._probe = select.poll()
            self._probe.register(socket.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:
            self.abort()  # nobody asked
            return
        self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"not a valid HTTP/1.1 reply: {error}")
            return
        pieces = self._pieces
        if pieces:
            if self._done:
                del pieces[self._last_piece :]  # of a second reply to one request
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._raw_bytes = 0
            answer.got_body(data)
        if self._done:
            self._end(answer)
        elif self._raw_bytes > HEAD_BYTES:
            what = "beside its body" if self._head_done else "in its head"
            self._fail(f"the reply has more than {HEAD_BYTES} bytes {what}")

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        answer, self.answer = self.answer, None
        if answer is not None:
            if error is None and self._head_done and not _framed(answer):
                answer.got_end()  # the body's end is the connection's
            else:
                text = str(error) if error is not None else "closed before the whole reply had arrived"
                answer.failed(Failure.RESET, f"{self._peer}: {text}")
        self._upstream.lost(self)
        del self._parser  # which holds this object: the collector would have to find them

    # the parser

    def on_message_begin(self) -> None:
        if self._done:
            self._keep = False  # a second reply to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._done or self.answer is None:
            return
        if status < 200:
            self._headers.clear()  # informational: the real reply follows
            return
        self._head_done = True
        self.answer.got_head(status, tuple(self._headers))

    def on_message_complete(self) -> None:
        if self._done or not self._head_done:
            return
        self._done = True
        self._last_piece = len(self._pieces)
        # Asked here: afterwards llhttp has reset its flags, says no, and every request connects anew.
        self._keep = self._parser.should_keep_alive()

    @property
    def _peer(self) -> str:
        return f"{self.pool.origin.host}:{self.pool.origin.port}"

    def _end(self, answer: Answer) -> None:
        self.answer = None
        if self._secured is not None:
            self._remember()
        if self._paused:
            self.resume()
        sent = self._transport is not None and self._transport.get_write_buffer_size() == 0
        self._upstream.ended(self, self._keep and sent and not self._closed)
        answer.got_end()

    def _remember(self) -> None:
        if self._secured is not None:
            remember(self._secured)
            self._secured = None

    def _fail(self, text: str) -> None:
        if self.answer is not None:
            self.answer.failed(Failure.RESET, f"{self._peer}: {text}")
        self.abort()


def _framed(answer: Answer) -> bool:
    """The reply said where its body ends."""
    if answer.status in (204, 304) or b"content-length" in answer.fields:
        return True
    return answer.fields.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
