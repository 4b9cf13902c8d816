"""Which answers a sidecar keeps of a rule's calls, for how long, and who may share them."""

from __future__ import annotations

import enum

import msgspec

CACHE_BYTES = 16 * 1024 * 1024
"""What a sidecar keeps unless a rule says otherwise: ten thousand answers of a kilobyte in a twelfth of its memory."""


class CacheScope(enum.StrEnum):
    """Whose calls one kept answer may serve."""

    WORKLOAD = "Workload"
    USER = "User"


class ResponseCache(msgspec.Struct, frozen=True):
    """Of one rule."""

    ttl_ms: int = 3_600_000
    """How old an answer may be."""
    stale_ms: int = 0
    """How much older, where the call would get none otherwise."""
    scope: CacheScope = CacheScope.WORKLOAD
    sampled: bool = False
    """Also calls whose answer would be another one the next time."""
    bytes_max: int = CACHE_BYTES
    """Of the sidecar's whole cache; of several rules the greatest counts."""
