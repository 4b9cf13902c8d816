"""Rates end to end: manifests compiled, a leader's books, three whole sidecars, a provider that counts.

The leader's clock stands still unless a test moves it: then what passes in any time is exact.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson
import yaml
from tests.sidecar.shell.proxied import HAIKU, KEY, Reply, parsed, request, until

from keelage_api.proxy_config import ProxyConfig
from keelage_api.sync import SyncReply, SyncRequest
from keelage_dev.memory_store import MemoryStore
from keelage_dev.provider import FakeProvider
from keelage_operator.core.compile import RouteManifest, compile_namespace
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.price_book import price_book
from keelage_operator.local_mode import LocalConfigs
from keelage_operator.shell.books import Books
from keelage_operator.shell.ledger_book import LedgerBook, LedgerUnavailable
from keelage_operator.shell.quota_book import QuotaBook
from keelage_operator.shell.refusals import Refusals
from keelage_sidecar.app import Sidecar
from keelage_sidecar.settings import Address, Settings
from keelage_sidecar.shell.call_log import CallLog
from keelage_sidecar.shell.lease_keeper import LedgerUnreachable

ROUTE = """
apiVersion: keelage.dev/v1alpha1
kind: LLMRoute
metadata: {name: chat, namespace: shop, uid: u}
spec:
  backends:
  - name: main
    provider: Anthropic
    endpoint: URL
    credentials: {secretKeyRef: {name: llm-keys, key: key}}
    limits: LIMITS
  tiers: [{name: fast, models: [{backend: main, model: claude-haiku-4-5}]}]
  rules:
  - name: all
    select: [{tier: fast}]
    rateLimits: RATES
"""
BODY = orjson.dumps({"model": HAIKU, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]})


class Leader:
    def __init__(self, url: str, limits: str, rates: str) -> None:
        text = ROUTE.replace("URL", url).replace("LIMITS", limits).replace("RATES", rates)
        compiled = compile_namespace("shop", [RouteManifest.of(yaml.safe_load(text))], [], price_book())
        assert compiled.routes["chat"].problems == ()
        self.now_s = 0.0
        ledgers = LedgerBook(MemoryStore(), lambda: datetime(2026, 11, 21, tzinfo=UTC), lambda: self.now_s)
        self.quotas = QuotaBook(lambda: self.now_s)
        self.books = Books(ledgers, Refusals(ledgers, lambda _: None), self.quotas)
        self.books.set_quotas({quota.name: quota for quota in compiled.quotas()})
        self.config: ProxyConfig = compiled.config_for({})


@dataclass
class Link:
    """LedgerClient of one pod."""

    leader: Leader
    pod: PodIdentity
    exchanges: int = 0

    async def sync(self, request: SyncRequest) -> SyncReply:
        try:
            reply = SyncReply(await self.leader.books.sync(self.pod, request), next_s=0.5)
        except LedgerUnavailable as error:
            raise LedgerUnreachable(str(error)) from error
        self.exchanges += 1
        return reply


@dataclass
class Fleet:
    leader: Leader
    provider: FakeProvider
    links: list[Link] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    async def call(self, number: int, user: str) -> Reply:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[number])
        writer.write(request("POST", "/v1/messages", BODY, close=True, x_keelage_user=user))
        try:
            return parsed(await reader.read())
        finally:
            writer.close()

    async def calls(self, of_each: int, user: str) -> list[Reply]:
        """At once, from all sidecars."""
        return await asyncio.gather(*(self.call(n, user) for n in range(len(self.ports)) for _ in range(of_each)))

    async def all_told(self) -> None:
        """The leader knows of everything that was used."""
        await until(lambda: all(figures.held == 0 for figures in self.leader.quotas.figures().values()))

    async def a_few_exchanges(self) -> None:
        """Whoever waits has asked again after it, and heard."""
        before = [link.exchanges for link in self.links]
        await until(lambda: all(link.exchanges >= was + 2 for link, was in zip(self.links, before, strict=True)))


@asynccontextmanager
async def fleet(state: Path, limits: str = "{}", rates: str = "[]") -> AsyncIterator[Fleet]:
    """Three sidecars that have their configuration."""
    keys = state / "keys" / "llm-keys"
    keys.mkdir(parents=True)
    (keys / "key").write_text(KEY)
    null = os.open(os.devnull, os.O_WRONLY)
    async with FakeProvider({KEY: "app"}) as provider:
        leader = Leader(provider.url, limits, rates)
        await leader.books.lead(after_nobody=True)
        here, running = Fleet(leader, provider), list[tuple[Sidecar, asyncio.Task[None]]]()
        for name in ("a", "b", "c"):
            link, configs = Link(leader, PodIdentity("shop", name, f"uid-{name}")), LocalConfigs()
            configs.publish(leader.config)
            (state / name).mkdir()
            settings = Settings(
                Address("127.0.0.1", 0), None, credentials_dir=state / "keys", state_dir=state / name, pod=name
            )
            sidecar = Sidecar(settings, link, configs, CallLog(null))
            here.ports.append((await sidecar.start()).proxy)
            here.links.append(link)
            running.append((sidecar, asyncio.create_task(sidecar.run())))
        try:
            await here.a_few_exchanges()
            yield here
        finally:
            for sidecar, task in running:
                sidecar.stop()
                await task
            await leader.books.stop_leading()
            os.close(null)


def statuses(replies: Sequence[Reply]) -> Counter[int]:
    return Counter(reply.status for reply in replies)


async def test_a_users_rate_holds_over_all_sidecars_together(tmp_path: Path) -> None:
    async with fleet(tmp_path, rates="[{per: User, requests: 20, window: 60s}]") as here:
        replies = await here.calls(20, "alice")
        assert statuses(replies) == {200: 20, 429: 40}
        refused = next(reply for reply in replies if reply.status == 429)
        assert refused.headers["x-should-retry"] == "true"
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        assert b"User alice" in refused.body

        await here.all_told()
        here.leader.now_s += 30
        assert statuses(await here.calls(10, "alice")) == {200: 10, 429: 20}
        assert statuses(await here.calls(2, "bob")) == {200: 6}, "another user has a rate of its own"
        assert len(here.provider.requests()) == 36


async def test_a_providers_limit_is_never_passed_and_calls_queue_for_it(tmp_path: Path) -> None:
    limits = "{requestsPerMinute: 30, queue: {depth: 50, maxWait: 60s}}"
    async with fleet(tmp_path, limits=limits) as here:
        calls = asyncio.create_task(here.calls(20, "alice"))
        for passed in (30, 45, 60):
            await until(lambda passed=passed: len(here.provider.requests()) >= passed)  # type: ignore[misc]
            await here.all_told()
            await here.a_few_exchanges()
            assert len(here.provider.requests()) == passed, "one more, and the provider would have refused it"
            here.leader.now_s += 30
        assert statuses(await calls) == {200: 60}


async def test_a_burst_at_rest_fills_the_limit_and_the_queue_and_only_the_rest_is_refused(tmp_path: Path) -> None:
    limits = "{concurrentRequests: 4, queue: {depth: 3, maxWait: 60s}}"
    async with fleet(tmp_path, limits=limits) as here:
        here.provider.config(schedule=["hang"] * 4)
        calls = [asyncio.create_task(here.call(0, "alice")) for _ in range(10)]
        await until(lambda: sum(call.done() for call in calls) == 3)
        assert statuses([call.result() for call in calls if call.done()]) == {429: 3}
        assert len(here.provider.requests()) == 4
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
