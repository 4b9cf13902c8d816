"""How fast a budget is spent, and when that is worth a write."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_api.money import PICO_PER_USD
from keelage_api.window import Window
from keelage_operator.core.burn import ENDED_S, FADE_S, Burn, Outlook, burned, outlook, rate_of, shown_rate

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ENDS = datetime(2026, 12, 1, tzinfo=UTC)
CENT = PICO_PER_USD // 100
MONTH = Window("2026-11", datetime(2026, 11, 1, tzinfo=UTC), ENDS)
NEXT = Window("2026-12", ENDS, datetime(2027, 1, 1, tzinfo=UTC))


def steady(seconds: int, every_s: int, amount: int) -> Burn:
    """Spending that began at second 0, seen at each report."""
    burn = burned(None, MONTH, 0, 0)
    for at_s in range(every_s, seconds + 1, every_s):
        burn = burned(burn, MONTH, amount * at_s // every_s, at_s)
    return burn


@pytest.mark.parametrize("every_s", [1, 5, 30])
def test_a_steady_rate_is_found_whatever_the_interval_of_reports(every_s: int) -> None:
    found = rate_of(steady(1800, every_s, CENT * every_s))
    assert found == pytest.approx(36 * PICO_PER_USD, rel=1e-6)


def test_a_steady_rate_is_found_within_a_minute_of_the_start() -> None:
    assert rate_of(steady(120, 2, CENT)) == pytest.approx(18 * PICO_PER_USD, rel=0.01)


def test_one_call_at_the_start_is_no_rate_of_a_thousand_dollars() -> None:
    burn = burned(burned(None, MONTH, 0, 0), MONTH, 5 * CENT, 0.1)
    assert rate_of(burn) <= 3 * PICO_PER_USD


def test_what_was_spent_before_the_first_look_is_no_rate() -> None:
    assert rate_of(burned(None, MONTH, 100 * PICO_PER_USD, 0)) == 0


def test_a_rate_fades_and_ends() -> None:
    burn = steady(1800, 2, CENT)
    later = burned(burn, MONTH, burn.spent, 1800 + FADE_S)
    assert rate_of(later) == pytest.approx(18 * PICO_PER_USD / 2.718, rel=0.1)
    assert rate_of(burned(later, MONTH, burn.spent, 1801 + ENDED_S)) == 0


def test_the_rate_goes_on_over_the_end_of_a_window() -> None:
    burn = steady(1800, 2, CENT)
    assert rate_of(burned(burn, NEXT, CENT, 1802)) == pytest.approx(18 * PICO_PER_USD, rel=1e-6)


def test_dollars_of_before_are_no_rate_of_tokens() -> None:
    tokens = replace(MONTH, id="2026-11.tokens")
    burn = burned(steady(1800, 2, CENT), tokens, 500, 1802)
    assert rate_of(burn) == 0
    assert rate_of(burned(burn, tokens, 1000, 1862)) == pytest.approx(500 * 60, rel=0.1)


def test_a_limit_that_is_for_all_again_has_not_spent_the_whole_window_at_once() -> None:
    each = burned(steady(1800, 2, CENT), replace(MONTH, id="2026-11.u"), 0, 1802)
    assert rate_of(burned(each, MONTH, 900 * CENT, 1804)) == 0


@given(st.lists(st.tuples(st.floats(0, 5000), st.integers(0, 10**15)), max_size=30))
def test_a_rate_is_never_negative_nor_above_all_that_was_spent_in_a_minute(steps: list[tuple[float, int]]) -> None:
    burn, at_s, total = burned(None, MONTH, 0, 0.0), 0.0, 0
    for elapsed_s, spent in steps:
        at_s += elapsed_s
        total += max(0, spent - burn.spent)
        burn = burned(burn, MONTH, spent, at_s)
        assert 0 <= rate_of(burn) <= total * 61


def test_an_hour_of_fading_is_some_dozens_of_values() -> None:
    burn, shown, values = steady(1800, 2, CENT), 0, set()
    for at_s in range(1800, 1800 + int(ENDED_S) + 10, 5):
        burn = burned(burn, MONTH, burn.spent, at_s)
        shown = shown_rate(rate_of(burn), shown)
        values.add(shown)
    assert shown == 0
    assert len(values) <= 40


def test_what_is_shown_has_three_digits_and_holds_still_near_the_truth() -> None:
    assert shown_rate(1_234_567, 0) == 1_230_000
    assert shown_rate(1_100_000, 1_230_000) == 1_230_000
    assert shown_rate(900_000, 1_230_000) == 900_000
    assert shown_rate(0, 1_230_000) == 0


def test_no_rate_leads_to_what_is_spent() -> None:
    before = Outlook(5, 1000, ENDS)
    assert outlook(0, 70, 30, NOW, ENDS, before) == Outlook(0, 70, None)


def test_a_moment_that_is_near_the_truth_stands() -> None:
    rate = PICO_PER_USD
    first = outlook(rate, 0, 10 * rate, NOW, ENDS, Outlook(0, 0, None))
    assert first.exhausted_at == NOW + timedelta(hours=10, minutes=1)
    later = outlook(rate, 0, 10 * rate, NOW + timedelta(hours=1), ENDS, first)
    assert later == first
    assert outlook(rate, 0, 10 * rate, NOW + timedelta(hours=4), ENDS, first).exhausted_at == NOW + timedelta(
        hours=14, minutes=1
    )
