"""One request and what is answered to it, as values; sockets are elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from keelage_dev.provider.fault import NONE, Fault

__all__ = ["JSON", "JSONL", "SSE", "Caller", "Charge", "Event", "Reply", "Request"]

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
JSONL = "application/x-jsonl"


@dataclass(frozen=True, slots=True)
class Request:
    """As read from the wire; header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    too_large: bool = False
    keep_alive: bool = True


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the name of the key, and the request's id."""

    key: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Charge:
    """An amount for the bill."""

    key: str
    model: str
    usd: Decimal
    new_call: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """One SSE event, and how many output tokens were generated for it."""

    data: bytes
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send. With `events` it is a stream, and `charge` is what its start costs."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = JSON
    events: tuple[Event, ...] | None = None
    charges: tuple[Charge, ...] = ()
    """Due when the reply starts."""
    token_usd: Decimal = Decimal(0)
    """What each output token of an event costs."""
    error_event: bytes = b""
    """The event that reports an error in mid-stream."""
    fault: Fault = field(default=NONE)
