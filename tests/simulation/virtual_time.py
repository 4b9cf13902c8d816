"""An event loop whose clock jumps to the next timer: what takes a minute takes no time, and always the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")

TURNS_MAX = 1_000_000
"""More is a loop that never ends."""


class _Jump(selectors.SelectSelector):
    """Waits for nothing: moves the clock on instead."""

    now = 0.0
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        assert self.turns < TURNS_MAX, "the loop does not come to an end"
        assert timeout is not None, "everybody waits and no timer runs"
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jump = _Jump()
        super().__init__(self.jump)

    def time(self) -> float:
        return self.jump.now


def run(main: Coroutine[object, object, T]) -> T:
    """As asyncio.run, on virtual time that begins at 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
