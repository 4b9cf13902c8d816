"""Memory for answers that calls keep beside what they pass on, all calls of a sidecar together. Pure."""

from __future__ import annotations

HELD_BYTES_ALL = 16 * 1024 * 1024
"""A sixteenth of what a sidecar may take, or as many answers that are judged at the end as a busy pod has at a time:
four thousand of a thousand tokens."""


class HeldBytes:
    def __init__(self, bytes_max: int = HELD_BYTES_ALL) -> None:
        self.bytes = 0
        self._bytes_max = bytes_max

    def take(self, size: int) -> bool:
        """So many more are held; whether there is still room: whoever hears no holds no more than these."""
        self.bytes += size
        return self.bytes <= self._bytes_max

    def give_back(self, size: int) -> None:
        assert size <= self.bytes
        self.bytes -= size
