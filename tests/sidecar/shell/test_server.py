"""The application's side of the proxy, over loopback sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.connection import Connection
from keelage_sidecar.shell.limits import Limits
from keelage_sidecar.shell.port import Handler, Port
from keelage_sidecar.shell.server import Server

OK = [(b"content-type", b"text/plain")]


async def echo(call: Call) -> None:
    call.reply(200, OK, b"%s %s %d" % (call.method.encode(), call.target.encode(), len(call.body)))


class Talk:
    """A raw client on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def reply(self) -> tuple[bytes, bytes]:
        """Head and body of a reply with a length."""
        head = await self.head()
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head, await self.reader.readexactly(length)


async def started(
    handler: Handler = echo, limits: Limits | None = None
) -> tuple[Server, Callable[[], Awaitable[Talk]]]:
    server = Server(handler, limits)
    port = await server.serve("127.0.0.1", 0)

    async def connect() -> Talk:
        return Talk(*await asyncio.open_connection("127.0.0.1", port))

    return server, connect


async def closed(server: Server, *talks: Talk) -> None:
    for talk in talks:
        talk.writer.close()
    await server.finish()


async def test_a_request_is_answered_and_the_connection_kept() -> None:
    server, connect = await started()
    talk = await connect()
    for size in (0, 5):
        talk.writer.write(b"POST /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        head, body = await talk.reply()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection" not in head
        assert body == b"POST /a %d" % size
    await closed(server, talk)


async def test_pipelined_requests_are_answered_in_order() -> None:
    server, connect = await started()
    talk = await connect()
    talk.writer.write(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % n for n in range(10)))
    assert [(await talk.reply())[1] for _ in range(10)] == [b"GET /%d 0" % n for n in range(10)]
    await closed(server, talk)


async def test_requests_that_arrive_during_a_call_wait_for_its_reply() -> None:
    go = asyncio.Event()
    seen: list[str] = []

    async def slow(call: Call) -> None:
        seen.append(call.target)
        await go.wait()
        await echo(call)

    server, connect = await started(slow)
    talk = await connect()
    talk.writer.write(b"GET /1 HTTP/1.1\r\n\r\n")
    other = await connect()
    other.writer.write(b"GET /2 HTTP/1.1\r\n\r\n")
    talk.writer.write(b"GET /3 HTTP/1.1\r\n\r\n")
    go.set()
    assert (await talk.reply())[1] == b"GET /1 0"
    assert (await talk.reply())[1] == b"GET /3 0"
    assert (await other.reply())[1] == b"GET /2 0"
    await closed(server, talk, other)


async def test_a_chunked_body_in_any_cut_is_the_same_request() -> None:
    server, connect = await started()
    raw = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
    talk = await connect()
    for byte in raw:
        talk.writer.write(bytes((byte,)))
        await talk.writer.drain()
    assert (await talk.reply())[1] == b"POST /c 5"
    await closed(server, talk)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: a\r\n folded\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: a\nb: c\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: a\rb: c\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\nx: a\n\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: a\x01b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n", b"400"),
        (b"GET /a\x01b HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"505"),
        (b"GET /\r\n\r\n", b"505"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n801\r\n" + b"x" * 2049, b"413"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 70 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 400_000, b"431"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b"405"),
        (b"\x16\x03\x01\x02\x00garbage\r\n\r\n", b"400"),
    ],
)
async def test_what_breaks_a_limit_or_the_protocol_is_refused_and_the_connection_closed(
    raw: bytes, status: bytes
) -> None:
    server, connect = await started(limits=Limits(head_bytes=4096, head_fields=64, body_bytes=2048))
    talk = await connect()
    talk.writer.write(raw)
    head, body = await talk.reply()
    assert head.split(b" ")[1] == status
    assert b"connection: close" in head
    assert b'"error"' in body
    assert await talk.reader.read() == b""
    await closed(server, talk)


async def test_a_body_is_awaited_with_100_continue() -> None:
    server, connect = await started()
    talk = await connect()
    talk.writer.write(b"POST /e HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await talk.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    talk.writer.write(b"ok")
    assert (await talk.reply())[1] == b"POST /e 2"
    await closed(server, talk)


async def test_a_body_that_will_be_refused_is_not_asked_for() -> None:
    server, connect = await started(limits=Limits(body_bytes=1))
    talk = await connect()
    talk.writer.write(b"POST /e HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert (await talk.head()).startswith(b"HTTP/1.1 413")
    await closed(server, talk)


async def test_no_more_bodies_are_taken_than_memory_is_set_aside_for() -> None:
    go = asyncio.Event()
    running = asyncio.Event()

    async def slow(call: Call) -> None:
        running.set()
        await go.wait()
        await echo(call)

    server, connect = await started(slow, Limits(body_bytes=10, bodies_bytes=15))
    first, second = await connect(), await connect()
    first.writer.write(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789")
    await running.wait()
    second.writer.write(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789")
    head, body = await second.reply()
    assert head.startswith(b"HTTP/1.1 529")
    assert b"overloaded_error" in body
    go.set()
    assert (await first.reply())[1] == b"POST / 10"
    third = await connect()
    third.writer.write(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789")
    assert (await third.reply())[1] == b"POST / 10"
    await closed(server, first, second, third)


async def test_head_gets_the_length_and_no_body() -> None:
    server, connect = await started()
    talk = await connect()
    talk.writer.write(b"HEAD /h HTTP/1.1\r\n\r\nGET /g HTTP/1.1\r\n\r\n")
    assert b"content-length: 9" in await talk.head()
    assert (await talk.reply())[1] == b"GET /g 0"
    await closed(server, talk)


async def test_an_offer_to_upgrade_is_answered_as_plain_http() -> None:
    server, connect = await started()
    talk = await connect()
    talk.writer.write(
        b"POST /u HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"Content-Length: 2\r\n\r\nokGET /v HTTP/1.1\r\n\r\n"
    )
    assert (await talk.reply())[1] == b"POST /u 2"
    assert (await talk.reply())[1] == b"GET /v 0"
    await closed(server, talk)


async def test_of_an_offer_to_upgrade_the_connections_own_words_still_count() -> None:
    async def told(call: Call) -> None:
        names = [value for name, value in call.headers if name == b"connection"]
        call.reply(200, OK, b",".join(names))

    server, connect = await started(told)
    talk = await connect()
    talk.writer.write(
        b"GET /u HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABk\r\n\r\n"
    )
    head, body = await talk.reply()
    assert body == b"Upgrade, HTTP2-Settings, close"
    assert b"connection: close" in head
    assert await talk.reader.read() == b""
    await closed(server, talk)


async def test_an_application_of_http_1_0_gets_a_stream_that_ends_with_the_connection() -> None:
    async def stream(call: Call) -> None:
        call.begin(200, OK, None)
        call.write(b"a")
        call.end(b"b")

    server, connect = await started(stream)
    talk = await connect()
    talk.writer.write(b"GET / HTTP/1.0\r\n\r\n")
    head = await talk.head()
    assert b"chunked" not in head
    assert await talk.reader.read() == b"ab"
    await closed(server, talk)


async def test_head_and_first_piece_of_a_stream_leave_together_and_the_end_is_marked() -> None:
    async def stream(call: Call) -> None:
        call.begin(200, OK, None)
        assert not call.started
        call.write(b"abc")
        call.end()

    server, connect = await started(stream)
    talk = await connect()
    talk.writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    reply = await talk.reader.read()
    assert reply.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    await closed(server, talk)


async def test_a_stream_that_fails_has_no_end() -> None:
    async def stream(call: Call) -> None:
        call.begin(200, OK, None)
        call.write(b"abc")
        call.fail(b"oops")

    server, connect = await started(stream)
    talk = await connect()
    talk.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    reply = await talk.reader.read()
    assert reply.endswith(b"3\r\nabc\r\n4\r\noops\r\n")
    await closed(server, talk)


async def test_a_call_is_cancelled_when_its_application_leaves() -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def waits(call: Call) -> None:
        entered.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            assert call.gone
            left.set()

    server, connect = await started(waits)
    talk = await connect()
    talk.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await entered.wait()
    talk.writer.close()
    await left.wait()
    await closed(server)


async def test_a_call_that_survives_goes_on_without_its_application() -> None:
    entered, lost, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def waits(call: Call) -> None:
        call.survives = True
        entered.set()
        await lost.wait()
        call.reply(200, OK, b"nobody reads this")
        done.set()

    server, connect = await started(waits)
    talk = await connect()
    talk.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await entered.wait()
    talk.writer.close()
    await talk.writer.wait_closed()
    lost.set()
    await done.wait()
    await closed(server)


async def test_a_slow_reader_makes_the_handler_wait() -> None:
    piece = b"x" * 65536
    full = asyncio.Event()

    async def stream(call: Call) -> None:
        call.begin(200, OK, None)
        for _ in range(400):
            call.write(piece)
            if call.wire.full:
                full.set()
                await call.writable()
        call.end()

    server, connect = await started(stream)
    talk = await connect()
    talk.writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    await full.wait()
    assert len(await talk.reader.read()) > 400 * len(piece)
    await closed(server, talk)


async def test_a_handler_that_breaks_gives_500_and_is_reported() -> None:
    async def broken(call: Call) -> None:
        raise RuntimeError("a bug")

    reports: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))
    server, connect = await started(broken)
    talk = await connect()
    talk.writer.write(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    head, body = await talk.reply()
    assert head.startswith(b"HTTP/1.1 500")
    assert b"api_error" in body
    assert [str(each) for each in reports] == ["a bug"]
    await closed(server, talk)


async def test_draining_serves_on_and_closes_each_connection_after_its_reply() -> None:
    server, connect = await started()
    talk = await connect()
    drained = asyncio.create_task(server.drain(60))
    await asyncio.sleep(0)
    talk.writer.write(b"GET /d HTTP/1.1\r\n\r\n")
    head, _ = await talk.reply()
    assert b"connection: close" in head
    assert await talk.reader.read() == b""
    await drained
    await closed(server, talk)


class Pipe(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = ""
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def connected(handler: Handler = echo) -> tuple[Port, Connection, Pipe]:
    port = Port(handler, Limits())
    connection, pipe = Connection(port), Pipe()
    connection.connection_made(pipe)
    return port, connection, pipe


async def test_an_idle_connection_is_closed_by_the_sweep_after_its_time() -> None:
    port, connection, pipe = await connected()
    now = asyncio.get_running_loop().time()
    port.sweep(now)
    assert pipe.ended == ""
    port.sweep(now + Limits().idle_s + 1)
    assert pipe.ended == "aborted"
    connection.connection_lost(None)
    assert not port.connections


async def test_a_call_that_is_cancelled_before_its_first_step_is_told_of_the_shutdown() -> None:
    port, connection, pipe = await connected()
    connection.data_received(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    (task,) = port.running
    connection.cancel()
    await asyncio.wait([task])
    assert pipe.written.startswith(b"HTTP/1.1 503")
    assert b"ShuttingDown" in pipe.written
    assert b"x-should-retry: true" in pipe.written
    connection.connection_lost(None)


@pytest.mark.parametrize(
    "part",
    [
        b"POST /v1/messages HT",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nab",
    ],
)
async def test_a_request_that_never_ends_gets_408_then_the_connection_is_closed(part: bytes) -> None:
    port, connection, pipe = await connected()
    connection.data_received(part)
    now = asyncio.get_running_loop().time()
    port.sweep(now + Limits().body_s + 1)
    assert pipe.written.startswith(b"HTTP/1.1 408")
    port.sweep(now + Limits().body_s + Limits().discard_s + 1)
    assert pipe.ended == "aborted"
    connection.connection_lost(None)


async def test_a_head_that_drips_in_gets_no_longer_than_one_that_does_not_come() -> None:
    port, connection, pipe = await connected()
    for byte in b"POST / HTTP/1.1\r\nx: y":
        connection.data_received(bytes((byte,)))
    started_s = asyncio.get_running_loop().time()
    port.sweep(started_s + Limits().head_s + 1)
    assert pipe.written.startswith(b"HTTP/1.1 408")
    connection.connection_lost(None)


async def test_a_long_call_is_not_cut_off_because_the_next_request_is_there_in_part() -> None:
    go = asyncio.Event()

    async def waits(call: Call) -> None:
        await go.wait()
        await echo(call)

    port, connection, pipe = await connected(waits)
    connection.data_received(b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
    now = asyncio.get_running_loop().time()
    port.sweep(now + 3600)
    assert pipe.ended == ""
    go.set()
    await asyncio.wait(port.running)
    await asyncio.sleep(0)
    assert pipe.written.endswith(b"GET /1 0")
    port.sweep(now + Limits().body_s + 1)
    assert b"HTTP/1.1 408" in pipe.written
    connection.connection_lost(None)


async def test_a_connection_that_is_closed_does_not_wait_for_its_reader_for_ever() -> None:
    port, connection, pipe = await connected()
    connection.data_received(b"GET /1 HTTP/1.1\r\nConnection: close\r\n\r\n")
    await asyncio.wait(port.running)
    await asyncio.sleep(0)
    assert pipe.ended == "closed"
    now = asyncio.get_running_loop().time()
    port.sweep(now + Limits().stalled_s - 1)
    assert pipe.ended == "closed"
    port.sweep(now + Limits().stalled_s + 1)
    assert pipe.ended == "aborted"
    connection.connection_lost(None)


async def test_an_application_that_never_reads_is_cut_off() -> None:
    async def waits(call: Call) -> None:
        call.begin(200, OK, None)
        call.write(b"x")
        await call.writable()

    port, connection, pipe = await connected(waits)
    connection.data_received(b"GET / HTTP/1.1\r\n\r\n")
    connection.pause_writing()
    now = asyncio.get_running_loop().time()
    port.sweep(now + Limits().stalled_s + 1)
    assert pipe.ended == "aborted"
    (task,) = port.running
    connection.connection_lost(None)
    await asyncio.wait([task])
    assert task.cancelled()
