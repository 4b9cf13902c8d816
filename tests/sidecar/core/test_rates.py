"""Rates at the holder: leased like money, refused for a moment only, and kept alone while no leader answers."""

from __future__ import annotations

import pytest
from tests.blank_journal import blank_journal

from keelage_api.account import RATE_WINDOW
from keelage_api.proxy_config import Per, Quota, Unit
from keelage_api.sync import Right, Statement
from keelage_sidecar.core.claim import Charge, Claim, DenialReason, Denied, Hold, Waiter
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import Journal
from keelage_sidecar.core.local_rate import BUCKETS_MAX, QUOTA_ALONE_S, LocalRates

USERS = Quota("shop/rate:chat/all:0", Unit.REQUESTS, 20, 60_000, "chat", rule="all", per=(Per.USER,))
TOKENS = Quota("shop/limit:chat/main:tokens", Unit.INPUT_TOKENS, 6_000, 60_000, "chat", backend="chat/main")
FLIGHT = Quota("shop/limit:chat/main:concurrent", Unit.CONCURRENT, 2, 0, "chat", backend="chat/main")
ONE = Charge(requests=1)


def claim(quota: Quota, amount: int = 1, value: str = "") -> tuple[Claim, ...]:
    at_once = bool(quota.rule)
    return (Claim(quota.name, amount, hard=True, value=value, unit=quota.unit, quota=True, at_once=at_once),)


def new_holder(*quotas: Quota) -> Holder:
    holder = Holder(Journal(bytearray(blank_journal("0123456789abcdef"))))
    holder.obey((), quotas)
    return holder


def give(holder: Holder, granted: int, now: float, limit: int = 20) -> tuple[Statement, ...]:
    told = holder.statements(now)
    holder.heard(
        [
            Right(each.budget, RATE_WINDOW, each.seq, max(granted, each.granted), 3600.0, limit=limit, value=each.value)
            for each in told
        ],
        now,
    )
    return told


def must_hold(answer: Hold | Denied | None) -> Hold:
    assert isinstance(answer, Hold)
    return answer


def must_deny(answer: object) -> Denied:
    assert isinstance(answer, Denied)
    return answer


def test_a_rate_that_is_used_up_refuses_as_soon_as_the_leader_was_asked() -> None:
    holder = new_holder(USERS)
    assert isinstance(holder.wait(claim(USERS, value="alice"), 5.0, 0.0), Waiter)
    give(holder, 0, 0.1)
    ((_, answer),) = holder.admit(0.1)
    denied = must_deny(answer)
    assert (denied.reason, denied.resets_in_s, denied.value) == (DenialReason.RATE_LIMITED, 3.0, "alice")
    assert denied.message == (
        "the rate limit of LLMRoute chat, rule all, User alice (20 requests per minute) has no room now: "
        "try again in 3 s, or raise rules[].rateLimits"
    )


def test_a_flood_of_refused_calls_asks_the_leader_only_now_and_then() -> None:
    holder = new_holder(USERS)
    holder.wait(claim(USERS, value="alice"), 5.0, 0.0)
    give(holder, 0, 0.1)
    holder.admit(0.1)
    must_deny(holder.wait(claim(USERS, value="alice"), 5.2, 0.2))
    assert isinstance(holder.wait(claim(USERS, value="alice"), 6.0, 1.0), Waiter)


def test_a_call_that_a_providers_limit_holds_up_keeps_its_place_until_its_time_is_over() -> None:
    holder = new_holder(TOKENS)
    give(holder, 100, 0.0, limit=6_000)
    assert isinstance(holder.wait(claim(TOKENS, 400), 5.0, 0.0), Waiter)
    give(holder, 100, 0.1, limit=6_000)
    assert holder.admit(0.1) == []
    give(holder, 400, 0.2, limit=6_000)
    ((_, answer),) = holder.admit(0.2)
    holder.settle(must_hold(answer), Charge(input_tokens=400))
    assert isinstance(holder.wait(claim(TOKENS, 400), 5.0, 1.0), Waiter)
    denied = must_deny(holder.admit(5.0)[0][1])
    assert (denied.reason, denied.resets_in_s) == (DenialReason.RATE_LIMITED, 4.0)


def test_what_costs_more_than_was_expected_is_paid_back_from_the_next_grants() -> None:
    holder = new_holder(TOKENS)
    give(holder, 1_000, 0.0, limit=6_000)
    holder.settle(must_hold(holder.try_reserve(claim(TOKENS, 100), 0.0)), Charge(input_tokens=1_500))
    assert holder.try_reserve(claim(TOKENS, 1), 0.1) is None
    holder.wait(claim(TOKENS, 100), 5.0, 0.1)
    (told,) = give(holder, 1_550, 0.2, limit=6_000)
    assert (told.spent, told.min_want) == (1_500, 600)
    assert holder.try_reserve(claim(TOKENS, 51), 0.2) is None
    must_hold(holder.try_reserve(claim(TOKENS, 50), 0.2))


def test_requests_in_flight_are_given_back_and_never_spent() -> None:
    holder = new_holder(FLIGHT)
    give(holder, 2, 0.0, limit=2)
    first = must_hold(holder.try_reserve(claim(FLIGHT), 0.0))
    must_hold(holder.try_reserve(claim(FLIGHT), 0.0))
    assert holder.try_reserve(claim(FLIGHT), 0.0) is None
    holder.settle(first, ONE)
    must_hold(holder.try_reserve(claim(FLIGHT), 0.0))
    assert [(figure.spent, figure.reserved) for figure in holder.figures()] == [(0, 2)]


def test_a_claim_above_the_whole_rate_can_never_pass() -> None:
    holder = new_holder(TOKENS)
    give(holder, 100, 0.0, limit=6_000)
    denied = must_deny(holder.wait(claim(TOKENS, 6_001), 5.0, 0.0))
    assert denied.reason is DenialReason.BUDGET_TOO_SMALL
    assert denied.message == (
        "the provider's limit at backend chat/main is 6000 input tokens per minute: "
        "a request of up to 6001 input tokens can never pass; lower max_tokens or raise backends[].limits"
    )


def test_what_the_provider_says_is_left_goes_with_the_next_statement_and_is_forgotten() -> None:
    holder = new_holder(TOKENS)
    give(holder, 1_000, 0.0, limit=6_000)
    holder.note_left(TOKENS.name, 500, 1.0)
    must_hold(holder.try_reserve(claim(TOKENS, 200), 1.0))
    assert [each.left for each in holder.statements(2.0)] == [300]
    assert [each.left for each in holder.statements(62.0)] == [-1]


def test_of_a_lease_no_more_is_used_than_the_provider_says_to_be_left() -> None:
    holder = new_holder(TOKENS)
    give(holder, 3_000, 0.0, limit=6_000)
    running = must_hold(holder.try_reserve(claim(TOKENS, 500), 0.0))
    holder.note_left(TOKENS.name, 200, 1.0)  # the call in flight is not in it
    assert holder.try_reserve(claim(TOKENS, 201), 1.0) is None
    assert isinstance(holder.wait(claim(TOKENS, 400), 2.0, 1.0), Waiter)
    denied = must_deny(holder.admit(2.0)[0][1])
    assert (denied.reason, denied.resets_in_s) == (DenialReason.RATE_LIMITED, 1.0)
    # A hundred come back each second.
    assert holder.try_reserve(claim(TOKENS, 400), 2.9) is None
    must_hold(holder.try_reserve(claim(TOKENS, 400), 3.0))
    holder.settle(running, Charge(input_tokens=100))
    must_hold(holder.try_reserve(claim(TOKENS, 400), 3.0))
    assert holder.try_reserve(claim(TOKENS, 1), 3.0) is None


def test_without_a_leader_a_rate_is_kept_alone_after_a_while_and_leased_again_with_one() -> None:
    holder = new_holder(USERS)
    holder.statements(0.0)
    holder.lost()
    assert isinstance(holder.wait(claim(USERS, value="alice"), 60.0, QUOTA_ALONE_S - 0.1), Waiter)
    assert holder.admit(QUOTA_ALONE_S - 0.1) == []
    now = QUOTA_ALONE_S
    ((_, answer),) = holder.admit(now)
    holder.settle(must_hold(answer), ONE)
    for _ in range(19):
        holder.settle(must_hold(holder.try_reserve(claim(USERS, value="alice"), now)), ONE)
    denied = must_deny(holder.wait(claim(USERS, value="alice"), now + 5, now))
    assert (denied.reason, denied.resets_in_s) == (DenialReason.RATE_LIMITED, 3.0)
    must_hold(holder.try_reserve(claim(USERS, value="bob"), now))
    must_hold(holder.try_reserve(claim(USERS, value="alice"), now + 3.1))
    holder.statements(now + 4)
    holder.heard((), now + 4)
    assert holder.try_reserve(claim(USERS, value="bob"), now + 4) is None


def test_money_is_never_spent_alone() -> None:
    holder = new_holder()
    holder.statements(0.0)
    assert holder.try_reserve((Claim("shop/month", 1, hard=True),), 100.0) is None


def test_alone_a_call_that_was_not_sent_takes_nothing_and_one_in_flight_holds_its_place() -> None:
    holder = new_holder(FLIGHT)
    holder.statements(0.0)
    first = must_hold(holder.try_reserve(claim(FLIGHT), 20.0))
    must_hold(holder.try_reserve(claim(FLIGHT), 20.0))
    assert holder.try_reserve(claim(FLIGHT), 30.0) is None
    holder.settle(first, Charge())
    must_hold(holder.try_reserve(claim(FLIGHT), 30.0))


def test_rates_are_not_in_the_last_will_and_hold_nobody_up_there() -> None:
    class Stuck:
        def write(self, record: bytes) -> bool:
            return False

        def erase(self) -> bool:
            return False

    holder = Holder(Journal(bytearray(blank_journal("0123456789abcdef"))), Stuck())
    holder.obey((), (TOKENS,))
    holder.will.take_key("11" * 32)
    give(holder, 1_000, 0.0, limit=6_000)
    must_hold(holder.try_reserve(claim(TOKENS, 200), 0.0))


@pytest.mark.parametrize(("elapsed_s", "fits"), [(0.0, 0), (3.0, 1), (30.0, 10), (60.0, 20), (6_000.0, 20)])
def test_a_local_rate_refills_evenly_up_to_its_limit(elapsed_s: float, fits: int) -> None:
    rates = LocalRates()
    rates.take(USERS, "alice", 20, 100.0)
    assert rates.fits(USERS, "alice", fits, 100.0 + elapsed_s)
    assert not rates.fits(USERS, "alice", fits + 1, 100.0 + elapsed_s)


def test_local_rates_of_invented_values_stay_bounded() -> None:
    rates = LocalRates()
    for number in range(BUCKETS_MAX + 100):
        rates.take(USERS, str(number), 20, 0.0)
    assert len(rates._buckets) == BUCKETS_MAX
    assert not rates.fits(USERS, str(BUCKETS_MAX), 1, 0.0)


def test_a_rate_that_counts_something_else_now_is_not_used_up_from_what_was_leased_before() -> None:
    counted = Quota("shop/rate:chat/all:t60s", Unit.TOKENS, 10_000, 60_000, "chat", rule="all")
    holder = new_holder(counted)
    give(holder, 10_000, 0.0, limit=10_000)
    limited = Quota("shop/rate:chat/all:r60s", Unit.REQUESTS, 20, 60_000, "chat", rule="all")
    holder.obey((), (limited,))
    assert holder.try_reserve(claim(limited), 0.1) is None
    give(holder, 3, 0.2)
    for _ in range(3):
        assert isinstance(holder.try_reserve(claim(limited), 0.3), Hold)
    assert holder.try_reserve(claim(limited), 0.3) is None
