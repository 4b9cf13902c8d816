"""One account of a budget in one window: who may still spend how much. Pure; amounts in the account's unit.

    floor + settled + forfeited + recovered + sum of granted of all rows <= cap        (I1)

in every durable state; only a lowered limit, an observed budget or an answer that cost
more than its bound leave it above, and then nothing more is granted. The caller stores
an account by compare-and-swap before any right that raises a holder's total leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from keelage_api.sync import Right, Statement
from keelage_api.will import Will
from keelage_operator.core.ledger_row import Heard, Row, RowState, counts_on, pod_of, speaks, waits
from keelage_operator.core.share import Asker, share

ROWS_PER_POD_MAX = 8
"""A pod has one holder, and those before it that lost their journal. Without a bound, one container that loses it
at every start fills the object until it cannot be stored."""


class Account(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The durable state. A holder whose pod is gone is folded into the sums and has no row."""

    settled: int = 0
    settled_uncertain: int = 0
    """The part of `settled` that nothing proves to have been billed."""
    forfeited: int = 0
    """Granted to holders that vanished without a word about it; counted as spent, shown apart."""
    recovered: int = 0
    """Spent or granted before this account was rebuilt, and not claimed by a holder since."""
    rows: dict[str, Row] = {}

    @property
    def counted(self) -> int:
        """What no row holds."""
        return self.settled + self.forfeited + self.recovered

    @property
    def granted(self) -> int:
        return sum(row.granted for row in self.rows.values())

    @property
    def committed(self) -> int:
        """All that can no longer be granted."""
        return self.counted + self.granted

    @property
    def used(self) -> int:
        """All that is spent, or counts as spent."""
        return self.counted + sum(row.spent for row in self.rows.values())


class Around(msgspec.Struct, frozen=True):
    """What an account cannot tell of itself."""

    floor: int = 0
    """What it may have committed before it was lost, at most; nothing of it is in the account's own sums."""
    learning: bool = False
    """Nothing is granted: holders have not had the time to claim theirs."""
    identity: str = ""
    """`LedgerRecord.identity`."""
    nobodys: int = 0
    """What was recovered and is kept beside the account, since nobody knows whose it is; it is in `floor`."""


class Answered(msgspec.Struct, frozen=True):
    account: Account
    rights: tuple[tuple[str, Right], ...]
    """By holder; a statement that came too late has none. `ends_in_s` is the caller's to fill."""
    urgent: bool
    """The account must be stored before `rights` leave; otherwise it may be stored later."""
    claimed: int
    """By how much less is kept beside the account, since it is somebody's known now."""


class Evidence(msgspec.Struct, frozen=True):
    """The verified last will of a dead holder, for one budget and window."""

    holder: str
    will: Will
    budget: str
    window: str

    def promised(self, value: str) -> int | None:
        """It has spent no more than this on that account; None: the will does not name it."""
        promise = self.will.on(self.budget, self.window, value)
        return promise.promised if promise is not None else None


NOTHING_AROUND = Around()


def hear(account: Account, batch: Sequence[Heard], cap: int, now_s: int, around: Around = NOTHING_AROUND) -> Answered:
    """Hear the statements in order, then grant what is free among those who ask.

    Why a holder never counts on more than its row holds: a row shrinks only by a statement
    newer than all that were heard, to what the holder counted on when it sent it; what it
    counts on grows only by the answer to its newest statement, stored with that number.

    In a ledger that was made again nobody knows which statements had been heard: a belated one claims what its
    holder gave back since. So what is claimed is taken from `recovered` for good only by a holder that has heard of
    this ledger (`Statement.ledger`); until then a row shrinks in favour of `recovered`.
    """
    hearing = _Hearing(account, around)
    for heard in batch:
        hearing.hear(heard, now_s)
    rows, answered = hearing.rows, hearing.answered
    urgent = hearing.urgent
    settled, forfeited = account.settled + hearing.settled, account.forfeited + hearing.forfeited
    counted = around.floor + settled + forfeited + hearing.recovered
    free = cap - counted - sum(row.granted for row in rows.values())
    used = counted + sum(row.spent for row in rows.values())
    left = cap - used

    hopeless = {
        holder
        for holder, statement in answered.items()
        if not around.learning and left < _needed(statement, rows[holder])
    }
    askers = [
        Asker(
            holder, max(statement.want, statement.min_want), statement.min_want, now_s - max(0, int(statement.waited_s))
        )
        for holder, statement in answered.items()
        if not statement.final and holder not in hopeless and (statement.want > 0 or statement.min_want > 0)
    ]
    active = sum(1 for row in rows.values() if speaks(row, now_s))
    absent = [
        Asker(holder, row.waiting, row.waiting, row.since_s)
        for holder, row in rows.items()
        if holder not in answered and waits(row, now_s)
    ]
    gifts = share(0 if around.learning else max(0, free), askers, active, absent)
    for asker in askers:
        row, gift = rows[asker.holder], gifts.get(asker.holder, 0)
        lacks = asker.floor if gift < asker.floor else 0
        rows[asker.holder] = replace(
            row,
            granted=row.granted + gift,
            waiting=lacks,
            since_s=asker.since_s if lacks else 0,
        )
        urgent = urgent or gift > 0
    tight, first = _tight(rows, free, now_s), _first(rows, now_s)

    # What need not be stored first may be known to a former leader only: it tells no holder of other spending.
    known: dict[str, Row | Statement] = {
        holder: rows[holder] if gifts.get(holder) else statement for holder, statement in answered.items()
    }
    rights = tuple(
        (
            holder,
            Right(
                budget=statement.budget,
                window=statement.window,
                seq=statement.seq,
                granted=_confirmed(rows[holder], statement, gifts.get(holder, 0), hearing.claimed.get(holder, 0), free),
                tight=tight,
                first=holder == first,
                exhausted=holder in hopeless,
                spent=known[holder].spent,
                uncertain=known[holder].uncertain,
                limit=cap,
                value=statement.value,
                ledger=around.identity,
                used=used,
            ),
        )
        for holder, statement in answered.items()
    )
    uncertain = account.settled_uncertain + hearing.settled_uncertain
    after = Account(settled, uncertain, forfeited, hearing.recovered, rows)
    return Answered(after, rights, urgent, around.nobodys - hearing.nobodys)


class _Hearing:
    """The rows while a batch is heard."""

    def __init__(self, account: Account, around: Around) -> None:
        self.rows = dict(account.rows)
        self.recovered = account.recovered
        self.nobodys = around.nobodys
        self._identity = around.identity
        self.settled = 0
        self.settled_uncertain = 0
        self.forfeited = 0
        self.answered: dict[str, Statement] = {}
        self.claimed: dict[str, int] = {}
        """By how much what a holder was granted was above its row: the record was lost and rebuilt."""
        self.urgent = False

    def hear(self, heard: Heard, now_s: int) -> None:
        holder, statement = heard.holder, heard.statement
        row = self.rows.get(holder)
        if row is not None and statement.seq <= row.seq:
            return
        if row is None or row.state is not RowState.OUTSTANDING:
            self._succeed(holder)
        row = row or Row()
        spent = max(row.spent, statement.spent)
        total, unproven = row.granted, row.unproven
        above = counts_on(statement) - total
        if above > 0:
            # Counted in any case, since it may be spent already. What was granted once is in `recovered`, as far as the
            # checkpoint knew; what is spent without a right, as by a budget that only observes, never was.
            granted_once = max(0, statement.granted - total)
            taken = min(self.recovered, granted_once)
            of_nobody = min(self.nobodys, granted_once - taken)
            self.recovered -= taken
            self.nobodys -= of_nobody
            unproven += taken + of_nobody
            self.claimed[holder] = self.claimed.get(holder, 0) + granted_once
            total += above
            self.urgent = True
        released, before = statement.final and statement.reserved == 0, total
        if released:
            total = spent
            self.urgent = True
        elif statement.keep >= 0:
            total = min(total, max(statement.keep, spent + statement.reserved))
        total = max(total, spent)
        returned = min(unproven, max(0, before - total))
        self.recovered += returned
        proven = not self._identity or statement.ledger == self._identity
        self.urgent = self.urgent or (proven and unproven > 0)
        self.rows[holder] = replace(
            row,
            granted=total,
            unproven=0 if proven else unproven - returned,
            spent=spent,
            uncertain=max(row.uncertain, min(statement.uncertain, spent)),
            reserved=statement.reserved,
            seq=statement.seq,
            heard_s=now_s,
            waiting=0,
            since_s=0,
            state=RowState.RELEASED if released else RowState.OUTSTANDING,
        )
        self.answered[holder] = statement

    def _succeed(self, holder: str) -> None:
        """Another incarnation of the pod speaks: the one before it lost its journal. Should a belated word have
        made it seem the other way round, the next statement of the living one turns it back."""
        pod = pod_of(holder) + "."
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
                self.settled_uncertain += row.uncertain
                self.forfeited += row.granted - row.spent
                self.urgent = True


def _tight(rows: dict[str, Row], free: int, now_s: int) -> bool:
    """Whether holders should give back: somebody waits, or more is granted than the cap allows since it was lowered.

    Only while somebody who speaks has something to give: a budget that only observes stays above its limit.
    """
    return any(speaks(row, now_s) and (row.waiting > 0 or (free < 0 and row.idle > 0)) for row in rows.values())


def _first(rows: dict[str, Row], now_s: int) -> str:
    """The holder of the request that is served next; empty: nobody waits."""
    waiting = [(row.since_s, row.waiting, holder) for holder, row in rows.items() if waits(row, now_s)]
    return min(waiting)[2] if waiting else ""


def _needed(statement: Statement, row: Row) -> int:
    """The bound of the waiting request, with what would be free if all that is reserved settled at nothing."""
    if statement.min_want <= 0:
        return 1
    return statement.min_want + max(0, counts_on(statement) - row.spent - statement.reserved)


def _confirmed(row: Row, statement: Statement, gift: int, claimed: int, free: int) -> int:
    """What the answer may tell of the row's total.

    Without a gift the record need not have been stored: no more than the holder counted on
    itself. A claim that the limit cannot bear is answered lower, so that the holder gives back.
    """
    if gift > 0:
        return row.granted
    total = min(row.granted, counts_on(statement))
    if claimed > 0 and free < 0:
        total = max(row.spent + row.reserved, total + free)
    return total


def doubted(account: Account) -> Account:
    """As it was once; what its holders gave back since is somebody else's, and comes to light when they speak."""
    return replace(account, rows={holder: replace(row, unproven=row.granted) for holder, row in account.rows.items()})


def bury(account: Account, gone: dict[str, Evidence | None], value: str = "") -> tuple[Account, int]:
    """Fold the rows of pods that no longer exist, by uid: what they spent is settled, the rest forfeited.

    With evidence of the holder the rest returns, but for what it may have spent since its last word.
    Evidence older than that word is none, and after a goodbye none is needed. Also says by how much less is
    kept beside the account of a value.
    """
    rows = {holder: row for holder, row in account.rows.items() if pod_of(holder) in gone}
    if not rows:
        return account, 0
    settled, forfeited, recovered, claimed = account.settled, account.forfeited, account.recovered, 0
    uncertain = account.settled_uncertain
    for holder, row in rows.items():
        evidence = gone[pod_of(holder)]
        proven = evidence is not None and evidence.holder == holder and evidence.will.seq >= row.seq
        promised = evidence.promised(value) if evidence is not None and proven else None
        if promised is not None and row.state is not RowState.RELEASED:
            spent = max(row.spent, promised)
            settled += spent
            # A will says how much it may be at most.
            uncertain += row.uncertain + spent - row.spent
            # Granted once, and a rebuilt record knew it only as recovered.
            above = max(0, spent - row.granted)
            returned = min(row.unproven, max(0, row.granted - spent))
            taken = min(recovered, above)
            recovered += returned - taken
            claimed += above - taken
        else:
            settled += row.spent
            uncertain += row.uncertain
            forfeited += row.granted - row.spent
    left = {holder: row for holder, row in account.rows.items() if holder not in rows}
    return Account(settled, uncertain, forfeited, recovered, left), claimed if value else 0
