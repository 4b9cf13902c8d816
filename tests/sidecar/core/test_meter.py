"""Answers are counted beside the bytes, which go on as they came."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import chat, claude, embeddings, gpt, messages
from tests.sidecar.core.streams import (
    ERROR,
    FIRST_CHUNK,
    LAST_CHUNK,
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    TEXT,
    USAGE_CHUNK,
    anthropic_events,
    openai_chunks,
)  # fmt: skip
from tests.sidecar.core.test_sse import STREAMS, cut

from keelage_api.usage import TokenUsage
from keelage_sidecar.core import sse
from keelage_sidecar.core.meter import Meter, Reading, meter_for

ANTHROPIC_STREAM = anthropic_events(MESSAGE_START, {"type": "ping"}, TEXT, MESSAGE_DELTA, MESSAGE_STOP)
OPENAI_STREAM = openai_chunks(FIRST_CHUNK, LAST_CHUNK, USAGE_CHUNK)
OPENAI_STRIPPED = openai_chunks(FIRST_CHUNK, LAST_CHUNK)
CUTS = st.lists(st.integers(0, 1200), max_size=8)
ANTHROPIC_USAGE = TokenUsage(30, 7, 6, 4, 42, geo="global", service_tier="standard")
OPENAI_USAGE = TokenUsage(60, 30, 10, 0, 20, 5, service_tier="default")


def anthropic_meter() -> Meter:
    return meter_for(messages(stream=True), claude())


def openai_meter(asked: bool = False) -> Meter:
    return meter_for(chat(stream=True, stream_options={"include_usage": asked}), gpt())


def run(meter: Meter, chunks: list[bytes], status: int = 200, complete: bool = True) -> tuple[bytes, Reading]:
    sent = b"".join(meter.feed(chunk) for chunk in chunks) + meter.finish()
    return sent, meter.result(status, complete)


@given(CUTS)
def test_any_cut_of_an_anthropic_stream_gives_the_same_bytes_and_usage(cuts: list[int]) -> None:
    assert run(anthropic_meter(), cut(ANTHROPIC_STREAM, cuts)) == (
        ANTHROPIC_STREAM,
        Reading(ANTHROPIC_USAGE, True, "end_turn", "claude-haiku-4-5-20251001", "", True),
    )


@given(CUTS, st.booleans(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_cut_of_an_openai_stream_gives_the_same_bytes_and_usage(cuts: list[int], asked: bool, end: bytes) -> None:
    stream = OPENAI_STREAM.replace(b"\n", end)
    assert run(openai_meter(asked), cut(stream, cuts)) == (
        stream if asked else OPENAI_STRIPPED.replace(b"\n", end),
        Reading(OPENAI_USAGE, True, "stop", "gpt-5-mini-2025-08-07", "", True),
    )


@given(STREAMS | st.binary(max_size=60), st.lists(st.integers(0, 80), max_size=6), st.booleans())
def test_any_bytes_pass_and_are_read_alike_whatever_the_cuts(stream: bytes, cuts: list[int], complete: bool) -> None:
    for make in (
        anthropic_meter,
        openai_meter,
        lambda: openai_meter(True),
        lambda: meter_for(messages(), claude()),
        lambda: meter_for(chat(), gpt()),
    ):
        whole = run(make(), [stream], complete=complete)
        assert whole[0] == stream
        assert run(make(), cut(stream, cuts), complete=complete) == whole


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**60) | st.floats(allow_nan=False) | st.just("compaction"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["usage", "input_tokens", "cache_creation", "iterations", "type", "model", "message", "delta", "error",
             "prompt_tokens", "prompt_tokens_details", "cached_tokens", "choices", "finish_reason", "total_tokens"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=10,
)  # fmt: skip


@given(st.sampled_from(["message_start", "message_delta", "message_stop", "error", "new_event"]), JSON)
def test_any_answer_is_read_without_an_error(name: str, value: object) -> None:
    event = {**value, "type": name} if isinstance(value, dict) else value
    body = orjson.dumps(event)
    stream = b"event: %s\ndata: %s\n\n" % (name.encode(), body)
    run(anthropic_meter(), [stream])
    run(openai_meter(True), [stream])
    run(meter_for(messages(), claude()), [body])
    run(meter_for(chat(), gpt()), [body])


def test_forwarded_chunks_are_the_same_objects_where_nothing_is_stripped() -> None:
    chunk = openai_chunks(FIRST_CHUNK, done=False)
    assert openai_meter().feed(chunk) is chunk
    assert anthropic_meter().feed(ANTHROPIC_STREAM) is ANTHROPIC_STREAM


def test_a_stream_without_its_end_is_not_complete() -> None:
    stream = anthropic_events(MESSAGE_START, TEXT)
    assert run(anthropic_meter(), [stream]) == (
        stream,
        Reading(
            TokenUsage(25, 7, 6, 4, 1, geo="global", service_tier="standard"), False, "", "claude-haiku-4-5-20251001"
        ),
    )
    _, reading = run(anthropic_meter(), [anthropic_events(MESSAGE_START, MESSAGE_DELTA)])
    assert (reading.complete, reading.final_usage, reading.usage) == (False, True, ANTHROPIC_USAGE)
    _, reading = run(openai_meter(), [openai_chunks(FIRST_CHUNK, done=False)])
    assert (reading.complete, reading.usage) == (False, None)


def test_a_held_back_tail_is_forwarded_when_the_stream_is_cut() -> None:
    stream = OPENAI_STREAM[:-100]
    assert run(openai_meter(), [stream], complete=False)[0] == stream


def test_an_error_in_the_stream_gives_its_type_only() -> None:
    _, reading = run(anthropic_meter(), [anthropic_events(MESSAGE_START, ERROR)])
    assert (reading.error, reading.complete) == ("overloaded_error", False)
    chunk: dict[str, object] = {"error": {"message": "secret prompt", "code": "429"}}
    _, reading = run(openai_meter(), [openai_chunks(FIRST_CHUNK, chunk)])
    assert (reading.error, reading.complete) == ("429", False)
    assert "secret" not in repr(reading)


def test_usage_beside_choices_is_read_and_left_in_the_copy() -> None:
    chunk = {**USAGE_CHUNK, "choices": LAST_CHUNK["choices"]}
    stream = openai_chunks(FIRST_CHUNK, chunk)
    sent, reading = run(openai_meter(), [stream])
    assert (sent, reading.usage, reading.final_usage) == (stream, OPENAI_USAGE, True)


def test_running_totals_of_a_cut_stream_are_not_final() -> None:
    chunk = {**FIRST_CHUNK, "usage": USAGE_CHUNK["usage"]}
    _, reading = run(openai_meter(), [openai_chunks(chunk, done=False)], complete=False)
    assert (reading.usage, reading.final_usage) == (OPENAI_USAGE, False)


def test_an_endless_event_passes_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 50)
    stream = b"data: " + b"x" * 200 + b"\n\n" + OPENAI_STREAM
    sent, reading = run(openai_meter(), [stream[i : i + 40] for i in range(0, len(stream), 40)])
    assert (sent, reading) == (stream, Reading(None, False))


def test_a_plain_answer_is_read_at_its_end() -> None:
    body = orjson.dumps(
        {
            "model": "claude-haiku-4-5-20251001",
            "stop_reason": "max_tokens",
            "usage": {
                "input_tokens": 3,
                "cache_creation_input_tokens": 5,
                "output_tokens": 9,
                "output_tokens_details": {"thinking_tokens": 4},
                "server_tool_use": {"web_search_requests": 2},
                "speed": "fast",
                "iterations": [
                    {"type": "message", "input_tokens": 3},
                    {"type": "compaction", "input_tokens": 55, "output_tokens": 6},
                    {"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 7},
                ],
            },
        }
    )
    usage = TokenUsage(
        3, 0, 5, 0, 9, 4, 2, "fast",
        extra=(("", TokenUsage(55, output_tokens=6)), ("claude-opus-5", TokenUsage(7))),
    )  # fmt: skip
    assert run(meter_for(messages(), claude()), cut(body, [10, 50])) == (
        body,
        Reading(usage, True, "max_tokens", "claude-haiku-4-5-20251001", "", True),
    )


def test_cache_writes_of_unknown_life_take_the_dearest_that_was_asked_for() -> None:
    body = orjson.dumps({"usage": {"cache_creation_input_tokens": 5}})
    long = messages(cache_control={"type": "ephemeral", "ttl": "1h"})
    assert run(meter_for(long, claude()), [body])[1].usage == TokenUsage(cache_write_1h_tokens=5)


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 30}, TokenUsage(8, output_tokens=22)),
        ({"prompt_tokens": 8, "prompt_cache_hit_tokens": 3}, TokenUsage(5, 3)),
        ({"prompt_tokens": 8, "prompt_tokens_details": {"cached_tokens": 9}}, TokenUsage(0, 9)),
        (
            {
                "prompt_tokens": 8,
                "prompt_tokens_details": {
                    "cache_write_tokens": 4,
                    "cache_write_tokens_details": {"ttl_12h_tokens": 3},
                },
            },
            TokenUsage(4, 0, 1, 3),
        ),
        ({"prompt_tokens": -8, "completion_tokens": True}, TokenUsage()),
    ],
)
def test_quirks_of_compatible_servers_are_read_the_dearer_way(raw: dict[str, object], usage: TokenUsage) -> None:
    assert run(meter_for(chat(), gpt()), [orjson.dumps({"usage": raw})])[1].usage == usage


def test_counts_in_floating_point_are_rounded_up() -> None:
    body = orjson.dumps({"usage": {"prompt_tokens": 8.0, "completion_tokens": 2.5}})
    assert run(meter_for(chat(), gpt()), [body])[1].usage == TokenUsage(8, output_tokens=3)


@pytest.mark.parametrize("raw", [{}, {"prompt_tokens": 8}, {"prompt_tokens": 8, "completion_tokens": None}])
def test_usage_that_leaves_the_output_out_is_not_final(raw: dict[str, object]) -> None:
    assert not run(meter_for(chat(), gpt()), [orjson.dumps({"usage": raw})])[1].final_usage
    chunk = {**USAGE_CHUNK, "usage": raw}
    assert not run(openai_meter(), [openai_chunks(FIRST_CHUNK, LAST_CHUNK, chunk)])[1].final_usage
    assert not run(meter_for(messages(), claude()), [orjson.dumps({"usage": {"input_tokens": 8}})])[1].final_usage


def test_of_embeddings_only_the_end_is_kept() -> None:
    vectors: object = [{"object": "embedding", "index": 0, "embedding": [0.25] * 40_000}]
    body = orjson.dumps({"object": "list", "data": vectors, "model": "e", "usage": {"prompt_tokens": 8}})
    meter = meter_for(embeddings("x"), gpt())
    sent, reading = run(meter, [body[i : i + 1000] for i in range(0, len(body), 1000)])
    assert (sent, reading) == (body, Reading(TokenUsage(8), True, "", "e", "", True))


def test_usage_may_stand_before_the_vectors_or_nowhere() -> None:
    def usage_of(body: dict[str, object]) -> TokenUsage | None:
        raw = orjson.dumps(body)
        meter = meter_for(embeddings("x"), gpt())
        return run(meter, [raw[i : i + 1000] for i in range(0, len(raw), 1000)])[1].usage

    vectors = [0.25] * 40_000
    assert usage_of({"usage": {"prompt_tokens": 8, "details": {"x": 1}}, "data": vectors}) == TokenUsage(8)
    assert usage_of({"data": vectors}) is None


def test_embeddings_have_input_only() -> None:
    body = orjson.dumps({"model": "e", "data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}})
    assert run(meter_for(embeddings("x"), gpt()), [body])[1] == Reading(TokenUsage(8), True, "", "e", "", True)


def test_a_priority_answer_is_marked_as_the_dearer_variant() -> None:
    body = orjson.dumps({"service_tier": "priority", "usage": {"prompt_tokens": 8}})
    reading = run(meter_for(chat(), gpt()), [body])[1]
    assert reading.usage == TokenUsage(8, speed="fast", service_tier="priority")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"usage":7}', b'{"usage":null}'])
def test_an_answer_that_says_nothing_has_no_usage(body: bytes) -> None:
    assert run(meter_for(chat(), gpt()), [body])[1] == Reading(None, True)


def test_an_error_answer_to_a_stream_call_is_read_as_plain() -> None:
    body = orjson.dumps(ERROR)
    meter = meter_for(messages(stream=True), claude(), streaming=False)
    assert run(meter, [body], 529) == (body, Reading(None, True, error="overloaded_error"))
