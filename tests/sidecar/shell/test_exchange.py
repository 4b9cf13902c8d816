"""The request path, from a raw client through the sidecar to fake providers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from tests.sidecar.shell.proxied import GPT, HAIKU, IMPATIENT, KEY, World, config_of, request, until, world

from keelage_api.money import PICO_PER_USD
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.claim import DenialReason
from keelage_sidecar.core.log_line import CallRecord

MESSAGES = "/v1/messages"
CHAT = "/v1/chat/completions"


def message(stream: bool = False, **more: object) -> dict[str, object]:
    return {
        "model": HAIKU,
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}],
        **({"stream": True} if stream else {}),
        **more,
    }


def chat(stream: bool = False, **more: object) -> dict[str, object]:
    return {
        "model": GPT,
        "max_completion_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}],
        **({"stream": True} if stream else {}),
        **more,
    }


def billed(*providers: FakeProvider) -> int:
    """Pico-dollars on the providers' own bills."""
    return int(sum(provider.bill().usd for provider in providers) * PICO_PER_USD)


@pytest.mark.parametrize(("path", "body"), [(MESSAGES, message()), (CHAT, chat())])
async def test_a_plain_call_is_answered_paid_exactly_and_told(
    tmp_path: Path, path: str, body: dict[str, object]
) -> None:
    async with FakeProvider({KEY: "app"}) as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(path, body, x_keelage_user="ann", x_keelage_feature="triage")
        assert reply.status == 200
        assert reply.clean
        assert reply.json()["model"] == body["model"]
        assert reply.headers["x-keelage-request-id"] == here.records[0].request_id
        assert here.purse.spent == billed(provider) > 0
        record = here.records[0]
        assert (record.outcome, record.status, record.attempts, record.cost) == ("ok", 200, 1, here.purse.spent)
        assert (record.route, record.rule, record.user, record.feature) == ("r", "all", "ann", "triage")
        assert record.usage_known
        assert record.output_tokens == 12
        seen = provider.requests()[0]
        assert seen.key == "app"
        assert "placeholder" not in str(seen)
        assert not any(name.startswith("x-keelage") for name in seen.headers)


@pytest.mark.parametrize("drain", [False, True])
async def test_calls_side_by_side_are_paid_exactly_and_told_as_answered_though_their_connections_close(
    tmp_path: Path, drain: bool
) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url], drain=drain), tmp_path) as here:
        bodies = [(MESSAGES, message()), (CHAT, chat()), (MESSAGES, message(stream=True))] * 4
        replies = await asyncio.gather(*(here.post(path, body) for path, body in bodies))
        assert all(reply.status == 200 and reply.clean for reply in replies)
        await until(lambda: len(here.records) == len(bodies))
        assert [(record.outcome, record.status) for record in here.records] == [("ok", 200)] * len(bodies)
        assert here.purse.spent == billed(provider) > 0


async def test_a_call_that_cannot_be_told_of_keeps_no_other_from_being_told(tmp_path: Path) -> None:
    bugs: list[object] = []

    class Choosy(list[CallRecord]):
        def append(self, record: CallRecord) -> None:
            if record.user == "ann":
                raise RuntimeError("a bug")
            super().append(record)

    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context["exception"]))
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path, told=Choosy()) as here:
        users = ["ann", "bob", "ann", "eve"]
        await asyncio.gather(*(here.post(MESSAGES, message(), x_keelage_user=user) for user in users))
        await until(lambda: len(here.told) == 2 and len(bugs) == 2)
        here.exchange.tell_ended()
        assert sorted(record.user for record in here.told) == ["bob", "eve"]


@pytest.mark.parametrize(("path", "body"), [(MESSAGES, message(stream=True)), (CHAT, chat(stream=True))])
async def test_a_stream_goes_through_with_its_end_and_is_paid_exactly(
    tmp_path: Path, path: str, body: dict[str, object]
) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(path, body)
        assert reply.clean
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert (b"message_stop" if path == MESSAGES else b"data: [DONE]") in reply.body
        assert b'"usage":{"prompt' not in reply.body  # nobody asked for it
        assert here.purse.spent == billed(provider) > 0
        assert here.records[0].first_token_ms is not None


async def test_what_is_not_keelages_business_passes_byte_for_byte(tmp_path: Path) -> None:
    odd = b'{"max_tokens" :5, "model":"' + HAIKU.encode() + b'","messages":[{"role":"user","content":"\\u0041  "}],'
    odd += b' "service_tier":"standard_only","new_field":{"a":1e2}}'
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(f"{MESSAGES}?beta=true", odd, anthropic_beta="a,b", x_stainless_lang="python")
        assert reply.status == 200
        seen = provider.requests()[0]
        assert seen.body.encode() == odd
        assert seen.query == "beta=true"
        assert seen.headers["anthropic-beta"] == "a,b"
        assert seen.headers["x-stainless-lang"] == "python"
        assert reply.headers["anthropic-organization-id"]


async def test_an_overloaded_backend_is_tried_again_then_the_next_one_answers(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["529"] * 5) as bad,
        FakeProvider() as good,
        world(config_of([bad.url, good.url]), tmp_path) as here,
    ):
        reply = await here.post(MESSAGES, message())
        assert reply.status == 200
        assert len(bad.requests()) == 2
        assert len(good.requests()) == 1
        assert here.delays_s == [0.1]
        assert here.purse.spent == billed(good)
        assert here.records[0].attempts == 3
        assert here.records[0].backend == "r/anthropic1"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
async def test_another_4xx_is_handed_on_and_never_repeated(tmp_path: Path, status: int) -> None:
    async with FakeProvider(schedule=[str(status)]) as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(MESSAGES, message())
        assert reply.status == status
        assert reply.json()["type"] == "error"
        assert len(provider.requests()) == 1
        assert here.purse.spent == 0
        assert here.records[0].outcome == "upstream_error"


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["429:7", "429:0.5"]) as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        assert (await here.post(CHAT, chat())).status == 200
        assert here.delays_s == [7.0, 0.5]


async def test_the_last_failure_is_handed_on_and_the_sdk_told_not_to_multiply_it(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["529", "529", "503,should-retry:true"]) as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        reply = await here.post(MESSAGES, message())
        assert len(provider.requests()) == 3
        assert reply.status == 529 or reply.status == 503
        assert reply.headers["x-should-retry"] == "false"
        assert here.records[0].outcome == "upstream_error"


async def test_a_backend_that_nobody_listens_at_costs_nothing_and_is_told_as_503(tmp_path: Path) -> None:
    async with world(config_of(["http://127.0.0.1:1"]), tmp_path) as here:
        reply = await here.post(MESSAGES, message())
        assert reply.status == 503
        assert reply.headers["x-should-retry"] == "false"
        assert here.purse.spent == 0
        assert here.records[0].reason == "UpstreamUnreachable"
        assert here.records[0].attempts == 3


FAULTS = [
    "ok", "429", "500", "503", "529", "reset", "reset-billed", "garbage", "hang", "malformed-json", "malformed-sse",
    "cut:0", "cut:1", "cut:2", "cut:3", "cut:5", "eof:0", "eof:1", "eof:4", "hang:2", "error-event", "error-event:1",
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [MESSAGES, CHAT])
async def test_whatever_goes_wrong_no_less_is_charged_than_billed_and_no_cut_stream_ends_cleanly(
    tmp_path: Path, path: str, stream: bool, fault: str
) -> None:
    body = message(stream) if path == MESSAGES else chat(stream)
    timeouts = IMPATIENT if "hang" in fault else None
    async with (
        FakeProvider(schedule=[fault] * 3) as provider,
        world(config_of([provider.url], attempts=2, timeouts=timeouts), tmp_path) as here,
    ):
        reply = await here.post(path, body)
        assert here.purse.spent >= billed(provider)
        assert not here.records[0].bound_violated
        if stream and reply.status == 200 and fault != "malformed-sse":
            whole = b"message_stop" in reply.body or b"[DONE]" in reply.body
            told = b'"error"' in reply.body
            assert reply.clean is (whole or "error-event" in fault)
            assert told is not whole
        assert here.records[0].outcome == "ok" or fault != "ok"


async def test_a_cut_stream_gets_an_error_event_in_its_dialect(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["cut:4", "cut:4"]) as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        reply = await here.post(MESSAGES, message(stream=True))
        event = reply.body.rstrip().rpartition(b"\n\n")[2]
        assert event.startswith(b"event: error\ndata: {")
        assert orjson.loads(event.partition(b"data: ")[2])["error"]["type"] == "api_error"
        assert not reply.clean
        reply = await here.post(CHAT, chat(stream=True))
        assert b"[DONE]" not in reply.body
        assert orjson.loads(reply.body.rstrip().rpartition(b"data: ")[2])["error"]["type"] == "server_error"
        assert not reply.clean
        assert [record.outcome for record in here.records] == ["truncated", "truncated"]
        assert [record.uncertain for record in here.records] == [True, True]
        assert here.purse.spent - here.purse.uncertain <= billed(provider) < here.purse.spent


async def test_an_application_that_leaves_stops_the_provider_and_pays_for_what_may_be_billed(tmp_path: Path) -> None:
    async with (
        FakeProvider(output_tokens=50, schedule=["hang:4"]) as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        reader, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(message(stream=True))))
        await reader.readuntil(b"content_block_delta")
        writer.close()
        await until(lambda: len(here.purse.settled) == 1)
        assert here.purse.spent - here.purse.uncertain <= billed(provider) <= here.purse.spent
        assert here.purse.spent == here.records[0].cost <= here.records[0].bound
        assert (here.records[0].outcome, here.records[0].status) == ("client_disconnect", 0)
        await until(lambda: provider.connections == 0)


async def test_a_route_that_drains_reads_to_the_end_and_pays_exactly(tmp_path: Path) -> None:
    async with (
        FakeProvider(output_tokens=40, gap_s=0.002) as provider,
        world(config_of([provider.url], drain=True), tmp_path) as here,
    ):
        reader, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(message(stream=True))))
        await reader.readuntil(b"content_block_delta")
        writer.close()
        await until(lambda: len(here.purse.settled) == 1)
        assert here.purse.spent == billed(provider)
        assert here.records[0].outcome == "client_disconnect"
        assert here.records[0].usage_known
        assert here.records[0].output_tokens == 40


@pytest.mark.parametrize(
    ("reason", "path", "status", "kind", "retry"),
    [
        (DenialReason.BUDGET_EXHAUSTED, MESSAGES, 429, "rate_limit_error", "false"),
        (DenialReason.BUDGET_EXHAUSTED, CHAT, 429, "insufficient_quota", "false"),
        (DenialReason.BUDGET_TOO_SMALL, MESSAGES, 400, "invalid_request_error", "false"),
        (DenialReason.NO_RIGHTS, CHAT, 503, "server_error", "true"),
    ],
)
async def test_a_budget_that_does_not_pay_refuses_before_anything_is_sent(
    tmp_path: Path, reason: DenialReason, path: str, status: int, kind: str, retry: str
) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        here.purse.limit, here.purse.denial = 1, reason
        reply = await here.post(path, message() if path == MESSAGES else chat(), x_stainless_read_timeout="3")
        error = reply.json()["error"]
        assert isinstance(error, dict)
        assert (reply.status, error["type"], reply.headers["x-should-retry"]) == (status, kind, retry)
        assert reply.headers["x-keelage-budget"] == "shop/month"
        assert provider.requests() == []
        assert here.purse.waits_s[0] <= 3
        assert (here.records[0].outcome, here.records[0].reason) == ("refused", reason)
        assert here.records[0].budget == "shop/month"


async def test_what_cannot_be_bounded_is_refused_under_a_hard_budget_and_served_under_an_observed_one(
    tmp_path: Path,
) -> None:
    body = message(model="claude-unheard-of")
    async with (
        FakeProvider() as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        reply = await here.post(MESSAGES, body)
        assert reply.status == 400
        assert here.records[0].reason == "NotBoundable"
        assert provider.requests() == []
        async with world(config_of([provider.url], hard=False), tmp_path) as here:
            assert (await here.post(MESSAGES, body)).status == 200


async def test_a_missing_key_is_named_and_nothing_is_sent(tmp_path: Path) -> None:
    async with (
        FakeProvider() as provider,
        world(config_of([provider.url], credential="other/key"), tmp_path) as here,
    ):
        reply = await here.post(MESSAGES, message())
        assert reply.status == 503
        assert b"Secret other" in reply.body
        assert reply.headers["x-keelage-reason"] == "CredentialMissing"
        assert provider.requests() == []
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "key").write_text("late\n")
        assert (await here.post(MESSAGES, message())).status == 200


async def test_without_a_configuration_calls_are_refused_and_may_come_again(tmp_path: Path) -> None:
    async with world(None, tmp_path) as here:
        reply = await here.post(CHAT, chat())
        assert reply.status == 503
        assert reply.headers["retry-after-ms"] == "500"
        assert reply.headers["x-should-retry"] == "true"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/responses/compact", 400),
        ("POST", "/v1/batches", 400),
        ("GET", "/v1/messages", 405),
        ("POST", "/v2/anything", 404),
        ("POST", "http://evil.example/v1/messages", 404),
        ("POST", "/v1/../v1/messages", 404),
    ],
)
async def test_only_listed_endpoints_reach_the_provider(tmp_path: Path, method: str, path: str, status: int) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        assert (await here.ask(method, path, orjson.dumps(message()))).status == status
        assert provider.requests() == []


async def test_free_endpoints_reserve_nothing(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        assert (await here.ask("GET", "/v1/models")).status == 200
        assert (await here.post("/v1/messages/count_tokens", message())).status == 200
        reply = await here.ask("HEAD", "/v1/models")
        assert reply.status == 200
        assert reply.body == b""
        assert here.purse.settled == []
        assert [record.cost for record in here.records] == [0, 0, 0]


async def test_an_upstream_that_compresses_all_the_same_is_counted(tmp_path: Path) -> None:
    async with FakeProvider(gzip_streams=True) as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(MESSAGES, message(stream=True))
        assert b"message_stop" in reply.body
        assert "content-encoding" not in reply.headers
        assert here.purse.spent == billed(provider)


async def test_a_call_in_mid_stream_hears_that_the_sidecar_ends_and_is_charged(tmp_path: Path) -> None:
    async with (
        FakeProvider(output_tokens=50, schedule=["hang:4"]) as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        reader, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(message(stream=True))))
        await reader.readuntil(b"content_block_delta")
        await here.server.finish()
        rest = await reader.read()
        writer.close()
        assert b"event: error" in rest
        assert not rest.endswith(b"0\r\n\r\n")
        assert here.records[0].reason == "ShuttingDown"
        assert here.purse.spent >= billed(provider)


async def test_a_call_before_its_answer_hears_that_the_sidecar_ends(tmp_path: Path) -> None:
    async with FakeProvider(schedule=["hang"]) as provider, world(config_of([provider.url]), tmp_path) as here:
        reader, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(message())))
        await until(lambda: len(provider.requests()) == 1)
        await here.server.finish()
        assert (await reader.read()).startswith(b"HTTP/1.1 503")
        writer.close()
        assert here.purse.spent == here.records[0].bound > 0


async def test_64_calls_at_once_each_get_their_own_answer_and_share_connections(tmp_path: Path) -> None:
    async with FakeProvider(replies={"*": "short"}) as provider, world(config_of([provider.url]), tmp_path) as here:

        async def one(number: int) -> None:
            body = message(stream=number % 2 == 1, system=f"call {number} " * number)
            reply = await here.post(MESSAGES, body)
            assert reply.status == 200

        async with asyncio.TaskGroup() as group:
            for number in range(64):
                group.create_task(one(number))
        assert here.purse.spent == billed(provider)
        assert here.upstream.connects <= 64


async def test_calls_in_sequence_use_one_upstream_connection(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        await _sequence(here, 10)
        assert here.upstream.connects == 1


async def _sequence(here: World, count: int) -> None:
    reader, writer = await here.connect()
    for number in range(count):
        writer.write(request("POST", MESSAGES, orjson.dumps(message(stream=number % 2 == 0))))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"chunked" in head:
            await reader.readuntil(b"0\r\n\r\n")
        else:
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    writer.close()
