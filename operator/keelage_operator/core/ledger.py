"""The account of one budget in one window: who may still spend how much. Pure; amounts in pico-dollars.

    settled + forfeited + recovered + sum of granted of all rows <= limit        (I1)

in every durable state; only a lowered limit, an observed budget or an answer that cost
more than its bound leave it above, and then nothing more is granted. The caller stores
a record by compare-and-swap before any right that raises a holder's total leaves.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec.structs import replace

from keelage_api.sync import Right, Statement
from keelage_api.window import Window
from keelage_operator.core.share import Asker, share

SILENT_AFTER_S = 45
"""As for the sidecars of a route: they speak every few seconds."""
ACTIVE_S = 10
"""Who was silent for longer neither counts when money is shared nor makes others give back."""
LEARNING_S = 6
"""Three times the interval at which an idle sidecar speaks."""


ROWS_PER_POD_MAX = 8
"""A pod has one holder, and those before it that lost their journal. Without a bound, one container that loses it
at every start fills the object until it cannot be stored."""


class RowState(enum.StrEnum):
    OUTSTANDING = "Outstanding"
    SUSPECT = "Suspect"
    """Its incarnation was succeeded by another one; still fully counted."""
    RELEASED = "Released"
    """The holder said goodbye: granted == spent. Kept until its pod is gone, to know late duplicates."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One holder: `<pod uid>.<incarnation>`."""

    granted: int = 0
    """The total that the holder may count on; never below spent + reserved."""
    spent: int = 0
    reserved: int = 0
    seq: int = 0
    """Of the newest statement that was heard; older ones are ignored."""
    heard_s: int = 0
    """Wall clock of the operator, unix seconds; for showing silence, never for rights."""
    waiting: int = 0
    """What a waiting request lacks and did not get."""
    since_s: int = 0
    """When it began to wait; the longest waiting comes first."""
    state: RowState = RowState.OUTSTANDING


class LedgerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The durable state. A holder whose pod is gone is folded into the sums and has no row."""

    starts_at: datetime
    ends_at: datetime
    epoch: int = 0
    settled: int = 0
    forfeited: int = 0
    """Granted to holders that vanished without a word about it; counted as spent, shown apart."""
    recovered: int = 0
    """Spent or granted before this record was rebuilt, and not claimed by a holder since."""
    learning_until_s: int = 0
    """Unix seconds: after it was rebuilt nothing is granted before the holders had time to claim theirs."""
    rows: dict[str, Row] = {}


@dataclass(frozen=True, slots=True)
class Heard:
    holder: str
    """`<pod uid>.<incarnation>`."""
    statement: Statement


@dataclass(frozen=True, slots=True)
class Applied:
    record: LedgerRecord
    rights: tuple[tuple[str, Right], ...]
    """By holder; a statement that came too late has none. `ends_in_s` is the caller's to fill."""
    urgent: bool
    """The record must be stored before `rights` leave; otherwise it may be stored later."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the budget's status says of a window: below it a rebuilt ledger may not fall."""

    window: str
    committed: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the verified last will of a dead holder says of this account."""

    holder: str
    seq: int
    promised: int
    """It has spent no more than this."""


@dataclass(frozen=True, slots=True)
class LedgerFigures:
    window: Window
    limit: int
    spent: int
    """Settled, told by live holders, or recovered; without what was forfeited."""
    reserved: int
    """By requests in flight."""
    leased: int
    """Granted and not spent."""
    forfeited: int
    uncertain: int
    """The part of `leased` whose holder is silent or was succeeded."""
    granted: int
    """Sum of granted of live rows."""
    committed: int
    """settled + forfeited + recovered + granted: the checkpoint."""
    reporting: int
    silent: int
    burn: int = 0
    """Spending per hour, of late; not the ledger's to know."""


def apply(record: LedgerRecord, batch: Sequence[Heard], limit: int, now_s: int) -> Applied:
    """Hear the statements in order, then grant what is free among those who ask.

    Why a holder never counts on more than its row holds: a row shrinks only by a statement
    newer than all that were heard, to what the holder counted on when it sent it; what it
    counts on grows only by the answer to its newest statement, stored with that number.
    """
    hearing = _Hearing(dict(record.rows), record.recovered)
    for heard in batch:
        hearing.hear(heard, now_s)
    rows, answered = hearing.rows, hearing.answered
    urgent = hearing.urgent
    settled, forfeited = record.settled + hearing.settled, record.forfeited + hearing.forfeited
    counted = settled + forfeited + hearing.recovered
    free = limit - counted - sum(row.granted for row in rows.values())
    left = limit - counted - sum(row.spent for row in rows.values())
    learning = now_s < record.learning_until_s

    hopeless = {
        holder for holder, statement in answered.items() if not learning and left < _needed(statement, rows[holder])
    }
    askers = [
        Asker(holder, max(statement.want, statement.min_want), statement.min_want, rows[holder].since_s or now_s)
        for holder, statement in answered.items()
        if not statement.final and holder not in hopeless and (statement.want > 0 or statement.min_want > 0)
    ]
    active = sum(1 for row in rows.values() if _speaks(row, now_s))
    gifts = share(0 if learning else max(0, free), askers, active)
    for asker in askers:
        row, gift = rows[asker.holder], gifts.get(asker.holder, 0)
        waits = asker.floor if gift < asker.floor else 0
        rows[asker.holder] = replace(
            row,
            granted=row.granted + gift,
            waiting=waits,
            since_s=asker.since_s if waits else 0,
        )
        urgent = urgent or gift > 0
    tight = any(row.waiting > 0 and _speaks(row, now_s) for row in rows.values())

    rights = tuple(
        (
            holder,
            Right(
                budget=statement.budget,
                window=statement.window,
                seq=statement.seq,
                granted=_confirmed(rows[holder], statement, gifts.get(holder, 0), hearing.claimed.get(holder, 0), free),
                tight=tight,
                exhausted=holder in hopeless,
                spent=rows[holder].spent,
                limit=limit,
            ),
        )
        for holder, statement in answered.items()
    )
    after = replace(record, rows=rows, settled=settled, forfeited=forfeited, recovered=hearing.recovered)
    return Applied(after, rights, urgent)


class _Hearing:
    """The rows while a batch is heard."""

    def __init__(self, rows: dict[str, Row], recovered: int) -> None:
        self.rows = rows
        self.recovered = recovered
        self.settled = 0
        self.forfeited = 0
        self.answered: dict[str, Statement] = {}
        self.claimed: dict[str, int] = {}
        """By how much a holder's claim was above its row: the record was lost and rebuilt."""
        self.urgent = False

    def hear(self, heard: Heard, now_s: int) -> None:
        holder, statement = heard.holder, heard.statement
        row = self.rows.get(holder)
        if row is not None and statement.seq <= row.seq:
            return
        if row is None or row.state is RowState.SUSPECT:
            self._succeed(holder)
        row = row or Row()
        spent = max(row.spent, statement.spent)
        total = row.granted
        above = _counts_on(statement) - total
        if above > 0:
            # Counted in any case, since it may be spent already; it was granted once, so it is in `recovered`
            # as far as the checkpoint knew.
            self.recovered -= min(self.recovered, above)
            total += above
            self.claimed[holder] = above
            self.urgent = True
        released = statement.final and statement.reserved == 0
        if released:
            total = spent
            self.urgent = True
        elif statement.keep >= 0:
            total = min(total, max(statement.keep, spent + statement.reserved))
        self.rows[holder] = replace(
            row,
            granted=max(total, spent),
            spent=spent,
            reserved=statement.reserved,
            seq=statement.seq,
            heard_s=now_s,
            waiting=0,
            since_s=row.since_s if statement.min_want > 0 else 0,
            state=RowState.RELEASED if released else RowState.OUTSTANDING,
        )
        self.answered[holder] = statement

    def _succeed(self, holder: str) -> None:
        """Another incarnation of the pod speaks: the one before it lost its journal. Should a belated word have
        made it seem the other way round, the next statement of the living one turns it back."""
        pod = _pod_of(holder) + "."
        for other, row in self.rows.items():
            if other.startswith(pod) and row.state is RowState.OUTSTANDING:
                self.rows[other] = replace(row, state=RowState.SUSPECT, waiting=0, since_s=0)
        if holder not in self.rows:
            self._fold([other for other in self.rows if other.startswith(pod)])

    def _fold(self, holders: Sequence[str]) -> None:
        """Close the oldest rows of a pod that has too many, as if the pod were gone: the sum stays the same."""
        spare = len(holders) + 1 - ROWS_PER_POD_MAX
        for holder in sorted(holders, key=lambda each: (self.rows[each].heard_s, each))[: max(0, spare)]:
            if holder not in self.answered:
                row = self.rows.pop(holder)
                self.settled += row.spent
                self.forfeited += row.granted - row.spent
                self.urgent = True


def _counts_on(statement: Statement) -> int:
    """Never less than spent + reserved: an observed budget is spent without a right."""
    return max(statement.granted, statement.spent + statement.reserved)


def _needed(statement: Statement, row: Row) -> int:
    """The bound of the waiting request, with what would be free if all that is reserved settled at nothing."""
    if statement.min_want <= 0:
        return 1
    return statement.min_want + max(0, _counts_on(statement) - row.spent - statement.reserved)


def _confirmed(row: Row, statement: Statement, gift: int, claimed: int, free: int) -> int:
    """What the answer may tell of the row's total.

    Without a gift the record need not have been stored: no more than the holder counted on
    itself. A claim that the limit cannot bear is answered lower, so that the holder gives back.
    """
    if gift > 0:
        return row.granted
    total = min(row.granted, _counts_on(statement))
    if claimed > 0 and free < 0:
        total = max(row.spent + row.reserved, total + free)
    return total


def _speaks(row: Row, now_s: int) -> bool:
    return row.state is RowState.OUTSTANDING and now_s - row.heard_s <= ACTIVE_S


def _pod_of(holder: str) -> str:
    return holder.partition(".")[0]


def committed(record: LedgerRecord) -> int:
    """All that can no longer be granted: the left side of I1."""
    granted = sum(row.granted for row in record.rows.values())
    return record.settled + record.forfeited + record.recovered + granted


def pods(record: LedgerRecord) -> frozenset[str]:
    """Uids of the pods that have a row."""
    return frozenset(_pod_of(holder) for holder in record.rows)


def closed(record: LedgerRecord) -> bool:
    """Whether nobody can spend under this record any more."""
    return all(row.state is RowState.RELEASED for row in record.rows.values())


def pod_gone(record: LedgerRecord, uid: str, evidence: Evidence | None = None) -> LedgerRecord:
    """Fold the rows of a pod that no longer exists: what it spent is settled, the rest forfeited.

    With evidence of the holder the rest returns, but for what it may have spent since its last word.
    Evidence older than that word is none, and after a goodbye none is needed.
    """
    gone = {holder: row for holder, row in record.rows.items() if _pod_of(holder) == uid}
    if not gone:
        return record
    settled, forfeited, recovered = record.settled, record.forfeited, record.recovered
    for holder, row in gone.items():
        proven = evidence is not None and evidence.holder == holder and evidence.seq >= row.seq
        if evidence is not None and proven and row.state is not RowState.RELEASED:
            spent = max(row.spent, evidence.promised)
            settled += spent
            # Granted once, and a rebuilt record knew it only as recovered.
            recovered -= min(recovered, max(0, spent - row.granted))
        else:
            settled += row.spent
            forfeited += row.granted - row.spent
    rows = {holder: row for holder, row in record.rows.items() if holder not in gone}
    return replace(record, settled=settled, forfeited=forfeited, recovered=recovered, rows=rows)


def rebuild(
    window: Window, checkpoint: Checkpoint | None, now_s: int, lost: LedgerRecord | None = None
) -> LedgerRecord:
    """A record where there is none: blank, unless one was lost.

    `lost` is as it was last seen, the checkpoint what the status says was committed; what of it
    the rows do not account for is counted as recovered, until its holders claim it.
    """
    record = lost or LedgerRecord(starts_at=window.starts_at, ends_at=window.ends_at)
    known = checkpoint.committed if checkpoint is not None and checkpoint.window == window.id else 0
    missing = max(0, known - committed(record))
    if lost is None and not missing:
        return record
    return replace(record, recovered=record.recovered + missing, learning_until_s=now_s + LEARNING_S)


def figures(window_id: str, record: LedgerRecord, limit: int, now_s: int) -> LedgerFigures:
    """What the status shows of the record at the unix second `now_s`."""
    live = [row for row in record.rows.values() if row.state is not RowState.RELEASED]
    heard = {holder for holder, row in record.rows.items() if row.state is RowState.OUTSTANDING}
    loud = {holder for holder in heard if now_s - record.rows[holder].heard_s <= SILENT_AFTER_S}
    quiet = [row for holder, row in record.rows.items() if holder not in loud and row.state is not RowState.RELEASED]
    return LedgerFigures(
        window=Window(window_id, record.starts_at, record.ends_at),
        limit=limit,
        spent=record.settled + record.recovered + sum(row.spent for row in record.rows.values()),
        reserved=sum(row.reserved for row in live),
        leased=sum(row.granted - row.spent for row in live),
        forfeited=record.forfeited,
        uncertain=sum(row.granted - row.spent for row in quiet),
        granted=sum(row.granted for row in record.rows.values()),
        committed=committed(record),
        reporting=len(loud),
        silent=len(quiet),
    )
