"""What a denied call is told."""

from __future__ import annotations

from keelage_sidecar.core.claim import DenialReason, Denied
from keelage_sidecar.shell.refusals import denied

EXHAUSTED = Denied("shop/month", DenialReason.BUDGET_EXHAUSTED, 5, 3600.2, "the limit is spent")


def test_an_exhausted_budget_names_the_end_of_its_window_to_the_minute() -> None:
    refusal = denied(EXHAUSTED, unix_s=1_796_079_599.1)
    assert refusal.status == 429
    assert refusal.message == "the limit is spent; the window ends at 2026-12-01T00:00:00Z"
    assert refusal.retry_after_s == 3600.2
    assert not refusal.should_retry
