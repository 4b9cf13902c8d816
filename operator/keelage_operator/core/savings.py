"""What routes have saved, over all their sidecars, for their status.

Sidecars tell what came since they were heard last. The sum goes on from what the route's status says when a replica
begins to lead, so it outlives pods and leaders; lost is at most what the leader before had heard and not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keelage_api.money import format_usd
from keelage_api.sync import SavedBy, Saving, SyncRequest
from keelage_api.v1alpha1.llmroute import LLMRouteStatus
from keelage_operator.core.identity import PodIdentity

ROUTES_MAX = 10_000
"""Names come from sidecars: those of routes that do not exist must not fill the memory."""
HOLDERS_MAX = 100_000
"""Of which the last number is remembered; one that was forgotten could be added up twice."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Of one route and kind."""

    amount: int = 0
    """Pico-dollars; negative where it cost more than it saved."""
    tries: int = 0
    hits: int = 0

    def plus(self, other: Sum) -> Sum:
        return Sum(self.amount + other.amount, self.tries + other.tries, self.hits + other.hits)


Sums = Mapping[SavedBy, Sum]
NOTHING_SAVED: Sums = {}


class SavingsBook:
    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], dict[SavedBy, Sum]] = {}
        """Since this replica leads, by namespace and route."""
        self._before: dict[tuple[str, str], tuple[str, Sums]] = {}
        """What the status said then, with the route's uid."""
        self._last: dict[str, tuple[int, int]] = {}
        """By holder, the run and number that was heard last."""

    def hear(self, pod: PodIdentity, request: SyncRequest) -> bool:
        """Whether the request told anything new."""
        if not request.savings:
            return False
        holder, number = f"{pod.uid}.{request.incarnation}", (request.run, request.savings_seq)
        if number <= self._last.pop(holder, (-1, -1)):
            self._last[holder] = number
            return False
        if len(self._last) >= HOLDERS_MAX:
            del self._last[next(iter(self._last))]
        self._last[holder] = number
        for saving in request.savings:
            self._add(pod.namespace, saving)
        return True

    def shown(self, namespace: str, route: str, uid: str, status: LLMRouteStatus) -> Sums:
        """All that the route has saved. `status` is read once, and when another route has taken the name."""
        key = (namespace, route)
        before = self._before.get(key)
        if before is None or before[0] != uid:
            if before is not None:
                self._heard.pop(key, None)
            before = self._before[key] = (uid, _sums(status))
        heard = self._heard.get(key, {})
        return {
            by: before[1].get(by, Sum()).plus(heard.get(by, Sum())) for by in SavedBy if by in before[1] or by in heard
        }

    def _add(self, namespace: str, saving: Saving) -> None:
        key = (namespace, saving.route)
        if key not in self._heard and len(self._heard) >= ROUTES_MAX:
            return
        sums = self._heard.setdefault(key, {})
        sums[saving.by] = sums.get(saving.by, Sum()).plus(Sum(saving.amount, saving.tries, saving.hits))


def total_saved(sums: Sums) -> str:
    """In all ways together; below zero where they cost more than they saved."""
    return f"{format_usd(sum(each.amount for each in sums.values()))} USD"


def savings_status(sums: Sums) -> list[dict[str, object]]:
    """The part of a route's status."""
    return [
        {
            "by": by.value,
            "saved": f"{format_usd(each.amount)} USD",
            "hitRate": f"{each.hits * 100 // each.tries}%" if each.tries else "",
            "tries": each.tries,
            "hits": each.hits,
            "picodollars": each.amount,
        }
        for by, each in sums.items()
    ]


def _sums(status: LLMRouteStatus) -> Sums:
    return {each.by: Sum(each.picodollars, each.tries, each.hits) for each in status.savings}
