"""How what is free is shared among the holders that ask: max-min, but a waiting request whole or not at all.

Max-min fair share as in YouTube's Doorman (its FAIR_SHARE). The difference: money is used
up, and a part of one request's bound is of no use to anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class Asker(msgspec.Struct, frozen=True):
    holder: str
    want: int
    """At least `floor`."""
    floor: int
    """The least that is of any use: the waiting request's shortfall; 0: nobody waits."""
    since_s: int
    """When it began to wait."""


def share(free: int, askers: Sequence[Asker], active: int, absent: Sequence[Asker] = ()) -> dict[str, int]:
    """How much each asker gets, holders without anything left out; the sum is at most `free`.

    Nobody takes more than free / (2 x active) at once unless a request waits for it: what is
    left near the end stays where everybody can get at it. When not even that suffices, requests
    are served in the order in which they began to wait, and what is then left is shared max-min.
    What comes back is gathered for the first that does not fit: else small ones would keep a big
    one waiting until it is refused. `absent` wait too, but do not ask just now.
    """
    kept = sum(asker.floor for asker in absent)
    cap = max(0, free - kept) // (2 * max(1, active, len(askers)))
    asks = {asker.holder: max(asker.floor, min(asker.want, cap)) for asker in askers}
    if sum(asks.values()) + kept <= free:
        return {holder: ask for holder, ask in asks.items() if ask}
    left = free
    given: dict[str, int] = {}
    for asker in sorted((*askers, *absent), key=lambda a: (a.since_s, a.floor, a.holder)):
        if asker.floor > left:
            return given
        left -= asker.floor
        if asker.holder in asks:
            given[asker.holder] = asker.floor
    more = pour(left, {holder: asks[holder] - amount for holder, amount in given.items()})
    return {holder: amount + more[holder] for holder, amount in given.items() if amount + more[holder]}


def pour(free: int, asks: Mapping[str, int]) -> dict[str, int]:
    """Max-min: in ascending order of what is asked for, each may take an equal part of what is left."""
    given = {}
    order = sorted(asks, key=lambda holder: (asks[holder], holder))
    for index, holder in enumerate(order):
        given[holder] = min(asks[holder], free // (len(order) - index))
        free -= given[holder]
    return given
