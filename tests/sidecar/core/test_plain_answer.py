"""The quick reading of a plain answer finds what the tolerant one finds, or says nothing."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import chat, claude, gpt, messages

from keelage_sidecar.core.meter import Reading, meter_for
from keelage_sidecar.core.plain_answer import Told, told_by_completion, told_by_message
from keelage_sidecar.core.usage_fold import anthropic_usage, openai_usage

COUNTS: st.SearchStrategy[object] = st.integers(0, 2**40) | st.sampled_from([None, -1, 1.5, 2.0, True, "7", [], {}])
LABELS: st.SearchStrategy[object] = st.none() | st.sampled_from(["standard", "priority", "fast", "us", "x" * 300, 7])


def some(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=fields)


MESSAGE_USAGE = some(
    input_tokens=COUNTS,
    output_tokens=COUNTS,
    cache_read_input_tokens=COUNTS,
    cache_creation_input_tokens=COUNTS,
    cache_creation=COUNTS | some(ephemeral_5m_input_tokens=COUNTS, ephemeral_1h_input_tokens=COUNTS),
    output_tokens_details=COUNTS | some(thinking_tokens=COUNTS),
    server_tool_use=COUNTS | some(web_search_requests=COUNTS),
    speed=LABELS,
    inference_geo=LABELS,
    service_tier=LABELS,
    iterations=st.none() | st.just([{"type": "compaction", "input_tokens": 5}]),
)
CHAT_USAGE = some(
    prompt_tokens=COUNTS,
    completion_tokens=COUNTS,
    total_tokens=COUNTS,
    prompt_cache_hit_tokens=COUNTS,
    prompt_tokens_details=COUNTS
    | some(cached_tokens=COUNTS, cache_write_tokens=COUNTS, cache_write_tokens_details=some(ttl_12h_tokens=COUNTS)),
    completion_tokens_details=COUNTS | some(reasoning_tokens=COUNTS),
)


@given(MESSAGE_USAGE, st.booleans())
def test_a_message_that_is_read_quickly_counts_as_it_does_otherwise(usage: dict[str, object], long: bool) -> None:
    told = told_by_message(orjson.dumps({"model": "m", "usage": usage, "stop_reason": "end_turn"}), long)
    assert told is None or told == Told(anthropic_usage(usage, long), "m", "end_turn")


@given(CHAT_USAGE, LABELS)
def test_a_completion_that_is_read_quickly_counts_as_it_does_otherwise(usage: dict[str, object], tier: object) -> None:
    body = {"model": "m", "usage": usage, "choices": [{"finish_reason": "stop"}], "service_tier": tier}
    told = told_by_completion(orjson.dumps(body))
    assert told is None or told == Told(openai_usage(usage, tier[:256] if isinstance(tier, str) else ""), "m", "stop")


def test_what_providers_document_is_read_quickly() -> None:
    usage: dict[str, object] = {
        "input_tokens": 9, "output_tokens": 5, "cache_creation_input_tokens": None, "cache_read_input_tokens": 3,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}, "service_tier": "standard",
    }  # fmt: skip
    message = {"type": "message", "model": "m", "content": [{"type": "text", "text": "a"}], "usage": usage}
    assert told_by_message(orjson.dumps({**message, "stop_reason": None}), False) is not None
    completion = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "prompt_tokens_details": None}
    body = {"model": "m", "choices": [{"index": 0, "message": {}, "finish_reason": "stop"}], "usage": completion}
    assert told_by_completion(orjson.dumps(body)) is not None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model":"m"}', b'{"model":"m","usage":null}', b"\xff", b"[" * 5000])
def test_anything_else_is_left_to_the_tolerant_reading(body: bytes) -> None:
    assert told_by_message(body, False) is None
    assert told_by_completion(body) is None


def test_a_failure_with_usage_in_it_is_a_failure() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "prompt_tokens": 1, "completion_tokens": 1}
    body = orjson.dumps({"model": "m", "usage": usage, "error": {"type": "overloaded_error"}})
    for meter in (meter_for(messages(), claude()), meter_for(chat(), gpt())):
        meter.feed(body)
        assert meter.result(200, True) == Reading(None, True, error="overloaded_error")
