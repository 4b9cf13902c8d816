"""How an answer reaches the application, cut wherever it may be."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from tests.sidecar.shell.proxied import GPT, HAIKU, config_of, until

from keelage_api.proxy_config import Dialect, Timeouts
from keelage_sidecar.core.endpoints import CHAT, MESSAGES
from keelage_sidecar.core.meter import Meter, meter_for
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import Facts, read_request
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.core.routing import Plan, RoutingTable
from keelage_sidecar.shell.answer import Answer, answer_from
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.relay import Body, relay, reply_headers

SSE: Headers = ((b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked"))
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


class Quiet:
    """A connection that nothing is asked of."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abort(self) -> None: ...


class Wire:
    """Keeps what is written; an application that reads."""

    closed = False
    local = True
    draining = False
    full = False

    def __init__(self) -> None:
        self.sent = b""
        self.ended = False

    def write(self, data: bytes, /) -> None:
        self.sent += data

    async def writable(self) -> None: ...

    def close(self) -> None:
        self.ended = True


def meter_of(dialect: Dialect, *, asked_usage: bool = False) -> Meter:
    endpoint, model = (MESSAGES, HAIKU) if dialect is Dialect.ANTHROPIC else (CHAT, GPT)
    options = {"stream_options": {"include_usage": True}} if asked_usage else {}
    body = orjson.dumps({"model": model, "max_tokens": 5, "stream": True, "messages": [], **options})
    facts = read_request(endpoint, (), body)
    assert isinstance(facts, Facts)
    plan = RoutingTable.build(config_of(["http://a"])).plan(facts)
    assert isinstance(plan, Plan)
    return meter_for(facts, plan.candidates[0], True)


async def relayed(
    dialect: Dialect, pieces: list[bytes], failure: Failure | None, *, asked_usage: bool = False
) -> tuple[bool, bytes]:
    """Whether it came to its end, and the body as it left, without its head."""
    answer = answer_from(Quiet(), asyncio.get_running_loop(), Timeouts())
    answer.got_head(200, SSE)
    for piece in pieces:
        answer.got_body(piece)
    if failure is None:
        answer.got_end()
    else:
        answer.failed(failure, "cut")
    wire = Wire()
    call = Call(wire, "POST", "/v1/messages", (), b"")
    body = Body(answer)
    call.begin(200, reply_headers(SSE, decoded=False, final=False, request_id="1"), body.length)
    whole = await relay(call, body, meter_of(dialect, asked_usage=asked_usage), await body.read(), dialect, "1")
    assert call.finished
    assert wire.ended is not whole
    return whole, wire.sent.partition(b"\r\n\r\n")[2]


async def test_a_whole_stream_is_one_chunk_and_an_end() -> None:
    whole, sent = await relayed(Dialect.ANTHROPIC, [DELTA, STOP], None)
    assert whole
    assert sent == b"%x\r\n%b\r\n0\r\n\r\n" % (len(DELTA + STOP), DELTA + STOP)


@pytest.mark.parametrize(
    ("dialect", "stream"),
    [(Dialect.ANTHROPIC, DELTA + STOP), (Dialect.OPENAI, CHUNK + b"data: [DONE]\n\n")],
)
@pytest.mark.parametrize("missing", [1, 2])
async def test_a_stream_whose_last_blank_line_is_missing_is_whole_as_it_is_to_the_sdks(
    dialect: Dialect, stream: bytes, missing: int
) -> None:
    whole, sent = await relayed(dialect, [stream[:-missing]], None)
    assert whole
    assert dechunked(sent) == stream[:-missing]
    assert sent.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("failure", [None, Failure.RESET, Failure.TIMEOUT])
async def test_a_stream_cut_between_events_gets_an_error_event(failure: Failure | None) -> None:
    whole, sent = await relayed(Dialect.ANTHROPIC, [DELTA], failure)
    assert not whole
    assert dechunked(sent).startswith(DELTA + b"event: error\ndata: {")
    assert not sent.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("cut", range(1, len(DELTA) - 1))
async def test_an_anthropic_stream_cut_in_mid_event_still_ends_in_an_error_event(cut: int) -> None:
    whole, sent = await relayed(Dialect.ANTHROPIC, [DELTA + DELTA[:cut]], Failure.RESET)
    assert not whole
    body = dechunked(sent)
    assert body.startswith(DELTA + DELTA[:cut] + b"\n")
    last = body[len(DELTA) :].rstrip(b"\n").split(b"\n")
    assert [line for line in last if line.startswith(b"event:")][-1] == b"event: error"


@pytest.mark.parametrize("failure", [None, Failure.RESET])
@pytest.mark.parametrize("cut", range(1, len(CHUNK) - 1))
async def test_an_openai_stream_cut_in_mid_event_ends_in_an_error_event_after_the_last_whole_one(
    cut: int, failure: Failure | None
) -> None:
    whole, sent = await relayed(Dialect.OPENAI, [CHUNK + CHUNK[:cut]], failure)
    assert not whole
    assert dechunked(sent).startswith(CHUNK + b'data: {"error"')


async def test_nothing_follows_half_an_openai_event_that_would_be_taken_for_its_data() -> None:
    half = CHUNK + CHUNK[:20]
    whole, sent = await relayed(Dialect.OPENAI, [half], Failure.RESET, asked_usage=True)
    assert not whole
    assert dechunked(sent) == half


async def test_an_error_event_of_the_provider_passes_with_the_providers_own_end() -> None:
    event = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"m"}}\n\n'
    whole, sent = await relayed(Dialect.ANTHROPIC, [DELTA, event], None)
    assert whole
    assert dechunked(sent) == DELTA + event


def test_headers_between_two_hops_and_the_encoding_undone_are_left_out() -> None:
    given: Headers = (
        (b"connection", b"close, X-Hop"),
        (b"x-hop", b"1"),
        (b"content-encoding", b"gzip"),
        (b"content-length", b"3"),
        (b"x-should-retry", b"true"),
        (b"request-id", b"r"),
    )
    kept = reply_headers(given, decoded=True, final=True, request_id="1")
    assert kept == [(b"request-id", b"r"), (b"x-should-retry", b"false"), (b"x-keelage-request-id", b"1")]


async def test_an_application_that_reads_slowly_is_waited_for() -> None:
    answer = answer_from(Quiet(), asyncio.get_running_loop(), Timeouts())
    answer.got_head(200, SSE)
    answer.got_body(DELTA)
    turns: list[str] = []

    class Slow(Wire):
        full = True

        async def writable(self) -> None:
            turns.append("waited")
            answer.got_body(STOP)
            answer.got_end()
            await asyncio.sleep(0)

    wire = Slow()
    call = Call(wire, "POST", "/v1/messages", (), b"")
    body = Body(answer)
    call.begin(200, [], None)
    assert await relay(call, body, meter_of(Dialect.ANTHROPIC), await body.read(), Dialect.ANTHROPIC, "1")
    assert turns == ["waited"]


class Valve(Quiet):
    """Remembers whether it may be read."""

    open = True

    def pause(self) -> None:
        self.open = False

    def resume(self) -> None:
        self.open = True


async def flowing(dialect: Dialect, wire: Wire, source: Quiet, first: bytes) -> tuple[Answer, asyncio.Task[bool]]:
    """A stream whose relay waits for what follows the first piece."""
    answer = answer_from(source, asyncio.get_running_loop(), Timeouts(idle_ms=60_000))
    answer.got_head(200, SSE)
    answer.got_body(first)
    call = Call(wire, "POST", "/v1/messages", (), b"")
    body = Body(answer)
    call.begin(200, [], body.length)
    task = asyncio.create_task(relay(call, body, meter_of(dialect), await body.read(), dialect, "1"))
    await asyncio.sleep(0)
    return answer, task


@pytest.mark.parametrize(("dialect", "event"), [(Dialect.ANTHROPIC, DELTA), (Dialect.OPENAI, CHUNK)])
async def test_an_event_leaves_in_the_callback_that_received_it_the_first_one_too(
    dialect: Dialect, event: bytes
) -> None:
    wire = Wire()
    answer, task = await flowing(dialect, wire, Quiet(), event)
    assert dechunked(wire.sent.partition(b"\r\n\r\n")[2]) == event
    for number in range(2, 5):
        answer.got_body(event)  # and no turn of the loop until it has been written
        assert dechunked(wire.sent.partition(b"\r\n\r\n")[2]) == event * number
    answer.got_body(STOP if dialect is Dialect.ANTHROPIC else b"data: [DONE]\n\n")
    answer.got_end()
    assert await task


async def test_of_an_anthropic_event_no_byte_is_held_back() -> None:
    wire = Wire()
    answer, task = await flowing(Dialect.ANTHROPIC, wire, Quiet(), DELTA[:1])
    for number in range(1, len(DELTA)):
        answer.got_body(DELTA[number : number + 1])
        assert dechunked(wire.sent.partition(b"\r\n\r\n")[2]) == DELTA[: number + 1]
    answer.failed(Failure.RESET, "cut")
    assert not await task


async def test_the_provider_is_not_read_while_the_application_reads_slowly() -> None:
    class Slow(Wire):
        def __init__(self) -> None:
            super().__init__()
            self.room = asyncio.Event()

        async def writable(self) -> None:
            await self.room.wait()

    wire, valve = Slow(), Valve()
    answer, task = await flowing(Dialect.ANTHROPIC, wire, valve, DELTA)
    wire.full = True
    answer.got_body(DELTA)
    assert not valve.open
    answer.got_body(DELTA)  # was on its way already: kept
    await asyncio.sleep(0)
    assert not answer.overdue(asyncio.get_running_loop().time() + 3600)
    wire.full = False
    wire.room.set()
    await until(lambda: valve.open)
    answer.got_body(STOP)
    answer.got_end()
    assert await task
    assert dechunked(wire.sent.partition(b"\r\n\r\n")[2]) == DELTA * 3 + STOP


async def test_every_piece_of_a_stream_renews_the_providers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    answer, task = await flowing(Dialect.ANTHROPIC, Wire(), Quiet(), DELTA)
    now_s = loop.time()
    assert answer.overdue(now_s + 61)
    monkeypatch.setattr(loop, "time", lambda: now_s + 30)
    answer.got_body(DELTA)
    assert not answer.overdue(now_s + 89)
    assert answer.overdue(now_s + 91)
    monkeypatch.undo()
    answer.failed(Failure.TIMEOUT, "no answer in time")
    assert not await task


def dechunked(raw: bytes) -> bytes:
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        body, raw = body + raw[: int(size, 16)], raw[int(size, 16) + 2 :]
    return body
