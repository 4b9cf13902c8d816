"""What people and metrics are shown of a budget's window: the sums over its ledgers. Pure; amounts in its unit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from keelage_api.sync import By
from keelage_api.window import Window
from keelage_operator.core.ledger import VALUES_MAX, LedgerRecord
from keelage_operator.core.ledger_row import SILENT_AFTER_S, Row, RowState

TOP_MAX = 10
"""Names in a list of the greatest."""
FULL = 99
"""Percent of its cap with which a value counts as exhausted: the rest is seldom enough for one more call."""


@dataclass(frozen=True, slots=True)
class LedgerFigures:
    window: Window
    limit: int
    """Without what may be overdrawn; of each value, where there are values. All else is the sum over them."""
    spent: int
    """Settled, told by live holders, or recovered; without what was forfeited."""
    reserved: int
    """By requests in flight."""
    leased: int
    """Granted and not spent."""
    forfeited: int
    uncertain: int
    """The part of `spent` that nothing proves to have been billed."""
    unheard: int
    """The part of `leased` whose holder is silent or was succeeded."""
    granted: int
    """Sum of granted of live rows."""
    committed: int
    """settled + forfeited + recovered + granted: the checkpoint."""
    reporting: int
    silent: int
    burn: int = 0
    """Spending per hour, of late; not the ledger's to know."""
    overdraft: int = 0
    """By how much the limit may be passed before calls are refused."""
    overdrawn: int = 0
    """By how much it was passed, forfeits included; over all values that passed theirs."""
    pending_recall: int = 0
    """Of what is leased, that which the limit does not bear any more: it was lowered, and it is being given back."""
    values: int = 0
    """Accounts that there are; 0: the limit holds for all calls together."""
    values_exhausted: int = 0
    """Those of them that have next to nothing left, overdraft included."""
    crowded: bool = False
    """One of its ledgers has as many as it takes."""
    top: tuple[tuple[str, int], ...] = ()
    """The values that spent most, with what they spent; at most TOP_MAX, the greatest first."""
    fullest: int = 0
    """Percent of its limit that the fullest value has used, forfeits included; rounded down."""
    passed: Mapping[int, int] = field(default_factory=dict)
    """Values that have used so many percent of their limit or more, by the budget's thresholds."""
    shards: tuple[int, ...] = ()
    """`committed` by shard, where there are values."""
    shares: Mapping[By, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    """The models, features and users that spent most, the greatest first; `(other)` is all the rest."""

    @property
    def cap(self) -> int:
        return self.limit + self.overdraft


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a budget allows to each of its accounts."""

    limit: int
    overdraft: int = 0
    hard: bool = True
    thresholds: tuple[int, ...] = ()
    """Percent of the limit, ascending."""


@dataclass(slots=True)
class Presence:
    """One holder, in all its rows; added up once and not changed after."""

    heard_s: int = 0
    """When it spoke last, of any of them; 0: it was succeeded or has said goodbye."""
    leased: int = 0
    lost: int = 0
    """The part of `leased` whose row was succeeded."""
    live: bool = False
    """Whether it has a row that is not released."""

    def note(self, row: Row) -> None:
        if row.state is RowState.RELEASED:
            return
        self.live = True
        leased = row.granted - row.spent
        self.leased += leased
        if row.state is RowState.SUSPECT:
            self.lost += leased
        elif row.heard_s > self.heard_s:
            self.heard_s = row.heard_s

    def add(self, other: Presence) -> None:
        self.heard_s = max(self.heard_s, other.heard_s)
        self.leased += other.leased
        self.lost += other.lost
        self.live = self.live or other.live


@dataclass(frozen=True, slots=True)
class Tally:
    """The sums over one ledger. It does not depend on the time: it holds until the record changes."""

    spent: int = 0
    uncertain: int = 0
    reserved: int = 0
    forfeited: int = 0
    granted: int = 0
    committed: int = 0
    overdrawn: int = 0
    pending_recall: int = 0
    values: int = 0
    values_exhausted: int = 0
    top: tuple[tuple[str, int], ...] = ()
    fullest: int = 0
    passed: tuple[int, ...] = ()
    """Values that have reached each of the thresholds, in their order."""
    presences: Mapping[str, Presence] = field(default_factory=dict)
    """By holder."""


def tally(record: LedgerRecord, bounds: Bounds) -> Tally:
    spent = uncertain = reserved = forfeited = granted = overdrawn = pending = values = exhausted = fullest = 0
    cap = bounds.limit + bounds.overdraft
    each: list[tuple[str, int]] = []
    presences: dict[str, Presence] = {}
    highest = [0] * (len(bounds.thresholds) + 1)  # values by how many thresholds they have reached
    for value, account in record.accounts.items():
        own_granted = own_spent = 0
        uncertain += account.settled_uncertain + account.recovered
        for holder, row in account.rows.items():
            own_granted += row.granted
            own_spent += row.spent
            uncertain += row.uncertain
            if row.state is not RowState.RELEASED:
                reserved += row.reserved
            presence = presences.get(holder)
            if presence is None:
                presence = presences[holder] = Presence()
            presence.note(row)
        granted += own_granted
        forfeited += account.forfeited
        counted = account.settled + account.recovered + own_spent
        spent += counted
        used, floor = counted + account.forfeited, record.floor if value else 0
        if bounds.hard:
            above = floor + used + own_granted - own_spent - cap
            pending += min(max(0, above), own_granted - own_spent)
        if value or not record.floor:
            overdrawn += max(0, used - bounds.limit)
        if value:
            values += 1
            each.append((value, counted))
            exhausted += (floor + used) * 100 >= cap * FULL
            percent = (floor + used) * 100 // bounds.limit if bounds.limit > 0 else 100
            fullest = max(fullest, percent)
            highest[bisect_right(bounds.thresholds, percent)] += 1
    return Tally(
        spent=spent,
        uncertain=uncertain,
        reserved=reserved,
        forfeited=forfeited,
        granted=granted,
        committed=spent + forfeited + sum(presence.leased for presence in presences.values()),
        overdrawn=overdrawn,
        pending_recall=pending,
        values=values,
        values_exhausted=exhausted,
        top=greatest(each),
        fullest=fullest,
        passed=tuple(sum(highest[index + 1 :]) for index in range(len(bounds.thresholds))),
        presences=presences,
    )


def greatest(names: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """At most TOP_MAX of those that spent anything, the greatest first; equal ones by name."""
    spent = ((name, amount) for name, amount in names if amount > 0)
    return tuple(sorted(nlargest(TOP_MAX, spent, key=_rank), key=lambda each: (-each[1], each[0])))


def _rank(each: tuple[str, int]) -> int:
    return each[1]


def figures(window: Window, bounds: Bounds, tallies: Sequence[Tally], now_s: int) -> LedgerFigures:
    """What the status shows at the unix second `now_s`; `tallies` are those of all ledgers of the window.

    A holder that spoke lately on one account is not silent because it had nothing to say on another.
    """
    together: dict[str, Presence] = {}
    for each in tallies:
        for holder, presence in each.presences.items():
            together.setdefault(holder, Presence()).add(presence)
    live = [presence for presence in together.values() if presence.live]
    loud = [presence for presence in live if presence.heard_s and now_s - presence.heard_s <= SILENT_AFTER_S]
    leased = sum(presence.leased for presence in live)
    return LedgerFigures(
        window=window,
        limit=bounds.limit,
        spent=sum(each.spent for each in tallies),
        reserved=sum(each.reserved for each in tallies),
        leased=leased,
        forfeited=sum(each.forfeited for each in tallies),
        uncertain=sum(each.uncertain for each in tallies),
        unheard=leased - sum(presence.leased - presence.lost for presence in loud),
        granted=sum(each.granted for each in tallies),
        committed=sum(each.committed for each in tallies),
        reporting=len(loud),
        silent=len(live) - len(loud),
        overdraft=bounds.overdraft,
        overdrawn=sum(each.overdrawn for each in tallies),
        pending_recall=sum(each.pending_recall for each in tallies),
        values=sum(each.values for each in tallies),
        values_exhausted=sum(each.values_exhausted for each in tallies),
        crowded=any(each.values >= VALUES_MAX for each in tallies),
        top=greatest(name for each in tallies for name in each.top),
        fullest=max((each.fullest for each in tallies), default=0),
        passed={
            percent: sum(each.passed[index] for each in tallies) for index, percent in enumerate(bounds.thresholds)
        },
    )
