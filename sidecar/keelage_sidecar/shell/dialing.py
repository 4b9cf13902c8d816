"""Connections to the operator, opened with more patience than an exchange has.

A thousand sidecars that connect at once wait for their handshakes longer than for any answer. One that was given up
when its exchange was over and begun anew with the next would cost the operator another handshake each time, and none
would ever end. Here an attempt goes on when the exchange that began it has ended; the next one finds its connection.
"""

from __future__ import annotations

import asyncio

from keelage_api.proxy_config import Timeouts
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.upstream import Connection, Upstream

DIAL_S = 15.0
"""For one attempt: several times what a new leader needs for the handshakes of all the sidecars that it can serve."""
ATTEMPTS_MAX = 2
"""Under way at once in one conversation: the first may be with a replica whose node is gone, and the Service leads the
second to another one."""


class Dialing:
    def __init__(self, http: Upstream) -> None:
        self._http = http
        self._under_way: dict[tuple[str, str], set[asyncio.Task[None]]] = {}
        """By base URL and path: each conversation has a connection of its own."""

    async def connection(self, base: str, path: str, timeouts: Timeouts) -> Connection:
        """One to use for a request; raises UpstreamError with `Failure.CONNECT` if there is none by `connect_ms`."""
        pool = self._http.pool(base)
        connection = self._http.at_hand(pool)
        if connection is not None:
            return connection
        attempts = self._under_way.setdefault((base, path), set())
        if len(attempts) < ATTEMPTS_MAX:
            attempt = asyncio.create_task(self._http.warm(pool, DIAL_S), name=f"connection to {base}")
            attempts.add(attempt)
            attempt.add_done_callback(attempts.discard)
            attempt.add_done_callback(_read)
        patience_s = timeouts.connect_ms / 1000
        done, _ = await asyncio.wait(attempts, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        connection = self._http.at_hand(pool)
        if connection is not None:
            return connection
        for failed in done:
            failed.result()
        raise UpstreamError(Failure.CONNECT, f"no connection within {patience_s:g} s; it is still waited for")

    async def close(self) -> None:
        """Give up what is under way."""
        attempts = [attempt for attempts in self._under_way.values() for attempt in attempts]
        for attempt in attempts:
            attempt.cancel()
        if attempts:
            await asyncio.wait(attempts)


def _read(attempt: asyncio.Task[None]) -> None:
    """Whoever began it may be gone: how it ended is no news to the loop."""
    if not attempt.cancelled():
        attempt.exception()
