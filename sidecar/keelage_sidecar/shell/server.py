"""A listening port: opened, swept, drained and closed here; what happens on a connection is in `connection`."""

from __future__ import annotations

import asyncio
from typing import cast

from keelage_sidecar.shell.connection import Connection
from keelage_sidecar.shell.limits import Limits
from keelage_sidecar.shell.port import Handler, Port

SWEEP_S = 1.0


class Server:
    """A listening port. `serve` opens it, `finish` ends what runs and closes it."""

    def __init__(self, handler: Handler, limits: Limits | None = None) -> None:
        self._port = Port(handler, limits or Limits())
        self._listening: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def serve(self, host: str, port: int) -> int:
        """Listen; the port, which the system chose if `port` is 0."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(lambda: Connection(self._port), host, port, backlog=1024)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep_again)
        return cast(int, self._listening.sockets[0].getsockname()[1])

    @property
    def active(self) -> int:
        """Calls being answered."""
        return len(self._port.running)

    @property
    def connected(self) -> int:
        """Open connections, idle ones included."""
        return len(self._port.connections)

    async def drain(self, patience_s: float) -> None:
        """Go on serving, each connection until its next reply, until none is left or time is up."""
        self._port.drain()
        if self._port.connections:
            self._port.empty.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self._port.empty.wait()
            except TimeoutError:
                return

    async def finish(self) -> None:
        """Stop listening, cancel running calls and wait until they have settled, close every connection."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        running = dict(self._port.running)
        for connection in running.values():
            connection.cancel()
        if running:
            await asyncio.wait(running)
        for connection in list(self._port.connections):
            connection.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _sweep_again(self) -> None:
        loop = asyncio.get_running_loop()
        self._port.sweep(loop.time())
        self._sweeper = loop.call_later(SWEEP_S, self._sweep_again)
