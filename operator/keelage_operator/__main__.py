"""One replica of the operator: everything is made here, started in order, and ended in order.

Every replica serves admission and configuration from the same objects; the one that
holds the Lease also grants rights and writes status.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import NoReturn

import uvloop

from keelage_operator.core.price_book import price_book
from keelage_operator.core.speakers import Speakers
from keelage_operator.core.will_keys import WillKeys
from keelage_operator.settings import Settings, SettingsError
from keelage_operator.shell import json_log
from keelage_operator.shell.apply import Applier
from keelage_operator.shell.authority import ServingNames, TrustKeeper, TrustUnavailable
from keelage_operator.shell.books import Books
from keelage_operator.shell.catalog import Catalog
from keelage_operator.shell.cluster import KubernetesCluster, Refused, Unreachable
from keelage_operator.shell.config_channel import ConfigChannel, Leadership, SyncChannel
from keelage_operator.shell.controller import Controller
from keelage_operator.shell.gather import Gatherer
from keelage_operator.shell.https_server import Border, HttpsServer, application
from keelage_operator.shell.kubernetes_store import KubernetesStore
from keelage_operator.shell.kubernetes_trust import KubernetesTrust
from keelage_operator.shell.leader import Leader
from keelage_operator.shell.ledger_book import LedgerBook, LedgerUnavailable
from keelage_operator.shell.measures import Measures
from keelage_operator.shell.pod_reader import ClusterPods
from keelage_operator.shell.probes import Heartbeat, Probes
from keelage_operator.shell.quota_book import QuotaBook
from keelage_operator.shell.quota_measures import QuotaMeasures
from keelage_operator.shell.refusals import Refusals
from keelage_operator.shell.route_reader import ClusterRoutes
from keelage_operator.shell.token_review import KubernetesAuthenticator, TokenReviewer
from keelage_operator.shell.watch import Watch
from keelage_operator.shell.watchdog import Watchdog
from keelage_operator.shell.work_queue import WorkQueue

LOG = logging.getLogger("keelage_operator")

RETRY_S = 2.0

FAILED = 1
MISCONFIGURED = 2
ANEW = 3
"""Never seen from outside: the process becomes a new one."""


def wall() -> datetime:
    return datetime.now(UTC)


class Ended(Exception):
    """A part ended that should not have; the process ends with it and starts anew."""


class LeadershipEnded(Ended):
    """Nothing is wrong with this process but that it remembers what it was as a leader."""


class Replica:
    def __init__(self, settings: Settings, cluster: KubernetesCluster) -> None:
        clock = time.monotonic
        book = price_book()
        self.settings = settings
        self.cluster = cluster
        self.measures = Measures()
        cluster.on_lacking_right = self._lacks_right
        self.catalog = Catalog(book)
        self.speakers = Speakers()
        self.queue = WorkQueue(clock)
        self.store = KubernetesStore(cluster)
        self.ledgers = LedgerBook(self.store, wall, clock)
        self.quotas = QuotaBook(clock)
        self.leader = Leader(cluster, settings.namespace, settings.identity, clock, wall)
        self.trust = TrustKeeper(
            KubernetesTrust(cluster, settings.namespace, settings.authority_secret, settings.webhooks),
            ServingNames(settings.service, settings.namespace, settings.pod_ip),
            wall,
        )
        self.applier = Applier(cluster, self.catalog, clock, wall)
        self.refusals = Refusals(self.ledgers, lambda budget: self.controller.budget_changed(budget))
        self.books = Books(self.ledgers, self.refusals, self.quotas)
        self.controller = Controller(
            cluster,
            self.catalog,
            Gatherer(self.catalog, self.speakers, self.ledgers, self.refusals, self.quotas, clock, wall),
            self.applier,
            self.books,
            self.speakers,
            self.queue,
            self.measures,
            clock,
        )
        self.ledgers.on_change = self.controller.budget_changed
        self.quotas.on_crowded = self.controller.sidecars_changed
        wills = WillKeys(lambda: self.trust.secrets)
        self.ledgers.read_will = wills.read
        self.watch = Watch(self.catalog.observe, self.catalog.gone)
        self.controller.on_missed = self.watch.missed
        self.watchdog = Watchdog(cluster, self.applier, lambda: self.leader.leading, settings.excluded)
        self.heartbeat = Heartbeat(clock)
        border = Border(
            routes=self.catalog,
            credentials=ClusterRoutes(cluster, book),
            book=book,
            template=lambda: settings.template(self.trust.bundle),
            reviewer=TokenReviewer(KubernetesAuthenticator(cluster), clock, time.time),
            configs=ConfigChannel(self.catalog, ClusterPods(cluster), clock),
            syncs=SyncChannel(
                self.books,
                self.speakers,
                self._leadership,
                clock,
                self.controller.sidecars_changed,
                wills.key_of,
            ),
        )
        self.server = HttpsServer(application(border), self.trust.context, "", settings.https_port)
        self.probes = Probes(
            live={"event loop": self.heartbeat.well, "watch": self.watch.well},
            ready={"certificate": lambda: self.trust.ready, "cache": self.catalog.synced},
            registry=self.measures.registry,
        )
        self._measure()

    async def run(self) -> None:
        """Until cancelled. Raises Ended when a part ends by itself."""
        await self.probes.start("", self.settings.health_port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.heartbeat.run())
                await self._certify()
                group.create_task(self.trust.run())
                await self._list()
                group.create_task(self._until_it_ends("the watch", self.watch.run()))
                group.create_task(self.controller.run())
                group.create_task(self.watchdog.run())
                group.create_task(self._until_leadership_ends())
                await self._serve()
        finally:
            await self.probes.stop()

    async def _stand(self) -> None:
        """Lead while the lease is held, and give it back the moment that this ends: another replica waits for it.

        The server takes seconds longer to end, since sidecars' polls are under way.
        """
        try:
            await self.leader.run(self._lead)
        finally:
            await self.books.stop_leading()
            await self.leader.release()

    async def _serve(self) -> None:
        async with self.server:
            LOG.info("serving", extra={"port": self.server.port})
            await asyncio.Event().wait()

    async def _certify(self) -> None:
        """Have a certificate to serve with; whether the webhooks trust it yet is `trust.ready`."""
        while not self.trust.bundle:
            try:
                await self.trust.ensure()
            except TrustUnavailable as error:
                LOG.warning("no certificate yet: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _list(self) -> None:
        """Fill the catalog; until then nothing is decided."""
        while True:
            try:
                await self.controller.list_once()
            except (Refused, Unreachable) as error:
                LOG.warning("waiting for the cluster and its CRDs: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            LOG.info("listed", extra={"namespaces": len(self.catalog.namespaces())})
            return

    async def _lead(self) -> None:
        while True:
            try:
                await self.books.lead()
            except LedgerUnavailable as error:
                LOG.warning("ledgers are not taken over yet: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            break
        await self.controller.led()

    async def _until_leadership_ends(self) -> None:
        await self._stand()
        raise LeadershipEnded("leadership ended")

    async def _until_it_ends(self, name: str, part: Coroutine[None, None, None]) -> None:
        await part
        raise Ended(f"{name} ended")

    def _lacks_right(self, request: str, answer: Refused) -> None:
        self.measures.forbidden.inc()
        LOG.error(
            "%s: %s: the operator's ClusterRole or Role lacks this: helm upgrade with the chart of this version",
            request,
            answer,
        )

    def _leadership(self) -> Leadership:
        return Leadership(self.leader.leading, self.leader.address)

    def _measure(self) -> None:
        measures = self.measures
        measures.gauge("keelage_leader", "1 while this replica leads.", lambda: float(self.leader.leading))
        measures.gauge("keelage_queue_depth", "Namespaces that wait for work.", lambda: float(len(self.queue)))
        measures.gauge("keelage_event_loop_lag_seconds", "By how much the loop is late.", lambda: self.heartbeat.lag_s)
        measures.gauge(
            "keelage_watch_last_event_age_seconds",
            "Since the watch told anything.",
            lambda: time.monotonic() - self.watch.last_event_s,
        )
        measures.counter("keelage_ledger_writes", "Ledgers stored.", lambda: self.store.writes)
        measures.counter("keelage_ledger_conflicts", "Writes that somebody was ahead of.", lambda: self.store.conflicts)
        measures.counter("keelage_status_writes", "Statuses written.", lambda: self.applier.status_writes)
        measures.gauge(
            "keelage_pods_without_sidecar",
            "Pods that should have a sidecar and run without one, at the leader's last look.",
            lambda: float(self.watchdog.found),
        )
        measures.counter(
            "keelage_status_refusals", "Statuses that the CRD's schema refused.", lambda: self.applier.status_refusals
        )
        measures.registry.register(QuotaMeasures(self.quotas.figures))
        measures.budgets(self.catalog.budgets_in_force, self.ledgers.figures)


async def serve(settings: Settings) -> int:
    """Run one replica until SIGTERM or SIGINT; the process's exit code."""
    cluster = await KubernetesCluster.connect()
    replica = Replica(settings, cluster)
    running = asyncio.create_task(replica.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    code = 0
    try:
        with suppress(asyncio.CancelledError):  # a signal: nobody else cancels it
            await running
        LOG.info("stopping")
    except* LeadershipEnded as group:
        LOG.error("%s", group.exceptions[0])
        code = ANEW
    except* Ended as group:
        # Starting anew is how it is mended; the kubelet does it.
        LOG.error("%s", "; ".join(str(error) for error in group.exceptions))
    except* Exception:  # whatever ended a part ends the process, with its trace in the log
        LOG.exception("failed")
        code = FAILED
    await cluster.close()
    return code


def main() -> int:
    try:
        settings = Settings.read(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - before there is a log level
        return MISCONFIGURED
    json_log.set_up(settings.log_level)
    # Of asyncio's own TLS each connection takes a quarter of a mebibyte: a thousand sidecars would end the container.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings))


def start_anew() -> NoReturn:
    """In the same container: the kubelet would wait longer with each end of one, and all replicas lose their leadership
    together while the API server is away."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)


if __name__ == "__main__":
    ended = main()
    if ended == ANEW:
        start_anew()
    sys.exit(ended)
