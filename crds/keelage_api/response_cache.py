"""Which answers a sidecar keeps of a rule's calls, for how long, and who may share them."""

from __future__ import annotations

import enum

import msgspec

CACHE_BYTES = 16 * 1024 * 1024
"""What a sidecar keeps unless a rule says otherwise: ten thousand answers of a kilobyte in a twelfth of its memory."""


class CacheScope(enum.StrEnum):
    """Whose calls one kept answer may serve."""

    WORKLOAD = "Workload"
    NAMESPACE = "Namespace"
    USER = "User"


class SharedCache(msgspec.Struct, frozen=True):
    """A server where sidecars share what they keep."""

    host: str
    port: int
    namespace: str
    """Begins the names of what is kept there."""
    encryption_key: str
    """`<secret>/<key>`, a file below the sidecar's credentials directory."""
    secure: bool = False
    """TLS."""
    database: int = 0
    username: str = ""
    password: str = ""
    """Like `encryption_key`; empty: none is needed."""
    authorities: tuple[str, ...] = ()
    """Like `BackendTLS.authorities`."""
    hostname: str = ""
    """Like `BackendTLS.hostname`."""
    timeout_ms: int = 50

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there."""
        return (self.encryption_key, *((self.password,) if self.password else ()), *self.authorities)


class Semantic(msgspec.Struct, frozen=True):
    """Answers are also given to calls that ask the same in other words."""

    backend: str
    """`Backend.name` of the embedder."""
    model: str
    dimensions: int = 0
    """Of a vector; 0: as many as the model has."""
    threshold: float = 0.92
    """The least cosine of two questions' vectors."""
    ttl_ms: int = 3_600_000
    """How old such an answer may be."""
    timeout_ms: int = 300
    """For the vectors."""


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
    shared: SharedCache | None = None
    """None: with nobody."""
    semantic: Semantic | None = None
    """None: only the very same call gets an answer."""
