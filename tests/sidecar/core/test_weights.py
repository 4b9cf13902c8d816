"""Shares of a tier's models, and who stays with which."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import ANTHROPIC

from keelage_sidecar.core.routing import Candidate
from keelage_sidecar.core.weights import in_order

USERS = [f"user-{number}" for number in range(4000)]
GOLDEN = ["m0", "m1", "m1", "m0", "m0", "m0", "m1", "m1"]


def tier(*weights: int) -> tuple[Candidate, ...]:
    return tuple(Candidate(ANTHROPIC, f"m{number}", None, weight=weight) for number, weight in enumerate(weights))


def firsts(choices: tuple[Candidate, ...], users: list[str], name: str = "r/canary") -> list[str]:
    return [in_order(choices, name, user, 0.5)[0].model for user in users]


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any),
    st.text(max_size=20),
    st.floats(0, 1, exclude_max=True),
)
def test_a_user_always_gets_the_same_model_and_nobody_one_of_weight_0(
    weights: list[int], user: str, pick: float
) -> None:
    choices = tier(*weights)
    ordered = in_order(choices, "r/t", user, pick)
    assert ordered == in_order(choices, "r/t", user, pick)
    assert sorted(ordered, key=choices.index) == list(choices)
    assert list(ordered[1:]) == [each for each in choices if each is not ordered[0]]
    assert ordered[0].weight
    if user:
        assert ordered == in_order(choices, "r/t", user, 0.123)


def test_the_same_user_gets_the_same_model_on_every_pod() -> None:
    """Written down once: neither a release nor another machine may move users."""
    assert firsts(tier(50, 50), USERS[:8]) == GOLDEN


@pytest.mark.parametrize("weights", [(95, 5), (1, 1, 2), (1, 0, 3)])
def test_shares_are_as_the_weights_say(weights: tuple[int, ...]) -> None:
    counted = Counter(firsts(tier(*weights), USERS))
    drawn = Counter(in_order(tier(*weights), "r/t", "", number / 4000)[0].model for number in range(4000))
    for number, weight in enumerate(weights):
        expected = 4000 * weight / sum(weights)
        assert abs(counted[f"m{number}"] - expected) < 100
        assert abs(drawn[f"m{number}"] - expected) < 100


@given(st.integers(0, 2), st.integers(1, 50))
def test_a_weight_that_is_raised_moves_users_to_that_model_alone(which: int, more: int) -> None:
    before = [20, 30, 50]
    after = list(before)
    after[which] += more
    moved = [
        (old, new)
        for old, new in zip(firsts(tier(*before), USERS[:300]), firsts(tier(*after), USERS[:300]), strict=True)
        if old != new
    ]
    assert all(new == f"m{which}" for _, new in moved)


def test_canaries_of_two_tiers_are_not_the_same_users() -> None:
    one, other = firsts(tier(50, 50), USERS[:1000]), firsts(tier(50, 50), USERS[:1000], "r/other")
    assert 400 < sum(a == b for a, b in zip(one, other, strict=True)) < 600
