"""An upstream's reply, as its own object: it never depends on what its connection does next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from keelage_api.errors import KeelageError
from keelage_api.proxy_config import Timeouts
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.retry import Failure

HIGH_WATER_BYTES = 256 * 1024
"""Received and not yet taken; the upstream is not read beyond it."""


class UpstreamError(KeelageError):
    """An upstream gave no answer, or not all of it. Mended by whoever runs the upstream, or the way to it."""

    def __init__(self, failure: Failure, text: str) -> None:
        super().__init__(text)
        self.failure = failure


class Source(Protocol):
    """The connection that fills an answer."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read on."""

    def abort(self) -> None:
        """Close at once: the upstream should stop working, and billing."""


class Answer(msgspec.Struct, eq=False):
    """Head, then body: taken piece by piece with `read`, or handed on as it arrives with `pour`.

    Times are on the loop's clock.
    """

    _source: Source
    _loop: asyncio.AbstractEventLoop
    _silent_since_s: float
    _patience_s: float
    """How long the upstream may say nothing while somebody waits."""
    _idle_s: float
    """The same once the head is there."""
    _expires_s: float
    status: int = 0
    headers: Headers = ()
    """Names in lower case."""
    fields: dict[bytes, bytes] = {}
    """The same by name, the last one of each."""
    complete: bool = False
    """The body ended as its framing says."""
    _head_done: bool = False
    _error: tuple[Failure, str] | None = None
    """Not an exception: one that was raised holds the frames of whoever read, and those hold this."""
    _chunks: list[bytes] = []
    _buffered: int = 0
    _paused: bool = False
    _waiter: asyncio.Future[None] | None = None
    _taker: Callable[[bytes], bool] | None = None

    async def head(self) -> None:
        """Return when `status`, `headers` and `fields` are there; raises UpstreamError."""
        while not self._head_done:
            if self._error is not None:
                raise UpstreamError(*self._error)
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None

    async def read(self) -> bytes:
        """What has arrived since the last time, at least a byte; empty at the end. Raises UpstreamError."""
        while not self._chunks:
            if self._error is not None:
                raise UpstreamError(*self._error)
            if self.complete:
                return b""
            await self._wait()
        return self._take()

    async def pour(self, taker: Callable[[bytes], bool]) -> bool:
        """Give every piece to `taker`, as soon as it is received: the caller sleeps until all is there.

        True at the end; False when `taker` said that it takes no more for now: then pour again. Raises UpstreamError.
        """
        if self._chunks and not taker(self._take()) and not self.complete:
            return False
        if not self.complete and self._error is None:
            self._taker = taker
            try:
                await self._wait()
            finally:
                self._taker = None
            if self._paused:
                return False
        if self._error is not None:
            raise UpstreamError(*self._error)
        return True

    @property
    def at_end(self) -> bool:
        """Nothing will come after what has been read."""
        return self.complete and not self._chunks

    @property
    def request_id(self) -> str:
        """As the upstream calls it; empty where it does not."""
        found = self.fields.get(b"request-id") or self.fields.get(b"x-request-id") or b""
        return found[:128].decode("latin-1")

    def overdue(self, now_s: float) -> bool:
        """Somebody waits, and has waited long enough."""
        if self._waiter is None:
            return False
        return now_s >= self._silent_since_s + self._patience_s or now_s >= self._expires_s

    def abort(self) -> None:
        """Not interested any more; no effect on an answer that has arrived."""
        if not self.complete and self._error is None:
            self._error = (Failure.RESET, "given up")
            self._source.abort()

    # for the connection

    def got_head(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.fields = dict(headers)
        self._head_done = True
        self._patience_s = self._idle_s
        if self._waiter is not None:
            self._wake()

    def got_body(self, data: bytes) -> None:
        taker = self._taker
        if taker is not None:
            self._silent_since_s = self._loop.time()
            if taker(data):
                return
            self._taker = None
            self._pause()
        else:
            self._chunks.append(data)
            self._buffered += len(data)
            if self._buffered > HIGH_WATER_BYTES:
                self._pause()
        if self._waiter is not None:
            self._wake()

    def got_end(self) -> None:
        self.complete = True
        if self._waiter is not None:
            self._wake()

    def failed(self, failure: Failure, text: str) -> None:
        """What arrived before can still be read."""
        if not self.complete and self._error is None:
            self._error = (failure, text)
            self._wake()

    def _take(self) -> bytes:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        return data

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._source.pause()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self) -> None:
        if self._paused:
            self._paused = False
            if not self.complete:
                self._source.resume()
        self._silent_since_s = self._loop.time()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


def answer_from(source: Source, loop: asyncio.AbstractEventLoop, timeouts: Timeouts) -> Answer:
    """An answer to a request that is sent now."""
    now_s = loop.time()
    expires_s = now_s + timeouts.request_ms / 1000
    return Answer(source, loop, now_s, timeouts.first_byte_ms / 1000, timeouts.idle_ms / 1000, expires_s)
