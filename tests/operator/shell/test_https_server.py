"""The border over real sockets: what the API server and sidecars get for what they send."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from tests.operator.shell.border_fakes import Clock, Fresh, Ledgers, Pods, Routes, Tokens, config

from keelage_api.codec import decode, encode
from keelage_api.errors import KeelageError
from keelage_api.mounted import MountedKey
from keelage_api.sync import ConfigReply, ConfigRequest, Statement, SyncReply, SyncRequest
from keelage_operator.core.price_book import price_book
from keelage_operator.core.sidecar_template import SidecarTemplate
from keelage_operator.core.speakers import Speakers
from keelage_operator.shell import https_server
from keelage_operator.shell.config_channel import ConfigChannel, Leadership, SyncChannel
from keelage_operator.shell.https_server import Border, Bounds, HttpsServer, application
from keelage_operator.shell.token_review import TokenReviewer

GOOD = {"Authorization": "Bearer good"}
SYNC = encode(SyncRequest("inc", statements=(Statement("shop/month", "", seq=1, want=5),)))


@dataclass
class Client:
    session: aiohttp.ClientSession
    url: str

    async def post(
        self, path: str, body: bytes | io.BytesIO, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        async with self.session.post(self.url + path, data=body, headers=headers) as answer:
            return answer.status, await answer.read()


@asynccontextmanager
async def border(
    routes: Routes | None = None, ledgers: Ledgers | None = None, fresh: Fresh | None = None
) -> AsyncIterator[Client]:
    source, clock = routes or Routes(), Clock()
    parts = Border(
        routes=source,
        credentials=fresh or Fresh(),
        book=price_book(),
        template=lambda: SidecarTemplate("keelage/sidecar:1", "https://keelage.ops.svc:8443", b"CA"),
        reviewer=TokenReviewer(Tokens(), clock, clock),
        configs=ConfigChannel(source, Pods(), clock),
        syncs=SyncChannel(ledgers or Ledgers(), Speakers(), lambda: Leadership(True, "x:1"), clock, lambda _: None),
    )
    async with (
        HttpsServer(application(parts), None, "127.0.0.1", 0) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, f"http://127.0.0.1:{server.port}")


def review(kind: str, raw: object, operation: str = "CREATE") -> bytes:
    request = {"uid": "u-1", "kind": {"kind": kind}, "namespace": "shop", "operation": operation, "object": raw}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def pod(**spec: object) -> dict[str, object]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "i"}], **spec}}


async def test_pod_gets_its_sidecar_with_the_credentials_of_its_routes() -> None:
    async with border() as client:
        status, body = await client.post("/inject", review("Pod", pod()))
    response = json.loads(body)["response"]
    assert (status, response["uid"], response["allowed"]) == (200, "u-1", True)
    patch = {op["path"]: op["value"] for op in json.loads(base64.b64decode(response["patch"]))}
    assert patch["/spec/initContainers"][0]["image"] == "keelage/sidecar:1"
    assert "llm-keys/anthropic" in json.dumps(patch["/spec/volumes"])


async def test_pod_gets_the_credentials_of_a_route_that_the_watch_has_not_shown() -> None:
    async with border(Routes(credentials=()), fresh=Fresh((MountedKey("new", "key"),))) as client:
        _, body = await client.post("/inject", review("Pod", pod()))
    patch = {op["path"]: op["value"] for op in json.loads(base64.b64decode(json.loads(body)["response"]["patch"]))}
    assert "new/key" in json.dumps(patch["/spec/volumes"])


async def test_refused_pod_is_told_why() -> None:
    async with border() as client:
        _, body = await client.post("/inject", review("Pod", pod(hostNetwork=True)))
    response = json.loads(body)["response"]
    assert response["allowed"] is False
    assert "hostNetwork" in response["status"]["message"]


async def test_pod_is_neither_patched_nor_denied_while_the_cache_fills() -> None:
    async with border(Routes(ready=False)) as client:
        status, body = await client.post("/inject", review("Pod", pod()))
    assert status == 503, "the webhook's failurePolicy decides"
    assert b"starting" in body


async def test_wrong_resource_is_refused_at_apply() -> None:
    bad = {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMBudget",
        "metadata": {"name": "month", "namespace": "shop"},
        "spec": {"limit": {"amount": "1.00"}, "window": {"every": "Day", "timeZone": "Mars/Base"}},
    }
    async with border() as client:
        _, body = await client.post("/validate", review("LLMBudget", bad))
    response = json.loads(body)["response"]
    assert response["allowed"] is False
    assert "Mars/Base" in response["status"]["message"]


async def test_sidecar_gets_configuration_and_rights() -> None:
    async with border() as client:
        status, body = await client.post("/v1/config", encode(ConfigRequest()), GOOD)
        assert status == 200
        found = decode(ConfigReply, body).config
        assert found is not None
        assert bytes(found) == encode(config("shop/one"))
        status, body = await client.post("/v1/sync", SYNC, GOOD)
    assert status == 200
    assert decode(SyncReply, body).rights[0].granted == 5


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic good"}, {"Authorization": "Bearer bad"}])
@pytest.mark.parametrize("path", ["/v1/config", "/v1/sync"])
async def test_nobody_speaks_without_a_pods_token(path: str, headers: dict[str, str]) -> None:
    ledgers = Ledgers()
    async with border(ledgers=ledgers) as client:
        status, _ = await client.post(path, SYNC, headers)
    assert status == 401
    assert ledgers.heard == []


@pytest.mark.parametrize("path", ["/inject", "/validate", "/v1/config", "/v1/sync"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\x00"])
async def test_bad_body_is_refused_by_its_name(path: str, body: bytes) -> None:
    async with border() as client:
        status, answer = await client.post(path, body, GOOD)
    assert status == 400
    assert json.loads(answer)["reason"] == "BadMessage"


@pytest.mark.parametrize(("path", "bytes_max"), [("/inject", 4 << 20), ("/v1/config", 4 << 10), ("/v1/sync", 1 << 18)])
async def test_body_beyond_the_bound_is_refused(path: str, bytes_max: int) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(bytes_max // 65_536 + 1):
            yield b" " * 65_536

    async with border() as client:
        assert (await client.post(path, io.BytesIO(b" " * (bytes_max + 1)), GOOD))[0] == 413
        async with client.session.post(client.url + path, data=endless(), headers=GOOD) as answer:
            assert answer.status == 413


async def test_ledgers_that_cannot_answer_ask_to_come_again() -> None:
    async with (
        border(ledgers=Ledgers(error=KeelageError("the API server is down"))) as client,
        client.session.post(client.url + "/v1/sync", data=SYNC, headers=GOOD) as answer,
    ):
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"


async def test_body_that_dribbles_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https_server, "BODY_S", 0.01)
    forever = asyncio.Event()

    async def dribble() -> AsyncIterator[bytes]:
        yield b"{"
        await forever.wait()

    async with border() as client:
        async with client.session.post(client.url + "/v1/sync", data=dribble(), headers=GOOD) as answer:
            assert answer.status == 408
        forever.set()


async def test_more_than_the_bound_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https_server, "CONFIG", Bounds(body_bytes=1 << 20, answer_s=5.0, at_once=1))
    routes = Routes()
    waiting = encode(ConfigRequest(version=config("shop/one").version))
    async with border(routes) as client:
        poll = asyncio.ensure_future(client.post("/v1/config", waiting, GOOD))
        await routes.polled()
        assert (await client.post("/v1/config", waiting, GOOD))[0] == 503
        routes.configs["web"] = config("shop/two")
        routes.change()
        assert (await poll)[0] == 200
        assert (await client.post("/v1/config", waiting, GOOD))[0] == 200


async def test_abandoned_poll_ends_with_its_connection() -> None:
    routes = Routes()
    async with border(routes) as client:
        poll = asyncio.ensure_future(
            client.post("/v1/config", encode(ConfigRequest(version=config("shop/one").version)), GOOD)
        )
        await routes.polled()
        poll.cancel()
        await routes.abandoned()


async def test_bodies_that_would_fill_the_memory_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Bounds(body_bytes=1000, answer_s=5.0, at_once=100, bytes_at_once=1100)
    monkeypatch.setattr(https_server, "CONFIG", small)
    routes = Routes()
    waiting = encode(ConfigRequest(version=config("shop/one").version))
    async with border(routes) as client:
        poll = asyncio.ensure_future(client.post("/v1/config", waiting.ljust(900), GOOD))
        await routes.polled()
        assert (await client.post("/v1/config", waiting.ljust(900), GOOD))[0] == 503
        poll.cancel()
        await routes.abandoned()
        routes.configs["web"] = config("shop/two")
        assert (await client.post("/v1/config", waiting.ljust(900), GOOD))[0] == 200
