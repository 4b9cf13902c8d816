"""Who spent a budget's money."""

from __future__ import annotations

from keelage_api.sync import By, Share
from keelage_sidecar.core.attribution import NAMES_MAX, NOBODY, OTHER, PERIODS_MAX, Attribution, Spender

ANN = Spender("haiku", "triage", "ann")
BOB = Spender("haiku", "", "bob")
MONTH, DAY = ("shop/month", "2026-11"), ("shop/day", "2026-11-21")


def share(period: tuple[str, str], by: By, name: str, amount: int) -> Share:
    return Share(*period, by, name, amount)


def test_only_what_grew_is_told_and_with_its_whole_amount() -> None:
    counts = Attribution()
    counts.count([(*MONTH, 5), (*DAY, 5)], ANN)
    assert len(counts.tell({MONTH, DAY})) == 6
    counts.heard(tell_all=False)
    assert counts.tell({MONTH, DAY}) == ()
    counts.count([(*MONTH, 7), (*DAY, 0)], BOB)
    assert counts.tell({MONTH, DAY}) == (
        share(MONTH, By.FEATURE, NOBODY, 7),
        share(MONTH, By.MODEL, "haiku", 12),
        share(MONTH, By.USER, "bob", 7),
    )


def test_what_was_not_heard_is_told_again() -> None:
    counts = Attribution()
    counts.count([(*MONTH, 5)], ANN)
    first = counts.tell({MONTH})
    assert counts.tell({MONTH}) == first
    counts.heard(tell_all=False)
    counts.heard(tell_all=True)
    assert counts.tell({MONTH}) == first


def test_what_grows_while_it_is_told_is_told_with_the_next() -> None:
    counts = Attribution()
    counts.count([(*MONTH, 5)], ANN)
    counts.tell({MONTH})
    counts.count([(*MONTH, 5)], ANN)
    counts.heard(tell_all=False)
    assert share(MONTH, By.USER, "ann", 10) in counts.tell({MONTH})


def test_a_window_that_is_over_is_told_once_more_and_forgotten() -> None:
    counts = Attribution()
    counts.count([(*MONTH, 5), (*DAY, 5)], ANN)
    assert {each.budget for each in counts.tell({MONTH})} == {"shop/month", "shop/day"}
    counts.heard(tell_all=True)
    assert {each.budget for each in counts.tell({MONTH})} == {"shop/month"}


def test_names_beyond_the_bound_are_counted_together() -> None:
    counts = Attribution()
    for number in range(3 * NAMES_MAX):
        counts.count([(*MONTH, 1)], Spender("haiku", "f", f"user-{number}"))
    users = {each.name: each.amount for each in counts.tell({MONTH}) if each.by is By.USER}
    assert len(users) == NAMES_MAX
    assert users[OTHER] == 2 * NAMES_MAX + 1
    assert sum(users.values()) == 3 * NAMES_MAX


def test_windows_beyond_the_bound_are_not_counted() -> None:
    counts = Attribution()
    periods = [("shop/b", str(number)) for number in range(2 * PERIODS_MAX)]
    counts.count([(*period, 1) for period in periods], ANN)
    assert len({each.window for each in counts.tell(periods)}) == PERIODS_MAX
