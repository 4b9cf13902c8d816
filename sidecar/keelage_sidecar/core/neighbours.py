"""Questions whose answers are kept, by what they say word for word, with their vectors where those are known. Pure.

A question gets its vector when the next one comes that says the same: until then there is nothing to compare it with,
so nothing is paid for it.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable
from typing import TypeAlias

SIDE_BY_SIDE_MAX = 8
"""Ways to put one question of which the answers are kept; the oldest makes room."""
_SLOT_BYTES = 320
"""Of an entry in the dictionaries, with its two digests."""

Vector: TypeAlias = "array[float]"
"""Of length 1, in single precision."""


class Neighbours:
    """By the key of the call (`response_key.key_of`), in partitions (`alike.Asked.partition`)."""

    def __init__(self) -> None:
        self._partitions: dict[bytes, dict[bytes, str | Vector]] = {}
        """In each, by key: the question's text, then its vector."""
        self._where: dict[bytes, bytes] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._where)

    def unmeasured(self, partition: bytes) -> list[tuple[bytes, str]]:
        """Keys and texts of those that have no vector yet."""
        found = self._partitions.get(partition, {})
        return [(key, what) for key, what in found.items() if isinstance(what, str)]

    def has_any(self, partition: bytes) -> bool:
        return partition in self._partitions

    def place(self, partition: bytes, key: bytes, what: str | Vector) -> None:
        """`what`: its text, or its vector once that is known."""
        self.forget(key)
        others = self._partitions.setdefault(partition, {})
        if len(others) >= SIDE_BY_SIDE_MAX:
            self.forget(next(iter(others)))
        others[key] = what
        self._where[key] = partition
        self._partitions[partition] = others
        self.bytes += _size(what)

    def forget(self, key: bytes) -> None:
        partition = self._where.pop(key, None)
        if partition is None:
            return
        others = self._partitions[partition]
        self.bytes -= _size(others.pop(key))
        if not others:
            del self._partitions[partition]

    def near(self, partition: bytes, vector: Vector, threshold: float) -> list[tuple[float, bytes]]:
        """Similarity (cosine) and key of those that are at least so near, the nearest first."""
        found = [
            (cosine(vector, what), key)
            for key, what in self._partitions.get(partition, {}).items()
            if not isinstance(what, str) and len(what) == len(vector)
        ]
        return sorted((each for each in found if each[0] >= threshold), reverse=True)


def cosine(one: Vector, other: Vector) -> float:
    """Of two vectors of length 1, by the distance of their ends."""
    return 1.0 - math.dist(one, other) ** 2 / 2


def unit(numbers: Iterable[float]) -> Vector | None:
    """Made as long as 1; None for what has no direction."""
    raw = tuple(numbers)
    length = math.hypot(*raw)
    if not (math.isfinite(length) and length > 0):
        return None
    return array("f", [number / length for number in raw])


def _size(what: str | Vector) -> int:
    return sys.getsizeof(what) + _SLOT_BYTES
