"""Counts of a sliding window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keelage_sidecar.core.tally import SLOTS, Tally

EVENTS = st.lists(st.tuples(st.floats(0, 20), st.integers(0, 3), st.integers(0, 3)), max_size=40)


@given(EVENTS)
def test_what_is_younger_than_nine_tenths_counts_and_what_is_older_than_the_window_does_not(
    events: list[tuple[float, int, int]],
) -> None:
    tally, now_s, added = Tally(10.0), 0.0, []
    for step_s, total, marked in events:
        now_s += step_s
        tally.add(now_s, total, marked)
        added.append((now_s, total, marked))
        read = tally.read(now_s)
        young = [each for each in added if each[0] > now_s - 10.0 * (SLOTS - 1) / SLOTS]
        alive = [each for each in added if each[0] > now_s - 10.0]
        for index in (0, 1):
            assert sum(each[index + 1] for each in young) <= read[index] <= sum(each[index + 1] for each in alive)


def test_a_cleared_tally_is_empty() -> None:
    tally = Tally(10.0)
    tally.add(1.0, 5, 2)
    tally.clear()
    assert tally.read(1.0) == (0, 0)
