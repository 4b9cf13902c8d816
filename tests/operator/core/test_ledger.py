"""The ledger: statements in, rights out, I1 in every record."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from keelage_api.sync import Right, Statement
from keelage_api.will import Promise, Will, account_of
from keelage_api.window import Window
from keelage_operator.core.ledger import (
    LEARNING_S,
    Account,
    Applied,
    Evidence,
    Heard,
    LedgerRecord,
    RowState,
    apply,
    committed,
    pods_gone,
    rebuild,
)
from keelage_operator.core.ledger_account import ROWS_PER_POD_MAX
from keelage_operator.core.ledger_figures import Bounds, LedgerFigures, figures, tally
from keelage_operator.core.ledger_row import WAITS_S

WINDOW = Window("2026-11", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
BLANK = LedgerRecord(WINDOW.starts_at, WINDOW.ends_at)
NOW = 1_000


def says(
    holder: str,
    seq: int,
    granted: int = 0,
    spent: int = 0,
    reserved: int = 0,
    want: int = 0,
    min_want: int = 0,
    keep: int = -1,
    final: bool = False,
    uncertain: int = 0,
    waited_s: float = 0.0,
) -> Heard:
    statement = Statement("shop/month", WINDOW.id, seq, granted, spent, reserved, want, min_want, keep, final)
    return Heard(holder, replace(statement, uncertain=uncertain, waited_s=waited_s))


def hear(record: LedgerRecord, *batch: Heard, limit: int = 1000, now_s: int = NOW) -> Applied:
    return apply(record, batch, limit, now_s)


def only(applied: Applied) -> Right:
    ((_, right),) = applied.rights
    return right


def shown(record: LedgerRecord, now_s: int, limit: int = 1000) -> LedgerFigures:
    bounds = Bounds(limit)
    return figures(WINDOW, bounds, [tally(record, bounds)], now_s)


def buried(record: LedgerRecord, holder: str, seq: int, promised: int) -> Account:
    """The account after the pod of that holder is gone, and left a will."""
    will = Will(holder.partition(".")[2], seq, {account_of("shop/month", WINDOW.id): Promise(0, promised)})
    evidence = Evidence(holder, will, "shop/month", WINDOW.id)
    return pods_gone(record, {holder.partition(".")[0]: evidence}).account()


def test_what_is_wanted_is_granted_and_must_be_stored_first() -> None:
    applied = hear(BLANK, says("a.1", 1, want=100, min_want=50))
    assert applied.urgent
    assert only(applied) == Right("shop/month", WINDOW.id, 1, granted=100, limit=1000, used=0)
    assert committed(applied.record) == 100


def test_a_statement_that_changes_no_right_need_not_be_stored_at_once() -> None:
    first = hear(BLANK, says("a.1", 1, want=100)).record
    applied = hear(first, says("a.1", 2, granted=100, spent=30, reserved=20, keep=100))
    assert not applied.urgent
    assert applied.record.account().rows["a.1"].spent == 30
    assert only(applied).granted == 100


def test_a_belated_or_doubled_statement_changes_nothing_and_has_no_answer() -> None:
    first = hear(BLANK, says("a.1", 2, want=100)).record
    for late in (says("a.1", 1, keep=0), says("a.1", 2, want=100)):
        applied = hear(first, late)
        assert applied.record.account().rows == first.account().rows
        assert applied.rights == ()


def test_a_holder_that_did_not_hear_of_a_raise_is_not_told_of_it_without_a_write() -> None:
    first = hear(BLANK, says("a.1", 1, want=100)).record
    applied = hear(first, says("a.1", 2))
    assert not applied.urgent
    assert only(applied).granted == 0
    assert applied.record.account().rows["a.1"].granted == 100


def test_what_a_holder_gives_back_goes_to_another_in_the_same_write() -> None:
    full = hear(BLANK, says("a.1", 1, want=1000, min_want=1000)).record
    applied = hear(full, says("b.1", 1, want=300, min_want=300), says("a.1", 2, granted=400, spent=200, keep=400))
    rights = dict(applied.rights)
    assert applied.urgent
    assert rights["b.1"].granted == 300
    assert rights["a.1"].granted == 400
    assert committed(applied.record) == 700


def test_a_row_never_shrinks_below_what_is_spent_and_reserved() -> None:
    first = hear(BLANK, says("a.1", 1, want=100)).record
    applied = hear(first, says("a.1", 2, granted=100, spent=30, reserved=20, keep=0))
    assert applied.record.account().rows["a.1"].granted == 50


def test_a_request_that_waits_is_served_whole_or_not_at_all_and_makes_the_others_give_back() -> None:
    most = hear(BLANK, says("a.1", 1, want=950, min_want=950)).record
    applied = hear(most, says("b.1", 1, want=100, min_want=100), says("a.1", 2, granted=950, keep=950))
    rights = dict(applied.rights)
    assert rights["b.1"].granted == 0
    assert rights["b.1"].tight
    assert rights["a.1"].tight
    assert not rights["b.1"].exhausted


def test_the_limit_counts_as_exhausted_only_when_spending_leaves_too_little() -> None:
    spent = hear(BLANK, says("a.1", 1, want=950, min_want=950), says("a.1", 2, granted=950, spent=949, reserved=1))
    applied = hear(spent.record, says("b.1", 1, want=52, min_want=52))
    assert only(applied).exhausted
    assert not only(applied).tight
    assert not only(hear(spent.record, says("b.1", 1, want=51, min_want=51))).exhausted


def test_nobody_gets_more_than_its_part_of_the_rest_unless_a_request_waits_for_it() -> None:
    both = hear(BLANK, says("a.1", 1, want=900), says("b.1", 1, want=900))
    assert {holder: right.granted for holder, right in both.rights} == {"a.1": 250, "b.1": 250}


def test_a_longer_wait_comes_first() -> None:
    most = hear(BLANK, says("z.1", 1, want=900, min_want=900)).record
    applied = hear(
        most,
        says("z.1", 2, granted=800, keep=800),
        says("a.1", 1, want=200, min_want=200, waited_s=1.5),
        says("b.1", 1, want=200, min_want=200, waited_s=2.5),
    )
    assert {holder: right.granted for holder, right in applied.rights} == {"z.1": 800, "a.1": 0, "b.1": 200}
    assert [holder for holder, right in applied.rights if right.first] == ["a.1"]


def test_what_comes_back_is_gathered_for_the_longest_wait_and_not_given_to_a_smaller_request() -> None:
    most = hear(BLANK, says("z.1", 1, want=900, min_want=900)).record
    waits = hear(most, says("b.1", 1, want=200, min_want=200, waited_s=2)).record
    small = says("a.1", 1, want=100, min_want=100, waited_s=1)
    assert not only(hear(waits, small)).granted, "whether it speaks just now"
    applied = hear(most, small, says("b.1", 1, want=200, min_want=200, waited_s=2))
    assert {right.granted for _, right in applied.rights} == {0}, "or not"
    served = hear(applied.record, says("z.1", 2, granted=700, keep=700)).record
    assert hear(served, says("b.1", 2, want=200, min_want=200, waited_s=2)).rights[0][1].granted == 200


def test_nothing_is_kept_for_who_waits_and_has_fallen_silent() -> None:
    most = hear(BLANK, says("z.1", 1, want=900, min_want=900)).record
    waits = hear(most, says("b.1", 1, want=200, min_want=200, waited_s=2)).record
    small = says("a.1", 1, want=100, min_want=100, waited_s=1)
    assert not only(hear(waits, small, now_s=NOW + WAITS_S)).granted
    assert only(hear(waits, small, now_s=NOW + WAITS_S + 1)).granted == 100


def test_a_release_returns_what_was_not_spent_and_late_duplicates_do_not_take_it_back() -> None:
    first = hear(BLANK, says("a.1", 1, want=100)).record
    applied = hear(first, says("a.1", 3, granted=40, spent=40, keep=40, final=True))
    assert applied.urgent
    assert applied.record.account().rows["a.1"].state is RowState.RELEASED
    assert committed(applied.record) == 40
    assert committed(hear(applied.record, says("a.1", 2, granted=100, spent=20)).record) == 40


def test_a_pod_that_is_gone_without_a_word_forfeits_what_it_did_not_tell() -> None:
    first = hear(BLANK, says("a.1", 1, want=100), says("b.1", 1, want=10)).record
    told = hear(first, says("a.1", 2, granted=100, spent=30, keep=100)).record
    record = pods_gone(told, {"a": None})
    account = record.account()
    assert (account.settled, account.forfeited, set(account.rows)) == (30, 70, {"b.1"})
    assert committed(record) == committed(told)
    assert pods_gone(record, {"a": None}) is record


def test_a_belated_word_of_a_pod_that_is_gone_opens_no_row_whoever_hears_it() -> None:
    first = hear(BLANK, says("a.1", 1, want=100)).record
    record = pods_gone(first, {"a": None})
    again = hear(record, says("a.1", 2, granted=100, spent=30, keep=100))
    assert again.rights == ()
    assert committed(again.record) == committed(record) == 100


def test_evidence_returns_what_a_vanished_pod_did_not_spend_unless_the_pod_spoke_after_it() -> None:
    first = hear(BLANK, says("a.1", 1, want=100), says("b.1", 1, want=10)).record
    told = hear(first, says("a.1", 5, granted=100, spent=30, keep=100, uncertain=6)).record
    fresh = buried(told, "a.1", 5, 40)
    assert (fresh.settled, fresh.forfeited, set(fresh.rows)) == (40, 0, {"b.1"})
    assert fresh.settled_uncertain == 6 + 10, "a will says what was spent at most"
    for holder, seq in (("a.1", 4), ("a.2", 5)):
        stale = buried(told, holder, seq, 40)
        assert (stale.settled, stale.settled_uncertain, stale.forfeited) == (30, 6, 70)
    understated = buried(told, "a.1", 6, 20)
    assert (understated.settled, understated.forfeited) == (30, 0)


def test_a_new_incarnation_makes_the_old_one_suspect_until_it_speaks_again() -> None:
    first = hear(BLANK, says("a.1", 1, want=100)).record
    second = hear(first, says("a.2", 1, want=100)).record
    assert second.account().rows["a.1"].state is RowState.SUSPECT
    assert committed(second) == 200
    assert shown(second, NOW).unheard == 100
    assert hear(second, says("a.1", 2, granted=100, keep=0)).record.account().rows["a.1"].state is RowState.OUTSTANDING


def test_an_incarnation_that_said_goodbye_and_speaks_again_succeeds_the_one_it_had_followed() -> None:
    left = hear(BLANK, says("a.2", 1, want=10), says("a.2", 2, final=True)).record
    belated = hear(left, says("a.1", 7, want=100)).record
    assert belated.account().rows["a.1"].state is RowState.OUTSTANDING
    again = hear(belated, says("a.2", 3, want=10)).record
    assert again.account().rows["a.1"].state is RowState.SUSPECT


def test_spending_without_a_right_is_counted_even_above_the_limit() -> None:
    applied = hear(BLANK, says("a.1", 1, spent=1500, reserved=20), limit=1000)
    assert committed(applied.record) == 1520
    assert dict(hear(applied.record, says("b.1", 1, want=1)).rights)["b.1"].granted == 0


def test_a_lowered_limit_takes_back_nothing_and_grants_nothing() -> None:
    first = hear(BLANK, says("a.1", 1, want=400, min_want=400)).record
    applied = hear(first, says("a.1", 2, granted=400, want=10, keep=400), says("b.1", 1, want=1), limit=300)
    assert {h: r.granted for h, r in applied.rights} == {"a.1": 400, "b.1": 0}


def test_a_rebuilt_ledger_forgets_nothing_and_waits_for_claims() -> None:
    record = rebuild(WINDOW, 600, NOW)
    asked = hear(record, says("b.1", 1, want=100, min_want=100))
    assert only(asked).granted == 0
    claimed = hear(asked.record, says("a.1", 7, granted=250, spent=100, keep=250)).record
    assert (claimed.account().recovered, committed(claimed)) == (350, 600)
    later = hear(claimed, says("b.1", 2, want=100, min_want=100), now_s=NOW + LEARNING_S)
    assert only(later).granted == 100


def test_what_is_spent_without_a_right_after_a_loss_is_not_taken_for_what_was_spent_before_it() -> None:
    """A budget that only observes grants nothing: what its holders spend is above their rows with each word."""
    record = rebuild(WINDOW, 600, NOW)
    first = hear(record, says("a.1", 1, spent=10, reserved=30), limit=100).record
    assert (first.account().recovered, committed(first)) == (600, 640)
    settled = hear(first, says("a.1", 2, granted=40, spent=15, keep=15), limit=100).record
    assert shown(settled, NOW, limit=100).spent == 615
    claimed = hear(settled, says("b.1", 7, granted=250, spent=255), limit=100).record
    assert (claimed.account().recovered, shown(claimed, NOW, limit=100).spent) == (350, 350 + 15 + 255)


def test_a_claim_that_the_limit_cannot_bear_is_counted_and_answered_lower() -> None:
    record = replace(BLANK, accounts={"": Account(settled=900)})
    applied = hear(record, says("a.1", 7, granted=250, spent=30, reserved=20, keep=250))
    assert committed(applied.record) == 1150
    assert only(applied).granted == 100
    assert committed(hear(applied.record, says("a.1", 8, granted=100, spent=30, reserved=20, keep=100)).record) == 1000


def test_a_holder_that_forgot_its_spending_is_told() -> None:
    first = hear(BLANK, says("a.1", 1, want=100)).record
    told = hear(first, says("a.1", 2, granted=100, spent=30, keep=100, uncertain=20)).record
    right = only(hear(told, says("a.1", 3, want=10)))
    assert (right.spent, right.uncertain, right.granted) == (30, 20, 110)


def test_a_former_leader_tells_nobody_of_spending_that_was_folded_since() -> None:
    """A holder that took it up would count it in the row that it has opened anew, beside the sum."""
    stale = hear(BLANK, says("a.1", 1, granted=100, spent=90)).record
    right = only(hear(stale, says("a.1", 9, granted=50, spent=5, keep=50)))
    assert (right.spent, right.granted) == (5, 50)


def test_figures_add_up() -> None:
    both = hear(BLANK, says("a.1", 1, want=100), says("b.1", 1, want=100)).record
    account = replace(both.account(), settled=7, settled_uncertain=4, forfeited=3, recovered=2)
    record = replace(both, accounts={"": account})
    word = says("a.1", 2, granted=100, spent=30, reserved=20, keep=100, uncertain=10)
    told = hear(record, word, now_s=NOW + 50).record
    found = shown(told, NOW + 60)
    assert (found.spent, found.reserved, found.leased, found.forfeited) == (39, 20, 170, 3)
    assert found.uncertain == 4 + 10 + 2, "also what nobody has claimed since the ledger was rebuilt"
    assert (found.unheard, found.granted, found.committed) == (100, 200, 212)
    assert (found.reporting, found.silent) == (1, 1)


def test_a_pod_that_loses_its_journal_at_every_start_does_not_fill_the_ledger() -> None:
    record = BLANK
    for number in range(200):
        before = committed(record)
        word = Heard(f"pod.{number}", Statement("shop/day", "w", 1, spent=1, reserved=1))
        record = apply(record, [word], 1000, number).record
        assert committed(record) == before + 2, "what was granted stays counted"
    assert len(record.account().rows) == ROWS_PER_POD_MAX
    assert (record.account().settled, record.account().forfeited) == (192, 192)
