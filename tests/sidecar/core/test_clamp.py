"""The largest output cap that can be paid for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import chat, claude, embeddings, gpt, is_a, messages

from keelage_sidecar.core.bound import Bound, bound_of
from keelage_sidecar.core.clamp import largest_cap, least_cap
from keelage_sidecar.core.request import Facts


@pytest.mark.parametrize(
    ("facts", "output_cap", "at_least", "expected"),
    [
        (messages(max_tokens=1000), 0, 256, 256),
        (messages(max_tokens=1000), 0, 0, None),
        (messages(max_tokens=256), 0, 256, None),
        (messages(max_tokens=1000), 300, 256, 256),
        (messages(max_tokens=1000), 200, 256, None),
        (chat(), 64_000, 256, 256),
        (chat(), 0, 256, None),
        (messages(max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024}), 0, 256, 1025),
        (messages(max_tokens=1025, thinking={"type": "enabled", "budget_tokens": 1024}), 0, 256, None),
        (messages(max_tokens=500, thinking={"type": "enabled", "budget_tokens": 1024}), 0, 256, None),
        (messages(max_tokens=1000, thinking={"type": "adaptive"}), 0, 256, 256),
        (embeddings("x"), 0, 256, None),
    ],
)
def test_a_cap_is_lowered_no_further_than_rule_and_thinking_allow(
    facts: Facts, output_cap: int, at_least: int, expected: int | None
) -> None:
    assert least_cap(facts, output_cap, at_least) == expected


@given(st.integers(0, 3_000_000_000), st.integers(1, 400))
def test_the_cap_is_the_greatest_that_fits(room: int, least: int) -> None:
    facts = messages(max_tokens=500)
    cap = largest_cap(facts, claude(), least, 500, lambda charge: charge.picodollars <= room)

    def cost(tokens: int) -> int:
        return is_a(Bound, bound_of(facts, claude(), tokens)).amount

    if cap is None:
        assert cost(least) > room
    else:
        assert least <= cap < 500
        assert cost(cap) <= room
        assert cap == 499 or cost(cap + 1) > room


def test_tokens_of_every_choice_count() -> None:
    facts = chat(n=4, max_completion_tokens=100)
    spare = is_a(Bound, bound_of(facts, gpt(), 0)).input_tokens
    assert largest_cap(facts, gpt(), 1, 100, lambda charge: charge.tokens <= spare + 90) == 22
