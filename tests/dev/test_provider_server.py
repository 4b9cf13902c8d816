"""The fake provider over real connections, read byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

import orjson
import pytest

from keelage_dev.provider import FakeProvider

KEY = "sk-test"
BODY = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply as read to the end of the connection."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reset: bool

    def json(self) -> dict[str, object]:
        value: object = orjson.loads(self.body)
        assert isinstance(value, dict)
        return value


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider({KEY: "app"}) as running:
        yield running


async def ask(
    provider: FakeProvider, path: str, body: object = None, *, method: str = "POST", key: str = KEY, **headers: str
) -> Answer:
    """One request on a connection of its own, read until it closes."""
    sent = b"" if body is None else orjson.dumps(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", "host: fake", "connection: close", f"content-length: {len(sent)}"]
    lines += [f"{name}: {value}" for name, value in names.items()]
    lines += ["anthropic-version: 2023-06-01", f"x-api-key: {key}"] if "/messages" in path else []
    lines += [f"authorization: Bearer {key}"] if "/messages" not in path else []
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + sent)
    raw, reset = b"", False
    try:
        while part := await reader.read(65536):
            raw += part
    except ConnectionResetError:
        reset = True
    writer.close()
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *others = head.decode().split("\r\n")
    pairs = dict(line.split(": ", 1) for line in others)
    if pairs.get("transfer-encoding") == "chunked":
        rest = joined(rest)
    status = int(first.split()[1]) if first.startswith("HTTP/1.1 ") else 0
    return Answer(status, pairs, rest, reset)


def joined(chunked: bytes) -> bytes:
    """The content of chunks, as far as they came."""
    whole = b""
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        whole += rest[: int(size, 16)]
        chunked = rest[int(size, 16) + 2 :]
    return whole


async def test_a_message_is_answered_and_billed(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY)
    usage = answer.json()["usage"]
    assert isinstance(usage, dict)
    assert (answer.status, usage["output_tokens"]) == (200, 12)
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["anthropic-ratelimit-input-tokens-limit"] == "400000"
    bill = provider.bill()
    usd = Decimal(usage["input_tokens"] + 5 * 12) / 1_000_000
    assert bill.usd == usd
    assert bill.by_key == {"app": (usd, 1)}


async def test_the_same_request_costs_the_same_whole_or_streamed(provider: FakeProvider) -> None:
    await ask(provider, "/v1/messages", BODY)
    once = provider.bill().usd
    await ask(provider, "/v1/messages", BODY | {"stream": True})
    assert provider.bill().usd == 2 * once
    provider.reset()
    await ask(provider, "/v1/chat/completions", CHAT)
    once = provider.bill().usd
    await ask(provider, "/v1/chat/completions", CHAT | {"stream": True})
    assert provider.bill().usd == 2 * once


async def test_a_wrong_key_is_refused_in_the_shape_of_the_api(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY, key="other")
    assert answer.status == 401
    error = answer.json()["error"]
    assert isinstance(error, dict)
    assert error["type"] == "authentication_error"
    answer = await ask(provider, "/v1/chat/completions", CHAT, key="other")
    error = answer.json()["error"]
    assert isinstance(error, dict)
    assert (answer.status, error["code"]) == (401, "invalid_api_key")
    assert provider.bill().calls == 0


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 503, 504, 529])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_every_status_can_be_ordered_and_costs_nothing(provider: FakeProvider, status: int, path: str) -> None:
    answer = await ask(provider, path, BODY, x_fake_fault=str(status))
    assert answer.status == status
    assert answer.json()["error"]
    assert provider.bill().calls == 0


async def test_retry_headers_come_with_the_refusal(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY, x_fake_fault="429:1.5,should-retry:false")
    names = ("retry-after", "retry-after-ms", "x-should-retry")
    assert [answer.headers[name] for name in names] == ["2", "1500", "false"]


async def test_a_schedule_is_consumed_one_entry_per_request(provider: FakeProvider) -> None:
    provider.config(schedule=["529", "ok", "500"])
    statuses = [(await ask(provider, "/v1/messages", BODY)).status for _ in range(4)]
    assert statuses == [529, 200, 500, 200]


async def test_a_fault_can_belong_to_a_model(provider: FakeProvider) -> None:
    provider.config(model_faults={"gpt-4o": "503"})
    assert (await ask(provider, "/v1/chat/completions", CHAT)).status == 503
    assert (await ask(provider, "/v1/messages", BODY)).status == 200


async def test_a_cut_stream_is_reset_after_the_events_and_billed_so_far(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY | {"stream": True}, x_fake_fault="cut:5")
    assert answer.reset
    assert answer.body.count(b"event: ") == 5
    provider.reset()
    await ask(provider, "/v1/messages", BODY | {"max_tokens": 2})
    two_tokens = provider.bill().usd
    provider.reset()
    await ask(provider, "/v1/messages", BODY | {"stream": True}, x_fake_fault="cut:5")
    assert provider.bill().usd == two_tokens, "message_start, content_block_start, ping, then two tokens"


async def test_an_early_end_is_clean(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY | {"stream": True}, x_fake_fault="eof:5")
    assert not answer.reset
    assert answer.body.count(b"event: ") == 5
    assert b"message_stop" not in answer.body


async def test_an_error_event_ends_the_stream(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY | {"stream": True}, x_fake_fault="error-event:4")
    assert answer.body.count(b"event: ") == 5
    assert answer.body.endswith(b'"message":"Overloaded"}}\n\n')


async def test_a_reset_comes_before_any_byte(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY, x_fake_fault="reset")
    assert (answer.reset, answer.status, provider.bill().calls) == (True, 0, 0)
    answer = await ask(provider, "/v1/messages", BODY, x_fake_fault="reset-billed")
    assert (answer.reset, answer.status, provider.bill().calls) == (True, 0, 1)


async def test_a_body_that_is_cut_is_shorter_than_announced(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY, x_fake_fault="cut:0")
    assert answer.reset
    assert len(answer.body) < int(answer.headers["content-length"])


async def test_broken_replies_are_broken(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY, x_fake_fault="garbage")
    assert answer.status == 0
    answer = await ask(provider, "/v1/messages", BODY, x_fake_fault="malformed-json")
    with pytest.raises(orjson.JSONDecodeError):
        answer.json()
    answer = await ask(provider, "/v1/messages", BODY | {"stream": True}, x_fake_fault="malformed-sse")
    assert b'"delta":{"typ\n\n' in answer.body


async def test_a_client_that_leaves_is_billed_for_what_was_generated(provider: FakeProvider) -> None:
    provider.config(gap_s=0.005, output_tokens=100_000)
    reader, writer = await open_stream(provider)
    await reader.readuntil(b"text_delta")
    (connection,) = provider._open
    writer.transport.abort()
    await connection.lost.wait()
    left = provider.bill()
    await ask(provider, "/v1/models", method="GET")
    assert provider.bill() == left
    assert Decimal(0) < left.usd < Decimal("0.4"), "the whole reply would cost 0.5"


async def test_a_json_reply_is_gzip_for_those_who_accept_it(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY, accept_encoding="gzip, deflate")
    assert answer.headers["content-encoding"] == "gzip"
    assert b"end_turn" in gzip.decompress(answer.body)
    provider.config(gzip_streams=True)
    answer = await ask(provider, "/v1/messages", BODY | {"stream": True}, accept_encoding="gzip")
    assert gzip.decompress(answer.body).endswith(b'data: {"type":"message_stop"}\n\n')


async def test_pipelined_requests_are_answered_in_order(provider: FakeProvider) -> None:
    provider.config(latency_s=0.002)
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    one = b"GET /v1/models/%b HTTP/1.1\r\nhost: fake\r\nauthorization: Bearer sk-test\r\n\r\n"
    writer.write(one % b"gpt-4o" + one % b"gpt-5-mini" + one % b"none")
    found = await reader.readuntil(b"model_not_found")
    assert found.index(b'"id":"gpt-4o"') < found.index(b'"id":"gpt-5-mini"')
    writer.close()


async def test_a_body_above_the_limit_is_refused(provider: FakeProvider) -> None:
    answer = await ask(provider, "/v1/messages", BODY | {"system": "x" * (32 * 1024 * 1024)})
    assert answer.status == 413


async def test_the_usage_chunk_comes_only_when_asked_for(provider: FakeProvider) -> None:
    plain = await ask(provider, "/v1/chat/completions", CHAT | {"stream": True})
    assert b"usage" not in plain.body
    asked = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
    told = await ask(provider, "/v1/chat/completions", asked)
    assert told.body.count(b'"usage":null') == 14
    assert b'"choices":[],"usage":{"prompt_tokens":' in told.body


async def test_requests_are_kept_with_their_keys_masked(provider: FakeProvider) -> None:
    await ask(provider, "/v1/messages?beta=true", BODY, x_trace="7")
    (kept,) = provider.requests()
    assert (kept.method, kept.path, kept.query, kept.key) == ("POST", "/v1/messages", "beta=true", "app")
    assert (kept.headers["x-api-key"], kept.headers["x-trace"]) == ("***", "7")
    assert orjson.loads(kept.body) == BODY


async def test_another_process_steers_it_over_http(provider: FakeProvider) -> None:
    answer = await ask(provider, "/fake/config", {"output_tokens": 3})
    assert answer.json()["output_tokens"] == 3
    await ask(provider, "/v1/messages", BODY)
    answer = await ask(provider, "/fake/bill", method="GET")
    assert answer.json()["calls"] == 1
    answer = await ask(provider, "/fake/requests", method="GET")
    assert len(orjson.loads(answer.body)) == 1
    answer = await ask(provider, "/fake/config", {"no_such": 3})
    assert (answer.status, "no_such" in str(answer.json()["error"])) == (400, True)
    await ask(provider, "/fake/reset")
    answer = await ask(provider, "/fake/bill", method="GET")
    assert answer.json() == {"usd": "0", "calls": 0, "by_model": {}, "by_key": {}}
    assert (await ask(provider, "/fake/nothing")).status == 404


async def test_stopping_resets_replies_that_hang() -> None:
    async with FakeProvider() as provider:
        reader, writer = await open_stream(provider, "x-fake-fault: hang:1")
        await reader.readuntil(b"message_start")
    with pytest.raises(ConnectionResetError):
        await reader.readuntil(b"message_stop")
    writer.close()


async def open_stream(provider: FakeProvider, *lines: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A streamed message, asked for and not yet read."""
    sent = orjson.dumps(BODY | {"stream": True, "max_tokens": 100_000})
    head = ["POST /v1/messages HTTP/1.1", "host: fake", f"content-length: {len(sent)}", f"x-api-key: {KEY}"]
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    writer.write("\r\n".join([*head, "anthropic-version: 2023-06-01", *lines]).encode() + b"\r\n\r\n" + sent)
    return reader, writer


def test_it_imports_nothing_of_the_product() -> None:
    code = (
        "import sys, keelage_dev.provider.__main__ as _; "
        "print([n for n in sys.modules if n.startswith('keelage') and not n.startswith('keelage_dev')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="dev")
    assert ran.stdout.strip() == "[]"
