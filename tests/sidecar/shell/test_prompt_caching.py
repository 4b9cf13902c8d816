"""Prompt caches that keelage asks for, from a raw client through the sidecar to a fake provider that keeps one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
import pytest
from msgspec import UNSET
from tests.sidecar.shell.proxied import HAIKU, World, config_of, world

from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import PromptCaching, ProxyConfig
from keelage_api.sync import SavedBy
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.prompt_cache_book import CALLS_MIN
from keelage_sidecar.core.savings import Saved

MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"
SYSTEM = "You are the assistant of a shop, and here is all of its catalogue. " * 350
INPUT, READ, WRITE = 1_000_000, 100_000, 1_250_000
"""Pico-dollars for a token of haiku."""


def caching(*providers: FakeProvider, long: bool = False) -> ProxyConfig:
    config = config_of([provider.url for provider in providers])
    rule = msgspec.structs.replace(config.rules[0], prompt_cache=PromptCaching(long))
    return msgspec.structs.replace(config, rules=(rule,))


def question(said: str = "what is cheap?", *before: str, **more: object) -> dict[str, object]:
    """A call, with what was asked and answered before."""
    turns = [{"role": ("user", "assistant")[at % 2], "content": each} for at, each in enumerate((*before, said))]
    return {"model": HAIKU, "max_tokens": 50, "system": SYSTEM, "messages": turns, **more}


def billed(provider: FakeProvider) -> int:
    """Pico-dollars on the provider's own bill."""
    return int(provider.bill().usd * PICO_PER_USD)


def usage_of(here: World) -> tuple[int, int, int]:
    """Plain, read and written tokens of the last call's log line."""
    last = here.records[-1]
    return last.input_tokens, last.cache_read_tokens, last.cache_write_5m_tokens + last.cache_write_1h_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_the_second_call_reads_what_the_first_has_written(tmp_path: Path, stream: bool) -> None:
    async with FakeProvider() as provider, world(caching(provider), tmp_path) as here:
        assert (await here.post(MESSAGES, question(stream=stream))).status == 200
        _, read, written = usage_of(here)
        assert (read, written > 4096) == (0, True)
        assert here.records[-1].prompt_cache_saved == -written * (WRITE - INPUT)
        assert (await here.post(MESSAGES, question("and what is dear?", stream=stream))).status == 200
        assert usage_of(here)[1:] == (written, 0)
        assert here.records[-1].prompt_cache == "fixed"
        assert here.records[-1].prompt_cache_saved == written * (INPUT - READ)
        assert here.purse.spent == billed(provider) == sum(record.cost for record in here.records)
        saved = Saved(written * (INPUT - READ) - written * (WRITE - INPUT), 2 * written, written)
        assert list(here.means.savings.totals()) == [("r", SavedBy.PROMPT_CACHE, saved)]


async def test_each_turn_of_a_conversation_reads_those_before(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(caching(provider), tmp_path) as here:
        said = ["what is cheap? " * 20]
        seen = 0
        for turn in range(4):
            await here.post(MESSAGES, question(said[-1], *said[:-1]))
            _, read, written = usage_of(here)
            assert read == seen
            assert (written > 0, here.records[-1].prompt_cache) == (True, "turns" if turn else "fixed")
            seen = read + written
            said += [f"answer {turn} " * 20, "and next? " * 20]


async def test_an_entry_of_an_hour_is_asked_for_and_paid(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(caching(provider, long=True), tmp_path) as here:
        await here.post(MESSAGES, question())
        assert here.records[-1].cache_write_1h_tokens > 4096
        assert here.purse.spent == billed(provider)


async def test_the_bound_holds_also_where_every_token_is_written(tmp_path: Path) -> None:
    async with FakeProvider(cache_min_tokens=1) as provider, world(caching(provider, long=True), tmp_path) as here:
        await here.post(MESSAGES, question())
        [record] = here.records
        assert not record.bound_violated
        assert record.bound > record.cost > record.cache_write_1h_tokens * 2 * INPUT > 0


async def test_at_the_limit_a_call_goes_without_breakpoints_rather_than_not_at_all(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(caching(provider, long=True), tmp_path) as here:
        await here.post(MESSAGES, question(inference_geo="global"))
        bound = here.records[-1].bound
        here.purse.limit = here.purse.spent + bound * 3 // 4
        assert (await here.post(MESSAGES, question(inference_geo="global"))).status == 200
        last = here.records[-1]
        assert (last.prompt_cache, usage_of(here)[1:]) == (UNSET, (0, 0))
        assert last.bound < bound * 3 // 4
        assert orjson.loads(provider.requests()[-1].body)["system"] == SYSTEM
        here.purse.limit = here.purse.spent + last.bound - 1
        assert (await here.post(MESSAGES, question(inference_geo="global"))).status == 429


async def test_breakpoints_are_given_up_before_the_answer_is_made_shorter(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        config = caching(provider, long=True)
        rule = msgspec.structs.replace(config.rules[0], clamp_at_least=1)
        async with world(msgspec.structs.replace(config, rules=(rule,)), tmp_path) as here:
            await here.post(MESSAGES, question(inference_geo="global"))
            marked = here.records[-1].bound
            here.purse.limit = here.purse.spent + marked * 3 // 4
            await here.post(MESSAGES, question(inference_geo="global"))
            plain = here.records[-1]
            assert (plain.clamped, plain.prompt_cache) == (0, UNSET)
            here.purse.limit = here.purse.spent + plain.bound - 1
            assert (await here.post(MESSAGES, question(inference_geo="global"))).status == 200
            short = here.records[-1]
            assert (short.clamped, short.prompt_cache) == (49, UNSET)
            assert short.bound < plain.bound
            assert orjson.loads(provider.requests()[-1].body)["system"] == SYSTEM


async def test_a_call_with_breakpoints_of_its_own_passes_byte_for_byte(tmp_path: Path) -> None:
    own = [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}]
    body = orjson.dumps(question(system=own, service_tier="standard_only"))
    async with FakeProvider() as provider, world(caching(provider), tmp_path) as here:
        await here.post(MESSAGES, body)
        assert provider.requests()[-1].body.encode() == body
        assert here.records[-1].prompt_cache is UNSET
        assert here.records[-1].cache_write_5m_tokens > 4096


async def test_a_chat_call_that_claude_answers_has_its_prompt_cached(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "what is cheap?"}]
    async with FakeProvider() as provider, world(caching(provider), tmp_path) as here:
        for _ in range(2):
            await here.post(CHAT, {"model": HAIKU, "max_completion_tokens": 50, "messages": turns})
        assert here.records[0].cache_write_5m_tokens == here.records[1].cache_read_tokens > 4096


async def test_a_retry_reads_the_prefix_where_it_was_written(tmp_path: Path) -> None:
    async with FakeProvider() as first, FakeProvider() as second, world(caching(first, second), tmp_path) as here:
        await here.post(MESSAGES, question())
        first.config(schedule=["529"])
        await here.post(MESSAGES, question())
        assert here.records[-1].attempts == 2
        assert usage_of(here)[1] > 4096
        assert not second.requests()


async def test_breakpoints_that_are_never_read_are_given_up_and_the_log_says_so(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(caching(provider), tmp_path) as here:
        for number in range(CALLS_MIN):
            if number == CALLS_MIN - 1:
                here.later_s += 300
            await here.post(MESSAGES, question(system=f"It is {number} o'clock. {SYSTEM}"))
        assert {record.prompt_cache for record in here.records} == {"fixed"}
        await here.post(MESSAGES, question())
        assert (here.records[-1].prompt_cache, usage_of(here)[1:]) == ("off", (0, 0))
        assert orjson.loads(provider.requests()[-1].body)["system"] == SYSTEM
        here.later_s += 600
        await here.post(MESSAGES, question())
        assert here.records[-1].prompt_cache == "fixed"
