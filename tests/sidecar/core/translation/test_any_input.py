"""Whatever comes, from applications or from providers, is translated or refused: nothing raises."""

from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sidecar.core.calls import chat, claude, gpt, messages
from tests.sidecar.core.streams import anthropic_events, openai_chunks
from tests.sidecar.core.translation.spoken import Json, claude_as, gpt_4o, interpreted

from keelage_sidecar.core.endpoints import CHAT, MESSAGES
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import read_request
from keelage_sidecar.core.translation.interpreter import Interpreter, interpret

WORDS = st.sampled_from(
    [
        *(
            "text",
            "image",
            "image_url",
            "document",
            "file",
            "tool_use",
            "tool_result",
            "thinking",
            "function",
            "custom",
        ),
        *("base64", "url", "content", "enabled", "adaptive", "json_schema", "auto", "any", "tool", "allowed_tools"),
        *("user", "assistant", "system", "tool", "developer", "data:image/png;base64,AA", "{}", "[", "", "x"),
    ]
)
NAMES = st.sampled_from(
    [
        *("type", "text", "content", "source", "data", "media_type", "url", "id", "name", "input", "input_schema"),
        *("tool_use_id", "tool_call_id", "tool_calls", "function", "arguments", "parameters", "image_url", "file"),
        *("file_data", "cache_control", "prompt_cache_breakpoint", "ttl", "budget_tokens", "format", "schema"),
        *("json_schema", "effort", "role", "citations", "properties", "anyOf", "items", "$defs", "index"),
        *("message", "delta", "usage", "choices", "finish_reason", "stop_reason", "partial_json", "content_block"),
        *("prompt_tokens", "input_tokens", "error", "refusal", "code", "details", "allowed_tools", "tools", "mode"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers(-1, 5000) | st.floats(allow_nan=False) | WORDS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5))
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5)
FIELDS = st.sampled_from(
    [
        *("system", "tools", "tool_choice", "functions", "function_call", "stop", "stop_sequences", "temperature"),
        *("thinking", "output_config", "response_format", "reasoning_effort", "metadata", "user", "service_tier"),
        *("n", "modalities", "parallel_tool_calls", "max_tokens", "top_p", "top_k", "speed", "inference_geo"),
    ]
)
TURNS = st.lists(
    st.builds(
        lambda role, content, more: {"role": role, "content": content, **more},
        st.sampled_from(["user", "assistant", "system", "tool", "developer", "function"]),
        WORDS | st.lists(OBJECTS, max_size=3) | VALUES,
        st.just({}) | st.builds(lambda calls: {"tool_calls": calls}, st.lists(OBJECTS, max_size=2)),
    ),
    max_size=4,
)
BODIES = st.builds(
    lambda turns, fields: {"model": "m", "max_tokens": 2000, **fields, "messages": turns},
    TURNS,
    st.dictionaries(FIELDS, VALUES | OBJECTS, max_size=4),
)


@settings(max_examples=150)
@given(BODIES, st.sampled_from(["claude-haiku-4-5", "claude-opus-5-5", "x"]))
def test_any_request_is_translated_or_refused_by_name(body: Json, model: str) -> None:
    raw = orjson.dumps(body)
    for endpoint, candidate in ((MESSAGES, gpt()), (MESSAGES, gpt_4o()), (CHAT, claude_as(model))):
        facts = read_request(endpoint, (), raw)
        if isinstance(facts, Refusal):
            continue
        found = interpret(facts, candidate, ())
        assert isinstance(found, Interpreter) or found.status == 400


@settings(max_examples=60)
@given(VALUES | OBJECTS, st.sampled_from([200, 400, 429, 529]))
def test_any_answer_is_told_or_a_502(answer: object, status: int) -> None:
    for spoken in (interpreted(chat(max_tokens=9), claude()), interpreted(messages(), gpt())):
        found, body = spoken.answer(status, orjson.dumps(answer), 0, "r1")
        assert found in (status, 502, 503)
        assert isinstance(orjson.loads(body), dict)


@settings(max_examples=60)
@given(st.lists(OBJECTS, max_size=6), st.sampled_from(["message_start", "content_block_start", "content_block_delta"]))
def test_any_event_is_told_or_left_out(events: list[Json], kind: str) -> None:
    to_chat = interpreted(chat(max_tokens=9, stream=True), claude()).stream(0, "r1")
    to_messages = interpreted(messages(stream=True), gpt()).stream(0, "r1")
    told = to_chat.feed(anthropic_events(*({**event, "type": kind} for event in events))) + to_chat.finish()
    assert told == b"" or told.endswith(b"\n\n")
    told = to_messages.feed(openai_chunks(*events)) + to_messages.finish()
    assert told == b"" or told.endswith(b"\n\n")
