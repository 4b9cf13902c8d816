"""Rates while no leader answers: each sidecar keeps the whole limit for itself.

A rate protects from too much at once, it is not money: it must not stop an application for as long as
the operator is away.
"""

from __future__ import annotations

from dataclasses import dataclass

from keelage_api.proxy_config import Quota

QUOTA_ALONE_S = 10.0
"""So long without any answer from a leader, then the sidecar is alone: longer than a change of leader takes."""
BUCKETS_MAX = 4096
"""Values in a time without a leader; beyond it the one that was used first begins anew."""


@dataclass(slots=True)
class _Bucket:
    level: float
    """May be negative: what cost more than was expected is made up for."""
    at_s: float
    """When that was the level."""


class LocalRates:
    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def fits(self, quota: Quota, value: str, amount: int, now: float) -> bool:
        return amount <= self._bucket(quota, value, now).level

    def take(self, quota: Quota, value: str, amount: int, now: float) -> None:
        """The caller has seen that it fits."""
        self._bucket(quota, value, now).level -= amount

    def give_back(self, quota: Quota, value: str, amount: int) -> None:
        """What a call had taken and did not use; negative: it used more."""
        bucket = self._buckets.get((quota.name, value))
        if bucket is not None:
            bucket.level = min(float(quota.limit), bucket.level + amount)

    def fits_in_s(self, quota: Quota, value: str, amount: int, now: float) -> float:
        """Seconds until it should fit."""
        lacking = amount - self._bucket(quota, value, now).level
        return refill_s(quota, max(0.0, lacking))

    def forget(self) -> None:
        """A leader has answered."""
        self._buckets.clear()

    def _bucket(self, quota: Quota, value: str, now: float) -> _Bucket:
        key = (quota.name, value)
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= BUCKETS_MAX:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[key] = _Bucket(float(quota.limit), now)
        if quota.window_ms and now > bucket.at_s:
            gained = quota.limit * (now - bucket.at_s) * 1000 / quota.window_ms
            bucket.level = min(float(quota.limit), bucket.level + gained)
        bucket.at_s = now
        return bucket


def refill_s(quota: Quota, amount: float) -> float:
    """Seconds in which so much is refilled; for requests in flight, which end when they like, one second."""
    if not quota.window_ms or not quota.limit:
        return 1.0
    return amount * quota.window_ms / 1000 / quota.limit
