"""Which window of each budget is current. The caller tells the time; one that goes back a little is not followed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from keelage_api.window import Window, window_at
from keelage_operator.core.shard import ledger_window
from keelage_operator.core.terms import BudgetInForce

CLOCK_STEP_MAX = timedelta(days=1)
"""By how much a clock may be set back without the window being left again."""


class Windows:
    """Remembers the newest window of each budget."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[BudgetInForce, Window]] = {}
        self._looked: dict[str, Window] = {}
        """Current when it was last asked whether it has rolled."""

    def forget(self, name: str) -> None:
        self._newest.pop(name, None)
        self._looked.pop(name, None)

    def of(self, terms: BudgetInForce, now: datetime) -> Window:
        """The current one; one that has begun is not left again when the clock goes back a little."""
        before = self._newest.get(terms.name)
        newest = before[1] if before is not None and _alike(before[0], terms) else None
        if newest is not None and newest.starts_at <= now < newest.ends_at:
            return newest  # several times per statement: the calendar is asked once per window
        window = window_at(terms.every, ZoneInfo(terms.zone), now)
        window = replace(window, id=ledger_window(window.id, terms.unit, terms.per))
        # One that begins far ahead is from a clock that was wrong: it would stand for years.
        latest = now + CLOCK_STEP_MAX
        if newest is not None and window.starts_at <= newest.starts_at <= latest:
            return newest
        self._newest[terms.name] = (terms, window)
        return window

    def rolled(self, terms: BudgetInForce, now: datetime) -> bool:
        """Whether another window has become current since this was asked last, whoever else asked for it meanwhile."""
        window, before = self.of(terms, now), self._looked.get(terms.name)
        self._looked[terms.name] = window
        return before is not None and window != before


def _alike(one: BudgetInForce, other: BudgetInForce) -> bool:
    """Whether their windows are the same."""
    return one is other or (one.every, one.zone, one.unit, one.per) == (other.every, other.zone, other.unit, other.per)
