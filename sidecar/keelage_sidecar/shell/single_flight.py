"""Callers that ask for the same at the same time: one asks, the others wait for what it gets."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_Found = TypeVar("_Found")


class _Left(enum.Enum):
    """Whoever asked has gone before it was clear what comes of it."""

    LEFT = enum.auto()


class Flight(Generic[_Found]):
    """Of the one that asks."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: _Found | _Left | None = _Left.LEFT

    def land(self, found: _Found | None) -> None:
        """With something for all who wait, or with nothing: then each asks for itself. Unsaid, the next one asks and
        the others wait on."""
        self.result = found


class SingleFlights(Generic[_Found]):
    """By what is asked for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._flying: dict[bytes, asyncio.Future[_Found | _Left | None]] = {}

    async def hear(self, key: bytes, until_s: float) -> _Found | None:
        """What another one gets; None where nobody asks, or in vain, or it takes longer: then ask.

        Between None and `lead` the caller must not wait for anything, so that only one comes to ask.
        """
        while (flying := self._flying.get(key)) is not None:
            done, _ = await asyncio.wait((flying,), timeout=max(0.0, until_s - self._clock()))
            if not done:
                return None
            found = flying.result()
            if not isinstance(found, _Left):
                return found
        return None

    @contextmanager
    def lead(self, key: bytes) -> Iterator[Flight[_Found]]:
        """For as long as the caller asks. Where another one asks already, nobody waits for this one."""
        flight = Flight[_Found]()
        if key in self._flying:
            yield flight
            return
        self._flying[key] = asyncio.get_running_loop().create_future()
        try:
            yield flight
        finally:
            self._flying.pop(key).set_result(flight.result)
