"""Answers that are kept: from a raw client through the sidecar, with what the provider bills beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import orjson
import pytest
from tests.sidecar.core.streams import MESSAGE_DELTA, MESSAGE_START, MESSAGE_STOP, TEXT, anthropic_events
from tests.sidecar.shell.proxied import (
    GPT,
    HAIKU,
    MONTH,
    World,
    config_of,
    request,
    until,
    world,
)

from keelage_api.codec import seal
from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import OnClientDisconnect, ProxyConfig
from keelage_api.response_cache import CacheScope, ResponseCache
from keelage_api.sync import SavedBy, Saving
from keelage_dev.provider import FakeProvider

MESSAGES = "/v1/messages"
CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
EMBEDDINGS = "/v1/embeddings"
PATHS = [MESSAGES, CHAT, RESPONSES]
HOUR = ResponseCache()
STALE = ResponseCache(stale_ms=24 * 3_600_000)


def body(path: str, /, **fields: object) -> dict[str, object]:
    text = "hello"
    say = [{"role": "user", "content": text}]
    base: dict[str, dict[str, object]] = {
        MESSAGES: {"model": HAIKU, "max_tokens": 50, "messages": say, "temperature": 0},
        CHAT: {"model": GPT, "max_completion_tokens": 50, "messages": say, "temperature": 0},
        RESPONSES: {"model": GPT, "max_output_tokens": 50, "input": text, "temperature": 0, "store": False},
        EMBEDDINGS: {"model": "text-embedding-3-small", "input": text},
    }
    return {**base[path], **fields}


def caching(urls: list[str], terms: ResponseCache = HOUR, **changes: object) -> ProxyConfig:
    config = config_of(urls, attempts=1)
    rule = msgspec.structs.replace(config.rules[0], response_cache=terms, **changes)
    return seal(msgspec.structs.replace(config, rules=(rule,)))


_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": HAIKU,
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 5},
}
ANSWER = orjson.dumps(_MESSAGE)
STREAM = anthropic_events(MESSAGE_START, TEXT, MESSAGE_DELTA, MESSAGE_STOP)


class Gate:
    """A provider that answers a call of the Messages API when the test says so: 200, or 400 without a body."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.asked = 0

    async def __aenter__(self) -> Gate:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 20)
        self.asked += 1
        waiting = {asyncio.ensure_future(self.answers.get()), asyncio.ensure_future(reader.read(1))}
        done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            other.cancel()
        answer = done.pop().result()
        kind = b"text/event-stream" if answer is STREAM else b"application/json"
        head = b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        writer.write(head % (200 if answer else 400, kind, len(answer)) + answer)
        writer.close()


def uses(here: World) -> list[str]:
    return [record.cache for record in here.records]


def billed(provider: FakeProvider) -> int:
    return int(provider.bill().usd * PICO_PER_USD)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", PATHS)
async def test_the_same_call_is_answered_once_by_the_provider(tmp_path: Path, path: str, stream: bool) -> None:
    async with FakeProvider() as provider, world(caching([provider.url]), tmp_path) as here:
        asked = body(path, stream=stream)
        first, second = await here.post(path, asked), await here.post(path, asked)
        assert (first.status, second.status) == (200, 200)
        assert second.body == first.body
        assert second.clean
        assert len(provider.requests()) == 1
        assert first.headers["x-keelage-cache"] == "miss"
        assert "age" not in first.headers
        assert (second.headers["x-keelage-cache"], second.headers["age"]) == ("hit", "0")
        assert second.headers["content-type"] == first.headers["content-type"]
        name = "request-id" if path == MESSAGES else "x-request-id"
        assert second.headers[name] == first.headers[name], "the call that made the answer"
        for how in ("rule", "tier", "model"):
            assert second.headers.get(f"x-keelage-{how}") == first.headers.get(f"x-keelage-{how}")
        assert second.headers["x-keelage-rule"] == "r/all"
        assert second.headers["x-keelage-request-id"] != first.headers["x-keelage-request-id"]
        made, given = here.records
        assert (given.outcome, given.cost, given.attempts, given.usage_known) == ("ok", 0, 0, False)
        assert (given.route, given.rule, given.saved) == ("r", "all", made.cost)
        assert given.response_model == made.response_model
        assert given.stop_reason == made.stop_reason
        assert made.cost == billed(provider) == here.purse.spent
        assert here.means.savings.tell()[1] == (Saving("r", SavedBy.RESPONSE_CACHE, made.cost, tries=2, hits=1),)
        assert len(here.purse.settled) == 1, "a hit reserves nothing"


async def test_embeddings_are_kept_though_they_have_no_temperature(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(caching([provider.url]), tmp_path) as here:
        first, second = [await here.post(EMBEDDINGS, body(EMBEDDINGS)) for _ in range(2)]
        assert first.body == second.body
        assert uses(here) == ["miss", "hit"]
        assert len(provider.requests()) == 1


async def test_a_rule_without_a_cache_says_nothing_of_one(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        replies = [await here.post(MESSAGES, body(MESSAGES)) for _ in range(2)]
        assert all("x-keelage-cache" not in reply.headers for reply in replies)
        assert uses(here) == ["", ""]
        assert len(provider.requests()) == 2


async def test_an_answer_is_asked_for_again_when_its_ttl_is_over(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(caching([provider.url]), tmp_path) as here:
        await here.post(MESSAGES, body(MESSAGES))
        here.later_s += 3_599
        late = await here.post(MESSAGES, body(MESSAGES))
        assert (late.headers["x-keelage-cache"], late.headers["age"]) == ("hit", "3599")
        here.later_s += 2
        await here.post(MESSAGES, body(MESSAGES))
        assert uses(here) == ["miss", "hit", "miss"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (MESSAGES, {"temperature": 1}),
        (MESSAGES, {"temperature": None}),
        (CHAT, {"temperature": False}),
        (CHAT, {"store": True}),
        (RESPONSES, {"store": None}),
        (RESPONSES, {"store": True}),
        (RESPONSES, {"conversation": "conv_1", "store": False}),
        (MESSAGES, {"mcp_servers": []}),
        (MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ],
)
async def test_calls_that_are_drawn_or_do_more_than_answer_pass_by_the_cache(
    tmp_path: Path, path: str, fields: dict[str, object]
) -> None:
    asked = {name: value for name, value in body(path, **fields).items() if value is not None}
    async with FakeProvider() as provider:
        config = msgspec.structs.replace(caching([provider.url]), budgets=())
        async with world(config, tmp_path) as here:
            replies = [await here.post(path, asked) for _ in range(2)]
            assert [reply.headers["x-keelage-cache"] for reply in replies] == ["bypass", "bypass"]
            assert len(provider.requests()) == 2
            refused = await here.post(path, asked, cache_control="only-if-cached")
            assert refused.status == 504
            assert refused.headers["x-should-retry"] == "false"


async def test_a_rule_may_allow_answers_that_are_drawn(tmp_path: Path) -> None:
    terms = ResponseCache(sampled=True)
    async with FakeProvider() as provider, world(caching([provider.url], terms), tmp_path) as here:
        for _ in range(2):
            await here.post(MESSAGES, body(MESSAGES, temperature=1))
        assert uses(here) == ["miss", "hit"]


async def test_in_the_scope_of_a_user_others_ask_for_themselves(tmp_path: Path) -> None:
    terms = ResponseCache(scope=CacheScope.USER)
    async with FakeProvider() as provider, world(caching([provider.url], terms), tmp_path) as here:
        for user in ("ada", "bob", "ada", "bob"):
            await here.post(MESSAGES, body(MESSAGES), x_keelage_user=user)
        assert uses(here) == ["miss", "miss", "hit", "hit"]
        assert len(provider.requests()) == 2


class TestCacheControl:
    async def test_no_cache_asks_and_keeps_the_new_answer(self, tmp_path: Path) -> None:
        async with FakeProvider() as provider, world(caching([provider.url]), tmp_path) as here:
            first = await here.post(MESSAGES, body(MESSAGES))
            second = await here.post(MESSAGES, body(MESSAGES), cache_control="no-cache")
            third = await here.post(MESSAGES, body(MESSAGES))
            assert uses(here) == ["miss", "bypass", "hit"]
            assert third.headers["request-id"] == second.headers["request-id"] != first.headers["request-id"]

    async def test_no_store_neither_reads_nor_keeps(self, tmp_path: Path) -> None:
        async with FakeProvider() as provider, world(caching([provider.url]), tmp_path) as here:
            await here.post(MESSAGES, body(MESSAGES), cache_control="no-store")
            kept = await here.post(MESSAGES, body(MESSAGES))
            await here.post(MESSAGES, body(MESSAGES), cache_control="No-Store")
            again = await here.post(MESSAGES, body(MESSAGES))
            assert uses(here) == ["bypass", "miss", "bypass", "hit"]
            assert again.headers["request-id"] == kept.headers["request-id"]

    async def test_max_age_takes_only_younger_answers(self, tmp_path: Path) -> None:
        async with FakeProvider() as provider, world(caching([provider.url]), tmp_path) as here:
            await here.post(MESSAGES, body(MESSAGES))
            here.later_s += 100
            await here.post(MESSAGES, body(MESSAGES), cache_control="max-age=200")
            await here.post(MESSAGES, body(MESSAGES), cache_control="max-age=50")
            here.later_s += 10
            await here.post(MESSAGES, body(MESSAGES), cache_control="max-age=50")
            assert uses(here) == ["miss", "hit", "miss", "hit"]

    async def test_only_if_cached_never_asks(self, tmp_path: Path) -> None:
        async with FakeProvider() as provider, world(caching([provider.url]), tmp_path) as here:
            refused = await here.post(MESSAGES, body(MESSAGES), cache_control="only-if-cached")
            assert refused.status == 504
            error = refused.json()["error"]
            assert isinstance(error, dict)
            assert error["message"] == (
                "the call says `Cache-Control: only-if-cached`, but no answer to it is kept; without `only-if-cached` a"
                " provider is asked"
            )
            await here.post(MESSAGES, body(MESSAGES))
            given = await here.post(MESSAGES, body(MESSAGES), cache_control="only-if-cached")
            assert given.headers["x-keelage-cache"] == "hit"
            assert len(provider.requests()) == 1


class TestTogether:
    """Calls that ask for the same at the same time."""

    async def test_they_wait_for_one(self, tmp_path: Path) -> None:
        async with Gate() as gate, world(caching([gate.url]), tmp_path) as here:
            calls = [asyncio.ensure_future(here.post(MESSAGES, body(MESSAGES))) for _ in range(20)]
            await until(lambda: here.server.active == 20 and gate.asked == 1)
            gate.answers.put_nowait(ANSWER)
            replies = await asyncio.gather(*calls)
            assert {reply.body for reply in replies} == {ANSWER}
            assert sorted(uses(here)) == ["hit"] * 19 + ["miss"]
            assert gate.asked == 1

    async def test_those_who_wait_for_a_stream_get_it_whole(self, tmp_path: Path) -> None:
        async with Gate() as gate, world(caching([gate.url]), tmp_path) as here:
            calls = [asyncio.ensure_future(here.post(MESSAGES, body(MESSAGES, stream=True))) for _ in range(5)]
            await until(lambda: here.server.active == 5 and gate.asked == 1)
            gate.answers.put_nowait(STREAM)
            replies = await asyncio.gather(*calls)
            assert {reply.body for reply in replies} == {STREAM}
            assert all(reply.clean for reply in replies)
            assert sorted(uses(here)) == ["hit"] * 4 + ["miss"]

    async def test_when_the_first_leaves_the_next_one_asks_and_the_others_wait_on(self, tmp_path: Path) -> None:
        async with Gate() as gate, world(caching([gate.url]), tmp_path) as here:
            _, first = await here.connect()
            first.write(request("POST", MESSAGES, orjson.dumps(body(MESSAGES))))
            await until(lambda: gate.asked == 1)
            calls = [asyncio.ensure_future(here.post(MESSAGES, body(MESSAGES))) for _ in range(9)]
            await until(lambda: here.server.active == 10)
            first.close()
            await until(lambda: gate.asked == 2)
            gate.answers.put_nowait(ANSWER)
            replies = await asyncio.gather(*calls)
            assert {reply.status for reply in replies} == {200}
            assert [record.outcome for record in here.records[:1]] == ["client_disconnect"]
            assert sorted(uses(here)) == ["hit"] * 8 + ["miss"] * 2
            assert gate.asked == 2

    @pytest.mark.parametrize("stream", [False, True])
    async def test_when_the_first_leaves_an_answer_that_is_drained_they_get_that(
        self, tmp_path: Path, stream: bool
    ) -> None:
        async with Gate() as gate:
            config = caching([gate.url], on_client_disconnect=OnClientDisconnect.DRAIN)
            async with world(config, tmp_path) as here:
                _, first = await here.connect()
                first.write(request("POST", MESSAGES, orjson.dumps(body(MESSAGES, stream=stream))))
                await until(lambda: gate.asked == 1)
                calls = [asyncio.ensure_future(here.post(MESSAGES, body(MESSAGES, stream=stream))) for _ in range(5)]
                await until(lambda: here.server.active == 6)
                first.close()
                await until(lambda: here.server.connected == 5)
                gate.answers.put_nowait(STREAM if stream else ANSWER)
                replies = await asyncio.gather(*calls)
                assert {reply.body for reply in replies} == {STREAM if stream else ANSWER}
                assert gate.asked == 1
                assert sorted(uses(here)) == ["hit"] * 5 + ["miss"]
                assert [record.outcome for record in here.records].count("client_disconnect") == 1

    async def test_answers_are_kept_though_connections_close_behind_them_while_others_are_under_way(
        self, tmp_path: Path
    ) -> None:
        async with Gate() as gate, world(caching([gate.url]), tmp_path) as here:
            bodies = [body(MESSAGES, max_tokens=50 + number) for number in range(4)]
            calls = [asyncio.ensure_future(here.post(MESSAGES, each)) for each in bodies]
            await until(lambda: gate.asked == 4)
            for _ in range(8):
                gate.answers.put_nowait(ANSWER)
            await asyncio.gather(*calls)
            again = [await here.post(MESSAGES, each) for each in bodies]
            assert [reply.headers["x-keelage-cache"] for reply in again] == ["hit"] * 4
            assert gate.asked == 4

    async def test_when_the_first_one_fails_the_others_ask_for_themselves(self, tmp_path: Path) -> None:
        async with Gate() as gate, world(caching([gate.url]), tmp_path) as here:
            calls = [asyncio.ensure_future(here.post(MESSAGES, body(MESSAGES))) for _ in range(4)]
            await until(lambda: here.server.active == 4 and gate.asked == 1)
            gate.answers.put_nowait(b"")
            await until(lambda: gate.asked == 4)
            for _ in range(3):
                gate.answers.put_nowait(ANSWER)
            replies = await asyncio.gather(*calls)
            assert sorted(reply.status for reply in replies) == [200, 200, 200, 400]
            assert uses(here) == ["miss"] * 4

    async def test_who_refreshes_does_not_wait_for_others(self, tmp_path: Path) -> None:
        async with Gate() as gate, world(caching([gate.url]), tmp_path) as here:
            calls = [
                asyncio.ensure_future(here.post(MESSAGES, body(MESSAGES))),
                asyncio.ensure_future(here.post(MESSAGES, body(MESSAGES), cache_control="no-cache")),
            ]
            await until(lambda: gate.asked == 2)
            gate.answers.put_nowait(ANSWER)
            gate.answers.put_nowait(ANSWER)
            assert [reply.status for reply in await asyncio.gather(*calls)] == [200, 200]


class TestStale:
    """Answers that are too old, where there is no other."""

    @pytest.mark.parametrize("fault", ["529", "500", "429", "reset", "reset-billed"])
    async def test_one_is_given_when_every_provider_fails(self, tmp_path: Path, fault: str) -> None:
        async with (
            FakeProvider(schedule=["ok", fault, "ok"]) as provider,
            world(caching([provider.url], STALE), tmp_path) as here,
        ):
            first = await here.post(MESSAGES, body(MESSAGES))
            here.later_s += 4_000
            given = await here.post(MESSAGES, body(MESSAGES))
            assert (given.status, given.body) == (200, first.body)
            assert (given.headers["x-keelage-cache"], given.headers["age"]) == ("stale", "4000")
            assert given.headers["x-keelage-tried"].startswith(f"r/anthropic0 {HAIKU}")
            record = here.records[-1]
            assert (record.outcome, record.cache, record.saved) == ("ok", "stale", here.records[0].cost)
            fresh = await here.post(MESSAGES, body(MESSAGES))
            assert fresh.headers["x-keelage-cache"] == "miss"
            assert here.purse.spent >= billed(provider)

    async def test_one_is_given_when_the_budget_is_used_up(self, tmp_path: Path) -> None:
        async with FakeProvider() as provider, world(caching([provider.url], STALE), tmp_path) as here:
            await here.post(MESSAGES, body(MESSAGES))
            here.later_s += 4_000
            here.purse.limit = here.purse.spent
            given = await here.post(MESSAGES, body(MESSAGES))
            assert (given.status, given.headers["x-keelage-cache"]) == (200, "stale")
            record = here.records[-1]
            assert (record.outcome, record.reason, record.budget, record.cost) == ("ok", "BudgetExhausted", MONTH, 0)
            refused = await here.post(MESSAGES, body(MESSAGES, max_tokens=51))
            assert refused.status == 429, "another call"

    async def test_one_is_not_given_after_its_time_nor_against_the_callers_word(self, tmp_path: Path) -> None:
        async with (
            FakeProvider(schedule=["ok", "529", "529", "529"]) as provider,
            world(caching([provider.url], STALE), tmp_path) as here,
        ):
            await here.post(MESSAGES, body(MESSAGES))
            here.later_s += 4_000
            for control in ("no-cache", "max-age=60"):
                assert (await here.post(MESSAGES, body(MESSAGES), cache_control=control)).status == 529
            here.later_s += 24 * 3_600
            assert (await here.post(MESSAGES, body(MESSAGES))).status == 529

    async def test_what_is_wrong_with_the_call_itself_is_told(self, tmp_path: Path) -> None:
        async with (
            FakeProvider(schedule=["ok", "400"]) as provider,
            world(caching([provider.url], STALE), tmp_path) as here,
        ):
            await here.post(MESSAGES, body(MESSAGES))
            here.later_s += 4_000
            assert (await here.post(MESSAGES, body(MESSAGES))).status == 400

    async def test_without_a_spare_answer_the_providers_error_is_passed_on(self, tmp_path: Path) -> None:
        async with (
            FakeProvider(schedule=["529"]) as provider,
            world(caching([provider.url], STALE), tmp_path) as here,
        ):
            failed = await here.post(MESSAGES, body(MESSAGES))
            assert (failed.status, failed.headers["x-keelage-cache"]) == (529, "miss")


class TestNotKept:
    @pytest.mark.parametrize("fault", ["400", "error-event", "cut:4", "eof:4", "malformed-json", "malformed-sse"])
    async def test_errors_and_parts_of_answers_are_not(self, tmp_path: Path, fault: str) -> None:
        stream = fault not in ("400", "malformed-json")
        async with (
            FakeProvider(schedule=[fault, "ok"]) as provider,
            world(caching([provider.url]), tmp_path) as here,
        ):
            await here.post(MESSAGES, body(MESSAGES, stream=stream))
            second = await here.post(MESSAGES, body(MESSAGES, stream=stream))
            assert second.headers["x-keelage-cache"] == "miss"
            assert second.status == 200

    async def test_what_a_budget_had_made_cheaper_is_not(self, tmp_path: Path) -> None:
        async with FakeProvider() as provider:
            config = caching([provider.url], clamp_at_least=10)
            async with world(config, tmp_path) as here:
                here.purse.limit = 1_000_000_000
                first = await here.post(MESSAGES, body(MESSAGES, max_tokens=60_000))
                assert first.headers["x-keelage-clamped"]
                here.purse.limit = 10**18
                second = await here.post(MESSAGES, body(MESSAGES, max_tokens=60_000))
                assert second.headers["x-keelage-cache"] == "miss"
                assert "x-keelage-clamped" not in second.headers
