"""Which of a tier's models a call gets, by their weights: the same one for a user, on every pod. Pure.

Weighted rendezvous hashing: a model's score depends on the user and the model alone, so that when a weight is
raised, users move to that model only, and all others stay where they are.
"""

from __future__ import annotations

import math
from functools import lru_cache
from hashlib import blake2b

from keelage_sidecar.core.routing import Candidate

USERS_MAX = 4096
"""Whose model is remembered: to find it again takes as long as all else that a call's plan needs."""


def in_order(candidates: tuple[Candidate, ...], tier: str, user: str, pick: float) -> tuple[Candidate, ...]:
    """The candidates in the order to try: the chosen one, then the others in their own order.

    All have a weight. `tier` keeps the canaries of different tiers apart. `pick` in [0, 1) chooses where there is no
    user.
    """
    if user:
        shares = tuple([(each.backend.name, each.model, each.weight or 0) for each in candidates])
        chosen = _of_user(tier, user, shares)
    else:
        chosen = _drawn(tuple([each.weight or 0 for each in candidates]), pick)
    return (candidates[chosen], *candidates[:chosen], *candidates[chosen + 1 :])


def _drawn(weights: tuple[int, ...], pick: float) -> int:
    left = pick * sum(weights)
    for index, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return index
    return weights.index(max(weights))  # `pick` was rounded up to the whole, or none has any weight


@lru_cache(maxsize=USERS_MAX)
def _of_user(tier: str, user: str, shares: tuple[tuple[str, str, int], ...]) -> int:
    """The one of the greatest score, -weight / ln(u) with u uniform in (0, 1): each with the probability that the
    weights say."""
    scores = []
    for backend, model, weight in shares:
        name = f"{tier}\0{user}\0{backend}\0{model}".encode("utf-8", "surrogatepass")
        number = int.from_bytes(blake2b(name, digest_size=8).digest(), "big") >> 12
        scores.append(-weight / math.log((number + 0.5) / 2**52))
    return scores.index(max(scores))
