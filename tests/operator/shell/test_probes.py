from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

from aiohttp.test_utils import TestClient, TestServer
from tests.operator.shell.shop import figures
from tests.operator.shell.virtual_time import VirtualTime

from keelage_api.proxy_config import Per, Unit
from keelage_api.v1alpha1.llmbudget import Do
from keelage_api.window import Every
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.threshold import Passing
from keelage_operator.shell.json_log import JsonLines
from keelage_operator.shell.measures import Measures
from keelage_operator.shell.probes import LAG_MAX_S, Heartbeat, Probes


async def test_readiness_names_what_is_missing_and_liveness_is_another_thing() -> None:
    ready = {"certificate": True, "cache": False}
    probes = Probes(
        live={"event loop": lambda: True},
        ready={name: lambda name=name: ready[name] for name in ready},  # type: ignore[misc]
        registry=Measures().registry,
    )
    async with TestClient(TestServer(probes.application())) as client:
        alive, unready = await client.get("/livez"), await client.get("/readyz")
        assert (alive.status, await alive.text()) == (200, "ok\n")
        assert (unready.status, await unready.text()) == (503, "not yet: cache\n")
        ready["cache"] = True
        assert (await client.get("/readyz")).status == 200


async def test_figures_of_budgets_are_metrics_in_their_unit() -> None:
    measures = Measures()
    month = BudgetInForce("shop/month", "uid", 5 * 10**12, Every.MONTH, "UTC", True, thresholds=(25, 80))
    user = replace(month, name="shop/user", limit=100, unit=Unit.TOKENS, per=(Per.USER,), thresholds=(80,))
    terms = {"shop/month": month, "shop/other": month, "shop/user": user}
    found = replace(figures(5 * 10**12, "1.25"), burn=3 * 10**12, overdraft=10**12, pending_recall=10**11)
    tokens = replace(figures(100), spent=70, values=5, values_exhausted=2, fullest=90, passed={80: 3})
    measures.budgets(lambda: terms, {"shop/month": found, "shop/user": tokens}.get)
    for budget in ("month", "gone"):
        measures.threshold("shop", budget, Passing(25, Do.DOWNGRADE, "fast", 2, event=True))
        measures.threshold("shop", budget, Passing(25, Do.DOWNGRADE, "fast", 3, event=False))
    measures.counter("keelage_ledger_writes", "Ledgers stored.", lambda: 3)
    measures.gauge("keelage_leader", "1 while this replica leads.", lambda: 1.0)
    probes = Probes({}, {}, measures.registry)
    async with TestClient(TestServer(probes.application())) as client:
        text = await (await client.get("/metrics")).text()

    assert 'keelage_budget_limit_usd{budget="month",namespace="shop"} 5.0' in text
    assert 'keelage_budget_spent_usd{budget="month",namespace="shop"} 1.25' in text
    assert 'budget="other"' not in text
    assert 'keelage_budget_burn_usd_per_hour{budget="month",namespace="shop"} 3.0' in text
    assert 'keelage_budget_threshold_reached{budget="month",namespace="shop",percent="25"} 1.0' in text
    assert 'keelage_budget_threshold_reached{budget="month",namespace="shop",percent="80"} 0.0' in text
    assert 'keelage_budget_overdraft_usd{budget="month",namespace="shop"} 1.0' in text
    assert 'keelage_budget_pending_recall_usd{budget="month",namespace="shop"} 0.1' in text
    assert 'keelage_budget_threshold_total{budget="month",do="Downgrade",namespace="shop",percent="25"} 5.0' in text
    assert 'budget="gone"' not in text
    assert 'keelage_budget_spent_tokens{budget="user",namespace="shop"} 70.0' in text
    assert 'keelage_budget_values{budget="user",namespace="shop",state="exhausted"} 2.0' in text
    assert 'keelage_budget_values{budget="user",namespace="shop",state="open"} 3.0' in text
    assert 'keelage_budget_threshold_reached{budget="user",namespace="shop",percent="80"} 3.0' in text
    assert "keelage_ledger_writes_total 3.0" in text
    assert "keelage_leader 1.0" in text


async def test_a_loop_that_is_late_is_not_well() -> None:
    time = VirtualTime()

    async def late(seconds: float) -> None:
        await time.sleep(seconds + lateness_s)

    lateness_s = 0.0
    heartbeat = Heartbeat(time.clock, late)
    task = asyncio.create_task(heartbeat.run())
    await time.advance(3)
    assert heartbeat.well()
    lateness_s = LAG_MAX_S
    await time.advance(60)
    assert not heartbeat.well()
    task.cancel()


def test_a_log_line_is_json_with_its_extra_fields() -> None:
    record = logging.makeLogRecord(
        {"name": "keelage", "levelname": "WARNING", "msg": "lost %s", "args": ("it",), "created": 0.0, "budget": "b"}
    )

    assert json.loads(JsonLines().format(record)) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "warning",
        "logger": "keelage",
        "message": "lost it",
        "budget": "b",
    }
