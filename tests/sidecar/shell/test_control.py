"""The control channel's client against operators made of handlers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.sidecar.shell.proxied import config_of
from tests.sidecar.shell.secured import authority, secured

from keelage_api.codec import decode, encode
from keelage_api.errors import MessageError
from keelage_api.sync import ConfigReply, ConfigRequest, Right, SyncReply, SyncRequest
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.config_watch import SourceUnreachable
from keelage_sidecar.shell.control import Control
from keelage_sidecar.shell.lease_keeper import LedgerUnreachable
from keelage_sidecar.shell.port import Handler
from keelage_sidecar.shell.server import Server

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
    async with secured(answering(RIGHTS), chain) as port:
        url = f"https://127.0.0.1:{port}"
        ours, theirs = Control(url, ca_pem, token), Control(url, other_pem, token)
        assert await ours.sync(REQUEST) == RIGHTS
        with pytest.raises(LedgerUnreachable, match="certificate"):
            await theirs.sync(REQUEST)
        await ours.close()
        await theirs.close()
