"""One account of a quota: a token bucket from which holders lease what they use. Pure; whole units, milliseconds.

    level + sum of (granted - spent) of all rows <= limit

at every instant, so that over any stretch of time no more than limit + rate x time is used by
all holders together, however late they tell of it. The messages are those of a budget's ledger
(cumulative totals, the newest statement of a holder counts); but nothing is stored, and what a
holder takes along when it vanishes comes back with time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keelage_api.account import RATE_WINDOW
from keelage_api.proxy_config import Quota
from keelage_api.sync import Right, Statement
from keelage_operator.core.share import pour

ACTIVE_MS = 5_000
"""Twice the interval at which a sidecar speaks of what moves. Who did not for longer neither counts when it is shared
nor is waited for to give back."""
CONFIRM_MS = 10_000
"""A holder that was answered speaks of the account within seconds; otherwise the answer was lost, and what it
granted with it."""
WAITS_MS = 1_000
"""Who waits asks several times in that time; until then nobody who came later is served before."""
LEARNING_MS = 10_000
"""A new leader knows by then what is held at once: a sidecar speaks every two seconds, and an exchange that times out
and the two after it that are lost take less. One that is not heard for longer keeps the rates by itself."""
RENEW_S = 3600.0
"""Rights to a quota do not end by themselves; each answer renews them for so long."""


@dataclass(slots=True)
class Row:
    """What one holder leases; totals never fall but by what it gives back."""

    granted: int
    spent: int
    reserved: int = 0
    seq: int = 0
    heard_ms: int = 0
    confirmed: bool = False
    """The holder has spoken of it as an account of its own."""
    waiting: int = 0
    """What a waiting call lacks and did not get."""
    since_ms: int = 0
    """Since when it has lacked something without a pause. Not how long its first call has waited: while more is asked
    for than flows in, those with many small calls would then always come before one with a big call."""
    left: int = -1
    """The provider's word that was heard last."""

    @property
    def idle(self) -> int:
        return self.granted - self.spent - self.reserved


class Bucket:
    """Ends with its last row once it is full again: then it says no more than one that is made anew."""

    __slots__ = ("_leased", "_level", "_opens_ms", "_reserved", "_scale", "_told_ms", "quota", "rows")

    def __init__(self, quota: Quota, filled_ms: int | None, now_ms: int) -> None:
        """`filled_ms`: for so long it has been filling since it was empty; None: it is full."""
        self.quota = quota
        self.rows: dict[str, Row] = {}
        self._scale = max(1, quota.window_ms)
        """The level is kept in units of which `limit` flow in each millisecond: no fraction is lost or made up."""
        self._leased = 0
        self._reserved = 0
        full = quota.limit * self._scale
        self._level = full if filled_ms is None else min(full, quota.limit * max(0, filled_ms))
        self._told_ms = now_ms
        self._opens_ms = now_ms if filled_ms is None else now_ms + LEARNING_MS - filled_ms

    @property
    def level(self) -> int:
        """What could be granted when it was last refilled; negative: more was used than was granted."""
        return self._level // self._scale

    @property
    def leased(self) -> int:
        """Granted and not spent."""
        return self._leased

    def blank(self, now_ms: int) -> bool:
        """Full and without rows."""
        self._refill(now_ms)
        return not self.rows and self._level >= self.quota.limit * self._scale

    def obey(self, quota: Quota, now_ms: int) -> None:
        """Another limit of the same kind; what is leased above it comes back as it is used up."""
        assert (quota.unit, quota.window_ms, quota.per) == (self.quota.unit, self.quota.window_ms, self.quota.per)
        self._refill(now_ms)
        self.quota = quota
        self._refill(now_ms)

    def hear(self, holder: str, statement: Statement, now_ms: int) -> bool:
        """Take in a holder's word; False if a newer one was heard before."""
        row = self.rows.get(holder)
        if row is not None and statement.seq <= row.seq:
            return False
        self._refill(now_ms)
        if row is None:
            row = self.rows[holder] = self._claimed(statement)
        # Nobody can have more in flight than was ever granted to it: else what is given back would be more than
        # what was taken.
        reserved = min(statement.reserved, max(self.quota.limit, row.granted - row.spent))
        self._reserved += reserved - row.reserved
        row.reserved, row.seq, row.heard_ms = reserved, statement.seq, now_ms
        row.confirmed = row.confirmed or bool(statement.window)
        spent = max(row.spent, statement.spent)
        self._leased -= spent - row.spent
        row.spent = spent
        above = spent + reserved - row.granted
        if above > 0:  # it was used already, whoever allowed it
            self._move(row, above)
        elif statement.final and statement.reserved == 0:
            self._move(row, spent - row.granted)
        elif statement.keep >= 0:
            self._move(row, min(0, max(statement.keep, spent + reserved) - row.granted))
        if statement.left >= 0 and statement.left != row.left:
            self._lower(statement.left)
        row.left = statement.left
        row.waiting = 0
        row.since_ms = (row.since_ms or now_ms) if statement.min_want > 0 else 0
        if statement.final and statement.reserved == 0:
            self.forget(holder, now_ms)
        return True

    def forget(self, holder: str, now_ms: int) -> None:
        """The holder is gone, and its row with it. What it had leased counts as used just now, and refills with
        time."""
        self._refill(now_ms)
        row = self.rows.pop(holder, None)
        if row is not None:
            self._leased -= row.granted - row.spent
            self._reserved -= row.reserved

    def grant(self, asked: Mapping[str, Statement], now_ms: int) -> dict[str, Right]:
        """Share what is there among those whose statements were heard just now; the answers by holder."""
        for holder in [holder for holder, row in self.rows.items() if self._unconfirmed(row, now_ms)]:
            self.forget(holder, now_ms)
        self._refill(now_ms)
        rows = {holder: self.rows[holder] for holder in asked if holder in self.rows}
        active = [row for row in self.rows.values() if now_ms - row.heard_ms <= ACTIVE_MS]
        idle = sum(row.idle for row in active)
        hopeless = {
            holder
            for holder, row in rows.items()
            if not self._fits_in_time(asked[holder].min_want, idle - min(idle, row.idle))
        }
        gifts = self._shared(asked, rows, hopeless, len(active), now_ms)
        for holder, row in rows.items():
            self._move(row, gifts.get(holder, 0))
            floor = asked[holder].min_want
            row.waiting = floor if holder not in hopeless and gifts.get(holder, 0) < floor else 0
            if not row.waiting:
                row.since_ms = 0
        if not self.quota.queue_wait_ms and self.level <= 0:
            # Who got something for one call and has others waiting need not ask again for them.
            hopeless |= {
                holder
                for holder, row in rows.items()
                if asked[holder].queued > gifts.get(holder, 0) and idle <= min(idle, row.idle)
            }
        tight = self._level < 0 or any(row.waiting > 0 for row in active)
        return {
            holder: self._right(statement, self.rows.get(holder), tight, holder in hopeless)
            for holder, statement in asked.items()
        }

    def _shared(
        self, asked: Mapping[str, Statement], rows: Mapping[str, Row], hopeless: set[str], active: int, now_ms: int
    ) -> dict[str, int]:
        """First one waiting call of each holder, then what else waits, then what is expected.

        In the order of arrival: else many small calls would keep a big one waiting for ever. For what is only
        expected nobody takes more than an equal part of half of what is left, so that the others need not wait for it
        to come back.
        """
        free = max(0, self.level)
        absent = sorted(
            (row.since_ms, row.waiting)
            for holder, row in self.rows.items()
            if row.waiting and holder not in rows and now_ms - row.heard_ms <= WAITS_MS
        )
        kept = sum(waiting for _, waiting in absent)
        taken = ahead = 0
        gifts: dict[str, int] = {}
        for since_ms, floor, holder in sorted(
            (row.since_ms or now_ms, asked[holder].min_want, holder) for holder, row in rows.items()
        ):
            if holder in hopeless or not (floor or asked[holder].want):
                continue
            while absent and absent[0][0] < since_ms:
                ahead += absent.pop(0)[1]
            if ahead + taken + floor > free:
                ahead += floor
                kept += floor
            else:
                gifts[holder] = floor
                taken += floor
        left = max(0, free - kept - taken)
        for holder, more in pour(left, {each: max(0, asked[each].queued - gifts[each]) for each in gifts}).items():
            gifts[holder] += more
            left -= more
        most = left // (2 * max(1, active, len(gifts)))
        for holder in gifts:
            gifts[holder] += max(0, min(asked[holder].want - gifts[holder], most))
        return gifts

    def _claimed(self, statement: Statement) -> Row:
        """A row for a holder that has none: it counts on what another leader granted, or this one before it fell
        silent. What it has spent of it is past."""
        row = Row(statement.spent, statement.spent)
        claim = min(max(0, statement.granted - statement.spent), self.quota.limit)
        row.granted += claim
        self._leased += claim
        self._level = min(self._level, self._room)
        return row

    def _move(self, row: Row, amount: int) -> None:
        """Between level and lease; what was used without a grant is owed by the level, but no more than one window."""
        row.granted += amount
        self._leased += amount
        self._level = max(self._level - amount * self._scale, min(self._level, -self.quota.limit * self._scale))
        self._level = min(self._level, self._room)

    def _lower(self, left: int) -> None:
        """The provider's word: so much is left for all. What is leased and idle is going to be used of it."""
        if self.quota.window_ms:
            most = max(left - (self._leased - self._reserved), -self.quota.limit)
            self._level = min(self._level, most * self._scale)

    @property
    def _room(self) -> int:
        return (self.quota.limit - self._leased) * self._scale

    def _refill(self, now_ms: int) -> None:
        """Before anything that came to pass since is heard: what was leased all that time did not flow in again."""
        elapsed_ms = max(0, now_ms - self._told_ms)
        self._told_ms += elapsed_ms
        if self.quota.window_ms:
            self._level = min(self._room, self._level + self.quota.limit * elapsed_ms)
        else:
            self._level = self._room if self._told_ms >= self._opens_ms else min(0, self._room)

    def _fits_in_time(self, floor: int, idle: int) -> bool:
        """Whether a call that lacks `floor` can be served before it is refused; `idle`: what others may give back."""
        lacks = floor - self.level - idle
        if floor <= 0 or lacks <= 0:
            return True
        if not self.quota.window_ms:
            return floor <= self.quota.limit and self.quota.queue_wait_ms > 0
        return floor <= self.quota.limit and lacks * self._scale <= self.quota.limit * self.quota.queue_wait_ms

    def _unconfirmed(self, row: Row, now_ms: int) -> bool:
        return not row.confirmed and now_ms - row.heard_ms > CONFIRM_MS

    def _right(self, statement: Statement, row: Row | None, tight: bool, exhausted: bool) -> Right:
        """`row` is None after a goodbye: what was not spent has returned."""
        spent = row.spent if row is not None else statement.spent
        return Right(
            budget=statement.budget,
            window=RATE_WINDOW,
            seq=statement.seq,
            granted=row.granted if row is not None else spent,
            ends_in_s=RENEW_S,
            tight=tight,
            exhausted=exhausted,
            spent=spent,
            limit=self.quota.limit,
            value=statement.value,
        )
