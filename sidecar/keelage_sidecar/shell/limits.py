"""Bounds on what the sidecar's server takes; each is far above what a well-behaved application asks."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """What one application may ask of the server."""

    head_bytes: int = 64 * 1024
    """nginx takes 32 KiB, Node 16: tokens and tracing baggage fit."""
    head_fields: int = 256
    body_bytes: int = 32 * 1024 * 1024
    """What the Messages API takes."""
    bodies_bytes: int = 64 * 1024 * 1024
    """Held at any time, for requests that arrive or are being answered: two of the largest. One that is being read
    and sent takes up to four times its size for a moment; the container has 256 MiB."""
    connections: int = 2048
    pipelined: int = 16
    head_s: float = 30.0
    body_s: float = 120.0
    idle_s: float = 360.0
    """Longer than any SDK keeps a connection, so that it is the client who closes: no race."""
    stalled_s: float = 300.0
    """How long the application may read nothing of a reply that waits for it."""
    discard_s: float = 5.0
    """How long the rest of a refused body is read, so that the refusal is not lost in a reset."""
