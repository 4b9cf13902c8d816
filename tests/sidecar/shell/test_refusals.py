"""What a denied call is told."""

from __future__ import annotations

from dataclasses import replace

from keelage_sidecar.core.claim import DenialReason, Denied
from keelage_sidecar.shell.refusals import denied

EXHAUSTED = Denied("shop/month", DenialReason.BUDGET_EXHAUSTED, 5, 3600.2, "the limit is spent")


def test_an_exhausted_budget_names_the_end_of_its_window_to_the_minute() -> None:
    refusal = denied(EXHAUSTED, unix_s=1_796_079_599.1)
    assert refusal.status == 429
    assert refusal.message == "the limit is spent; the window ends at 2026-12-01T00:00:00Z"
    assert refusal.retry_after_s == 3600.2
    assert not refusal.should_retry


def test_a_rate_is_named_apart_from_budgets_and_asks_for_no_longer_than_sdks_wait() -> None:
    limited = Denied("shop/rate:r/all:0", DenialReason.RATE_LIMITED, 1, 180.0, "no room")
    refusal = denied(limited, 0.0)
    assert (refusal.status, refusal.limit, refusal.budget) == (429, "shop/rate:r/all:0", "")
    assert (refusal.should_retry, refusal.retry_after_s) == (True, 60.0)
    assert denied(replace(limited, resets_in_s=2.5), 0.0).retry_after_s == 2.5
    assert denied(replace(limited, resets_in_s=None), 0.0).retry_after_s == 1.0
