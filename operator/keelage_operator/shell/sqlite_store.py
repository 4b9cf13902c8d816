"""Ledgers in one SQLite file: for `keelage run`, where there is no API server."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TypeVar

import msgspec

from keelage_operator.core.ledger import LedgerRecord
from keelage_operator.shell.ledger_store import (
    LedgerKey,
    StoreConflict,
    Stored,
    StoreUnavailable,
    StoreUnreadable,
    check_size,
)

T = TypeVar("T")

BUSY_S = 5.0
"""Another `keelage run` on the same folder writes for milliseconds."""
_TABLE = """
CREATE TABLE IF NOT EXISTS ledger (
  budget TEXT NOT NULL, window TEXT NOT NULL, version TEXT NOT NULL, record BLOB NOT NULL,
  PRIMARY KEY (budget, window)
) WITHOUT ROWID
"""


class SqliteStore:
    """A LedgerStore. Each write is on the disk when it returns (`synchronous = FULL`)."""

    def __init__(self, path: Path) -> None:
        """StoreUnavailable if the file cannot be opened or is none of ours."""
        self._lock = Lock()
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(_TABLE)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path}: {error}") from error

    def close(self) -> None:
        self._db.close()

    async def load(self, key: LedgerKey) -> Stored | None:
        def query() -> Stored | None:
            found = self._db.execute(
                "SELECT record, version FROM ledger WHERE budget = ? AND window = ?", _place(key)
            ).fetchone()
            return None if found is None else Stored(_decode(key, found[0]), str(found[1]))

        return await self._in_thread(query)

    async def list_keys(self) -> tuple[LedgerKey, ...]:
        def query() -> tuple[LedgerKey, ...]:
            rows = self._db.execute("SELECT budget, window FROM ledger ORDER BY budget, window").fetchall()
            return tuple(sorted(_key(budget, place) for budget, place in rows))

        return await self._in_thread(query)

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        return await self._write(
            key,
            record,
            "INSERT INTO ledger (record, version, budget, window) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING RETURNING version",
            (),
        )

    async def replace(self, key: LedgerKey, record: LedgerRecord, version: str) -> Stored:
        return await self._write(
            key,
            record,
            "UPDATE ledger SET record = ?, version = ? WHERE budget = ? AND window = ? AND version = ? "
            "RETURNING version",
            (version,),
        )

    async def delete(self, key: LedgerKey, version: str) -> None:
        def query() -> None:
            where = "WHERE budget = ? AND window = ?"
            name = _place(key)
            gone = self._db.execute(f"DELETE FROM ledger {where} AND version = ?", (*name, version)).rowcount
            if not gone and self._db.execute(f"SELECT 1 FROM ledger {where}", name).fetchone():
                raise StoreConflict(f"ledger {key} is not at version {version}")

        await self._in_thread(query)

    async def _write(self, key: LedgerKey, record: LedgerRecord, statement: str, more: tuple[str, ...]) -> Stored:
        encoded = msgspec.json.encode(record)
        check_size(key, len(encoded))

        def query() -> Stored:
            # Random, so that none comes again when a key is deleted and created: a late write must not match.
            version = secrets.token_hex(8)
            values = (encoded, version, *_place(key), *more)
            written = self._db.execute(statement, values).fetchone()
            if written is None:
                raise StoreConflict(f"ledger {key} is at another version")
            return Stored(record, version)

        return await self._in_thread(query)

    async def _in_thread(self, query: Callable[[], T]) -> T:
        def locked() -> T:
            with self._lock:
                return query()

        try:
            return await asyncio.to_thread(locked)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"ledger file: {error}") from error


def _place(key: LedgerKey) -> tuple[str, str]:
    """Budget and window in the table; the shard is a part of the latter, as in `2026-11.u/7`."""
    return key.budget, f"{key.window}/{key.shard}" if key.valued else key.window


def _key(budget: str, place: str) -> LedgerKey:
    window, _, shard = place.partition("/")
    return LedgerKey(budget, window, int(shard or 0))


def _decode(key: LedgerKey, data: bytes) -> LedgerRecord:
    """A record that cannot be read is never taken for an empty one."""
    try:
        return msgspec.json.decode(data, type=LedgerRecord)
    except msgspec.DecodeError as error:
        raise StoreUnreadable(
            f"ledger {key} cannot be read: {error}: if a newer keelage wrote it, run that one; if it is damaged, delete"
            " the ledger's file in the --state folder to have it rebuilt from the status beside it"
        ) from error
