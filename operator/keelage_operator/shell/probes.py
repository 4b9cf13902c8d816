"""/livez, /readyz and /metrics, plain HTTP on a port of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

LAG_EVERY_S = 1.0
LAG_MAX_S = 20.0
"""A loop that is late by this much serves neither admission nor rights: a restart is better."""

Sleep = Callable[[float], Awaitable[None]]
Check = Callable[[], bool]


class Heartbeat:
    """Notes how late the loop is."""

    def __init__(self, clock: Callable[[], float], sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self.lag_s = 0.0

    async def run(self) -> None:
        while True:
            before_s = self._clock()
            await self._sleep(LAG_EVERY_S)
            self.lag_s = max(0.0, self._clock() - before_s - LAG_EVERY_S)

    def well(self) -> bool:
        return self.lag_s < LAG_MAX_S


class Probes:
    """`live` and `ready` are checks by name; an answer of 503 names those that fail."""

    def __init__(self, live: dict[str, Check], ready: dict[str, Check], registry: CollectorRegistry) -> None:
        self._live = live
        self._ready = ready
        self._registry = registry
        self._runner: web.AppRunner | None = None

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def start(self, host: str, port: int) -> None:
        self._runner = web.AppRunner(self.application(), access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return _verdict(self._live)

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _verdict(self._ready)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _verdict(checks: dict[str, Check]) -> web.Response:
    failing = [name for name, check in checks.items() if not check()]
    if failing:
        return web.Response(status=503, text=f"not yet: {', '.join(failing)}\n")
    return web.Response(text="ok\n")
