"""Provider keys as files."""

from __future__ import annotations

import os
from pathlib import Path

from tests.sidecar.shell.proxied import HAIKU, KEY, config_of, world

from keelage_api.money import PICO_PER_USD
from keelage_dev.provider import FakeProvider
from keelage_sidecar.shell.credentials import CHECK_S, Credentials


def test_a_key_is_read_again_when_its_file_has_changed(tmp_path: Path) -> None:
    now = [0.0]
    file = tmp_path / "s" / "k"
    credentials = Credentials(tmp_path, lambda: now[0])
    assert credentials.get("s/k") is None
    file.parent.mkdir()
    file.write_text("one\n")
    assert credentials.get("s/k") == "one"
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    assert credentials.get("s/k") == "one"
    now[0] += CHECK_S
    assert credentials.get("s/k") == "two"
    file.unlink()
    now[0] += CHECK_S
    assert credentials.get("s/k") is None


def test_an_empty_key_is_missing(tmp_path: Path) -> None:
    (tmp_path / "llm-keys").mkdir()
    (tmp_path / "llm-keys" / "key").write_text("\n")
    assert Credentials(tmp_path, lambda: 0.0).missing(config_of(["http://a"])) == ("llm-keys/key",)


BODY = {"model": HAIKU, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
NEW = "sk-rotated"


def rotate(keys: Path, key: str = NEW) -> None:
    """As the kubelet does it, within the same second."""
    (keys / "llm-keys" / "key").write_text(key)
    os.utime(keys / "llm-keys" / "key", ns=(1, 1))


async def test_a_refused_key_is_read_again_and_the_call_sent_once_more(tmp_path: Path) -> None:
    async with FakeProvider({NEW: "new"}) as provider, world(config_of([provider.url]), tmp_path) as here:
        assert (await here.post("/v1/messages", BODY)).status == 401
        assert [record.key for record in provider.requests()] == [""]
        rotate(tmp_path)
        assert (await here.post("/v1/messages", BODY)).status == 200
        assert (await here.post("/v1/messages", {**BODY, "stream": True})).clean
        assert [record.key for record in provider.requests()] == ["", "", "new", "new"]
        assert here.purse.spent == int(provider.bill().usd * PICO_PER_USD) > 0


async def test_a_key_that_stays_refused_is_reported_after_one_more_try(tmp_path: Path) -> None:
    async with FakeProvider({NEW: "new"}) as provider, world(config_of([provider.url]), tmp_path) as here:
        await here.post("/v1/messages", BODY)
        rotate(tmp_path, "sk-wrong-as-well")
        reply = await here.post("/v1/messages", BODY)
        assert (reply.status, reply.json()["type"]) == (401, "error")
        assert len(provider.requests()) == 3
        assert here.purse.spent == 0
        assert [record.attempts for record in here.records] == [1, 1]


async def test_a_key_that_is_gone_after_a_refusal_leaves_the_refusal_as_it_is(tmp_path: Path) -> None:
    async with FakeProvider({NEW: "new"}) as provider, world(config_of([provider.url]), tmp_path) as here:
        await here.post("/v1/messages", BODY)
        (tmp_path / "llm-keys" / "key").unlink()
        assert (await here.post("/v1/messages", BODY)).status == 401
        assert (await here.post("/v1/messages", BODY)).headers["x-keelage-reason"] == "CredentialMissing"


async def test_the_new_key_is_used_without_a_refusal_in_between(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "old", NEW: "new"}) as provider, world(config_of([provider.url]), tmp_path) as here:
        await here.post("/v1/messages", BODY)
        rotate(tmp_path)
        here.later_s += CHECK_S
        await here.post("/v1/messages", BODY)
        assert [record.key for record in provider.requests()] == ["old", "new"]


async def test_batches_are_asked_about_with_the_new_key_too(tmp_path: Path) -> None:
    async with FakeProvider({NEW: "new"}) as provider, world(config_of([provider.url]), tmp_path) as here:
        assert (await here.ask("GET", "/v1/messages/batches")).status == 401
        rotate(tmp_path)
        assert (await here.ask("GET", "/v1/messages/batches")).status == 200
