"""Who spent most: told by holders, kept from those that are gone, bounded."""

from __future__ import annotations

import pytest

from keelage_api.sync import By, Share
from keelage_operator.core import attribution
from keelage_operator.core.attribution import KEPT_MAX, NAMES_MAX, OTHER, SHOWN_MAX, Attribution, kept

DAY = "shop/day"
W = "2026-11-21"


def share(name: str, amount: int, by: By = By.USER, budget: str = DAY, window: str = W) -> Share:
    return Share(budget, window, by, name, amount)


def test_amounts_are_cumulative_by_holder_and_add_up_over_holders() -> None:
    told = Attribution()
    told.hear("a.1", [share("alice", 5), share("bob", 7), share("claude-haiku-4-5", 12, By.MODEL)])
    told.hear("a.1", [share("alice", 9)])
    told.hear("a.1", [share("alice", 8)])
    told.hear("b.1", [share("alice", 1)])
    assert told.shown(DAY, W, (), 20) == {
        By.USER: (("alice", 10), ("bob", 7), (OTHER, 3)),
        By.MODEL: (("claude-haiku-4-5", 12), (OTHER, 8)),
    }


def test_what_is_not_among_the_greatest_is_other_and_each_list_sums_up() -> None:
    told = Attribution()
    told.hear("a.1", [share(f"u{number:02d}", number) for number in range(1, 31)])
    (users,) = told.shown(DAY, W, (), 500).values()
    assert users[:2] == (("u30", 30), ("u29", 29))
    assert len(users) == SHOWN_MAX + 1
    assert sum(amount for _, amount in users) == 500


def test_a_list_that_is_ahead_of_the_ledger_has_no_other() -> None:
    told = Attribution()
    told.hear("a.1", [share("alice", 5)])
    assert told.shown(DAY, W, (), 4) == {By.USER: (("alice", 5),)}


def test_a_process_that_started_anew_adds_to_what_it_told_before() -> None:
    told = Attribution()
    told.hear("a.1", [share("alice", 5), share("bob", 7)], run=1)
    assert not told.hear("a.1", [share("alice", 2)], run=4), "nothing that it has not told"
    told.hear("a.1", [share("alice", 100)], run=1)
    told.hear("a.1", [share("alice", 3)], run=4)
    assert told.shown(DAY, W, (), 15) == {By.USER: (("alice", 8), ("bob", 7))}
    told.hear("a.1", [share("bob", 1)], run=9)
    assert told.of_pod("a") == {(DAY, W): {By.USER: {"alice": 8, "bob": 8}}}
    told.forget_pod("a")
    assert told.shown(DAY, W, (), 0) == {}


def test_starting_anew_over_and_over_keeps_no_more_than_the_greatest(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Attribution()
    monkeypatch.setattr(attribution, "ENTRIES_MAX", KEPT_MAX + 2)
    for run in range(1, 50):
        told.hear("a.1", [share(f"u{run}", run), share("alice", 1000)], run)
    (users,) = told.of_pod("a").values()
    assert len(users[By.USER]) <= KEPT_MAX + 2
    assert users[By.USER]["alice"] == 49_000


def test_a_holder_is_asked_for_all_once() -> None:
    told = Attribution()
    assert told.hear("a.1", ())
    assert not told.hear("a.1", ())
    assert told.hear("a.2", ())
    told.clear()
    assert told.hear("a.1", ())


def test_the_names_of_a_holder_are_bounded_and_those_known_go_on() -> None:
    told = Attribution()
    told.hear("a.1", [share(f"u{number}", 1) for number in range(NAMES_MAX + 5)])
    told.hear("a.1", [share("u0", 100), share("late", 1000)])
    (users,) = told.shown(DAY, W, (), 2000).values()
    assert users[0] == ("u0", 100)
    assert "late" not in dict(users)


def test_all_names_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "ENTRIES_MAX", 3)
    told = Attribution()
    told.hear("a.1", [share("alice", 1), share("bob", 1)])
    told.hear("b.1", [share("carol", 1), share("dave", 1)])
    told.forget_pod("a")
    told.hear("b.1", [share("erin", 1), share("frank", 1)])
    (users,) = told.shown(DAY, W, (), 0).values()
    assert [name for name, _ in users] == ["carol", "erin", "frank"]
    told.keep_only({DAY: "2026-11-22"})
    assert told.shown(DAY, W, (), 0) == {}
    told.hear("b.1", [share("carol", 1, window="2026-11-22")])
    assert told.shown(DAY, "2026-11-22", (), 1) == {By.USER: (("carol", 1),)}


@pytest.mark.parametrize("amount", [0, -5, 2**63])
def test_amounts_that_cannot_be_are_not_counted(amount: int) -> None:
    told = Attribution()
    told.hear("a.1", [share("alice", amount)])
    assert told.shown(DAY, W, (), 9) == {}


def test_a_name_cannot_spoil_a_terminal() -> None:
    told = Attribution()
    told.hear("a.1", [share("\x1b[2J" + "x" * 100, 5)])
    ((name, _),) = told.shown(DAY, W, (), 5)[By.USER]
    assert name == "?[2J" + "x" * 60


def test_what_a_vanished_pod_told_is_kept_as_far_as_it_is_great() -> None:
    told = Attribution()
    told.hear("a.1", [share("alice", 5), share("gpt-5", 5, By.MODEL)])
    told.hear("a.2", [share("alice", 2)])
    told.hear("ab.1", [share("bob", 1)])
    gone = told.of_pod("a")
    assert gone == {(DAY, W): {By.USER: {"alice": 7}, By.MODEL: {"gpt-5": 5}}}
    told.forget_pod("a")
    assert told.of_pod("a") == {}
    record = kept({By.USER: {"alice": 1, "zoe": 3}}, gone[DAY, W])
    assert record == {By.USER: {"alice": 8, "zoe": 3}, By.MODEL: {"gpt-5": 5}}
    assert told.shown(DAY, W, [record], 12)[By.USER] == (("alice", 8), ("zoe", 3), ("bob", 1))
    many = {By.USER: {f"u{number}": number for number in range(99)}}
    assert len(kept(many, many)[By.USER]) == KEPT_MAX
