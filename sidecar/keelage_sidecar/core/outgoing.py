"""What is sent upstream: the application's bytes, but for the few top-level fields and headers that must differ."""

from __future__ import annotations

from dataclasses import dataclass

from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate


@dataclass(frozen=True, slots=True)
class Outgoing:
    method: str
    target: str
    """Path with the backend's prefix, and query: the request line's second word."""
    headers: list[tuple[bytes, bytes]]
    """Complete, `host` and `content-length` included."""
    body: bytes


def outgoing(
    facts: Facts,
    candidate: Candidate,
    output_cap: int,
    secret: str | None,
    headers: Headers,
    path_query: str,
    method: str = "POST",
) -> Outgoing:
    """The request for that candidate; `secret` is the provider's key, None where the backend takes none."""
    raise AssertionError
