"""Connections that take longer than the exchange that asked for them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.sidecar.shell.secured import authority, secured

from keelage_api.proxy_config import Timeouts
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.dialing import ATTEMPTS_MAX, Dialing
from keelage_sidecar.shell.upstream import Upstream

HASTY = Timeouts(connect_ms=1)
PATIENT = Timeouts(connect_ms=30_000)


async def nothing(call: Call) -> None:
    call.reply(200, [], b"")


class Crowded:
    """In front of an operator: takes every connection at once, and passes nothing on before it is `free`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: list[asyncio.StreamWriter] = []
        self.free = asyncio.Event()
        self.taken: asyncio.Queue[None] = asyncio.Queue()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken.put_nowait(None)
        await self.free.wait()
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._open += [writer, behind_writer]
        await asyncio.gather(_pass_on(reader, behind_writer), _pass_on(behind_reader, writer))

    def close(self) -> None:
        for writer in self._open:
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def crowded(tmp_path: Path) -> AsyncIterator[tuple[Crowded, Dialing, str]]:
    ca_pem, chain = authority(tmp_path / "a.pem")
    async with secured(nothing, chain) as port:
        front = Crowded(port)
        server = await asyncio.start_server(front.take, "127.0.0.1", 0)
        context = ssl.create_default_context(cadata=ca_pem)
        http = Upstream(lambda _: context)
        dialing = Dialing(http)
        try:
            yield front, dialing, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            front.free.set()
            await dialing.close()
            await http.close()
            front.close()
            server.close()


async def test_a_handshake_goes_on_when_the_exchange_that_began_it_is_over(tmp_path: Path) -> None:
    async with crowded(tmp_path) as (front, dialing, base):
        for _ in range(5):
            with pytest.raises(UpstreamError, match="still waited for") as refused:
                await dialing.connection(base, "/v1/sync", HASTY)
            assert refused.value.failure is Failure.CONNECT
        front.free.set()
        connection = await dialing.connection(base, "/v1/sync", PATIENT)
        assert connection.usable()
        assert front.taken.qsize() <= ATTEMPTS_MAX


async def test_a_cancelled_exchange_leaves_its_handshake_to_the_next(tmp_path: Path) -> None:
    async with crowded(tmp_path) as (front, dialing, base):
        exchange = asyncio.create_task(dialing.connection(base, "/v1/sync", PATIENT))
        await front.taken.get()
        exchange.cancel()
        await asyncio.wait([exchange])
        front.free.set()
        assert (await dialing.connection(base, "/v1/sync", PATIENT)).usable()


async def test_each_conversation_has_attempts_of_its_own(tmp_path: Path) -> None:
    async with crowded(tmp_path) as (front, dialing, base):
        both = asyncio.gather(*(dialing.connection(base, path, PATIENT) for path in ("/v1/sync", "/v1/config")))
        await front.taken.get()
        await front.taken.get()
        front.free.set()
        one, other = await both
        assert one is not other


async def test_a_refused_connection_is_told_at_once(tmp_path: Path) -> None:
    http = Upstream(lambda _: ssl.create_default_context())
    dialing = Dialing(http)
    with pytest.raises(UpstreamError, match=r"127\.0\.0\.1:1"):
        await dialing.connection("https://127.0.0.1:1", "/v1/sync", PATIENT)
    await dialing.close()
    await http.close()
