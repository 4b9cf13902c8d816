"""An upstream's error in the shape of the other API; status and text stay, but for 529, which OpenAI does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.refusal import QUOTA, SPEND_LIMIT, anthropic_type
from keelage_sidecar.core.translation.json_read import object_of, parsed, text_of

_TOO_LONG = ("prompt is too long", "exceed context limit", "context window")

_OPENAI_TYPES = {
    "authentication_error": ("invalid_request_error", "invalid_api_key"),
    "permission_error": ("permission_error", "permission_denied"),
    "not_found_error": ("invalid_request_error", "model_not_found"),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "billing_error": ("billing_error", "billing_not_active"),
    "conflict_error": ("conflict_error", None),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "overloaded_error": ("server_error", None),
    "timeout_error": ("server_error", None),
    "api_error": ("server_error", None),
}
_STREAMED = {
    "rate_limit_exceeded": "rate_limit_error",
    "rate_limit_error": "rate_limit_error",
    "invalid_request_error": "invalid_request_error",
    QUOTA: "rate_limit_error",
}


@dataclass(frozen=True, slots=True)
class _Said:
    type: str
    code: str
    message: str
    param: str | None


def status_for(status: int, dialect: Dialect) -> int:
    """The status that an application of that dialect knows."""
    return 503 if status == 529 and dialect is Dialect.OPENAI else status


def error_answer(body: bytes, status: int, dialect: Dialect, request_id: str) -> bytes:
    """The body of an answer with that status, for an application of that dialect."""
    said = _said(parsed(body), f"the provider answered with status {status} and no error in its API's form")
    if dialect is Dialect.OPENAI:
        return _openai(said, status)
    kind = anthropic_type(status)
    return _anthropic(said, kind, request_id)


def error_event(answer: Mapping[str, object], dialect: Dialect, request_id: str) -> bytes:
    """The last event of a stream in which `answer` was the upstream's error, in the form of that dialect."""
    said = _said(answer, "the provider broke the stream off")
    if dialect is Dialect.OPENAI:
        return b"data: " + _openai(said, 0) + b"\n\n"
    kind = _STREAMED.get(said.type) or _STREAMED.get(said.code, "api_error")
    return b"event: error\ndata: " + _anthropic(said, kind, request_id) + b"\n\n"


def broken_answer(dialect: Dialect, request_id: str, what: str) -> bytes:
    """The body of a 502: what came was no answer that could be told in the other API."""
    said = _Said("api_error", "", f"the provider's answer cannot be translated: {what}", None)
    return _openai(said, 502) if dialect is Dialect.OPENAI else _anthropic(said, "api_error", request_id)


def _said(answer: Mapping[str, object], otherwise: str) -> _Said:
    error = object_of(answer, "error")
    code = text_of(error, "code") or text_of(object_of(error, "details"), "error_code")
    param = error.get("param")
    message = text_of(error, "message") or text_of(answer, "message") or otherwise
    return _Said(text_of(error, "type"), code, message, param if isinstance(param, str) else None)


def _anthropic(said: _Said, kind: str, request_id: str) -> bytes:
    error: dict[str, object] = {"type": kind, "message": said.message}
    if QUOTA in (said.code, said.type):
        error["details"] = {"error_code": SPEND_LIMIT}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})


def _openai(said: _Said, status: int) -> bytes:
    kind, code = _OPENAI_TYPES.get(said.type or anthropic_type(status), ("invalid_request_error", None))
    if said.code == SPEND_LIMIT:
        kind = code = QUOTA
    elif kind == "invalid_request_error" and any(words in said.message for words in _TOO_LONG):
        code = "context_length_exceeded"
    return orjson.dumps({"error": {"message": said.message, "type": kind, "param": said.param, "code": code}})
