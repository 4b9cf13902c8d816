"""Keys that want work: each once, none by two workers at a time, failures ever later, all together at a bounded rate.

The contract of client-go's workqueue. A key added while it is being worked on is
worked on once more afterwards.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

BACKOFF_BASE_S = 0.5
BACKOFF_MAX_S = 60.0
"""A key that fails each time is tried again at least once a minute: the API server may be back."""

RATE_PER_S = 20.0
BURST = 100.0
"""Each key costs a few API calls; a start with many namespaces must not flood the API server."""

Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class TokenBucket:
    """`take` says how long to wait before the next piece of work, in seconds."""

    rate_per_s: float
    burst: float
    _level: float = field(init=False)
    _at_s: float = 0.0

    def __post_init__(self) -> None:
        self._level = self.burst

    def take(self, now_s: float) -> float:
        self._level = min(self.burst, self._level + max(0.0, now_s - self._at_s) * self.rate_per_s) - 1.0
        self._at_s = now_s
        return max(0.0, -self._level / self.rate_per_s)


class WorkQueue:
    """Bounded by the number of distinct keys. For one event loop; not thread-safe."""

    def __init__(self, clock: Callable[[], float], sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._due: list[tuple[float, str]] = []
        self._when: dict[str, float] = {}
        """By waiting key; an entry of the heap that says otherwise is void."""
        self._working: set[str] = set()
        self._again: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._bucket = TokenBucket(RATE_PER_S, BURST)
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._when)

    def add(self, key: str, after_s: float = 0.0) -> None:
        """Have the key worked on, not later than `after_s` from now."""
        at = self._clock() + after_s
        if key in self._working:
            self._again[key] = min(at, self._again.get(key, at))
            return
        if at < self._when.get(key, float("inf")):
            self._when[key] = at
            heapq.heappush(self._due, (at, key))
            self._changed.set()

    async def get(self) -> str:
        """Wait for a key that is due. The caller says `done` or `failed` afterwards."""
        while True:
            wait_s = self._next_due()
            if wait_s is not None and wait_s <= 0:
                at, key = heapq.heappop(self._due)
                if self._when.get(key) != at:
                    continue
                del self._when[key]
                self._working.add(key)
                pause_s = self._bucket.take(self._clock())
                if pause_s > 0:
                    await self._sleep(pause_s)
                return key
            self._changed.clear()
            if wait_s is None:
                await self._changed.wait()
            else:
                await self._first(wait_s)

    def done(self, key: str) -> None:
        """The work succeeded."""
        self._failures.pop(key, None)
        self._finish(key)

    def failed(self, key: str) -> float:
        """The work failed: the key comes back after a pause that doubles; the pause in seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        pause_s = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2.0 ** min(count, 30))
        self._finish(key)
        self.add(key, pause_s)
        return pause_s

    def _finish(self, key: str) -> None:
        self._working.discard(key)
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, max(0.0, again - self._clock()))

    def _next_due(self) -> float | None:
        while self._due and self._when.get(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] - self._clock() if self._due else None

    async def _first(self, wait_s: float) -> None:
        """Until something was added or the time is over."""
        pause = asyncio.ensure_future(self._sleep(wait_s))
        added = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({pause, added}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            added.cancel()
