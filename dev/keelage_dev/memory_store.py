"""A store of ledgers in memory, for tests and measurements: it keeps the contract of every store."""

from __future__ import annotations

from dataclasses import dataclass, field

from keelage_operator.core.ledger import LedgerRecord
from keelage_operator.shell.ledger_store import LedgerKey, StoreConflict, Stored


@dataclass(slots=True)
class MemoryStore:
    """Ends with its process."""

    _stored: dict[LedgerKey, Stored] = field(default_factory=dict)
    _writes: int = 0

    async def load(self, key: LedgerKey) -> Stored | None:
        return self._stored.get(key)

    async def list_keys(self) -> tuple[LedgerKey, ...]:
        return tuple(sorted(self._stored))

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        if key in self._stored:
            raise StoreConflict(f"ledger {key} exists already")
        return self._write(key, record)

    async def replace(self, key: LedgerKey, record: LedgerRecord, version: str) -> Stored:
        stored = self._stored.get(key)
        if stored is None or stored.version != version:
            raise StoreConflict(f"ledger {key} is not at version {version}")
        return self._write(key, record)

    async def delete(self, key: LedgerKey, version: str) -> None:
        stored = self._stored.get(key)
        if stored is not None and stored.version != version:
            raise StoreConflict(f"ledger {key} is not at version {version}")
        self._stored.pop(key, None)

    def _write(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        self._writes += 1
        stored = Stored(record, str(self._writes))
        self._stored[key] = stored
        return stored
