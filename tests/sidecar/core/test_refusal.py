"""Refusals in the shape of each API."""

from __future__ import annotations

import orjson
import pytest

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.refusal import Refusal, render, stream_error

SPENT = Refusal(429, "BudgetExhausted", "budget shop/month is spent", retry_after_s=3600.2, budget="shop/month")


def test_a_spent_budget_is_anthropics_spend_limit() -> None:
    status, headers, body = render(SPENT, Dialect.ANTHROPIC, "req_1")
    assert status == 429
    assert headers == [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"request-id", b"req_1"),
        (b"x-should-retry", b"false"),
        (b"x-keelage-reason", b"BudgetExhausted"),
        (b"retry-after", b"3601"),
        (b"x-keelage-budget", b"shop/month"),
    ]
    assert orjson.loads(body) == {
        "type": "error",
        "error": {
            "type": "rate_limit_error",
            "message": "budget shop/month is spent",
            "details": {"error_code": "enforced_spend_limit_reached"},
        },
        "request_id": "req_1",
    }


def test_a_spent_budget_is_openais_insufficient_quota() -> None:
    status, headers, body = render(SPENT, Dialect.OPENAI, "req_1")
    assert (status, dict(headers)[b"x-request-id"], dict(headers)[b"x-should-retry"]) == (429, b"req_1", b"false")
    assert orjson.loads(body) == {
        "error": {
            "message": "budget shop/month is spent",
            "type": "insufficient_quota",
            "param": None,
            "code": "insufficient_quota",
        }
    }


@pytest.mark.parametrize(
    ("refusal", "anthropic", "openai"),
    [
        (Refusal(400, "R", "m", "n"), (400, "invalid_request_error"), (400, "invalid_request_error", None, "n")),
        (Refusal(404, "R", "m"), (404, "not_found_error"), (404, "invalid_request_error", None, None)),
        (
            Refusal(404, "R", "m", "model"),
            (404, "not_found_error"),
            (404, "invalid_request_error", "model_not_found", "model"),
        ),
        (Refusal(413, "R", "m"), (413, "request_too_large"), (413, "invalid_request_error", None, None)),
        (Refusal(429, "R", "m"), (429, "rate_limit_error"), (429, "rate_limit_error", "rate_limit_exceeded", None)),
        (Refusal(503, "R", "m"), (503, "api_error"), (503, "server_error", None, None)),
        (Refusal(504, "R", "m"), (504, "timeout_error"), (504, "server_error", None, None)),
        (Refusal(529, "R", "m"), (529, "overloaded_error"), (503, "server_error", None, None)),
    ],
)
def test_each_condition_has_the_types_of_each_dialect(
    refusal: Refusal, anthropic: tuple[int, str], openai: tuple[int, str, str | None, str | None]
) -> None:
    status, _, body = render(refusal, Dialect.ANTHROPIC, "r")
    assert (status, orjson.loads(body)["error"]["type"]) == anthropic
    status, _, body = render(refusal, Dialect.OPENAI, "r")
    error = orjson.loads(body)["error"]
    assert (status, error["type"], error["code"], error["param"]) == openai


def test_short_waits_are_told_in_milliseconds() -> None:
    headers = dict(render(Refusal(503, "Starting", "m", retry_after_s=0.5, should_retry=True), Dialect.OPENAI, "r")[1])
    assert (headers[b"retry-after-ms"], headers[b"x-should-retry"]) == (b"500", b"true")
    assert b"retry-after" not in headers


def test_a_stream_ends_with_an_error_event() -> None:
    cut = Refusal(504, "UpstreamTruncated", "the provider's stream ended early")
    event = stream_error(cut, Dialect.ANTHROPIC, "r")
    assert event.startswith(b"event: error\ndata: {")
    assert event.endswith(b"}\n\n")
    assert orjson.loads(event.partition(b"data: ")[2])["error"]["type"] == "timeout_error"
    event = stream_error(cut, Dialect.OPENAI)
    assert event.startswith(b'data: {"error":{')
    assert event.endswith(b"}\n\n")
