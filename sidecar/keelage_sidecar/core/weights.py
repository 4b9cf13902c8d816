"""Which of a tier's models a call gets, by their weights: the same one for a user, on every pod. Pure.

Weighted rendezvous hashing: a model's score depends on the user and the model alone, so that when a weight is
raised, users move to that model only, and all others stay where they are.
"""

from __future__ import annotations

import math
from hashlib import blake2b

from keelage_sidecar.core.routing import Candidate


def in_order(candidates: tuple[Candidate, ...], tier: str, user: str, pick: float) -> tuple[Candidate, ...]:
    """The candidates in the order to try: the chosen one, then the others in their own order.

    `tier` keeps the canaries of different tiers apart. `pick` in [0, 1) chooses where there is no user.
    """
    if candidates[0].weight is None:
        return candidates
    key = f"{tier}\0u\0{user}" if user else f"{tier}\0p\0{pick!r}"
    first = max(candidates, key=lambda candidate: _score(candidate, key))
    return (first, *(candidate for candidate in candidates if candidate is not first))


def _score(candidate: Candidate, key: str) -> float:
    """-weight / ln(u) with u uniform in (0, 1): the greatest of all with the probability that the weights say."""
    if not candidate.weight:
        return 0.0
    name = f"{key}\0{candidate.backend.name}\0{candidate.model}"
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    uniform = ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52
    return -candidate.weight / math.log(uniform)
