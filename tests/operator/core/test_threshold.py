"""What is told when a part of a limit is used: once for everybody, now and then for values."""

from __future__ import annotations

import dataclasses

import pytest
from tests.operator.core.manifest_fields import Fields, budget, compiled
from tests.operator.core.test_budget_figures import NONE, PER_USER, USERS

from keelage_api.money import parse_usd
from keelage_api.v1alpha1.llmbudget import Do, LLMBudgetStatus
from keelage_api.v1alpha1.manifest import Parsed, parse
from keelage_operator.core.budget_status import budget_status
from keelage_operator.core.ledger import Account, LedgerRecord
from keelage_operator.core.ledger_figures import Bounds, LedgerFigures, figures, tally
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.threshold import Passing, message, passings, reached

STEPS = [{"percent": 80}, {"percent": 95, "do": "Downgrade", "tier": "fast"}]
EVERYBODY: Fields = {"limit": {"amount": "100"}, "thresholds": STEPS}
EACH: Fields = {**PER_USER, "thresholds": STEPS}


def terms_of(spec: Fields) -> BudgetInForce:
    found = compiled([], [budget(**spec)]).budgets["month"].in_force  # type: ignore[arg-type] # no amount in it
    assert found is not None
    return found


def after(old: LLMBudgetStatus, spec: Fields, figures: LedgerFigures, minute: int = 0) -> LLMBudgetStatus:
    """The status that is written so many minutes later."""
    found = compiled([], [budget(**spec)]).budgets["month"]  # type: ignore[arg-type] # no amount in it
    now = f"2026-11-21T00:{minute:02d}:00Z"
    parsed = parse(LLMBudgetStatus, budget_status(old, found, figures, now))
    assert isinstance(parsed, Parsed)
    return parsed.value


def news(old: LLMBudgetStatus, new: LLMBudgetStatus, spec: Fields) -> list[Passing]:
    return list(passings(old, new, terms_of(spec)))


def spent(amount: str) -> LedgerFigures:
    return dataclasses.replace(NONE, limit=parse_usd("100"), spent=parse_usd(amount))


def users(at_80: int, at_95: int) -> LedgerFigures:
    fullest = 95 if at_95 else 80 if at_80 else 0
    return dataclasses.replace(USERS, values=at_80, values_exhausted=0, fullest=fullest, passed={80: at_80, 95: at_95})


FRESH = LLMBudgetStatus()


@pytest.mark.parametrize(
    ("amount", "found"), [("79.99", {}), ("80", {80: 1}), ("94.999999", {80: 1}), ("200", {80: 1, 95: 1})]
)
def test_a_threshold_is_reached_by_what_is_spent(amount: str, found: dict[int, int]) -> None:
    assert reached(terms_of(EVERYBODY), spent(amount)) == found


def test_forfeits_count_as_used_and_an_overdraft_is_no_part_of_the_limit() -> None:
    soft = terms_of({**EVERYBODY, "enforcement": "Soft", "overdraft": {"amount": "100"}})
    figures = dataclasses.replace(spent("40"), forfeited=parse_usd("40"), overdraft=parse_usd("100"))
    assert reached(soft, figures) == {80: 1}


def test_a_downgrade_is_told_with_its_tier_and_a_warning_without() -> None:
    status = after(FRESH, EVERYBODY, spent("96"))
    assert news(FRESH, status, EVERYBODY) == [
        Passing(80, Do.WARN, "", 1, event=True),
        Passing(95, Do.DOWNGRADE, "fast", 1, event=True),
    ]
    texts = [message(each, status) for each in news(FRESH, status, EVERYBODY)]
    assert texts == [
        "80% of 100.00 USD are used: 96.00 spent since 2026-11-01T00:00:00Z; the window ends at 2026-12-01T00:00:00Z",
        "95% of 100.00 USD are used: 96.00 spent since 2026-11-01T00:00:00Z; calls use tier fast from here on; the"
        " window ends at 2026-12-01T00:00:00Z",
    ]
    assert news(status, after(status, EVERYBODY, spent("99")), EVERYBODY) == []


def test_of_values_the_first_is_told_at_once_and_the_others_every_five_minutes() -> None:
    first = after(FRESH, EACH, users(1, 0))
    assert news(FRESH, first, EACH) == [Passing(80, Do.WARN, "", 1, event=True)]
    soon = after(first, EACH, users(3, 0), minute=4)
    assert news(first, soon, EACH) == [Passing(80, Do.WARN, "", 2, event=False)]
    later = after(soon, EACH, users(4, 0), minute=5)
    assert news(soon, later, EACH) == [Passing(80, Do.WARN, "", 1, event=True)]
    assert news(later, after(later, EACH, users(4, 0), minute=30), EACH) == []


def test_values_that_nobody_was_told_of_are_told_when_the_time_has_come() -> None:
    first = after(FRESH, EACH, users(1, 0))
    soon = after(first, EACH, users(3, 0), minute=1)
    later = after(soon, EACH, users(3, 0), minute=6)
    assert news(soon, later, EACH) == [Passing(80, Do.WARN, "", 0, event=True)]


def test_every_value_counts_once_in_the_metric() -> None:
    old, counted = FRESH, 0
    for minute, count in enumerate((1, 1, 2, 5, 5, 9, 9, 20)):
        new = after(old, EACH, users(count, 0), minute)
        counted += sum(each.more for each in news(old, new, EACH))
        old = new
    assert counted == 20


def test_the_text_about_values_names_how_many_and_the_greatest() -> None:
    status = after(FRESH, EACH, users(2, 1))
    _, down = news(FRESH, status, EACH)
    assert message(down, status) == (
        "95% of 5.00 USD/User are used by 1 of 2 values, most by alice (100%) since 2026-11-01T00:00:00Z; calls use"
        " tier fast from here on; the window ends at 2026-12-01T00:00:00Z"
    )


def test_values_are_counted_by_the_thresholds_that_they_have_reached() -> None:
    accounts = {name: Account(settled=used) for name, used in (("a", 79), ("b", 80), ("c", 94), ("d", 95), ("e", 130))}
    record = LedgerRecord(starts_at=NONE.window.starts_at, ends_at=NONE.window.ends_at, accounts=accounts)
    bounds = Bounds(100, thresholds=(80, 95))
    found = figures(NONE.window, bounds, [tally(record, bounds), tally(record, bounds)], now_s=0)
    assert found.passed == {80: 8, 95: 4}
    assert (found.values, found.values_exhausted, found.fullest) == (10, 2, 130)


def test_a_value_with_less_than_a_hundredth_of_its_cap_left_counts_as_exhausted() -> None:
    accounts = {"a": Account(settled=118, forfeited=1), "b": Account(settled=118), "": Account()}
    record = LedgerRecord(starts_at=NONE.window.starts_at, ends_at=NONE.window.ends_at, accounts=accounts)
    assert tally(record, Bounds(100, overdraft=20)).values_exhausted == 1
