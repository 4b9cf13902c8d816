"""A whole sidecar in one process, between a fake operator and a raw client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from tests.sidecar.shell.proxied import HAIKU, KEY, Reply, parsed, request

from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import ProxyConfig
from keelage_api.sync import Right, SyncReply, SyncRequest
from keelage_sidecar.app import Ports, Sidecar
from keelage_sidecar.settings import Address, Settings
from keelage_sidecar.shell.call_log import CallLog
from keelage_sidecar.shell.lease_keeper import LedgerUnreachable

BODY = {"model": HAIKU, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}


@dataclass(slots=True)
class FakeLedger:
    """Grants whatever is wanted, up to a limit for this one holder."""

    limit: int = PICO_PER_USD
    reachable: bool = True
    heard: list[SyncRequest] = field(default_factory=list)
    spent: int = 0

    async def sync(self, request: SyncRequest) -> SyncReply:
        self.heard.append(request)
        if not self.reachable:
            raise LedgerUnreachable("nobody leads")
        rights = []
        for said in request.statements:
            self.spent = max(self.spent, said.spent)
            granted = min(self.limit, said.granted + said.want) if said.window else 0
            rights.append(
                Right(said.budget, "2026-11", said.seq, granted, 3600.0, exhausted=said.granted >= self.limit)
            )
        return SyncReply(tuple(rights), next_s=1.0)


class FakeConfigs:
    """Gives out what it is told to, as the operator's long poll does."""

    def __init__(self, config: ProxyConfig | None) -> None:
        self._offer: ProxyConfig | Exception | None = config
        self._changed = asyncio.Event()
        self.asked: list[str] = []

    def offer(self, config: ProxyConfig | Exception) -> None:
        self._offer = config
        self._changed.set()

    async def next(self, version: str) -> ProxyConfig:
        self.asked.append(version)
        while True:
            offer, self._offer = self._offer, None
            if isinstance(offer, Exception):
                raise offer
            if offer is not None and offer.version != version:
                return offer
            self._changed.clear()
            await self._changed.wait()


@dataclass(slots=True)
class Running:
    sidecar: Sidecar
    ports: Ports
    task: asyncio.Task[None]

    async def ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        port = self.ports.proxy if path.startswith("/v1") else self.ports.health
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(method, path, body, close=True))
        raw = await reader.read()
        writer.close()
        return parsed(raw)

    async def call(self, **more: object) -> Reply:
        return await self.ask("POST", "/v1/messages", orjson.dumps({**BODY, **more}))

    async def ready(self) -> None:
        while (await self.ask("GET", "/readyz")).status != 200:
            pass

    async def stop(self) -> None:
        self.sidecar.stop()
        await self.task


@asynccontextmanager
async def running(
    state: Path, ledger: FakeLedger, configs: FakeConfigs, drain_s: float = 0.0
) -> AsyncIterator[Running]:
    """A sidecar that has started; stopped at the end unless the test has. Its log is `state`/calls.log."""
    keys = state / "keys" / "llm-keys"
    keys.mkdir(parents=True, exist_ok=True)
    (keys / "key").write_text(KEY)
    log = os.open(state / "calls.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    settings = Settings(
        listen=Address("127.0.0.1", 0),
        health=Address("127.0.0.1", 0),
        credentials_dir=state / "keys",
        state_dir=state,
        drain_s=drain_s,
    )
    sidecar = Sidecar(settings, ledger, configs, CallLog(log))
    here = Running(sidecar, await sidecar.start(), asyncio.create_task(sidecar.run()))
    try:
        yield here
    finally:
        await here.stop()
        os.close(log)
