"""Long conversations from a raw client through the sidecar: what arrives, what is paid, what the application hears."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
import pytest
from msgspec import UNSET
from tests.sidecar.core.calls import is_a
from tests.sidecar.shell.proxied import GPT, HAIKU, World, config_of, world

from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import History, ModelChoice, Provider, ProxyConfig, Summary
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.log_line import Purpose
from keelage_sidecar.core.summaries import PAUSE_S
from keelage_sidecar.shell.inner_call import TIMED_OUT

MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"
SONNET = "claude-sonnet-4-5"
LONG = "lorem " * 400


def shortened(provider: FakeProvider, history: History) -> ProxyConfig:
    config = config_of([provider.url])
    rule = msgspec.structs.replace(config.rules[0], history=history)
    tiers = {"r/fast": (ModelChoice("r/anthropic0", HAIKU),)}
    models = config.prices[Provider.ANTHROPIC]
    sonnet = msgspec.structs.replace(models[HAIKU].tiers[0], input=3_000_000, output=15_000_000)
    more = {SONNET: msgspec.structs.replace(models[HAIKU], tiers=(sonnet,))}
    prices = {**config.prices, Provider.ANTHROPIC: {**models, **more}}
    return msgspec.structs.replace(config, rules=(rule,), tiers=tiers, prices=prices)


def talk(turns: int, said: str = "hello") -> list[dict[str, object]]:
    both: list[dict[str, object]] = [{"role": "user", "content": said}, {"role": "assistant", "content": said}]
    return [*(both * turns)[:-2], {"role": "user", "content": "and now?"}]


async def ask(here: World, turns: list[dict[str, object]], model: str = SONNET) -> dict[str, str]:
    reply = await here.post(MESSAGES, {"model": model, "max_tokens": 50, "system": "Be kind.", "messages": turns})
    assert reply.status == 200
    return reply.headers


def arrived(provider: FakeProvider, at: int = -1) -> list[dict[str, object]]:
    body = orjson.loads(provider.requests()[at].body)
    assert body.get("system", "Be kind.") == "Be kind."
    return is_a(list, body["messages"])


@pytest.mark.parametrize(
    ("path", "model", "cap"), [(MESSAGES, HAIKU, "max_tokens"), (CHAT, GPT, "max_completion_tokens")]
)
async def test_old_turns_are_not_sent_and_not_reserved_and_the_answer_says_so(
    tmp_path: Path, path: str, model: str, cap: str
) -> None:
    turns = talk(5, LONG)
    async with FakeProvider() as provider, world(shortened(provider, History(2)), tmp_path) as here:
        reply = await here.post(path, {"model": model, cap: 50, "messages": turns})
        assert (reply.status, reply.headers["x-keelage-history"]) == (200, "trimmed=3")
        assert arrived(provider) == turns[-3:]
        [record] = here.records
        assert (record.history_trimmed, record.history_summarized) == (3, 0)
        assert not record.bound_violated
        await here.post(path, {"model": model, cap: 50, "messages": turns[-3:]})
        assert here.records[1].bound == record.bound
        assert here.records[1].history_trimmed is UNSET


async def test_a_short_conversation_passes_byte_for_byte(tmp_path: Path) -> None:
    body = orjson.dumps({"model": HAIKU, "max_tokens": 50, "service_tier": "standard_only", "messages": talk(2)})
    async with FakeProvider() as provider, world(shortened(provider, History(2)), tmp_path) as here:
        reply = await here.post(MESSAGES, body)
        assert "x-keelage-history" not in reply.headers
        assert provider.requests()[0].body.encode() == body


async def test_what_is_cut_is_summarized_once_and_paid_for(tmp_path: Path) -> None:
    history = History(1, Summary(1000, "fast"))
    async with (
        FakeProvider(replies={HAIKU: "They said lorem."}) as provider,
        world(shortened(provider, history), tmp_path) as here,
    ):
        headers = await ask(here, talk(4, LONG))
        assert headers["x-keelage-history"] == "summarized=3"
        first, last = arrived(provider)
        assert "They said lorem." in str(first["content"])
        assert last["content"] == "and now?"
        assert [(each.purpose, each.model) for each in here.records] == [(Purpose.SUMMARY, HAIKU), (UNSET, SONNET)]
        assert here.purse.spent == int(provider.bill().usd * PICO_PER_USD)
        assert len(provider.requests()) == 2
        await ask(here, talk(4, LONG))
        assert len(provider.requests()) == 3
        assert (here.records[-1].history_summarized, arrived(provider)) == (3, [first, last])


async def test_a_summary_that_hangs_takes_no_more_than_half_of_the_applications_patience(tmp_path: Path) -> None:
    history = History(1, Summary(1000, "fast"))
    async with (
        FakeProvider(model_faults={HAIKU: "hang"}) as provider,
        world(shortened(provider, history), tmp_path) as here,
    ):
        body = {"model": SONNET, "max_tokens": 50, "messages": talk(4, LONG)}
        reply = await here.post(MESSAGES, body, x_stainless_read_timeout="2")
        assert (reply.status, reply.headers["x-keelage-history"]) == (200, "trimmed=3")
        assert here.records[0].reason == TIMED_OUT


async def test_a_summary_that_fails_costs_the_old_turns_and_not_the_call(tmp_path: Path) -> None:
    history = History(1, Summary(1000, "fast"))
    async with (
        FakeProvider(model_faults={HAIKU: "529"}) as provider,
        world(shortened(provider, history), tmp_path) as here,
    ):
        for _ in range(2):
            assert (await ask(here, talk(4, LONG)))["x-keelage-history"] == "trimmed=3"
            assert arrived(provider) == [{"role": "user", "content": "and now?"}]
        assert [each.purpose for each in here.records] == [Purpose.SUMMARY, UNSET, UNSET]
        provider.config(model_faults={})
        here.later_s += PAUSE_S
        assert (await ask(here, talk(4, LONG)))["x-keelage-history"] == "summarized=3"
