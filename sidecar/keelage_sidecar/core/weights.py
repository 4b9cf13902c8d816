"""Which of a tier's models a call gets, by their weights: the same one for a user, on every pod. Pure.

Weighted rendezvous hashing: a model's score depends on the user and the model alone, so that when a weight is
raised, users move to that model only, and all others stay where they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

from keelage_api.proxy_config import ModelChoice


def in_order(choices: Sequence[ModelChoice], tier: str, user: str, pick: float | None) -> tuple[ModelChoice, ...]:
    """The choices in the order to try: the chosen one, then the others in their own order.

    `tier` keeps the canaries of different tiers apart. `pick` in [0, 1) chooses where there is no user; None: the
    heaviest is chosen whoever asks, for calls that must all go the same way.
    """
    if len(choices) < 2 or choices[0].weight is None:
        return tuple(choices)
    if pick is None:
        first = max(choices, key=lambda choice: choice.weight or 0)
    else:
        key = f"{tier}\0u\0{user}" if user else f"{tier}\0p\0{pick!r}"
        first = max(choices, key=lambda choice: _score(choice, key))
    return (first, *(choice for choice in choices if choice is not first))


def _score(choice: ModelChoice, key: str) -> float:
    """-weight / ln(u) with u uniform in (0, 1): the greatest of all with the probability that the weights say."""
    if not choice.weight:
        return 0.0
    digest = blake2b(
        f"{key}\0{choice.backend}\0{choice.model}".encode("utf-8", "surrogatepass"), digest_size=8
    ).digest()
    uniform = ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52
    return -choice.weight / math.log(uniform)
