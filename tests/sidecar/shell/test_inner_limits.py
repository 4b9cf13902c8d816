"""Calls that the sidecar makes itself, and limits: rates count the application's calls, providers' limits all."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from tests.sidecar.shell.proxied import MONTH, FakeAccount, world
from tests.sidecar.shell.test_reservation import RATE, RUNNING
from tests.sidecar.shell.test_selector import ASKED, JUDGE, MESSAGES, asking, selecting, told

from keelage_api.codec import seal
from keelage_api.proxy_config import History, ProxyConfig, Quota, Summary, Unit
from keelage_api.selection import Selection, When
from keelage_dev.provider import FakeProvider

TOKENS = Quota("shop/rate:r/all:1", Unit.TOKENS, 10_000, 60_000, "r", rule="all")
MINUTE = Quota("shop/limit:r/anthropic0:rpm", Unit.REQUESTS, 9, 60_000, "r", backend="r/anthropic0")


def judging(url: str, *quotas: Quota, **changes: object) -> ProxyConfig:
    config = selecting(url, Selection(When(classifier=ASKED), "fast"))
    rules = (replace(config.rules[0], **changes),)
    return seal(replace(config, version="", quotas=quotas, rules=rules))


async def test_a_rate_counts_the_applications_calls_and_limits_of_a_provider_all(tmp_path: Path) -> None:
    quotas = (RATE, TOKENS, MINUTE)
    async with (
        FakeProvider(replies={JUDGE: "COMPLEX"}) as provider,
        world(judging(provider.url, *quotas), tmp_path) as here,
    ):
        assert (await told(here, "Hi"))[1] == "deep"
        accounts = here.purse.accounts
        assert accounts[RATE.name, "pod-user"].spent == 1
        inner, call = here.records
        assert (inner.purpose, inner.output_tokens > 0) == ("classifier", True)
        assert accounts[TOKENS.name, ""].spent == call.prompt_tokens + call.output_tokens
        assert accounts[MINUTE.name, ""].spent == 2


async def test_a_call_over_a_rate_asks_no_classifier(tmp_path: Path) -> None:
    async with (
        FakeProvider(replies={JUDGE: "SIMPLE"}) as provider,
        world(judging(provider.url, RATE), tmp_path) as here,
    ):
        here.purse.accounts[RATE.name, "pod-user"] = FakeAccount(0)
        reply = await here.post(MESSAGES, asking("Hi"))
        assert (reply.status, reply.headers["x-keelage-rule"]) == (429, "r/all")
        assert (provider.requests(), here.purse.spent) == ([], 0)
        assert (here.records[0].rule, here.records[0].limit) == ("all", RATE.name)


async def test_a_call_over_a_rate_asks_for_no_summary(tmp_path: Path) -> None:
    history = History(1, Summary(10, "judge"))
    async with (
        FakeProvider() as provider,
        world(judging(provider.url, RATE, select=(), history=history), tmp_path) as here,
    ):
        here.purse.accounts[RATE.name, "pod-user"] = FakeAccount(0)
        turns = [{"role": ("user", "assistant")[at % 2], "content": "tell me more " * 20} for at in range(9)]
        assert (await here.post(MESSAGES, {**asking(""), "messages": turns})).status == 429
        assert provider.requests() == []


async def test_a_rate_in_tokens_expects_what_is_sent_of_a_conversation(tmp_path: Path) -> None:
    async with (
        FakeProvider() as provider,
        world(judging(provider.url, TOKENS, select=(), history=History(1, None)), tmp_path) as here,
    ):
        here.purse.accounts[TOKENS.name, ""] = FakeAccount(1_000)
        turns = [{"role": ("user", "assistant")[at % 2], "content": "tell me more " * 200} for at in range(8)]
        body = {**asking(""), "messages": [*turns, {"role": "user", "content": "Hi"}]}
        assert (await here.post(MESSAGES, body)).status == 200


async def test_a_backend_without_room_for_the_classifier_leaves_the_default(tmp_path: Path) -> None:
    full = replace(RUNNING, queue_wait_ms=0)
    async with FakeProvider(replies={JUDGE: "SIMPLE"}) as provider:
        config = judging(provider.url, full)
        tiers = {**config.tiers, "r/deep": config.tiers["r/fast"]}
        rule = replace(config.rules[0], choices=tiers["r/deep"])
        async with world(seal(replace(config, tiers=tiers, rules=(rule,))), tmp_path) as here:
            here.purse.accounts[RUNNING.name, ""] = FakeAccount(0)
            assert (await told(here, "Hi"))[3] == "default"
            assert here.records[0].reason
            assert here.purse.accounts[MONTH, ""].reserved == 0
