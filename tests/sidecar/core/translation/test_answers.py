"""Whole answers, their usage and their errors in the other API's words."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from tests.sidecar.core.calls import chat, claude, gpt, messages
from tests.sidecar.core.translation.spoken import Json, interpreted
from tests.sidecar.core.translation.upstream_answers import (
    CHAT_USAGE,
    CREATED_S,
    Call,
    Said,
    completion,
    message,
    read_completion,
    read_message,
)

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.translation.interpreter import Interpreter
from keelage_sidecar.core.translation.manner import Manner

SAID: Said = ["Let me see.", Call("weather", {"city": "Köln"})]


def to_chat(manner: Manner | None = None) -> Interpreter:
    spoken = interpreted(chat(max_tokens=9), claude())
    return spoken if manner is None else replace(spoken, manner=manner)


def to_messages() -> Interpreter:
    return interpreted(messages(), gpt())


def told(spoken: Interpreter, answer: object, status: int = 200) -> tuple[int, Json]:
    status, body = spoken.answer(status, orjson.dumps(answer), CREATED_S, "r1")
    return status, orjson.loads(body)


def test_a_message_becomes_a_completion() -> None:
    assert told(to_chat(), message(SAID, "tool_use")) == (
        200,
        {
            "id": "msg_1",
            "object": "chat.completion",
            "created": CREATED_S,
            "model": "claude-haiku-4-5",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "Let me see.",
                        "refusal": None,
                        "tool_calls": [
                            {
                                "id": "toolu_1",
                                "type": "function",
                                "function": {"name": "weather", "arguments": '{"city":"Köln"}'},
                            }
                        ],
                    },
                    "logprobs": None,
                    "finish_reason": "tool_calls",
                }
            ],
            "usage": CHAT_USAGE,
        },
    )


def test_a_completion_becomes_a_message() -> None:
    assert told(to_messages(), completion(SAID, "tool_calls")) == (
        200,
        {
            "id": "chatcmpl-1",
            "type": "message",
            "role": "assistant",
            "model": "gpt-4o",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"city": "Köln"}},
            ],
            "stop_reason": "tool_use",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 60,
                "cache_creation_input_tokens": 10,
                "cache_read_input_tokens": 30,
                "output_tokens": 20,
                "output_tokens_details": {"thinking_tokens": 5},
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 0},
                "service_tier": "standard",
            },
        },
    )


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_every_stop_reason_has_a_finish_reason_that_the_sdk_takes(stop: str, reason: str) -> None:
    _, body = to_chat().answer(200, orjson.dumps(message(["Hi"], stop)), CREATED_S, "r1")
    assert read_completion(body).choices[0].finish_reason == reason


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("eos", "end_turn"),
    ],
)
def test_every_finish_reason_has_a_stop_reason_that_the_sdk_takes(reason: str, stop: str) -> None:
    _, body = to_messages().answer(200, orjson.dumps(completion(["Hi"], reason)), CREATED_S, "r1")
    assert read_message(body).stop_reason == stop


def test_an_answer_with_a_call_ends_for_the_call_though_openai_says_stop_where_the_function_was_named() -> None:
    _, body = told(to_messages(), completion(SAID, "stop"))
    assert body["stop_reason"] == "tool_use"
    _, body = told(to_messages(), completion(SAID, "length"))
    assert body["stop_reason"] == "max_tokens"


def test_a_refusal_is_told_with_its_words() -> None:
    refused = completion([])
    refused["choices"] = [{"index": 0, "message": {"refusal": "No."}, "finish_reason": "stop"}]
    _, body = told(to_messages(), refused)
    assert (body["stop_reason"], body["content"]) == ("refusal", [{"type": "text", "text": "No."}])
    explained = {**message([], "refusal"), "stop_details": {"type": "refusal", "explanation": "Not that."}}
    _, raw = to_chat().answer(200, orjson.dumps(explained), CREATED_S, "r1")
    assert read_completion(raw).choices[0].message.refusal == "Not that."


def test_thinking_is_shown_only_where_it_was_asked_for() -> None:
    thought = {**message([]), "content": [{"type": "thinking", "thinking": "Hm", "signature": "x"}]}
    silent, shown = told(to_chat(), thought)[1], told(to_chat(Manner(reasoning=True)), thought)[1]
    assert "Hm" not in str(silent)
    assert "'reasoning_content': 'Hm'" in str(shown)
    spoken = completion(["Hi"])
    spoken["choices"] = [{"message": {"content": "Hi", "reasoning_content": "Hm"}, "finish_reason": "stop"}]
    assert told(to_messages(), spoken)[1]["content"] == [{"type": "text", "text": "Hi"}]


def test_a_call_that_was_cut_off_by_the_cap_has_no_arguments_and_one_that_is_no_json_is_no_answer() -> None:
    def cut(reason: str) -> Json:
        call = {"id": "c", "function": {"name": "weather", "arguments": '{"city": "Ro'}}
        return {**completion([]), "choices": [{"message": {"tool_calls": [call]}, "finish_reason": reason}]}

    assert told(to_messages(), cut("length"))[1]["content"] == [
        {"type": "tool_use", "id": "c", "name": "weather", "input": {}}
    ]
    assert told(to_messages(), cut("tool_calls"))[0] == 502


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"content":7,"choices":7}'])
def test_what_is_no_answer_is_a_502_in_the_applications_form(body: bytes) -> None:
    for spoken in (to_chat(), to_messages()):
        status, raw = spoken.answer(200, body, CREATED_S, "r1")
        assert status == 502
        assert "cannot be translated" in orjson.loads(raw)["error"]["message"]


def _error(kind: str, message: str = "why", code: str | None = None) -> Json:
    details = {} if code is None else {"details": {"error_code": code}}
    return {"type": "error", "error": {"type": kind, "message": message, **details}}


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, _error("invalid_request_error"), (400, "invalid_request_error", None)),
        (
            400,
            _error("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
            (400, "invalid_request_error", "context_length_exceeded"),
        ),
        (401, _error("authentication_error"), (401, "invalid_request_error", "invalid_api_key")),
        (403, _error("permission_error"), (403, "permission_error", "permission_denied")),
        (404, _error("not_found_error"), (404, "invalid_request_error", "model_not_found")),
        (413, _error("request_too_large"), (413, "invalid_request_error", "request_too_large")),
        (429, _error("rate_limit_error"), (429, "rate_limit_error", "rate_limit_exceeded")),
        (
            429,
            _error("rate_limit_error", code="enforced_spend_limit_reached"),
            (429, "insufficient_quota", "insufficient_quota"),
        ),
        (500, _error("api_error"), (500, "server_error", None)),
        (529, _error("overloaded_error"), (503, "server_error", None)),
        (502, "<html>", (502, "server_error", None)),
    ],
)
def test_anthropics_errors_are_told_as_openais(
    status: int, error: object, expected: tuple[int, str, str | None]
) -> None:
    found, body = told(to_chat(), error, status)
    said = body["error"]
    assert isinstance(said, dict)
    assert (found, said["type"], said["code"]) == expected
    assert said["message"]


@pytest.mark.parametrize(
    ("status", "code", "expected", "details"),
    [
        (400, None, "invalid_request_error", None),
        (401, "invalid_api_key", "authentication_error", None),
        (403, None, "permission_error", None),
        (404, "model_not_found", "not_found_error", None),
        (422, None, "invalid_request_error", None),
        (429, "rate_limit_exceeded", "rate_limit_error", None),
        (429, "insufficient_quota", "rate_limit_error", {"error_code": "enforced_spend_limit_reached"}),
        (500, None, "api_error", None),
        (503, 503, "api_error", None),
    ],
)
def test_openais_errors_are_told_as_anthropics(status: int, code: object, expected: str, details: object) -> None:
    found, body = told(to_messages(), {"error": {"message": "why", "type": "x", "param": None, "code": code}}, status)
    said = {"type": expected, "message": "why", **({"details": details} if details else {})}
    assert (found, body) == (status, {"type": "error", "error": said, "request_id": "r1"})


def test_the_application_decides_the_form() -> None:
    assert (to_chat().dialect, to_messages().dialect) == (Dialect.OPENAI, Dialect.ANTHROPIC)
