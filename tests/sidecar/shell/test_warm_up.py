"""Connections that are there before a call needs them, and no more of them than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.sidecar.shell.proxied import KEY, config_of, until
from tests.sidecar.shell.secured import authority, secured
from tests.sidecar.shell.test_trust import CA, PRIVATE, answer, mount, private
from tests.sidecar.whole import FakeConfigs, FakeLedger, running

from keelage_api.proxy_config import Timeouts
from keelage_dev.provider import FakeProvider
from keelage_sidecar.shell.trust import Trust
from keelage_sidecar.shell.upstream import IDLE_S, Connection, Origin, Pool, Upstream
from keelage_sidecar.shell.warm_up import LATELY_S, PAUSE_S, Warmer, is_wanted

PROVIDER = Origin(True, "provider", 443)


@dataclass(slots=True)
class Warmed:
    upstream: Upstream
    pool: Pool
    trust: Trust

    async def ask(self, port: int) -> None:
        connection = await self.upstream.open(f"https://127.0.0.1:{port}", 5, PRIVATE)
        reply = connection.send("GET", "/v1/models", [], b"", Timeouts())
        await reply.head()
        assert await reply.read()


def has_ticket(connection: Connection) -> bool:
    """The server has sent what the next connection can go on from; it comes after the handshake."""
    secured = connection._secured
    return secured is not None and secured.session is not None and secured.session.has_ticket


@asynccontextmanager
async def warmed(folder: Path, port: int) -> AsyncIterator[Warmed]:
    """A client that expects calls to a backend at that port."""
    trust = Trust(folder, lambda: 0.0)
    upstream = Upstream(trust.context)
    warmer = Warmer(upstream)
    task = asyncio.create_task(warmer.run())
    config = private(f"https://127.0.0.1:{port}")
    warmer.expect(config)
    warmer.expect(config)
    try:
        yield Warmed(upstream, upstream.pool(f"https://127.0.0.1:{port}", PRIVATE), trust)
    finally:
        task.cancel()
        await asyncio.wait([task])
        await upstream.close()


async def test_the_first_call_finds_a_connection_and_later_ones_too(tmp_path: Path) -> None:
    pem, chain = authority(tmp_path / "own.pem")
    mount(tmp_path, pem)
    async with secured(answer, chain) as port, warmed(tmp_path, port) as here:
        await until(lambda: len(here.pool.idle) == 1)
        await here.ask(port)
        assert here.upstream.connects == 1
        here.pool.warmed_s -= PAUSE_S
        here.upstream.sweep(asyncio.get_running_loop().time() + IDLE_S + 1)
        assert here.pool.idle == []
        await until(lambda: len(here.pool.idle) == 1)
        await here.ask(port)
        assert here.upstream.connects == 2


async def test_a_connection_that_was_never_used_leaves_its_session_behind(tmp_path: Path) -> None:
    pem, chain = authority(tmp_path / "own.pem")
    mount(tmp_path, pem)
    async with secured(answer, chain) as port, warmed(tmp_path, port) as here:
        await until(lambda: len(here.pool.idle) == 1)
        await until(lambda: has_ticket(here.pool.idle[0]))
        here.upstream.sweep(asyncio.get_running_loop().time() + IDLE_S + 1)
        await here.ask(port)
        assert here.trust.context((CA,)).session_stats()["hits"] == 1


async def test_a_provider_that_cannot_be_reached_is_tried_once(tmp_path: Path) -> None:
    pem, _ = authority(tmp_path / "own.pem")
    mount(tmp_path, pem)
    async with warmed(tmp_path, 1) as here:
        await until(lambda: here.upstream.connects == 1 and here.upstream.cold.empty())
        for _ in range(100):
            await asyncio.sleep(0)
        assert here.upstream.connects == 1


@pytest.mark.parametrize(
    ("used_s", "warmed_s", "secure", "wanted"),
    [
        (1000.0, 900.0, True, True),
        (1000.0 - LATELY_S, 900.0, True, False),
        (1000.0, 1001.0 - PAUSE_S, True, False),
        (1000.0, 900.0, False, False),
    ],
    ids=["used lately", "long ago", "closed at once", "no handshake"],
)
def test_only_a_provider_that_was_used_lately_is_kept_warm(
    used_s: float, warmed_s: float, secure: bool, wanted: bool
) -> None:
    pool = Pool(PROVIDER if secure else Origin(False, "provider", 80))
    pool.used_s, pool.warmed_s = used_s, warmed_s
    assert is_wanted(pool, 1000.0) is wanted


async def test_a_sidecar_connects_to_its_providers_when_it_has_its_configuration(tmp_path: Path) -> None:
    pem, chain = authority(tmp_path / "own.pem")
    mount(tmp_path / "keys", pem)
    async with secured(answer, chain) as port:
        config = private(f"https://127.0.0.1:{port}")
        async with running(tmp_path, FakeLedger(), FakeConfigs(config)) as here:
            await here.ready()
            while b"keelage_upstream_connects_total 1.0" not in (await here.ask("GET", "/metrics")).body:
                pass
            assert (await here.call()).status == 200
            assert b"keelage_upstream_connects_total 1.0" in (await here.ask("GET", "/metrics")).body


@pytest.mark.parametrize("endpoint", ["https://127.0.0.1:99999", "https://"])
async def test_an_endpoint_that_names_no_host_costs_its_own_calls_and_no_others(tmp_path: Path, endpoint: str) -> None:
    async with FakeProvider({KEY: "app"}) as provider:
        config = config_of([endpoint, provider.url])
        async with running(tmp_path, FakeLedger(), FakeConfigs(config)) as here:
            await here.ready()
            reply = await here.call()
            assert reply.status == 200
            assert " ConnectError " in reply.headers["x-keelage-tried"]
