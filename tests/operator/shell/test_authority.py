"""Replicas share one authority; certificates change under a listener that goes on."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from keelage_operator.core.authority import DATA_KEY, read_trust
from keelage_operator.shell.authority import (
    ServingNames,
    StoredTrust,
    TrustConflict,
    TrustKeeper,
    TrustUnavailable,
    server_context,
)

START = datetime.now(UTC)  # of certificates that a real TLS client checks; no decision waits for it


@dataclass
class MemoryTrust:
    """The Secret and the configurations, with compare-and-swap."""

    data: dict[str, bytes] | None = None
    version: int = 0
    bundle: bytes = b""
    configurations: bool = True
    broken: bool = False
    interloper: dict[str, bytes] | None = None
    """Written by somebody else just before our next write."""
    writes: list[str] = field(default_factory=list)

    async def load(self) -> StoredTrust | None:
        await asyncio.sleep(0)
        if self.broken:
            raise TrustUnavailable("API server answered 500")
        return None if self.data is None else StoredTrust(dict(self.data), str(self.version))

    async def create(self, data: Mapping[str, bytes]) -> None:
        self._interlope()
        if self.data is not None:
            raise TrustConflict("exists")
        self._write("create", data)

    async def replace(self, data: Mapping[str, bytes], version: str) -> None:
        self._interlope()
        if version != str(self.version):
            raise TrustConflict("changed")
        self._write("replace", data)

    async def trust(self, bundle: bytes) -> bool:
        if self.configurations:
            self.bundle = bundle
        return self.configurations

    def _interlope(self) -> None:
        if self.interloper is not None:
            data, self.interloper = self.interloper, None
            self._write("interloper", data)

    def _write(self, who: str, data: Mapping[str, bytes]) -> None:
        self.data, self.version = dict(data), self.version + 1
        self.writes.append(who)


@dataclass
class Wall:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


def keeper(store: MemoryTrust, wall: Wall | None = None, address: str = "127.0.0.1") -> TrustKeeper:
    return TrustKeeper(store, ServingNames("keelage", "ops", address), wall or Wall())


async def served(context: ssl.SSLContext, bundle: bytes, name: str) -> bytes:
    """The certificate (DER) that a client sees which trusts the bundle and asks for that name."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        return await seen(server.sockets[0].getsockname()[1], bundle, name)


async def seen(port: int, bundle: bytes, name: str) -> bytes:
    client = ssl.create_default_context(cadata=bundle.decode())
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
    socket = writer.get_extra_info("ssl_object")
    assert isinstance(socket, ssl.SSLObject)
    certificate = socket.getpeercert(binary_form=True)
    writer.close()
    assert certificate is not None
    return certificate


@pytest.mark.parametrize("name", ["keelage.ops.svc", "keelage.ops.svc.cluster.local", "127.0.0.1"])
async def test_client_with_the_bundle_trusts_every_name_of_the_service(name: str) -> None:
    one = keeper(MemoryTrust())
    await one.ensure()
    assert one.ready
    assert await served(one.context, one.bundle, name)


async def test_client_refuses_another_name() -> None:
    one = keeper(MemoryTrust())
    await one.ensure()
    with pytest.raises(ssl.SSLCertVerificationError):
        await served(one.context, one.bundle, "api.anthropic.com")


async def test_replicas_that_start_together_share_one_authority() -> None:
    store = MemoryTrust()
    keepers = [keeper(store) for _ in range(5)]
    await asyncio.gather(*(one.ensure() for one in keepers))
    assert store.writes == ["create"]
    assert {one.bundle for one in keepers} == {store.bundle}
    for one in keepers:
        assert await served(one.context, store.bundle, "keelage.ops.svc")


async def test_lost_race_takes_the_winners_authority() -> None:
    other = MemoryTrust()
    await keeper(other).ensure()
    store = MemoryTrust(interloper=other.data)
    one = keeper(store)
    await one.ensure()
    assert store.writes == ["interloper"]
    assert one.bundle == other.bundle


async def test_leaf_is_swapped_on_the_listening_context_after_two_thirds() -> None:
    wall = Wall(START - timedelta(days=5))
    one = keeper(MemoryTrust(), wall)
    await one.ensure()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=one.context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        first = await seen(port, one.bundle, "keelage.ops.svc")
        wall.now = START - timedelta(days=1)
        await one.ensure()
        assert await seen(port, one.bundle, "keelage.ops.svc") == first, "too early to change"
        wall.now = START
        await one.ensure()
        assert await seen(port, one.bundle, "keelage.ops.svc") != first


async def test_unusable_secret_is_replaced_loudly(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryTrust(data={DATA_KEY: b"garbage"}, version=7)
    one = keeper(store)
    with caplog.at_level(logging.ERROR):
        await one.ensure()
    assert "restart them" in caplog.text
    assert store.writes == ["replace"]
    assert await served(one.context, one.bundle, "keelage.ops.svc")


async def test_deleted_secret_is_made_again_and_told() -> None:
    store = MemoryTrust()
    one = keeper(store)
    await one.ensure()
    first, store.data = store.bundle, None
    await one.ensure()
    assert store.bundle == one.bundle != first


async def test_ageing_authority_gets_a_successor_that_all_trust_already() -> None:
    store, wall = MemoryTrust(), Wall(START - timedelta(days=2600))
    one = keeper(store, wall)
    await one.ensure()
    old_bundle = one.bundle
    wall.now = START
    await one.ensure()
    assert store.data is not None
    assert one.bundle.startswith(old_bundle)
    assert len(one.bundle) > len(old_bundle)
    assert await served(one.context, old_bundle, "keelage.ops.svc"), "pods from before trust what is served"
    assert not isinstance(read_trust(store.data, START), str)
    writes = len(store.writes)
    await one.ensure()
    assert len(store.writes) == writes, "a second look changes nothing"


async def test_replica_is_not_ready_before_the_webhooks_trust_it() -> None:
    store = MemoryTrust(configurations=False)
    one = keeper(store)
    await one.ensure()
    assert not one.ready
    store.configurations = True
    await one.ensure()
    assert one.ready


async def test_a_deleted_webhook_configuration_takes_no_replica_from_the_sidecars(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryTrust()
    one = keeper(store)
    await one.ensure()
    store.configurations, store.bundle = False, b""
    await one.ensure()
    assert one.ready
    assert "helm upgrade" in caplog.text
    store.configurations = True
    await one.ensure()
    assert store.bundle == one.bundle


async def test_api_server_that_is_down_leaves_the_certificate_in_use() -> None:
    store = MemoryTrust()
    one = keeper(store)
    await one.ensure()
    store.broken = True
    with pytest.raises(TrustUnavailable):
        await one.ensure()
    assert one.ready
    assert await served(one.context, one.bundle, "keelage.ops.svc")


def test_old_tls_is_refused() -> None:
    assert server_context().minimum_version is ssl.TLSVersion.TLSv1_2
