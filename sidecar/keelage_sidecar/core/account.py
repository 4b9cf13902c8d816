"""What a holder knows of one budget or rate in one window, for one value, and how much it should ask for.

Pure; amounts in the account's unit, and seconds on the sidecar's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec

from keelage_api.account import RATE_WINDOW, counts_tokens
from keelage_api.proxy_config import Unit

HORIZON_S = 15.0
"""A lease covers the spending of this long: a few times the interval between statements."""
LEASE_MIN_S = 8.0
"""What is free covers so long even where that is more than a LEASE_PARTS-th of the limit."""
LEASE_PARTS = 200
"""No more than half a percent of the limit is free at one sidecar, so that little is lost with a node."""
PERIOD_S = 30.0
"""Peaks are remembered for one to two periods."""
IDLE_S = 600.0
"""After so long without a call even the money for one is given back."""
VALUED_IDLE_S = 60.0
"""After so long without a call an account of a value is released and forgotten: there may be very many."""
HOPELESS_S = 30.0
"""For so long after a refusal the ledger is asked whether that much could be served again."""
ASK_AGAIN_S = 0.25
"""While something waits: often enough to get back into a patience of seconds, seldom enough for a hundred sidecars."""
TIGHT_S = 0.5
"""Between statements while somebody lacks money."""
NEVER = float("-inf")
UNPROMISED = 1 << 63
"""More than any total: no last will names the account, so there is nothing that it must not exceed."""

Owner = tuple[str, str]
"""Name of a budget or rate, and value; empty where it holds for all calls together."""


@dataclass(slots=True)
class Peak:
    """The greatest value of the last one to two periods."""

    now: int = 0
    before: int = 0
    turned_s: float = NEVER

    @property
    def value(self) -> int:
        return self.now if self.now > self.before else self.before

    def turn(self, now_s: float) -> None:
        if now_s - self.turned_s >= PERIOD_S:
            self.before, self.now, self.turned_s = self.now, 0, now_s


class AccountFigures(msgspec.Struct, frozen=True):
    budget: str
    window: str
    granted: int
    spent: int
    reserved: int
    value: str = ""
    unit: Unit = Unit.PICODOLLARS


@dataclass(slots=True, eq=False)
class Account:
    """One budget, window and value; `granted`, `spent` and the holds are in the journal at `slot` too."""

    slot: int
    budget: str
    window: str
    value: str = ""
    granted: int = 0
    spent: int = 0
    uncertain: int = 0
    """The part of `spent` that nothing proves to have been billed."""
    reserved: int = 0
    promised: int = 0
    """The last will that stands says that spent + reserved are no more; before they are, another is written."""
    holds: int = 0
    ends_s: float = NEVER
    """Rights last until then. NEVER: neither told nor in the journal, so they may not be used."""
    told_s: float = NEVER
    """When the ledger was told of it last."""
    ledger: str = ""
    """`Right.ledger` of the last answer."""
    ledger_told: str = ""
    """The one that the last answered statement said."""
    told_limit: int = -1
    told_used: int = -1
    """What everybody had spent, when its own spending was `used_then`; negative: not told."""
    used_then: int = 0
    left_until: int = -1
    """Total of `spent + reserved` up to which the provider said it would serve; negative: it said nothing lately."""
    left_s: float = NEVER
    """When it said so."""
    refill_per_s: float = 0.0
    """How fast what the provider said to be left comes back."""
    horizon_s: float = HORIZON_S
    tight: bool = False
    first: bool = False
    """What waits here is served next: what is free here too is gathered for it."""
    hopeless: int = 0
    """A request of this amount cannot be served in this window, says the ledger; 0: none known."""
    dry: bool = False
    """The ledger gave nothing of what was asked for last. Calls that wait go on asking in a hurry; what is only
    expected is asked for as often as there is something to tell."""
    refused_s: float = NEVER
    """When last refused for it."""
    heard_s: float = NEVER
    """When the ledger answered last."""
    queued: int = 0
    """Sum of the claims that wait for this account."""
    low_mark: int = 0
    """Below so much free money it is time to ask for more."""
    largest: Peak = field(default_factory=Peak)
    busiest: Peak = field(default_factory=Peak)
    used_s: float = NEVER
    rate: float = 0.0
    """Spending per second, smoothed over ten."""
    _began_s: float = NEVER
    _rated_s: float = NEVER
    _rated_spent: int = 0
    owner: Owner = field(init=False)
    is_rate: bool = field(init=False)
    unit: Unit = field(init=False)
    """Of all amounts; of a rate once its terms are known."""

    def __post_init__(self) -> None:
        self.owner = (self.budget, self.value)
        self.is_rate = self.window == RATE_WINDOW
        self.unit = Unit.TOKENS if counts_tokens(self.window) else Unit.PICODOLLARS

    @property
    def free(self) -> int:
        return self.granted - self.spent - self.reserved

    @property
    def presses(self) -> bool:
        """Whether to ask for more at once, before a call has to wait for it."""
        return self.free < self.low_mark and not self.hopeless and not self.dry

    def free_at(self, now_s: float) -> int:
        """`free`, but of a provider's limit no more than it said to be left and what has come back since."""
        if self.left_until < 0:
            return self.free
        refilled = int((now_s - self.left_s) * self.refill_per_s)
        return min(self.free, self.left_until + refilled - self.spent - self.reserved)

    def inherit(self, before: Account) -> None:
        """The account of the window before shows what this one will need."""
        self.largest, self.busiest = replace(before.largest), replace(before.busiest)
        self.used_s, self.rate = before.used_s, before.rate

    def usable(self, now_s: float) -> bool:
        return now_s < self.ends_s

    def idle(self, now_s: float) -> bool:
        """Whether a value's account is to be given up; not while the ledger is away: its lease may be needed yet."""
        if not self.value or self.queued or now_s - self.used_s < VALUED_IDLE_S:
            return False
        return self.heard_s >= max(self.told_s, 0.0)

    @property
    def left(self) -> int:
        """Of the limit, by what was told of everybody's spending and what is spent or in flight here since."""
        if self.told_used < 0 or self.told_limit < 0:
            return self.free
        return self.told_limit - self.told_used - (self.spent - self.used_then) - self.reserved

    def used_percent(self) -> int | None:
        """How much of the limit everybody has spent, as far as is known here."""
        if self.told_used < 0 or self.told_limit <= 0:
            return None
        return (self.told_used + self.spent - self.used_then) * 100 // self.told_limit

    def note_demand(self, amount: int, now_s: float) -> None:
        """A call asked for that much, whether it got it or not."""
        self.used_s = now_s
        self.largest.now = max(self.largest.now, amount)

    def measure(self, now_s: float) -> None:
        """Bring the rate and the peaks up to date; once per statement."""
        elapsed = now_s - self._rated_s
        if self._rated_s == NEVER:
            self._began_s, self._rated_s, self._rated_spent = now_s, now_s, self.spent
        elif elapsed > 0.1:
            sample = (self.spent - self._rated_spent) / elapsed
            # In the beginning the mean of all so far: a rate that rises from zero would ask for too little.
            self.rate += (sample - self.rate) * elapsed / (elapsed + min(10.0, self._rated_s - self._began_s))
            self._rated_s, self._rated_spent = now_s, self.spent
        self.largest.turn(now_s)
        self.busiest.turn(now_s)
        self.busiest.now = max(self.busiest.now, self.holds)
        self.mark(now_s)

    def mark(self, now_s: float) -> None:
        """Set the mark below which it is time to ask: half of what should be free, but one more call at least."""
        spare = self.spare(now_s)
        self.low_mark = min(spare, max(spare // 2, self.largest.value))

    def spare(self, now_s: float) -> int:
        """What should be free beyond what waits: enough for the calls until the next rights come.

        Small at first: one more request of the size that was asked for. While somebody else
        lacks money, nothing.
        """
        idle_s = now_s - self.used_s
        if self.tight or idle_s > IDLE_S:
            return 0
        largest = self.largest.value
        if idle_s > PERIOD_S:
            return largest
        wish = max(int(self.rate * self.horizon_s), largest * (self.busiest.value + 1))
        if self.told_limit <= 0 or self.is_rate:
            return wish
        return min(wish, max(self.told_limit // LEASE_PARTS, int(self.rate * LEASE_MIN_S), 2 * largest))

    def speak_by(self, spoke_s: float, now_s: float) -> float:
        """When the ledger should hear of this account again, if it was told of it last at `spoke_s`."""
        if not self.usable(now_s):
            return float("inf")
        if self.tight:
            return min(self.ends_s, spoke_s + (ASK_AGAIN_S if self.free > self.queued else TIGHT_S))
        if self.presses:
            return min(self.ends_s, spoke_s + ASK_AGAIN_S)
        return self.ends_s

    def to_give_back(self, needed: int, now_s: float) -> int:
        """What is free and not needed; with slack, so that a lease does not breathe with each call.

        `needed`: a call of that amount waits here or was refused; 0: none. While money is short, what does not
        suffice for it goes back too: the fragments of all together may suffice for whoever has waited longest.

        Nothing while the last statement is not answered: what was offered is gone, and while the ledger is
        away there is nobody to get it back from. Nor before a ledger that was made again has been told so: it could
        not know that this is not yet given back.
        """
        if self.heard_s < max(self.told_s, 0.0) or self.ledger != self.ledger_told:
            return 0
        if self.tight and needed > self.free:
            return 0 if self.first else max(0, self.free)
        kept = self.queued + self.spare(now_s)
        surplus = self.free - kept
        return surplus if surplus > 0 and (self.tight or surplus > kept) else 0


class Asked(msgspec.Struct, frozen=True):
    """A statement that may still be answered."""

    owner: Owner
    account: Account | None
    """None: it asked for the current window."""
    sent_s: float
    needed: int
    """The amount of the call that it asked for; 0: none waits."""
    final: bool
    want: int = 0
