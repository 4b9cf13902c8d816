"""The lease at the sidecar: I2 after each step, and who waits, who is refused, what is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace
from tests.blank_journal import blank_journal

from keelage_api.codec import encode
from keelage_api.proxy_config import BudgetTerms, Per
from keelage_api.sync import Right, Statement
from keelage_operator.core.ledger import Heard, LedgerRecord, apply
from keelage_sidecar.core.account import Owner
from keelage_sidecar.core.claim import Charge, Claim, DenialReason, Denied, Hold, Waiter
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import NO_BOOT, Journal

MONTH = BudgetTerms("shop/month", hard=True)
DAY = BudgetTerms("shop/day", hard=True)
WATCHED = BudgetTerms("shop/watched", hard=False)
USER = BudgetTerms("shop/user", hard=True, per=(Per.USER,))
W = "2026-11"
BOOT = b"boot of the node"


def month(amount: int) -> tuple[Claim, ...]:
    return (Claim("shop/month", amount, hard=True),)


def new_holder(*budgets: BudgetTerms) -> tuple[bytearray, Holder]:
    buffer = bytearray(blank_journal("0123456789abcdef"))
    holder = Holder(Journal(buffer))
    holder.obey(budgets or (MONTH,))
    return buffer, holder


def right(statement: Statement, granted: int, **more: object) -> Right:
    values = {"ends_in_s": 100.0, "limit": 10_000, **more}
    return Right(statement.budget, statement.window or W, statement.seq, granted, **values)  # type: ignore[arg-type]


def give(holder: Holder, granted: int, now: float = 0.0, **more: object) -> tuple[Statement, ...]:
    told = holder.statements(now)
    holder.heard([right(statement, granted, **more) for statement in told], now)
    return told


def leased(granted: int, tight: bool = False) -> Holder:
    _, holder = new_holder()
    give(holder, granted, tight=tight)
    return holder


def must_hold(answer: Hold | Denied | None) -> Hold:
    assert isinstance(answer, Hold)
    return answer


def must_wait(answer: Waiter | Denied) -> Waiter:
    assert isinstance(answer, Waiter)
    return answer


def test_nothing_is_spent_before_the_ledger_has_granted_it() -> None:
    _, holder = new_holder()
    assert holder.try_reserve(month(1), 0.0) is None
    (question,) = holder.statements(0.0)
    assert (question.window, question.granted) == ("", 0)
    holder.heard([right(question, 0)], 0.0)
    assert holder.try_reserve(month(1), 0.0) is None


def test_a_reservation_fits_into_what_is_free_and_settles_at_the_cost() -> None:
    holder = leased(100)
    hold = must_hold(holder.try_reserve(month(60), 1.0))
    assert holder.try_reserve(month(41), 1.0) is None
    holder.settle(hold, Charge(10))
    assert isinstance(holder.try_reserve(month(90), 1.0), Hold)


def test_several_budgets_are_reserved_all_or_none() -> None:
    _, holder = new_holder(MONTH, DAY)
    told = holder.statements(0.0)
    holder.heard([right(s, 100 if s.budget == "shop/month" else 5) for s in told], 0.0)
    both = (Claim("shop/month", 10, True), Claim("shop/day", 10, True))
    assert holder.try_reserve(both, 0.0) is None
    assert [figure.reserved for figure in holder.figures()] == [0, 0]


def test_rights_end_with_the_window_counted_from_when_the_statement_was_sent() -> None:
    _, holder = new_holder()
    (question,) = holder.statements(10.0)
    holder.heard([right(question, 100, ends_in_s=5.0)], 14.0)
    assert holder.try_reserve(month(1), 14.9) is not None
    assert holder.try_reserve(month(1), 15.0) is None


def test_an_answer_to_an_earlier_statement_is_void() -> None:
    _, holder = new_holder()
    (first,) = holder.statements(0.0)
    holder.statements(1.0)
    holder.heard([right(first, 100)], 1.5)
    assert holder.figures() == ()


def test_an_answer_after_a_lost_exchange_is_void() -> None:
    _, holder = new_holder()
    (first,) = holder.statements(0.0)
    holder.lost()
    holder.heard([right(first, 100)], 1.5)
    assert holder.figures() == ()


def test_what_is_offered_back_is_not_spent_any_more() -> None:
    holder = leased(1000)
    must_hold(holder.try_reserve(month(10), 0.0))
    (offer,) = holder.statements(1.0)
    assert offer.keep == offer.granted < 1000
    assert holder.try_reserve(month(1000 - 10), 1.0) is None


def test_nothing_is_offered_to_a_ledger_that_was_made_again_before_it_was_told_so() -> None:
    holder = leased(1000)
    must_hold(holder.try_reserve(month(10), 0.0))
    (told,) = holder.statements(0.5)
    holder.heard([right(told, told.granted, ledger="0f")], 0.5)
    free = told.granted
    (unheard,) = holder.statements(0.8)
    holder.lost()
    (first,) = give(holder, free, 1.0, tight=True, ledger="0f")
    (second,) = give(holder, free, 2.0, ledger="0f")
    assert [(each.ledger, each.granted) for each in (unheard, first, second)] == [
        ("0f", free),
        ("0f", free),
        ("0f", 10),
    ]


def test_what_the_ledger_did_not_give_is_not_asked_for_in_a_hurry() -> None:
    holder = leased(30)
    hold = must_hold(holder.try_reserve(month(20), 0.0))
    (asked,) = give(holder, 30, 1.0)
    assert asked.want > 0
    assert holder.next_at(2.0, 1.0) == 3.0
    holder.settle(hold, Charge(15))
    must_hold(holder.try_reserve(month(10), 1.1))
    assert not holder.eager
    (asked,) = give(holder, 40, 3.0)
    assert asked.want > 0
    assert holder.next_at(2.0, 3.0) == 3.25, "there is something to be had again"


def test_a_tight_holder_keeps_only_what_is_spent_or_reserved() -> None:
    holder = leased(30)
    hold = must_hold(holder.try_reserve(month(10), 0.0))
    give(holder, 30, 1.0, tight=True)
    assert holder.next_at(2.0, 1.0) <= 1.25
    (offer,) = holder.statements(1.25)
    assert (offer.keep, offer.want, offer.reserved) == (10, 0, 10)
    holder.settle(hold, Charge(1))


def test_the_first_wish_is_two_requests_not_the_limit() -> None:
    holder = leased(0)
    must_wait(holder.wait(month(10), 5.0, 0.0))
    (wish,) = holder.statements(0.0)
    assert (wish.min_want, wish.want) == (10, 20)


def test_a_wish_tells_what_waits_from_what_is_expected() -> None:
    holder = leased(15)
    for _ in range(3):
        must_wait(holder.wait(month(20), 5.0, 0.0))
    (wish,) = holder.statements(0.0)
    assert (wish.min_want, wish.queued, wish.want) == (5, 45, 65)


def test_what_comes_back_is_gathered_for_who_waited_longest() -> None:
    holder = leased(100, tight=True)
    first = must_hold(holder.try_reserve(month(80), 0.0))
    big = must_wait(holder.wait(month(90), 5.0, 0.0))
    small = must_wait(holder.wait(month(15), 5.0, 0.0))
    assert holder.admit(0.1) == []
    assert holder.try_reserve(month(1), 0.1) is None, "who comes later waits too"
    holder.settle(first, Charge(5))
    ((served, answer),) = holder.admit(0.2)
    assert served == big.id
    holder.settle(must_hold(answer), Charge(5))
    assert [(served, type(answer)) for served, answer in holder.admit(0.3)] == [(small.id, Hold)]
    assert isinstance(holder.try_reserve(month(1), 0.3), Hold)


def test_a_small_request_passes_a_big_one_while_there_is_enough() -> None:
    holder = leased(100)
    must_wait(holder.wait(month(110), 5.0, 0.0))
    assert isinstance(holder.try_reserve(month(5), 0.0), Hold)


def test_a_small_request_passes_a_big_one_when_its_own_patience_ends() -> None:
    holder = leased(100, tight=True)
    must_hold(holder.try_reserve(month(80), 0.0))
    must_wait(holder.wait(month(90), 5.0, 0.0))
    small = must_wait(holder.wait(month(15), 1.0, 0.0))
    assert [(served, type(answer)) for served, answer in holder.admit(1.0)] == [(small.id, Hold)]
    assert isinstance(holder.try_reserve(month(5), 1.0, passing=True), Hold), "one that has none at all"


def test_a_request_that_lacks_another_budget_stops_nobody() -> None:
    holder = leased(100, tight=True)
    must_wait(holder.wait((*month(10), Claim("shop/day", 1, hard=True)), 5.0, 0.0))
    other = must_wait(holder.wait(month(10), 5.0, 0.0))
    assert [(served, type(answer)) for served, answer in holder.admit(0.1)] == [(other.id, Hold)]


def test_a_settlement_serves_and_refuses_whom_it_concerns_without_news_of_the_ledger() -> None:
    _, holder = new_holder(MONTH, DAY)
    give(holder, 100, tight=True)
    paid = must_hold(holder.try_reserve((Claim("shop/day", 90, hard=True),), 0.0))
    must_wait(holder.wait(month(110), 9.0, 0.0))
    stuck = must_wait(holder.wait(month(120), 3.0, 0.0))
    other = must_wait(holder.wait((Claim("shop/day", 50, hard=True),), 9.0, 0.0))
    assert holder.admit(1.0, news=False) == []
    holder.settle(paid, Charge(10))
    assert [(served, type(answer)) for served, answer in holder.admit(2.0, news=False)] == [(other.id, Hold)]
    assert [(served, type(answer)) for served, answer in holder.admit(3.0, news=False)] == [(stuck.id, Denied)]
    assert holder.next_deadline() == 9.0


def test_who_is_served_next_keeps_what_is_free_and_others_give_it_back() -> None:
    for first, kept in ((True, 40), (False, 0)):
        holder = leased(40)
        must_wait(holder.wait(month(50), 9.0, 0.0))
        give(holder, 40, 1.0, tight=True, first=first)
        (wish,) = holder.statements(3.0)
        assert (wish.keep, wish.min_want, wish.waited_s) == (kept, 50 - kept, 3.0)


def denial(holder: Holder, until_s: float) -> Denied:
    ((_, answer),) = holder.admit(until_s)
    assert isinstance(answer, Denied)
    return answer


def test_a_wait_that_is_over_says_whether_the_ledger_was_heard() -> None:
    holder = leased(5)
    must_wait(holder.wait(month(10), 6.0, 1.0))
    assert holder.next_deadline() == 6.0
    refused = denial(holder, 6.0)
    assert (refused.reason, refused.needed, refused.resets_in_s) == (DenialReason.NO_RIGHTS, 10, 94.0)
    must_wait(holder.wait(month(10), 12.0, 7.0))
    give(holder, 5, 8.0)
    assert denial(holder, 12.0).reason is DenialReason.BUDGET_EXHAUSTED
    _, unknown = new_holder()
    must_wait(unknown.wait(month(10), 6.0, 1.0))
    assert denial(unknown, 6.0).reason is DenialReason.WINDOW_UNKNOWN


def test_an_exhausted_budget_refuses_at_once_but_lets_smaller_requests_ask() -> None:
    holder = leased(5)
    must_wait(holder.wait(month(10), 6.0, 1.0))
    give(holder, 5, 1.0, exhausted=True)
    assert denial(holder, 1.1).reason is DenialReason.BUDGET_EXHAUSTED
    refused = holder.wait(month(11), 6.0, 1.2)
    assert isinstance(refused, Denied)
    assert "shop/month" in refused.message
    must_wait(holder.wait(month(9), 6.0, 1.2))


def test_a_refused_amount_is_asked_for_again_so_that_a_raised_limit_is_noticed() -> None:
    holder = leased(5)
    must_wait(holder.wait(month(10), 6.0, 1.0))
    give(holder, 5, 1.0, exhausted=True)
    denial(holder, 1.1)
    assert isinstance(holder.wait(month(10), 6.0, 1.2), Denied)
    (again,) = give(holder, 10, 3.0)
    assert again.min_want == 5
    assert holder.try_reserve(month(10), 3.0) is not None


def test_a_request_dearer_than_the_limit_is_refused_at_once() -> None:
    holder = leased(5)
    refused = holder.wait(month(10_001), 6.0, 1.0)
    assert isinstance(refused, Denied)
    assert refused.reason is DenialReason.BUDGET_TOO_SMALL


def test_a_limit_of_nothing_is_no_limit_that_was_told() -> None:
    """The ledger answers so for a budget that was not in force at that moment."""
    holder = leased(5)
    give(holder, 5, limit=0)
    must_wait(holder.wait(month(10), 6.0, 1.0))


def test_any_number_of_boundless_calls_under_an_observed_budget_stays_within_64_bits() -> None:
    buffer, holder = new_holder(WATCHED)
    give(holder, 0)
    claims = (Claim("shop/watched", 10**30, hard=False),)
    for _ in range(3):
        holds = [must_hold(holder.try_reserve(claims, 0.0)) for _ in range(4000)]
        for statement in holder.statements(0.0):
            encode(statement)
        for hold in holds:
            holder.settle(hold, Charge(10**30))
    (statement,) = holder.statements(1.0)
    encode(statement)
    assert statement.spent == 1 << 62
    assert Holder(Journal(bytearray(buffer))).figures()[0].spent == statement.spent


def test_a_claim_beyond_all_money_is_refused_and_never_asked_for() -> None:
    holder = leased(5)
    give(holder, 5, limit=10**21)
    refused = holder.wait(month(10**20), 6.0, 1.0)
    assert isinstance(refused, Denied)
    for _ in range(9):
        must_wait(holder.wait(month(1 << 62), 6.0, 1.0))
    (statement,) = holder.statements(1.0)
    assert statement.granted + statement.want <= 1 << 62


def test_an_observed_budget_never_refuses_and_tells_what_was_spent() -> None:
    _, holder = new_holder(WATCHED)
    claims = (Claim("shop/watched", 50, hard=False),)
    holder.settle(must_hold(holder.try_reserve(claims, 0.0)), Charge(40))
    give(holder, 0)
    holder.settle(must_hold(holder.try_reserve(claims, 1.0)), Charge(40))
    must_hold(holder.try_reserve(claims, 200.0))
    (told, *_) = holder.statements(200.0)
    assert (told.spent, told.reserved, told.want) == (80, 50, 0)


def test_the_window_rolls_and_a_late_settlement_goes_to_the_old_one() -> None:
    holder = leased(100)
    hold = must_hold(holder.try_reserve(month(60), 1.0))
    old, question = holder.statements(101.0)
    assert (old.window, old.keep, old.final, question.window) == (W, 60, False, "")
    holder.heard([right(old, 60, ends_in_s=0.0), Right("shop/month", "2026-12", question.seq, 50, 30.0)], 101.5)
    holder.settle(hold, Charge(60))
    old, new = holder.statements(102.0)
    assert (old.window, old.spent, old.final) == (W, 60, True)
    assert (new.window, new.spent, new.granted) == ("2026-12", 0, 50)
    holder.heard([right(old, 60, ends_in_s=0.0), right(new, 50)], 102.5)
    assert [figure.window for figure in holder.figures()] == ["2026-12"]


def test_the_ledger_names_the_next_window_before_the_holder_notices() -> None:
    holder = leased(100)
    (old,) = holder.statements(99.0)
    holder.heard([right(old, 100, ends_in_s=0.0), Right("shop/month", "2026-12", old.seq, 0, 300.0)], 99.1)
    assert holder.try_reserve(month(1), 99.2) is None
    assert {figure.window for figure in holder.figures()} == {W, "2026-12"}


def test_a_restarted_container_goes_on_with_what_it_had_after_asking() -> None:
    buffer, holder = new_holder()
    (first,) = give(holder, 100)
    holder.settle(must_hold(holder.try_reserve(month(30), 0.0)), Charge(20))
    must_hold(holder.try_reserve(month(30), 0.0))
    again = Holder(Journal(bytearray(buffer)))
    again.obey((MONTH,))
    assert again.incarnation == holder.incarnation
    assert again.try_reserve(month(1), 1.0) is None
    (told,) = again.statements(1.0)
    assert (told.window, told.granted, told.spent, told.reserved) == (W, 100, 50, 0)
    assert told.uncertain == 30, "what was in flight may have been billed or not"
    assert told.seq > first.seq
    again.heard([right(told, 60)], 1.0)
    assert again.try_reserve(month(10), 1.0) is not None
    assert again.try_reserve(month(1), 1.0) is None


def restarted(buffer: bytearray, boot: bytes = BOOT) -> Holder:
    holder = Holder(Journal(bytearray(buffer), boot))
    holder.obey((MONTH,))
    return holder


def leased_in_a_known_boot() -> tuple[bytearray, Holder]:
    buffer = bytearray(blank_journal("0123456789abcdef", BOOT))
    holder = Holder(Journal(buffer, BOOT))
    holder.obey((MONTH,))
    give(holder, 100)
    return buffer, holder


def test_a_restarted_container_spends_its_lease_while_the_ledger_is_away() -> None:
    buffer, holder = leased_in_a_known_boot()
    must_hold(holder.try_reserve(month(30), 0.0))
    again = restarted(buffer)
    again.statements(1.0)
    again.lost()
    must_hold(again.try_reserve(month(70), 99.9))
    again = restarted(buffer)
    must_hold(again.try_reserve(month(60), 99.9))
    assert again.try_reserve(month(11), 99.9) is None
    waiter = must_wait(again.wait(month(11), 99.95, 99.9))
    ((_, denied),) = again.admit(99.95)
    assert isinstance(denied, Denied)
    assert (waiter.id, denied.reason) == (1, DenialReason.NO_RIGHTS)
    assert denied.resets_in_s == pytest.approx(0.05)


def test_a_restarted_container_spends_nothing_after_the_end_of_the_window() -> None:
    buffer, _ = leased_in_a_known_boot()
    again = restarted(buffer)
    assert again.try_reserve(month(1), 100.0) is None
    waiter = must_wait(again.wait(month(1), 100.1, 100.0))
    assert [(number, type(answer)) for number, answer in again.admit(100.1)] == [(waiter.id, Denied)]
    old, question = again.statements(100.2)
    assert (old.window, old.keep, old.final, question.window) == (W, 0, True, "")


def test_a_restarted_container_does_not_count_on_what_was_offered() -> None:
    buffer, holder = leased_in_a_known_boot()
    must_hold(holder.try_reserve(month(10), 0.0))
    give(holder, 100, 1.0, tight=True)
    (offer,) = holder.statements(1.25)
    assert offer.keep == 10
    assert [figure.granted for figure in restarted(buffer).figures()] == [10]


def test_a_restarted_container_prefers_the_window_that_lasts_longer() -> None:
    buffer, holder = leased_in_a_known_boot()
    (old,) = holder.statements(99.0)
    holder.heard([right(old, 100, ends_in_s=0.5), Right("shop/month", "2026-12", old.seq, 0, 300.0)], 99.1)
    _, new = holder.statements(99.2)
    holder.heard([right(new, 40)], 99.3)
    again = restarted(buffer)
    assert again.try_reserve(month(41), 99.4) is None
    must_hold(again.try_reserve(month(40), 99.4))
    assert [(figure.window, figure.reserved) for figure in again.figures()] == [(W, 0), ("2026-12", 40)]


def test_without_a_boot_id_a_restarted_container_asks_before_it_spends() -> None:
    buffer, _ = leased_in_a_known_boot()
    assert restarted(buffer, NO_BOOT).try_reserve(month(1), 1.0) is None
    assert restarted(buffer).try_reserve(month(1), 1.0) is not None


def test_a_budget_that_no_longer_applies_is_released_when_its_calls_are_done() -> None:
    holder = leased(100)
    hold = must_hold(holder.try_reserve(month(10), 0.0))
    holder.obey(())
    assert [told.final for told in holder.statements(1.0)] == [False]
    holder.settle(hold, Charge(10))
    (told,) = holder.statements(2.0)
    assert told.final
    holder.heard([right(told, 10)], 2.0)
    assert holder.figures() == ()


def test_leaving_gives_back_all_but_what_is_in_flight() -> None:
    holder = leased(100)
    hold = must_hold(holder.try_reserve(month(10), 0.0))
    (told,) = holder.statements(1.0, leaving=True)
    assert (told.keep, told.final) == (10, False)
    assert holder.try_reserve(month(1), 1.0) is None
    holder.settle(hold, Charge(4))
    (told,) = holder.statements(2.0, leaving=True)
    assert (told.spent, told.final) == (4, True)


def test_what_may_not_have_been_billed_is_told_as_a_part_of_what_is_spent() -> None:
    buffer, holder = new_holder()
    give(holder, 100)
    for charge, uncertain in ((20, 0), (30, 25), (5, 5)):
        holder.settle(must_hold(holder.try_reserve(month(30), 0.0)), Charge(charge), Charge(uncertain))
    (told,) = holder.statements(1.0)
    assert (told.spent, told.uncertain) == (55, 30)
    (entry,) = Journal(bytearray(buffer)).recover()
    assert (entry.spent, entry.uncertain) == (55, 30)


def test_what_the_ledger_knows_of_the_spending_is_believed() -> None:
    _, holder = new_holder()
    give(holder, 100, spent=60, uncertain=7)
    (told,) = give(holder, 100)
    assert (told.spent, told.uncertain) == (60, 7)
    assert holder.try_reserve(month(41), 0.0) is None
    assert holder.try_reserve(month(40), 0.0) is not None


class HolderMachine(RuleBasedStateMachine):
    """Any order of calls, settlements, statements, answers, losses, idleness and restarts, against the real ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(blank_journal("0123456789abcdef", BOOT))
        self.holder = Holder(Journal(self.buffer, BOOT))
        self.holder.obey((MONTH, USER))
        self.now = 0.0
        self.holds: list[tuple[Hold, int]] = []
        self.billed: Counter[Owner] = Counter()
        self.flying: list[tuple[Statement, ...]] = []
        self.records = {
            name: LedgerRecord(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
            for name in ("shop/month", "shop/user")
        }

    def claims(self, amount: int, value: str) -> tuple[Claim, ...]:
        user = Claim("shop/user", amount, hard=True, value=value)
        return (user,) if amount % 2 else (Claim("shop/month", amount, hard=True), user)

    @rule(amount=st.integers(0, 400), value=st.sampled_from("abc"))
    def call(self, amount: int, value: str) -> None:
        hold = self.holder.try_reserve(self.claims(amount, value), self.now)
        if hold is not None:
            self.holds.append((hold, amount))

    @precondition(lambda self: self.holds)
    @rule(pick=st.integers(0, 100), share=st.integers(0, 100))
    def settle(self, pick: int, share: int) -> None:
        self.settle_one(self.holds.pop(pick % len(self.holds)), share)

    def settle_one(self, held: tuple[Hold, int], share: int) -> None:
        hold, amount = held
        self.bill(hold, amount * share // 100)
        self.holder.settle(hold, Charge(amount * share // 100))

    def bill(self, hold: Hold, amount: int) -> None:
        for claim in hold.claims:
            self.billed[claim.owner] += amount

    @rule(amount=st.integers(1, 400), value=st.sampled_from("abc"))
    def wait(self, amount: int, value: str) -> None:
        self.holder.wait(self.claims(amount, value), self.now + 5, self.now)
        for _, answer in self.holder.admit(self.now):
            if isinstance(answer, Hold):
                self.holds.append((answer, answer.claims[0].amount))

    @rule()
    def speak(self) -> None:
        self.flying.append(self.holder.statements(self.now))

    @precondition(lambda self: self.flying)
    @rule(pick=st.integers(0, 100), keep_flying=st.booleans(), tight=st.booleans(), lost=st.booleans())
    def answer(self, pick: int, keep_flying: bool, tight: bool, lost: bool) -> None:
        index = pick % len(self.flying)
        rights = self.rights(self.flying[index] if keep_flying else self.flying.pop(index))
        if not lost:
            self.holder.heard([replace(right, tight=tight) for right in rights], self.now)

    def rights(self, told: tuple[Statement, ...]) -> list[Right]:
        rights = []
        for statement in told:
            heard = Heard("pod.0123456789abcdef", replace(statement, window=W))
            applied = apply(self.records[statement.budget], [heard], 1000, int(self.now))
            self.records[statement.budget] = applied.record
            rights += [replace(right, ends_in_s=1e9) for _, right in applied.rights]
        return rights

    @rule()
    def lose(self) -> None:
        self.holder.lost()

    @rule(seconds=st.sampled_from([0.1, 1.0, 40.0, 700.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(boot=st.sampled_from([BOOT, NO_BOOT]))
    def restart(self, boot: bytes) -> None:
        for hold, amount in self.holds:
            self.bill(hold, amount)
        self.holds = []
        self.buffer = bytearray(self.buffer)
        self.holder = Holder(Journal(self.buffer, boot))
        self.holder.obey((MONTH, USER))

    @invariant()
    def spending_is_within_what_the_ledger_holds(self) -> None:
        reserved: Counter[Owner] = Counter()
        for hold, amount in self.holds:
            reserved.update({claim.owner: amount for claim in hold.claims})
        for figure in self.holder.figures():
            account = self.records[figure.budget].account(figure.value)
            assert account.committed <= 1000
            row = account.rows.get("pod.0123456789abcdef")
            # Without a row the ledger has heard the goodbye: nothing may be left to spend.
            held = row.granted if row is not None else figure.spent
            assert figure.spent + figure.reserved <= figure.granted <= held
            assert figure.reserved == reserved[figure.budget, figure.value]

    def teardown(self) -> None:
        """Nothing is charged twice, or to another value: all that was billed is settled, each where it belongs."""
        for held in self.holds:
            self.settle_one(held, 100)
        self.holder.obey(())
        for _ in range(3):
            self.now += 1
            self.holder.heard(self.rights(self.holder.statements(self.now)), self.now)
        assert self.holder.figures() == ()
        for (name, value), amount in self.billed.items():
            account = self.records[name].account(value)
            assert (account.used, account.committed) == (amount, amount)


HolderMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestHolder: Callable[..., object] = HolderMachine.TestCase


def test_spending_that_no_ledger_took_at_the_end_is_told_until_the_window_is_over() -> None:
    _, holder = new_holder()
    give(holder, 100)
    holder.settle(must_hold(holder.try_reserve(month(60), 1.0)), Charge(40))
    holder.obey(())
    for now in (2.0, 20.0):
        (told,) = holder.statements(now)
        assert (told.spent, told.granted, told.final) == (40, 40, True)
        holder.heard([right(told, 0, error="there is no room")], now)
    holder.obey((MONTH,))
    (claim,) = holder.statements(21.0)
    assert (claim.window, claim.spent, claim.granted, claim.final) == (W, 40, 40, False), "its budget was made again"

    holder.obey(())
    (told,) = holder.statements(101.0)
    holder.heard([right(told, 0, error="there is no room")], 101.0)
    assert holder.statements(102.0) == ()


def test_spending_in_a_window_whose_end_is_unknown_is_not_forgotten() -> None:
    """The node was rebooted: the journal's clock is another one."""
    buffer, holder = new_holder()
    give(holder, 100)
    holder.settle(must_hold(holder.try_reserve(month(60), 1.0)), Charge(40))
    again = Holder(Journal(bytearray(buffer)))
    again.obey(())
    for now in (2.0, 1000.0):
        (told,) = again.statements(now)
        assert (told.spent, told.final) == (40, True)
        again.heard([right(told, 0, error="not in force")], now)


def test_an_account_without_spending_is_forgotten_whatever_the_ledger_says() -> None:
    holder = leased(100)
    holder.obey(())
    (told,) = holder.statements(2.0)
    holder.heard([right(told, 0, error="not in force")], 2.0)
    assert holder.statements(3.0) == ()


def test_each_start_that_said_anything_is_another_run() -> None:
    buffer, holder = new_holder()
    assert restarted(buffer).run == holder.run
    give(holder, 100)
    assert restarted(buffer).run > holder.run
