"""Kept answers of rules that choose: among tiers, and whether a first answer will do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.sidecar.shell.proxied import HAIKU, MONTH, World, until, world
from tests.sidecar.shell.test_cached_call import ANSWER, Gate
from tests.sidecar.shell.test_cascade import DOUBT, FORMS, MESSAGES, OPUS, asked, billed, body, cascading
from tests.sidecar.shell.test_latency import FIVE, budgeted, slow
from tests.sidecar.shell.test_selector import ASKED, JUDGE, asking, selecting

from keelage_api.codec import seal
from keelage_api.proxy_config import ProxyConfig
from keelage_api.response_cache import ResponseCache
from keelage_api.selection import BudgetUsed, Selection, When
from keelage_dev.provider import FakeProvider


def keeping(config: ProxyConfig, **changes: object) -> ProxyConfig:
    rule = msgspec.structs.replace(config.rules[0], response_cache=ResponseCache(sampled=True), **changes)
    return seal(msgspec.structs.replace(config, rules=(rule,)))


@pytest.mark.parametrize("will_do", [True, False])
@pytest.mark.parametrize(("path", "stream"), FORMS)
async def test_what_a_cascade_ended_with_is_kept_and_saves_all_that_it_cost(
    tmp_path: Path, path: str, stream: bool, will_do: bool
) -> None:
    replies = {"*": "Paris"} if will_do else DOUBT
    async with FakeProvider(replies=replies) as provider, world(keeping(cascading(provider.url)), tmp_path) as here:
        first, second = [await here.post(path, body(path, stream)) for _ in range(2)]
        assert (second.status, second.body) == (200, first.body)
        assert (first.headers["x-keelage-cache"], second.headers["x-keelage-cache"]) == ("miss", "hit")
        assert second.headers["x-keelage-tier"] == first.headers["x-keelage-tier"] == ("fast" if will_do else "deep")
        assert len(asked(provider)) == (1 if will_do else 2)
        made, given = here.records
        assert given.saved == made.cost == billed(provider)


async def test_an_answer_for_want_of_a_better_one_is_not_kept(tmp_path: Path) -> None:
    async with FakeProvider(replies=DOUBT, model_faults={OPUS: "529", "gpt-4o": "529"}) as provider:
        config = keeping(cascading(provider.url))
        async with world(config, tmp_path) as here:
            for _ in range(2):
                assert (await here.post("/v1/messages", body("/v1/messages", False))).status == 200
            assert [record.cache for record in here.records] == ["miss", "miss"]


async def test_a_task_of_another_type_which_may_have_another_tier_is_another_call(tmp_path: Path) -> None:
    async with FakeProvider(replies={"*": "Paris"}) as provider:
        select = (Selection(When(task_types=("hard",)), "deep"),)
        async with world(keeping(cascading(provider.url), cascade=None, select=select), tmp_path) as here:
            for task in ("easy", "hard", "easy", "hard"):
                await here.post("/v1/messages", body("/v1/messages", False), x_keelage_task_type=task)
            assert [record.cache for record in here.records] == ["miss", "miss", "hit", "hit"]
            assert asked(provider) == [HAIKU, OPUS]


async def used(here: World, **headers: str) -> tuple[str, str]:
    """How the cache was used for a call, and the tier whose answer it got."""
    reply = await here.post(MESSAGES, asking("Hi"), **headers)
    assert reply.status == 200
    return reply.headers["x-keelage-cache"], reply.headers["x-keelage-tier"]


async def test_an_answer_that_a_budgets_use_led_to_is_given_while_it_does(tmp_path: Path) -> None:
    entry = Selection(When(budget_used=BudgetUsed(MONTH, 80)), "fast")
    async with FakeProvider() as provider, world(keeping(selecting(provider.url, entry)), tmp_path) as here:
        found = []
        for percent in (79, 79, 80, 80, 0):
            here.purse.percent[MONTH] = percent
            found.append(await used(here))
        assert found == [("miss", "deep"), ("hit", "deep"), ("miss", "fast"), ("hit", "fast"), ("hit", "deep")]


async def test_an_answer_for_want_of_a_classifiers_word_is_not_kept(tmp_path: Path) -> None:
    asked_for = msgspec.structs.replace(ASKED, otherwise="fast")
    async with FakeProvider(model_faults={JUDGE: "500"}, replies={JUDGE: "COMPLEX"}) as provider:
        config = selecting(provider.url, Selection(When(classifier=asked_for), "fast"))
        async with world(keeping(config), tmp_path) as here:
            assert await used(here) == ("miss", "fast")
            provider.config(model_faults={})
            assert await used(here) == ("miss", "deep")
            assert await used(here) == ("hit", "deep")


async def test_an_answer_of_the_tier_that_stands_in_for_a_slow_one_is_not_kept(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        config = keeping(budgeted(provider.url, first_token_within=FIVE))
        async with world(config, tmp_path) as here:
            await here.post(MESSAGES, body(MESSAGES, True))
            slow(here, "firstTokenWithin")
            for _ in range(2):
                reply = await here.post(MESSAGES, body(MESSAGES, True, top_k=1))
                assert (reply.headers["x-keelage-cache"], reply.headers["x-keelage-latency"]) == ("miss", "otherwise")


async def test_who_waits_meanwhile_gets_the_answer_that_is_not_kept(tmp_path: Path) -> None:
    async with Gate() as gate, world(keeping(budgeted(gate.url, answer_within=FIVE)), tmp_path) as here:
        gate.answers.put_nowait(ANSWER)
        await here.post(MESSAGES, body(MESSAGES, False))
        slow(here, "answerWithin")
        calls = [asyncio.ensure_future(here.post(MESSAGES, body(MESSAGES, False, top_k=1))) for _ in range(5)]
        await until(lambda: here.server.active == 5 and gate.asked == 2)
        gate.answers.put_nowait(ANSWER)
        replies = await asyncio.gather(*calls)
        assert sorted(reply.headers["x-keelage-cache"] for reply in replies) == ["hit"] * 4 + ["miss"]
        assert (gate.asked, len(here.means.responses)) == (2, 1)
