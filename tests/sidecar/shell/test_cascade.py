"""The cheap model first, then the dear one where that will not do: from a raw client to fake providers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
import pytest
from tests.sidecar.shell.proxied import GPT, HAIKU, MONTH, World, price, request, until, world
from tests.sidecar.shell.test_cached_call import ANSWER, Gate

from keelage_api.codec import seal
from keelage_api.money import PICO_PER_USD
from keelage_api.pricing import ModelPrice, Rates
from keelage_api.proxy_config import (
    Backend,
    BudgetTerms,
    Cascade,
    Downgrade,
    Hedge,
    ModelChoice,
    OnClientDisconnect,
    Provider,
    ProxyConfig,
    Retry,
    Rule,
)
from keelage_api.response_cache import ResponseCache
from keelage_api.sync import SavedBy
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.held_bytes import HELD_BYTES_ALL
from keelage_sidecar.core.log_line import Cascaded

MESSAGES, CHAT, RESPONSES = "/v1/messages", "/v1/chat/completions", "/v1/responses"
OPUS, GPT4 = "claude-opus-4-5", "gpt-4o"
PRICES = {
    Provider.ANTHROPIC: {HAIKU: price(1_000_000, 5_000_000), OPUS: price(5_000_000, 25_000_000)},
    Provider.OPENAI: {
        GPT: ModelPrice((Rates(0, 150_000, 75_000, 150_000, 150_000, 600_000),), 128_000, 16_384),
        GPT4: ModelPrice((Rates(0, 2_500_000, 1_250_000, 2_500_000, 2_500_000, 10_000_000),), 128_000, 16_384),
    },
}
CAPS = {MESSAGES: "max_tokens", CHAT: "max_completion_tokens", RESPONSES: "max_output_tokens"}
UNSURE = Cascade("fast", "deep", prefix="UNCERTAIN")
DOUBT = {HAIKU: "UNCERTAIN: who knows", GPT: "UNCERTAIN: who knows", "*": "Paris"}
FORMS = [(path, stream) for path in (MESSAGES, CHAT, RESPONSES) for stream in (False, True)]


def cascading(
    url: str,
    terms: Cascade = UNSURE,
    *,
    foreign: bool = False,
    attempts: int = 3,
    drain: bool = False,
    percent: int = 0,
) -> ProxyConfig:
    """Tiers fast and deep with a model of each API; `foreign`: deep is only to be had in the other API."""
    backends = {name: Backend(name, each, url, "llm-keys/key") for each in PRICES if (name := f"r/{each.lower()}")}
    anthropic, openai = backends
    fast: tuple[ModelChoice, ...] = (ModelChoice(anthropic, HAIKU), ModelChoice(openai, GPT))
    tiers = {"r/fast": fast, "r/deep": (ModelChoice(anthropic, OPUS), ModelChoice(openai, GPT4))}
    if foreign:
        fast, tiers["r/deep"] = (ModelChoice(openai, GPT),), (ModelChoice(anthropic, OPUS),)
    leaving = OnClientDisconnect.DRAIN if drain else OnClientDisconnect.ABORT
    rule = Rule("r", "all", fast, "fast", retry=Retry(attempts, 100, 1000), cascade=terms, on_client_disconnect=leaving)
    budget = BudgetTerms(MONTH, True, downgrades=(Downgrade(percent, "fast"),) if percent else ())
    return seal(ProxyConfig("", rules=(rule,), backends=backends, budgets=(budget,), tiers=tiers, prices=PRICES))


def body(path: str, stream: bool, **more: object) -> dict[str, object]:
    said = "input" if path == RESPONSES else "messages"
    asked = {"model": "auto", said: [{"role": "user", "content": "Capital of France?"}], CAPS[path]: 50, **more}
    if path == RESPONSES:
        asked["store"] = False
    return {**asked, "stream": True} if stream else asked


def billed(provider: FakeProvider) -> int:
    return int(provider.bill().usd * PICO_PER_USD)


def asked(provider: FakeProvider) -> list[object]:
    """The models, in the order in which they were."""
    return [orjson.loads(each.body)["model"] for each in provider.requests()]


def saved(here: World) -> list[tuple[int, int, int]]:
    return [
        (sums.amount, sums.tries, sums.hits) for _, by, sums in here.means.savings.totals() if by is SavedBy.CASCADE
    ]


@pytest.mark.parametrize(("path", "stream"), FORMS)
async def test_an_answer_that_will_do_is_all_that_is_asked_for(tmp_path: Path, path: str, stream: bool) -> None:
    async with FakeProvider(replies={"*": "Paris"}) as provider, world(cascading(provider.url), tmp_path) as here:
        reply = await here.post(path, body(path, stream))
        assert (reply.status, reply.clean, reply.headers["x-keelage-cascade"]) == (200, True, "kept")
        assert b"Pari" in reply.body
        assert asked(provider) == [HAIKU if path == MESSAGES else GPT]
        (record,) = here.records
        assert record.outcome == "ok"
        assert here.purse.spent == record.cost == billed(provider)
        # Each rate of the dear model is 5 times the cheap one's, of OpenAI's 16 2/3 times.
        dear = 5 * record.cost if path == MESSAGES else record.cost * 50 // 3
        assert saved(here) == [(dear - record.cost, 1, 1)]
        assert record.cascade == Cascaded("kept", dear - record.cost)
        assert b'"cascade":{"outcome":"kept","saved_picodollars":' in record.line()


@pytest.mark.parametrize(("path", "stream"), FORMS)
async def test_an_answer_that_will_not_do_is_never_seen_and_both_are_paid(
    tmp_path: Path, path: str, stream: bool
) -> None:
    async with FakeProvider(replies=DOUBT) as provider, world(cascading(provider.url), tmp_path) as here:
        reply = await here.post(path, body(path, stream))
        assert (reply.status, reply.clean, reply.headers["x-keelage-cascade"]) == (200, True, "escalated")
        assert b"UNCE" not in reply.body
        assert b"Pari" in reply.body
        cheap, dear = (HAIKU, OPUS) if path == MESSAGES else (GPT, GPT4)
        assert asked(provider) == [cheap, dear]
        (record,) = here.records
        assert (record.model, record.outcome, record.attempts, record.output_tokens) == (dear, "ok", 2, 2)
        assert (record.tier, reply.headers["x-keelage-tier"]) == ("deep", "deep")
        assert here.purse.spent == record.cost == billed(provider)
        assert isinstance(record.cascade, Cascaded)
        assert (record.cascade.outcome, record.cascade.cause) == ("escalated", "ReplyPrefix")
        first = record.cascade.first_answer
        assert first is not None
        assert (first.model, first.output_tokens) == (cheap, 5)
        assert saved(here) == [(-first.cost, 1, 0)]
        assert record.failed is msgspec.UNSET, "nobody has failed"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_dear_tier_of_another_api_answers_in_the_applications(tmp_path: Path, stream: bool) -> None:
    config = cascading("", foreign=True)
    async with FakeProvider(replies=DOUBT) as provider:
        config = cascading(provider.url, foreign=True)
        async with world(config, tmp_path) as here:
            for path in (CHAT, MESSAGES):
                reply = await here.post(path, body(path, stream))
                assert (reply.status, reply.clean, reply.headers["x-keelage-cascade"]) == (200, True, "escalated")
                assert (b"UNCE" in reply.body, b"Pari" in reply.body) == (False, True)
                assert (b'"choices"' in reply.body) is (path == CHAT)
            assert asked(provider) == [GPT, OPUS] * 2
            assert here.purse.spent == billed(provider)


@pytest.mark.parametrize(("path", "stream"), FORMS)
async def test_where_no_budget_pays_for_the_dear_tier_the_first_answer_is_given(
    tmp_path: Path, path: str, stream: bool
) -> None:
    async with FakeProvider(replies=DOUBT) as provider, world(cascading(provider.url), tmp_path) as here:
        here.purse.limit = 10**9 if path == MESSAGES else 10**8
        reply = await here.post(path, body(path, stream))
        assert (reply.status, reply.clean, reply.headers["x-keelage-cascade"]) == (200, True, "unpaid")
        assert b"UNCE" in reply.body
        (record,) = here.records
        assert record.cascade == Cascaded("unpaid", 0, "ReplyPrefix")
        assert (record.outcome, record.attempts, record.output_tokens) == ("ok", 1, 5)
        assert here.purse.spent == record.cost == billed(provider)
        assert saved(here) == [(0, 1, 0)]


async def test_a_budget_that_wants_cheaper_calls_keeps_them_from_escalating(tmp_path: Path) -> None:
    async with FakeProvider(replies=DOUBT) as provider, world(cascading(provider.url, percent=80), tmp_path) as here:
        here.purse.percent[MONTH] = 79
        assert (await here.post(MESSAGES, body(MESSAGES, False))).headers["x-keelage-cascade"] == "escalated"
        here.purse.percent[MONTH] = 80
        assert (await here.post(MESSAGES, body(MESSAGES, False))).headers["x-keelage-cascade"] == "unpaid"
        assert asked(provider) == [HAIKU, OPUS, HAIKU]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["529", "400", "reset"])
async def test_where_the_dear_tier_fails_the_first_answer_is_given(tmp_path: Path, fault: str, stream: bool) -> None:
    faults = {OPUS: fault, GPT4: fault}
    async with (
        FakeProvider(replies=DOUBT, model_faults=faults) as provider,
        world(cascading(provider.url), tmp_path) as here,
    ):
        reply = await here.post(MESSAGES, body(MESSAGES, stream))
        assert (reply.status, reply.clean, reply.headers["x-keelage-cascade"]) == (200, True, "failed")
        assert b"UNCE" in reply.body
        (record,) = here.records
        assert isinstance(record.cascade, Cascaded)
        assert record.cascade.outcome == "failed"
        assert (record.outcome, record.model, record.tier, record.output_tokens) == ("ok", HAIKU, "fast", 5)
        assert (reply.headers["x-keelage-model"], reply.headers["x-keelage-tier"]) == (HAIKU, "fast")


@pytest.mark.parametrize("path", [MESSAGES, CHAT, RESPONSES])
async def test_a_stream_that_begins_otherwise_flows_before_it_ends(tmp_path: Path, path: str) -> None:
    async with FakeProvider(replies={"*": "Paris it is"}) as provider:
        provider.config(model_faults={HAIKU: "hang:4", GPT: "hang:3" if path == CHAT else "hang:5"})
        async with world(cascading(provider.url), tmp_path) as here:
            reader, writer = await here.connect()
            writer.write(request("POST", path, orjson.dumps(body(path, True))))
            assert b"x-keelage-cascade: kept" in await reader.readuntil(b"Pari")
            writer.close()
            await until(lambda: bool(here.records))
            assert here.records[0].outcome == "client_disconnect"


async def test_where_the_dear_tier_fails_the_first_answer_flows_before_it_ends(tmp_path: Path) -> None:
    faults = {HAIKU: "hang:7", OPUS: "400", GPT4: "400"}
    async with (
        FakeProvider(replies=DOUBT, model_faults=faults) as provider,
        world(cascading(provider.url), tmp_path) as here,
    ):
        reader, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(body(MESSAGES, True))))
        assert b"x-keelage-cascade: failed" in await reader.readuntil(b"UNCE")
        writer.close()
        await until(lambda: bool(here.records))


async def test_an_answer_that_breaks_off_while_it_is_held_back_is_asked_for_again(tmp_path: Path) -> None:
    caps = Cascade("fast", "deep", max_tokens=True)
    async with (
        FakeProvider(replies={"*": "Paris it is"}, schedule=["cut:4"]) as provider,
        world(cascading(provider.url, caps), tmp_path) as here,
    ):
        reply = await here.post(MESSAGES, body(MESSAGES, True))
        assert (reply.status, reply.clean, reply.headers["x-keelage-cascade"]) == (200, True, "kept")
        assert reply.headers["x-keelage-tried"].startswith(f"r/anthropic {HAIKU} Reset")
        assert asked(provider) == [HAIKU, HAIKU]
        assert reply.body.count(b"message_start") == 2, "one event, named in both of its lines"


@pytest.mark.parametrize(("path", "stream"), FORMS)
async def test_an_answer_that_was_cut_by_its_cap_can_be_escalated(tmp_path: Path, path: str, stream: bool) -> None:
    caps = Cascade("fast", "deep", max_tokens=True)
    async with (
        FakeProvider(replies={HAIKU: "x" * 400, GPT: "x" * 400, "*": "Paris"}) as provider,
        world(cascading(provider.url, caps), tmp_path) as here,
    ):
        reply = await here.post(path, body(path, stream))
        assert reply.headers["x-keelage-cascade"] == "escalated"
        assert b"Pari" in reply.body
        assert isinstance(here.records[0].cascade, Cascaded)
        assert here.records[0].cascade.cause == "MaxTokens"
        assert here.purse.spent == billed(provider)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_of_a_tool_is_kept(tmp_path: Path, stream: bool) -> None:
    tool = {"name": "UNCERTAIN", "description": "d", "input_schema": {"type": "object"}}
    async with FakeProvider(replies=DOUBT) as provider, world(cascading(provider.url), tmp_path) as here:
        reply = await here.post(MESSAGES, body(MESSAGES, stream, tools=[tool]))
        assert (reply.headers["x-keelage-cascade"], b"tool_use" in reply.body) == ("kept", True)


@pytest.mark.parametrize("drain", [False, True])
async def test_who_leaves_while_an_answer_is_held_back_leaves_no_hold_behind(tmp_path: Path, drain: bool) -> None:
    async with (
        FakeProvider(replies=DOUBT, model_faults={OPUS: "hang", HAIKU: "ok"}) as provider,
        world(cascading(provider.url, drain=drain, attempts=1), tmp_path) as here,
    ):
        _, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(body(MESSAGES, True))))
        await until(lambda: len(provider.requests()) == 2)
        writer.close()
        if drain:
            provider.config(model_faults={})
            await here.server.finish()
        await until(lambda: bool(here.records))
        assert not here.purse.holds
        assert here.purse.spent >= billed(provider)


async def test_a_hedge_that_lost_before_an_escalation_is_not_told_as_the_dear_model(tmp_path: Path) -> None:
    faults = {HAIKU: "slow-first-byte:0.2", GPT: "hang"}
    async with FakeProvider(replies=DOUBT, model_faults=faults) as provider:
        config = cascading(provider.url)
        rule = msgspec.structs.replace(config.rules[0], hedge=Hedge(20))
        async with world(seal(msgspec.structs.replace(config, rules=(rule,))), tmp_path) as here:
            reply = await here.post(MESSAGES, body(MESSAGES, False))
            assert (reply.status, reply.headers["x-keelage-cascade"]) == (200, "escalated")
            assert sorted(map(str, asked(provider))) == sorted([HAIKU, GPT, OPUS])
            assert reply.headers["x-keelage-tried"].startswith(f"r/openai {GPT} Outrun")
            (record,) = here.records
            assert isinstance(record.failed, tuple)
            assert [each.model for each in record.failed] == [GPT]
            assert not here.purse.holds


async def test_only_answers_of_the_cheap_tier_that_was_selected_are_judged(tmp_path: Path) -> None:
    other = Cascade("other", "deep", prefix="UNCERTAIN")
    async with FakeProvider(replies=DOUBT) as provider, world(cascading(provider.url, other), tmp_path) as here:
        reply = await here.post(MESSAGES, body(MESSAGES, False))
        assert b"UNCE" in reply.body
        assert "x-keelage-cascade" not in reply.headers
        assert saved(here) == []


@pytest.mark.parametrize("stream", [False, True])
async def test_only_an_answer_that_will_do_is_given_again_from_the_cache(tmp_path: Path, stream: bool) -> None:
    async with FakeProvider(replies=DOUBT, model_faults={OPUS: "400", GPT4: "400"}) as provider:
        config = cascading(provider.url)
        rule = msgspec.structs.replace(config.rules[0], response_cache=ResponseCache())
        async with world(seal(msgspec.structs.replace(config, rules=(rule,))), tmp_path) as here:
            asked_for = body(MESSAGES, stream, temperature=0)
            told = []
            for faults in ({OPUS: "400", GPT4: "400"}, {}, {}):
                provider.config(model_faults=faults)
                reply = await here.post(MESSAGES, asked_for)
                told.append((reply.headers["x-keelage-cache"], reply.headers.get("x-keelage-cascade")))
            assert told == [("miss", "failed"), ("miss", "escalated"), ("hit", None)]
            assert b"Pari" in reply.body


@pytest.mark.parametrize("more", [{"conversation": "conv_1"}, {"background": True}])
async def test_a_response_that_does_more_than_answer_is_not_asked_for_twice(
    tmp_path: Path, more: dict[str, object]
) -> None:
    async with FakeProvider(replies=DOUBT) as provider:
        config = cascading(provider.url)
        budgets = (msgspec.structs.replace(config.budgets[0], hard=False),)
        async with world(seal(msgspec.structs.replace(config, budgets=budgets)), tmp_path) as here:
            reply = await here.post(RESPONSES, body(RESPONSES, False, **more))
            assert (reply.status, reply.headers.get("x-keelage-cascade")) == (200, None)
            assert asked(provider) == [GPT]


@pytest.mark.parametrize(("path", "stream"), FORMS)
async def test_without_memory_for_it_an_answer_is_passed_on_unjudged(tmp_path: Path, path: str, stream: bool) -> None:
    terms = msgspec.structs.replace(UNSURE, max_tokens=True)
    async with (
        FakeProvider(replies={"*": "Paris"}) as provider,
        world(cascading(provider.url, terms), tmp_path) as here,
    ):
        here.means.held.take(HELD_BYTES_ALL)
        reply = await here.post(path, body(path, stream))
        assert (reply.status, reply.clean, reply.headers["x-keelage-cascade"]) == (200, True, "unjudged")
        assert b"Pari" in reply.body
        assert saved(here) == [(0, 1, 0)]
        here.means.held.give_back(HELD_BYTES_ALL)
        assert (await here.post(path, body(path, stream))).headers["x-keelage-cascade"] == "kept"
        assert here.means.held.bytes == 0


@pytest.mark.parametrize("fault", ["", "cut:4", "hang:4"])
async def test_memory_comes_back_whatever_becomes_of_a_call(tmp_path: Path, fault: str) -> None:
    faults = {HAIKU: fault} if fault else {OPUS: "400"}
    async with FakeProvider(replies=DOUBT, model_faults=faults) as provider:
        config = cascading(provider.url, attempts=1)
        rule = msgspec.structs.replace(config.rules[0], response_cache=ResponseCache(sampled=True))
        async with world(seal(msgspec.structs.replace(config, rules=(rule,))), tmp_path) as here:
            _, writer = await here.connect()
            writer.write(request("POST", MESSAGES, orjson.dumps(body(MESSAGES, True))))
            if fault == "hang:4":
                await until(lambda: here.means.held.bytes > 0)
                writer.close()
            await until(lambda: bool(here.records))
            assert here.means.held.bytes == 0
            writer.close()


@pytest.mark.parametrize("cached", [False, True])
async def test_for_an_application_that_has_left_no_dear_tier_is_asked(tmp_path: Path, cached: bool) -> None:
    async with Gate() as gate:
        config = cascading(gate.url, drain=True)
        terms = ResponseCache(sampled=True) if cached else None
        rule = msgspec.structs.replace(config.rules[0], response_cache=terms)
        async with world(seal(msgspec.structs.replace(config, rules=(rule,))), tmp_path) as here:
            _, writer = await here.connect()
            writer.write(request("POST", MESSAGES, orjson.dumps(body(MESSAGES, False))))
            await until(lambda: gate.asked == 1)
            writer.close()
            await until(lambda: here.server.connected == 0)
            gate.answers.put_nowait(ANSWER.replace(b'"Hi"', b'"UNCERTAIN"'))
            await until(lambda: bool(here.records))
            (record,) = here.records
            assert (gate.asked, record.outcome, record.model) == (1, "client_disconnect", HAIKU)
            assert isinstance(record.cascade, Cascaded)
            assert (record.cascade.outcome, record.cascade.saved) == ("failed", 0)
            assert (len(here.means.responses), here.means.held.bytes) == (0, 0)
