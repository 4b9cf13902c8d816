"""OpenAI's Responses: what a request weighs and what bounds it, what is changed in it, and what its answer proves."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sidecar.core.calls import LOCAL, config, facts_of, gpt, is_a, responses
from tests.sidecar.core.streams import anthropic_events
from tests.sidecar.core.test_sse import cut

from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Bound, Unbounded, bound_of
from keelage_sidecar.core.endpoints import CHAT, RESPONSES, STORED, Kind
from keelage_sidecar.core.meter import Reading, meter_for
from keelage_sidecar.core.outgoing import outgoing
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import read_request
from keelage_sidecar.core.routing import Plan, RoutingTable
from keelage_sidecar.core.weight import weigh

PIXELS = "A" * 100_000
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64," + PIXELS}
USAGE: dict[str, object] = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 120,
}
COUNTED = TokenUsage(60, 30, 10, 0, 20, 5, service_tier="default")
MODEL = "gpt-5-mini-2025-08-07"


def response(status: str = "completed", **more: object) -> dict[str, object]:
    return {"id": "resp_1", "model": MODEL, "status": status, "service_tier": "default", "error": None, **more}


def event(name: str, **more: object) -> dict[str, object]:
    return {"type": f"response.{name}", "sequence_number": 0, **more}


BEGUN = (
    event("created", response=response("in_progress", usage=None)),
    event("output_text.delta", delta="Grüße\n\n", logprobs=[]),
)
STREAM = anthropic_events(*BEGUN, event("completed", response=response(usage=USAGE)))


def read(body: bytes, *, stream: bool = True, status: int = 200, complete: bool = True) -> Reading:
    meter = meter_for(responses(stream=stream), gpt(), stream)
    assert meter.feed(body) is body
    assert meter.finish() == b""
    return meter.result(status, complete)


# what goes in


def test_the_cap_and_the_input_bound_a_call() -> None:
    bound = is_a(Bound, bound_of(responses(max_output_tokens=50), gpt(), 0))
    assert (bound.output_tokens, 128 < bound.input_tokens < 300) == (50, True)


def test_without_a_cap_the_field_to_set_is_named() -> None:
    assert is_a(Unbounded, bound_of(responses(), gpt(), 0)).field == "max_output_tokens"


@pytest.mark.parametrize("kind", ["message", "function_call_output"])
def test_base64_of_a_picture_is_a_picture_in_messages_and_in_results(kind: str) -> None:
    held = "content" if kind == "message" else "output"
    weight = weigh(Kind.RESPONSES, {"input": [{"type": kind, held: [PICTURE]}]})
    assert (weight.images, weight.tokens < 1000, weight.unread, weight.unbounded) == (1, True, "", None)


def test_a_screenshot_is_a_picture() -> None:
    output = {"type": "computer_screenshot", "image_url": "data:image/png;base64," + PIXELS}
    weight = weigh(Kind.RESPONSES, {"input": [{"type": "computer_call_output", "call_id": "c", "output": output}]})
    assert (weight.images, weight.tokens < 1000) == (1, True)


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": "x" * 900},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 900}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "x" * 900, "annotations": []}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "x" * 900},
        {"type": "function_call_output", "call_id": "c", "output": "x" * 900},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x" * 900},
    ],
)
def test_what_is_in_the_request_is_as_long_as_it_looks(item: dict[str, object]) -> None:
    weight = weigh(Kind.RESPONSES, {"input": [item]})
    assert (weight.unread, weight.unbounded) == ("", None)
    assert 900 < weight.tokens < 1300


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ({"type": "reasoning", "id": "rs_1", "summary": []}, "input[0]"),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": ""}, "input[0]"),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, "input[0]"),
        ({"type": "compaction", "encrypted_content": "x"}, "input[0]"),
        ({"type": "invented_later"}, "input[0]"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}, "input[0].content[0]"),
    ],
)
def test_what_the_provider_knows_more_of_is_bounded_by_the_window_only(item: dict[str, object], path: str) -> None:
    facts = responses(input=[item], max_output_tokens=50)
    assert facts.weight.unread == path
    assert is_a(Bound, bound_of(facts, gpt(), 0)).input_tokens == 400_000


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"service_tier": "ultrafast"}, "service_tier"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "name": "f"}, {"type": "mcp"}]}, "tools[1].type"),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "tools[0].type"),
        ({"tools": [{"name": "untyped"}]}, "tools[0].type"),
        ({"input": [{"type": "additional_tools", "tools": [{"type": "web_search"}]}]}, "input[0].tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
        ({"input": [{"type": None, "id": "msg_1", "content": None}]}, "input[0]"),
        ({"input": [{"type": "compaction_trigger"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0]"),
    ],
)
def test_what_has_no_bound_is_named(fields: dict[str, object], field: str) -> None:
    unbounded = is_a(Unbounded, bound_of(responses(max_output_tokens=50, **fields), gpt(), 0))
    assert unbounded.field == field
    assert field in unbounded.reason


@pytest.mark.parametrize(
    "fields",
    [
        {"background": False, "conversation": None, "store": True, "truncation": "auto"},
        {"reasoning": {"effort": "low", "summary": "auto", "mode": "standard"}},
        {"tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "custom", "name": "g"}]},
        {"tools": [{"type": "computer_use_preview"}, {"type": "apply_patch"}]},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}, "include": ["reasoning"]},
    ],
)
def test_harmless_fields_stay_bounded(fields: dict[str, object]) -> None:
    is_a(Bound, bound_of(responses(max_output_tokens=50, **fields), gpt(), 0))


def test_a_call_without_a_model_passes_where_no_hard_budget_needs_its_price() -> None:
    facts = facts_of(RESPONSES, {"prompt": {"id": "pmpt_1"}, "max_output_tokens": 50})
    assert facts.model == ""
    (candidate,) = is_a(Plan, RoutingTable.build(config()).plan(facts)).candidates
    sent = outgoing(facts, candidate, 0, None, (), "/v1/responses")
    assert sent.body == facts.body
    assert is_a(Unbounded, bound_of(facts, replace(candidate, hard=True), 0)).field == "model"
    named = replace(candidate, model="gpt-5-mini")
    assert orjson.loads(outgoing(facts, named, 0, None, (), "/v1/responses").body)["model"] == "gpt-5-mini"


def test_an_empty_model_is_refused_and_so_is_none_elsewhere() -> None:
    for endpoint, body in ((RESPONSES, b'{"model":""}'), (CHAT, b"{}")):
        assert is_a(Refusal, read_request(endpoint, (), body)).field == "model"


# what goes out


def test_a_cap_is_put_in_under_its_one_name_whoever_serves() -> None:
    for candidate in (gpt(hard=False), replace(gpt(hard=False), backend=LOCAL)):
        sent = outgoing(responses(), candidate, 77, None, (), "/v1/responses")
        assert orjson.loads(sent.body) == {"model": "gpt-5-mini", "input": "Hi", "max_output_tokens": 77}


def test_a_stream_needs_no_word_about_usage() -> None:
    facts = responses(stream=True, max_output_tokens=50)
    assert outgoing(facts, gpt(hard=False), 0, None, (), "/v1/responses").body == facts.body


# what comes back


@given(st.lists(st.integers(0, len(STREAM)), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_cut_of_a_stream_gives_the_same_bytes_and_usage(cuts: list[int], end: bytes) -> None:
    stream = STREAM.replace(b"\n", end)
    meter = meter_for(responses(stream=True), gpt())
    assert b"".join(meter.feed(piece) for piece in cut(stream, cuts)) + meter.finish() == stream
    assert meter.result(200, True) == Reading(COUNTED, True, "completed", MODEL, "", True)


def test_events_without_names_are_read_too() -> None:
    lines = STREAM.split(b"\n")
    assert read(b"\n".join(line for line in lines if not line.startswith(b"event:"))).usage == COUNTED


def test_a_stream_that_stops_at_the_cap_is_complete() -> None:
    last = response("incomplete", usage=USAGE, incomplete_details={"reason": "max_output_tokens"})
    reading = read(anthropic_events(*BEGUN, event("incomplete", response=last)))
    assert reading == Reading(COUNTED, True, "max_output_tokens", MODEL, "", True)


def test_a_failed_stream_tells_the_errors_code_only() -> None:
    last = response("failed", usage=None, error={"code": "server_error", "message": "secret prompt"})
    reading = read(anthropic_events(*BEGUN, event("failed", response=last)))
    assert reading == Reading(None, True, "failed", MODEL, "server_error", False)


@pytest.mark.parametrize(
    "last",
    [
        {"type": "error", "code": "rate_limit_exceeded", "message": "secret prompt"},
        {"error": {"type": "rate_limit_exceeded", "message": "secret prompt"}},
    ],
)
def test_an_error_event_ends_a_stream_that_is_not_complete(last: dict[str, object]) -> None:
    stream = anthropic_events(*BEGUN) + b"data: " + orjson.dumps(last) + b"\n\n"
    reading = read(stream)
    assert (reading.complete, reading.error, reading.usage) == (False, "rate_limit_exceeded", None)


def test_a_stream_without_its_end_is_not_complete() -> None:
    reading = read(anthropic_events(*BEGUN))
    assert (reading.complete, reading.usage, reading.response_model) == (False, None, MODEL)


def test_a_stored_response_that_is_streamed_again_is_complete_with_its_last_event_and_counts_nothing() -> None:
    def reading(stream: bytes) -> Reading:
        meter = meter_for(facts_of(STORED, b""), gpt(), streaming=True)
        assert meter.feed(stream) is stream
        assert meter.finish() == b""
        return meter.result(200, True)

    assert reading(STREAM) == Reading(None, True, "completed", MODEL)
    assert not reading(anthropic_events(*BEGUN)).complete


def test_a_plain_answer_is_read_at_its_end() -> None:
    reading = read(orjson.dumps(response(usage=USAGE)), stream=False)
    assert reading == Reading(COUNTED, True, "completed", MODEL, "", True)


def test_an_answer_that_runs_in_the_background_has_counted_nothing_yet() -> None:
    reading = read(orjson.dumps(response("queued", usage=None)), stream=False)
    assert (reading.usage, reading.final_usage) == (None, False)


def test_a_refused_call_has_no_usage() -> None:
    body = orjson.dumps({"error": {"type": "invalid_request_error", "message": "m", "param": None, "code": None}})
    assert read(body, stream=False, status=400) == Reading(None, True, error="invalid_request_error")
