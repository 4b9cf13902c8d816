"""A plugin of pytest: what a test gives respx to answer is answered over the wire, by a provider on a port.

The SDK's client then really connects, to whatever TEST_API_BASE_URL names, and that asks the provider. Loaded in the
SDK's own environment, so it imports nothing of keelage.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx2
import pytest
import respx

BASE_URL = os.environ["TEST_API_BASE_URL"]


class Provider(ThreadingHTTPServer):
    daemon_threads = True
    router: respx.MockRouter | None = None
    """Of the test that runs."""


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        request = httpx2.Request("POST", f"{BASE_URL}{self.path}", headers=list(self.headers.items()), content=body)
        asyncio.run(self._answer(request))

    async def _answer(self, request: httpx2.Request) -> None:
        assert self.server.router is not None
        response = await self.server.router.async_handler(request)
        self.send_response(response.status_code)
        for name, value in response.headers.items():
            if name not in ("content-length", "transfer-encoding"):
                self.send_header(name, value)
        if "content-type" not in response.headers:  # as the provider does, whose streams these are
            self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if isinstance(response.stream, AsyncIterable):
            async for piece in response.stream:
                self._send(piece)
        else:
            for piece in response.stream:
                self._send(piece)
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, piece: bytes) -> None:
        if piece:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def log_message(self, format: str, *args: object) -> None:
        """The tests say what went wrong."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "respx: how the mock is to answer, as in respx's own plugin")


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    with Provider(("127.0.0.1", int(os.environ["BRIDGE_PORT"])), Answering) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def respx_mock(request: pytest.FixtureRequest, provider: Provider) -> respx.MockRouter:
    """In place of the one of respx's own plugin, which patches the client."""
    marker = request.node.get_closest_marker("respx")
    router = provider.router = respx.MockRouter(**(marker.kwargs if marker is not None else {}))
    return router
