"""What routes have saved: counted where a decision saved it, told to the operator for the route's status. Pure.

What was told is told again, unchanged and under the same number, until it was heard; what comes meanwhile waits for
the next telling. So nothing is lost but with the sidecar, and nothing is added up twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from keelage_api.sync import SavedBy, Saving


class Saved(msgspec.Struct, gc=False):
    """Sums of one route and kind."""

    amount: int = 0
    """Pico-dollars; negative where it cost more than it saved."""
    tries: int = 0
    hits: int = 0

    def add(self, amount: int, tries: int, hits: int) -> None:
        self.amount += amount
        self.tries += tries
        self.hits += hits


class Savings:
    """By route and kind; there are as many as the configuration has routes."""

    def __init__(self) -> None:
        self._total: dict[tuple[str, SavedBy], Saved] = {}
        self._untold: dict[tuple[str, SavedBy], Saved] = {}
        self._telling: tuple[Saving, ...] = ()
        self._seq = 0

    def count(self, route: str, by: SavedBy, amount: int, *, tries: int = 1, hits: int = 0) -> None:
        """`tries`: how often it could have helped; `hits`: how often it did; `amount`: pico-dollars saved, or lost."""
        key = (route, by)
        for sums in (self._total, self._untold):
            found = sums.get(key)
            if found is None:
                found = sums[key] = Saved()
            found.add(amount, tries, hits)

    def tell(self) -> tuple[int, tuple[Saving, ...]]:
        """What was not heard yet, with its number."""
        if not self._telling and self._untold:
            self._telling = tuple(
                Saving(route, by, saved.amount, saved.tries, saved.hits) for (route, by), saved in self._untold.items()
            )
            self._untold.clear()
            self._seq += 1
        return self._seq, self._telling

    def heard(self) -> None:
        """The last `tell` arrived."""
        self._telling = ()

    def totals(self) -> Iterator[tuple[str, SavedBy, Saved]]:
        """Since the sidecar began."""
        for (route, by), saved in self._total.items():
            yield route, by, saved
