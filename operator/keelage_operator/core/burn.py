"""How fast a budget is spent, from what was reported, and where that leads. Pure; amounts in the budget's unit.

The rate is a mean over past time in which the moment t seconds ago has the weight
exp(-t / FADE_S). What is shown holds still while the truth is near it: a rate that fades
by itself would otherwise have the status written again and again while nobody spends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from keelage_api.window import Window

FADE_S = 600.0
"""Ten minutes: a pause between two batches does not look like an end, a new release shows within minutes."""
WARM_S = 60.0
"""Time not seen counts as idle for so long: the first call after a start is no rate of a thousand dollars."""
ENDED_S = 6 * FADE_S
"""So long after the last spending its weight is below a quarter of a percent: nothing is spent any more."""
TICK_S = 0.001
HOUR_S = 3_600
NEAR = 0.2
"""Fraction by which the truth may leave what is shown; an hour of fading then costs 33 writes, not 720."""
DIGITS = 3
"""That count in what is shown: `1.23`."""


@dataclass(frozen=True, slots=True)
class Burn:
    """What was seen of one budget up to a moment; the caller keeps it, over the ends of windows too."""

    window: Window
    spent: int
    """Total of that window."""
    at_s: float
    """Monotonic seconds."""
    amount: float = 0.0
    """Spent, each part by its weight."""
    seen_s: float = 0.0
    """Time, each part by its weight; at most FADE_S."""
    last_s: float = float("-inf")
    """When anything was last spent."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the status shows."""

    rate: int
    """Per hour."""
    forecast: int
    """Spent when the window ends; never below what is spent already."""
    exhausted_at: datetime | None
    """When nothing is left; None: not in this window."""


def burned(before: Burn | None, window: Window, spent: int, at_s: float) -> Burn:
    """Go on to the moment `at_s` with that total. What was spent meanwhile is spread evenly over the time between.

    A window that does not follow the one before is that of a budget whose limit has another unit, or holds for
    somebody else, than before: what is counted there is nothing new, and maybe not of the same kind.
    """
    same = before is not None and window.id == before.window.id
    if before is None or not (same or window.starts_at >= before.window.ends_at):
        return Burn(window, spent, at_s)
    added = spent - before.spent if same else spent
    elapsed_s = at_s - before.at_s
    if elapsed_s < TICK_S:
        return before  # counted at the next look
    kept = math.exp(-elapsed_s / FADE_S)
    weight_s = FADE_S * (1 - kept)
    return Burn(
        window,
        spent,
        at_s,
        # A rebuilt ledger may find less than before: that was no negative spending.
        before.amount * kept + max(0, added) / elapsed_s * weight_s,
        before.seen_s * kept + weight_s,
        at_s if added > 0 else before.last_s,
    )


def rate_of(burn: Burn) -> int:
    """Per hour, unrounded; 0 when spending has ended."""
    if burn.at_s - burn.last_s > ENDED_S:
        return 0
    return int(burn.amount / max(burn.seen_s, WARM_S) * HOUR_S)


def shown_rate(rate: int, shown: int) -> int:
    """`shown` while the rate is near it, else the rate in three digits."""
    return shown if _near(rate, shown) else _rounded(rate)


def outlook(rate: int, spent: int, left: int, now: datetime, ends_at: datetime, before: Outlook) -> Outlook:
    """Where a shown rate leads by the window's end; `left` is what can still be spent, `before` what was shown."""
    ahead_s = max(0.0, (ends_at - now).total_seconds())
    if rate <= 0:
        return Outlook(0, spent, None)
    forecast = spent + int(rate * ahead_s / HOUR_S)
    if not (before.forecast >= spent and _near(forecast, before.forecast)):
        forecast = max(spent, _rounded(forecast))
    else:
        forecast = before.forecast
    wait_s = max(left, 0) / rate * HOUR_S
    if wait_s >= ahead_s:
        return Outlook(rate, forecast, None)
    at = now + timedelta(seconds=wait_s)
    old = before.exhausted_at
    if old is not None and old >= now and abs((at - old).total_seconds()) <= max(60.0, NEAR * wait_s):
        return Outlook(rate, forecast, old)
    return Outlook(rate, forecast, at.replace(second=0, microsecond=0) + timedelta(minutes=1))


def _near(truth: int, shown: int) -> bool:
    return truth == shown or (truth > 0 and abs(truth - shown) <= NEAR * shown)


def _rounded(amount: int) -> int:
    """To three digits that count."""
    excess = len(str(amount)) - DIGITS
    return amount if excess <= 0 else round(amount, -excess)
