"""The sidecar as one object: everything wired, started, and ended in order.

Ledger and configuration come from outside, so that the same sidecar runs in a pod, where
both are an operator behind HTTPS, and in one process with the operator's cores.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import time

import msgspec

from keelage_api.proxy_config import ProxyConfig
from keelage_sidecar.core.config_view import View
from keelage_sidecar.core.log_line import CallRecord, LogLevel
from keelage_sidecar.core.request import Workload
from keelage_sidecar.settings import Settings
from keelage_sidecar.shell.admin import Admin, Health
from keelage_sidecar.shell.batch_keeper import BatchKeeper
from keelage_sidecar.shell.call_log import CallLog
from keelage_sidecar.shell.config_watch import ConfigSource, ConfigWatch
from keelage_sidecar.shell.credentials import Credentials
from keelage_sidecar.shell.exchange import Exchange
from keelage_sidecar.shell.journal import open_holder
from keelage_sidecar.shell.lease_keeper import LeaseKeeper, LedgerClient, SidecarReport
from keelage_sidecar.shell.limits import Limits
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.metrics import Metrics, Standing
from keelage_sidecar.shell.server import Server
from keelage_sidecar.shell.shared_answers import SharedAnswers
from keelage_sidecar.shell.trust import Trust
from keelage_sidecar.shell.upstream import Upstream
from keelage_sidecar.shell.warm_up import Warmer
from keelage_sidecar.shell.will_file import open_will_file

HEALTH_LIMITS = Limits(body_bytes=64 * 1024, connections=64)


class Ports(msgspec.Struct, frozen=True):
    """Where a running sidecar listens."""

    proxy: int
    health: int
    """0 where the settings name no health address."""


class Sidecar:
    """`start`, then `run` until `stop` was called and all has been drained and given back."""

    def __init__(
        self, settings: Settings, ledger: LedgerClient, configs: ConfigSource, log: CallLog | None = None
    ) -> None:
        """Opens the journal in `settings.state_dir`. Must be called inside a running loop."""
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._clock = loop.time
        self._started_s = loop.time()
        self._ending = asyncio.Event()
        self._listening = False
        holder = open_holder(settings.state_dir, _complain, open_will_file(settings.will_file, _complain))
        self._keeper = LeaseKeeper(holder, ledger, loop.time, random.random)
        self._keeper.report = self._report
        self._credentials = Credentials(settings.credentials_dir, loop.time)
        trust = Trust(settings.credentials_dir, loop.time)
        self._upstream = Upstream(trust.context)
        self._warmer = Warmer(self._upstream)
        self._shared = SharedAnswers(self._credentials, trust, loop.time, time.time, random.random)
        self._watch = ConfigWatch(configs, settings.state_dir, self._obey, self._keeper.speak_soon, random.random)
        self._log = log or CallLog(level=settings.log_level)
        self._metrics = Metrics(self._standing)
        means = self._means = Means(
            purse=self._keeper,
            upstream=self._upstream,
            credentials=self._credentials,
            clock=loop.time,
            unix=time.time,
            pick=random.random,
            savings=self._keeper.savings,
        )
        self._batches = BatchKeeper(means, self._tell)
        self._exchange = Exchange(
            means,
            lambda: self._watch.table,
            self._tell,
            self._batches,
            self._shared,
            workload=Workload(settings.user, settings.feature, settings.task_type, settings.pod),
            id_prefix=f"kl_{secrets.token_hex(8)}_",
            traced=lambda: self._log.level is LogLevel.DEBUG,
        )
        self._server = Server(self._exchange.handle)
        self._admin = Server(Admin(self._health, self._metrics.exposition, self._view, self._log).handle, HEALTH_LIMITS)

    @property
    def metrics(self) -> Metrics:
        return self._metrics

    @property
    def draining(self) -> bool:
        """`stop` was called."""
        return self._ending.is_set()

    async def start(self) -> Ports:
        """Listen, with the last good configuration if the state directory holds one. Raises OSError."""
        settings = self._settings
        self._watch.restore()
        health = await self._admin.serve(settings.health.host, settings.health.port) if settings.health else 0
        proxy = await self._server.serve(settings.listen.host, settings.listen.port)
        self._listening = True
        return Ports(proxy, health)

    async def run(self) -> None:
        """Serve until stopped; returns when calls are settled and the lease is given back."""
        async with asyncio.TaskGroup() as group:
            follow = group.create_task(self._watch.run())
            keep = group.create_task(self._keeper.run())
            batches = group.create_task(self._batches.run())
            warm = group.create_task(self._warmer.run())
            shared = group.create_task(self._shared.run())
            try:
                await self._ending.wait()
                # The application may still call while it ends: it is served until it has gone, or time is up.
                await self._server.drain(self._settings.drain_s)
            finally:
                await self._server.finish()
                self._exchange.tell_ended()  # what they saved goes with the last statement
                follow.cancel()
                keep.cancel()
                batches.cancel()
                warm.cancel()
                shared.cancel()
                await asyncio.wait((follow, keep, batches, warm, shared))
                self._batches.leave()
                await self._keeper.leave()
                await self._admin.finish()
                await self._upstream.close()
                self._log.flush()

    def stop(self) -> None:
        """Begin to end, as on SIGTERM."""
        self._ending.set()

    def _obey(self, config: ProxyConfig) -> None:
        kept = [rule.response_cache.bytes_max for rule in config.rules if rule.response_cache is not None]
        self._means.responses.resize(max(kept, default=0))
        self._shared.obey(config)
        self._keeper.obey(config.budgets, config.quotas)
        self._warmer.expect(config)

    def _tell(self, record: CallRecord) -> None:
        self._log.write(record)
        self._metrics.tell(record)

    def _report(self) -> SidecarReport:
        return SidecarReport(
            self._watch.version, self._watch.error, self._missing(), self._means.prompt_caches.resting()
        )

    def _missing(self) -> tuple[str, ...]:
        table = self._watch.table
        return self._credentials.missing(table.config) if table is not None else ()

    def _health(self) -> Health:
        return Health(
            listening=self._listening,
            configured=self._watch.table is not None,
            draining=self.draining,
            age_s=self._clock() - self._started_s,
            config_error=self._watch.error,
            missing=self._missing(),
            ledger_reached=self._keeper.reached,
            models=self._means.health.remarks(self._clock()),
            unshared=self._shared.errors(),
        )

    def _view(self) -> View:
        table = self._watch.table
        return View(table.config if table is not None else None, self._watch.error, self._missing())

    def _standing(self) -> Standing:
        return Standing(
            config_version=self._watch.version,
            config_error=bool(self._watch.error),
            missing_credentials=len(self._missing()),
            active_calls=self._server.active,
            upstream_connects=self._upstream.connects,
            open_batches=len(self._batches.open),
            figures=self._keeper.figures(),
            models=tuple(self._means.health.figures()),
            cache=self._means.responses,
            guards=tuple(self._means.latency.figures()),
            shared=self._shared.figures(),
            savings=tuple(self._keeper.savings.totals()),
            prompt_caches=self._means.prompt_caches.states(),
        )


def _complain(text: str) -> None:
    """Tell whoever runs the sidecar, beside the log of calls."""
    sys.stderr.write(f"keelage: {text}\n")
    sys.stderr.flush()
