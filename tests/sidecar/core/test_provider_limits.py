"""What providers say to be left of their limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_api.proxy_config import Quota, Unit
from keelage_sidecar.core.provider_limits import COUNT_MAX, Remaining, left_of, remaining
from keelage_sidecar.core.refusal import Headers

NOW = 1_790_000_000.0
"""2026-09-21T14:13:20Z"""

ANTHROPIC: Headers = (
    (b"anthropic-ratelimit-requests-limit", b"4000"),
    (b"anthropic-ratelimit-requests-remaining", b"3999"),
    (b"anthropic-ratelimit-requests-reset", b"2026-09-21T14:13:50Z"),
    (b"anthropic-ratelimit-input-tokens-remaining", b"400000"),
    (b"anthropic-ratelimit-output-tokens-remaining", b"79000"),
    (b"anthropic-ratelimit-tokens-remaining", b"79000"),
    (b"retry-after", b"3"),
)
OPENAI: Headers = (
    (b"x-ratelimit-limit-requests", b"10000"),
    (b"x-ratelimit-remaining-requests", b"9999"),
    (b"x-ratelimit-reset-requests", b"6ms"),
    (b"x-ratelimit-limit-tokens", b"2000000"),
    (b"x-ratelimit-remaining-tokens", b"1999000"),
    (b"x-ratelimit-reset-tokens", b"1h2m3.5s"),
)


def test_both_families_are_read() -> None:
    assert remaining(ANTHROPIC, NOW) == (
        Remaining(Unit.REQUESTS, 3999, 4000, 30.0),
        Remaining(Unit.INPUT_TOKENS, 400_000),
        Remaining(Unit.OUTPUT_TOKENS, 79_000),
        Remaining(Unit.TOKENS, 79_000),
    )
    assert remaining(OPENAI, NOW) == (
        Remaining(Unit.REQUESTS, 9999, 10_000, 0.006),
        Remaining(Unit.TOKENS, 1_999_000, 2_000_000, 3723.5),
    )


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b"7", 7), (b" 7 ", 7), (b"7.0", 7), (b"9999999999999999", COUNT_MAX), (b"99999999999999999", None),
        (b"-1", None), (b"1e9", None), (b"", None), (b"NaN", None), (b"\xd9\xa3", None), (b"7.5", None),
    ],
)  # fmt: skip
def test_only_a_plain_count_is_a_word(value: bytes, left: int | None) -> None:
    found = remaining(((b"x-ratelimit-remaining-requests", value),), NOW)
    assert [each.left for each in found] == ([] if left is None else [left])


@pytest.mark.parametrize(
    ("reset", "expected"),
    [(b"12", 12.0), (b"6m0s", 360.0), (b"1d", 86_400.0), (b"", None), (b"soon", None), (b"inf", None), (b"-3", None)],
)
def test_a_reset_is_a_duration_or_nothing(reset: bytes, expected: float | None) -> None:
    headers = ((b"x-ratelimit-remaining-tokens", b"1"), (b"x-ratelimit-reset-tokens", reset))
    assert remaining(headers, NOW) == (Remaining(Unit.TOKENS, 1, None, expected),)


@pytest.mark.parametrize("reset", [b"2026-09-21T14:13:50", b"tomorrow", b"9999-99-99T00:00:00Z", b"\xff"])
def test_a_moment_that_is_none_is_passed_over(reset: bytes) -> None:
    headers = ((b"anthropic-ratelimit-requests-remaining", b"1"), (b"anthropic-ratelimit-requests-reset", reset))
    assert remaining(headers, NOW) == (Remaining(Unit.REQUESTS, 1),)


def quota(unit: Unit, window_ms: int = 60_000) -> Quota:
    return Quota(f"shop/limit:r/b:{unit}{window_ms}", unit, 1_000, window_ms, "r", backend="r/b")


def test_each_quota_hears_what_was_said_of_its_unit() -> None:
    requests, inputs, outputs = quota(Unit.REQUESTS), quota(Unit.INPUT_TOKENS), quota(Unit.OUTPUT_TOKENS)
    day, running = quota(Unit.TOKENS, 86_400_000), quota(Unit.CONCURRENT, 0)
    quotas = (requests, inputs, outputs, day, running)
    assert left_of(quotas, remaining(ANTHROPIC, NOW)) == (
        (requests.name, 3999),
        (inputs.name, 400_000),
        (outputs.name, 79_000),
    )
    assert left_of(quotas, remaining(OPENAI, NOW)) == (
        (requests.name, 9999),
        (inputs.name, 1_999_000),
        (outputs.name, 1_999_000),
    )
    assert left_of(quotas, ()) == ()


NAMES = st.sampled_from([name for name, _ in (*ANTHROPIC, *OPENAI)])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=80))))
def test_any_garbage_is_tolerated(headers: list[tuple[bytes, bytes]]) -> None:
    for each in remaining(tuple(headers), NOW):
        assert 0 <= each.left <= COUNT_MAX
        assert each.resets_in_s is None or each.resets_in_s >= 0
