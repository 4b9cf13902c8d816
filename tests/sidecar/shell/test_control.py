"""The control channel's client against operators made of handlers."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.sidecar.shell.proxied import config_of

from keelage_api.codec import decode, encode
from keelage_api.errors import MessageError
from keelage_api.proxy_config import Timeouts
from keelage_api.sync import ConfigReply, ConfigRequest, Right, SyncReply, SyncRequest
from keelage_sidecar.app import provider_tls
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.config_watch import SourceUnreachable
from keelage_sidecar.shell.connection import Connection
from keelage_sidecar.shell.control import Control
from keelage_sidecar.shell.lease_keeper import LedgerUnreachable
from keelage_sidecar.shell.limits import Limits
from keelage_sidecar.shell.port import Handler, Port
from keelage_sidecar.shell.server import Server
from keelage_sidecar.shell.upstream import Upstream

JSON = [(b"content-type", b"application/json")]
CONFIG = config_of(["http://127.0.0.1:1"])
REQUEST = SyncRequest("incarnation")
RIGHTS = SyncReply((Right("shop/month", "2026-11", 1, 5),))


async def operator(handle: Handler) -> tuple[Server, str]:
    server = Server(handle)
    return server, f"127.0.0.1:{await server.serve('127.0.0.1', 0)}"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("header.payload.signature\n")
    return path


def answering(reply: msgspec.Struct) -> Handler:
    async def handle(call: Call) -> None:
        call.reply(200, JSON, encode(reply))

    return handle


async def test_a_configuration_is_polled_for_until_there_is_another_one(token: Path) -> None:
    polls: list[ConfigRequest] = []

    async def handle(call: Call) -> None:
        assert call.target == "/v1/config"
        assert dict(call.headers)[b"authorization"] == b"Bearer header.payload.signature"
        polls.append(decode(ConfigRequest, call.body))
        reply = ConfigReply(msgspec.Raw(encode(CONFIG))) if len(polls) == 3 else ConfigReply()
        call.reply(200, JSON, encode(reply))

    server, address = await operator(handle)
    control = Control(f"http://{address}", "", token)
    assert await control.next("old") == CONFIG
    assert [poll.version for poll in polls] == ["old"] * 3
    await control.close()
    await server.finish()


async def test_a_configuration_of_a_newer_format_is_a_message_error(token: Path) -> None:
    newer = msgspec.Raw(encode(msgspec.structs.replace(CONFIG, format=99)))
    server, address = await operator(answering(ConfigReply(newer)))
    control = Control(f"http://{address}", "", token)
    with pytest.raises(MessageError, match="newer"):
        await control.next("")
    await control.close()
    await server.finish()


async def test_the_leader_is_asked_and_remembered(token: Path) -> None:
    asked: list[str] = []

    async def lead(call: Call) -> None:
        asked.append("leader")
        assert decode(SyncRequest, call.body) == REQUEST
        call.reply(200, JSON, encode(RIGHTS))

    leader, leads_at = await operator(lead)

    async def follow(call: Call) -> None:
        asked.append("follower")
        call.reply(200, JSON, encode(SyncReply(leader=leads_at)))

    follower, follows_at = await operator(follow)
    control = Control(f"http://{follows_at}", "", token)
    assert await control.sync(REQUEST) == RIGHTS
    assert await control.sync(REQUEST) == RIGHTS
    assert asked == ["follower", "leader", "leader"]
    await leader.finish()
    with pytest.raises(LedgerUnreachable):
        await control.sync(REQUEST)
    with pytest.raises(LedgerUnreachable):
        await control.sync(REQUEST)
    assert asked[3:] == ["follower"], "a leader that is gone is forgotten, and asked for again"
    await control.close()
    await follower.finish()


async def test_replicas_that_name_each_other_are_not_followed_for_ever(token: Path) -> None:
    addresses: list[str] = []

    async def confused(call: Call) -> None:
        call.reply(200, JSON, encode(SyncReply(leader=addresses[0])))

    server, address = await operator(confused)
    addresses.append(address)
    control = Control(f"http://{address}", "", token)
    with pytest.raises(LedgerUnreachable):
        await control.sync(REQUEST)
    await control.close()
    await server.finish()


@pytest.mark.parametrize(("status", "body"), [(401, b"who are you"), (200, b"not json"), (503, b"")])
async def test_an_answer_that_is_none_is_silence(token: Path, status: int, body: bytes) -> None:
    async def handle(call: Call) -> None:
        call.reply(status, JSON, body)

    server, address = await operator(handle)
    control = Control(f"http://{address}", "", token)
    with pytest.raises(LedgerUnreachable):
        await control.sync(REQUEST)
    with pytest.raises((SourceUnreachable, MessageError)):
        await control.next("")
    await control.close()
    await server.finish()


async def test_without_a_token_nobody_is_asked(tmp_path: Path) -> None:
    control = Control("http://127.0.0.1:1", "", tmp_path / "none")
    with pytest.raises(LedgerUnreachable, match="none"):
        await control.sync(REQUEST)
    await control.close()


async def test_only_an_operator_of_our_own_authority_is_believed(token: Path, tmp_path: Path) -> None:
    ca_pem, chain = authority(tmp_path / "a.pem")
    other_pem, _ = authority(tmp_path / "b.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    port = Port(answering(RIGHTS), Limits())
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(port), "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    ours, theirs = Control(url, ca_pem, token), Control(url, other_pem, token)
    assert await ours.sync(REQUEST) == RIGHTS
    with pytest.raises(LedgerUnreachable, match="certificate"):
        await theirs.sync(REQUEST)
    await ours.close()
    await theirs.close()
    listening.close()
    for connection in list(port.connections):
        connection.close()
    await listening.wait_closed()


async def test_a_provider_is_believed_by_the_authorities_of_ssl_cert_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca_pem, chain = authority(tmp_path / "a.pem")
    (tmp_path / "ca.pem").write_text(ca_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    port = Port(answering(RIGHTS), Limits())
    listening = await asyncio.get_running_loop().create_server(lambda: Connection(port), "127.0.0.1", 0, ssl=context)
    endpoint = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    strangers = Upstream(provider_tls)
    with pytest.raises(UpstreamError, match="certificate"):
        await strangers.open(endpoint, 5)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    friends = Upstream(provider_tls)
    connection = await friends.open(endpoint, 5)
    answer = connection.send("GET", "/", [(b"host", b"a")], b"", Timeouts())
    await answer.head()
    assert (answer.status, await answer.read()) == (200, encode(RIGHTS))
    assert await friends.open(endpoint, 5) is connection, "the connection is used again"
    await friends.close()
    await strangers.close()
    connection.close()
    listening.close()
    for each in list(port.connections):
        each.close()
    await listening.wait_closed()


def authority(chain: Path) -> tuple[str, Path]:
    """A self-signed certificate for 127.0.0.1, and the file of it with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "keelage test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    chain.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem.decode(), chain
