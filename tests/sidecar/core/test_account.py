"""How much of a limit one account should hold, and when it gives back."""

from __future__ import annotations

from keelage_api.account import RATE_WINDOW
from keelage_sidecar.core.account import LEASE_PARTS, Account


def busy(limit: int, window: str = "2026-11") -> Account:
    """Twenty calls of up to 100 in flight, spending 50 per second, for a minute."""
    account = Account(0, "shop/month", window, granted=1 << 40, told_limit=limit)
    for second in range(61):
        account.note_demand(100, float(second))
        account.busiest.now = max(account.busiest.now, 20)
        account.spent += 50
        account.measure(float(second))
    return account


def test_a_lease_covers_the_spending_of_a_quarter_minute_where_the_limit_bears_it() -> None:
    assert busy(limit=10_000_000).spare(60.0) == 100 * 21
    assert busy(limit=-1).spare(60.0) == 100 * 21
    quiet = busy(limit=10_000_000)
    quiet.busiest.now = quiet.busiest.before = 1
    assert quiet.spare(60.0) == 750


def test_a_lease_is_a_small_part_of_the_limit_but_covers_some_seconds() -> None:
    assert busy(limit=300_000).spare(60.0) == 300_000 // LEASE_PARTS
    assert busy(limit=10_000).spare(60.0) == 400
    assert busy(limit=10_000, window=RATE_WINDOW).spare(60.0) == 100 * 21, "a rate refills: nothing of it is lost"


def test_the_rate_is_the_mean_from_the_beginning() -> None:
    account = Account(0, "shop/month", "2026-11")
    account.measure(0.0)
    account.spent = 100
    account.measure(2.0)
    assert account.rate == 50.0


def test_a_fragment_that_serves_nobody_here_goes_back_while_money_is_short() -> None:
    account = Account(0, "shop/month", "2026-11", granted=70, heard_s=1.0, told_s=0.5, queued=100)
    assert account.to_give_back(100, 2.0) == 0
    account.tight = True
    assert account.to_give_back(100, 2.0) == 70
    account.told_s = 1.5
    assert account.to_give_back(100, 2.0) == 0, "what was said last is not answered"
