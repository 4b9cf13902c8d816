"""What becomes of the money of open batches when the sidecar ends, with and without a word."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
from tests.sidecar.shell.proxied import HAIKU, KEY, config_of, until
from tests.sidecar.whole import FakeConfigs, FakeLedger, Running, running

from keelage_api.money import PICO_PER_USD
from keelage_dev.provider import FakeProvider

BATCHES = "/v1/messages/batches"
PARAMS = {"model": HAIKU, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
BODY = orjson.dumps({"requests": [{"custom_id": name, "params": PARAMS} for name in "ab"]})


async def created(here: Running) -> str:
    await here.ready()
    made = await here.ask("POST", BATCHES, BODY)
    assert made.status == 200
    return str(made.json()["id"])


def reserved(ledger: FakeLedger) -> int:
    return sum(said.reserved for said in ledger.heard[-1].statements)


async def test_a_sidecar_that_ends_charges_open_batches_at_their_bound_and_gives_the_rest_back(tmp_path: Path) -> None:
    ledger = FakeLedger()
    async with FakeProvider({KEY: "app"}) as provider:
        async with running(tmp_path, ledger, FakeConfigs(config_of([provider.url]))) as here:
            await created(here)
            await until(lambda: reserved(ledger) > 0)
            bound = reserved(ledger)
            text = (await here.ask("GET", "/metrics")).body.decode()
            assert "keelage_open_batches 1.0" in text
        [last] = ledger.heard[-1].statements
        assert (last.spent, last.reserved, last.final) == (bound, 0, True)


async def test_after_a_crash_the_journal_charges_open_batches_at_their_bound(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    ledger, later = FakeLedger(), FakeLedger()
    async with FakeProvider({KEY: "app"}) as provider:
        config = config_of([provider.url])
        async with running(first, ledger, FakeConfigs(config)) as here:
            await created(here)
            await until(lambda: reserved(ledger) > 0)
            shutil.copytree(first, second)  # as kill -9 leaves it
            bound = reserved(ledger)
        async with running(second, later, FakeConfigs(config)) as here:
            await here.ready()
            await until(lambda: bool(later.heard and later.heard[-1].statements))
            assert [said.spent for said in later.heard[0].statements] == [bound]
            assert later.heard[0].incarnation == ledger.heard[0].incarnation
            assert later.heard[0].run > ledger.heard[0].run


async def test_what_a_batch_cost_is_in_the_metrics_and_in_the_ledger(tmp_path: Path) -> None:
    ledger = FakeLedger()
    async with FakeProvider({KEY: "app"}, batch_polls=0) as provider:
        async with running(tmp_path, ledger, FakeConfigs(config_of([provider.url]))) as here:
            name = await created(here)
            await here.ask("GET", f"{BATCHES}/{name}")
            assert (await here.ask("GET", f"{BATCHES}/{name}/results")).status == 200
            text = (await here.ask("GET", "/metrics")).body.decode()
        usd = float(provider.bill().usd)
        labels = f'backend="r/anthropic0",gen_ai_request_model="{HAIKU}",route="r"'
        assert f"keelage_cost_usd_total{{{labels}}} {usd}" in text
        assert "keelage_open_batches 0.0" in text
        assert ledger.spent == int(provider.bill().usd * PICO_PER_USD) > 0
