"""Which window of a budget is current, whatever the clock does and the spec becomes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from keelage_api.proxy_config import Per, Unit
from keelage_api.window import Every
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.windows import CLOCK_STEP_MAX, Windows

DAY = BudgetInForce("shop/day", uid="1", limit=100, every=Every.DAY, zone="Europe/Berlin", hard=True)
NOON = datetime(2026, 11, 21, 11, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 21, 23, tzinfo=UTC)
"""In Berlin."""


def test_the_next_window_begins_with_the_zones_day() -> None:
    windows = Windows()
    assert windows.of(DAY, MIDNIGHT - timedelta(seconds=1)).id == "2026-11-21"
    assert not windows.rolled(DAY, MIDNIGHT - timedelta(seconds=1))
    assert windows.rolled(DAY, MIDNIGHT)
    assert windows.of(DAY, MIDNIGHT).id == "2026-11-22"
    assert not windows.rolled(DAY, MIDNIGHT)


def test_who_asks_for_a_window_that_has_just_begun_hides_it_from_nobody() -> None:
    """As a scrape of the metrics does: the status of a budget that nobody spends from would stay that of yesterday."""
    windows = Windows()
    assert not windows.rolled(DAY, MIDNIGHT - timedelta(seconds=1))
    assert windows.of(DAY, MIDNIGHT).id == "2026-11-22"
    assert windows.rolled(DAY, MIDNIGHT)
    assert not windows.rolled(DAY, MIDNIGHT)


def test_a_clock_that_goes_back_a_little_does_not_open_the_former_window_again() -> None:
    windows = Windows()
    assert windows.of(DAY, MIDNIGHT).id == "2026-11-22"
    assert windows.of(DAY, MIDNIGHT - timedelta(hours=1)).id == "2026-11-22"


def test_a_clock_that_was_far_ahead_is_not_believed_for_longer_than_it_was() -> None:
    windows = Windows()
    assert windows.of(DAY, NOON + CLOCK_STEP_MAX + timedelta(days=2)).id == "2026-11-24"
    assert windows.of(DAY, NOON).id == "2026-11-21"


def test_another_length_unit_or_per_is_another_window_and_back_it_is_the_former_one() -> None:
    windows = Windows()
    assert windows.of(DAY, NOON).id == "2026-11-21"
    assert windows.of(replace(DAY, every=Every.WEEK), NOON).id == "2026-W47"
    assert windows.of(replace(DAY, every=Every.HOUR), NOON).id == "2026-11-21T11Z"
    assert windows.of(replace(DAY, unit=Unit.TOKENS), NOON).id == "2026-11-21.tokens"
    assert windows.of(replace(DAY, per=(Per.USER,)), NOON).id == "2026-11-21.u"
    assert windows.of(replace(DAY, unit=Unit.TOKENS, per=(Per.USER, Per.FEATURE)), NOON).id == "2026-11-21.tokens.uf"
    assert windows.of(DAY, NOON).id == "2026-11-21"


def test_another_zone_moves_the_end_of_a_window_and_keeps_its_name() -> None:
    windows = Windows()
    assert windows.of(DAY, NOON).ends_at == MIDNIGHT
    moved = windows.of(replace(DAY, zone="America/New_York"), NOON)
    assert (moved.id, moved.ends_at) == ("2026-11-21", datetime(2026, 11, 22, 5, tzinfo=UTC))


def test_another_zone_where_the_former_day_is_not_over_goes_on_with_what_was_spent_on_it() -> None:
    windows = Windows()
    assert windows.of(DAY, MIDNIGHT + timedelta(hours=1)).id == "2026-11-22"
    assert windows.of(replace(DAY, zone="America/New_York"), MIDNIGHT + timedelta(hours=1)).id == "2026-11-21"


def test_a_budget_that_is_gone_is_forgotten() -> None:
    windows = Windows()
    windows.of(DAY, MIDNIGHT)
    windows.forget("shop/day")
    assert not windows.rolled(DAY, MIDNIGHT + timedelta(days=2))
    assert windows.of(DAY, NOON).id == "2026-11-21"
