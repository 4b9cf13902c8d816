"""An upstream's reply, as its own object: it never depends on what its connection does next."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

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


class Answer:
    """Head, then body, taken as they arrive. Times are on the loop's clock."""

    __slots__ = (
        "_buffered", "_chunks", "_error", "_expires_s", "_head_done", "_idle_s", "_loop", "_source", "_waiter",
        "complete", "deadline_s", "headers", "status",
    )  # fmt: skip

    def __init__(self, source: Source, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._idle_s = timeouts.idle_ms / 1000
        self._expires_s = self._loop.time() + timeouts.request_ms / 1000
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._head_done = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.status = 0
        self.headers: Headers = ()
        """Names in lower case."""
        self.complete = False
        """The body ended as its framing says."""
        self.deadline_s: float | None = min(self._loop.time() + timeouts.first_byte_ms / 1000, self._expires_s)
        """When to give up, while somebody waits; None: nobody does."""

    async def head(self) -> None:
        """Return when `status` and `headers` are there; raises UpstreamError."""
        while not self._head_done:
            if self._error is not None:
                raise self._error
            await self._wait()
        self.deadline_s = None

    async def read(self) -> bytes:
        """What has arrived since the last time, at least a byte; empty at the end. Raises UpstreamError."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            self.deadline_s = min(self._loop.time() + self._idle_s, self._expires_s)
            await self._wait()
        self.deadline_s = None
        if len(self._chunks) == 1:
            data = self._chunks.popleft()
        else:
            data = b"".join(self._chunks)
            self._chunks.clear()
        if self._buffered > HIGH_WATER_BYTES and not self.complete:
            self._source.resume()
        self._buffered = 0
        return data

    @property
    def at_end(self) -> bool:
        """Nothing will come after what has been read."""
        return self.complete and not self._chunks

    def abort(self) -> None:
        """Not interested any more; no effect on an answer that has arrived."""
        self.deadline_s = None
        if not self.complete and self._error is None:
            self._error = UpstreamError(Failure.RESET, "given up")
            self._source.abort()

    # for the connection

    def got_head(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self._head_done = True
        self._wake()

    def got_body(self, data: bytes) -> None:
        self._chunks.append(data)
        before = self._buffered
        self._buffered = before + len(data)
        if before <= HIGH_WATER_BYTES < self._buffered:
            self._source.pause()
        self._wake()

    def got_end(self) -> None:
        self.complete = True
        self._wake()

    def failed(self, failure: Failure, text: str) -> None:
        """What arrived before can still be read."""
        if not self.complete and self._error is None:
            self._error = UpstreamError(failure, text)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
