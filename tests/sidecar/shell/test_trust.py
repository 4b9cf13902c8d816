"""Certificates of providers are believed by the authorities that a backend names, and by no other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from msgspec.structs import replace
from tests.sidecar.shell.proxied import HAIKU, config_of, world
from tests.sidecar.shell.secured import authority, secured

from keelage_api.codec import seal
from keelage_api.mounted import CONFIG_MAP, MountedKey
from keelage_api.proxy_config import BackendTLS, ProxyConfig, Timeouts
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.credentials import Credentials
from keelage_sidecar.shell.tls_session import RESUMED_S
from keelage_sidecar.shell.trust import CHECK_S, Trust
from keelage_sidecar.shell.upstream import Upstream

CA = MountedKey("corp-ca", "ca.crt", CONFIG_MAP).path
PRIVATE = BackendTLS((CA,))
ANSWER = {"type": "message", "model": HAIKU, "content": [], "usage": {"input_tokens": 3, "output_tokens": 2}}


async def answer(call: Call) -> None:
    call.reply(200, [(b"content-type", b"application/json")], orjson.dumps(ANSWER))


def mount(directory: Path, pem: str, path: str = CA) -> None:
    (directory / path).parent.mkdir(parents=True, exist_ok=True)
    (directory / path).write_text(pem)


@dataclass(slots=True)
class Client:
    directory: Path
    now_s: float = 0.0
    upstream: Upstream = field(init=False)

    def __post_init__(self) -> None:
        self.upstream = Upstream(Trust(self.directory, lambda: self.now_s).context)

    async def connect(self, port: int, tls: BackendTLS | None = PRIVATE) -> None:
        connection = await self.upstream.open(f"https://127.0.0.1:{port}", 5, tls)
        connection.abort()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    made = Client(tmp_path)
    yield made
    await made.upstream.close()


async def test_an_authority_of_ones_own_is_believed_and_the_public_ones_are_not(client: Client, tmp_path: Path) -> None:
    pem, chain = authority(tmp_path / "own.pem")
    mount(tmp_path, pem)
    async with secured(answer, chain) as port:
        await client.connect(port)
        with pytest.raises(UpstreamError, match="certificate"):
            await client.connect(port, None)
        other, _ = authority(tmp_path / "other.pem")
        mount(tmp_path, other, "keys/other.crt")
        with pytest.raises(UpstreamError, match="certificate"):
            await client.connect(port, BackendTLS(("keys/other.crt",)))
        await client.connect(port, BackendTLS(("keys/other.crt", CA)))


async def test_system_authorities_are_those_of_ssl_cert_file(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem, chain = authority(tmp_path / "own.pem")
    (tmp_path / "system.pem").write_text(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    async with secured(answer, chain) as port:
        await client.connect(port, None)


async def test_the_certificate_must_be_for_the_host_or_the_hostname_that_is_given(
    client: Client, tmp_path: Path
) -> None:
    pem, chain = authority(tmp_path / "own.pem", "llm.internal")
    mount(tmp_path, pem)
    async with secured(answer, chain) as port:
        with pytest.raises(UpstreamError, match="IP address mismatch"):
            await client.connect(port)
        await client.connect(port, BackendTLS((CA,), "llm.internal"))


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x03\xff\xff", b"\x00" * 9000])
async def test_noise_in_place_of_a_handshake_is_no_connection(client: Client, tmp_path: Path, said: bytes) -> None:
    pem, _ = authority(tmp_path / "own.pem")
    mount(tmp_path, pem)

    async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(noise, "127.0.0.1", 0)
    with pytest.raises(UpstreamError) as caught:
        await client.connect(server.sockets[0].getsockname()[1])
    assert caught.value.failure is Failure.CONNECT
    server.close()
    await server.wait_closed()


async def test_a_changed_authority_counts_for_the_next_connection(client: Client, tmp_path: Path) -> None:
    old, first = authority(tmp_path / "old.pem")
    new, second = authority(tmp_path / "new.pem")
    mount(tmp_path, old)
    async with secured(answer, first) as port:
        await client.connect(port)
    async with secured(answer, second) as port:
        client.now_s += CHECK_S
        with pytest.raises(UpstreamError, match="certificate"):
            await client.connect(port)
        mount(tmp_path, new)
        os.utime(tmp_path / CA, ns=(1, 1))
        client.now_s += CHECK_S
        await client.connect(port)


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (None, "ConfigMap corp-ca with key ca.crt is not there for this pod: create it"),
        ("", "ConfigMap corp-ca with key ca.crt holds no certificates in PEM"),
        ("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "holds no certificates in PEM"),
    ],
)
async def test_an_authority_that_cannot_be_used_is_named_with_a_remedy(
    client: Client, tmp_path: Path, pem: str | None, words: str
) -> None:
    if pem is not None:
        mount(tmp_path, pem)
    with pytest.raises(UpstreamError, match=words):
        await client.connect(1)


def private(url: str) -> ProxyConfig:
    config = config_of([url])
    return seal(replace(config, backends={name: replace(each, tls=PRIVATE) for name, each in config.backends.items()}))


async def test_a_call_reaches_a_private_backend_and_a_missing_authority_is_told(tmp_path: Path) -> None:
    pem, chain = authority(tmp_path / "own.pem")
    body = {"model": HAIKU, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    async with secured(answer, chain) as port:
        config = private(f"https://127.0.0.1:{port}")
        assert Credentials(tmp_path, lambda: 0.0).missing(config) == (CA, "llm-keys/key")
        async with world(config, tmp_path) as here:
            refused = await here.post("/v1/messages", body)
            assert refused.status == 503
            assert b"ConfigMap corp-ca with key ca.crt is not there for this pod" in refused.body
            mount(tmp_path, pem)
            assert (await here.post("/v1/messages", body)).status == 200
            assert here.purse.spent == 3 * 1_000_000 + 2 * 5_000_000


async def hits(upstream: Upstream, trust: Trust, port: int) -> int:
    """How many handshakes were short, after one more connection that was used."""
    connection = await upstream.open(f"https://127.0.0.1:{port}", 5, PRIVATE)
    reply = connection.send("GET", "/v1/models", [], b"", Timeouts())
    await reply.head()
    assert await reply.read()
    connection.abort()
    await asyncio.sleep(0)
    return trust.context((CA,)).session_stats()["hits"]


async def test_connections_to_the_same_host_resume_the_first_session_until_it_is_old(tmp_path: Path) -> None:
    pem, chain = authority(tmp_path / "own.pem")
    mount(tmp_path, pem)
    now_s = 0.0
    trust = Trust(tmp_path, lambda: now_s)
    upstream = Upstream(trust.context)
    async with secured(answer, chain) as port:
        assert [await hits(upstream, trust, port) for _ in range(3)] == [0, 1, 2]
        now_s = RESUMED_S - 1
        assert await hits(upstream, trust, port) == 3
        now_s = RESUMED_S
        assert await hits(upstream, trust, port) == 3, "the certificate is looked at again"
        assert await hits(upstream, trust, port) == 4
    await upstream.close()


async def test_a_session_is_not_taken_for_an_authority_that_does_not_sign_the_host(
    client: Client, tmp_path: Path
) -> None:
    pem, chain = authority(tmp_path / "own.pem")
    mount(tmp_path, pem)
    other, _ = authority(tmp_path / "other.pem")
    mount(tmp_path, other, "keys/other.crt")
    async with secured(answer, chain) as port:
        connection = await client.upstream.open(f"https://127.0.0.1:{port}", 5, PRIVATE)
        reply = connection.send("GET", "/v1/models", [], b"", Timeouts())
        await reply.head()
        connection.abort()
        with pytest.raises(UpstreamError, match="certificate"):
            await client.connect(port, BackendTLS(("keys/other.crt",)))
