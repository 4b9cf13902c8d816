"""Calls that wait, in order of arrival, and what each account is waited for with. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heappop, heappush

from keelage_sidecar.core.account import Owner
from keelage_sidecar.core.claim import Claim, Waiter

QUEUE_MAX = 1024
"""Calls that wait for money; more than a process relays at once."""


class Queue:
    def __init__(self) -> None:
        self._waiters: dict[int, Waiter] = {}
        self._claims: dict[Owner, dict[int, Claim]] = {}
        self._amounts: dict[Owner, int] = {}
        self._deadlines: list[tuple[float, int]] = []
        """A heap; those who are gone stay in it until they would come first."""
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    @property
    def full(self) -> bool:
        return len(self._waiters) >= QUEUE_MAX

    @property
    def owners(self) -> Collection[Owner]:
        """Whose accounts are waited for; who was waited for first comes first."""
        return self._claims.keys()

    def add(self, claims: tuple[Claim, ...], since_s: float, until_s: float) -> Waiter:
        self._last_id += 1
        waiter = self._waiters[self._last_id] = Waiter(
            self._last_id, claims, since_s, until_s, tuple([claim.owner for claim in claims])
        )
        heappush(self._deadlines, (until_s, waiter.id))
        for claim in claims:
            if claim.hard:
                self._claims.setdefault(claim.owner, {})[waiter.id] = claim
                self._amounts[claim.owner] = self._amounts.get(claim.owner, 0) + claim.amount
        return waiter

    def remove(self, waiter_id: int) -> Waiter | None:
        waiter = self._waiters.pop(waiter_id, None)
        for claim in waiter.claims if waiter is not None else ():
            if claim.hard:
                claims = self._claims[claim.owner]
                del claims[waiter_id]
                self._amounts[claim.owner] -= claim.amount
                if not claims:
                    del self._claims[claim.owner], self._amounts[claim.owner]
        return waiter

    def since_on(self, owner: Owner) -> Iterator[tuple[Claim, float]]:
        """The hard claims on it, in order of arrival, with when each began to wait."""
        for waiter_id, claim in self._claims.get(owner, _NONE).items():
            yield claim, self._waiters[waiter_id].since_s

    def on(self, owner: Owner) -> Collection[Claim]:
        """The hard claims on it, in order of arrival."""
        return self._claims.get(owner, _NONE).values()

    def amount_on(self, owner: Owner) -> int:
        return self._amounts.get(owner, 0)

    def next_deadline(self) -> float | None:
        """When the next wait is over."""
        while self._deadlines and self._deadlines[0][1] not in self._waiters:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None


_NONE: dict[int, Claim] = {}
