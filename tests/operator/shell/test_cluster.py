"""The border to the API server: what its refusals mean."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from keelage_operator.shell.cluster import KubernetesCluster, Refused


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("llmledgers is forbidden: User cannot create resource", 1),
        ("namespace shop because it is being terminated", 0),
    ],
)
async def test_a_right_that_the_role_lacks_is_told_apart_from_a_namespace_that_ends(message: str, told: int) -> None:
    async def forbid(_request: web.Request) -> web.Response:
        return web.json_response({"reason": "Forbidden", "message": message}, status=403)

    app = web.Application()
    app.router.add_post("/apis/x", forbid)
    async with TestServer(app) as server:
        settings = client.Configuration(host=str(server.make_url("")).rstrip("/"))
        cluster = KubernetesCluster(client.ApiClient(configuration=settings))
        heard: list[str] = []
        cluster.on_lacking_right = lambda request, answer: heard.append(f"{request}: {answer}")
        with pytest.raises(Refused):
            await cluster.create("/apis/x", {})
        await cluster.close()
    assert len(heard) == told
    assert all(text.startswith("POST /apis/x: 403 Forbidden") for text in heard)
