"""What an attempt is charged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import GPT, HAIKU, claude

from keelage_api.pricing import ModelPrice, Rates, cost_of
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Bound, Unbounded
from keelage_sidecar.core.meter import Reading
from keelage_sidecar.core.settlement import Settlement, settle_amount

USED = TokenUsage(30, output_tokens=42)
COST = 30 * 1_000_000 + 42 * 5_000_000
BOUND = Bound(1_000 * 1_000_000 + 100 * 5_000_000, 1_000, 100)
NOTHING = Reading(None, False)
ENDLESS = Unbounded("tools[0].type", "no bound")


def final(usage: TokenUsage) -> Reading:
    return Reading(usage, True, "end_turn", final_usage=True)


@pytest.mark.parametrize(
    ("reading", "status", "sent", "expected"),
    [
        (final(USED), 200, True, Settlement(COST)),
        (replace(final(USED), complete=False), 200, True, Settlement(COST)),
        (final(TokenUsage(5000)), 200, True, Settlement(5_000_000_000, violated=True)),
        (NOTHING, 200, True, Settlement(BOUND.amount, uncertain=True)),
        (NOTHING, 0, True, Settlement(BOUND.amount, uncertain=True)),
        (NOTHING, 0, False, Settlement(0)),
        (NOTHING, 400, True, Settlement(0)),
        (NOTHING, 429, True, Settlement(0)),
        (replace(NOTHING, error="overloaded_error"), 529, True, Settlement(0)),
        (NOTHING, 502, True, Settlement(BOUND.amount, uncertain=True)),
        (replace(NOTHING, error="timeout_error"), 504, True, Settlement(BOUND.amount, uncertain=True)),
        (Reading(TokenUsage(30, output_tokens=1), False), 200, True, Settlement(30_000_000 + 500_000_000, False, True)),
        (Reading(TokenUsage(990, output_tokens=99), False), 200, True, Settlement(1_490_000_000, False, True)),
        (Reading(TokenUsage(1_200), False), 200, True, Settlement(BOUND.amount, False, True)),
        (Reading(TokenUsage(5_000), False), 200, True, Settlement(5_000_000_000, True, True)),
        # An answer that had no input was not counted at all.
        (final(TokenUsage()), 200, True, Settlement(BOUND.amount, uncertain=True)),
        (final(TokenUsage(output_tokens=7)), 200, True, Settlement(BOUND.amount, uncertain=True)),
    ],
)
def test_an_attempt_is_charged_by_its_evidence(reading: Reading, status: int, sent: bool, expected: Settlement) -> None:
    assert settle_amount(reading, BOUND, claude(), status, sent) == expected


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (final(USED), Settlement(COST)),
        (Reading(USED, False), Settlement(COST, uncertain=True)),
        (NOTHING, Settlement(0, uncertain=True)),
    ],
)
def test_without_a_bound_only_usage_counts(reading: Reading, expected: Settlement) -> None:
    assert settle_amount(reading, ENDLESS, claude(), 200, True) == expected
    assert settle_amount(reading, None, claude(), 200, True) == expected


def test_a_model_without_a_price_is_charged_the_dearest_and_shown_as_uncertain() -> None:
    unpriced = replace(claude(), price=None, dearest=HAIKU)
    assert settle_amount(final(USED), ENDLESS, unpriced, 200, True) == Settlement(COST, uncertain=True)
    assert settle_amount(final(USED), ENDLESS, replace(unpriced, dearest=None), 200, True) == Settlement(
        0, uncertain=True
    )


def test_further_inferences_are_charged_too() -> None:
    opus = ModelPrice((Rates(0, 5_000_000, 0, 0, 0, 25_000_000),))
    usage = replace(USED, extra=(("", TokenUsage(10)), ("claude-opus-5", TokenUsage(10))))
    candidate = replace(claude(), dearest=opus)
    assert settle_amount(final(usage), BOUND, candidate, 200, True) == Settlement(COST + 10_000_000 + 50_000_000)


def test_a_fast_answer_costs_twice_where_no_better_price_is_known() -> None:
    usage = replace(USED, speed="fast")
    assert settle_amount(final(usage), BOUND, claude(), 200, True).amount == 2 * COST
    assert cost_of(usage, GPT) == 2 * cost_of(USED, GPT)


COUNTS = st.integers(0, 2_000)


@given(st.builds(TokenUsage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS), st.booleans(), st.sampled_from([0, 200, 502]))
def test_what_was_proven_is_never_charged_less_and_what_was_not_never_above_the_bound(
    usage: TokenUsage, known_final: bool, status: int
) -> None:
    reading = Reading(usage, known_final, final_usage=known_final)
    settled = settle_amount(reading, BOUND, claude(), status, True)
    cost = cost_of(usage, HAIKU)
    assert settled.amount >= cost
    assert settled.amount <= max(cost, BOUND.amount)
    assert settled.violated is (cost > BOUND.amount)
