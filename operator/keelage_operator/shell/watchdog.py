"""Looks now and then for pods that should have a sidecar and have none, and says so at the pod."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from keelage_operator.core.inject import INJECT_LABEL
from keelage_operator.core.reconcile import Target
from keelage_operator.core.watchdog import LABELLED_SELECTOR, WANTED_SELECTOR, bare, told
from keelage_operator.shell.apply import Applier
from keelage_operator.shell.cluster import Cluster, Refused, Unreachable, list_all, member

LOG = logging.getLogger(__name__)

EVERY_S = 300.0
"""These pods are not watched: most of a large cluster's have nothing to do with us."""
FIRST_S = 30.0

Sleep = Callable[[float], Awaitable[None]]


class Watchdog:
    def __init__(
        self,
        cluster: Cluster,
        applier: Applier,
        leading: Callable[[], bool],
        excluded: frozenset[str],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`excluded`: namespaces in which admission never injects."""
        self._cluster = cluster
        self._applier = applier
        self._leading = leading
        self._excluded = excluded
        self._sleep = sleep
        self.found = 0
        """Pods without a sidecar at the last look."""

    async def run(self) -> None:
        """Until cancelled; only the leader looks."""
        pause_s = FIRST_S
        while True:
            await self._sleep(pause_s)
            pause_s = EVERY_S
            if not self._leading():
                self.found = 0
                continue
            try:
                await self.look()
            except (Refused, Unreachable) as error:
                LOG.warning("pods without a sidecar are looked for again in %g s: %s", EVERY_S, error)

    async def look(self) -> None:
        """Raises Refused or Unreachable."""
        found: dict[str, dict[str, Target]] = {}
        places = []
        excluded = set(self._excluded)
        for each in await list_all(self._cluster, "/api/v1/namespaces", INJECT_LABEL):
            name = str(member(each, "metadata").get("name"))
            value = member(member(each, "metadata"), "labels").get(INJECT_LABEL)
            if value == "true":
                places.append((f"/api/v1/namespaces/{name}/pods", WANTED_SELECTOR))
            elif value == "false":
                excluded.add(name)
        for path, selector in (*places, ("/api/v1/pods", LABELLED_SELECTOR)):
            for pod in await list_all(self._cluster, path, selector):
                target = bare(pod)
                if target is not None and target.namespace not in excluded:
                    found.setdefault(target.namespace, {})[target.uid] = target
        self.found = sum(len(pods) for pods in found.values())
        for namespace, pods in sorted(found.items()):
            LOG.warning("%d pods of namespace %s run without their sidecar: restart them", len(pods), namespace)
            await self._applier.apply(told(tuple(pods.values())))
