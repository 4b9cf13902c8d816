"""Again, whom and when; or stop."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.sidecar.core.calls import claude

from keelage_api.proxy_config import ModelChoice, Retry, Rule
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.retry import Again, AttemptEnd, Failure, Stop, answered, is_retryable, next_step, told
from keelage_sidecar.core.routing import Plan


def plan(candidates: int, attempts: int = 3, base_ms: int = 500, max_ms: int = 8000) -> Plan:
    rule = Rule("r", "all", (ModelChoice("b"),), retry=Retry(attempts, base_ms, max_ms))
    return Plan(rule, (claude(),) * candidates)


BUSY = AttemptEnd(0, 529)
LOST = AttemptEnd(0, None, Failure.CONNECT)


@pytest.mark.parametrize("status", [200, 301, 400, 401, 402, 403, 404, 408, 409, 413, 422])
def test_an_answer_that_is_not_429_or_5xx_is_final(status: int) -> None:
    assert next_step(plan(2), (AttemptEnd(0, status, should_retry=True),), 0.0) == Stop(None)
    assert not is_retryable(status)


@pytest.mark.parametrize(
    "end", [BUSY, AttemptEnd(0, 429), AttemptEnd(0, 500), LOST, AttemptEnd(0, None, Failure.RESET)]
)
def test_other_ends_are_tried_again(end: AttemptEnd) -> None:
    assert next_step(plan(1), (end,), 0.0) == Again(0, 500)


@pytest.mark.parametrize(
    ("candidates", "attempts", "order"),
    [(1, 3, [0, 0, 0]), (2, 3, [0, 0, 1]), (2, 5, [0, 0, 0, 1, 1]), (3, 3, [0, 1, 2]), (4, 2, [0, 1]), (1, 1, [0])],
)
def test_attempts_are_spread_over_the_candidates(candidates: int, attempts: int, order: list[int]) -> None:
    ends: list[AttemptEnd] = [BUSY]
    while isinstance(step := next_step(plan(candidates, attempts), tuple(ends), 0.0), Again):
        ends.append(AttemptEnd(step.candidate, 529))
    assert [end.candidate for end in ends] == order
    assert step == Stop(None)


@pytest.mark.parametrize(
    ("tries", "pick", "delay_ms"),
    [(1, 0.0, 500), (1, 0.5, 250), (1, 0.999, 0), (2, 0.0, 1000), (4, 0.0, 4000), (9, 0.0, 8000)],
)
def test_backoff_is_drawn_below_a_bound_that_doubles_up_to_its_maximum(tries: int, pick: float, delay_ms: int) -> None:
    assert next_step(plan(1, 10), (BUSY,) * tries, pick) == Again(0, delay_ms)


@pytest.mark.parametrize(
    ("candidates", "retry_after_ms", "patience_ms", "expected"),
    [
        (1, 3000, 600_000, Again(0, 3000)),
        (2, 3000, 600_000, Again(0, 3000)),
        (2, 3000, 2000, Again(1, 0)),
        (2, 30_000, 600_000, Again(1, 0)),
        (1, 30_000, 600_000, Again(0, 30_000)),
        (1, 30_000, 20_000, Stop(None)),
        (1, 3_600_000, None, Stop(None)),
        (1, 0, 0, Stop(None)),
    ],
)
def test_retry_after_is_honoured_when_it_fits(
    candidates: int, retry_after_ms: int, patience_ms: int | None, expected: Again | Stop
) -> None:
    end = AttemptEnd(0, 429, retry_after_ms=retry_after_ms)
    assert next_step(plan(candidates), (end,), 0.0, patience_ms) == expected


def test_a_backend_that_says_no_retry_is_left_at_once() -> None:
    end = AttemptEnd(0, 429, should_retry=False)
    assert next_step(plan(2), (end,), 0.0) == Again(1, 0)
    assert next_step(plan(1), (end,), 0.0) == Stop(None)


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        (Failure.CONNECT, 503, "UpstreamUnreachable"),
        (Failure.TIMEOUT, 504, "UpstreamTimeout"),
        (Failure.RESET, 503, "UpstreamReset"),
    ],
)
def test_without_any_answer_the_refusal_says_what_happened(failure: Failure, status: int, reason: str) -> None:
    step = next_step(plan(1, 1), (AttemptEnd(0, None, failure),), 0.0)
    assert isinstance(step, Stop)
    assert step.refusal is not None
    assert (step.refusal.status, step.refusal.reason, step.refusal.should_retry) == (status, reason, False)
    assert "assistant/anthropic" in step.refusal.message


NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "retry_after_ms", "should_retry"),
    [
        (((b"retry-after-ms", b"250"), (b"retry-after", b"9")), 250, None),
        (((b"retry-after", b"2.5"),), 2500, None),
        (((b"retry-after", b"Mon, 21 Sep 2026 14:13:22 GMT"),), 2000, None),
        (((b"retry-after", b"Mon, 21 Sep 2020 14:13:22 GMT"),), 0, None),
        (((b"retry-after", b"soon"),), None, None),
        (((b"retry-after", b"inf"),), None, None),
        (((b"retry-after", b"-5"),), 0, None),
        (((b"x-should-retry", b"False"),), None, False),
        (((b"x-should-retry", b"maybe"),), None, None),
    ],
)
def test_retry_headers_are_read(headers: Headers, retry_after_ms: int | None, should_retry: bool | None) -> None:
    assert answered(1, 429, headers, NOW) == AttemptEnd(1, 429, None, retry_after_ms, should_retry)


@given(st.binary(max_size=30))
def test_any_retry_after_is_a_wait_or_nothing(value: bytes) -> None:
    end = answered(0, 429, ((b"retry-after", value),), NOW)
    assert end.retry_after_ms is None or end.retry_after_ms >= 0


ENDS = st.builds(
    AttemptEnd,
    st.just(0),
    st.sampled_from([429, 500, 503, 529]),
    st.none(),
    st.none() | st.integers(0, 10**7),
    st.sampled_from([None, True, False]),
)


@given(st.integers(1, 5), st.integers(1, 10), st.lists(ENDS, min_size=20, max_size=20), st.floats(0, 0.999))
def test_never_more_attempts_than_allowed_and_never_back_to_an_earlier_backend(
    candidates: int, attempts: int, ends: list[AttemptEnd], pick: float
) -> None:
    made: list[AttemptEnd] = []
    at = 0
    for end in ends:
        made.append(AttemptEnd(at, end.status, None, end.retry_after_ms, end.should_retry))
        step = next_step(plan(candidates, attempts), tuple(made), pick, 600_000)
        if isinstance(step, Stop):
            break
        assert step.candidate in (at, at + 1)
        assert step.delay_ms >= 0
        at = step.candidate
    assert len(made) <= attempts


FULL = AttemptEnd(0, failure=Failure.LIMITED)


def test_a_backend_without_room_is_left_for_the_next_and_is_no_attempt() -> None:
    assert next_step(plan(2, attempts=1), (FULL,), 0.0) == Again(1, 0)
    assert next_step(plan(2), (FULL, replace(FULL, candidate=1)), 0.0) == Stop(None)
    after = (FULL, replace(BUSY, candidate=1), replace(BUSY, candidate=1))
    assert next_step(plan(2), after, 0.0) == Again(1, 1000)
    assert next_step(plan(2), (*after, replace(BUSY, candidate=1)), 0.0) == Stop(None)
    assert next_step(plan(2), (BUSY, FULL), 0.0) == Again(1, 0)


def test_candidates_whose_circuit_is_open_are_passed_over() -> None:
    assert next_step(plan(3, 4), (BUSY,), 0.0, shut={1}) == Again(0, 500)
    assert next_step(plan(3, 4), (BUSY, BUSY), 0.0, shut={1}) == Again(2, 0)
    assert next_step(plan(3, 4), (BUSY,), 0.0, shut={0, 1}) == Again(2, 0)
    assert next_step(plan(2), (BUSY,), 0.0, shut={0, 1}) == Stop(None)
    assert next_step(plan(1), (BUSY,), 0.0, shut={0}) == Stop(None)


def test_without_a_retry_budget_the_next_candidate_is_asked_at_once() -> None:
    assert next_step(plan(2), (BUSY,), 0.0, may_repeat=False) == Again(1, 0)
    assert next_step(plan(1), (BUSY,), 0.0, may_repeat=False) == Stop(None)


SHUT = AttemptEnd(0, failure=Failure.OPEN)


def test_who_was_not_asked_is_no_attempt_and_leaves_the_word_to_its_own_refusal() -> None:
    assert next_step(plan(2, attempts=1), (SHUT,), 0.0, shut={0}) == Again(1, 0)
    assert next_step(plan(1), (SHUT,), 0.0, shut={0}) == Stop(None)


@pytest.mark.parametrize(
    ("ends", "status", "reason"),
    [
        ((AttemptEnd(0, 529, took_ms=12), AttemptEnd(1, None, Failure.CONNECT, took_ms=3)), 503, "UpstreamUnreachable"),
        ((AttemptEnd(0, 529, took_ms=12), AttemptEnd(1, None, Failure.TIMEOUT, took_ms=3)), 504, "UpstreamTimeout"),
        ((AttemptEnd(0, 529, took_ms=12), AttemptEnd(1, failure=Failure.OPEN)), 529, "UpstreamFailed"),
    ],
)
def test_when_all_have_failed_the_refusal_tells_what_was_tried(
    ends: tuple[AttemptEnd, ...], status: int, reason: str
) -> None:
    step = next_step(plan(2, attempts=2), ends, 0.0, shut={0, 1})
    assert isinstance(step, Stop)
    assert step.refusal is not None
    assert (step.refusal.status, step.refusal.reason, step.refusal.should_retry) == (status, reason, False)
    assert "tried in this order: assistant/anthropic claude-haiku-4-5 529 12ms, assistant/anth" in step.refusal.message


@given(st.text(max_size=100))
def test_what_was_tried_fits_a_header_whatever_model_the_application_names(model: str) -> None:
    whole = plan(1)
    named = structs.replace(whole, candidates=(structs.replace(whole.candidates[0], model=model),))
    text = told(named, (BUSY, SHUT))
    assert text.isascii()
    assert text.isprintable()
    assert text.count(",") == 1
    assert text.endswith(" CircuitOpen")
