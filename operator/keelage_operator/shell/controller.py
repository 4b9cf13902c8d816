"""The loop that keeps what the cluster shows in step with what is known: queue, gather, reconcile, apply.

Every replica runs it, so that budgets in force are known everywhere; only the leader
writes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from keelage_api.errors import KeelageError
from keelage_api.proxy_config import Quota
from keelage_operator.core.ledger import Checkpoint
from keelage_operator.core.reconcile import reconcile
from keelage_operator.core.speakers import Speakers
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.apply import Applier
from keelage_operator.shell.catalog import Catalog, Kind, Seen
from keelage_operator.shell.cluster import Cluster, Refused, Unreachable, list_all
from keelage_operator.shell.gather import Gatherer
from keelage_operator.shell.measures import Measures
from keelage_operator.shell.watch import INJECTED_SELECTOR
from keelage_operator.shell.work_queue import WorkQueue

LOG = logging.getLogger(__name__)

WORKERS = 4
"""A slow answer about one namespace does not hold up the others."""

SETTLE_S = 0.2
"""Changes of one namespace within this time are worked on once."""

RESYNC_S = 300.0
"""As controllers do: whatever was missed is mended within this time."""

SECOND_LOOK_S = 20.0
"""After the first list: closes the gap between it and the beginning of the watch."""

RETRY_S = 2.0

HEARING_S = 6.0
"""Three times the interval at which an idle sidecar speaks: a new leader knows by then who obeys."""

BURIALS_AT_ONCE = 100

SILENCE_EVERY_S = 10.0
"""Between looks for sidecars that fell silent."""

PATHS = {
    Kind.ROUTE: ("/apis/keelage.dev/v1alpha1/llmroutes", ""),
    Kind.BUDGET: ("/apis/keelage.dev/v1alpha1/llmbudgets", ""),
    Kind.POD: ("/api/v1/pods", INJECTED_SELECTOR),
}

Sleep = Callable[[float], Awaitable[None]]


def _ignore() -> None:
    return None


class Accounts(Protocol):
    """The part of the leader's books that is told about the cluster."""

    @property
    def leading(self) -> bool: ...

    def set_budgets(self, budgets: Mapping[str, BudgetInForce], checkpoints: Mapping[str, Checkpoint]) -> None: ...

    def set_quotas(self, quotas: Mapping[str, Quota]) -> None: ...

    async def pod_gone(self, uid: str, message: str = "") -> None:
        """`message`: what its sidecar's container left as termination message."""
        ...

    def pods(self) -> frozenset[str]:
        """Uids of all pods that hold a row."""
        ...


class Controller:
    def __init__(
        self,
        cluster: Cluster,
        catalog: Catalog,
        gatherer: Gatherer,
        applier: Applier,
        accounts: Accounts,
        speakers: Speakers,
        queue: WorkQueue,
        measures: Measures,
        clock: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._catalog = catalog
        self._gatherer = gatherer
        self._applier = applier
        self._accounts = accounts
        self._speakers = speakers
        self._queue = queue
        self._measures = measures
        self._clock = clock
        self._sleep = sleep
        self._heard_from_s = float("-inf")
        self._gone: set[str] = set()
        self._burials = asyncio.Event()
        self.on_missed: Callable[[], None] = _ignore
        """Told when a list finds what the watch should have told."""
        self._told: tuple[dict[str, BudgetInForce], dict[str, Checkpoint]] | None = None
        self._told_quotas: dict[str, Quota] | None = None
        catalog.on_change = self.namespace_changed
        catalog.on_pod_gone = self._pod_gone
        applier.on_passing = lambda target, passing: measures.threshold(target.namespace, target.name, passing)

    async def run(self) -> None:
        """Work until cancelled. The catalog must have been synced by `list_once` before."""
        self._tell_terms()
        self._queue_all()
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())
            group.create_task(self._resync())
            group.create_task(self._bury())
            group.create_task(self._silence())

    def namespace_changed(self, namespace: str) -> None:
        self._queue.add(namespace, SETTLE_S)

    def budget_changed(self, name: str) -> None:
        """The ledger's figures of `<namespace>/<budget>` changed."""
        self._queue.add(name.partition("/")[0], SETTLE_S)

    async def led(self) -> None:
        """This replica leads from now on: rows of pods that do not exist close, everything is looked at."""
        self._heard_from_s = self._clock() + HEARING_S
        while True:
            try:
                await self.list_once()
            except (Refused, Unreachable) as error:
                LOG.warning("lists are tried again: %s", error)
                await self._sleep(RETRY_S)
                continue
            break
        self._queue_all()

    async def list_once(self) -> None:
        """Bring the catalog up to date by complete lists. Raises Refused or Unreachable."""
        holders = self._accounts.pods()
        for kind, (path, selector) in PATHS.items():
            before = self._catalog.versions(kind)
            listed = [Seen.of(kind, raw) for raw in await list_all(self._cluster, path, selector)]
            first = not self._catalog.synced()
            missed = self._catalog.correct(kind, listed, before)
            if not first and missed:
                self._measures.watch_missed.inc(missed)
                self.on_missed()
        # Those that held a row before the list was asked for, and are not in it.
        self._gone |= holders - self._catalog.pod_uids()
        self._burials.set()

    async def reconcile(self, namespace: str) -> float | None:
        """One run for one namespace; seconds until the next one is due, None if nothing was put off."""
        self._tell_terms()
        if not self._accounts.leading:
            return None
        wait_s = self._heard_from_s - self._clock()
        if wait_s > 0 and self._catalog.objects(Kind.POD, namespace):
            return wait_s
        began_s = time.perf_counter()
        actions = reconcile(self._gatherer.snapshot(namespace))
        again_s = await self._applier.apply(actions)
        self._measures.reconcile_s.observe(time.perf_counter() - began_s)
        return again_s

    def _tell_terms(self) -> None:
        told = self._catalog.budgets_in_force(), self._catalog.checkpoints()
        if told != self._told:
            self._told = told
            self._accounts.set_budgets(*told)
        quotas = self._catalog.quotas_in_force()
        if quotas != self._told_quotas:
            self._told_quotas = quotas
            self._accounts.set_quotas(quotas)

    def _queue_all(self) -> None:
        for namespace in self._catalog.namespaces():
            self._queue.add(namespace)

    async def _work(self) -> None:
        while True:
            namespace = await self._queue.get()
            try:
                again_s = await self.reconcile(namespace)
            except (Refused, Unreachable) as error:
                pause_s = self._queue.failed(namespace)
                self._measures.reconcile_failures.inc()
                LOG.warning("namespace %s is tried again in %.1f s: %s", namespace, pause_s, error)
            except Exception:  # a bug that one namespace's objects bring out must not stop all the others
                self._queue.failed(namespace)
                self._measures.reconcile_failures.inc()
                LOG.exception("namespace %s cannot be reconciled", namespace)
            else:
                self._queue.done(namespace)
                if again_s is not None:
                    self._queue.add(namespace, again_s)

    async def _resync(self) -> None:
        pause_s = SECOND_LOOK_S
        while True:
            await self._sleep(pause_s)
            try:
                await self.list_once()
            except (Refused, Unreachable) as error:
                LOG.warning("lists are tried again: %s", error)
                pause_s = SECOND_LOOK_S
                continue
            pause_s = RESYNC_S
            self._queue_all()

    def _pod_gone(self, uid: str) -> None:
        self._gone.add(uid)
        self._burials.set()

    async def _bury(self) -> None:
        """Tell the book of pods that are gone, again and again until it has stored it."""
        while True:
            await self._burials.wait()
            self._burials.clear()
            gone = sorted(self._gone)
            for first in range(0, len(gone), BURIALS_AT_ONCE):
                # Together, so that those of one ledger share a write: a node may take hundreds of pods along.
                await asyncio.gather(*(self._close_rows(uid) for uid in gone[first : first + BURIALS_AT_ONCE]))
            if self._gone:
                await self._sleep(RETRY_S)
                self._burials.set()

    async def _close_rows(self, uid: str) -> None:
        try:
            await self._accounts.pod_gone(uid, self._catalog.message_of(uid))
        except KeelageError as error:  # whatever keeps the book from storing it passes
            LOG.warning("the rows of pod %s are closed later: %s", uid, error)
        else:
            self._gone.discard(uid)

    async def _silence(self) -> None:
        while True:
            await self._sleep(SILENCE_EVERY_S)
            for speaker in self._speakers.drop_silent(self._clock()):
                self.namespace_changed(speaker.namespace)
