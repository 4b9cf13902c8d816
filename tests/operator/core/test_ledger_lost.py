"""Words that were under way when a ledger was lost, and are heard by the one that was made in its place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from keelage_api.sync import Right, Statement
from keelage_api.will import Promise, Will, account_of
from keelage_api.window import Window
from keelage_operator.core.ledger import LEARNING_S, Evidence, Heard, LedgerRecord, apply, committed, pods_gone, rebuild

WINDOW = Window("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC))
NOW = 1_000
LIMIT = 1000
IDENTITY = "0f"
VALUES = pytest.mark.parametrize("value", ["", "alice"])


def made_again(value: str, known: int = 600) -> LedgerRecord:
    return rebuild(WINDOW, known, NOW, valued=bool(value), identity=IDENTITY)


def hear(
    record: LedgerRecord, value: str, seq: int, granted: int, holder: str = "a.1", ledger: str = "", **more: int
) -> tuple[LedgerRecord, Right]:
    statement = Statement("shop/day", WINDOW.id, seq, granted, keep=granted, value=value, ledger=ledger)
    applied = apply(record, [Heard(holder, replace(statement, **more))], LIMIT, NOW + LEARNING_S)
    ((_, right),) = applied.rights
    return applied.record, right


@VALUES
def test_what_a_belated_word_claims_too_much_is_not_granted_again(value: str) -> None:
    """The holder had given 33 back before the loss, which others have spent by then."""
    belated, _ = hear(made_again(value), value, 11, granted=491)
    fresh, _ = hear(belated, value, 15, granted=458)
    assert committed(fresh) == 600
    assert fresh.account(value).rows["a.1"].granted == 458


@VALUES
def test_who_has_heard_of_the_ledger_gives_back_as_ever(value: str) -> None:
    claimed, right = hear(made_again(value), value, 11, granted=491)
    assert right.ledger == IDENTITY
    proven, _ = hear(claimed, value, 12, granted=491, ledger=right.ledger)
    given_back, _ = hear(proven, value, 13, granted=458, ledger=right.ledger)
    assert committed(given_back) == 600 - 33


@VALUES
def test_the_first_word_of_who_has_heard_of_it_may_be_less_than_what_was_claimed(value: str) -> None:
    belated, right = hear(made_again(value), value, 11, granted=491)
    proven, _ = hear(belated, value, 15, granted=458, ledger=right.ledger)
    assert committed(proven) == 600
    given_back, _ = hear(proven, value, 16, granted=400, ledger=right.ledger)
    assert committed(given_back) == 600 - 58


@VALUES
def test_that_somebody_has_heard_of_the_ledger_is_stored_before_it_is_answered(value: str) -> None:
    """Else it would have to be proven to the next leader again, and what is given back meanwhile be nobody's."""
    claimed, _ = hear(made_again(value), value, 11, granted=491)
    statement = Statement("shop/day", WINDOW.id, 12, 491, keep=491, value=value, ledger=IDENTITY)
    assert apply(claimed, [Heard("a.1", statement)], LIMIT, NOW).urgent
    assert not apply(claimed, [Heard("a.1", replace(statement, ledger=""))], LIMIT, NOW).urgent


@VALUES
def test_another_ledgers_name_proves_nothing(value: str) -> None:
    claimed, _ = hear(made_again(value), value, 11, granted=491)
    again, _ = hear(claimed, value, 12, granted=491, ledger="another")
    less, _ = hear(again, value, 13, granted=458, ledger="another")
    assert committed(less) == 600


@VALUES
def test_a_goodbye_of_who_has_not_heard_of_it_frees_nothing_that_was_claimed(value: str) -> None:
    claimed, _ = hear(made_again(value), value, 11, granted=491)
    gone, _ = hear(claimed, value, 12, granted=458, spent=458, final=True)
    assert committed(gone) == 600


@VALUES
def test_a_last_will_frees_nothing_that_a_belated_word_may_have_claimed(value: str) -> None:
    claimed, _ = hear(made_again(value), value, 11, granted=491)
    will = Will("1", 15, {account_of("shop/day", WINDOW.id, value): Promise(458, 458)})
    gone = pods_gone(claimed, {"a": Evidence("a.1", will, "shop/day", WINDOW.id)})
    assert committed(gone) == 600


@VALUES
def test_what_was_given_back_after_a_leader_saw_its_ledger_last_is_not_free_when_that_one_makes_it_again(
    value: str,
) -> None:
    """While another leads, the holder gives 33 back, and somebody spends them whose pod is gone by the loss."""
    first = LedgerRecord(WINDOW.starts_at, WINDOW.ends_at)
    seen, _ = hear(first, value, 11, granted=0, want=491, min_want=491)
    again = rebuild(WINDOW, 491, NOW, seen, bool(value), identity=IDENTITY)
    fresh, right = hear(again, value, 15, granted=458)
    assert committed(fresh) == 491
    assert fresh.account(value).committed == 491
    proven, _ = hear(fresh, value, 16, granted=458, ledger=right.ledger)
    given_back, _ = hear(proven, value, 17, granted=400, ledger=right.ledger)
    assert committed(given_back) == 491 - 58


@VALUES
def test_who_got_it_then_claims_it_from_what_was_recovered(value: str) -> None:
    first = LedgerRecord(WINDOW.starts_at, WINDOW.ends_at)
    seen, _ = hear(first, value, 11, granted=0, want=491, min_want=491)
    again = rebuild(WINDOW, 491, NOW, seen, bool(value), identity=IDENTITY)
    fresh, _ = hear(again, value, 15, granted=458)
    claimed, _ = hear(fresh, value, 3, granted=33, holder="b.1")
    assert committed(claimed) == 491


def test_who_speaks_again_of_what_this_ledger_has_folded_is_not_counted_twice() -> None:
    """The answer to its goodbye was lost."""
    claimed, right = hear(made_again("alice", known=103), "alice", 11, granted=103, spent=103)
    gone, _ = hear(claimed, "alice", 12, granted=103, spent=103, final=True, ledger=right.ledger)
    again, _ = hear(gone, "alice", 13, granted=103, spent=103, ledger=right.ledger)
    assert again.account("alice").committed == committed(again) == 103


def test_who_speaks_of_what_this_ledger_never_answered_counts_as_a_claim() -> None:
    claimed, right = hear(made_again("alice", known=200), "alice", 11, granted=103, spent=103)
    gone, _ = hear(claimed, "alice", 12, granted=103, spent=103, final=True, ledger=right.ledger)
    other, _ = hear(gone, "bob", 13, granted=90, spent=90)
    assert other.account("bob").committed == 90
    assert committed(other) == 200


def test_what_was_granted_since_comes_back_after_what_was_claimed() -> None:
    claimed, _ = hear(made_again("", known=100), "", 11, granted=40)
    more, right = hear(claimed, "", 12, granted=40, want=200, min_want=200)
    assert (right.granted, committed(more)) == (240, 300)
    less, _ = hear(more, "", 13, granted=10)
    assert committed(less) == 300 - 230 + 40
