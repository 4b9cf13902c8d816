"""Sidecars of one route share what they keep on a server, and go on without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests.sidecar.shell.fake_valkey import FakeValkey
from tests.sidecar.shell.proxied import World, until, world
from tests.sidecar.shell.test_cached_call import MESSAGES, PATHS, STALE, body, caching, uses

from keelage_api.proxy_config import ProxyConfig
from keelage_api.response_cache import CacheScope, ResponseCache, SharedCache
from keelage_dev.provider import FakeProvider
from keelage_sidecar.shell.credentials import Credentials

SERVER = SharedCache("valkey", 6379, "shop", "cache-keys/answers", password="cache-keys/password")
SHARED = ResponseCache(shared=SERVER)
SECRET = "0123456789abcdef0123456789abcdef"


@asynccontextmanager
async def pods(
    config: ProxyConfig, folder: Path, server: FakeValkey, secrets: tuple[str, str] = (SECRET, SECRET)
) -> AsyncIterator[tuple[World, World]]:
    """Two of them, each with the secret of its own."""
    server.password = "pw"
    for name, secret in zip("ab", secrets, strict=True):
        (folder / name / "cache-keys").mkdir(parents=True)
        (folder / name / "cache-keys" / "answers").write_text(secret)
        (folder / name / "cache-keys" / "password").write_text("pw")
    async with world(config, folder / "a", server) as one, world(config, folder / "b", server) as other:
        for pod in (one, other):
            await until(lambda pod=pod: all(each.up or each.failures for each in pod.shared.figures()))  # type: ignore[misc]
        yield one, other


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", PATHS)
async def test_what_one_pod_has_paid_for_serves_the_other(tmp_path: Path, path: str, stream: bool) -> None:
    server = FakeValkey()
    async with FakeProvider() as provider, pods(caching([provider.url], SHARED), tmp_path, server) as (one, other):
        first = await one.post(path, body(path, stream=stream))
        one.later_s += 30
        other.later_s += 30
        second = await other.post(path, body(path, stream=stream))
        assert (second.status, second.body) == (200, first.body)
        assert (second.headers["x-keelage-cache"], second.headers["age"]) == ("hit", "30")
        assert other.records[-1].saved == one.records[-1].cost
        assert len(provider.requests()) == 1
        asked = len(server.commands)
        third = await other.post(path, body(path, stream=stream))
        assert third.body == first.body
        assert len(server.commands) == asked, "it keeps it now as well"
    (name,) = server.values
    assert name.startswith(b"keelage:shop:")
    assert server.ttls_ms[name] == 3_600_000
    assert all(first.body not in value for value in server.values.values())


async def test_pods_with_different_secrets_share_nothing(tmp_path: Path) -> None:
    server, secrets = FakeValkey(), (SECRET, SECRET[::-1])
    async with (
        FakeProvider() as provider,
        pods(caching([provider.url], SHARED), tmp_path, server, secrets) as (one, other),
    ):
        await one.post(MESSAGES, body(MESSAGES))
        await other.post(MESSAGES, body(MESSAGES))
        assert uses(one) == uses(other) == ["miss"]
    assert len(server.values) == 2


async def test_a_secret_that_is_too_short_is_not_used_and_named(tmp_path: Path) -> None:
    server = FakeValkey()
    async with (
        FakeProvider() as provider,
        pods(caching([provider.url], SHARED), tmp_path, server, ("short", "short")) as (one, _),
    ):
        assert (await one.post(MESSAGES, body(MESSAGES))).status == 200
        (why,) = one.shared.errors()
        assert "Secret cache-keys, key answers (sharedCache.encryptionKey) does not hold 32 characters" in why
    assert not server.values


async def test_the_scope_of_a_user_holds_over_pods(tmp_path: Path) -> None:
    terms = ResponseCache(scope=CacheScope.USER, shared=SERVER)
    server = FakeValkey()
    async with FakeProvider() as provider, pods(caching([provider.url], terms), tmp_path, server) as (one, other):
        await one.post(MESSAGES, body(MESSAGES), x_keelage_user="ada")
        await other.post(MESSAGES, body(MESSAGES), x_keelage_user="bob")
        await other.post(MESSAGES, body(MESSAGES), x_keelage_user="ada")
        assert uses(other) == ["miss", "hit"]


@pytest.mark.parametrize("fate", ["silent", "refusing", "lost"])
async def test_without_the_server_calls_go_on(tmp_path: Path, fate: str) -> None:
    server = FakeValkey()
    async with FakeProvider() as provider, pods(caching([provider.url], SHARED), tmp_path, server) as (one, other):
        await one.post(MESSAGES, body(MESSAGES))
        server.silent, server.refusing = fate == "silent", fate == "refusing"
        for wire in server.wires if fate != "silent" else ():
            wire.close()
        replies = [await other.post(MESSAGES, body(MESSAGES)) for _ in range(3)]
        assert {reply.status for reply in replies} == {200}
        assert uses(other) == ["miss", "hit", "hit"]
        assert other.shared.errors()


async def test_an_older_answer_of_another_pod_stands_in_when_providers_fail(tmp_path: Path) -> None:
    terms = msgspec.structs.replace(STALE, shared=SERVER)
    server = FakeValkey()
    async with (
        FakeProvider(schedule=["ok", "529"]) as provider,
        pods(caching([provider.url], terms), tmp_path, server) as (one, other),
    ):
        first = await one.post(MESSAGES, body(MESSAGES))
        other.later_s += 4_000
        given = await other.post(MESSAGES, body(MESSAGES))
        assert (given.body, given.headers["x-keelage-cache"]) == (first.body, "stale")
    assert set(server.ttls_ms.values()) == {25 * 3_600_000}


async def test_who_wants_a_new_answer_does_not_look_there(tmp_path: Path) -> None:
    server = FakeValkey()
    async with FakeProvider() as provider, pods(caching([provider.url], SHARED), tmp_path, server) as (one, other):
        await one.post(MESSAGES, body(MESSAGES))
        await other.post(MESSAGES, body(MESSAGES), cache_control="no-cache")
        assert uses(other) == ["bypass"]
        assert [words[0] for words in server.commands].count(b"GET") == 1


async def test_a_server_that_no_rule_names_any_more_is_left(tmp_path: Path) -> None:
    server = FakeValkey()
    config = caching(["http://127.0.0.1:1"], SHARED)
    async with pods(config, tmp_path, server) as (one, _):
        one.shared.obey(caching(["http://127.0.0.1:1"]))
        await until(lambda: server.wires[0].closed)
        assert one.shared.figures() == ()


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    config = caching(["http://127.0.0.1:1"], SHARED)
    missing = Credentials(tmp_path, lambda: 0.0).missing(config)
    assert missing == ("cache-keys/answers", "cache-keys/password", "llm-keys/key")


async def test_a_server_on_a_port_is_used_by_tcp(tmp_path: Path) -> None:
    server = FakeValkey(password="pw")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = await server.dial()
        while data := await reader.read(1 << 16):
            wire.write(data)
            writer.write(await wire.read())
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    (tmp_path / "cache-keys").mkdir()
    (tmp_path / "cache-keys" / "answers").write_text(SECRET)
    (tmp_path / "cache-keys" / "password").write_text("pw")
    terms = ResponseCache(shared=msgspec.structs.replace(SERVER, host="127.0.0.1", port=port, timeout_ms=10_000))
    async with listening, FakeProvider() as provider, world(caching([provider.url], terms), tmp_path) as here:
        await until(lambda: all(each.up for each in here.shared.figures()))
        await here.post(MESSAGES, body(MESSAGES))
        await until(lambda: bool(server.values))
