"""Counts of the last so many seconds. Pure."""

from __future__ import annotations

import math
from collections import deque

SLOTS = 10
"""What is too old is forgotten a tenth of the window at a time."""


class Tally:
    """Calls, and how many of them were of a special kind."""

    __slots__ = ("_ends_s", "_last", "_marked", "_slot_s", "_slots", "_total")

    def __init__(self, window_s: float) -> None:
        self._slot_s = window_s / SLOTS
        self._slots: deque[list[int]] = deque()
        """[number of the slot, total, marked], oldest first."""
        self._last: list[int] = []
        """The newest of them, which counts until `_ends_s`."""
        self._ends_s = -math.inf
        self._total = 0
        self._marked = 0

    def add(self, now_s: float, total: int, marked: int) -> None:
        if now_s >= self._ends_s:
            self._turn(now_s)
            slot = int(now_s / self._slot_s)
            self._last = [slot, 0, 0]
            self._slots.append(self._last)
            self._ends_s = (slot + 1) * self._slot_s
        last = self._last
        last[1] += total
        last[2] += marked
        self._total += total
        self._marked += marked

    def read(self, now_s: float) -> tuple[int, int]:
        """(total, marked) of the window that ends now."""
        self._turn(now_s)
        return self._total, self._marked

    def clear(self) -> None:
        self._slots.clear()
        self._ends_s = -math.inf
        self._total = self._marked = 0

    def _turn(self, now_s: float) -> None:
        slot, slots = int(now_s / self._slot_s), self._slots
        while slots and slots[0][0] <= slot - SLOTS:
            _, total, marked = slots.popleft()
            self._total -= total
            self._marked -= marked
