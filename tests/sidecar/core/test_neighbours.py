"""Questions that are compared: bounded, forgotten with their answers, and near by the cosine."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_sidecar.core.neighbours import SIDE_BY_SIDE_MAX, Neighbours, cosine, unit
from keelage_sidecar.core.response_cache import KeptAnswer, ResponseCache


def test_the_nearest_come_first_and_what_is_too_far_not_at_all() -> None:
    here = Neighbours()
    for key, angle in ((b"far", 60), (b"nearest", 5), (b"near", 10)):
        turned = unit([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
        assert turned is not None
        here.place(b"p", key, turned)
    east = unit([1.0, 0.0])
    assert east is not None
    assert [key for _, key in here.near(b"p", east, 0.9)] == [b"nearest", b"near"]
    assert here.near(b"other", east, 0.0) == []


def test_a_text_waits_for_its_vector_and_is_near_to_nothing() -> None:
    here = Neighbours()
    assert not here.has_any(b"p")
    here.place(b"p", b"k", "How?")
    east = unit([1.0])
    assert east is not None
    assert here.unmeasured(b"p") == [(b"k", "How?")]
    assert here.near(b"p", east, -1.0) == []
    here.place(b"p", b"k", east)
    assert here.unmeasured(b"p") == []
    assert here.near(b"p", east, 0.99) == [(1.0, b"k")]
    assert len(here) == 1


def test_vectors_of_another_length_are_not_compared() -> None:
    here = Neighbours()
    east, wide = unit([1.0]), unit([1.0, 0.0])
    assert east is not None
    assert wide is not None
    here.place(b"p", b"k", east)
    assert here.near(b"p", wide, -1.0) == []


def test_the_oldest_of_too_many_ways_to_ask_makes_room() -> None:
    here = Neighbours()
    for number in range(SIDE_BY_SIDE_MAX + 1):
        here.place(b"p", b"%d" % number, "text")
    assert [key for key, _ in here.unmeasured(b"p")] == [b"%d" % each for each in range(1, SIDE_BY_SIDE_MAX + 1)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.booleans())))
def test_its_bytes_are_those_of_what_is_there(steps: list[tuple[int, int, bool]]) -> None:
    here = Neighbours()
    for partition, key, placed in steps:
        if placed:
            here.place(b"%d" % partition, b"%d" % key, "x" * key)
        else:
            here.forget(b"%d" % key)
    for key in range(21):
        here.forget(b"%d" % key)
    assert (here.bytes, len(here), any(here.has_any(b"%d" % each) for each in range(4))) == (0, 0, False)


def test_what_is_compared_is_forgotten_with_its_answer_and_counts_to_the_same_bytes() -> None:
    cache = ResponseCache(40_000)
    answer = KeptAnswer((), b"x" * 3_000, 0.0, 0, "m", "end_turn")
    cache.place(b"gone", b"p", "never kept")
    assert len(cache.neighbours) == 0
    for number in range(100):
        cache.keep(b"%d" % number, answer)
        cache.place(b"%d" % number, b"p%d" % number, "y" * 1_000)
        assert cache.size <= 40_000
        assert len(cache.neighbours) == len(cache)
    cache.find(b"99", 10.0, 5.0)
    assert not cache.neighbours.has_any(b"p99")


@pytest.mark.parametrize("numbers", [[], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_what_has_no_direction_is_no_vector(numbers: list[float]) -> None:
    assert unit(numbers) is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8).filter(lambda each: math.hypot(*each) > 1e-3))
def test_a_vector_is_as_near_to_itself_as_can_be(numbers: list[float]) -> None:
    one = unit(numbers)
    assert one is not None
    assert cosine(one, one) == 1.0
    assert cosine(one, unit([-each for each in numbers]) or one) == pytest.approx(-1.0, abs=1e-5)
