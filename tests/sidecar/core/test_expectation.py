"""What an attempt will likely use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Bound, Unbounded
from keelage_sidecar.core.claim import Charge
from keelage_sidecar.core.expectation import MODELS_MAX, Expectations

ENDLESS = Unbounded("model", "no price")


def test_at_first_a_token_is_four_bytes_and_an_answer_short() -> None:
    assert Expectations().of("m", 4_000, ENDLESS) == Charge(0, 1_256, 1_000, 256, 1)
    assert Expectations().of("m", 0, ENDLESS) == Charge(0, 257, 1, 256, 1)


def test_the_average_follows_what_is_used_and_not_what_is_allowed() -> None:
    expectations = Expectations()
    for _ in range(60):
        expectations.learn("m", 1_000, TokenUsage(100, cache_read_tokens=300, output_tokens=20))
    expected = expectations.of("m", 2_000, Bound(0, 100_000, 64_000))
    assert (expected.input_tokens, expected.tokens - expected.output_tokens) == (200, 800)
    assert 20 <= expected.output_tokens <= 24
    assert expectations.of("other", 2_000, ENDLESS) == Expectations().of("other", 2_000, ENDLESS)


def test_the_first_answers_count_more_than_what_was_assumed() -> None:
    expectations = Expectations()
    expectations.learn("m", 1_000, TokenUsage(250, output_tokens=56))
    assert expectations.of("m", 1_000, ENDLESS).output_tokens == (256 + 56) // 2


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 10**5))
def test_no_more_than_the_bound_is_expected(body_bytes: int, prompt: int, output: int) -> None:
    expectations = Expectations()
    expectations.learn("m", 10, TokenUsage(10**6, output_tokens=10**6))
    expected = expectations.of("m", body_bytes, Bound(0, prompt, output))
    assert 0 < expected.input_tokens <= prompt
    assert 0 <= expected.output_tokens <= output
    assert expected.tokens <= prompt + output


def test_names_of_models_do_not_grow_it_without_bound() -> None:
    expectations = Expectations()
    for number in range(2 * MODELS_MAX):
        expectations.learn(f"m{number}", 10, TokenUsage(10, output_tokens=9_000))
    learned = [expectations.of(f"m{number}", 10, ENDLESS).output_tokens > 256 for number in range(2 * MODELS_MAX)]
    assert sum(learned) == MODELS_MAX
