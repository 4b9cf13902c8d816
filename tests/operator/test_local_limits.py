"""From manifests to refusals in one process: the real ledger, the real leader of rates, the real sidecar."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anthropic
import orjson
import pytest
from tests.sidecar.shell.proxied import Reply, parsed, request

from keelage_api.money import PICO_PER_USD
from keelage_dev.provider import FakeProvider
from keelage_operator.local_mode import Local, Options
from keelage_sidecar.app import Sidecar
from keelage_sidecar.settings import Address, Settings
from keelage_sidecar.shell.call_log import CallLog

ROUTE = """\
apiVersion: keelage.dev/v1alpha1
kind: LLMRoute
metadata: {name: assistant, namespace: shop}
spec:
  backends:
  - name: anthropic
    provider: Anthropic
    endpoint: %s
    credentials: {secretKeyRef: {name: llm-keys, key: anthropic}}
%s
  tiers:
  - {name: deep, models: [{backend: anthropic, model: claude-sonnet-4-5}]}
  - {name: fast, models: [{backend: anthropic, model: claude-haiku-4-5}]}
  rules:
  - name: everything
    select: [{tier: deep}]
%s
---
apiVersion: v1
kind: Secret
metadata: {name: llm-keys, namespace: shop}
stringData: {anthropic: sk-provider}
"""
BUDGET = """
---
apiVersion: keelage.dev/v1alpha1
kind: LLMBudget
metadata: {name: %s, namespace: shop}
spec: {window: {every: Month, timeZone: UTC}, %s}
"""


async def ask(port: int, data: bytes) -> Reply:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    raw = await reader.read()
    writer.close()
    return parsed(raw)


@dataclass(slots=True)
class Running:
    port: int
    provider: FakeProvider

    async def call(self, cap: int = 50, user: str = "ann") -> Reply:
        body = {"model": "auto", "max_tokens": cap, "messages": [{"role": "user", "content": "hello"}]}
        return await ask(
            self.port, request("POST", "/v1/messages", orjson.dumps(body), close=True, x_keelage_user=user)
        )

    async def calls_until_refused(self, cap: int = 50) -> list[Reply]:
        """Served ones, and the 429 as the last."""
        replies = [await self.call(cap)]
        while replies[-1].status == 200:
            replies.append(await self.call(cap))
        return replies

    @property
    def billed(self) -> int:
        return int(self.provider.bill().usd * PICO_PER_USD)


@asynccontextmanager
async def running(
    tmp_path: Path,
    *budgets: tuple[str, str],
    rule: str = "",
    limits: str = "",
) -> AsyncIterator[Running]:
    """Budgets as (name, spec); `rule` and `limits` are lines of the rule and of the backend."""
    folder, state, credentials = (tmp_path / name for name in ("manifests", "state", "credentials"))
    for each in (folder, state, credentials):
        each.mkdir()
    null = os.open(os.devnull, os.O_WRONLY)
    async with FakeProvider() as fake:
        text = ROUTE % (fake.url, limits, rule) + "".join(BUDGET % each for each in budgets)
        (folder / "all.yaml").write_text(text)
        said: list[str] = []
        local = Local(Options(folder, state, Address("127.0.0.1", 0)), credentials, said.append)
        await local.begin()
        settings = Settings(
            listen=Address("127.0.0.1", 0),
            health=Address("127.0.0.1", 0),
            credentials_dir=credentials,
            state_dir=state,
            pod="web-1",
            drain_s=0.0,
        )
        sidecar = Sidecar(settings, local.ledger, local.configs, CallLog(null))
        ports = await sidecar.start()
        task = asyncio.create_task(sidecar.run())
        here = Running(ports.proxy, fake)
        try:
            while (await ask(ports.health, request("GET", "/readyz", b"", close=True))).status != 200:
                pass
            yield here
        finally:
            sidecar.stop()
            await task
            await local.books.stop_leading()
            os.close(null)
    assert not [text for text in said if "not in force" in text]


async def test_a_user_who_has_spent_a_days_tokens_is_refused_and_others_are_not(tmp_path: Path) -> None:
    async with running(tmp_path, ("users", "limit: {tokens: 2000}, per: [User]")) as here:
        refused = (await here.calls_until_refused())[-1]
        assert refused.status == 429
        assert b"User ann" in refused.body
        assert b"tokens" in refused.body
        assert refused.headers["x-keelage-budget"] == "shop/users"
        assert (await here.call(user="bob")).status == 200


async def test_near_the_limit_calls_are_clamped_and_then_refused_and_the_bill_stays_below(tmp_path: Path) -> None:
    rule = "    output: {clampAtLeast: 16}"
    async with running(tmp_path, ("month", 'limit: {amount: "0.02"}'), rule=rule) as here:
        replies = await here.calls_until_refused(900)
        assert replies[-1].status == 429
        lowered = [reply for reply in replies if "x-keelage-clamped" in reply.headers]
        assert lowered == replies[-1 - len(lowered) : -1], "once the budget is short, all calls are clamped"
        caps = [int(reply.headers["x-keelage-clamped"].removeprefix("max_tokens=")) for reply in lowered]
        assert caps
        assert all(16 <= cap < 900 for cap in caps)
        assert here.billed <= PICO_PER_USD // 50
        # What was refused at the end would have cost more than was left.
        assert here.billed > PICO_PER_USD // 50 * 9 // 10


async def test_a_threshold_gives_a_cheaper_tier_and_the_limit_refuses(tmp_path: Path) -> None:
    spec = 'limit: {amount: "0.02"}, thresholds: [{percent: 50, do: Downgrade, tier: fast}]'
    async with running(tmp_path, ("month", spec)) as here:
        replies = await here.calls_until_refused(100)
        tiers = [reply.headers.get("x-keelage-downgraded", str(reply.status)) for reply in replies]
        assert set(tiers) == {"200", "fast", "429"}
        models = [orjson.loads(each.body)["model"] for each in here.provider.requests()]
        assert models[0] == "claude-sonnet-4-5"
        assert models[-1] == "claude-haiku-4-5"
        first = tiers.index("fast")
        assert here.billed <= PICO_PER_USD // 50
        assert tiers[:first] == ["200"] * first


async def test_a_rule_lets_each_user_make_so_many_calls_in_a_minute(tmp_path: Path) -> None:
    rule = "    rateLimits: [{per: User, requests: 5, window: 3600s}]"
    async with running(tmp_path, rule=rule) as here:
        for user in ("ann", "bob"):
            replies = [await here.call(user=user) for _ in range(8)]
            assert [reply.status for reply in replies].count(429) >= 3
        refused = replies[-1]
        assert refused.headers["x-should-retry"] == "true"
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert b"rate limit of LLMRoute assistant, rule everything, User bob" in refused.body


async def test_a_providers_limit_on_calls_at_a_time_queues_the_others(tmp_path: Path) -> None:
    limits = "    limits: {concurrentRequests: 2, queue: {depth: 100, maxWait: 5s}}"
    async with running(tmp_path, limits=limits) as here:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(here.call()) for _ in range(20)]
        assert {task.result().status for task in tasks} == {200}
        assert here.provider.connections <= 2


@pytest.mark.parametrize("refusing", ["rate", "budget"])
async def test_the_official_sdk_raises_its_rate_limit_error_and_says_whether_to_come_again(
    tmp_path: Path, refusing: str
) -> None:
    rule = "    rateLimits: [{per: User, requests: 1, window: 3600s}]" if refusing == "rate" else ""
    budgets = () if refusing == "rate" else (("month", 'limit: {amount: "0.002"}'),)
    async with (
        running(tmp_path, *budgets, rule=rule) as here,
        anthropic.AsyncAnthropic(base_url=f"http://127.0.0.1:{here.port}", api_key="x", max_retries=0) as client,
    ):
        await here.calls_until_refused()
        with pytest.raises(anthropic.RateLimitError) as raised:
            await client.messages.create(
                model="auto",
                max_tokens=50,
                messages=[{"role": "user", "content": "hello"}],
                extra_headers={"x-keelage-user": "ann"},
            )
        assert raised.value.response.headers["x-should-retry"] == ("true" if refusing == "rate" else "false")
        assert int(raised.value.response.headers["retry-after"]) > 0
