"""One ledger in the hands of its leader: gathers what it is told into one compare-and-swap."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from msgspec.structs import replace

from keelage_api.errors import KeelageError
from keelage_api.sync import By, Right
from keelage_api.will import Will
from keelage_api.window import Window
from keelage_operator.core.attribution import kept
from keelage_operator.core.ledger import Evidence, Heard, LedgerRecord, apply, pods, pods_gone, rebuild
from keelage_operator.core.ledger_figures import Bounds, Tally, tally
from keelage_operator.shell.ledger_store import (
    LedgerKey,
    LedgerStore,
    StoreConflict,
    Stored,
    StoreFull,
    StoreGone,
    StoreUnavailable,
    StoreUnreadable,
)

GATHER_S = 0.05
"""Statements of so long go into one write: at most twenty writes per second and ledger."""
PACE_MAX_S = 0.5
"""Between writes of a large ledger: 300 values or holders are 50 KiB, and 100 KiB per second are enough for etcd, which
keeps each of them for five minutes."""
PACE_S = PACE_MAX_S / 300
"""The same, for each value or holder."""
LATER = 10
"""What need not be stored before it is answered waits for so many paces: half a second, or five."""
FLUSHES_MAX = 30
"""Of what was not urgent, in one look: of a thousand ledgers that are spent from, each would else be written every
second, which is more than a small API server bears. What is stored later is only who spent how much of its lease."""
CONFLICTS_MAX = 5
"""Writes in a row that somebody else was ahead of; only a second leader or a person writes here."""


class LedgerUnavailable(KeelageError):
    """No right can be given now: another replica leads, or the store does not answer. Ask again."""


class LedgerGone(LedgerUnavailable):
    """There is no such ledger in the store, and it is not one to be opened."""


class PageOwner(Protocol):
    """What the book knows and a page asks for."""

    def cap_of(self, key: LedgerKey) -> int:
        """What may be granted in all, on each account; 0 where nothing more may be."""
        ...

    def known_of(self, key: LedgerKey) -> int:
        """What the status says was committed there; 0: nothing."""
        ...

    def doubts(self, key: LedgerKey) -> bool:
        """Whether another leader may have opened it a moment ago, and it was lost before the status told of it."""
        ...

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
class Burial:
    """A pod that is gone."""

    uid: str
    evidence: Evidence | None = None
    shares: Mapping[By, Mapping[str, int]] = field(default_factory=dict)
    """What it told to have spent, by name: to be kept in this ledger."""

    @staticmethod
    def of(uid: str, will: Will | None, key: LedgerKey, shares: Mapping[By, Mapping[str, int]]) -> Burial:
        """With what its last will proves in that ledger."""
        evidence = Evidence(f"{uid}.{will.incarnation}", will, key.budget, key.window) if will is not None else None
        return Burial(uid, evidence, shares)


class _Ask(msgspec.Struct, frozen=True):
    """One of both, or neither: then what is at hand is to be stored."""

    heard: Sequence[Heard]
    burial: Burial | None
    answer: asyncio.Future[list[Right]]


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
        self._wrote_s = float("-inf")
        self._tally: tuple[LedgerRecord, Bounds, Tally] | None = None
        self._pods: tuple[LedgerRecord, frozenset[str]] | None = None

    @property
    def version(self) -> str | None:
        """Of the stored state, where it is known."""
        return None if self._dirty or self._doubtful or self._task is not None else self._version

    @property
    def dirty(self) -> bool:
        """Something is to be stored that was not urgent."""
        return self._dirty

    @property
    def wrote_s(self) -> float:
        """When it was stored last, on the loop's clock."""
        return self._wrote_s

    async def hear(self, heard: Sequence[Heard]) -> list[Right]:
        """The answers to one holder's statements; none to those that came too late. LedgerUnavailable."""
        return await self._ask(heard, None)

    async def pod_gone(self, burial: Burial) -> None:
        """Stored when it returns. LedgerUnavailable."""
        await self._ask((), burial)

    async def flush(self, reload: bool = False) -> None:
        """Store what was not urgent; with `reload` also find out what is stored where that is not known.

        LedgerUnavailable.
        """
        if self.to_flush(reload):
            await self._ask((), None)

    def to_flush(self, reload: bool = False) -> bool:
        later = self._dirty and asyncio.get_running_loop().time() >= self._wrote_s + LATER * self._pace_s()
        return (later or self._doubtful or (reload and self.record is None)) and self._task is None

    def tally(self, bounds: Bounds) -> Tally | None:
        """The sums over the record; None where it is not known. Added up once for each record."""
        record, known = self.record, self._tally
        if record is None:
            return None
        if known is None or known[0] is not record or known[1] != bounds:
            known = self._tally = (record, bounds, tally(record, bounds))
        return known[2]

    def pods(self) -> frozenset[str] | None:
        """Uids of the pods that have a row; None where the record is not known."""
        record, known = self.record, self._pods
        if record is None:
            return None
        if known is None or known[0] is not record:
            known = self._pods = (record, pods(record))
        return known[1]

    def may_hold(self, uid: str) -> bool:
        """Whether the pod may have a row here. One in a ledger that is unreadable now is closed after a later list of
        pods: the burials of a whole cluster must not wait for it."""
        there = self.pods()
        return uid in there if there is not None else not self.unreadable

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
        raise LedgerUnavailable(f"ledger {self.key} is being written by somebody else")

    async def close(self) -> None:
        """Answer nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._fail(self._asks, LedgerUnavailable("this replica does not lead any more"))
        self._asks = []

    async def _ask(self, heard: Sequence[Heard], burial: Burial | None) -> list[Right]:
        answer: asyncio.Future[list[Right]] = asyncio.get_running_loop().create_future()
        self._asks.append(_Ask(heard, burial, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._serve(), name=f"ledger {self.key}")
        return await answer

    async def _serve(self) -> None:
        asks: list[_Ask] = []
        try:
            while self._asks:
                ready_s = self._wrote_s + self._pace_s() - asyncio.get_running_loop().time()
                await asyncio.sleep(max(self._gather_s, ready_s))
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
        batch = tuple(heard for ask in asks for heard in ask.heard)
        burials = tuple(ask.burial for ask in asks if ask.burial is not None)
        flush, full = not all(ask.heard for ask in asks), False
        for _ in range(CONFLICTS_MAX):
            before = await self._current()
            applied = apply(before, batch, self._owner.cap_of(self.key), self._owner.now_s(), full)
            record = _buried(applied.record, burials) if burials else applied.record
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
            except StoreFull as error:
                if full:
                    raise LedgerUnavailable(str(error)) from error
                full = True
                continue
            except StoreUnavailable as error:
                raise LedgerUnavailable(str(error)) from error
            rights = {(holder, right.value, right.seq): right for holder, right in applied.rights}
            for ask in asks:
                if not ask.answer.done():
                    ask.answer.set_result([rights[name] for name in map(_named, ask.heard) if name in rights])
            self._owner.changed(self.key.budget)
            return
        raise LedgerUnavailable(f"ledger {self.key} is being written by somebody else")

    async def _current(self) -> LedgerRecord:
        """The record to go on from: the one at hand, the stored one, or a new one."""
        if self.record is not None:
            return self.record
        if self._epoch is None:
            await self.take_over()
            # Whoever makes it meanwhile is found out when it is created: no use to look twice.
            return self.record or self._anew()
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
        known, now_s, lost = self._owner.known_of(self.key), self._owner.now_s(), self._remembered
        window = Window(self.key.window, lost.starts_at, lost.ends_at) if lost is not None else self.window
        if window is None or not self._owner.opens(self.key):
            raise LedgerGone(f"ledger {self.key} is not there")
        self._version = None
        self._epoch = (lost.epoch if lost is not None else 0) + 1
        doubtful = lost is None and self._owner.doubts(self.key)
        record = rebuild(window, known, now_s, lost, self.key.valued, doubtful, secrets.token_hex(8))
        return replace(record, epoch=self._epoch)

    async def _write(self, record: LedgerRecord, version: str | None) -> None:
        if version is None:
            stored = await self._store.create(self.key, record)
        else:
            stored = await self._store.replace(self.key, record, version)
        self.record = self._remembered = stored.record
        self._version, self._dirty, self._doubtful = stored.version, False, False
        self._wrote_s = asyncio.get_running_loop().time()

    def _pace_s(self) -> float:
        """Between two writes: longer, the more there is to write."""
        if self.record is None:
            return self._gather_s
        rows = sum(len(account.rows) for account in self.record.accounts.values())
        return max(self._gather_s, min(PACE_MAX_S, PACE_S * max(rows, len(self.record.accounts))))

    def _forget(self) -> None:
        """The stored state is not known: load it before anything else is said."""
        self.record, self._version, self._dirty = None, None, False

    @staticmethod
    def _fail(asks: Sequence[_Ask], error: LedgerUnavailable) -> None:
        for ask in asks:
            if not ask.answer.done():
                ask.answer.set_exception(error)


def _named(heard: Heard) -> tuple[str, str, int]:
    return heard.holder, heard.statement.value, heard.statement.seq


def _buried(record: LedgerRecord, burials: Sequence[Burial]) -> LedgerRecord:
    """Without the pods that are gone; what those told that were in it is kept."""
    there = pods(record)
    after = pods_gone(record, {burial.uid: burial.evidence for burial in burials})
    for burial in burials:
        if burial.shares and burial.uid in there:
            after = replace(after, shares=kept(after.shares, burial.shares))
    return after


def untidy(pages: Iterable[LedgerPage], reload: bool, over: Callable[[LedgerPage], bool]) -> list[LedgerPage]:
    """Those to be looked after now: of a thousand budgets with 32 ledgers each most need nothing. Of those that only
    have something to store, the longest waiting."""
    found = [page for page in pages if page.to_flush(reload) or over(page)]
    later = sorted((page for page in found if page.dirty), key=lambda page: page.wrote_s)
    return [page for page in found if not page.dirty] + later[:FLUSHES_MAX]
