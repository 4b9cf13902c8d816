"""One connection: bytes to requests, scripts to bytes. No tasks: a timer at most per connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import cast

import httptools

from keelage_dev.provider import admin
from keelage_dev.provider.exchange import Request
from keelage_dev.provider.script import End, Step, script
from keelage_dev.provider.service import Service

__all__ = ["Connection"]

BODY_BYTES_MAX = 32 * 1024 * 1024
"""Anthropic's limit for messages; a longer body is read and thrown away, then refused with 413."""
PIPELINE_MAX = 64
LINGER_OFF = struct.pack("ii", 1, 0)
"""`SO_LINGER` with no time: closing sends RST instead of FIN."""
COALESCE_BYTES = 64 * 1024
"""Steps without a wait between them go into one write of about this size."""


class Connection(asyncio.Protocol):
    """Serves one client; requests on it are answered in order."""

    def __init__(self, service: Service, open_ones: set[Connection]) -> None:
        self._service = service
        self._open = open_ones
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._steps: Iterator[Step] | None = None
        self._next: Step | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self.lost = asyncio.Event()
        self._due_s = 0.0
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derives from nothing
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away: what was not generated yet never will be, nor billed."""
        self._open.discard(self)
        self.lost.set()
        self._steps = None
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # ours, not the client's: the loop reports it and closes the connection
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._steps is not None and self._timer is None:
            self._play()

    def drop(self) -> None:
        """Reset the connection."""
        raw: socket.socket | None = self._transport.get_extra_info("socket")
        if raw is not None and not self._transport.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        self._transport.abort()

    # httptools

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body, self._body_bytes = b"", {}, [], 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes <= BODY_BYTES_MAX:
            self._body.append(body)
        else:
            self._body.clear()

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        request = Request(
            method=self._parser.get_method().decode(),
            path=path,
            query=query,
            headers=self._headers,
            body=b"".join(self._body),
            too_large=self._body_bytes > BODY_BYTES_MAX,
            keep_alive=bool(self._parser.should_keep_alive()),
        )
        self._waiting.append(request)
        if len(self._waiting) > PIPELINE_MAX:
            self._transport.abort()
        elif self._steps is None:
            self._serve()

    # Playing

    def _serve(self) -> None:
        """Take up the next request, if there is one."""
        if not self._waiting or self._transport.is_closing():
            return
        request = self._waiting.popleft()
        ours = request.path.startswith(admin.PREFIX)
        reply = admin.answer(self._service, request) if ours else self._service.answer(request)
        self._steps = script(request, reply, self._service.settings)
        self._due_s = self._loop.time()
        self._play()

    def _play(self) -> None:
        """Do the steps until one has to wait: for its time, or for a slow reader."""
        self._timer = None
        ready: list[bytes] = []
        size = 0
        while self._steps is not None and not self._paused:
            step = self._next or next(self._steps)
            if step.wait_s and self._next is None:
                # Due times add up from the first step, so that late timers do not stretch a stream.
                self._due_s += step.wait_s
                if self._due_s > self._loop.time():
                    self._next = step
                    self._timer = self._loop.call_at(self._due_s, self._play)
                    break
            self._next = None
            for charge in step.charges:
                self._service.charge(charge)
            ready.append(step.data)
            size += len(step.data)
            if step.end is not End.GO_ON:
                self._steps = None
                self._write(ready)
                self._end(step.end)
                return
            if size >= COALESCE_BYTES:
                self._write(ready)
                ready, size = [], 0
        self._write(ready)

    def _write(self, ready: list[bytes]) -> None:
        data = b"".join(ready)
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _end(self, end: End) -> None:
        match end:
            case End.NEXT_REQUEST:
                # From the loop, or a long pipeline would be a deep recursion.
                self._loop.call_soon(self._serve_if_idle)
            case End.CLOSE:
                self._transport.close()
            case End.RESET:
                self.drop()
            case End.HANG | End.GO_ON:
                pass

    def _serve_if_idle(self) -> None:
        if self._steps is None:
            self._serve()
