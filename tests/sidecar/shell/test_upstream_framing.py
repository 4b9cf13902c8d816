"""What comes beside a reply's body is bounded, however it is cut, and the body is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.sidecar.shell.proxied import until
from tests.sidecar.shell.test_upstream import FakeUpstream, no_tls, send

from keelage_api.proxy_config import Timeouts
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.upstream import HEAD_BYTES, Upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    client = Upstream(no_tls)
    yield client
    await client.close()


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"3\r\nabc\r\n0\r\n", b"a: b\r\n" * 1000),
        (b"3\r\nabc\r\n0\r\nlong: ", b"x" * 8192),
        (b"3\r\nabc\r\n2;long=", b"x" * 8192),
    ],
    ids=["trailers", "one trailer", "an extension"],
)
async def test_trailers_and_extensions_of_chunks_without_end_are_a_reset(
    upstream: Upstream, start: bytes, more: bytes
) -> None:
    sent = 0

    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        nonlocal sent
        out.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + start)
        while not out.is_closing():
            out.write(more)
            sent += len(more)
            await out.drain()

    fake = FakeUpstream(script)
    await fake.start()
    answer = await send(upstream, fake.endpoint)
    assert await answer.read() == b"abc"
    with pytest.raises(UpstreamError, match="beside its body") as caught:
        await answer.read()
    assert caught.value.failure is Failure.RESET
    await until(lambda: not upstream.active)
    assert sent < 16 * 1024 * 1024
    await fake.stop()


async def test_however_long_a_stream_is_the_framing_of_its_chunks_is_no_reason_to_end_it(upstream: Upstream) -> None:
    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    fake = FakeUpstream(script)
    await fake.start()
    connection = await upstream.open(fake.endpoint, 5)
    answer = connection.send("POST", "/", [(b"content-length", b"0")], b"", Timeouts())
    await answer.head()
    taken = 0

    def take(data: bytes) -> bool:
        nonlocal taken
        taken += len(data)
        return True

    pouring = asyncio.create_task(answer.pour(take))
    await asyncio.sleep(0)
    for _ in range(2 * HEAD_BYTES // 5):
        connection.data_received(b"1\r\n")
        connection.data_received(b"x")
        connection.data_received(b"\r\n")
    connection.data_received(b"0\r\n\r\n")
    assert await pouring
    assert taken == 2 * HEAD_BYTES // 5
    await fake.stop()
