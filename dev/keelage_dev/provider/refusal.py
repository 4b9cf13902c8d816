"""Refusals in the shapes of both APIs: status, type, code and text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from keelage_dev.provider.exchange import Caller, Reply
from keelage_dev.provider.fault import Fault

__all__ = ["Dialect", "anthropic", "anthropic_error_event", "faulty", "openai", "openai_error_event"]

Dialect = str
"""`anthropic` or `openai`."""


@dataclass(frozen=True, slots=True)
class _Row:
    type: str
    message: str
    code: str | None = None


_ANTHROPIC: Mapping[tuple[int, str], _Row] = {
    (400, ""): _Row("invalid_request_error", "messages: at least one message is required"),
    (400, "spend"): _Row("invalid_request_error", "You have reached your specified API usage limits."),
    (401, ""): _Row("authentication_error", "invalid x-api-key"),
    (402, ""): _Row("billing_error", "Your credit balance is too low to access the Anthropic API."),
    (403, ""): _Row("permission_error", "Your API key does not have permission to use the specified resource."),
    (404, ""): _Row("not_found_error", "The requested resource could not be found."),
    (409, ""): _Row("conflict_error", "The resource was changed by another request."),
    (413, ""): _Row("request_too_large", "Request exceeds the maximum size"),
    (422, ""): _Row("invalid_request_error", "The request could not be processed."),
    (429, ""): _Row("rate_limit_error", "This request would exceed your organization's rate limit."),
    (429, "spend"): _Row("rate_limit_error", "Your spend limit is reached.", "enforced_spend_limit_reached"),
    (500, ""): _Row("api_error", "Internal server error"),
    (503, ""): _Row("api_error", "Service unavailable"),
    (504, ""): _Row("timeout_error", "The request timed out."),
    (529, ""): _Row("overloaded_error", "Overloaded"),
}
_OPENAI: Mapping[tuple[int, str], _Row] = {
    (400, ""): _Row("invalid_request_error", "Invalid request."),
    (401, ""): _Row("invalid_request_error", "Incorrect API key provided.", "invalid_api_key"),
    (402, ""): _Row("billing_error", "Payment required.", "billing_not_active"),
    (403, ""): _Row("permission_error", "You are not allowed to use this model.", "model_not_allowed"),
    (404, ""): _Row("invalid_request_error", "The model does not exist.", "model_not_found"),
    (409, ""): _Row("conflict_error", "The resource was changed by another request."),
    (413, ""): _Row("invalid_request_error", "Request too large.", "request_too_large"),
    (422, ""): _Row("invalid_request_error", "The request could not be processed."),
    (429, ""): _Row("requests", "Rate limit reached for requests.", "rate_limit_exceeded"),
    (429, "quota"): _Row("insufficient_quota", "You exceeded your current quota.", "insufficient_quota"),
    (500, ""): _Row("server_error", "The server had an error while processing your request."),
    (503, ""): _Row("server_error", "The engine is currently overloaded, please try again later."),
    (504, ""): _Row("server_error", "The request timed out."),
}


def anthropic(
    status: int, message: str, caller: Caller, *, kind: str = "", code: str | None = None, fault: Fault | None = None
) -> Reply:
    """`{"type": "error", "error": {type, message, details?}, "request_id"}`; `kind` defaults by status."""
    error: dict[str, object] = {"type": kind or _row(_ANTHROPIC, status, "").type, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    body = orjson.dumps({"type": "error", "error": error, "request_id": caller.request_id})
    return Reply(status, body, (("request-id", caller.request_id), *_retry_headers(fault)))


def openai(
    status: int,
    message: str,
    caller: Caller,
    *,
    kind: str = "",
    code: str | None = None,
    param: str | None = None,
    fault: Fault | None = None,
) -> Reply:
    """`{"error": {message, type, param, code}}`; `kind` defaults by status."""
    kind = kind or _row(_OPENAI, status, "").type
    body = orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})
    return Reply(status, body, (("x-request-id", caller.request_id), *_retry_headers(fault)))


def faulty(dialect: Dialect, caller: Caller, fault: Fault) -> Reply:
    """The refusal that `fault.status` asks for."""
    row = _row(_ANTHROPIC if dialect == "anthropic" else _OPENAI, fault.status, fault.variant)
    if dialect == "anthropic":
        return anthropic(fault.status, row.message, caller, kind=row.type, code=row.code, fault=fault)
    return openai(fault.status, row.message, caller, kind=row.type, code=row.code, fault=fault)


def anthropic_error_event() -> bytes:
    """What Anthropic sends when it breaks off after the 200."""
    return b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'


def openai_error_event() -> bytes:
    """What OpenAI sends when it breaks off after the 200; no `[DONE]` follows."""
    return (
        b'data: {"error":{"message":"The server had an error while processing your request.",'
        b'"type":"server_error","param":null,"code":null}}\n\n'
    )


def _row(rows: Mapping[tuple[int, str], _Row], status: int, variant: str) -> _Row:
    """The row for a status; one that has none gets the row of its class."""
    general = (400, "") if status < 500 else (500, "")
    return rows.get((status, variant)) or rows.get((status, "")) or rows[general]


def _retry_headers(fault: Fault | None) -> list[tuple[str, str]]:
    if fault is None:
        return []
    headers = []
    if fault.retry_after_s is not None:
        headers.append(("retry-after", f"{-(-fault.retry_after_s // 1):.0f}"))
        if fault.retry_after_s % 1:
            headers.append(("retry-after-ms", f"{fault.retry_after_s * 1000:.0f}"))
    if fault.should_retry:
        headers.append(("x-should-retry", fault.should_retry))
    return headers
