"""Who spent a budget's money."""

from __future__ import annotations

from keelage_api.sync import By, Share
from keelage_sidecar.core.attribution import BUDGETS_MAX, NAMES_MAX, NOBODY, OTHER, Attribution, Spender

ANN = Spender("haiku", "triage", "ann")
BOB = Spender("haiku", "", "bob")
MONTH, DAY = ("shop/month", "2026-11"), ("shop/day", "2026-11-21")


def share(period: tuple[str, str], by: By, name: str, amount: int) -> Share:
    return Share(*period, by, name, amount)


def test_only_what_grew_is_told_and_with_its_whole_amount() -> None:
    counts = Attribution()
    counts.count([(*MONTH, 5), (*DAY, 5)], ANN)
    assert len(counts.tell()) == 6
    counts.heard(tell_all=False)
    assert counts.tell() == ()
    counts.count([(*MONTH, 7), (*DAY, 0)], BOB)
    assert counts.tell() == (
        share(MONTH, By.FEATURE, NOBODY, 7),
        share(MONTH, By.MODEL, "haiku", 12),
        share(MONTH, By.USER, "bob", 7),
    )


def test_what_was_not_heard_is_told_again() -> None:
    counts = Attribution()
    counts.count([(*MONTH, 5)], ANN)
    first = counts.tell()
    assert counts.tell() == first
    counts.heard(tell_all=False)
    counts.heard(tell_all=True)
    assert counts.tell() == first


def test_what_grows_while_it_is_told_is_told_with_the_next() -> None:
    counts = Attribution()
    counts.count([(*MONTH, 5)], ANN)
    counts.tell()
    counts.count([(*MONTH, 5)], ANN)
    counts.heard(tell_all=False)
    assert share(MONTH, By.USER, "ann", 10) in counts.tell()


def test_of_a_budget_the_last_two_windows_are_kept() -> None:
    counts = Attribution()
    for window in ("1", "2", "3"):
        counts.count([("shop/hour", window, 5), (*MONTH, 5)], ANN)
    counts.tell()
    counts.heard(tell_all=True)
    assert {(each.budget, each.window) for each in counts.tell()} == {("shop/hour", "2"), ("shop/hour", "3"), MONTH}


def test_names_beyond_the_bound_are_counted_together() -> None:
    counts = Attribution()
    for number in range(3 * NAMES_MAX):
        counts.count([(*MONTH, 1)], Spender("haiku", "f", f"user-{number}"))
    users = {each.name: each.amount for each in counts.tell() if each.by is By.USER}
    assert len(users) == NAMES_MAX
    assert users[OTHER] == 2 * NAMES_MAX + 1
    assert sum(users.values()) == 3 * NAMES_MAX


def test_budgets_beyond_the_bound_are_not_counted() -> None:
    counts = Attribution()
    counts.count([(f"shop/b{number}", "1", 1) for number in range(2 * BUDGETS_MAX)], ANN)
    assert len({each.budget for each in counts.tell()}) == BUDGETS_MAX
