"""The way of a last refusal, on a connection that reads on for a while before it closes."""

from __future__ import annotations

from collections.abc import Callable


class Lingering:
    """A `call.Wire` that leaves closing to its connection."""

    closed = False
    draining = False
    full = False
    local = False

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def write(self, data: bytes, /) -> None:
        self._write(data)

    async def writable(self) -> None:
        """A refusal is small: it never waits."""

    def close(self) -> None:
        """Later, by the connection's deadline."""
