"""Retries as a share of calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_api.proxy_config import RetryBudget
from keelage_sidecar.core.retry_budget import WINDOW_S, RetryLedger


@pytest.mark.parametrize(
    ("calls", "budget", "allowed"),
    [
        (0, RetryBudget(20, 10), 10),
        (40, RetryBudget(20, 10), 10),
        (100, RetryBudget(20, 10), 20),
        (100, RetryBudget(0, 0), 0),
        (7, RetryBudget(100, 0), 7),
    ],
)
def test_so_many_percent_of_the_calls_or_the_least_are_allowed(calls: int, budget: RetryBudget, allowed: int) -> None:
    ledger = RetryLedger()
    for _ in range(calls):
        ledger.called(5.0)
    made = 0
    while ledger.fits(budget, 5.0) and made < 1000:
        ledger.retried(5.0)
        made += 1
    assert made == allowed
    assert ledger.fits(RetryBudget(20, 1), 5.0 + WINDOW_S), "the window has passed"


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=200), st.integers(0, 100), st.integers(0, 5))
def test_over_any_time_no_more_is_tried_again_than_the_budget_gives(
    steps: list[tuple[float, bool]], percent: int, least: int
) -> None:
    ledger, budget, now_s, calls, retries = RetryLedger(), RetryBudget(percent, least), 0.0, 0, 0
    for step_s, again in steps:
        now_s += step_s
        if not again:
            ledger.called(now_s)
            calls += 1
        elif ledger.fits(budget, now_s):
            ledger.retried(now_s)
            retries += 1
    windows = now_s / (WINDOW_S * 0.9) + 1
    assert retries <= windows * least + 2 * calls * percent / 100
