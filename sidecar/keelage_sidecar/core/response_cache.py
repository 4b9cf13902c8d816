"""Answers that were given, kept in memory within a bound; those that were used longest ago make room."""

from __future__ import annotations

import sys

import msgspec

from keelage_api.response_cache import CACHE_BYTES
from keelage_sidecar.core.neighbours import Neighbours, Vector

SHARE_MAX = 8
"""The part of the cache that one answer may take."""
_SLOT_BYTES = 160
"""Of an entry in the dictionary, at its emptiest."""
_DROPPED = frozenset(
    {
        b"date", b"age", b"set-cookie", b"set-cookie2", b"retry-after", b"retry-after-ms", b"x-should-retry",
        b"server-timing", b"alt-svc", b"cf-ray", b"openai-processing-ms", b"x-envoy-upstream-service-time",
    }
)  # fmt: skip
_KEPT = (
    b"x-keelage-tier", b"x-keelage-model", b"x-keelage-selected-by", b"x-keelage-dropped", b"x-keelage-history",
)  # fmt: skip
"""How it was made: as true of the answer when it is given again."""
_DROPPED_PREFIXES = (b"x-keelage-", b"x-ratelimit-", b"anthropic-ratelimit-")
"""What an answer's headers say about the call that it was given to, and not about the answer."""


class KeptAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer with status 200."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    kept_s: float
    """Monotonic, when its last byte had come."""
    cost: int
    """Pico-dollars that the provider billed for it."""
    model: str
    stop_reason: str

    @property
    def size(self) -> int:
        """Bytes of memory."""
        fields = sum(sys.getsizeof(field) + sum(map(sys.getsizeof, field)) for field in self.headers)
        return sys.getsizeof(self) + sys.getsizeof(self.headers) + fields + sys.getsizeof(self.body) + _SLOT_BYTES


class ResponseCache:
    """By the key of the call (`response_key.key_of`)."""

    def __init__(self, bytes_max: int = CACHE_BYTES) -> None:
        self._kept: dict[bytes, tuple[KeptAnswer, int]] = {}
        """With its size; the one that was used last comes last."""
        self.neighbours = Neighbours()
        """Of those that may be given to calls in other words."""
        self.bytes_max = bytes_max
        self._bytes = 0
        self.evicted = 0
        """To make room, ever."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of memory, all together."""
        return self._bytes + self.neighbours.bytes

    @property
    def body_max(self) -> int:
        """No answer with a longer body is kept."""
        return self.bytes_max // SHARE_MAX

    def find(self, key: bytes, now_s: float, age_max_s: float) -> KeptAnswer | None:
        """The answer, unless it is older than that: then it is forgotten."""
        found = self._kept.pop(key, None)
        if found is None:
            return None
        if now_s - found[0].kept_s > age_max_s:
            self._bytes -= found[1]
            self.neighbours.forget(key)
            return None
        self._kept[key] = found
        return found[0]

    def keep(self, key: bytes, answer: KeptAnswer) -> None:
        size = answer.size + sys.getsizeof(key)
        if size > self.body_max:
            return
        former = self._kept.pop(key, None)
        if former is not None:
            self._bytes -= former[1]
        self._kept[key] = answer, size
        self._bytes += size
        self._make_room()

    def place(self, key: bytes, partition: bytes, what: str | Vector) -> None:
        """What the question of a kept answer is compared by (`Neighbours.place`); nothing where it is not kept."""
        if key in self._kept:
            self.neighbours.place(partition, key, what)
            self._make_room()

    def resize(self, bytes_max: int) -> None:
        """Keep no more than that from now on."""
        self.bytes_max = bytes_max
        self._make_room()

    def _make_room(self) -> None:
        while self.size > self.bytes_max:
            oldest = next(iter(self._kept))
            self._bytes -= self._kept.pop(oldest)[1]
            self.neighbours.forget(oldest)
            self.evicted += 1


def kept_headers(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    """Those that are as true of the answer when it is given again. The provider's request id stays: it says which call
    made the answer."""
    return tuple(
        field
        for field in headers
        if field[0] in _KEPT or not (field[0] in _DROPPED or field[0].startswith(_DROPPED_PREFIXES))
    )
