"""A clock that stands still until a test moves it, and sleeps that end by it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

BEGIN = datetime(2026, 11, 21, 12, tzinfo=UTC)


class VirtualTime:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def clock(self) -> float:
        return self.now_s

    def wall(self) -> datetime:
        return BEGIN + timedelta(seconds=self.now_s - 1000.0)

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + seconds, next(self._order), future))
        await future

    async def settle(self) -> None:
        """Let every task run until all of them wait."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Move on, waking sleepers in order, each at its own time."""
        await self.settle()
        until_s = self.now_s + seconds
        while self._sleepers and self._sleepers[0][0] <= until_s:
            at_s, _, future = heapq.heappop(self._sleepers)
            self.now_s = max(self.now_s, at_s)
            if not future.done():
                future.set_result(None)
            await self.settle()
        self.now_s = until_s
