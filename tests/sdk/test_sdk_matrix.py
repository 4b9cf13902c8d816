"""Every official SDK version, every refusal: as against the provider, so through the proxy.

First the table of what each version does when it talks to the provider itself; then the same programs through
the proxy, which must see the same, but for the few rows where the proxy is deliberately better or says more.
"""

from __future__ import annotations

import json

import pytest
from tests.sdk.environments import VERSIONS, Version
from tests.sdk.matrix import Matrix, Outcome
from tests.sdk.scenario import SCENARIOS

pytestmark = pytest.mark.sdk

ANTHROPIC_NEW, ANTHROPIC_OLD, OPENAI_NEW, OPENAI_OLD = VERSIONS
CASES = [
    pytest.param(version, scenario.name, id=f"{version.requirement} {scenario.name}")
    for version in VERSIONS
    for scenario in SCENARIOS[version.sdk]
]
Row = tuple[str, int | None, str | None, str | None, int]
"""Class of the exception (empty: none), status, type, code, requests that the SDK sent."""
FINE: Row = ("", None, None, None, 1)

ANTHROPIC: dict[str, Row] = {
    "plain 400": ("BadRequestError", 400, "invalid_request_error", None, 1),
    "plain 400-spend": ("BadRequestError", 400, "invalid_request_error", None, 1),
    "plain 401": ("AuthenticationError", 401, "authentication_error", None, 1),
    "plain 402": ("PaymentRequiredError", 402, "billing_error", None, 1),
    "plain 403": ("PermissionDeniedError", 403, "permission_error", None, 1),
    "plain 404": ("NotFoundError", 404, "not_found_error", None, 1),
    "plain 408": ("RequestTimeoutError", 408, "invalid_request_error", None, 3),
    "plain 409": ("ConflictError", 409, "conflict_error", None, 3),
    "plain 413": ("ContentTooLargeError", 413, "request_too_large", None, 1),
    "plain 422": ("UnprocessableEntityError", 422, "invalid_request_error", None, 1),
    "plain 429": ("RateLimitError", 429, "rate_limit_error", None, 3),
    "plain 429-spend": (
        "EnforcedSpendLimitReachedError", 429, "rate_limit_error", "enforced_spend_limit_reached", 1,
    ),
    "plain 500": ("InternalServerError", 500, "api_error", None, 3),
    "plain 503": ("ServiceUnavailableError", 503, "api_error", None, 3),
    "plain 504": ("GatewayTimeoutError", 504, "timeout_error", None, 3),
    "plain 529": ("OverloadedError", 529, "overloaded_error", None, 3),
    "stream 400": ("BadRequestError", 400, "invalid_request_error", None, 1),
    "stream 429": ("RateLimitError", 429, "rate_limit_error", None, 3),
    "stream 529": ("OverloadedError", 529, "overloaded_error", None, 3),
    "plain 400 told to retry": ("BadRequestError", 400, "invalid_request_error", None, 3),
    "plain 500 told not to retry": ("InternalServerError", 500, "api_error", None, 1),
    "batch": ("", None, None, None, 6),
    "batch 400": ("BadRequestError", 400, "invalid_request_error", None, 1),
    "batch 429": ("RateLimitError", 429, "rate_limit_error", None, 3),
    "batch 529": ("OverloadedError", 529, "overloaded_error", None, 3),
    "error event": ("APIStatusError", 200, "overloaded_error", None, 1),
    "cut stream": ("ReadError", None, None, None, 1),
    "reset": ("APIConnectionError", None, None, None, 3),
    "hang": ("APITimeoutError", None, None, None, 1),
}  # fmt: skip
OPENAI: dict[str, Row] = {
    "plain 400": ("BadRequestError", 400, "invalid_request_error", None, 1),
    "plain 400-spend": ("BadRequestError", 400, "invalid_request_error", None, 1),
    "plain 401": ("AuthenticationError", 401, "invalid_request_error", "invalid_api_key", 1),
    "plain 402": ("APIStatusError", 402, "billing_error", "billing_not_active", 1),
    "plain 403": ("PermissionDeniedError", 403, "permission_error", "model_not_allowed", 1),
    "plain 404": ("NotFoundError", 404, "invalid_request_error", "model_not_found", 1),
    "plain 408": ("APIStatusError", 408, "invalid_request_error", None, 3),
    "plain 409": ("ConflictError", 409, "conflict_error", None, 3),
    "plain 413": ("APIStatusError", 413, "invalid_request_error", "request_too_large", 1),
    "plain 422": ("UnprocessableEntityError", 422, "invalid_request_error", None, 1),
    "plain 429": ("RateLimitError", 429, "requests", "rate_limit_exceeded", 3),
    "plain 429-quota": ("RateLimitError", 429, "insufficient_quota", "insufficient_quota", 1),
    "plain 500": ("InternalServerError", 500, "server_error", None, 3),
    "plain 503": ("InternalServerError", 503, "server_error", None, 3),
    "plain 504": ("InternalServerError", 504, "server_error", None, 3),
    "plain 529": ("InternalServerError", 529, "server_error", None, 3),
    "stream 400": ("BadRequestError", 400, "invalid_request_error", None, 1),
    "stream 429": ("RateLimitError", 429, "requests", "rate_limit_exceeded", 3),
    "stream 529": ("InternalServerError", 529, "server_error", None, 3),
    "plain 400 told to retry": ("BadRequestError", 400, "invalid_request_error", None, 3),
    "plain 500 told not to retry": ("InternalServerError", 500, "server_error", None, 1),
    "response 400": ("BadRequestError", 400, "invalid_request_error", None, 1),
    "response 401": ("AuthenticationError", 401, "invalid_request_error", "invalid_api_key", 1),
    "response 429": ("RateLimitError", 429, "requests", "rate_limit_exceeded", 3),
    "response 500": ("InternalServerError", 500, "server_error", None, 3),
    "stored response": ("", None, None, None, 4),
    "error event": ("APIError", None, "server_error", None, 1),
    "response error event": ("APIError", None, "server_error", None, 1),
    "cut stream": ("APIConnectionError", None, None, None, 1),
    "response cut stream": ("APIConnectionError", None, None, None, 1),
    "response early end": ("RuntimeError", None, None, None, 1),
    "reset": ("APIConnectionError", None, None, None, 3),
    "hang": ("APITimeoutError", None, None, None, 1),
}
STRAIGHT: dict[Version, dict[str, Row]] = {
    ANTHROPIC_NEW: ANTHROPIC,
    ANTHROPIC_OLD: ANTHROPIC
    | {
        "plain 402": ("APIStatusError", 402, "billing_error", None, 1),
        "plain 408": ("APIStatusError", 408, "invalid_request_error", None, 3),
        "plain 413": ("RequestTooLargeError", 413, "request_too_large", None, 1),
        "plain 429-spend": ("RateLimitError", 429, "rate_limit_error", "enforced_spend_limit_reached", 1),
        "plain 503": ("InternalServerError", 503, "api_error", None, 3),
        "plain 504": ("InternalServerError", 504, "timeout_error", None, 3),
    },
    OPENAI_NEW: OPENAI,
    OPENAI_OLD: OPENAI | dict.fromkeys(("cut stream", "response cut stream"), ("ReadError", None, None, None, 1)),
}

TRUNCATED = "cut stream", "early end", "response cut stream", "response early end"
"""Straight, one is an exception of the HTTP library and the other looks like success. The proxy tells the application
in the API's own words, as an error event."""

BROKEN_OFF = {"anthropic": ["APIStatusError", 200, "api_error"], "openai": ["APIError", None, "server_error"]}


def row(outcome: Outcome) -> list[object]:
    return [outcome[name] for name in ("error", "status", "type", "code", "requests")]


@pytest.mark.parametrize(("version", "scenario"), CASES)
def test_the_sdk_straight_at_the_provider_does_what_the_table_says(
    straight: Matrix, version: Version, scenario: str
) -> None:
    outcome, reached = straight.outcomes(version)[scenario]
    assert row(outcome) == list(STRAIGHT[version].get(scenario, FINE))
    assert reached == outcome["requests"]


@pytest.mark.parametrize(("version", "scenario"), CASES)
def test_the_sdk_sees_the_same_through_the_proxy(
    straight: Matrix, proxied: Matrix, version: Version, scenario: str
) -> None:
    expected, sent = straight.outcomes(version)[scenario]
    outcome, reached = proxied.outcomes(version)[scenario]
    assert reached == sent, "the proxy's retries replace the SDK's, and do not multiply them"
    if scenario in TRUNCATED:
        wanted = (
            ["APIStatusError", 200, "api_error"] if version.sdk == "anthropic" else ["APIError", None, "server_error"]
        )
        assert row(outcome)[:3] == wanted
    elif scenario == "reset":
        wanted_class = "ServiceUnavailableError" if version == ANTHROPIC_NEW else "InternalServerError"
        kind = "api_error" if version.sdk == "anthropic" else "server_error"
        assert row(outcome) == [wanted_class, 503, kind, None, 1]
    else:
        assert row(outcome)[:4] == row(expected)[:4]
        assert outcome["seen"] == expected["seen"]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.requirement)
def test_no_request_reaches_the_provider_with_the_applications_key(proxied: Matrix, version: Version) -> None:
    received = proxied.requests(version)
    assert {record.key for record in received} == {version.sdk}
    assert "placeholder" not in json.dumps([record.headers for record in received])
