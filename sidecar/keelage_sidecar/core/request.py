"""A call as received to the facts that every later step decides on; the body is parsed once, here."""

from __future__ import annotations

from dataclasses import dataclass

from keelage_sidecar.core.endpoints import Endpoint
from keelage_sidecar.core.refusal import Headers, Refusal

__all__ = ["Facts", "Headers", "read_request"]


@dataclass(frozen=True, slots=True)
class Facts:
    endpoint: Endpoint
    model: str
    """As asked for; empty for endpoints without one."""
    stream: bool
    max_output: int
    """Cap on output tokens that the request names; 0 where it names none (see `capped`)."""
    user: str
    feature: str
    body: bytes
    """As received; the spans of top-level members index into it."""
    parsed: dict[str, object]
    """The body; empty for endpoints whose body is not read."""
    patience_s: float | None
    """How long the application will wait, as its SDK says; None where it does not."""
    retry_count: int
    """The SDK's own retries before this request."""
    asked_usage: bool
    """The application wants usage in the stream itself, so the chunk is not to be stripped."""
    capped: bool = False
    """The request names a cap, which may be 0 (a call that only warms the prompt cache)."""


def read_request(
    endpoint: Endpoint, headers: Headers, body: bytes, default_user: str = "", default_feature: str = ""
) -> Facts | Refusal:
    """Facts, or a 400 that names the field; any bytes yield one of the two.

    User: `x-keelage-user`, else the body's own field, else the default (the pod's label).
    """
    raise AssertionError
