"""The loop that keeps what the cluster shows in step with what is known: queue, gather, reconcile, apply.

Every replica runs it, so that budgets in force are known everywhere; only the leader
writes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from keelage_api.errors import KeelageError
from keelage_operator.core.due import Due
from keelage_operator.core.ledger import Checkpoint
from keelage_operator.core.reconcile import ROUTE_KIND, Target, reconcile
from keelage_operator.core.speakers import Speakers
from keelage_operator.shell.apply import Applier
from keelage_operator.shell.catalog import Catalog, Kind, Seen
from keelage_operator.shell.cluster import Cluster, Refused, Unreachable, list_all
from keelage_operator.shell.gather import Gatherer
from keelage_operator.shell.measures import Measures
from keelage_operator.shell.telling import Obeying, Telling
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


class Accounts(Obeying, Protocol):
    """The part of the leader's books that is told about the cluster."""

    @property
    def leading(self) -> bool: ...

    def note_checkpoint(self, name: str, checkpoint: Checkpoint | None) -> None:
        """What the status of a budget says was committed."""
        ...

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
        self._due: dict[str, Due] = {}
        """By namespace in the queue."""
        self._later: dict[str, dict[Target, float]] = {}
        """What was put off, and until when: by namespace in the queue."""
        self._telling = Telling(catalog, accounts)
        self._untold: set[str] = set()
        """Namespaces in which something else may be in force than the books know."""
        self._news = asyncio.Event()
        catalog.on_change = self._object_changed
        catalog.on_checkpoint = accounts.note_checkpoint
        catalog.on_pod_gone = self._pod_gone
        applier.on_passing = lambda target, passing: measures.threshold(target.namespace, target.name, passing)

    async def run(self) -> None:
        """Work until cancelled. The catalog must have been synced by `list_once` before."""
        self._tell_of(self._catalog.namespaces())
        self._queue_all()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell())
            for _ in range(WORKERS):
                group.create_task(self._work())
            group.create_task(self._resync())
            group.create_task(self._bury())
            group.create_task(self._silence())

    def sidecars_changed(self, namespace: str) -> None:
        """One of them came, left, or said something else than before."""
        self._look(namespace, Due(routes=True))

    def budget_changed(self, name: str) -> None:
        """The ledger's figures of `<namespace>/<budget>` changed."""
        namespace, _, budget = name.partition("/")
        self._look(namespace, Due(budgets={budget}))

    def _object_changed(self, seen: Seen, obeyed: bool) -> None:
        match seen.kind:
            case Kind.POD:
                self.sidecars_changed(seen.namespace)
            case Kind.ROUTE | Kind.BUDGET if obeyed:
                # Each may mean something else to the others.
                self._look(seen.namespace, Due.everything())
                self._untold.add(seen.namespace)
                self._news.set()
            case Kind.ROUTE:
                self._look(seen.namespace, Due(routes=True))
            case Kind.BUDGET:
                self._look(seen.namespace, Due(budgets={seen.name}))

    def _look(self, namespace: str, due: Due, after_s: float = SETTLE_S) -> None:
        self._due.setdefault(namespace, Due()).add(due)
        self._queue.add(namespace, after_s)

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
        """One run for what is due in one namespace; seconds until the next one is, None if nothing was put off."""
        self._telling.tell(namespace)
        if not self._accounts.leading:
            self._due.pop(namespace, None)  # whoever leads next looks at everything
            self._later.pop(namespace, None)
            return None
        now_s = self._clock()
        due = self._taken(namespace, now_s)
        wait_s = self._heard_from_s - now_s
        if wait_s > 0 and self._catalog.objects(Kind.POD, namespace):
            self._due[namespace] = due
            return wait_s
        began_s = time.perf_counter()
        actions = reconcile(self._gatherer.snapshot(namespace, due))
        try:
            put_off = await self._applier.apply(actions)
        except BaseException:
            self._due.setdefault(namespace, Due()).add(due)
            raise
        self._measures.reconcile_s.observe(time.perf_counter() - began_s)
        later = self._later.setdefault(namespace, {})
        now_s = self._clock()
        later.update((target, now_s + wait_s) for target, wait_s in put_off.items())
        if later:
            return max(0.0, min(later.values()) - now_s)
        del self._later[namespace]
        return None

    def _taken(self, namespace: str, now_s: float) -> Due:
        """What was told to be due and what was put off until now; everything, if that is nothing."""
        due = self._due.pop(namespace, Due())
        later = self._later.get(namespace, {})
        for target in [target for target, at_s in later.items() if at_s <= now_s]:
            del later[target]
            due.add(Due(routes=True) if target.kind == ROUTE_KIND else Due(budgets={target.name}))
        return due if due.anything else Due.everything()

    async def _tell(self) -> None:
        """Not by the queue, which is as slow as the API server is to be spared: a lowered limit holds at once."""
        while True:
            await self._news.wait()
            await self._sleep(SETTLE_S)
            self._news.clear()
            untold, self._untold = self._untold, set()
            self._tell_of(untold)

    def _tell_of(self, namespaces: Iterable[str]) -> None:
        for namespace in namespaces:
            try:
                self._telling.tell(namespace)
            except Exception:  # a bug that one namespace's objects bring out must not stop all the others
                LOG.exception("the budgets of namespace %s cannot be told to the ledgers", namespace)

    def _queue_all(self) -> None:
        for namespace in self._catalog.namespaces():
            self._look(namespace, Due.everything(), after_s=0.0)

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
                # What it had leased is shown by its budgets.
                self._look(speaker.namespace, Due.everything())
