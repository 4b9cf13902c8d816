"""When a circuit opens, and how it is closed again."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_api.proxy_config import CircuitBreaker
from keelage_sidecar.core.breaker import PROBE_S, TRANSITIONS, Breaker, Signal, State, Verdict, advance

TERMS = CircuitBreaker(consecutive_failures=3, failure_percent=50, min_calls=10, open_base_ms=4_000, open_max_ms=16_000)
OK, FAILED, REFUSED, NONE = Verdict.OK, Verdict.FAILED, Verdict.REFUSED, Verdict.NONE


def call(breaker: Breaker, verdict: Verdict, now_s: float, pick: float = 0.0) -> bool:
    """One call from its beginning to its end; whether it was let through."""
    ticket = breaker.admit(now_s)
    if ticket is None:
        return False
    breaker.ended(ticket, verdict, now_s, pick)
    return True


def standing(breaker: Breaker) -> State:
    """Its state; asked by a call, since a type checker takes an attribute for what it was last compared with."""
    return breaker.state


def opened(terms: CircuitBreaker = TERMS, pick: float = 0.0) -> Breaker:
    breaker = Breaker(terms, 0.0)
    for _ in range(terms.consecutive_failures):
        call(breaker, FAILED, 0.0, pick)
    assert standing(breaker) is State.OPEN
    return breaker


@pytest.mark.parametrize(("state", "signal"), list(product(State, Signal)))
def test_each_state_answers_each_signal_by_the_table_alone(state: State, signal: Signal) -> None:
    assert advance(state, signal) is TRANSITIONS.get((state, signal), state)


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ([FAILED] * 2, State.CLOSED),
        ([FAILED] * 3, State.OPEN),
        ([FAILED, FAILED, OK, FAILED, FAILED], State.CLOSED),
        ([FAILED, FAILED, NONE, FAILED], State.OPEN),
        ([FAILED, FAILED, REFUSED, FAILED], State.OPEN),
        ([NONE] * 100, State.CLOSED),
        ([FAILED, OK, OK] * 4, State.CLOSED),
        ([FAILED, OK] * 4 + [OK, FAILED, FAILED], State.OPEN),
        ([FAILED, OK, FAILED, FAILED, OK], State.CLOSED),
    ],
)
def test_it_opens_on_failures_in_a_row_or_on_their_share_of_enough_calls(verdicts: list[Verdict], state: State) -> None:
    breaker = Breaker(TERMS, 0.0)
    for verdict in verdicts:
        call(breaker, verdict, 1.0)
    assert standing(breaker) is state


def test_failures_that_are_older_than_the_window_do_not_count() -> None:
    breaker = Breaker(TERMS, 0.0)
    for verdict in [FAILED, OK] * 4:
        call(breaker, verdict, 1.0)
    for verdict in [OK, FAILED, FAILED]:
        call(breaker, verdict, 40.0)
    assert standing(breaker) is State.CLOSED


def test_while_open_nothing_passes_then_one_probe_which_closes_it() -> None:
    breaker = opened()
    assert not call(breaker, OK, 3.9)
    assert breaker.opens_in_s(3.0) == 1.0
    probe = breaker.admit(4.0)
    assert probe is not None
    assert standing(breaker) is State.HALF_OPEN
    assert breaker.admit(4.0) is None
    assert breaker.opens_in_s(4.0) == PROBE_S
    breaker.ended(probe, OK, 4.5, 0.0)
    assert standing(breaker) is State.CLOSED
    assert call(breaker, OK, 4.5)


def test_a_probe_proves_itself_with_its_first_byte_and_its_stream_counts_as_a_call_after() -> None:
    breaker = opened()
    probe = breaker.admit(4.0)
    assert probe is not None
    ticket = breaker.answers(probe, 4.1)
    assert standing(breaker) is State.CLOSED
    breaker.ended(ticket, FAILED, 5.0, 0.0)
    assert breaker.recent(5.0) == (1, 1)


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    breaker = opened()
    for _ in range(3):
        assert call(breaker, NONE, 4.0)
        assert standing(breaker) is State.HALF_OPEN
    assert call(breaker, OK, 4.0)
    assert standing(breaker) is State.CLOSED


def test_a_probe_that_is_refused_has_found_the_model_alive() -> None:
    breaker = opened()
    assert call(breaker, REFUSED, 4.0)
    assert standing(breaker) is State.CLOSED
    assert breaker.recent(4.0) == (0, 0)


def test_as_many_successes_as_probes_are_wanted() -> None:
    terms = CircuitBreaker(consecutive_failures=3, open_base_ms=4_000, probes=2)
    breaker = opened(terms)
    one, other = breaker.admit(4.0), breaker.admit(4.0)
    assert one is not None
    assert other is not None
    assert breaker.admit(4.0) is None
    spent = breaker.answers(one, 4.1)
    breaker.ended(spent, FAILED, 4.2, 0.0)  # it has had its say
    assert standing(breaker) is State.HALF_OPEN
    assert not breaker.admits(4.2)
    breaker.ended(other, OK, 4.3, 0.0)
    assert standing(breaker) is State.CLOSED


def test_calls_from_before_say_nothing_about_what_came_after() -> None:
    breaker = Breaker(TERMS, 0.0)
    early = [breaker.admit(0.0) for _ in range(6)]
    for ticket in early[:3]:
        assert ticket is not None
        breaker.ended(ticket, FAILED, 1.0, 0.0)
    assert standing(breaker) is State.OPEN
    assert early[3] is not None
    breaker.ended(early[3], OK, 2.0, 0.0)
    assert standing(breaker) is State.OPEN
    probe = breaker.admit(5.0)
    assert probe is not None
    assert early[4] is not None
    breaker.ended(early[4], FAILED, 5.0, 0.0)
    assert standing(breaker) is State.HALF_OPEN


def test_it_stays_open_twice_as_long_each_time_up_to_the_longest_and_is_forgiven_in_time() -> None:
    breaker, now_s, lasted = opened(), 0.0, []
    for _ in range(4):
        lasted.append(breaker.opens_in_s(now_s))
        now_s += lasted[-1]
        assert call(breaker, FAILED, now_s)
    assert lasted == [4.0, 8.0, 16.0, 16.0]
    now_s += 16.0
    assert call(breaker, OK, now_s)
    for _ in range(3):
        call(breaker, FAILED, now_s)
    assert breaker.opens_in_s(now_s) == 16.0, "closed for a moment only"
    now_s += 16.0
    assert call(breaker, OK, now_s)
    now_s += 16.0
    for _ in range(3):
        call(breaker, FAILED, now_s)
    assert breaker.opens_in_s(now_s) == 4.0


@given(st.floats(0, 0.999))
def test_jitter_shortens_the_open_time_by_half_at_the_most(pick: float) -> None:
    assert 2.0 <= opened(pick=pick).opens_in_s(0.0) <= 4.0


STEPS = st.lists(
    st.tuples(
        st.floats(0, 6), st.sampled_from(["admit", "answer", "end"]), st.integers(0, 9), st.sampled_from(Verdict)
    ),
    max_size=60,
)


@given(st.integers(1, 3), STEPS)
def test_half_open_never_lets_through_more_than_its_probes_and_open_nothing(
    probes: int, steps: list[tuple[float, str, int, Verdict]]
) -> None:
    breaker = Breaker(CircuitBreaker(consecutive_failures=2, open_base_ms=4_000, probes=probes), 0.0)
    under_way: list[int] = []
    now_s = 0.0
    for step_s, what, which, verdict in steps:
        now_s += step_s
        before = breaker.state
        if what == "admit":
            could = breaker.admits(now_s)
            ticket = breaker.admit(now_s)
            assert could is (ticket is not None)
            assert before is not State.CLOSED or ticket is not None
            if ticket is not None:
                assert breaker.state is not State.OPEN
                under_way.append(ticket)
        elif under_way:
            ticket = under_way.pop(which % len(under_way))
            if what == "answer":
                under_way.append(breaker.answers(ticket, now_s))
            else:
                breaker.ended(ticket, verdict, now_s, 0.0)
                assert not (before is State.OPEN and breaker.state is not State.OPEN)
        if breaker.state is State.HALF_OPEN:
            assert under_way.count(breaker.ticket) <= probes
    for ticket in under_way:
        breaker.ended(ticket, Verdict.NONE, now_s, 0.0)
    assert breaker.admit(now_s + 100.0) is not None, "no probe is lost for ever"
