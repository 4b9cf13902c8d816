"""Who leads, decided from a Lease object and a monotonic clock.

As client-go does it: nobody trusts another machine's clock. A lease is over when its
record has not changed for its own duration on the observer's clock; a leader stops
when it could not renew within a shorter time. That there is one leader serves
liveness only: the ledger's compare-and-swap keeps two from harm.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

LEASE_S = 15
RENEW_DEADLINE_S = 10.0
RETRY_S = 2.0
"""As in client-go."""


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What a Lease says."""

    holder: str
    """`<pod>_<ip>:<port>`; empty: released."""
    duration_s: float
    renewed: str
    """An opaque mark that changes at each renewal."""
    transitions: int
    version: str
    """resourceVersion."""
    acquired: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """The lease as it was last seen to change, on the observer's monotonic clock."""

    lease: LeaseState | None
    since_s: float


class Step(enum.Enum):
    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


def observe(before: Observation | None, lease: LeaseState | None, now_s: float) -> Observation:
    """The observation after the lease was read at `now_s`."""
    if before is not None and lease is not None and before.lease is not None and _same(before.lease, lease):
        return Observation(lease, before.since_s)
    return Observation(lease, now_s)


def next_step(seen: Observation, me: str, now_s: float) -> Step:
    """What a candidate or leader named `me` does about the lease."""
    lease = seen.lease
    if lease is None:
        return Step.CREATE
    if lease.holder == me:
        return Step.RENEW
    if not lease.holder or now_s - seen.since_s > lease.duration_s:
        return Step.TAKE
    return Step.WAIT


def lost(renewed_s: float, now_s: float) -> bool:
    """Whether a leader that last renewed at `renewed_s` must stop leading."""
    return now_s - renewed_s >= RENEW_DEADLINE_S


def address_of(holder: str) -> str:
    """`host:port` of a holder; empty where the name has none. Pod names hold no underscore."""
    return holder.partition("_")[2]


def _same(one: LeaseState, other: LeaseState) -> bool:
    return one.holder == other.holder and one.renewed == other.renewed and one.transitions == other.transitions
