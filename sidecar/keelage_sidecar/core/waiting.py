"""Calls that wait, in order of arrival, and what each account is waited for with. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from keelage_sidecar.core.account import Owner
from keelage_sidecar.core.claim import Claim, Waiter

QUEUE_MAX = 1024
"""Calls that wait for money; more than a process relays at once."""


class Queue:
    def __init__(self) -> None:
        self._waiters: dict[int, Waiter] = {}
        self._claims: dict[Owner, dict[int, Claim]] = {}
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
        waiter = self._waiters[self._last_id] = Waiter(self._last_id, claims, since_s, until_s)
        for claim in claims:
            if claim.hard:
                self._claims.setdefault(claim.owner, {})[waiter.id] = claim
        return waiter

    def remove(self, waiter_id: int) -> Waiter | None:
        waiter = self._waiters.pop(waiter_id, None)
        for claim in waiter.claims if waiter is not None else ():
            if claim.hard:
                claims = self._claims[claim.owner]
                del claims[waiter_id]
                if not claims:
                    del self._claims[claim.owner]
        return waiter

    def since_on(self, owner: Owner) -> Iterator[tuple[Claim, float]]:
        """The hard claims on it, in order of arrival, with when each began to wait."""
        for waiter_id, claim in self._claims.get(owner, _NONE).items():
            yield claim, self._waiters[waiter_id].since_s

    def on(self, owner: Owner) -> Collection[Claim]:
        """The hard claims on it, in order of arrival."""
        return self._claims.get(owner, _NONE).values()

    def amount_on(self, owner: Owner) -> int:
        return sum(claim.amount for claim in self.on(owner))

    def next_deadline(self) -> float | None:
        """When the next wait is over."""
        return min((waiter.until_s for waiter in self._waiters.values()), default=None)


_NONE: dict[int, Claim] = {}
