"""Which window of each budget is current. The caller tells the time; one that goes back a little is not followed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from keelage_api.proxy_config import Per, Unit
from keelage_api.window import Every, Window, window_at
from keelage_operator.core.shard import ledger_window
from keelage_operator.core.terms import BudgetInForce

CLOCK_STEP_MAX = timedelta(days=1)
"""By how much a clock may be set back without the window being left again."""

_Kind = tuple[Every, str, Unit, tuple[Per, ...]]


class Windows:
    """Remembers the newest window of each budget."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[_Kind, Window]] = {}

    def forget(self, name: str) -> None:
        self._newest.pop(name, None)

    def of(self, terms: BudgetInForce, now: datetime) -> Window:
        """The current one; one that has begun is not left again when the clock goes back a little."""
        kind = (terms.every, terms.zone, terms.unit, terms.per)
        newest = self._newest.get(terms.name)
        if newest is not None and newest[0] == kind and newest[1].starts_at <= now < newest[1].ends_at:
            return newest[1]  # several times per statement: the calendar is asked once per window
        window = window_at(terms.every, ZoneInfo(terms.zone), now)
        window = replace(window, id=ledger_window(window.id, terms.unit, terms.per))
        # One that begins far ahead is from a clock that was wrong: it would stand for years.
        latest = now + CLOCK_STEP_MAX
        if newest is not None and newest[0] == kind and window.starts_at <= newest[1].starts_at <= latest:
            return newest[1]
        self._newest[terms.name] = (kind, window)
        return window

    def rolled(self, terms: BudgetInForce, now: datetime) -> bool:
        """Whether another window has become current since this budget's was asked for last."""
        before = self._newest.get(terms.name)
        return before is not None and self.of(terms, now) != before[1]
