"""What an attempt asks of the budgets it falls under, and what it gets: a hold, or a reason why not.

Between `routing`, which says which budgets pay, and `holder`, which says whether they can.
Amounts are in the unit of the account: pico-dollars unless a budget or quota counts something else.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from keelage_api.proxy_config import Unit
from keelage_sidecar.core.journal_format import HOLDS

AMOUNT_MAX = 1 << 62
"""Four million dollars: no account spends or is granted more, so that sums stay within the journal's 64 bits."""
UNPAID_CALL_MAX = AMOUNT_MAX // HOLDS
"""A thousand dollars, for a call that no hard budget bounds: all that are in flight stay within AMOUNT_MAX."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The upper bound of one attempt's cost, against one budget."""

    budget: str
    """`<namespace>/<budget>`."""
    amount: int
    hard: bool
    """False: only counted, never a reason to refuse."""
    value: str = ""
    """Whose account, where the limit holds `per` something (`keelage_api.account`)."""
    unit: Unit = Unit.PICODOLLARS
    quota: bool = False
    """A rate (`proxy_config.Quota`), not a budget: without an operator it is enforced by each sidecar for itself."""
    at_once: bool = False
    """Of a rate: refused as soon as its leader has said that there is no room."""

    @property
    def owner(self) -> tuple[str, str]:
        """Whose account pays."""
        return self.budget, self.value

    @property
    def held(self) -> int:
        """What is reserved for it: all of it where it must be paid."""
        return self.amount if self.hard else min(self.amount, UNPAID_CALL_MAX)


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What an attempt used, in every unit that an account may count."""

    picodollars: int = 0
    tokens: int = 0
    input_tokens: int = 0
    """Without those that were read from a prompt cache."""
    output_tokens: int = 0
    requests: int = 0
    """1 if it was sent."""

    def plus(self, other: Charge) -> Charge:
        """Both together."""
        return Charge(
            self.picodollars + other.picodollars,
            self.tokens + other.tokens,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.requests + other.requests,
        )

    def less(self, part: Charge) -> Charge:
        """Without `part`, which has no more of any unit."""
        return Charge(
            self.picodollars - part.picodollars,
            self.tokens - part.tokens,
            self.input_tokens - part.input_tokens,
            self.output_tokens - part.output_tokens,
            self.requests - part.requests,
        )

    def of(self, unit: Unit) -> int:
        """The amount for an account of that unit; what is only held while a request runs costs nothing."""
        match unit:
            case Unit.PICODOLLARS:
                return self.picodollars
            case Unit.TOKENS:
                return self.tokens
            case Unit.INPUT_TOKENS:
                return self.input_tokens
            case Unit.OUTPUT_TOKENS:
                return self.output_tokens
            case Unit.REQUESTS:
                return self.requests
            case Unit.CONCURRENT:
                return 0


NOTHING = Charge()
"""For a reservation of which nothing was sent."""
SENT = Charge(requests=1)
"""What is known of a request that has left, whatever became of it."""


class Hold(msgspec.Struct, frozen=True, gc=False):
    """A reservation on every budget of `claims`; settle it exactly once."""

    id: int
    claims: tuple[Claim, ...]


class Room(msgspec.Struct, frozen=True):
    """What an account could pay, in its unit."""

    free: int
    """At hand: a claim of so much would be granted now."""
    left: int
    """Of the limit, by what the ledger said last; others may hold some of it."""
    known: bool = True
    """False: the ledger has said nothing of this window yet."""


class Waiter(msgspec.Struct, frozen=True):
    """A call that waits for money; times on the sidecar's monotonic clock."""

    id: int
    claims: tuple[Claim, ...]
    since_s: float
    until_s: float
    owners: tuple[tuple[str, str], ...]
    """Of the claims."""


class DenialReason(enum.StrEnum):
    BUDGET_EXHAUSTED = "BudgetExhausted"
    """The money of this window is spent, or is held elsewhere and did not come free in time."""
    BUDGET_TOO_SMALL = "BudgetTooSmall"
    """The request may cost more than the whole limit: it can never be served."""
    NO_RIGHTS = "NoRights"
    """The ledger could not be asked and the lease does not suffice."""
    RATE_LIMITED = "RateLimited"
    """A quota has nothing left at this moment; it refills."""
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
    value: str = ""
    """Whose account could not pay, where the limit holds `per` something."""
