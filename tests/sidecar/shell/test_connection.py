"""Any bytes an application may send, in any cut."""

from __future__ import annotations

import asyncio
import tracemalloc
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sidecar.shell.test_server import Pipe

from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.connection import STASH_BYTES, Connection
from keelage_sidecar.shell.limits import Limits
from keelage_sidecar.shell.port import Port

REQUESTS = (
    b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
    b"GET /v1/models HTTP/1.1\r\n\r\n"
    b"POST /v1/embeddings HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
)
WORDS = st.sampled_from(
    [b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
     b"\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n",
     b"Expect: 100-continue\r\n", b"x: " + b"y" * 3000 + b"\r\n", b"\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)  # fmt: skip


async def served(pieces: list[bytes]) -> tuple[list[tuple[str, str, bytes]], bytes]:
    """The calls that came out of it, and what was written back."""
    calls: list[tuple[str, str, bytes]] = []

    async def handle(call: Call) -> None:
        calls.append((call.method, call.target, call.body))
        call.reply(200, [], b"ok")

    port = Port(handle, Limits(head_bytes=2048, body_bytes=64))
    connection, pipe = Connection(port), Pipe()
    connection.connection_made(pipe)
    for piece in pieces:
        if not pipe.ended:
            connection.data_received(piece)
        await asyncio.sleep(0)
    while port.running:
        await asyncio.wait(port.running)
        await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert port.body_bytes == 0
    assert not port.connections
    return calls, pipe.written


@settings(max_examples=60)
@given(st.sets(st.integers(1, len(REQUESTS) - 1), max_size=8))
def test_any_cut_gives_the_same_calls_in_the_same_order(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(REQUESTS)]
    pieces = [REQUESTS[start:end] for start, end in pairwise(edges)]
    calls, written = asyncio.run(served(pieces))
    assert calls == [
        ("POST", "/v1/messages", b"hello"),
        ("GET", "/v1/models", b""),
        ("POST", "/v1/embeddings", b"abc"),
    ]
    assert written.count(b"HTTP/1.1 200 OK") == 3


@settings(max_examples=200)
@given(st.lists(st.one_of(WORDS, st.binary(max_size=40)), max_size=12))
def test_any_bytes_are_served_or_refused_and_leave_no_memory_counted(pieces: list[bytes]) -> None:
    asyncio.run(served(pieces))


async def test_a_body_in_tiny_chunks_takes_little_more_memory_than_its_bytes() -> None:
    async def handle(call: Call) -> None:
        call.reply(200, [], b"ok")

    connection, pipe = Connection(Port(handle, Limits())), Pipe()
    connection.connection_made(pipe)
    connection.data_received(b"POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunks = b"2\r\nab\r\n" * 1000
    tracemalloc.start()
    for _ in range(200):
        connection.data_received(chunks)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    connection.connection_lost(None)
    assert held < 2 * 400_000


async def test_a_refused_request_behind_a_call_is_answered_and_what_follows_is_still_read_away() -> None:
    go = asyncio.Event()

    async def waits(call: Call) -> None:
        await go.wait()
        call.reply(200, [], b"ok")

    port = Port(waits, Limits())
    connection, pipe = Connection(port), Pipe()
    connection.connection_made(pipe)
    connection.data_received(b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: +3\r\n\r\n")
    connection.data_received(b"x" * (STASH_BYTES + 1))
    assert not pipe.reading
    go.set()
    await asyncio.wait(port.running)
    await asyncio.sleep(0)
    assert b"HTTP/1.1 400" in pipe.written
    assert pipe.reading
    connection.connection_lost(None)
