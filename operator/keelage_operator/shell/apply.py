"""Writes what reconciliation decided: each object's status at a bounded rate, each Event once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import assert_never

from keelage_api.v1alpha1.metadata import API_VERSION, GROUP, VERSION
from keelage_operator.core.budget_figures import instant
from keelage_operator.core.reconcile import ROUTE_KIND, Action, EventPost, StatusPatch, Target
from keelage_operator.core.threshold import Passing
from keelage_operator.core.watchdog import POD_KIND
from keelage_operator.shell.catalog import Catalog, Kind, Seen
from keelage_operator.shell.cluster import Cluster, Json, PatchKind, Refused

LOG = logging.getLogger(__name__)

COMPONENT = "keelage"
"""Field manager and reporter of Events."""

STATUS_EVERY_S = 5.0
"""At most one write per object in this time: every write wakes each watcher of the object."""

FIGURES_AFTER_S = 1.0
"""Figures wait this long even if no write was made lately: spending comes in bursts."""

FIGURES_PER_S = 20
"""Statuses of which only figures differ, of the whole cluster: a thousand budgets that are spent from at once would
else cost 200 writes a second, more than a small API server bears. Theirs are then a minute old."""
FIGURES_BURST_S = 2.0
"""So long may the writes of one moment be ahead of that rate."""

PACED_MAX = 100_000
"""Objects whose last write is remembered; far more than a cluster has. Forgetting one costs an early write."""


def _ignore(_target: Target, _passing: Passing) -> None:
    return None


class Applier:
    def __init__(
        self, cluster: Cluster, catalog: Catalog, clock: Callable[[], float], wall: Callable[[], datetime]
    ) -> None:
        self._cluster = cluster
        self._catalog = catalog
        self._clock = clock
        self._wall = wall
        self._written_s: dict[str, float] = {}
        self._noticed_s: dict[str, float] = {}
        """When figures were first found to differ; by uid."""
        self._booked_s = 0.0
        """Until then the writes that were made use up their rate."""
        self.status_writes = 0
        self.status_refusals = 0
        self.on_passing: Callable[[Target, Passing], None] = _ignore
        """Told of each threshold that a status tells of, once it is written."""

    async def apply(self, actions: Sequence[Action]) -> Mapping[Target, float]:
        """Write; what was put off for its rate, and the seconds until each is due.

        Raises Refused or Unreachable; what was written until then stays written.
        """
        put_off: dict[Target, float] = {}
        for action in actions:
            if isinstance(action, StatusPatch):
                wait_s = self._wait_s(action)
                if wait_s > 0:
                    put_off[action.target] = wait_s
                elif not action.turned:
                    self._booked_s = max(self._booked_s, self._clock()) + 1 / FIGURES_PER_S
        for action in actions:
            if action.target in put_off:
                continue
            match action:
                case StatusPatch():
                    await self._status(action)
                case EventPost():
                    await self._event(action)
                case _:
                    assert_never(action)
        return put_off

    def _wait_s(self, patch: StatusPatch) -> float:
        now_s, uid = self._clock(), patch.target.uid
        due_s = self._written_s[uid] + STATUS_EVERY_S if uid in self._written_s else now_s
        if not patch.turned:
            due_s = max(due_s, self._noticed_s.setdefault(uid, now_s) + FIGURES_AFTER_S)
            due_s = max(due_s, self._booked_s - FIGURES_BURST_S)
        return due_s - now_s

    async def _status(self, patch: StatusPatch) -> None:
        target = patch.target
        # The whole status at once, whatever it was: a merge would keep keys of the former one. The test
        # keeps it from an object of the same name that was made meanwhile.
        body: list[Json] = [
            {"op": "test", "path": "/metadata/uid", "value": target.uid},
            {"op": "add", "path": "/status", "value": dict(patch.status)},
        ]
        kind = _plural(target)
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{target.namespace}/{kind}/{target.name}/status"
        self._noticed_s.pop(target.uid, None)
        if len(self._written_s) >= PACED_MAX:
            self._written_s.clear()
        try:
            written = await self._cluster.patch(path, body, PatchKind.JSON, {"fieldManager": COMPONENT})
        except Refused as error:
            if error.not_found:
                LOG.info("status not written: %s %s/%s is gone", target.kind, target.namespace, target.name)
                return
            if error.status == 422:
                # Deleted and made anew, which the watch tells. Else the schema refuses it, every time alike: the
                # namespace's other objects must not wait for it.
                self.status_refusals += 1
                self._written_s[target.uid] = self._clock()
                LOG.warning(
                    "status of %s %s/%s not written: %s: unless it was just made anew, its CustomResourceDefinition is"
                    " of another version than the operator: upgrade the chart with its CRDs",
                    target.kind,
                    target.namespace,
                    target.name,
                    error,
                )
                return
            raise
        self._written_s[target.uid] = self._clock()
        self.status_writes += 1
        for passing in patch.passings:
            self.on_passing(target, passing)
        # So that the next run starts from what was written, even before the watch has told.
        self._catalog.observe(Seen.of(kind, written), ours=True)

    async def _event(self, post: EventPost) -> None:
        target, now = post.target, instant(self._wall())
        body: Json = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{target.name[:200]}.{post.key}", "namespace": target.namespace},
            "involvedObject": {
                "apiVersion": "v1" if target.kind == POD_KIND else API_VERSION,
                "kind": target.kind,
                "namespace": target.namespace,
                "name": target.name,
                "uid": target.uid,
            },
            "type": post.type.value,
            "reason": post.reason,
            "message": post.message,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._cluster.create(f"/api/v1/namespaces/{target.namespace}/events", body)
        except Refused as error:
            if error.conflict:
                return  # posted before a crash
            if error.not_found or error.status in (403, 422):
                # A namespace that is being deleted takes no Events; the status must not wait for one.
                LOG.warning("event not posted: %s", error)
                return
            raise


def _plural(target: Target) -> Kind:
    return Kind.ROUTE if target.kind == ROUTE_KIND else Kind.BUDGET
