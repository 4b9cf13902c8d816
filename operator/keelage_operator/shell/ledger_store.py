"""Where ledgers are kept: a place with compare-and-swap, and nothing else asked of it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from keelage_api.errors import KeelageError
from keelage_operator.core.ledger import LedgerRecord
from keelage_operator.core.shard import has_values

RECORD_BYTES_MAX = 1 << 20
"""etcd refuses requests above 1.5 MiB, the API server's own fields included."""


class StoreConflict(KeelageError):
    """The stored version is another one, the key exists already, or it is gone: load again."""


class StoreGone(StoreConflict):
    """There is no place for the key: its namespace was deleted, and whoever could spend went with it."""


class StoreUnavailable(KeelageError):
    """The store did not answer in time or not at all; a write may or may not have happened."""


class StoreUnreadable(StoreUnavailable):
    """What is stored is no ledger; asking again does not help before somebody deletes it."""


class StoreFull(StoreUnavailable):
    """The record is greater than RECORD_BYTES_MAX: nothing was written."""


class LedgerKey(msgspec.Struct, frozen=True, order=True):
    budget: str
    """`<namespace>/<budget>`."""
    window: str
    """Window id, as of `core.shard.ledger_window`."""
    shard: int = 0

    @property
    def valued(self) -> bool:
        """Whether it holds an account for each value."""
        return has_values(self.window)

    def __str__(self) -> str:
        return f"{self.budget} {self.window}{f' shard {self.shard}' if self.valued else ''}"


def check_size(key: LedgerKey, encoded: int) -> None:
    """StoreFull for a record of that many bytes if no store should take it."""
    if encoded > RECORD_BYTES_MAX:
        raise StoreFull(
            f"ledger {key} would have {encoded} bytes, more than {RECORD_BYTES_MAX}: let the budget hold per something"
            " with fewer values, or for fewer pods"
        )


class Stored(msgspec.Struct, frozen=True):
    record: LedgerRecord
    version: str
    """Opaque: changes with every write of the key."""


class LedgerStore(Protocol):
    """Every method may raise StoreUnavailable."""

    async def load(self, key: LedgerKey) -> Stored | None:
        """The newest state, never one from a cache; None: there is none."""
        ...

    async def list_keys(self) -> tuple[LedgerKey, ...]:
        """Of all ledgers there are."""
        ...

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        """StoreConflict if the key exists, StoreGone if it can never."""
        ...

    async def replace(self, key: LedgerKey, record: LedgerRecord, version: str) -> Stored:
        """StoreConflict if the stored version is not `version`, or the key is gone."""
        ...

    async def delete(self, key: LedgerKey, version: str) -> None:
        """StoreConflict if the stored version is not `version`; nothing if the key is gone."""
        ...
