"""At the limit, from a raw client through the sidecar to fake providers: clamp, downgrade, queue, refuse."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import orjson
import pytest
from tests.sidecar.shell.proxied import (
    GPT,
    HAIKU,
    MONTH,
    FakeAccount,
    Reply,
    config_of,
    request,
    until,
    world,
)  # fmt: skip

from keelage_api.proxy_config import BudgetTerms, Downgrade, ModelChoice, Per, ProxyConfig, Quota, Unit
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.attribution import Spender
from keelage_sidecar.core.claim import DenialReason

MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"
SONNET = "claude-sonnet-4-5"
BUDGET = BudgetTerms(MONTH, True)
CAP_OF_BODY = '"max_tokens": 1000'


def message(cap: int = 50, model: str = HAIKU, **more: object) -> dict[str, object]:
    return {"model": model, "max_tokens": cap, "messages": [{"role": "user", "content": "hello"}], **more}


def chat(**more: object) -> dict[str, object]:
    return {
        "model": GPT,
        "max_completion_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}],
        **more,
    }


def limited(
    *providers: FakeProvider,
    clamp_at_least: int = 0,
    budgets: tuple[BudgetTerms, ...] = (BUDGET,),
    quotas: tuple[Quota, ...] = (),
) -> ProxyConfig:
    """One rule over the providers; tier `fast` is haiku at the first."""
    config = config_of([provider.url for provider in providers])
    prices = {**config.prices}
    for provider, models in config.prices.items():
        if HAIKU in models:
            rates = msgspec.structs.replace(models[HAIKU].tiers[0], input=3_000_000, output=15_000_000)
            prices[provider] = {**models, SONNET: msgspec.structs.replace(models[HAIKU], tiers=(rates,))}
    [rule] = config.rules
    return msgspec.structs.replace(
        config,
        rules=(msgspec.structs.replace(rule, clamp_at_least=clamp_at_least),),
        budgets=budgets,
        quotas=quotas,
        tiers={"r/fast": (ModelChoice("r/anthropic0", HAIKU),)},
        prices=prices,
    )


def error_of(reply: Reply) -> dict[str, object]:
    error = reply.json()["error"]
    assert isinstance(error, dict)
    return error


# Units and values


async def test_a_token_budget_is_charged_the_tokens_that_were_used(tmp_path: Path) -> None:
    tokens = BudgetTerms("shop/tokens", True, unit=Unit.TOKENS)
    async with FakeProvider() as provider, world(limited(provider, budgets=(tokens,)), tmp_path) as here:
        reply = await here.post(MESSAGES, message(model="claude-unpriced"))
        assert reply.status == 200
        [record] = here.records
        total = record.prompt_tokens + record.output_tokens
        assert here.purse.accounts["shop/tokens", ""].spent == total > 0
        [(claims, _)] = here.purse.settled
        assert total < claims[0].amount


async def test_a_users_limit_stops_that_user_only(tmp_path: Path) -> None:
    users = BudgetTerms("shop/users", True, per=(Per.USER, Per.POD))
    async with FakeProvider() as provider, world(limited(provider, budgets=(users,)), tmp_path) as here:
        here.purse.accounts["shop/users", "ann/web-1"] = FakeAccount(1)
        assert (await here.post(MESSAGES, message(), x_keelage_user="ann")).status == 429
        assert (await here.post(MESSAGES, message(), x_keelage_user="bob")).status == 200
        assert here.purse.accounts["shop/users", "bob/web-1"].spent == here.records[1].cost > 0
        assert len(provider.requests()) == 1


async def test_what_is_charged_is_attributed_to_model_feature_and_user(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(limited(provider), tmp_path) as here:
        await here.post(MESSAGES, message(), x_keelage_user="ann", x_keelage_feature="triage")
        assert here.purse.spenders == [Spender(HAIKU, "triage", "ann")]


# Clamping


@pytest.mark.parametrize("stream", [False, True])
async def test_an_output_cap_is_lowered_to_what_the_budget_can_pay(tmp_path: Path, stream: bool) -> None:
    body = f'{{"model": "{HAIKU}", {CAP_OF_BODY}, "stream": {str(stream).lower()}, "x":1e2,'
    body += r'"messages": [{"role": "user", "content": "h\u00e9"}],"service_tier":"standard_only"}'
    async with FakeProvider() as provider, world(limited(provider, clamp_at_least=100), tmp_path) as here:
        here.purse.limit = 2_000_000_000
        reply = await here.post(MESSAGES, body.encode())
        assert reply.status == 200
        [record] = here.records
        assert 100 < record.clamped < 1000
        assert reply.headers["x-keelage-clamped"] == f"max_tokens={record.clamped}"
        assert record.injected == ("max_tokens",)
        assert provider.requests()[0].body == body.replace(CAP_OF_BODY, f'"max_tokens": {record.clamped}')
        # One token more would not have been paid for.
        assert 2_000_000_000 - 5_000_000 < record.bound <= 2_000_000_000
        assert here.purse.spent == record.cost


TOKENS = BudgetTerms("shop/tokens", True, unit=Unit.TOKENS, per=(Per.USER,))


@pytest.mark.parametrize(
    ("picodollars", "tokens", "elsewhere"),
    [
        (2_000_000_000, 10**9, 0),
        (10**12, 600, 0),
        (2_000_000_000, 600, 0),
        (9_000_000_000, 10**9, 7_000_000_000),
        (10**12, 2_000, 1_400),
    ],
)
async def test_a_clamped_call_is_the_largest_that_every_budget_can_pay_for_now(
    tmp_path: Path, picodollars: int, tokens: int, elsewhere: int
) -> None:
    """Also where others hold part of what is left, which the first attempt at it finds out."""
    async with (
        FakeProvider() as provider,
        world(limited(provider, clamp_at_least=100, budgets=(BUDGET, TOKENS)), tmp_path) as here,
    ):
        money = here.purse.accounts[MONTH, ""] = FakeAccount(picodollars)
        counted = here.purse.accounts["shop/tokens", "ann"] = FakeAccount(tokens)
        (money if picodollars > elsewhere > tokens else counted).elsewhere = elsewhere
        free = (money.free, counted.free)
        assert (await here.post(MESSAGES, message(5_000), x_keelage_user="ann")).status == 200
        [(claims, _)] = here.purse.settled[-1:]
        amounts = tuple(claim.amount for claim in claims)
        assert all(amount <= room for amount, room in zip(amounts, free, strict=True))
        # One token more would have been too much for one of them.
        assert amounts[0] + 5_000_000 > free[0] or amounts[1] + 1 > free[1]


async def test_a_cap_that_was_put_in_is_clamped_too(tmp_path: Path) -> None:
    body = chat()
    del body["max_completion_tokens"]
    async with FakeProvider() as provider, world(limited(provider, clamp_at_least=100), tmp_path) as here:
        here.purse.limit = 1_000_000_000
        assert (await here.post(CHAT, body)).status == 200
        sent = orjson.loads(provider.requests()[0].body)
        assert sent["max_completion_tokens"] == here.records[0].clamped > 100


@pytest.mark.parametrize(
    ("body", "at_least"),
    [
        (message(1000), 0),
        (message(1000), 900),
        (message(1000, thinking={"type": "enabled", "budget_tokens": 999}), 100),
    ],
)
async def test_what_must_not_be_clamped_so_far_is_refused(
    tmp_path: Path, body: dict[str, object], at_least: int
) -> None:
    async with FakeProvider() as provider, world(limited(provider, clamp_at_least=at_least), tmp_path) as here:
        here.purse.limit = 2_000_000_000
        reply = await here.post(MESSAGES, body)
        assert (reply.status, reply.headers["x-keelage-reason"]) == (429, "BudgetExhausted")
        assert provider.requests() == []


async def test_a_budget_of_an_unknown_window_is_not_asked_for_less(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(limited(provider, clamp_at_least=10), tmp_path) as here:
        here.purse.limit, here.purse.denial = 0, DenialReason.WINDOW_UNKNOWN
        assert (await here.post(MESSAGES, message())).status == 503
        assert len(here.purse.waits_s) == 1


async def test_a_clamped_call_that_is_tried_again_stays_clamped(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["529"]) as provider,
        world(limited(provider, clamp_at_least=10), tmp_path) as here,
    ):
        here.purse.limit = 2_000_000_000
        assert (await here.post(MESSAGES, message(1000))).status == 200
        caps = [orjson.loads(each.body)["max_tokens"] for each in provider.requests()]
        assert caps == [here.records[0].clamped] * 2


# Downgrades

CHEAPER = BudgetTerms(MONTH, True, downgrades=(Downgrade(95, "fast"),))


async def test_above_its_threshold_a_budget_gives_calls_a_cheaper_tier_from_the_start(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(limited(provider, budgets=(CHEAPER,)), tmp_path) as here:
        here.purse.percent[MONTH] = 94
        assert "x-keelage-downgraded" not in (await here.post(MESSAGES, message(model=SONNET))).headers
        here.purse.percent[MONTH] = 95
        reply = await here.post(MESSAGES, message(model=SONNET))
        assert (reply.headers["x-keelage-downgraded"], reply.headers["x-keelage-budget"]) == ("fast", MONTH)
        assert [orjson.loads(each.body)["model"] for each in provider.requests()] == [SONNET, HAIKU]
        assert [(each.downgraded, each.budget, each.outcome) for each in here.records] == [
            ("", "", "ok"),
            ("fast", MONTH, "ok"),
        ]
        assert here.purse.waits_s == []


async def test_at_the_limit_a_cheaper_tier_is_tried_before_a_refusal(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(limited(provider, budgets=(CHEAPER,)), tmp_path) as here:
        here.purse.limit = 1_000_000_000
        reply = await here.post(MESSAGES, message(model=SONNET))
        assert (reply.status, reply.headers["x-keelage-downgraded"]) == (200, "fast")
        assert reply.json()["model"] == HAIKU
        here.purse.limit = here.purse.spent
        reply = await here.post(MESSAGES, message(model=SONNET))
        assert (reply.status, reply.headers["x-keelage-budget"]) == (429, MONTH)
        assert len(provider.requests()) == 1


async def test_a_call_is_clamped_rather_than_downgraded(tmp_path: Path) -> None:
    async with (
        FakeProvider() as provider,
        world(limited(provider, clamp_at_least=20, budgets=(CHEAPER,)), tmp_path) as here,
    ):
        here.purse.limit = 1_500_000_000
        reply = await here.post(MESSAGES, message(cap=90, model=SONNET))
        assert (reply.status, reply.json()["model"]) == (200, SONNET)
        assert "x-keelage-clamped" in reply.headers
        assert "x-keelage-downgraded" not in reply.headers


async def test_a_downgraded_call_keeps_counting_its_attempts(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["529"] * 5) as provider,
        world(limited(provider, budgets=(CHEAPER,)), tmp_path) as here,
    ):
        here.purse.limit = 1_000_000_000
        assert (await here.post(MESSAGES, message(model=SONNET))).status == 529
        assert len(provider.requests()) == 3
        assert {orjson.loads(each.body)["model"] for each in provider.requests()} == {HAIKU}


# Rates

RATE = Quota("shop/rate:r/all:0", Unit.REQUESTS, 20, 60_000, "r", rule="all", per=(Per.USER,))


@pytest.mark.parametrize(
    ("path", "body", "kind", "code"),
    [
        (MESSAGES, message(), "rate_limit_error", None),
        (CHAT, chat(), "rate_limit_error", "rate_limit_exceeded"),
    ],
)
async def test_a_call_over_a_rate_is_refused_at_once_and_may_come_again(
    tmp_path: Path, path: str, body: dict[str, object], kind: str, code: str | None
) -> None:
    async with FakeProvider() as provider, world(limited(provider, quotas=(RATE,)), tmp_path) as here:
        here.purse.accounts[RATE.name, "ann"] = FakeAccount(1)
        assert (await here.post(path, body, x_keelage_user="ann")).status == 200
        reply = await here.post(path, body, x_keelage_user="ann")
        error = error_of(reply)
        assert (reply.status, error["type"], error.get("code")) == (429, kind, code)
        assert "details" not in error
        assert (reply.headers["retry-after"], reply.headers["x-should-retry"]) == ("60", "true")
        assert reply.headers["x-keelage-limit"] == here.records[1].limit == RATE.name
        assert (await here.post(path, body, x_keelage_user="bob")).status == 200
        assert len(provider.requests()) == 2


async def test_a_rate_counts_a_call_once_however_often_it_is_tried(tmp_path: Path) -> None:
    tokens = Quota("shop/rate:r/all:1", Unit.TOKENS, 10_000, 60_000, "r", rule="all")
    async with (
        FakeProvider(schedule=["529", "529"]) as provider,
        world(limited(provider, quotas=(RATE, tokens)), tmp_path) as here,
    ):
        assert (await here.post(MESSAGES, message(), x_keelage_user="ann")).status == 200
        assert here.purse.accounts[RATE.name, "ann"].spent == 1
        [record] = here.records
        assert here.purse.accounts[tokens.name, ""].spent == record.prompt_tokens + record.output_tokens > 0


async def test_a_call_that_money_refuses_uses_no_rate_and_no_room(tmp_path: Path) -> None:
    quotas = (RATE, RUNNING)
    async with FakeProvider() as provider, world(limited(provider, quotas=quotas), tmp_path) as here:
        here.purse.limit = 1
        assert (await here.post(MESSAGES, message(), x_keelage_user="ann")).status == 429
        for account in (here.purse.accounts[RATE.name, "ann"], here.purse.accounts[RUNNING.name, ""]):
            assert (account.spent, account.reserved) == (0, 0)


async def test_a_rate_that_nobody_can_be_asked_about_stops_no_call(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(limited(provider, quotas=(RATE, RUNNING)), tmp_path) as here:
        here.purse.accounts[RATE.name, "ann"] = here.purse.accounts[RUNNING.name, ""] = FakeAccount(0)
        here.purse.rate_denial = DenialReason.WINDOW_UNKNOWN
        assert (await here.post(MESSAGES, message(), x_keelage_user="ann")).status == 200
        assert here.records[0].unlimited
        assert here.purse.spent == here.records[0].cost > 0


# Providers' limits

RUNNING = Quota(
    "shop/limit:r/anthropic0:concurrentRequests", Unit.CONCURRENT, 1, 0, "r",
    backend="r/anthropic0", queue_depth=1, queue_wait_ms=5_000,
)  # fmt: skip


async def test_a_call_waits_in_the_backends_queue_and_one_beyond_its_depth_is_refused(tmp_path: Path) -> None:
    async with (
        FakeProvider(output_tokens=3, schedule=["hang:1"]) as provider,
        world(limited(provider, quotas=(RUNNING,)), tmp_path) as here,
    ):
        here.purse.accounts[RUNNING.name, ""] = FakeAccount(1)
        here.purse.patient = True
        _, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(message(stream=True))))
        await until(lambda: len(provider.requests()) == 1)
        async with asyncio.TaskGroup() as group:
            waits = group.create_task(here.post(MESSAGES, message()))
            await until(lambda: len(here.purse.waiting) == 1)
            refused = await here.post(MESSAGES, message())
            assert (refused.status, refused.headers["x-should-retry"]) == (429, "true")
            assert refused.headers["x-keelage-limit"] == RUNNING.name
            assert len(provider.requests()) == 1
            writer.close()  # the first one leaves: its room goes to who waits
            assert (await waits).status == 200
        assert here.purse.waits_s == [1.0, 5.0, 1.0]
        assert here.purse.accounts[RUNNING.name, ""].reserved == 0


async def test_a_call_without_room_goes_to_the_next_choice(tmp_path: Path) -> None:
    async with (
        FakeProvider() as full,
        FakeProvider() as free,
        world(limited(full, free, quotas=(RUNNING,)), tmp_path) as here,
    ):
        here.purse.accounts[RUNNING.name, ""] = FakeAccount(0)
        assert (await here.post(MESSAGES, message())).status == 200
        assert (len(full.requests()), len(free.requests())) == (0, 1)
        assert (here.records[0].attempts, here.records[0].backend) == (1, "r/anthropic1")


async def test_who_leaves_while_waiting_gives_up_its_place(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(limited(provider, quotas=(RUNNING,)), tmp_path) as here:
        here.purse.accounts[RUNNING.name, ""] = FakeAccount(0)
        here.purse.patient = True
        _, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(message())))
        await until(lambda: len(here.purse.waiting) == 1)
        writer.close()
        await until(lambda: len(here.records) == 1)
        here.purse.accounts[RUNNING.name, ""].limit = 1
        assert (await here.post(MESSAGES, message())).status == 200


async def test_who_leaves_while_waiting_buys_nothing_even_where_the_route_drains(tmp_path: Path) -> None:
    async with (
        FakeProvider() as provider,
        world(config_of([provider.url], drain=True), tmp_path) as here,
    ):
        here.purse.limit = 0
        here.purse.patient = True
        _, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(message())))
        await until(lambda: len(here.purse.waiting) == 1)
        writer.close()
        await until(lambda: len(here.records) == 1)
        assert here.records[0].outcome == "client_disconnect"
        assert provider.requests() == []


async def test_a_limit_in_tokens_is_asked_for_what_is_likely_not_for_the_cap(tmp_path: Path) -> None:
    tokens = Quota("shop/limit:r/anthropic0:outputTokensPerMinute", Unit.OUTPUT_TOKENS, 8_000, 60_000, "r",
                   backend="r/anthropic0")  # fmt: skip
    async with FakeProvider() as provider, world(limited(provider, quotas=(tokens,)), tmp_path) as here:
        for _ in range(12):
            assert (await here.post(MESSAGES, message(60_000))).status == 200
        asked = [claims[0].amount for claims, _ in here.purse.settled if claims[0].quota]
        assert asked[0] == 256
        assert asked == sorted(asked, reverse=True)
        assert 12 <= asked[-1] < 40
        assert here.purse.accounts[tokens.name, ""].spent == 12 * 12


async def test_the_providers_word_on_its_limits_is_passed_on(tmp_path: Path) -> None:
    quotas = tuple(
        Quota(f"shop/limit:r/anthropic0:{unit}", unit, 4_000, 60_000, "r", backend="r/anthropic0")
        for unit in (Unit.REQUESTS, Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS)
    )
    async with FakeProvider() as provider, world(limited(provider, quotas=quotas), tmp_path) as here:
        reply = await here.post(MESSAGES, message())
        said = [
            int(reply.headers[f"anthropic-ratelimit-{what}-remaining"])
            for what in ("requests", "input-tokens", "output-tokens")
        ]
        assert here.purse.lefts == dict(zip((quota.name for quota in quotas), said, strict=True))
