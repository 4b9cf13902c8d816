"""TLS connections that are opened before a call needs them, so that its first byte waits for no handshake.

One at a time, one per provider: to those that calls ask first when a configuration names them, and again to those that
were asked lately when their last idle connection has been closed. A provider that cannot be reached is left alone until
a call has reached it.
"""

from __future__ import annotations

import contextlib
import math

from keelage_api.proxy_config import ProxyConfig
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.upstream import Pool, Upstream

LATELY_S = 300.0
"""For how long after its last answer, or after its backend was configured, a provider is kept warm: with the 30 s that
an idle connection is kept, at most ten handshakes for nothing, most of them resumed (half a millisecond of CPU)."""
PAUSE_S = 15.0
"""Between two to the same provider, which may close idle connections at once."""
CONNECT_S = 5.0


class Warmer:
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def expect(self, config: ProxyConfig) -> None:
        """Calls under that configuration will come: one connection to each backend that they ask first."""
        upstream = self._upstream
        tiers = (*(rule.choices for rule in config.rules), *config.tiers.values())
        first = {choices[0].backend for choices in tiers if choices}
        for backend in (each for name, each in config.backends.items() if name in first):
            try:
                pool = upstream.pool(backend.endpoint, backend.tls)
            except UpstreamError:  # each call will tell
                continue
            if pool.used_s == -math.inf:
                pool.used_s = upstream.loop.time()
                upstream.cooled(pool)

    async def run(self) -> None:
        """Until cancelled."""
        upstream = self._upstream
        while True:
            pool = await upstream.cold.get()
            pool.is_cold = False
            now_s = upstream.loop.time()
            if is_wanted(pool, now_s):
                pool.warmed_s = now_s
                with contextlib.suppress(UpstreamError):  # a call will find out too, and tell
                    await upstream.warm(pool, CONNECT_S)


def is_wanted(pool: Pool, now_s: float) -> bool:
    if pool.idle or not pool.origin.secure:
        return False
    return now_s < pool.used_s + LATELY_S and now_s >= pool.warmed_s + PAUSE_S
