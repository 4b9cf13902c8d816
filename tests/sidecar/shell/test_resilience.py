"""Providers that fail, come back, or are late, from a raw client through the sidecar."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import orjson
import pytest
from tests.sidecar.shell.proxied import GPT, HAIKU, IMPATIENT, World, config_of, request, until, world

from keelage_api.codec import seal
from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import (
    CircuitBreaker,
    Hedge,
    ModelChoice,
    OnClientDisconnect,
    ProxyConfig,
    RetryBudget,
)
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.breaker import State
from keelage_sidecar.core.log_line import CallRecord

MESSAGES = "/v1/messages"
CHAT = "/v1/chat/completions"


def body(path: str, stream: bool = False) -> dict[str, object]:
    cap = {"model": HAIKU, "max_tokens": 50} if path == MESSAGES else {"model": GPT, "max_completion_tokens": 50}
    return {**cap, "messages": [{"role": "user", "content": "hello"}], **({"stream": True} if stream else {})}


def with_rule(config: ProxyConfig, **changes: object) -> ProxyConfig:
    return seal(msgspec.structs.replace(config, rules=(msgspec.structs.replace(config.rules[0], **changes),)))


def breaking(config: ProxyConfig, terms: CircuitBreaker) -> ProxyConfig:
    backends = {name: msgspec.structs.replace(each, circuit_breaker=terms) for name, each in config.backends.items()}
    return seal(msgspec.structs.replace(config, backends=backends))


def billed(*providers: FakeProvider) -> int:
    """Pico-dollars on the providers' own bills."""
    return int(sum(provider.bill().usd for provider in providers) * PICO_PER_USD)


def failures(record: CallRecord) -> list[int | str | None]:
    """Of the attempts before the answer."""
    return (
        [] if isinstance(record.failed, msgspec.UnsetType) else [each.failure or each.status for each in record.failed]
    )


async def statuses(here: World, path: str, count: int) -> list[int]:
    return [(await here.post(path, body(path))).status for _ in range(count)]


async def test_a_provider_that_is_dead_is_left_alone_until_a_probe_finds_it_alive(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["500"] * 4) as provider,
        world(breaking(config_of([provider.url], attempts=1), CircuitBreaker(3, open_base_ms=4_000)), tmp_path) as here,
    ):
        assert await statuses(here, MESSAGES, 5) == [500, 500, 500, 503, 503]
        assert len(provider.requests()) == 3
        refused = await here.post(MESSAGES, body(MESSAGES))
        assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("4", "true")
        assert refused.headers["x-keelage-tried"] == f"r/anthropic0 {HAIKU} CircuitOpen"
        assert refused.json()["error"] == {
            "type": "api_error",
            "message": f"backend r/anthropic0, model '{HAIKU}': its last calls have failed, so it is not asked for"
            " 4.0 s (`circuitBreaker`): the log of calls says how; add another model to the tier to fall back on",
        }
        assert here.records[-1].reason == "UpstreamUnavailable"
        assert here.records[-1].outcome == "upstream_error"
        assert here.records[-1].attempts == 0
        here.later_s += 4.5
        assert await statuses(here, MESSAGES, 2) == [500, 503], "the probe has failed"
        here.later_s += 8.5
        assert await statuses(here, MESSAGES, 3) == [200, 200, 200]
        assert (await here.post(CHAT, body(CHAT))).status == 200


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
async def test_while_one_backend_is_dead_calls_go_straight_to_the_next(tmp_path: Path, path: str) -> None:
    config = breaking(config_of(["http://127.0.0.1:1"]), CircuitBreaker(3))
    async with FakeProvider() as good:
        config = breaking(config_of(["http://127.0.0.1:1", good.url]), CircuitBreaker(3))
        async with world(config, tmp_path) as here:
            assert await statuses(here, path, 4) == [200] * 4
            assert [record.attempts for record in here.records] == [3, 2, 1, 1]
            assert failures(here.records[-1]) == ["CircuitOpen"]
            assert here.purse.spent == billed(good)


async def test_4xx_of_the_application_never_opens_a_circuit(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["400", "401", "404", "413", "422", "429"] * 3) as provider,
        world(breaking(config_of([provider.url], attempts=1), CircuitBreaker(2)), tmp_path) as here,
    ):
        assert 503 not in await statuses(here, MESSAGES, 18)
        assert len(provider.requests()) == 18


@pytest.mark.parametrize("refusal", ["400", "401", "429"])
async def test_a_probe_that_the_provider_refuses_in_good_order_closes_the_circuit(tmp_path: Path, refusal: str) -> None:
    async with (
        FakeProvider(schedule=["500", refusal]) as provider,
        world(breaking(config_of([provider.url], attempts=1), CircuitBreaker(1, open_base_ms=4_000)), tmp_path) as here,
    ):
        assert await statuses(here, MESSAGES, 2) == [500, 503]
        here.later_s += 4.5
        assert await statuses(here, MESSAGES, 1) == [int(refusal)]
        assert [each.state for each in here.means.health.figures()] == [State.CLOSED]


async def test_streams_that_are_cut_open_the_circuit(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["cut:4"] * 3) as provider,
        world(breaking(config_of([provider.url]), CircuitBreaker(3)), tmp_path) as here,
    ):
        for _ in range(3):
            reply = await here.post(MESSAGES, body(MESSAGES, stream=True))
            assert (reply.status, reply.clean) == (200, False)
        assert (await here.post(MESSAGES, body(MESSAGES, stream=True))).status == 503


async def test_an_application_that_leaves_says_nothing_about_the_provider(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["hang"] * 3) as provider,
        world(breaking(config_of([provider.url]), CircuitBreaker(1)), tmp_path) as here,
    ):
        for _ in range(3):
            _, writer = await here.connect()
            writer.write(request("POST", MESSAGES, orjson.dumps(body(MESSAGES))))
            await until(lambda: len(provider.requests()) > len(here.records))
            writer.close()
            await until(lambda: len(provider.requests()) == len(here.records))
        assert await statuses(here, MESSAGES, 1) == [200]


async def test_an_application_that_waits_less_than_the_backends_own_time_says_nothing_about_it(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["hang"] * 4) as provider,
        world(breaking(config_of([provider.url]), CircuitBreaker(1)), tmp_path) as here,
    ):
        for _ in range(2):
            reply = await here.post(MESSAGES, body(MESSAGES), x_stainless_read_timeout="0.2")
            assert reply.status == 504
        assert len(provider.requests()) == 2


async def test_a_provider_without_room_is_asked_last_until_the_time_that_it_named(tmp_path: Path) -> None:
    async with FakeProvider(schedule=["429:30"]) as first, FakeProvider() as second:
        config = config_of([first.url, second.url])
        async with world(config, tmp_path) as here:
            assert await statuses(here, MESSAGES, 3) == [200] * 3
            assert (len(first.requests()), len(second.requests())) == (1, 3)
            assert [record.backend for record in here.records] == ["r/anthropic1"] * 3
            here.later_s += 30.0
            assert await statuses(here, MESSAGES, 1) == [200]
            assert here.records[-1].backend == "r/anthropic0"


async def test_beyond_the_retry_budget_the_last_answer_is_handed_on_at_once(tmp_path: Path) -> None:
    async with FakeProvider(schedule=["529"] * 20) as provider:
        config = config_of([provider.url])
        retry = msgspec.structs.replace(config.rules[0].retry, budget=RetryBudget(0, 3))
        config = breaking(with_rule(config, retry=retry), CircuitBreaker(1000, 100, 1000))
        async with world(config, tmp_path) as here:
            assert await statuses(here, MESSAGES, 4) == [529] * 4
            assert [record.attempts for record in here.records] == [3, 2, 1, 1]


@pytest.mark.parametrize(("path", "model", "kind"), [(MESSAGES, HAIKU, "anthropic"), (CHAT, GPT, "openai")])
async def test_when_all_have_failed_the_error_lists_what_was_tried(
    tmp_path: Path, path: str, model: str, kind: str
) -> None:
    async with (
        FakeProvider(schedule=["529"] * 9) as bad,
        FakeProvider(schedule=["hang"] * 9) as slow,
        world(config_of([bad.url, slow.url], attempts=2, timeouts=IMPATIENT), tmp_path) as here,
    ):
        reply = await here.post(path, body(path))
        error = reply.json()["error"]
        assert isinstance(error, dict)
        assert reply.status == 504
        assert error["type"] == ("timeout_error" if path == MESSAGES else "server_error")
        assert f"tried in this order: r/{kind}0 {model} " in str(error["message"])
        assert f"ms, r/{kind}1 {model} Timeout " in str(error["message"])
        assert reply.headers["x-keelage-tried"] in str(error["message"])
        assert reply.headers["x-should-retry"] == "false"
        assert failures(here.records[0]) == [529, "Timeout"]


async def test_an_answer_after_others_have_failed_names_them_in_a_header(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["529"]) as bad,
        FakeProvider() as good,
        world(config_of([bad.url, good.url], attempts=2), tmp_path) as here,
    ):
        reply = await here.post(MESSAGES, body(MESSAGES))
        assert reply.headers["x-keelage-tried"].startswith(f"r/anthropic0 {HAIKU} 529 ")
        quiet = await here.post(MESSAGES, body(MESSAGES))
        assert "x-keelage-tried" not in quiet.headers
        assert failures(here.records[1]) == []


async def test_a_canary_gets_its_share_of_users_who_stay_with_it(tmp_path: Path) -> None:
    async with FakeProvider() as stable, FakeProvider() as canary:
        config = config_of([stable.url, canary.url])
        choices = (ModelChoice("r/anthropic0", HAIKU, 80), ModelChoice("r/anthropic1", HAIKU, 20))
        async with world(with_rule(config, choices=choices), tmp_path) as here:
            for _ in range(2):
                for number in range(40):
                    assert (await here.post(MESSAGES, body(MESSAGES), x_keelage_user=f"user-{number}")).status == 200
            backends = [record.backend for record in here.records]
            assert backends[:40] == backends[40:]
            assert 1 <= Counter(backends[:40])["r/anthropic1"] <= 20


def hedging(first: FakeProvider, second: FakeProvider, after_ms: int = 20) -> ProxyConfig:
    return with_rule(config_of([first.url, second.url]), hedge=Hedge(after_ms))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [MESSAGES, CHAT])
async def test_a_late_provider_is_outrun_and_charged_all_the_same(tmp_path: Path, path: str, stream: bool) -> None:
    async with (
        FakeProvider(schedule=["hang"]) as late,
        FakeProvider() as prompt,
        world(hedging(late, prompt), tmp_path) as here,
    ):
        reply = await here.post(path, body(path, stream))
        assert (reply.status, reply.clean) == (200, True)
        record = here.records[0]
        assert (record.attempts, record.hedge, record.uncertain) == (2, "won", True)
        assert failures(record) == ["Outrun"]
        assert record.backend.endswith("1")
        assert record.usage_known
        assert len(here.purse.settled) == 2
        bound = max(amount for _, amount in here.purse.settled)
        assert here.purse.spent == billed(prompt) + bound
        await until(lambda: late.connections == 0)


async def test_a_first_answer_that_comes_in_time_is_never_hedged(tmp_path: Path) -> None:
    async with (
        FakeProvider() as first,
        FakeProvider() as second,
        world(hedging(first, second, 60_000), tmp_path) as here,
    ):
        assert await statuses(here, MESSAGES, 3) == [200] * 3
        assert (len(second.requests()), here.records[0].hedge) == (0, "")


async def test_a_hedge_that_loses_is_told_and_its_provider_let_go(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["slow-first-byte:0.2"]) as first,
        FakeProvider(schedule=["hang"]) as second,
        world(hedging(first, second), tmp_path) as here,
    ):
        assert await statuses(here, MESSAGES, 1) == [200]
        assert (here.records[0].hedge, here.records[0].backend) == ("lost", "r/anthropic0")
        assert here.purse.spent >= billed(first, second)


async def test_a_hedge_that_no_budget_can_pay_for_is_not_made(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["ok"] + ["slow-first-byte:0.2"] * 2) as first,
        FakeProvider() as second,
        world(hedging(first, second), tmp_path) as here,
    ):
        assert await statuses(here, MESSAGES, 1) == [200]
        here.purse.limit = here.purse.spent + 2 * here.records[0].bound - 1
        assert await statuses(here, MESSAGES, 1) == [200]
        assert len(second.requests()) == 0
        here.purse.limit = here.purse.spent + 2 * here.records[0].bound
        assert await statuses(here, MESSAGES, 1) == [200]
        assert len(second.requests()) == 1


async def test_when_both_of_a_hedge_fail_the_call_goes_on_as_after_two_attempts(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["slow-first-byte:0.2,529"]) as first,
        FakeProvider(schedule=["slow-first-byte:0.1,529"]) as second,
        FakeProvider() as third,
    ):
        config = with_rule(config_of([first.url, second.url, third.url]), hedge=Hedge(20))
        async with world(config, tmp_path) as here:
            assert await statuses(here, MESSAGES, 1) == [200]
            assert here.records[0].backend == "r/anthropic2"
            assert here.records[0].attempts == 3
            assert here.purse.spent == billed(third)


async def test_an_application_that_leaves_stops_both_attempts(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["hang"]) as first,
        FakeProvider(schedule=["hang"]) as second,
        world(hedging(first, second), tmp_path) as here,
    ):
        _, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(body(MESSAGES))))
        await until(lambda: len(second.requests()) == 1)
        writer.close()
        await until(lambda: len(here.purse.settled) == 2)
        await until(lambda: first.connections == second.connections == 0)
        await until(lambda: len(here.records) == 1)
        assert here.records[0].outcome == "client_disconnect"


async def test_nobody_is_asked_beside_a_late_provider_for_an_application_that_has_left(tmp_path: Path) -> None:
    async with (
        FakeProvider(schedule=["slow-first-byte:0.3"]) as late,
        FakeProvider() as prompt,
        world(with_rule(hedging(late, prompt, 100), on_client_disconnect=OnClientDisconnect.DRAIN), tmp_path) as here,
    ):
        _, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(body(MESSAGES))))
        await until(lambda: len(late.requests()) == 1)
        writer.close()
        await until(lambda: len(here.records) == 1)
        assert here.records[0].outcome == "client_disconnect"
        assert here.purse.spent == billed(late)
        assert prompt.requests() == []
