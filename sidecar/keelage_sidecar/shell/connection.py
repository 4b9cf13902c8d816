"""One connection of an application: HTTP/1.1 in, one `Call` at a time out to the handler.

llhttp parses; limits, deadlines, pipelining and back-pressure are here. Deadlines are
numbers that a sweep looks at once a second, instead of a timer per request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from keelage_sidecar.core.endpoints import dialect_of
from keelage_sidecar.core.refusal import Headers, Refusal, render
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.known_head import KnownHead
from keelage_sidecar.shell.lingering import Lingering
from keelage_sidecar.shell.port import Port, from_loopback
from keelage_sidecar.shell.refusals import BODIES_FULL, BROKEN, STOPPING

STASH_BYTES = 64 * 1024
"""Of requests sent before the reply to the one before; reading stops beyond it."""


class Connection(asyncio.Protocol):
    """One connection of the application: the callbacks of asyncio and of the parser, and `call.Wire`."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._limits = port.limits
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self.write: Callable[[bytes], None] = _dropped
        """`call.Wire.write`: the transport's own, which is called for every event of every stream."""
        self.closed = False
        self.full = False
        self.draining = port.draining
        self.deadline_s: float | None = None
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._stepped = False
        """The task has begun: cancelling it lets it end by itself."""
        self._queue: list[Call] = []
        self._stash = bytearray()
        self._doomed: Refusal | None = None
        self._discarding = False
        self._room: asyncio.Future[None] | None = None
        self._piece_bytes = 0
        self._patience_s = 0.0
        """The deadline's, while a request is awaited or arrives."""
        self._known: KnownHead | None = None
        # Of the request that arrives:
        self._in_head = self._in_body = False
        self._raw_bytes = 0
        """Received since the one before it, but for the piece in which that ended."""
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: Headers = ()
        self._version = "1.1"
        self._body: bytes | bytearray = b""
        self._body_bytes = 0

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write
        if len(self._port.connections) >= self._limits.connections:
            self._transport.abort()
            return
        self._port.connections.add(self)
        self._more_to_come()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.write = _dropped
        self.deadline_s = None
        self._port.connections.discard(self)
        if not self._port.connections:
            self._port.empty.set()
        self._forget_body()
        self._port.body_bytes -= sum(len(call.body) for call in self._queue)
        self._queue.clear()
        self._stash.clear()
        self._release_writer()
        if self._call is not None and not (self._call.survives or self._call.finished):
            self.cancel()
        del self._parser  # which holds this object: the collector would have to find them

    def data_received(self, data: bytes) -> None:
        if self._call is not None:
            self._stash += data
            if len(self._stash) > STASH_BYTES and self._transport is not None:
                self._transport.pause_reading()
        elif not (self._discarding or self._doomed is not None or self._take_known(data)):
            self._feed(data)

    def pause_writing(self) -> None:
        self.full = True
        self._wait(self._limits.stalled_s)

    def resume_writing(self) -> None:
        self._release_writer()
        if self._call is not None:
            self.deadline_s = None
        elif not self._discarding:
            self._wait(self._limits.idle_s)

    # the parser

    def on_message_begin(self) -> None:
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        limits = self._limits
        # Trailers come to the list later: nothing here reads any, and the raw length is bounded.
        headers = self._headers
        self._head = tuple(field for field in headers if field[0] != b"content-length")
        if len(headers) > limits.head_fields or self._raw_bytes + self._piece_bytes > limits.head_bytes:
            self._bound_head(len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers))
        fields = dict(headers)
        version = self._version = self._parser.get_http_version()
        # What else conflicts (two lengths, a length beside chunks, folded lines, bare LF) llhttp refuses by itself.
        if b"transfer-encoding" in fields:
            codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
            if codings != [b"chunked"] or version != "1.1":
                self._doom(Refusal(400, "BadRequest", "Transfer-Encoding: only chunked is known here, in HTTP/1.1"))
        elif version not in ("1.1", "1.0"):
            self._doom(Refusal(505, "HTTPVersionNotSupported", f"HTTP/{version}: this server speaks HTTP/1.1"))
        announced = int(fields.get(b"content-length", b"0"))
        if announced > limits.body_bytes or self._port.body_bytes + announced > limits.bodies_bytes:
            self._admit(announced)
        if b"expect" in fields and fields[b"expect"].lower() == b"100-continue" and version == "1.1":
            self._go_on()

    def on_body(self, data: bytes) -> None:
        if self._doomed is not None:
            return
        if not self._body_bytes:
            self._body = data
        else:
            # Not a list of pieces: of tiny ones each would take twenty times its size.
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data
        self._body_bytes += len(data)
        self._port.body_bytes += len(data)
        if self._body_bytes > self._limits.body_bytes or self._port.body_bytes > self._limits.bodies_bytes:
            self._admit(0)

    def on_message_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                self._doom(Refusal(405, "MethodNotAllowed", "CONNECT: this is not a forward proxy"))
            return
        if self._doomed is not None:
            return
        if len(self._queue) >= self._limits.pipelined:
            self._doom(Refusal(400, "BadRequest", "too many pipelined requests: wait for a reply before the next"))
            return
        call = Call(
            self,
            parser.get_method().decode("latin-1"),
            self._url.decode("latin-1"),
            self._head,
            bytes(self._body),
            self._version == "1.1",
            # Asked here: afterwards llhttp has forgotten.
            parser.should_keep_alive(),
            self._loop.time(),
        )
        self._url = self._body = b""
        self._headers = []
        self._body_bytes = self._raw_bytes = 0
        self._in_body = False
        if self._call is None:
            self._start(call)
        else:
            self._queue.append(call)

    # call.Wire

    @property
    def local(self) -> bool:
        return from_loopback(self._transport)

    async def writable(self) -> None:
        if self.full and not self.closed:
            room = self._room = self._loop.create_future()
            try:
                await room
            finally:
                self._room = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._wait(self._limits.stalled_s)  # what is queued waits for a reader

    # the life of a connection

    def expired(self) -> None:
        """The deadline has passed: say so where somebody may listen, then close."""
        self.deadline_s = None
        closing = self._transport is None or self._transport.is_closing()
        if self._call is None and not (closing or self._discarding) and (self._in_head or self._in_body):
            self._doom(Refusal(408, "RequestTimeout", "the request did not arrive in time", should_retry=True))
            self._answer_doom()
        elif self._transport is not None:
            self._transport.abort()

    def _take_known(self, data: bytes) -> bool:
        """Begin with the request that `data` is, if it is one with the head of the one before."""
        known, limits, held = self._known, self._limits, self._port.body_bytes
        body = None if known is None or self._in_head or self._in_body else known.body_of(data)
        if body is None or len(body) > limits.body_bytes or held + len(body) > limits.bodies_bytes:
            return False
        assert known is not None
        self._port.body_bytes = held + len(body)
        self._start(Call(self, known.method, known.target, known.headers, body, received_s=self._loop.time()))
        return True

    def _feed(self, data: bytes) -> None:
        begins = not (self._in_head or self._in_body)
        self._piece_bytes = len(data)
        self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._doom(Refusal(400, "BadRequest", f"not a valid HTTP/1.1 request: {error}"))
        if self._call is None:
            self._more_to_come()
            if self._doomed is not None:
                self._answer_doom()
        elif begins and not self._queue:
            self._known = self._port.heads.learn(data, self._call)

    def _more_to_come(self) -> None:
        """A request is not there in whole, or none has begun: until when that may last, and how long it may get."""
        limits = self._limits
        patience_s = limits.body_s if self._in_body else limits.head_s if self._in_head else limits.idle_s
        if patience_s != self._patience_s:
            self._patience_s = patience_s
            self.deadline_s = self._loop.time() + patience_s
        # What is no header and no body counts too: a line without end, extensions of chunks.
        if self._in_head:
            self._bound_head(self._raw_bytes)
        elif self._raw_bytes > limits.head_bytes + 2 * limits.body_bytes:
            self._doom(Refusal(413, "RequestTooLarge", "chunk extensions or trailers without end"))

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read the request again as if it offered no upgrade: the JDK's client offers h2c with every call.

        Its `connection` stays: it names what is not for the provider. The parser takes the body for another protocol's.
        """
        method = self._parser.get_method()
        self._parser = httptools.HttpRequestParser(self)
        if self._doomed is None:
            head = [b"%b %b HTTP/%b\r\n" % (method, self._url, self._version.encode())]
            head += [b"%b: %b\r\n" % each for each in self._headers if each[0] != b"upgrade"]
            self._url = b""
            self._headers = []
            self._feed(b"".join((*head, b"\r\n", rest)))
        elif self._call is None:
            self._answer_doom()

    def _bound_head(self, size: int) -> None:
        limits = self._limits
        if size > limits.head_bytes or len(self._headers) > limits.head_fields:
            text = f"the request's head has more than {limits.head_bytes} bytes or {limits.head_fields} fields"
            self._doom(Refusal(431, "HeadTooLarge", text))

    def _go_on(self) -> None:
        """The application waits for a word before it sends the body."""
        if self._call is None and self._doomed is None and not self._parser.should_upgrade():
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _admit(self, announced: int) -> None:
        """Refuse a body that is too large, or that no memory is left for."""
        limits = self._port.limits
        if max(announced, self._body_bytes) > limits.body_bytes:
            self._doom(Refusal(413, "RequestTooLarge", f"the body has more than {limits.body_bytes} bytes"))
        elif self._port.body_bytes + announced > limits.bodies_bytes:
            self._doom(BODIES_FULL)

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
        call = Call(Lingering(self.write), "", path, headers, b"", keeps_connection=False)
        call.reply(status, fields, body)
        self._wait(self._limits.discard_s)
        self._stash.clear()
        if self._transport is not None:
            self._transport.resume_reading()
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def _start(self, call: Call) -> None:
        self._call = call
        self.deadline_s = None
        self._patience_s = 0.0
        self._stepped = False
        self._task = self._loop.create_task(self._run(call))
        self._port.running[self._task] = self

    async def _run(self, call: Call) -> None:
        self._stepped = True
        error: Exception | None = None
        try:
            await self._port.handler(call)
        except Exception as bug:  # noqa: BLE001 -- whatever it is, it is reported, and the application is told so
            error = bug
        finally:
            self._ended(call, error)

    def cancel(self) -> None:
        """Cancel the call that is being answered."""
        if self._task is not None and self._call is not None:
            self._task.cancel()
            if not self._stepped:
                self._ended(self._call, None)

    def _ended(self, call: Call, error: Exception | None) -> None:
        assert self._task is not None
        del self._port.running[self._task]
        self._port.body_bytes -= len(call.body)
        self._call = self._task = None
        if error is not None:
            self._loop.call_exception_handler({"message": "a call failed inside the sidecar", "exception": error})
        if self.closed:
            return
        if not call.finished:
            # A bug, or a shutdown before the call's first step: never a body that seems complete.
            if not call.started:
                why = STOPPING if error is None else BROKEN
                status, fields, body = render(why, dialect_of(call.target, call.headers), "")
                call.reply(status, fields, body)
            call.fail()
        if not call.keeps_connection:
            self.close()
            return
        self._next()

    def _next(self) -> None:
        """Begin with what arrived meanwhile."""
        if self._queue:
            self._start(self._queue.pop(0))
            return
        if self._doomed is not None:
            self._answer_doom()
            return
        self._more_to_come()
        if self._stash:
            data = bytes(self._stash)
            self._stash.clear()
            if self._transport is not None:
                self._transport.resume_reading()
            if not self._take_known(data):
                self._feed(data)

    def _wait(self, seconds: float) -> None:
        self.deadline_s = self._loop.time() + seconds

    def _release_writer(self) -> None:
        self.full = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


def _dropped(data: bytes) -> None:
    """Nobody is there to read it."""
