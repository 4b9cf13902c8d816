"""An API server that only lists and watches, over plain HTTP, for kopf to talk to."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from keelage_operator.shell.cluster import Json

GROUP_LIST: Json = {
    "kind": "APIGroupList",
    "groups": [
        {
            "name": "keelage.dev",
            "versions": [{"groupVersion": "keelage.dev/v1alpha1", "version": "v1alpha1"}],
            "preferredVersion": {"groupVersion": "keelage.dev/v1alpha1", "version": "v1alpha1"},
        }
    ],
}


def resource(plural: str, kind: str) -> Json:
    return {
        "name": plural,
        "singularName": kind.lower(),
        "kind": kind,
        "namespaced": True,
        "verbs": ["get", "list", "watch", "patch"],
    }


class WatchedServer:
    """`tell` sends an event to every watch of a plural; `requests` are those of kopf."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.listed: dict[str, list[Json]] = {"llmroutes": [], "llmbudgets": [], "pods": []}
        self.watching: dict[str, asyncio.Event] = {plural: asyncio.Event() for plural in self.listed}
        self._streams: dict[str, list[asyncio.Queue[Json]]] = {plural: [] for plural in self.listed}
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> str:
        """The address."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def tell(self, plural: str, kind: str, body: Json) -> None:
        for stream in self._streams[plural]:
            stream.put_nowait({"type": kind, "object": body})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        match request.path:
            case "/version":
                return web.json_response({"major": "1", "minor": "36"})
            case "/api":
                return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
            case "/apis":
                return web.json_response(GROUP_LIST)
            case "/api/v1":
                # kopf waits until it knows of namespaces, even if it watches the whole cluster.
                core = [resource("pods", "Pod"), {**resource("namespaces", "Namespace"), "namespaced": False}]
                return web.json_response({"groupVersion": "v1", "resources": core})
            case "/apis/keelage.dev/v1alpha1":
                found = [resource("llmroutes", "LLMRoute"), resource("llmbudgets", "LLMBudget")]
                return web.json_response({"groupVersion": "keelage.dev/v1alpha1", "resources": found})
        plural = request.path.rpartition("/")[2]
        if request.method != "GET" or plural not in self.listed:
            return web.json_response({"kind": "Status", "code": 404, "message": "not found"}, status=404)
        if "watch" not in request.query:
            items = self.listed[plural]
            return web.json_response({"kind": "List", "metadata": {"resourceVersion": "100"}, "items": items})
        return await self._watch(request, plural)

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        stream: asyncio.Queue[Json] = asyncio.Queue()
        self._streams[plural].append(stream)
        self.watching[plural].set()
        while True:
            await response.write(json.dumps(await stream.get()).encode() + b"\n")
