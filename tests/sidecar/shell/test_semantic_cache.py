"""Answers that are given to calls which ask the same in other words: what they cost, whose they are, what may fail."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import orjson
import pytest
from tests.sidecar.core.question_pairs import pairs
from tests.sidecar.shell.proxied import GPT, HAIKU, World, world
from tests.sidecar.shell.test_cached_call import CHAT, MESSAGES, RESPONSES, billed, caching, uses

from keelage_api.proxy_config import ModelChoice, Provider, ProxyConfig
from keelage_api.response_cache import CacheScope, ResponseCache, Semantic
from keelage_api.selection import Selection, Size, When
from keelage_api.sync import SavedBy, Saving
from keelage_dev.provider import FakeProvider
from keelage_sidecar.shell.near_answers import PAUSE_S

EMBED = "text-embedding-3-small"
ONE, OTHER, THIRD = (
    "How do I reset my password?",
    "Please tell me how to reset my password.",
    "how can I reset my password",
)
FORMS = [(path, stream) for path in (MESSAGES, CHAT, RESPONSES) for stream in (False, True)]


def asking(path: str, text: str, /, **fields: object) -> dict[str, object]:
    if path == RESPONSES:
        return {"model": GPT, "max_output_tokens": 50, "input": text, "store": False, **fields}
    cap = "max_tokens" if path == MESSAGES else "max_completion_tokens"
    model = HAIKU if path == MESSAGES else GPT
    return {"model": model, cap: 50, "messages": [{"role": "user", "content": text}], **fields}


def near(url: str, terms: ResponseCache | None = None, **changes: object) -> ProxyConfig:
    """With an embedder at the same provider."""
    semantic = msgspec.structs.replace(Semantic("r/openai0", EMBED, 64), **changes)
    return caching([url], msgspec.structs.replace(terms or ResponseCache(sampled=True), semantic=semantic))


async def ask(here: World, text: str, path: str = MESSAGES, **headers: str) -> str:
    """What became of the call in the cache."""
    reply = await here.post(path, asking(path, text), **headers)
    assert reply.status == 200
    return reply.headers["x-keelage-cache"]


def embedded(provider: FakeProvider) -> list[list[str]]:
    """The texts of each call of the embedder."""
    return [orjson.loads(each.body)["input"] for each in provider.requests() if each.path == "/v1/embeddings"]


@pytest.mark.parametrize(("path", "stream"), FORMS)
async def test_the_same_question_in_other_words_gets_the_answer_for_the_price_of_the_vectors(
    tmp_path: Path, path: str, stream: bool
) -> None:
    async with FakeProvider(vectors="alike") as provider, world(near(provider.url), tmp_path) as here:
        first = await here.post(path, asking(path, ONE, stream=stream))
        answered = here.purse.spent
        assert embedded(provider) == []
        here.later_s += 7
        second = await here.post(path, asking(path, OTHER, stream=stream))
        assert (second.status, second.body) == (200, first.body)
        assert (second.headers["x-keelage-cache"], second.headers["age"]) == ("semantic", "7")
        assert embedded(provider) == [[OTHER, ONE]]
        made, vectors, given = here.records
        assert (vectors.purpose, vectors.outcome, vectors.request_id) == ("embedding", "ok", "2/embedding")
        assert (given.cache, given.cache_similarity, given.cost) == ("semantic", 1.0, 0)
        assert (given.saved, given.route, given.rule) == (made.cost, "r", "all")
        assert here.purse.spent == answered + vectors.cost == billed(provider)
        assert here.means.savings.tell()[1] == (
            Saving("r", SavedBy.RESPONSE_CACHE, 0, 2, 0),
            Saving("r", SavedBy.SEMANTIC_CACHE, made.cost - vectors.cost, 1, 1),
        )


async def test_a_vector_is_paid_for_once(tmp_path: Path) -> None:
    async with FakeProvider(vectors="alike") as provider, world(near(provider.url), tmp_path) as here:
        for text in (ONE, OTHER, OTHER, THIRD, THIRD, ONE):
            await ask(here, text)
        assert uses(here) == ["miss", "", "semantic", "semantic", "", "semantic", "semantic", "hit"]
        assert embedded(provider) == [[OTHER, ONE], [THIRD]]


async def test_nothing_is_paid_where_nothing_could_be_found(tmp_path: Path) -> None:
    async with FakeProvider(vectors="alike") as provider, world(near(provider.url), tmp_path) as here:
        for text in ("How do I close an account?", "How do I open an account?", ONE, "What is 5?", "What is 6?"):
            await ask(here, text)
        assert embedded(provider) == []
        assert set(uses(here)) == {"miss"}


async def test_no_near_miss_gets_the_others_answer_from_the_worst_of_embedders(tmp_path: Path) -> None:
    async with FakeProvider(vectors="alike") as provider, world(near(provider.url), tmp_path) as here:
        for _, one, other in pairs("near_misses")[::6]:
            for text in (one, other):
                assert await ask(here, text) in ("miss", "hit"), (one, other)


async def test_what_the_embedder_finds_unlike_is_asked_and_kept(tmp_path: Path) -> None:
    async with FakeProvider(vectors="digest") as provider, world(near(provider.url), tmp_path) as here:
        for text in (ONE, OTHER, THIRD):
            assert await ask(here, text) == "miss"
        assert embedded(provider) == [[OTHER, ONE], [THIRD]]
        assert await ask(here, OTHER) == "hit"
        costs = sum(record.cost for record in here.records if record.purpose == "embedding")
        assert here.means.savings.tell()[1][1] == Saving("r", SavedBy.SEMANTIC_CACHE, -costs, 2, 0)


@pytest.mark.parametrize(("threshold", "use"), [(0.5, "semantic"), (0.99, "miss")])
async def test_the_threshold_decides(tmp_path: Path, threshold: float, use: str) -> None:
    async with (
        FakeProvider(vectors="words") as provider,
        world(near(provider.url, threshold=threshold), tmp_path) as here,
    ):
        await ask(here, ONE)
        assert await ask(here, THIRD) == use


@pytest.mark.parametrize("fault", ["500", "429", "hang", "reset"])
async def test_an_embedder_that_fails_makes_a_miss_and_is_left_alone_for_a_while(tmp_path: Path, fault: str) -> None:
    async with (
        FakeProvider(vectors="alike", model_faults={EMBED: fault}) as provider,
        world(near(provider.url, timeout_ms=100), tmp_path) as here,
    ):
        assert [await ask(here, text) for text in (ONE, OTHER, THIRD)] == ["miss"] * 3
        assert len(embedded(provider)) == 1
        assert [each.outcome for each in here.records if each.purpose == "embedding"] == ["upstream_error"]
        provider.config(model_faults={})
        here.later_s += PAUSE_S + 60
        assert await ask(here, "I want to know how to reset my password") == "semantic"


async def test_an_embedder_whose_cost_no_hard_budget_can_bound_is_a_miss(tmp_path: Path) -> None:
    async with FakeProvider(vectors="alike") as provider:
        config = near(provider.url)
        unpriced = msgspec.structs.replace(config, prices={**config.prices, Provider.OPENAI: {}})
        async with world(unpriced, tmp_path) as here:
            assert [await ask(here, text) for text in (ONE, OTHER)] == ["miss", "miss"]
            assert embedded(provider) == []


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"data":[{"index":0,"embedding":[0]}],"usage":{"prompt_tokens":1}}'])
async def test_an_embedder_that_talks_nonsense_is_a_miss(tmp_path: Path, answer: bytes) -> None:
    async with FakeProvider() as provider, _Nonsense(answer) as embedder:
        config = near(provider.url)
        backend = msgspec.structs.replace(config.backends["r/openai0"], endpoint=embedder.url)
        backends = {**config.backends, "r/openai0": backend}
        async with world(msgspec.structs.replace(config, backends=backends), tmp_path) as here:
            assert [await ask(here, text) for text in (ONE, OTHER)] == ["miss", "miss"]
            assert embedder.asked == 1


class _Nonsense:
    """A server that answers everything with those bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.asked = 0

    async def __aenter__(self) -> _Nonsense:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 20)
        self.asked += 1
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        writer.write(head % len(self._answer) + self._answer)
        writer.close()


async def test_an_answer_that_is_too_old_is_not_given_but_where_there_is_no_other(tmp_path: Path) -> None:
    terms = ResponseCache(sampled=True, ttl_ms=60_000, stale_ms=600_000)
    async with (
        FakeProvider(vectors="alike") as provider,
        world(near(provider.url, terms, ttl_ms=30_000), tmp_path) as here,
    ):
        await ask(here, ONE)
        here.later_s += 31
        provider.config(model_faults={HAIKU: "529"})
        assert await ask(here, OTHER) == "stale"
        assert here.records[-1].cache_similarity == 1.0
        provider.config(model_faults={})
        here.later_s += 60
        assert await ask(here, OTHER) == "miss"
        assert [each.cache_similarity for each in here.records][-1] is msgspec.UNSET
        here.later_s += 700
        assert await ask(here, THIRD) == "miss"


@pytest.mark.parametrize(
    ("control", "use"),
    [("no-cache", "bypass"), ("no-store", "bypass"), ("max-age=5", "miss"), ("max-age=50", "semantic")],
)
async def test_the_calls_own_word_counts(tmp_path: Path, control: str, use: str) -> None:
    async with FakeProvider(vectors="alike") as provider, world(near(provider.url), tmp_path) as here:
        await ask(here, ONE)
        here.later_s += 10
        assert await ask(here, OTHER, cache_control=control) == use


async def test_with_only_if_cached_no_embedder_is_asked(tmp_path: Path) -> None:
    async with FakeProvider(vectors="alike") as provider, world(near(provider.url), tmp_path) as here:
        await ask(here, ONE)
        reply = await here.post(MESSAGES, asking(MESSAGES, OTHER), cache_control="only-if-cached")
        assert (reply.status, embedded(provider)) == (504, [])


async def test_users_do_not_get_each_others_answers(tmp_path: Path) -> None:
    terms = ResponseCache(sampled=True, scope=CacheScope.USER)
    async with FakeProvider(vectors="alike") as provider, world(near(provider.url, terms), tmp_path) as here:
        await ask(here, ONE, x_keelage_user="ann")
        assert await ask(here, OTHER, x_keelage_user="bob") == "miss"
        assert await ask(here, THIRD, x_keelage_user="ann") == "semantic"


async def test_other_words_that_select_another_tier_get_an_answer_of_that_tier(tmp_path: Path) -> None:
    async with FakeProvider(vectors="alike") as provider:
        config = near(provider.url)
        tiers = {"r/deep": (ModelChoice("r/anthropic0", HAIKU),)}
        select = (Selection(When(words=Size(at_least=7)), "deep"),)
        rule = msgspec.structs.replace(config.rules[0], select=select)
        async with world(msgspec.structs.replace(config, rules=(rule,), tiers=tiers), tmp_path) as here:
            await ask(here, ONE)
            assert await ask(here, OTHER) == "miss"
            assert await ask(here, THIRD) == "semantic"


async def test_calls_at_the_same_time_wait_for_one_and_the_vectors_are_paid_once(tmp_path: Path) -> None:
    async with (
        FakeProvider(vectors="alike", latency_s=0.01) as provider,
        world(near(provider.url, timeout_ms=5_000), tmp_path) as here,
    ):
        await ask(here, ONE)
        assert await asyncio.gather(*(ask(here, OTHER) for _ in range(4))) == ["semantic"] * 4
        assert embedded(provider) == [[OTHER, ONE]]


async def test_a_call_that_is_no_single_question_asks_no_embedder(tmp_path: Path) -> None:
    async with FakeProvider(vectors="alike") as provider, world(near(provider.url), tmp_path) as here:
        for text in (ONE, OTHER):
            tools = [{"name": "t", "input_schema": {"type": "object"}}]
            await here.post(MESSAGES, asking(MESSAGES, text, tools=tools))
            await here.post(MESSAGES, asking(MESSAGES, text, temperature=1))
        assert uses(here) == ["miss"] * 4
        assert embedded(provider) == []
