"""The store of a world: fails now and then, before or after it wrote, and tells of each write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from keelage_dev.memory_store import MemoryStore
from keelage_operator.core.ledger import LedgerRecord
from keelage_operator.shell.ledger_store import LedgerKey, Stored, StoreUnavailable


class FailingStore(MemoryStore):
    def __init__(
        self, chance: Random, unlucky: Callable[[float], bool], wrote: Callable[[LedgerKey, LedgerRecord], None]
    ) -> None:
        super().__init__()
        self._chance = chance
        self._unlucky = unlucky
        self._told = wrote

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        await self._delay()
        return await self._wrote(key, await super().create(key, record))

    async def replace(self, key: LedgerKey, record: LedgerRecord, version: str) -> Stored:
        await self._delay()
        return await self._wrote(key, await super().replace(key, record, version))

    def peek(self, key: LedgerKey) -> LedgerRecord | None:
        stored = self._stored.get(key)
        return stored.record if stored is not None else None

    def lose(self, key: LedgerKey) -> None:
        """Somebody deletes the object."""
        self._stored.pop(key)

    async def _delay(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, 0.02))
        if self._unlucky(0.02):
            raise StoreUnavailable("not written")

    async def _wrote(self, key: LedgerKey, stored: Stored) -> Stored:
        self._told(key, stored.record)
        await asyncio.sleep(self._chance.uniform(0, 0.02))
        if self._unlucky(0.02):
            raise StoreUnavailable("written, but the answer was lost")
        return stored
