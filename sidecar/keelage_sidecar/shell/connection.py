"""One connection of an application: HTTP/1.1 in, one `Call` at a time out to the handler.

llhttp parses; limits, deadlines, pipelining and back-pressure are here. Deadlines are
numbers that a sweep looks at once a second, instead of a timer per request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import httptools

from keelage_sidecar.core.endpoints import dialect_of
from keelage_sidecar.core.refusal import Headers, Refusal, render
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.limits import Limits
from keelage_sidecar.shell.refusals import BROKEN, STOPPING

Handler = Callable[[Call], Awaitable[None]]

STASH_BYTES = 64 * 1024
"""Of requests sent before the reply to the one before; reading stops beyond it."""


class Port:
    """What the connections of one listening port share."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.draining = False
        self.body_bytes = 0
        """Request bodies in memory."""
        self.connections: set[Connection] = set()
        self.running: set[asyncio.Task[None]] = set()
        self.empty = asyncio.Event()
        """Set when the last connection closes."""

    def sweep(self, now_s: float) -> None:
        """Close every connection whose deadline has passed."""
        for connection in list(self.connections):
            if connection.deadline_s is not None and connection.deadline_s <= now_s:
                connection.expired()


class Connection(asyncio.Protocol):
    """One connection of the application: the callbacks of asyncio and of the parser, and `call.Wire`."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._head_max = port.limits.head_bytes
        self._transport: asyncio.Transport | None = None
        self.closed = False
        self.deadline_s: float | None = None
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[Call] = deque()
        self._stash = bytearray()
        self._doomed: Refusal | None = None
        self._discarding = False
        self._paused: asyncio.Future[None] | None = None
        self._in_head = False
        self._began = False
        self._raw_bytes = 0
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._body: bytes | bytearray = b""
        self._body_bytes = 0
        self._expects = False

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._port.connections) >= self._port.limits.connections:
            self._transport.abort()
            return
        self._port.connections.add(self)
        self.deadline_s = self._loop.time() + self._port.limits.idle_s

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.deadline_s = None
        self._port.connections.discard(self)
        if not self._port.connections:
            self._port.empty.set()
        self._forget_body()
        self._port.body_bytes -= sum(len(call.body) for call in self._queue)
        self._queue.clear()
        self._stash.clear()
        self._release_writer()
        if self._task is not None and self._call is not None and not self._call.survives:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._discarding or self._doomed is not None:
            return
        if self._call is not None:
            self._stash += data
            if len(self._stash) > STASH_BYTES and self._transport is not None:
                self._transport.pause_reading()
            return
        self._feed(data)

    def pause_writing(self) -> None:
        if self._paused is None:
            self._paused = self._loop.create_future()
            self.deadline_s = self._loop.time() + self._port.limits.stalled_s

    def resume_writing(self) -> None:
        self._release_writer()
        if not self._discarding:
            self.deadline_s = None if self._call is not None else self._loop.time() + self._port.limits.idle_s

    # the parser

    def on_message_begin(self) -> None:
        self._reset()
        self._in_head = True
        self._began = True
        self._raw_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: nothing here reads any, and the raw length is bounded
        name = name.lower()
        self._headers.append((name, value))
        # Inlined, since it runs for each of the twenty headers of an SDK's call.
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._head_max:
            self._count_head(0)
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._count_head(0)
        names = [name for name, _ in self._headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            self._doom(Refusal(400, "BadRequest", "Content-Length and Transfer-Encoding in one request"))
        elif b"content-length" in names:
            # llhttp has checked that it is a number
            self._admit(int(self._headers[names.index(b"content-length")][1]))
        if self._parser.get_method() == b"CONNECT":
            self._doom(Refusal(405, "MethodNotAllowed", "CONNECT: this is not a forward proxy"))
        if self._doomed is None and not self._parser.should_upgrade():
            self.deadline_s = self._loop.time() + self._port.limits.body_s
            if self._expects and self._call is None and self._parser.get_http_version() == "1.1":
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        if self._doomed is not None:
            return
        if not self._body:
            self._body = data
        else:
            # Not a list of pieces: of tiny ones each would take twenty times its size.
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data
        self._body_bytes += len(data)
        self._port.body_bytes += len(data)
        self._admit(0)

    def on_message_complete(self) -> None:
        if self._doomed is not None or self._parser.should_upgrade():
            return
        if len(self._queue) >= self._port.limits.pipelined:
            self._doom(Refusal(400, "BadRequest", "too many pipelined requests: wait for a reply before the next"))
            return
        call = Call(
            self,
            self._parser.get_method().decode("latin-1"),
            self._url.decode("latin-1"),
            tuple(self._headers),
            bytes(self._body),
            http11=self._parser.get_http_version() == "1.1",
            # Asked here: afterwards llhttp has forgotten.
            keep_alive=self._parser.should_keep_alive(),
            received_s=self._loop.time(),
        )
        self._reset()
        if self._call is None:
            self._start(call)
        else:
            self._queue.append(call)

    # call.Wire

    @property
    def draining(self) -> bool:
        return self._port.draining

    @property
    def full(self) -> bool:
        return self._paused is not None

    def write(self, data: bytes) -> None:
        if not self.closed and self._transport is not None:
            self._transport.write(data)

    async def writable(self) -> None:
        if self._paused is not None and not self.closed:
            await asyncio.shield(self._paused)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # the life of a connection

    def expired(self) -> None:
        """The deadline has passed: say so where somebody may listen, then close."""
        self.deadline_s = None
        mid_request = self._call is None and not self._discarding and (self._in_head or self._body_bytes > 0)
        if mid_request:
            self._doom(Refusal(408, "RequestTimeout", "the request did not arrive in time", should_retry=True))
            self._answer_doom()
        elif self._transport is not None:
            self._transport.abort()

    def _feed(self, data: bytes) -> None:
        self._began = False
        if not self._in_head and not self._body_bytes:
            self.deadline_s = self._loop.time() + self._port.limits.head_s
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._doom(Refusal(400, "BadRequest", f"not a valid HTTP/1.1 request: {error}"))
        if self._doomed is None and not self._began:
            self._raw_bytes += len(data)
            limits = self._port.limits
            if self._in_head and self._raw_bytes > limits.head_bytes:
                self._count_head(self._raw_bytes)
            elif self._raw_bytes > limits.head_bytes + 2 * limits.body_bytes:
                self._doom(Refusal(413, "RequestTooLarge", "chunk extensions or trailers without end"))
        if self._doomed is not None and self._call is None:
            self._answer_doom()

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read the request again as if it offered no upgrade: the JDK's client offers h2c with every call.

        The parser takes what follows the head for another protocol, body included, hence the second reading.
        """
        method = self._parser.get_method()
        self._parser = httptools.HttpRequestParser(self)
        if self._doomed is None:
            head = [b"%b %b HTTP/1.1\r\n" % (method, self._url)]
            head += [b"%b: %b\r\n" % each for each in self._headers if each[0] not in (b"upgrade", b"connection")]
            self._feed(b"".join((*head, b"\r\n", rest)))
        elif self._call is None:
            self._answer_doom()

    def _count_head(self, more: int) -> None:
        self._head_bytes += more
        limits = self._port.limits
        if self._head_bytes > limits.head_bytes or len(self._headers) > limits.head_fields:
            self._doom(
                Refusal(
                    431,
                    "HeadTooLarge",
                    f"the request's head has more than {limits.head_bytes} bytes or {limits.head_fields} fields",
                )
            )

    def _admit(self, announced: int) -> None:
        """Refuse a body that is too large, or that no memory is left for."""
        limits = self._port.limits
        if max(announced, self._body_bytes) > limits.body_bytes:
            self._doom(Refusal(413, "RequestTooLarge", f"the body has more than {limits.body_bytes} bytes"))
        elif self._port.body_bytes + announced > limits.bodies_bytes:
            self._doom(
                Refusal(
                    529,
                    "Overloaded",
                    "the sidecar holds as many request bodies as it may: send fewer at a time",
                    retry_after_s=0.5,
                    should_retry=True,
                )
            )

    def _forget_body(self) -> None:
        self._port.body_bytes -= self._body_bytes
        self._body = b""
        self._body_bytes = 0

    def _doom(self, refusal: Refusal) -> None:
        """Nothing more is read; the refusal follows the replies to what came before."""
        if self._doomed is None:
            self._doomed = refusal
            self._forget_body()

    def _answer_doom(self) -> None:
        assert self._doomed is not None
        if self.closed:
            return
        self._discarding = True
        path, headers = self._url.decode("latin-1"), cast(Headers, tuple(self._headers))
        status, fields, body = render(self._doomed, dialect_of(path, headers), "")
        call = Call(_Lingering(self), "", path, headers, b"", keep_alive=False)
        call.reply(status, fields, body)
        self.deadline_s = self._loop.time() + self._port.limits.discard_s
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _start(self, call: Call) -> None:
        self._call = call
        self.deadline_s = None
        self._task = self._loop.create_task(self._run(call))
        self._port.running.add(self._task)
        self._task.add_done_callback(self._ended)

    async def _run(self, call: Call) -> None:
        await self._port.handler(call)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._port.running.discard(task)
        call = self._call
        assert call is not None
        self._port.body_bytes -= len(call.body)
        self._call = self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._loop.call_exception_handler({"message": "a call failed inside the sidecar", "exception": error})
        if self.closed:
            return
        if not call.finished:
            # A bug, or a shutdown before the call's first step: never a body that seems complete.
            if not call.started:
                status, fields, body = render(
                    STOPPING if error is None else BROKEN, dialect_of(call.target, call.headers), ""
                )
                call.reply(status, fields, body)
            call.fail()
        if not call.keeps_connection:
            self.close()
            return
        self._next()

    def _next(self) -> None:
        """Begin with what arrived meanwhile."""
        if self._queue:
            self._start(self._queue.popleft())
            return
        if self._doomed is not None:
            self._answer_doom()
            return
        self.deadline_s = self._loop.time() + self._port.limits.idle_s
        if self._stash:
            data = bytes(self._stash)
            self._stash.clear()
            if self._transport is not None:
                self._transport.resume_reading()
            self._feed(data)

    def _release_writer(self) -> None:
        if self._paused is not None:
            if not self._paused.done():
                self._paused.set_result(None)
            self._paused = None


class _Lingering:
    """The wire of a refusal: closing is left to the connection, which reads on for a while."""

    closed = False
    draining = False
    full = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._connection.write(data)

    async def writable(self) -> None:
        """A refusal is small: it never waits."""

    def close(self) -> None:
        """Later, by the connection's deadline."""
