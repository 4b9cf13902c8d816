"""One ledger in the hands of its leader: gathers what it is told into one compare-and-swap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from keelage_api.errors import KeelageError
from keelage_api.sync import Right
from keelage_api.window import Window
from keelage_operator.core.ledger import Checkpoint, Evidence, Heard, LedgerRecord, apply, pod_gone, rebuild
from keelage_operator.shell.ledger_store import (
    LedgerKey,
    LedgerStore,
    StoreConflict,
    Stored,
    StoreGone,
    StoreUnavailable,
    StoreUnreadable,
)

GATHER_S = 0.05
"""Statements of so long go into one write: at most twenty writes per second and ledger."""
CONFLICTS_MAX = 5
"""Writes in a row that somebody else was ahead of; only a second leader or a person writes here."""


class LedgerUnavailable(KeelageError):
    """No right can be given now: another replica leads, or the store does not answer. Ask again."""


class LedgerGone(LedgerUnavailable):
    """There is no such ledger in the store, and it is not one to be opened."""


class PageOwner(Protocol):
    """What the book knows and a page asks for."""

    def limit_of(self, key: LedgerKey) -> int:
        """Pico-dollars that may be granted in all; 0 where nothing more may be."""
        ...

    def checkpoint_of(self, key: LedgerKey) -> Checkpoint | None: ...

    def opens(self, key: LedgerKey) -> bool:
        """Whether a ledger that is not in the store may be made: its budget exists."""
        ...

    def now_s(self) -> int:
        """Unix seconds."""
        ...

    def changed(self, budget: str) -> None:
        """The figures are others."""
        ...


@dataclass(frozen=True, slots=True)
class _Ask:
    heard: Heard | None
    gone: str
    """Pod uid; empty: a statement."""
    evidence: Evidence | None
    """Of the pod that is gone."""
    answer: asyncio.Future[Right | None]


class LedgerPage:
    """`record` is at most ahead of the store by what need not be stored before it is answered."""

    def __init__(
        self, key: LedgerKey, window: Window | None, store: LedgerStore, owner: PageOwner, gather_s: float
    ) -> None:
        """`window` is needed only for a ledger that does not exist yet."""
        self.key = key
        self.record: LedgerRecord | None = None
        self.window = window
        self._store = store
        self._owner = owner
        self._gather_s = gather_s
        self._version: str | None = None
        self._dirty = False
        self._doubtful = False
        self._epoch: int | None = None
        self.unreadable = False
        """What is stored is garbage: no use to try before somebody deleted it."""
        self._remembered: LedgerRecord | None = None
        """As last stored; what a deleted ledger is made of again."""
        self._asks: list[_Ask] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def version(self) -> str | None:
        """Of the stored state, where it is known."""
        return None if self._dirty or self._doubtful or self._task is not None else self._version

    async def hear(self, heard: Heard) -> Right | None:
        """The answer to a statement; None: a newer one was heard before. LedgerUnavailable."""
        return await self._ask(heard, "")

    async def pod_gone(self, uid: str, evidence: Evidence | None = None) -> None:
        """Stored when it returns. LedgerUnavailable."""
        await self._ask(None, uid, evidence)

    async def flush(self, reload: bool = False) -> None:
        """Store what was not urgent; with `reload` also find out what is stored where that is not known.

        LedgerUnavailable.
        """
        if (self._dirty or self._doubtful or (reload and self.record is None)) and self._task is None:
            await self._ask(None, "")

    def let_go(self) -> None:
        """The budget was deleted, or is another one: only what the store has counts.

        A namespace that ends takes its ledgers along; one of the same name after it owes nothing.
        """
        self._forget()
        self._remembered = self.window = None
        self._doubtful = True

    async def take_over(self) -> None:
        """Load it and write the next epoch: whatever an earlier leader still writes fails.

        LedgerUnavailable if that cannot be done.
        """
        for _ in range(CONFLICTS_MAX):
            try:
                stored = await self._load()
                if stored is None:
                    self._forget()
                    return
                epoch = stored.record.epoch + 1
                await self._write(replace(stored.record, epoch=epoch), stored.version)
                self._epoch = epoch
                return
            except StoreConflict:
                continue
            except StoreUnavailable as error:
                raise LedgerUnavailable(str(error)) from error
        raise LedgerUnavailable(f"ledger {self.key.budget} {self.key.window} is being written by somebody else")

    async def close(self) -> None:
        """Answer nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._fail(self._asks, LedgerUnavailable("this replica does not lead any more"))
        self._asks = []

    async def _ask(self, heard: Heard | None, gone: str, evidence: Evidence | None = None) -> Right | None:
        answer: asyncio.Future[Right | None] = asyncio.get_running_loop().create_future()
        self._asks.append(_Ask(heard, gone, evidence, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._serve(), name=f"ledger {self.key.budget} {self.key.window}")
        return await answer

    async def _serve(self) -> None:
        asks: list[_Ask] = []
        try:
            while self._asks:
                await asyncio.sleep(self._gather_s)
                asks, self._asks = self._asks, []
                try:
                    await self._settle(asks)
                except LedgerUnavailable as error:
                    self._forget()
                    self._fail(asks, error)
        except BaseException:
            # Cancelled by close(), or a bug: nobody may be left waiting for an answer that never comes.
            self._fail(asks + self._asks, LedgerUnavailable("the ledger was closed"))
            self._asks = []
            raise
        finally:
            self._task = None

    async def _settle(self, asks: Sequence[_Ask]) -> None:
        """Apply, store if need be, answer; once more from a fresh state if somebody else was ahead."""
        batch = tuple(ask.heard for ask in asks if ask.heard is not None)
        for _ in range(CONFLICTS_MAX):
            before = await self._current()
            applied = apply(before, batch, self._owner.limit_of(self.key), self._owner.now_s())
            record = applied.record
            for ask in asks:
                record = pod_gone(record, ask.gone, ask.evidence) if ask.gone else record
            flush = any(ask.heard is None for ask in asks)
            try:
                if applied.urgent or flush or self._version is None:
                    await self._write(record, self._version)
                else:
                    self.record, self._dirty = record, True
            except StoreGone as error:
                raise LedgerGone(str(error)) from error
            except StoreConflict:
                self._forget()
                continue
            except StoreUnavailable as error:
                raise LedgerUnavailable(str(error)) from error
            rights = {(holder, right.seq): right for holder, right in applied.rights}
            for ask in asks:
                if not ask.answer.done():
                    heard = ask.heard
                    ask.answer.set_result(rights.get((heard.holder, heard.statement.seq)) if heard else None)
            self._owner.changed(self.key.budget)
            return
        raise LedgerUnavailable(f"ledger {self.key.budget} {self.key.window} is being written by somebody else")

    async def _current(self) -> LedgerRecord:
        """The record to go on from: the one at hand, the stored one, or a new one."""
        if self.record is not None:
            return self.record
        if self._epoch is None:
            await self.take_over()
            if self.record is not None:
                return self.record
        try:
            stored = await self._load()
        except StoreUnavailable as error:
            raise LedgerUnavailable(str(error)) from error
        if stored is None:
            return self._anew()
        if stored.record.epoch != self._epoch:
            # Whoever is told this asks again; if by then this replica still believes that it leads, it takes over.
            self._epoch = None
            raise LedgerUnavailable("another replica leads")
        self.record = self._remembered = stored.record
        self._version = stored.version
        return stored.record

    async def _load(self) -> Stored | None:
        """Raises StoreUnavailable."""
        try:
            stored = await self._store.load(self.key)
        except StoreUnreadable:
            self.unreadable = True
            raise
        self.unreadable = False
        return stored

    def _anew(self) -> LedgerRecord:
        """For a ledger that does not exist: yet, or any more. What was stored or is in the status stays counted."""
        checkpoint, now_s = self._owner.checkpoint_of(self.key), self._owner.now_s()
        lost = self._remembered
        window = Window(self.key.window, lost.starts_at, lost.ends_at) if lost is not None else self.window
        if window is None or not self._owner.opens(self.key):
            raise LedgerGone(f"ledger {self.key.budget} {self.key.window} is not there")
        self._version = None
        self._epoch = (lost.epoch if lost is not None else 0) + 1
        return replace(rebuild(window, checkpoint, now_s, lost), epoch=self._epoch)

    async def _write(self, record: LedgerRecord, version: str | None) -> None:
        if version is None:
            stored = await self._store.create(self.key, record)
        else:
            stored = await self._store.replace(self.key, record, version)
        self.record = self._remembered = stored.record
        self._version, self._dirty, self._doubtful = stored.version, False, False

    def _forget(self) -> None:
        """The stored state is not known: load it before anything else is said."""
        self.record, self._version, self._dirty = None, None, False

    @staticmethod
    def _fail(asks: Sequence[_Ask], error: LedgerUnavailable) -> None:
        for ask in asks:
            if not ask.answer.done():
                ask.answer.set_exception(error)
