"""What is remembered of heads changes no request: the same bytes in the same cuts, with and without."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.connection import Connection
from keelage_sidecar.shell.known_head import HEAD_BYTES_MAX, HEADS_MAX, KnownHead, KnownHeads
from keelage_sidecar.shell.limits import Limits
from keelage_sidecar.shell.lingering import Lingering
from keelage_sidecar.shell.port import Port

SDK = b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\nX-Api-Key: k\r\n\r\n%b"
PARTS = (
    SDK % (2, b"{}"),
    SDK % (12, b'{"model":""}'),
    SDK % (0, b""),
    SDK % (2, b"{}") + b"X",
    SDK % (len(SDK), SDK),
    b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 1",
    b"0\r\nX-Api-Key: k\r\n\r\n",
    b"0123456789",
    b"\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /a HTTP/1.1\r\nX: ",
    b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2, 2\r\nX-Api-Key: k\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}",
    b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
)


class Forgetful(KnownHeads):
    """Everything goes through the parser."""

    def learn(self, data: bytes, call: Call) -> KnownHead | None:
        return None


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


Heard = tuple[str, str, Headers, bytes, bool, bool]


def heard(pieces: list[bytes], heads: KnownHeads, limits: Limits) -> tuple[list[Heard], bytes, bool, int]:
    """The requests of the pieces, what was answered, whether the connection was closed, and bodies left in memory."""
    calls: list[Heard] = []

    async def keep(call: Call) -> None:
        calls.append((call.method, call.target, call.headers, call.body, call.http11, call.keeps_connection))
        call.reply(200, (), call.body)

    async def talk() -> tuple[bytes, bool, int]:
        port, wire = Port(keep, limits), Wire()
        port.heads = heads
        connection = Connection(port)
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)
            while port.running:  # noqa: ASYNC110 -- each ends within a turn
                await asyncio.sleep(0)
        return wire.written, wire.closed, port.body_bytes

    return (calls, *asyncio.run(talk()))


@given(st.lists(st.sampled_from(PARTS), min_size=2, max_size=6), st.lists(st.integers(0, 400), max_size=3))
@example([PARTS[3], PARTS[0]], [])
@example([b"POST /a HTTP/1.1\r\nX: ", PARTS[0], PARTS[0]], [])
@example([PARTS[5], PARTS[6], PARTS[7], PARTS[0], PARTS[1]], [])
def test_a_request_is_the_same_whether_its_head_was_seen_before_or_not(parts: list[bytes], cuts: list[int]) -> None:
    whole, at = b"".join(parts), 0
    borders = {0, len(whole), *(cut for cut in cuts if cut < len(whole))}
    for part in parts:
        at += len(part)
        borders.add(at)
    pieces = [whole[start:end] for start, end in pairwise(sorted(borders))]
    for limits in (Limits(), Limits(body_bytes=8)):
        assert heard(pieces, KnownHeads(), limits) == heard(pieces, Forgetful(), limits)


def test_the_second_request_of_an_sdk_needs_no_parser() -> None:
    async def nothing(call: Call) -> None:
        call.reply(200, ())

    async def talk() -> None:
        connection, wire = Connection(Port(nothing, Limits())), Wire()
        connection.connection_made(wire)
        connection.data_received(PARTS[0])
        await asyncio.sleep(0)
        del connection._parser
        for _ in range(2):
            connection.data_received(PARTS[1])
            await asyncio.sleep(0)
        assert wire.written.count(b"HTTP/1.1 200 OK\r\n") == 3

    asyncio.run(talk())


def test_heads_are_forgotten_before_they_fill_the_memory() -> None:
    heads = KnownHeads()
    for number in range(3 * HEADS_MAX):
        target = f"/{number}"
        data = b"POST %b HTTP/1.1\r\ncontent-length: 0\r\n\r\n" % target.encode()
        assert heads.learn(data, Call(Lingering(lambda _: None), "POST", target, (), b"")) is not None
    assert len(heads) <= HEADS_MAX


def test_a_long_head_is_not_remembered() -> None:
    data = b"POST / HTTP/1.1\r\nx: %b\r\ncontent-length: 0\r\n\r\n" % (b"y" * HEAD_BYTES_MAX)
    assert KnownHeads().learn(data, Call(Lingering(lambda _: None), "POST", "/", (), b"")) is None
