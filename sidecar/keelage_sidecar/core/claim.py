"""What an attempt asks of the budgets it falls under, and what it gets: a hold, or a reason why not.

Between `routing`, which says which budgets pay, and `holder`, which says whether they can.
Amounts are pico-dollars.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from keelage_sidecar.core.journal_format import HOLDS

AMOUNT_MAX = 1 << 62
"""Four million dollars: no account spends or is granted more, so that sums stay within the journal's 64 bits."""
UNPAID_CALL_MAX = AMOUNT_MAX // HOLDS
"""A thousand dollars, for a call that no hard budget bounds: all that are in flight stay within AMOUNT_MAX."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The upper bound of one attempt's cost, against one budget."""

    budget: str
    """`<namespace>/<budget>`."""
    amount: int
    hard: bool
    """False: only counted, never a reason to refuse."""

    @property
    def held(self) -> int:
        """What is reserved for it: all of it where it must be paid."""
        return self.amount if self.hard else min(self.amount, UNPAID_CALL_MAX)


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation on every budget of `claims`; settle it exactly once."""

    id: int
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Waiter:
    """A call that waits for money; times on the sidecar's monotonic clock."""

    id: int
    claims: tuple[Claim, ...]
    since_s: float
    until_s: float


class DenialReason(enum.StrEnum):
    BUDGET_EXHAUSTED = "BudgetExhausted"
    """The money of this window is spent, or is held elsewhere and did not come free in time."""
    BUDGET_TOO_SMALL = "BudgetTooSmall"
    """The request may cost more than the whole limit: it can never be served."""
    NO_RIGHTS = "NoRights"
    """The ledger could not be asked and the lease does not suffice."""
    WINDOW_UNKNOWN = "WindowUnknown"
    """The ledger has not said yet which window is current, or that it knows the budget."""


@dataclass(frozen=True, slots=True)
class Denied:
    budget: str
    """`<namespace>/<budget>` that could not pay."""
    reason: DenialReason
    needed: int
    """The amount of the claim."""
    resets_in_s: float | None
    """Seconds until the window ends; None where unknown."""
    message: str
    """For the application's log: names the budget, the amounts and the remedy."""
