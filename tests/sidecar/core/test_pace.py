"""What is usual, what is late, and what has become slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_sidecar.core.pace import SAMPLES, SAMPLES_MIN, Pace


def paced(*seconds: float) -> Pace:
    pace = Pace()
    for each in seconds:
        pace.took(each)
    return pace


@given(st.lists(st.floats(0.001, 100), max_size=300))
def test_late_is_longer_than_95_of_the_last_100_took(seconds: list[float]) -> None:
    late_s, last = paced(*seconds).late_s, seconds[-SAMPLES:]
    if len(last) < SAMPLES_MIN:
        assert late_s is None
        return
    assert late_s in last
    assert sum(each <= late_s for each in last) >= 0.95 * len(last)
    assert sum(each < late_s for each in last) < 0.95 * len(last)


def test_late_moves_with_what_is_seen() -> None:
    pace = paced(*[1.0] * 50)
    assert pace.late_s == 1.0
    for _ in range(50):
        pace.took(4.0)
    assert pace.late_s == 4.0


@pytest.mark.parametrize(
    ("seconds", "stands_out"),
    [
        ([1.0] * 200, False),
        ([1.0] * 200 + [100.0], False),
        ([1.0, 2.0, 0.5] * 60, False),
        ([1.0] * 200 + [6.0] * 12, True),
        ([6.0] * 200, False),
        ([1.0, 9.0], False),
    ],
)
def test_a_model_is_slow_by_its_own_habit_and_not_for_one_call(seconds: list[float], stands_out: bool) -> None:
    assert (paced(*seconds).slowdown >= 3.0) is stands_out


def test_what_is_forgiven_must_be_slow_again_to_stand_out() -> None:
    pace = paced(*[1.0] * 200, *[6.0] * 12)
    pace.forgive()
    assert pace.slowdown == 1.0
