"""The provider's side of the proxy, against a scripted server on a loopback socket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from keelage_api.proxy_config import Timeouts
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.shell.answer import HIGH_WATER_BYTES, Answer, UpstreamError
from keelage_sidecar.shell.upstream import IDLE_S, Origin, Upstream, origin_of

Script = Callable[[bytes, bytes, asyncio.StreamWriter], Awaitable[None]]
"""Head and body of a request, and where to answer."""


class FakeUpstream:
    """Reads requests with a length and lets a script answer them; counts connections."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.endpoint = ""
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self.writers:
            writer.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                await self._script(head, await reader.readexactly(length), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            self._tasks.discard(task)


def no_tls(_: tuple[str, ...]) -> ssl.SSLContext:
    raise AssertionError("a plain origin needs no TLS")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    client = Upstream(no_tls)
    yield client
    await client.close()


async def send(client: Upstream, endpoint: str, body: bytes = b"hi", timeouts: Timeouts | None = None) -> Answer:
    headers = [(b"host", b"x"), (b"content-length", b"%d" % len(body))]
    connection = await client.open(endpoint, 5)
    answer = connection.send("POST", "/v1/messages?beta=true", headers, body, timeouts or Timeouts())
    try:
        await answer.head()
    except BaseException:
        answer.abort()
        raise
    return answer


async def whole(answer: Answer) -> bytes:
    parts = []
    while data := await answer.read():
        parts.append(data)
    return b"".join(parts)


async def echo(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
    out.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Line: %s\r\n\r\n" % (len(body), head.split(b"\r\n")[0]) + body
    )


async def test_requests_in_sequence_use_one_connection(upstream: Upstream) -> None:
    fake = FakeUpstream(echo)
    await fake.start()
    for number in range(20):
        answer = await send(upstream, fake.endpoint, b"%d" % number)
        assert answer.status == 200
        assert dict(answer.headers)[b"x-line"] == b"POST /v1/messages?beta=true HTTP/1.1"
        assert await whole(answer) == b"%d" % number
    assert fake.connections == upstream.connects == 1
    await fake.stop()


async def test_64_requests_at_once_each_get_their_own_body(upstream: Upstream) -> None:
    fake = FakeUpstream(echo)
    await fake.start()

    async def one(number: int) -> None:
        body = b"%d-" % number * 3000
        for _ in range(5):
            assert await whole(await send(upstream, fake.endpoint, body)) == body

    async with asyncio.TaskGroup() as group:
        for number in range(64):
            group.create_task(one(number))
    assert fake.connections <= 64
    await fake.stop()


async def test_an_answer_can_be_read_after_its_connection_serves_another(upstream: Upstream) -> None:
    fake = FakeUpstream(echo)
    await fake.start()
    first = await send(upstream, fake.endpoint, b"first")
    second = await send(upstream, fake.endpoint, b"second")
    assert await whole(second) == b"second"
    assert await whole(first) == b"first"
    await fake.stop()


async def test_an_idle_connection_that_the_peer_closed_is_not_used(upstream: Upstream) -> None:
    fake = FakeUpstream(echo)
    await fake.start()
    await whole(await send(upstream, fake.endpoint))
    fake.writers[0].close()
    await fake.writers[0].wait_closed()
    assert await whole(await send(upstream, fake.endpoint, b"again")) == b"again"
    assert fake.connections == 2
    await fake.stop()


async def test_an_idle_connection_is_closed_after_its_time(upstream: Upstream) -> None:
    fake = FakeUpstream(echo)
    await fake.start()
    await whole(await send(upstream, fake.endpoint))
    upstream.sweep(asyncio.get_running_loop().time() + IDLE_S + 1)
    assert await whole(await send(upstream, fake.endpoint, b"again")) == b"again"
    assert fake.connections == 2
    await fake.stop()


async def test_nobody_listening_is_a_connect_failure() -> None:
    client = Upstream(no_tls)
    with pytest.raises(UpstreamError) as caught:
        await send(client, "http://127.0.0.1:1")
    assert caught.value.failure is Failure.CONNECT
    await client.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"\x00\x01 not HTTP",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 60_000,
    ],
)
async def test_no_proper_head_is_a_reset(upstream: Upstream, reply: bytes) -> None:
    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        out.write(reply)
        out.close()

    fake = FakeUpstream(script)
    await fake.start()
    with pytest.raises(UpstreamError) as caught:
        await send(upstream, fake.endpoint)
    assert caught.value.failure is Failure.RESET
    await fake.stop()


@pytest.mark.parametrize("framing", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
async def test_a_body_that_is_cut_is_a_reset_after_what_arrived(upstream: Upstream, framing: bytes) -> None:
    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + (b"abc" if b"L" in framing else b"3\r\nabc\r\n"))
        out.close()

    fake = FakeUpstream(script)
    await fake.start()
    answer = await send(upstream, fake.endpoint)
    assert await answer.read() == b"abc"
    with pytest.raises(UpstreamError) as caught:
        await answer.read()
    assert caught.value.failure is Failure.RESET
    assert not answer.complete
    await fake.stop()


async def test_a_body_without_framing_ends_with_the_connection(upstream: Upstream) -> None:
    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        out.close()

    fake = FakeUpstream(script)
    await fake.start()
    answer = await send(upstream, fake.endpoint)
    assert await whole(answer) == b"abc"
    assert answer.complete
    await fake.stop()


async def test_informational_replies_are_passed_over(upstream: Upstream) -> None:
    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        await echo(head, body, out)

    fake = FakeUpstream(script)
    await fake.start()
    for _ in range(2):
        answer = await send(upstream, fake.endpoint)
        assert [name for name, _ in answer.headers] == [b"content-length", b"x-line"]
        assert await whole(answer) == b"hi"
    assert fake.connections == 1
    await fake.stop()


async def test_a_connection_that_sent_more_than_one_reply_is_not_used_again(upstream: Upstream) -> None:
    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")

    fake = FakeUpstream(script)
    await fake.start()
    for _ in range(2):
        assert await whole(await send(upstream, fake.endpoint)) == b"a"
    assert fake.connections == 2
    await fake.stop()


async def test_no_head_in_time_is_a_timeout_and_closes_the_connection(upstream: Upstream) -> None:
    asked = asyncio.Event()

    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        asked.set()

    fake = FakeUpstream(script)
    await fake.start()
    task = asyncio.create_task(send(upstream, fake.endpoint, timeouts=Timeouts(first_byte_ms=1000)))
    await asked.wait()
    now = asyncio.get_running_loop().time()
    upstream.sweep(now)
    assert not task.done()
    upstream.sweep(now + 1.5)
    with pytest.raises(UpstreamError) as caught:
        await task
    assert caught.value.failure is Failure.TIMEOUT
    await fake.stop()


async def test_silence_in_a_body_is_a_timeout(upstream: Upstream) -> None:
    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    fake = FakeUpstream(script)
    await fake.start()
    answer = await send(upstream, fake.endpoint)
    assert await answer.read() == b"abc"
    task = asyncio.ensure_future(answer.read())
    await asyncio.sleep(0)
    upstream.sweep(asyncio.get_running_loop().time() + 59)
    assert not task.done()
    upstream.sweep(asyncio.get_running_loop().time() + 61)
    with pytest.raises(UpstreamError) as caught:
        await task
    assert caught.value.failure is Failure.TIMEOUT
    await fake.stop()


async def test_giving_up_closes_the_connection_and_leaves_others_alone(upstream: Upstream) -> None:
    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        if body == b"stream":
            out.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        else:
            await echo(head, body, out)

    fake = FakeUpstream(script)
    await fake.start()
    answer = await send(upstream, fake.endpoint, b"stream")
    answer.abort()
    with pytest.raises(UpstreamError):
        await whole(answer)
    assert await whole(await send(upstream, fake.endpoint, b"other")) == b"other"
    assert fake.connections == 2
    await fake.stop()


async def test_a_cancelled_send_closes_its_connection(upstream: Upstream) -> None:
    asked = asyncio.Event()

    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        asked.set()

    fake = FakeUpstream(script)
    await fake.start()
    task = asyncio.create_task(send(upstream, fake.endpoint))
    await asked.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await fake.writers[0].wait_closed()
    assert not upstream.active
    await fake.stop()


async def test_an_upstream_is_not_read_faster_than_its_answer(upstream: Upstream) -> None:
    total = 64 * 1024 * 1024
    piece = b"x" * 65536
    written = 0

    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        nonlocal written
        out.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while written < total:
            out.write(piece)
            await out.drain()
            written += len(piece)

    fake = FakeUpstream(script)
    await fake.start()
    answer = await send(upstream, fake.endpoint)
    seen, most = 0, 0
    while data := await answer.read():
        seen += len(data)
        most = max(most, len(data))
    assert seen == total
    assert most <= HIGH_WATER_BYTES + 512 * 1024
    # The connection was paused on the way; it is fit for another request all the same.
    written = total
    await fake.stop()


async def test_a_large_answer_that_is_complete_leaves_a_connection_that_reads(upstream: Upstream) -> None:
    fake = FakeUpstream(echo)
    await fake.start()
    big = b"x" * (4 * 1024 * 1024)
    for _ in range(3):
        assert await whole(await send(upstream, fake.endpoint, big)) == big
    assert fake.connections == 1
    await fake.stop()


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        ("https://api.anthropic.com", Origin(True, "api.anthropic.com", 443)),
        ("http://vllm.models.svc:8000/openai", Origin(False, "vllm.models.svc", 8000)),
        ("http://[::1]:80", Origin(False, "::1", 80)),
    ],
)
def test_an_endpoint_names_its_origin(endpoint: str, origin: Origin) -> None:
    assert origin_of(endpoint) == origin
