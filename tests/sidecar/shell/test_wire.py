"""Both sides of the wire together: any cut of any answer, and any bytes on either side."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sidecar.core.calls import chat, claude, gpt, messages
from tests.sidecar.core.streams import (
    FIRST_CHUNK,
    LAST_CHUNK,
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    TEXT,
    USAGE_CHUNK,
    anthropic_events,
    openai_chunks,
)  # fmt: skip
from tests.sidecar.shell.test_relay import dechunked
from tests.sidecar.shell.test_server import Pipe
from tests.sidecar.shell.test_upstream import no_tls

from keelage_api.proxy_config import Dialect, Timeouts
from keelage_sidecar.core.meter import Meter, Reading, meter_for
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.connection import Connection
from keelage_sidecar.shell.limits import Limits
from keelage_sidecar.shell.port import Port
from keelage_sidecar.shell.relay import Body, relay, reply_headers
from keelage_sidecar.shell.upstream import Connection as Provider
from keelage_sidecar.shell.upstream import Pool, Upstream, origin_of

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ANTHROPIC = anthropic_events(MESSAGE_START, {"type": "ping"}, TEXT, TEXT, MESSAGE_DELTA, MESSAGE_STOP)
OPENAI = openai_chunks(FIRST_CHUNK, FIRST_CHUNK, LAST_CHUNK, USAGE_CHUNK)
STRIPPED = openai_chunks(FIRST_CHUNK, FIRST_CHUNK, LAST_CHUNK)
REQUEST = b"POST /v1/messages HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
CUTS = st.lists(st.integers(1, 3000), max_size=12)
WORDS = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 103 Early\r\n", b"HTTP/1.1 204 No\r\n", b"\r\n",
     b"Content-Length: 3\r\n", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"abc",
     b"0\r\n\r\n", b"Content-Type: text/event-stream\r\n", b"Content-Encoding: gzip\r\n", b"Connection: close\r\n",
     b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"x: " + b"y" * 3000 + b"\r\n", b"\x00", ANTHROPIC]
)  # fmt: skip


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """What is left must go by itself: the collector looks once in fifty thousand objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({each for each in cuts if each < len(stream)}), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


async def exchanged(pieces: list[bytes], meter: Meter) -> tuple[bytes, Reading | None]:
    """One call whose provider answers with those pieces; what the application got, and what the meter read."""
    written, reading, connections = await _exchanged(pieces, meter)
    assert len(asyncio.all_tasks()) == 1
    await asyncio.sleep(0)
    assert [each() for each in connections] == [None, None]
    return written, reading


async def _exchanged(
    pieces: list[bytes], meter: Meter
) -> tuple[bytes, Reading | None, list[weakref.ref[asyncio.Protocol]]]:
    upstream = Upstream(no_tls)
    provider = Provider(upstream, Pool(origin_of("http://provider")))
    provider.connection_made(Pipe())
    readings: list[Reading] = []

    async def handle(call: Call) -> None:
        answer = provider.send(call.method, call.target, [(b"content-length", b"2")], call.body, Timeouts())
        try:
            await answer.head()
            body = Body(answer)
            first = await body.read()
            call.begin(
                answer.status,
                reply_headers(answer.headers, decoded=body.decoded, final=False, request_id="1"),
                body.length,
            )
            whole = await relay(call, body, meter, first, Dialect.ANTHROPIC, "1")
            readings.append(meter.result(answer.status, whole))
        except UpstreamError:
            assert not call.started
            call.reply(502, [])
        finally:
            answer.abort()

    port = Port(handle, Limits())
    application, pipe = Connection(port), Pipe()
    application.connection_made(pipe)
    application.data_received(REQUEST)
    await asyncio.sleep(0)
    for piece in pieces:
        provider.data_received(piece)
        await asyncio.sleep(0)
    provider.connection_lost(None)
    for task in tuple(port.running):
        await asyncio.wait([task])
    application.connection_lost(None)
    await upstream.close()
    assert not port.running
    assert not port.connections
    assert not port.body_bytes
    assert not upstream.active
    connections: list[weakref.ref[asyncio.Protocol]] = [weakref.ref(application), weakref.ref(provider)]
    return pipe.written, readings[0] if readings else None, connections


@settings(max_examples=100)
@given(CUTS, CUTS, st.booleans())
def test_any_chunks_in_any_cut_give_the_application_the_same_bytes_and_the_same_usage(
    chunks: list[int], cuts: list[int], anthropic: bool
) -> None:
    stream = ANTHROPIC if anthropic else OPENAI

    def meter() -> Meter:
        return (
            meter_for(messages(stream=True), claude())
            if anthropic
            else meter_for(chat(stream=True, stream_options={"include_usage": False}), gpt())
        )

    whole = meter()
    assert whole.feed(stream) + whole.finish() == (stream if anthropic else STRIPPED)
    framed = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in cut(stream, chunks)) + b"0\r\n\r\n"
    written, reading = asyncio.run(exchanged(cut(HEAD + framed, cuts), meter()))
    head, _, body = written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert dechunked(body) == (stream if anthropic else STRIPPED)
    assert body.endswith(b"0\r\n\r\n")
    assert reading == whole.result(200, True)


@settings(max_examples=200)
@given(st.lists(st.one_of(WORDS, st.binary(max_size=40)), max_size=12), st.booleans())
def test_any_bytes_of_a_provider_end_in_an_answer_or_a_refusal_and_leave_nothing(
    pieces: list[bytes], streaming: bool
) -> None:
    meter = meter_for(messages(stream=streaming), claude(), streaming)
    written, _ = asyncio.run(exchanged(pieces, meter))
    assert written.startswith(b"HTTP/1.1 ")
