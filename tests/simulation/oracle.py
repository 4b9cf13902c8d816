"""What must hold in a world at every moment, and the provider's own bill.

For every hard budget, window and value:

- I1: what is committed in a stored ledger is within the greatest cap that its window had, and never falls below
  what was billed;
- I2: at each holder spent + reserved <= granted <= what the stored ledger holds for it;
- the provider's bill is within the cap.

For every rate: in any stretch of time no more than the limit and what refilled is used, over all sidecars.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.simulation.store import FailingStore
from tests.simulation.virtual_time import running

from keelage_api.proxy_config import Quota, Unit
from keelage_operator.core.ledger import Account, LedgerRecord
from keelage_operator.core.shard import home_of
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.ledger_store import LedgerKey
from keelage_sidecar.core.holder import Holder

Place = tuple[str, str, str]
"""Budget, window, value."""

ROUNDED = 1e-6
LATE_S = 2.0
"""A grant that was computed under a cap may be stored so long after another one came into force."""


class Used(NamedTuple):
    """A rate that calls use together."""

    quota: str
    value: str
    alone: str = ""
    """The pod that kept the rate without a leader; empty: all that had leased of it."""


class Caps:
    """The greatest cap that each window had."""

    def __init__(self) -> None:
        self._changes: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        self._most: dict[tuple[str, str], int] = {}

    def change(self, budget: str, cap: int, now_s: float) -> None:
        self._changes[budget].append((now_s, cap))
        for key, most in self._most.items():
            if key[0] == budget:
                self._most[key] = max(most, cap)

    def most(self, budget: str, window: str, now_s: float) -> int:
        """Of a window that is heard of for the first time: what is in force, or was just before."""
        found = self._most.get((budget, window))
        if found is None:
            changes = self._changes[budget]
            found = changes[-1][1]
            for index in range(len(changes) - 1, 0, -1):
                if changes[index][0] < now_s - LATE_S:
                    break
                found = max(found, changes[index - 1][1])
            self._most[(budget, window)] = found
        return found


class Rates:
    """What of each quota and value is used, against a bucket that nobody leases from.

    A sidecar that nobody answered for long keeps the whole limit for itself (`core/local_rate`), so what it admits then
    counts against a bucket of its own.
    """

    def __init__(self, quotas: Iterable[Quota]) -> None:
        self._quotas = {quota.name: quota for quota in quotas}
        self._levels: dict[Used, tuple[float, float]] = {}
        """The level, and when it was that."""
        self._flying: Counter[Used] = Counter()

    def begins(self, used: Used, amount: int) -> str:
        """A call got its hold; what is wrong with it, empty: nothing."""
        quota = self._quotas[used.quota]
        if quota.unit is Unit.CONCURRENT:
            self._flying[used] += amount
            return (
                f"{self._flying[used]} at a time under {quota} for {used}" if self._flying[used] > quota.limit else ""
            )
        now_s = running().true_s
        level, then_s = self._levels.get(used, (float(quota.limit), now_s))
        level = min(float(quota.limit), level + (now_s - then_s) * quota.limit * 1000 / quota.window_ms) - amount
        self._levels[used] = (level, now_s)
        return f"{-level:.2f} too many under {quota} for {used}" if level < -ROUNDED else ""

    def ends(self, used: Used, amount: int) -> None:
        if self._quotas[used.quota].unit is Unit.CONCURRENT:
            self._flying[used] -= amount


class Oracle:
    def __init__(self, budgets: Iterable[BudgetInForce], deletes: bool) -> None:
        """`deletes`: ledgers vanish in this world, so that a holder may count on what no ledger holds."""
        self._hard = {each.name for each in budgets if each.hard}
        self._deletes = deletes
        self._seen: dict[Place, Account] = {}
        self.caps = Caps()
        self.rates = Rates(())
        self.billed: Counter[Place] = Counter()
        self.writes = 0
        self.failures: list[BaseException] = []
        self.store: FailingStore
        self.holders: Callable[[], Iterable[tuple[str, Holder]]] = tuple
        """Every living holder with its pod's uid."""

    def note(self, failure: BaseException) -> None:
        """Raised by `raise_failures`: whoever came upon it may be a task that nobody awaits."""
        self.failures.append(failure)

    def raise_failures(self) -> None:
        for failure in self.failures:
            raise failure

    def overrun(self) -> int:
        """Billed above the caps, of all windows."""
        now_s = running().true_s
        return sum(
            max(0, billed - self.caps.most(place[0], place[1], now_s))
            for place, billed in self.billed.items()
            if place[0] in self._hard
        )

    # What happens

    def stored(self, key: LedgerKey, record: LedgerRecord) -> None:
        """A ledger was written."""
        self.writes += 1
        if key.budget not in self._hard:
            return
        most = self.caps.most(key.budget, key.window, running().true_s)
        for value, account in record.accounts.items():
            place = (key.budget, key.window, value)
            if self._seen.get(place) is account or key.valued is not bool(value):
                continue
            self._seen[place] = account
            total = account.committed
            if total > most:
                self._broken(f"I1 in {place}: {total} of {most}")
            counted = total + (record.floor if value else 0)
            if counted < self.billed[place]:
                self._broken(f"{place}: billed {self.billed[place]}, counted {counted}")
            proven = account.settled - account.settled_uncertain
            proven += sum(row.spent - row.uncertain for row in account.rows.values())
            if proven > self.billed[place] and not self._deletes:
                self._broken(f"{place}: billed {self.billed[place]}, shown as certain {proven}")
            for uid, holder in self.holders():
                self._check(uid, holder, place, record)

    def held(self, uid: str, holder: Holder, places: Iterable[Place]) -> None:
        """A call got its hold on these."""
        for place in places:
            if place[0] in self._hard:
                self._check(uid, holder, place, self._record(place))

    def begins(self, rates: Iterable[tuple[Used, int]]) -> None:
        """A call got its hold on so much of these rates."""
        for used, amount in rates:
            wrong = self.rates.begins(used, amount)
            if wrong:
                self._broken(wrong)

    def bill(self, place: Place, cost: int) -> None:
        """The provider bills a call."""
        self.billed[place] += cost
        if place[0] not in self._hard:
            return
        billed, most = self.billed[place], self.caps.most(place[0], place[1], running().true_s)
        if billed > most:
            self._broken(f"{place}: billed {billed} of {most}")
        record = self._record(place)
        if record is not None and not self._deletes:
            counted = record.account(place[2]).committed
            if billed > counted:
                self._broken(f"{place}: billed {billed}, counted {counted}")

    def _record(self, place: Place) -> LedgerRecord | None:
        """As it is stored; None: it is not there."""
        budget, window, value = place
        return self.store.peek(LedgerKey(budget, window, home_of(window, value)))

    def _check(self, uid: str, holder: Holder, place: Place, record: LedgerRecord | None) -> None:
        """`record`: as it is stored."""
        held = holder._portfolio.get(*place)
        if held is None:
            return
        if held.spent + held.reserved > held.granted:
            self._broken(f"I2 at {uid}: {held}")
        if record is None or self._deletes:
            return
        name = f"{uid}.{holder.incarnation}"
        row = record.account(place[2]).rows.get(name)
        # Without a row after its goodbye, of which it has not heard the answer: what it has spent is in `settled`.
        folded = held.spent if name in record.seen else 0
        granted = row.granted if row is not None else folded
        if held.granted > granted:
            self._broken(f"{uid} counts on {held.granted} in {place}, the ledger holds {granted}")

    def _broken(self, text: str) -> None:
        self.note(AssertionError(f"after {running().true_s:.2f} s: {text}"))
