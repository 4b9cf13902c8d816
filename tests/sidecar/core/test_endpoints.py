"""Which paths are known, which are refused, and in whose shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import is_a

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core import endpoints
from keelage_sidecar.core.endpoints import Endpoint, dialect_of, endpoint_of
from keelage_sidecar.core.refusal import Headers, Refusal

FROM_ANTHROPIC: Headers = ((b"anthropic-version", b"2026-10-21"), (b"authorization", b"Bearer x"))


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("POST", "/v1/messages", (), endpoints.MESSAGES),
        ("POST", "/v1/messages?beta=true", (), endpoints.MESSAGES),
        ("POST", "/v1/messages/", (), endpoints.MESSAGES),
        ("POST", "/v1/messages/count_tokens", (), endpoints.COUNT_TOKENS),
        ("POST", "/v1/messages/batches", (), endpoints.NEW_BATCH),
        ("POST", "/v1/messages/batches?beta=true", (), endpoints.NEW_BATCH),
        ("GET", "/v1/messages/batches", (), endpoints.ANTHROPIC_BATCHES),
        ("GET", "/v1/messages/batches/b_1/results", (), endpoints.ANTHROPIC_BATCHES),
        ("POST", "/v1/messages/batches/b_1/cancel", (), endpoints.ANTHROPIC_BATCHES),
        ("GET", "/v1/models", FROM_ANTHROPIC, endpoints.ANTHROPIC_MODELS),
        ("GET", "/v1/models?limit=5", ((b"x-api-key", b"x"),), endpoints.ANTHROPIC_MODELS),
        ("GET", "/v1/models", ((b"authorization", b"Bearer x"),), endpoints.OPENAI_MODELS),
        ("GET", "/v1/models/meta%2Fllama", (), endpoints.OPENAI_MODELS),
        ("POST", "/v1/chat/completions", (), endpoints.CHAT),
        ("POST", "/v1/embeddings", (), endpoints.EMBEDDINGS),
        ("POST", "/v1/responses", (), endpoints.RESPONSES),
        ("POST", "/v1/responses/input_tokens", (), endpoints.INPUT_TOKENS),
        ("GET", "/v1/responses/resp_1?stream=true", (), endpoints.STORED),
        ("DELETE", "/v1/responses/resp_1", (), endpoints.STORED),
        ("GET", "/v1/chat/completions?limit=2", (), endpoints.STORED),
        ("POST", "/v1/chat/completions/chatcmpl_1", (), endpoints.STORED),
        ("GET", "/v1/chat/completions/chatcmpl_1/messages", (), endpoints.STORED),
        ("POST", "/v1/responses/resp_1/cancel", (), endpoints.STORED),
        ("GET", "/v1/responses/resp_1/input_items", (), endpoints.STORED),
        ("GET", "/v1/batches", (), endpoints.OPENAI_BATCHES),
        ("POST", "/v1/batches/b_1/cancel", (), endpoints.OPENAI_BATCHES),
    ],
)
def test_served_paths_are_known(method: str, path: str, headers: Headers, expected: Endpoint) -> None:
    assert endpoint_of(method, path, headers) == expected


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("POST", "/v1/batches", 400, "EndpointNotMetered"),
        ("POST", "/v1/batches/b_1/retry", 400, "EndpointNotMetered"),
        ("POST", "/v1/messages/batches/b_1", 400, "EndpointNotMetered"),
        ("POST", "/v1/responses/compact", 400, "EndpointNotMetered"),
        ("POST", "/v1/responses/resp_1/new_verb", 400, "EndpointNotMetered"),
        ("POST", "/v1/responses/resp_1", 405, "MethodNotAllowed"),
        ("POST", "/v1/chat/completions/chatcmpl_1/messages", 405, "MethodNotAllowed"),
        ("POST", "/v1/chat/completions/chatcmpl_1/new_verb", 400, "EndpointNotMetered"),
        ("DELETE", "/v1/chat/completions", 405, "MethodNotAllowed"),
        ("GET", "/v1/responses", 405, "MethodNotAllowed"),
        ("POST", "/v1/completions", 400, "EndpointNotMetered"),
        ("POST", "/v1/complete", 400, "EndpointNotMetered"),
        ("POST", "/v1/files", 400, "EndpointNotMetered"),
        ("POST", "/v1/audio/speech", 400, "EndpointNotMetered"),
        ("POST", "/v1/images/generations", 400, "EndpointNotMetered"),
        ("POST", "/v1/agents", 400, "EndpointNotMetered"),
        ("GET", "/v1/organizations/usage", 400, "EndpointNotMetered"),
        ("GET", "/v1/messages", 405, "MethodNotAllowed"),
        ("DELETE", "/v1/models/x", 405, "MethodNotAllowed"),
        ("GET", "/", 404, "UnknownEndpoint"),
        ("GET", "/v2/messages", 404, "UnknownEndpoint"),
        ("POST", "/v1/models/../messages", 404, "UnknownEndpoint"),
        ("GET", "/v1/models/..%2Fresponses", 404, "UnknownEndpoint"),
        ("POST", "/v1//messages", 404, "UnknownEndpoint"),
        ("POST", "/v1/%6dessages", 404, "UnknownEndpoint"),
        ("GET", "/v1/batches/../responses", 404, "UnknownEndpoint"),
        ("TRACE", "/v1/messages/batches/b", 405, "MethodNotAllowed"),
        ("PUT", "/v1/messages/batches", 405, "MethodNotAllowed"),
        ("PATCH", "/v1/batches/b", 405, "MethodNotAllowed"),
    ],
)
def test_other_paths_are_refused_with_a_reason(method: str, path: str, status: int, reason: str) -> None:
    refusal = is_a(Refusal, endpoint_of(method, path))
    assert (refusal.status, refusal.reason) == (status, reason)


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/v1/messages"])
def test_a_path_that_is_not_known_is_refused_with_what_to_look_at(path: str) -> None:
    assert "the SDK's base_url" in is_a(Refusal, endpoint_of("POST", path)).message


def test_a_batch_of_a_file_is_refused_with_the_reason_and_the_way_out() -> None:
    refusal = is_a(Refusal, endpoint_of("POST", "/v1/batches"))
    assert refusal.field == "input_file_id"
    assert "from a file" in refusal.message
    assert "POST /v1/messages/batches" in refusal.message


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/v1/messages/nonsense", (), Dialect.ANTHROPIC),
        ("/v1/responses", FROM_ANTHROPIC, Dialect.OPENAI),
        ("/v1/nonsense", FROM_ANTHROPIC, Dialect.ANTHROPIC),
        ("/v1/nonsense", (), Dialect.OPENAI),
        ("/", (), Dialect.OPENAI),
    ],
)
def test_errors_take_the_shape_of_the_callers_dialect(path: str, headers: Headers, expected: Dialect) -> None:
    assert dialect_of(path, headers) is expected


@given(st.sampled_from(["GET", "POST", "DELETE", "PUT"]), st.text(max_size=60))
def test_any_path_is_an_endpoint_or_a_refusal(method: str, path: str) -> None:
    assert isinstance(endpoint_of(method, path), Endpoint | Refusal)
    assert isinstance(endpoint_of(method, "/v1/" + path), Endpoint | Refusal)
