"""The lease-keeping part of many sidecars in one process: real holders, journals, connections and dialogues.

Their calls cost nothing and reach nobody: each reserves, lasts a while, and settles.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keelage_api.account import account_value
from keelage_api.proxy_config import ProxyConfig
from keelage_api.sync import SyncReply, SyncRequest
from keelage_dev.scale.scenario import Scenario
from keelage_dev.scale.stage import Pod
from keelage_sidecar.core.claim import Charge, Claim, Hold
from keelage_sidecar.shell.config_watch import ConfigWatch
from keelage_sidecar.shell.control import Control
from keelage_sidecar.shell.journal import open_holder
from keelage_sidecar.shell.lease_keeper import LeaseKeeper, LedgerUnreachable, SidecarReport

BOUND = 20 * 10**9
"""Pico-dollars: two cents, a request with a few thousand tokens of output at most."""
COSTS = (0.1, 0.6)
"""Share of the bound that a call costs, from and to."""
LASTS_S = (1.0, 5.0)
PATIENCE_S = 10.0
START_PER_S = 16
"""So many sidecars begin in a second, as in a rollout; their own handshakes cost this machine as much as the
operator's part of them."""
OBEY_S = 480.0
"""For all of them to have a configuration."""


@dataclass(slots=True)
class Measures:
    """Of all sidecars together; only while `on`."""

    on: bool = False
    exchange_s: list[float] = field(default_factory=list)
    """Of every exchange with the ledger that was answered."""
    grant_s: list[float] = field(default_factory=list)
    """Of those that asked for more: they are answered after a write to etcd."""
    calls: int = 0
    waited: int = 0
    """Calls that did not fit the lease at hand."""
    denied: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Exchanges without an answer, by reason."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Quantiles:
        """Zeros if there were none."""
        if len(seconds) < 2:
            return cls(*([1000 * seconds[0]] * 2 if seconds else (0.0, 0.0)))
        cuts = statistics.quantiles(seconds, n=100)
        return cls(1000 * cuts[49], 1000 * cuts[98])


class _Timed:
    """A LedgerClient that notes how long its exchanges take."""

    def __init__(self, control: Control, measures: Measures) -> None:
        self._control = control
        self._measures = measures

    async def sync(self, request: SyncRequest) -> SyncReply:
        wants = any(statement.want > 0 for statement in request.statements)
        began_s = time.perf_counter()
        try:
            reply = await self._control.sync(request)
        except LedgerUnreachable as error:
            self._measures.failed[str(error).rpartition(": ")[2]] += self._measures.on
            raise
        if self._measures.on:
            self._measures.exchange_s.append(time.perf_counter() - began_s)
            if wants:
                self._measures.grant_s.append(time.perf_counter() - began_s)
        return reply


class Sidecar:
    def __init__(self, pod: Pod, home: Path, operator: str, ca_pem: str, measures: Measures) -> None:
        self._pod = pod
        self._measures = measures
        self._control = Control(operator, ca_pem, home / "token")
        self.keeper = LeaseKeeper(
            open_holder(home, print), _Timed(self._control, measures), time.monotonic, random.random
        )
        self._watch = ConfigWatch(self._control, None, self._obey, self.keeper.speak_soon, random.random)
        self.keeper.report = lambda: SidecarReport(config_version=self._watch.version)
        self.obeys = asyncio.Event()

    def _obey(self, config: ProxyConfig) -> None:
        self.keeper.obey(config.budgets)
        self.obeys.set()

    async def run(self, scenario: Scenario, dice: random.Random) -> None:
        """Until cancelled."""
        await asyncio.sleep(dice.random() * scenario.sidecars / START_PER_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run())
            group.create_task(self.keeper.run())
            await self.obeys.wait()
            while True:
                await asyncio.sleep(dice.expovariate(scenario.calls_per_s))
                group.create_task(self._call(scenario, dice))

    async def _call(self, scenario: Scenario, dice: random.Random) -> None:
        value = account_value([f"user-{dice.randrange(scenario.users)}"]) if scenario.users else ""
        claims = (Claim(self._pod.budget, BOUND, True, value),)
        self._measures.calls += self._measures.on
        hold = self.keeper.try_reserve(claims)
        if hold is None:
            self._measures.waited += self._measures.on
            answer = await self.keeper.reserve(claims, PATIENCE_S)
            if not isinstance(answer, Hold):
                self._measures.denied += self._measures.on
                return
            hold = answer
        cost = 0
        try:
            await asyncio.sleep(dice.uniform(*LASTS_S))
            cost = int(BOUND * dice.uniform(*COSTS))
        finally:
            self.keeper.settle(hold, Charge(picodollars=cost, requests=1))

    async def close(self) -> None:
        await self._control.close()


@contextlib.asynccontextmanager
async def at_work(sidecars: Sequence[Sidecar], scenario: Scenario, warm_s: float) -> AsyncIterator[None]:
    """All of them, from `warm_s` after the last one has its configuration."""
    tasks = [
        asyncio.create_task(sidecar.run(scenario, random.Random(number))) for number, sidecar in enumerate(sidecars)
    ]
    try:
        async with asyncio.timeout(OBEY_S):
            await asyncio.gather(*(sidecar.obeys.wait() for sidecar in sidecars))
        await asyncio.sleep(warm_s)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for sidecar in sidecars:
            await sidecar.close()
