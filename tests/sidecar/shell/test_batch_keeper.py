"""Batches that nobody reads: asked about in time, and given up when there is nothing to learn."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.sidecar.shell.proxied import HAIKU, KEY, MONTH, World, config_of, world

from keelage_api.money import PICO_PER_USD
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.open_batch import GIVE_UP_S, LOOK_MAX_S

BATCHES = "/v1/messages/batches"


async def created(here: World, names: str = "ab") -> str:
    params = {"model": HAIKU, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    made = await here.post(BATCHES, {"requests": [{"custom_id": name, "params": params} for name in names]})
    assert made.status == 200
    return str(made.json()["id"])


def billed(provider: FakeProvider) -> int:
    return int(provider.bill().usd * PICO_PER_USD)


def spent(here: World) -> int:
    return here.purse.accounts[MONTH, ""].spent


async def test_the_keeper_looks_after_half_a_minute_and_then_each_minute_or_more(tmp_path: Path) -> None:
    async with (
        FakeProvider({KEY: "app"}, batch_polls=3) as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        await created(here)
        keeping = asyncio.create_task(here.batches.run())
        await here.settled.wait()
        keeping.cancel()
        assert 0 < spent(here) == billed(provider)
        asked = [seen.path.rpartition("/")[2] for seen in provider.requests()[1:]]
        assert asked == [*["msgbatch_fake00000001"] * 4, "results"]
        looks_s = 30 + 60 + 90 + 135
        assert looks_s <= here.later_s <= looks_s + 10


async def test_a_provider_that_is_away_is_asked_again_and_the_truth_is_charged_when_it_is_back(tmp_path: Path) -> None:
    async with FakeProvider(batch_polls=0) as provider, world(config_of([provider.url]), tmp_path) as here:
        await created(here)
        port = provider.port
        await provider.stop()
        for _ in range(5):
            here.later_s += LOOK_MAX_S
            await here.batches.tend()
        assert (spent(here), len(here.batches.open)) == (0, 1)
        assert provider.port == port
        await provider.start()
        here.later_s += LOOK_MAX_S
        await here.batches.tend()
        assert 0 < spent(here) == billed(provider)


async def test_a_batch_whose_key_is_gone_is_not_asked_about_and_read_when_it_is_back(tmp_path: Path) -> None:
    async with FakeProvider(batch_polls=0) as provider, world(config_of([provider.url]), tmp_path) as here:
        await created(here)
        key = tmp_path / "llm-keys" / "key"
        secret = key.read_bytes()
        key.unlink()
        asked = len(provider.requests())
        for _ in range(3):
            here.later_s += LOOK_MAX_S
            await here.batches.tend()
        assert (len(provider.requests()), spent(here), len(here.batches.open)) == (asked, 0, 1)
        key.write_bytes(secret)
        here.later_s += LOOK_MAX_S
        await here.batches.tend()
        assert 0 < spent(here) == billed(provider)


async def test_what_nothing_is_heard_of_for_two_days_is_charged_at_its_bound(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        await created(here)
        await provider.stop()
        here.later_s = GIVE_UP_S - 700
        await here.batches.tend()
        assert spent(here) == 0
        here.later_s = GIVE_UP_S + 700
        await here.batches.tend()
        assert spent(here) == here.records[0].bound > 0
        assert [(each.reason, each.uncertain) for each in here.records[1:]] == [("BatchResultsUnknown", True)]


async def test_a_batch_that_the_provider_does_not_know_any_more_is_charged_at_its_bound(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        await created(here)
        provider.reset()
        here.later_s = 31.0
        await here.batches.tend()
        assert spent(here) == here.records[0].bound > 0


async def test_the_look_speaks_as_the_application_did(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}) as provider, world(config_of([provider.url]), tmp_path) as here:
        params = {"model": HAIKU, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
        body = {"requests": [{"custom_id": "a", "params": params}]}
        await here.post(BATCHES, body, anthropic_beta="x-1", anthropic_workspace_id="w", x_other="1")
        here.later_s = 31.0
        await here.batches.tend()
        seen = provider.requests()[1]
        assert (seen.method, seen.path) == ("GET", f"{BATCHES}/msgbatch_fake00000001")
        assert (seen.headers["anthropic-beta"], seen.headers["anthropic-workspace-id"]) == ("x-1", "w")
        assert seen.headers["anthropic-version"] == "2023-06-01"
        assert "x-other" not in seen.headers
        assert seen.key == "app"
