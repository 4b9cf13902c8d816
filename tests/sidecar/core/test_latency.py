"""A tier that is too slow is left, tried now and then, and come back to; never to and fro."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_api.proxy_config import LatencyBudget
from keelage_sidecar.core.breaker import State
from keelage_sidecar.core.latency import PAUSE_MAX_S, PAUSE_S, PROBE_LOST_S, PROBES, Guard
from keelage_sidecar.core.pace import SAMPLES, SAMPLES_MIN, Pace

FIVE = LatencyBudget(95, 5_000, "fast")


class Calls:
    """A guard and the calls that it lets through; each takes `took_s` and is heard before the next one."""

    def __init__(self, budget: LatencyBudget = FIVE, before: int = 0, took_s: float = 1.0) -> None:
        self.pace = Pace()
        for _ in range(before):
            self.pace.took(took_s)
        self.now_s = 1000.0
        self.guard = Guard(budget, self.pace, self.now_s)
        self.opened_s: list[float] = []

    def call(self, took_s: float, after_s: float = 0.1, pick: float = 0.0) -> bool:
        """Whether it went to the model."""
        self.now_s += after_s
        before = self.guard.state
        asked = self.guard.asks(self.pace, self.now_s, pick)
        if self.guard.state is State.OPEN and before is State.CLOSED:
            self.opened_s.append(self.now_s)
        if asked:
            self.pace.took(took_s)
        return asked


def broken() -> Calls:
    calls = Calls()
    for _ in range(SAMPLES_MIN):
        assert calls.call(9.0)
    assert not calls.call(9.0)
    return calls


def test_one_slow_call_in_twenty_keeps_a_p95_and_two_do_not() -> None:
    calls = Calls()
    for _ in range(19):
        calls.call(1.0)
    calls.call(9.0)
    assert calls.call(9.0)
    assert not calls.call(1.0)


@pytest.mark.parametrize(("percent", "slow"), [(50, 51), (90, 11), (95, 6), (99, 2)])
def test_a_percentile_is_broken_when_more_calls_than_it_leaves_are_slow(percent: int, slow: int) -> None:
    budget = LatencyBudget(percent, 5_000, "fast")
    for count, asked in ((slow - 1, True), (slow, False)):
        pace = Pace()
        for number in range(SAMPLES):
            pace.took(9.0 if number < count else 1.0)
        assert Guard(budget, pace, 0.0).asks(pace, 0.0, 0.0) is asked


def test_what_a_model_took_before_the_budget_was_applied_counts() -> None:
    assert not Calls(before=30, took_s=9.0).call(1.0)
    assert Calls(before=SAMPLES_MIN - 1, took_s=9.0).call(1.0)


def test_it_is_left_until_the_pause_is_over_and_comes_back_after_five_good_probes_in_a_row() -> None:
    calls = broken()
    assert not calls.call(1.0, after_s=PAUSE_S - 0.3)
    for _ in range(PROBES):
        assert calls.call(1.0, after_s=0.4)
        assert calls.guard.state is State.HALF_OPEN
    assert calls.call(1.0)
    assert calls.guard.state is State.CLOSED


def test_the_slow_calls_of_before_do_not_break_it_again() -> None:
    calls = broken()
    calls.now_s += PAUSE_S
    for _ in range(PROBES + SAMPLES_MIN):
        assert calls.call(1.0)
    assert calls.guard.state is State.CLOSED


def test_a_bad_probe_doubles_the_pause_up_to_five_minutes() -> None:
    calls, pauses = broken(), list[float]()
    left_s = calls.now_s
    for _ in range(8):
        while not calls.call(9.0, after_s=0.5):
            pass
        pauses.append(calls.now_s - left_s)
        calls.call(9.0)
        left_s = calls.now_s
    assert pauses == pytest.approx([10, 20, 40, 80, 160, 300, 300, 300], abs=1.1)


def test_a_probe_is_sent_alone_and_one_that_is_lost_makes_way() -> None:
    calls = broken()
    calls.now_s += PAUSE_S
    assert calls.guard.asks(calls.pace, calls.now_s, 0.0)
    assert not calls.guard.asks(calls.pace, calls.now_s + 1, 0.0)
    assert calls.guard.asks(calls.pace, calls.now_s + PROBE_LOST_S, 0.0)


def test_a_model_whose_pace_began_anew_is_judged_by_the_new_one() -> None:
    calls = Calls(before=50)
    calls.pace = Pace()
    for _ in range(SAMPLES_MIN):
        assert calls.call(9.0)
    assert not calls.call(9.0)


@given(
    st.lists(st.tuples(st.sampled_from([0.5, 4.9, 5.1, 60.0]), st.floats(0.01, 5.0)), max_size=600),
    st.floats(0.0, 0.999),
)
def test_it_does_not_flap_whatever_calls_take(calls: list[tuple[float, float]], pick: float) -> None:
    here = Calls()
    asked = [here.call(took_s, after_s, pick) for took_s, after_s in calls]
    for earlier, later in pairwise(here.opened_s):
        assert later - earlier >= PAUSE_S / 2
    assert here.guard.broken == len(here.opened_s) <= 1 + sum(asked) // (SAMPLES_MIN + PROBES)


def test_a_model_that_is_slow_by_turns_is_left_alone_ever_longer() -> None:
    here, draw = Calls(), random.Random(7)
    for _ in range(36_000):  # an hour
        slow = here.now_s % 120 < 60
        here.call(draw.uniform(6, 9) if slow else draw.uniform(0.5, 2), 0.1, draw.random())
    assert 5 <= here.guard.broken <= 30
    assert len([1 for earlier, later in pairwise(here.opened_s[4:]) if later - earlier < 60]) == 0


def test_a_tier_that_stays_slow_is_asked_only_by_probes() -> None:
    here = broken()
    asked = sum(here.call(9.0, 0.1) for _ in range(36_000))
    assert asked <= 3600 / PAUSE_MAX_S + 6
