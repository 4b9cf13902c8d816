"""What an attempt is charged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sidecar.core.calls import GPT, HAIKU, claude

from keelage_api.pricing import ModelPrice, Rates, cost_of
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Bound, Unbounded
from keelage_sidecar.core.claim import Charge
from keelage_sidecar.core.meter import Reading
from keelage_sidecar.core.settlement import Settlement, settle_attempt

USED = TokenUsage(30, output_tokens=42)
COST = 30 * 1_000_000 + 42 * 5_000_000
BOUND = Bound(1_000 * 1_000_000 + 100 * 5_000_000, 1_000, 100)
NOTHING = Reading(None, False)
ENDLESS = Unbounded("tools[0].type", "no bound")


def final(usage: TokenUsage) -> Reading:
    return Reading(usage, True, "end_turn", final_usage=True)


def charge(amount: int, prompt: int, output: int, cached: int = 0) -> Charge:
    return Charge(amount, prompt + output, prompt - cached, output, 1)


def output(tokens: int) -> Charge:
    """What so many tokens of output are in each unit."""
    return Charge(tokens * 5_000_000, tokens, 0, tokens)


AT_BOUND = Settlement(BOUND.charge, doubtful=True, uncertain=replace(BOUND.charge, requests=0))
UNSENT, UNBILLED = Settlement(Charge()), Settlement(Charge(requests=1))


@pytest.mark.parametrize(
    ("reading", "status", "sent", "expected"),
    [
        (final(USED), 200, True, Settlement(charge(COST, 30, 42))),
        (replace(final(USED), complete=False), 200, True, Settlement(charge(COST, 30, 42))),
        (final(TokenUsage(5000)), 200, True, Settlement(charge(5_000_000_000, 5000, 0), violated=True)),
        (NOTHING, 200, True, AT_BOUND),
        (NOTHING, 0, True, AT_BOUND),
        (NOTHING, 0, False, UNSENT),
        (NOTHING, 400, True, UNBILLED),
        (NOTHING, 429, True, UNBILLED),
        (replace(NOTHING, error="overloaded_error"), 529, True, UNBILLED),
        (NOTHING, 502, True, AT_BOUND),
        (replace(NOTHING, error="timeout_error"), 504, True, AT_BOUND),
        (Reading(TokenUsage(30, output_tokens=1), False), 200, True,
         Settlement(charge(530_000_000, 30, 100), doubtful=True, uncertain=output(99))),
        (Reading(TokenUsage(990, output_tokens=99), False), 200, True,
         Settlement(charge(1_490_000_000, 990, 100), doubtful=True, uncertain=output(1))),
        (Reading(TokenUsage(1_050), False), 200, True,
         Settlement(Charge(BOUND.amount, 1_100, 1_050, 100, 1), doubtful=True,
                    uncertain=Charge(BOUND.amount - 1_050_000_000, 50, 0, 100))),
        (Reading(TokenUsage(5_000), False), 200, True,
         Settlement(Charge(5_000_000_000, 5_000, 5_000, 100, 1), True, True, Charge(0, 0, 0, 100))),
        # An answer that had no input was not counted at all.
        (final(TokenUsage()), 200, True, AT_BOUND),
        (final(TokenUsage(output_tokens=7)), 200, True,
         replace(AT_BOUND, uncertain=AT_BOUND.uncertain.less(output(7)))),
    ],
)  # fmt: skip
def test_an_attempt_is_charged_by_its_evidence(reading: Reading, status: int, sent: bool, expected: Settlement) -> None:
    assert settle_attempt(reading, BOUND, claude(), status, sent) == expected


def test_tokens_from_a_prompt_cache_are_no_input_tokens_of_a_rate_but_tokens_of_a_budget() -> None:
    usage = TokenUsage(10, cache_read_tokens=500, cache_write_5m_tokens=40, output_tokens=7)
    settled = settle_attempt(final(usage), BOUND, claude(), 200, True)
    assert (settled.charge.tokens, settled.charge.input_tokens, settled.charge.output_tokens) == (557, 50, 7)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (final(USED), Settlement(charge(COST, 30, 42))),
        (Reading(USED, False), Settlement(charge(COST, 30, 42), doubtful=True)),
        (NOTHING, Settlement(Charge(requests=1), doubtful=True)),
    ],
)
def test_without_a_bound_only_usage_counts(reading: Reading, expected: Settlement) -> None:
    assert settle_attempt(reading, ENDLESS, claude(), 200, True) == expected
    assert settle_attempt(reading, None, claude(), 200, True) == expected


def test_a_model_without_a_price_is_charged_the_dearest_and_shown_as_uncertain() -> None:
    unpriced = replace(claude(), price=None, dearest=HAIKU)
    assert settle_attempt(final(USED), ENDLESS, unpriced, 200, True) == Settlement(
        charge(COST, 30, 42), doubtful=True, uncertain=Charge(COST)
    )
    assert settle_attempt(final(USED), ENDLESS, replace(unpriced, dearest=None), 200, True) == Settlement(
        charge(0, 30, 42), doubtful=True
    )


@pytest.mark.parametrize("dearest", [HAIKU, None])
def test_without_a_price_tokens_have_their_bound_and_money_has_none(dearest: ModelPrice | None) -> None:
    unpriced, tokens = replace(claude(), price=None, dearest=dearest), Bound(0, 1_000, 100, priced=False)
    money = HAIKU.tiers[0] if dearest else Rates(0, 0, 0, 0, 0, 0)
    assert settle_attempt(final(USED), tokens, unpriced, 200, True) == Settlement(
        charge(30 * money.input + 42 * money.output, 30, 42),
        doubtful=True,
        uncertain=Charge(30 * money.input + 42 * money.output),
    )
    assert settle_attempt(Reading(USED, False), tokens, unpriced, 200, True) == Settlement(
        charge(30 * money.input + 100 * money.output, 30, 100),
        doubtful=True,
        uncertain=Charge(30 * money.input + 100 * money.output, 58, 0, 58),
    )
    assert settle_attempt(NOTHING, tokens, unpriced, 200, True) == Settlement(
        tokens.charge, doubtful=True, uncertain=replace(tokens.charge, requests=0)
    )
    assert settle_attempt(final(TokenUsage(5_000)), tokens, unpriced, 200, True).violated


def test_further_inferences_are_charged_too() -> None:
    opus = ModelPrice((Rates(0, 5_000_000, 0, 0, 0, 25_000_000),))
    usage = replace(USED, extra=(("", TokenUsage(10)), ("claude-opus-5", TokenUsage(10))))
    candidate = replace(claude(), dearest=opus)
    assert settle_attempt(final(usage), BOUND, candidate, 200, True) == Settlement(
        charge(COST + 10_000_000 + 50_000_000, 50, 42)
    )


def test_a_fast_answer_costs_twice_where_no_better_price_is_known() -> None:
    usage = replace(USED, speed="fast")
    assert settle_attempt(final(usage), BOUND, claude(), 200, True).amount == 2 * COST
    assert cost_of(usage, GPT) == 2 * cost_of(USED, GPT)


COUNTS = st.integers(0, 2_000)


@given(st.builds(TokenUsage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS), st.booleans(), st.sampled_from([0, 200, 502]))
def test_what_was_proven_is_never_charged_less_and_what_was_not_never_above_the_bound(
    usage: TokenUsage, known_final: bool, status: int
) -> None:
    reading = Reading(usage, known_final, final_usage=known_final)
    settled = settle_attempt(reading, BOUND, claude(), status, True)
    cost = cost_of(usage, HAIKU)
    assert settled.amount >= cost
    assert settled.amount <= max(cost, BOUND.amount)
    assert usage.total_tokens <= settled.charge.tokens <= max(usage.total_tokens, 1_100)
    assert settled.violated is (cost > BOUND.amount or usage.total_tokens > 1_100)
