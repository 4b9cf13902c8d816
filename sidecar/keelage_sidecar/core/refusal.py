"""An expected "no" to a call, and its shape on the wire: what each official SDK turns into its right exception.

Statuses, types and codes are those that the providers use for the same condition, so that an
application's existing handlers fit. `x-should-retry: false` is obeyed by every official SDK
version tested, also those that otherwise sleep for the whole `retry-after`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import orjson

from keelage_api.proxy_config import Dialect

Headers = tuple[tuple[bytes, bytes], ...]
"""In the order received; names in lower case."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the application gets no answer from a provider.

    `reason` is a stable CamelCase token: metric label, log field and `x-keelage-reason`.
    `message` names object, field and remedy; never a key, never a prompt.
    """

    status: int
    """HTTP status in the Anthropic dialect; 529 becomes 503 for OpenAI clients."""
    reason: str
    message: str
    field: str = ""
    """JSON path of the request's field that is to blame; empty where none is."""
    retry_after_s: float | None = None
    should_retry: bool = False
    budget: str = ""
    """`<namespace>/<budget>` where a budget refused."""
    limit: str = ""
    """`Quota.name` where a rate limit refused."""


def quoted(value: object) -> str:
    """A value of the request in a message: short, and of lists and objects only the kind, as they nest at will."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value if not isinstance(value, str) else value[:80])


def render(refusal: Refusal, dialect: Dialect, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of the refusal; the headers lack only connection framing."""
    status = refusal.status
    if dialect is Dialect.OPENAI and status == 529:
        status = 503
    body = _body(refusal, dialect, request_id)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"request-id" if dialect is Dialect.ANTHROPIC else b"x-request-id", request_id.encode("latin-1", "replace")),
        (b"x-should-retry", b"true" if refusal.should_retry else b"false"),
        (b"x-keelage-reason", refusal.reason.encode()),
    ]
    if refusal.retry_after_s is not None:
        if refusal.retry_after_s < 1:
            headers.append((b"retry-after-ms", str(max(1, math.ceil(refusal.retry_after_s * 1000))).encode()))
        else:
            headers.append((b"retry-after", str(math.ceil(refusal.retry_after_s)).encode()))
    if refusal.budget:
        headers.append((b"x-keelage-budget", refusal.budget.encode()))
    if refusal.limit:
        headers.append((b"x-keelage-limit", refusal.limit.encode()))
    return status, headers, body


def stream_error(refusal: Refusal, dialect: Dialect, request_id: str = "") -> bytes:
    """The last event of a stream that cannot go on; the connection is aborted after it, without a clean end."""
    body = _body(refusal, dialect, request_id)
    if dialect is Dialect.ANTHROPIC:
        return b"event: error\ndata: " + body + b"\n\n"
    return b"data: " + body + b"\n\n"


def _body(refusal: Refusal, dialect: Dialect, request_id: str) -> bytes:
    if dialect is Dialect.ANTHROPIC:
        error: dict[str, object] = {"type": anthropic_type(refusal.status), "message": refusal.message}
        if refusal.budget and refusal.status == 429:
            error["details"] = {"error_code": SPEND_LIMIT}
        return orjson.dumps({"type": "error", "error": error, "request_id": request_id})
    kind, code = _openai_type(refusal)
    return orjson.dumps(
        {"error": {"message": refusal.message, "type": kind, "param": refusal.field or None, "code": code}}
    )


SPEND_LIMIT = "enforced_spend_limit_reached"
QUOTA = "insufficient_quota"
"""How each API's SDK knows that money is the reason."""
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def anthropic_type(status: int) -> str:
    """What Anthropic calls an error of that status."""
    return _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def _openai_type(refusal: Refusal) -> tuple[str, str | None]:
    if refusal.status == 429:
        if refusal.budget:
            return QUOTA, QUOTA
        return "rate_limit_error", "rate_limit_exceeded"
    if refusal.status >= 500:
        return "server_error", None
    if refusal.status == 404 and refusal.field == "model":
        return "invalid_request_error", "model_not_found"
    return "invalid_request_error", None
