"""Bodies and headers to facts."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sidecar.core.calls import facts_of, is_a

from keelage_sidecar.core.endpoints import CHAT, COUNT_TOKENS, EMBEDDINGS, MESSAGES, OPENAI_MODELS, RESPONSES, Endpoint
from keelage_sidecar.core.refusal import Headers, Refusal
from keelage_sidecar.core.request import Facts, Workload, read_request
from keelage_sidecar.core.weight import Weight

ENDPOINTS = st.sampled_from([MESSAGES, CHAT, RESPONSES, EMBEDDINGS, COUNT_TOKENS, OPENAI_MODELS])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["model", "messages", "content", "type", "source", "tools", "max_tokens", "stream", "stream_options", "n",
             "metadata", "user", "image_url", "file", "prediction", "cache_control", "ttl", "input", "thinking"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(ENDPOINTS, st.binary(max_size=200))
def test_any_bytes_are_facts_or_a_refusal(endpoint: Endpoint, body: bytes) -> None:
    assert isinstance(read_request(endpoint, (), body), Facts | Refusal)


@given(ENDPOINTS, JSON, st.binary(max_size=20))
def test_any_json_is_facts_or_a_refusal(endpoint: Endpoint, value: object, header: bytes) -> None:
    headers: Headers = (
        (b"x-keelage-user", header), (b"x-stainless-timeout", header), (b"x-stainless-retry-count", header),
        (b"anthropic-beta", header),
    )  # fmt: skip
    extended = {"model": "m", **value} if isinstance(value, dict) else value
    read = read_request(endpoint, headers, json.dumps(extended).encode())
    assert isinstance(read, Facts | Refusal)


def test_a_messages_call_is_read() -> None:
    body = {
        "model": "claude-haiku-4-5",
        "max_tokens": 1024,
        "stream": True,
        "metadata": {"user_id": "alice"},
        "messages": [],
    }
    headers: Headers = (
        (b"x-stainless-read-timeout", b"600"),
        (b"x-stainless-timeout", b"NOT_GIVEN"),
        (b"x-stainless-retry-count", b"2"),
        (b"x-keelage-feature", b"triage"),
    )
    read = facts_of(MESSAGES, body, headers)
    assert replace(read, weight=Weight()) == Facts(
        MESSAGES, "claude-haiku-4-5", True, 1024, "alice", "triage", orjson.dumps(body),
        {"model": "claude-haiku-4-5", "max_tokens": 1024, "stream": True}, 600.0, 2, True,
        capped=True, weight=Weight(), headers=headers,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "body", "headers", "expected"),
    [
        (CHAT, {"user": "u", "safety_identifier": "s"}, ((b"x-keelage-user", b"h"),), "h"),
        (CHAT, {"user": "u", "safety_identifier": "s"}, (), "s"),
        (CHAT, {"user": "u"}, (), "u"),
        (CHAT, {"user": 7}, (), "label"),
        (MESSAGES, {"metadata": {"user_id": " m\n "}}, (), "m"),
        (MESSAGES, {"user": "u"}, (), "label"),
    ],
)
def test_the_user_is_found_in_order(
    endpoint: Endpoint, body: dict[str, object], headers: Headers, expected: str
) -> None:
    pod = Workload("label", "pod-feature")
    read = is_a(Facts, read_request(endpoint, headers, orjson.dumps({"model": "m", **body}), pod))
    assert (read.user, read.feature) == (expected, "pod-feature")


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, False),
        ({"stream_options": None}, False),
        ({"stream_options": {"include_usage": False}}, False),
        ({"stream_options": {"include_usage": True}}, True),
        ({"stream_options": "nonsense"}, True),
    ],
)
def test_usage_is_asked_for_only_by_the_option(options: dict[str, object], asked: bool) -> None:
    assert facts_of(CHAT, {"model": "m", "stream": True, **options}).asked_usage is asked


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", ""),
        (b"[1]", ""),
        (b"{", ""),
        (b"\xff{}", ""),
        (b"{}", "model"),
        (b'{"model":7}', "model"),
        (b'{"model":"m","model":"n"}', ""),
        (b'{"model":"m","max_tokens":1,"max_tokens":9}', ""),
        (b'{"model":"m","stream":"yes"}', "stream"),
        (b'{"model":"m","max_tokens":true}', "max_tokens"),
        (b'{"model":"m","max_tokens":-1}', "max_tokens"),
        (b'{"model":"m","max_tokens":1e9}', "max_tokens"),
        (b'{"model":"m","max_tokens":99999999999999999999999}', "max_tokens"),
        (b'{"model":"m","Model":"dearer"}', "Model"),
        (b'{"model":"m","MAX_TOKENS":9}', "MAX_TOKENS"),
        ('{"model":"m","tool\u017f":[]}'.encode(), "tool\u017f"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_field(body: bytes, field: str) -> None:
    refusal = is_a(Refusal, read_request(MESSAGES, (), body))
    assert (refusal.status, refusal.reason, refusal.field) == (400, "BadRequest", field)


def test_a_compressed_body_is_refused() -> None:
    refusal = is_a(Refusal, read_request(CHAT, ((b"content-encoding", b"gzip"),), b"\x1f\x8b"))
    assert refusal.field == "content-encoding"


@pytest.mark.parametrize(
    "headers",
    [
        ((b"content-encoding", b"gzip"), (b"content-encoding", b"identity")),
        ((b"content-type", b"application/json; charset=utf-7"),),
        ((b"content-type", b'application/json; Charset = "UTF-16"'),),
        ((b"content-type", b"application/x-www-form-urlencoded"),),
        ((b"content-type", b"application/json"), (b"content-type", b"multipart/form-data; boundary=x")),
    ],
)
def test_a_body_that_the_provider_may_read_otherwise_is_refused(headers: Headers) -> None:
    refusal = is_a(Refusal, read_request(CHAT, headers, b'{"model":"m"}'))
    assert refusal.field == headers[0][0].decode()


@pytest.mark.parametrize("kind", [b"application/json", b"application/json; charset=UTF-8", b"text/plain", b""])
def test_any_content_type_of_json_in_utf8_is_read(kind: bytes) -> None:
    assert isinstance(read_request(CHAT, ((b"content-type", kind),), b'{"model":"m"}'), Facts)


def test_fields_that_nobody_reads_may_be_written_in_capitals() -> None:
    assert isinstance(read_request(CHAT, (), b'{"model":"m","chatTemplate":{"Model":1}}'), Facts)


def test_a_zero_cap_of_a_chat_is_refused_since_some_servers_take_it_for_none() -> None:
    refusal = is_a(Refusal, read_request(CHAT, (), b'{"model":"m","max_tokens":0}'))
    assert refusal.field == "max_tokens"


def test_a_zero_cap_is_a_cap() -> None:
    read = facts_of(MESSAGES, {"model": "m", "max_tokens": 0})
    assert (read.max_output, read.capped) == (0, True)


def test_the_larger_of_two_caps_counts() -> None:
    assert facts_of(CHAT, {"model": "m", "max_tokens": 5, "max_completion_tokens": 9}).max_output == 9


@pytest.mark.parametrize(
    ("beta", "widens"),
    [(b"context-1m-2025-08-07", True), (b"a, context-1m-2025-08-07", True), (b"context-management-2025-06-27", False)],
)
def test_a_wider_context_is_noticed(beta: bytes, widens: bool) -> None:
    assert facts_of(MESSAGES, {"model": "m"}, ((b"anthropic-beta", beta),)).long_context is widens


def test_bodies_without_a_model_are_not_read() -> None:
    assert is_a(Facts, read_request(OPENAI_MODELS, (), b"\x00")).parsed == {}


@pytest.mark.parametrize("bomb", [b"[]," * 600_000, b'{"a":{}},' * 300_000, b"1," * 600_000, b'"",' * 600_000])
def test_a_body_of_countless_values_is_refused_before_it_is_parsed(bomb: bytes) -> None:
    refusal = is_a(Refusal, read_request(MESSAGES, (), b'{"model":"m","messages":[' + bomb + b"0]}"))
    assert (refusal.status, refusal.reason) == (413, "RequestTooLarge")


def test_marks_within_strings_are_no_values() -> None:
    text = orjson.dumps({"model": "m", "system": '{"a": [1, 2]}, "\\",' * 200_000})
    assert isinstance(read_request(MESSAGES, (), text), Facts)


def test_what_was_weighed_is_not_kept() -> None:
    body: dict[str, object] = {
        "model": "m",
        "messages": ["x"],
        "input": ["x"],
        "system": "x",
        "tools": [{}],
        "metadata": {"a": "x"},
    }
    assert facts_of(MESSAGES, body).parsed == {"model": "m"}
