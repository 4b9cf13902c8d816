"""Kept answers of rules that choose: among tiers, and whether a first answer will do."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.sidecar.shell.proxied import HAIKU, world
from tests.sidecar.shell.test_cascade import DOUBT, FORMS, OPUS, asked, billed, body, cascading

from keelage_api.codec import seal
from keelage_api.proxy_config import ProxyConfig
from keelage_api.response_cache import ResponseCache
from keelage_api.selection import Selection, When
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
