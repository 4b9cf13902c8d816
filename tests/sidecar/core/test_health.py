"""Whom calls ask, in which order, by what was seen of each model."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import HAIKU, chat, facts_of, messages

from keelage_api.proxy_config import Backend, CircuitBreaker, Hedge, ModelChoice, Provider, Retry, RetryBudget, Rule
from keelage_sidecar.core.breaker import State, Verdict
from keelage_sidecar.core.endpoints import ANTHROPIC_BATCHES
from keelage_sidecar.core.health import ASIDE_S, TRACKS_MAX, Cause, HealthBook, Track, not_asked
from keelage_sidecar.core.retry import Again, AttemptEnd, Failure, Stop
from keelage_sidecar.core.routing import Candidate, Plan

BREAKER = CircuitBreaker(consecutive_failures=5)


def backend(name: str) -> Backend:
    return Backend(f"r/{name}", Provider.ANTHROPIC, f"https://{name}", circuit_breaker=BREAKER)


def at(name: str, model: str = "claude-haiku-4-5", weight: int | None = None) -> Candidate:
    return Candidate(backend(name), model, HAIKU, weight=weight)


A, B, C = (at(name) for name in "abc")


def plan_of(*candidates: Candidate, retry: Retry | None = None) -> Plan:
    return Plan(Rule("r", "all", (ModelChoice("b"),), retry=retry or Retry()), candidates)


def answer(track: Track, now_s: float, seconds: float = 1.0, verdict: Verdict = Verdict.OK) -> None:
    ticket = track.breaker.admit(now_s)
    if ticket is None:
        return
    if verdict is Verdict.OK:
        ticket = track.first_byte(ticket, True, seconds, now_s)
    track.breaker.ended(ticket, verdict, now_s, 0.0)


def fail(health: HealthBook, candidate: Candidate, now_s: float, end: AttemptEnd | None = None) -> None:
    track = health.track(candidate, now_s)
    ticket = track.breaker.admit(now_s)
    assert ticket is not None
    track.failed(ticket, end or AttemptEnd(0, 529), now_s, 0.0)


@pytest.mark.parametrize(
    ("end", "counts"),
    [
        (AttemptEnd(0, 500), True),
        (AttemptEnd(0, 529), True),
        (AttemptEnd(0, None, Failure.CONNECT), True),
        (AttemptEnd(0, None, Failure.TIMEOUT), True),
        (AttemptEnd(0, None, Failure.RESET), True),
        (AttemptEnd(0, 429), False),
        (AttemptEnd(0, 400), False),
        (AttemptEnd(0, 404), False),
    ],
)
def test_only_what_the_provider_is_to_blame_for_opens_its_circuit(end: AttemptEnd, counts: bool) -> None:
    health = HealthBook()
    for _ in range(5):
        fail(health, A, 0.0, end)
    assert (health.track(A, 0.0).breaker.state is State.OPEN) is counts
    assert health.shut(plan_of(B, A), 0.0) == ({1} if counts else frozenset())


def test_a_provider_that_says_when_it_has_room_again_is_asked_last_until_then() -> None:
    health = HealthBook()
    fail(health, A, 0.0, AttemptEnd(0, 429, retry_after_ms=7_000))
    assert health.ordered(plan_of(A, B, C), 0, "", 0.5, 6.9).candidates == (B, C, A)
    assert health.ordered(plan_of(A, B, C), 1, "", 0.5, 6.9).candidates == (A, B, C), "what is behind stays"
    assert health.ordered(plan_of(A), 0, "", 0.5, 6.9).candidates == (A,)
    assert health.ordered(plan_of(A, B, C), 0, "", 0.5, 7.0).candidates == (A, B, C)
    assert health.shut(plan_of(A, B), 1.0) == frozenset()
    assert next(iter(health.figures())).times_aside == ((Cause.LIMITED, 1),)


def test_a_model_that_fails_more_often_than_another_of_its_tier_is_asked_last_for_a_while() -> None:
    health = HealthBook()
    for number in range(40):
        answer(health.track(A, 1.0), 1.0, verdict=Verdict.FAILED if number % 4 == 0 else Verdict.OK)
        answer(health.track(B, 1.0), 1.0)
    assert health.ordered(plan_of(A, B), 0, "", 0.5, 2.0).candidates == (B, A)
    assert health.ordered(plan_of(A, B), 0, "", 0.5, 2.0 + ASIDE_S).candidates == (A, B)


def test_where_all_fail_alike_nobody_stands_out() -> None:
    health = HealthBook()
    for number in range(40):
        for each in (A, B):
            answer(health.track(each, 1.0), 1.0, verdict=Verdict.FAILED if number % 4 == 0 else Verdict.OK)
    assert health.ordered(plan_of(A, B), 0, "", 0.5, 2.0).candidates == (A, B)


def test_a_model_that_has_become_slow_is_asked_last_while_another_is_as_it_always_was() -> None:
    health = HealthBook()
    for number in range(240):
        answer(health.track(A, 1.0), 1.0, 2.0 if number < 200 else 20.0)
        answer(health.track(B, 1.0), 1.0, 9.0)
        answer(health.track(C, 1.0), 1.0, 1.0 if number < 200 else 10.0)
    assert health.ordered(plan_of(A, B), 0, "", 0.5, 2.0).candidates == (B, A), (
        "though B has always been slower than A was"
    )
    assert health.ordered(plan_of(A, B), 0, "", 0.5, 3.0 + ASIDE_S).candidates == (A, B)
    alike = HealthBook()
    for number in range(240):
        answer(alike.track(A, 1.0), 1.0, 2.0 if number < 200 else 20.0)
        answer(alike.track(C, 1.0), 1.0, 1.0 if number < 200 else 10.0)
    assert alike.ordered(plan_of(A, C), 0, "", 0.5, 2.0).candidates == (A, C), "the way to both is slow"


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, C]), st.floats(0, 3), st.sampled_from([200, 429, 500, 529]), st.floats(0, 9)),
        max_size=120,
    ),
    st.integers(0, 2),
)
def test_no_candidate_is_ever_lost_by_ordering(calls: list[tuple[Candidate, float, int, float]], start: int) -> None:
    health, now_s, whole = HealthBook(), 0.0, plan_of(A, B, C)
    for candidate, step_s, status, took_s in calls:
        now_s += step_s
        track = health.track(candidate, now_s)
        ticket = track.breaker.admit(now_s)
        if ticket is not None and status == 200:
            track.breaker.ended(track.first_byte(ticket, True, took_s, now_s), Verdict.OK, now_s, 0.0)
        elif ticket is not None:
            end = AttemptEnd(0, status, retry_after_ms=5_000 if status == 429 else None)
            track.failed(ticket, end, now_s, 0.5)
        ordered = health.ordered(whole, start, "", 0.5, now_s)
        assert ordered.candidates[:start] == whole.candidates[:start]
        assert sorted(ordered.candidates, key=whole.candidates.index) == list(whole.candidates)


def test_retries_beyond_the_budget_go_to_the_next_model_and_are_counted() -> None:
    health = HealthBook()
    plan = plan_of(A, B, retry=Retry(3, budget=RetryBudget(0, 2)))
    steps = [health.next_step(plan, (AttemptEnd(0, 529),), 0.0, None, 1.0) for _ in range(4)]
    assert steps == [Again(0, 500), Again(0, 500), Again(1, 0), Again(1, 0)]
    assert next(iter(health.figures())).retries_refused == 2
    assert health.next_step(plan_of(A, retry=plan.rule.retry), (AttemptEnd(0, 529),), 0.0, None, 1.0) == Stop(None)


def test_a_backend_that_was_changed_begins_anew_and_one_that_was_only_read_again_does_not() -> None:
    health = HealthBook()
    for _ in range(5):
        fail(health, A, 0.0)
    again = at("a")
    assert health.track(again, 0.0).breaker.state is State.OPEN
    moved = Candidate(Backend("r/a", Provider.ANTHROPIC, "https://elsewhere"), A.model, HAIKU)
    assert health.track(moved, 0.0).breaker.state is State.CLOSED


def test_models_that_applications_invent_are_forgotten() -> None:
    health = HealthBook()
    fail(health, A, 0.0)
    for number in range(TRACKS_MAX):
        health.track(at("a", f"m{number}"), 0.0)
    standings = list(health.figures())
    assert len(standings) == TRACKS_MAX
    assert standings[0].model == "m0"


def test_the_refusal_says_for_how_long_nobody_is_asked_and_lets_the_sdk_come_again() -> None:
    health = HealthBook()
    for _ in range(5):
        fail(health, A, 0.0)
    refusal = not_asked(health.track(A, 1.0), 1.0)
    assert (refusal.status, refusal.reason, refusal.retry_after_s, refusal.should_retry) == (
        503,
        "UpstreamUnavailable",
        4.0,
        True,
    )
    assert "r/a" in refusal.message
    assert "circuitBreaker" in refusal.message


def test_weights_choose_first_and_who_is_to_be_asked_last_comes_last_all_the_same() -> None:
    health, plan = HealthBook(), plan_of(at("a", weight=95), at("b", weight=5))
    users = [f"user-{number}" for number in range(200)]
    of_canary = [user for user in users if health.ordered(plan, 0, user, 0.5, 0.0).candidates[0] == plan.candidates[1]]
    assert 1 <= len(of_canary) <= 30
    fail(health, plan.candidates[1], 0.0, AttemptEnd(0, 429, retry_after_ms=5_000))
    assert all(health.ordered(plan, 0, user, 0.5, 1.0).candidates == plan.candidates for user in users)


def hedging(after_ms: int = 0, attempts: int = 3) -> Plan:
    plan = plan_of(A, B, C, retry=Retry(attempts, budget=RetryBudget(0, 2)))
    return Plan(msgspec.structs.replace(plan.rule, hedge=Hedge(after_ms)), plan.candidates)


def test_a_hedge_waits_as_long_as_95_of_100_calls_of_that_kind_took_or_as_the_rule_says() -> None:
    health = HealthBook()
    for number in range(100):
        health.track(A, 0.0).pace(True).took(number / 10)
    streamed = messages(stream=True)
    assert health.late_s(hedging(), (), 0, streamed, 0.0) == 9.4
    assert health.late_s(hedging(1_500), (), 0, streamed, 0.0) == 1.5
    assert health.late_s(hedging(), (), 0, messages(), 0.0) is None, "nothing is known of whole answers"
    assert health.late_s(plan_of(A, B), (), 0, streamed, 0.0) is None, "the rule has no hedge"
    assert health.late_s(hedging(), (), 2, streamed, 0.0) is None, "nobody comes after"
    assert health.late_s(hedging(attempts=2), (AttemptEnd(0, 529),), 0, streamed, 0.0) is None


def test_what_leaves_something_behind_is_never_asked_twice() -> None:
    listing = facts_of(ANTHROPIC_BATCHES, b"")
    assert HealthBook().late_s(hedging(1), (), 0, listing, 0.0) is None
    assert HealthBook().late_s(hedging(1), (), 0, chat(), 0.0) == 0.001


def test_a_hedge_asks_the_next_whose_circuit_is_not_open_and_counts_as_a_retry_of_the_late_one() -> None:
    health = HealthBook()
    assert health.hedge(hedging(), 0, 0.0) == 1
    for _ in range(5):
        fail(health, B, 0.0)
    assert health.hedge(hedging(), 0, 0.0) == 2
    assert health.hedge(hedging(), 0, 0.0) is None, "two retries in ten seconds are all"
    assert health.next_step(hedging(), (AttemptEnd(0, 529),), 0.0, None, 0.0) == Again(2, 0)


def test_models_that_are_not_asked_as_usual_are_told_the_latest_first() -> None:
    health = HealthBook()
    assert health.remarks(0.0) == ()
    for candidate in (A, B):
        for _ in range(5):
            fail(health, candidate, 1.0 if candidate is A else 2.0)
    answer(health.track(C, 2.0), 2.0)
    assert health.remarks(3.0) == (
        "backend r/b, model 'claude-haiku-4-5': its last calls have failed: it is not asked for another 4.0 s",
        "backend r/a, model 'claude-haiku-4-5': its last calls have failed: it is not asked for another 3.0 s",
    )
    assert health.remarks(7.0)[1].endswith("its last calls have failed: the next call finds out whether it is back")
    for number in range(20):
        for _ in range(5):
            fail(health, at("a", f"model-{number}"), 8.0)
    assert len(health.remarks(9.0)) == 10
