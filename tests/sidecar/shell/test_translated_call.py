"""Calls of one API that a provider of the other answers, from a raw client to fake providers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
import pytest
from tests.sidecar.core.calls import is_a
from tests.sidecar.shell.proxied import GPT, HAIKU, KEY, Reply, config_of, world

from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import ModelChoice, ProxyConfig
from keelage_dev.provider import FakeProvider

MESSAGES = "/v1/messages"
CHAT = "/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
HELLO = {"role": "user", "content": "hello"}
ASK = {"messages": [HELLO], "max_tokens": 50}
TO_OPENAI = {**ASK, "model": GPT, "tools": [{"name": "weather", "input_schema": SCHEMA}]}
TO_ANTHROPIC = {
    **ASK,
    "model": HAIKU,
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}],
}


def billed(*providers: FakeProvider) -> int:
    """Pico-dollars on the providers' own bills."""
    return int(sum(provider.bill().usd for provider in providers) * PICO_PER_USD)


def error_of(reply: Reply) -> dict[str, str]:
    return is_a(dict, reply.json()["error"])


def fallback(url: str, next_url: str, *choices: str) -> ProxyConfig:
    """Anthropic at one address, then OpenAI at another, whatever the model asked for; 2 attempts."""
    config = config_of([url, next_url], attempts=2)
    named = (ModelChoice("r/anthropic0", HAIKU), ModelChoice("r/openai1", GPT))
    return msgspec.structs.replace(config, rules=(msgspec.structs.replace(config.rules[0], choices=named),))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "upstream", "says"),
    [
        (MESSAGES, TO_OPENAI, CHAT, b'"type":"tool_use"'),
        (CHAT, TO_ANTHROPIC, MESSAGES, b'"tool_calls":[{'),
    ],
)
async def test_a_call_is_answered_in_its_own_api_and_paid_by_the_providers_count(
    tmp_path: Path, path: str, body: dict[str, object], upstream: str, says: bytes, stream: bool
) -> None:
    async with FakeProvider({KEY: "app"}) as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(path, {**body, "stream": stream}, x_keelage_user="ann", anthropic_beta="x")
        assert (reply.status, reply.clean) == (200, True)
        assert says in reply.body
        assert reply.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
        assert ("request-id" if path == MESSAGES else "x-request-id") in reply.headers
        seen = provider.requests()[0]
        assert (seen.path, seen.key) == (upstream, "app")
        assert "anthropic-beta" not in seen.headers
        assert reply.headers["x-keelage-dropped"] == "anthropic-beta"
        assert here.purse.spent == billed(provider) > 0
        record = here.records[0]
        assert (record.outcome, record.user, record.uncertain) == ("ok", "ann", False)
        assert record.bound >= record.cost
        assert record.dropped == ("anthropic-beta",)


async def test_usage_in_the_stream_is_told_only_to_those_who_asked(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        silent = await here.post(CHAT, {**ASK, "model": HAIKU, "stream": True})
        options = {"stream_options": {"include_usage": True}}
        asked = await here.post(CHAT, {**ASK, "model": HAIKU, "stream": True, **options})
        assert b'"usage"' not in silent.body
        assert orjson.loads(asked.body.split(b"\n\n")[-3].removeprefix(b"data: "))["usage"]["completion_tokens"] == 12
        told = await here.post(MESSAGES, {**ASK, "model": GPT, "stream": True})
        assert b'"output_tokens":12' in told.body
        assert here.purse.spent == billed(provider)


@pytest.mark.parametrize("stream", [False, True])
async def test_when_anthropic_fails_openai_answers_in_anthropics_words(tmp_path: Path, stream: bool) -> None:
    async with (
        FakeProvider(schedule=["529"]) as claude,
        FakeProvider() as gpt,
        world(fallback(claude.url, gpt.url), tmp_path) as here,
    ):
        reply = await here.post(MESSAGES, {**ASK, "model": "claude-opus-4-5", "stream": stream})
        assert reply.status == 200
        assert (b"event: message_stop" in reply.body) is stream
        assert [len(claude.requests()), len(gpt.requests())] == [1, 1]
        assert here.purse.spent == billed(gpt) == billed(claude, gpt)
        assert (here.records[0].backend, here.records[0].model) == ("r/openai1", GPT)


async def test_a_call_prefers_its_own_api_whatever_the_order(tmp_path: Path) -> None:
    async with FakeProvider() as claude, FakeProvider() as gpt, world(fallback(claude.url, gpt.url), tmp_path) as here:
        assert (await here.post(CHAT, {**ASK, "model": "automatic"})).status == 200
        assert [len(claude.requests()), len(gpt.requests())] == [0, 1]


async def test_what_the_next_backend_cannot_say_is_not_asked_of_it(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["529"]) as claude,
        FakeProvider() as gpt,
        world(fallback(claude.url, gpt.url), tmp_path) as here,
    ):
        prefilled = [HELLO, {"role": "assistant", "content": "The"}]
        reply = await here.post(MESSAGES, {**ASK, "model": HAIKU, "messages": prefilled})
        assert reply.status == 529
        assert not gpt.requests()
        assert here.purse.spent == 0


async def test_a_field_without_a_counterpart_is_refused_by_name_before_any_money(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(CHAT, {**ASK, "model": HAIKU, "n": 3})
        assert (reply.status, reply.headers["x-keelage-reason"]) == (400, "Untranslatable")
        assert error_of(reply)["param"] == "n"
        reply = await here.post(MESSAGES, {**ASK, "model": GPT, "mcp_servers": [{"url": "x"}]})
        assert error_of(reply)["message"].startswith("mcp_servers: ")
        assert not provider.requests()
        assert not here.purse.settled


@pytest.mark.parametrize(
    ("path", "model", "fault", "status", "kind"),
    [
        (CHAT, HAIKU, "400", 400, "invalid_request_error"),
        (CHAT, HAIKU, "401", 401, "invalid_request_error"),
        (CHAT, HAIKU, "529", 503, "server_error"),
        (CHAT, HAIKU, "429", 429, "rate_limit_error"),
        (MESSAGES, GPT, "401", 401, "authentication_error"),
        (MESSAGES, GPT, "404", 404, "not_found_error"),
        (MESSAGES, GPT, "503", 503, "api_error"),
    ],
)
async def test_the_providers_refusal_is_told_in_the_applications_words(
    tmp_path: Path, path: str, model: str, fault: str, status: int, kind: str
) -> None:
    async with (
        FakeProvider(schedule=[fault]) as provider,
        world(config_of([provider.url], attempts=1), tmp_path) as here,
    ):
        reply = await here.post(path, {**ASK, "model": model, "stream": True})
        assert (reply.status, error_of(reply)["type"]) == (status, kind)
        assert reply.headers["content-type"] == "application/json"
        assert here.purse.spent == 0
        assert here.records[0].outcome == "upstream_error"


@pytest.mark.parametrize(("path", "model"), [(CHAT, HAIKU), (MESSAGES, GPT)])
@pytest.mark.parametrize("fault", ["cut:6", "eof:6", "error-event:6"])
async def test_a_broken_stream_ends_in_an_error_of_the_applications_api(
    tmp_path: Path, path: str, model: str, fault: str
) -> None:
    async with FakeProvider(schedule=[fault]) as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(path, {**ASK, "model": model, "stream": True})
        last = reply.body.rstrip(b"\n").split(b"\n\n")[-1]
        assert last.startswith(b"event: error\ndata: " if path == MESSAGES else b'data: {"error":')
        assert b"[DONE]" not in reply.body
        assert b"message_stop" not in reply.body
        assert here.records[0].outcome in ("truncated", "upstream_error")
        assert here.purse.spent >= billed(provider) > 0


async def test_an_answer_that_is_none_is_a_502_that_costs_its_bound_and_is_not_asked_for_again(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["malformed-json"]) as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        reply = await here.post(MESSAGES, {**ASK, "model": GPT})
        assert (reply.status, reply.headers["x-should-retry"]) == (502, "false")
        assert error_of(reply)["type"] == "api_error"
        assert here.purse.spent == here.records[0].bound
