"""Rates over several sidecars: real holders and lease keepers, the real book, virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random

from tests.blank_journal import blank_journal
from tests.simulation.virtual_time import run

from keelage_api.proxy_config import Per, Quota, Unit
from keelage_api.sync import SyncReply, SyncRequest
from keelage_operator.core.identity import PodIdentity
from keelage_operator.shell.ledger_page import LedgerUnavailable
from keelage_operator.shell.quota_book import QuotaBook
from keelage_sidecar.core.claim import Charge, Claim, DenialReason, Denied
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import NO_BOOT, Journal
from keelage_sidecar.shell.lease_keeper import LeaseKeeper, LedgerUnreachable

USERS = Quota("shop/rate:chat/all:0", Unit.REQUESTS, 20, 60_000, "chat", rule="all", per=(Per.USER,))
MINUTE = Quota(
    "shop/limit:chat/main:requestsPerMinute",
    Unit.REQUESTS,
    600,
    60_000,
    "chat",
    backend="chat/main",
    queue_wait_ms=5000,
)
TOKENS = Quota(
    "shop/limit:chat/main:inputTokensPerMinute",
    Unit.INPUT_TOKENS,
    60_000,
    60_000,
    "chat",
    backend="chat/main",
    queue_wait_ms=5000,
)
AT_ONCE = Quota(
    "shop/limit:chat/main:concurrentRequests", Unit.CONCURRENT, 10, 0, "chat", backend="chat/main", queue_wait_ms=5000
)


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Provider:
    """Counts what arrives as a bucket that empties at the rate: it must never overflow."""

    quota: Quota
    level: float = 0.0
    at_s: float = 0.0
    served: int = 0
    flying: int = 0
    worst: float = 0.0

    def arrives(self, amount: int = 1) -> None:
        if self.quota.window_ms:
            flowed = self.quota.limit * (now() - self.at_s) * 1000 / self.quota.window_ms
            self.level, self.at_s = max(0.0, self.level - flowed) + amount, now()
        else:
            self.flying += amount
            self.level = self.flying
        self.served += amount
        self.worst = max(self.worst, self.level)
        assert self.level <= self.quota.limit + 1e-6, f"after {now():.2f} s: {self.level} of {self.quota.limit}"

    def leaves(self, amount: int = 1) -> None:
        self.flying -= amount


@dataclass
class Fleet:
    """Sidecars under one quota, one leader, a network of some milliseconds."""

    quota: Quota
    size: int
    random: Random = field(default_factory=lambda: Random(7))
    reachable: bool = True

    def __post_init__(self) -> None:
        self.providers: defaultdict[str, Provider] = defaultdict(lambda: Provider(self.quota))
        """By value: each has the limit for itself."""
        self.books = [self.lead(after_nobody=True)]
        self.pods = [Pod(self, number) for number in range(self.size)]
        self.denied: Counter[DenialReason] = Counter()
        self.exchanges = 0

    @property
    def provider(self) -> Provider:
        return self.providers[""]

    def lead(self, after_nobody: bool = False) -> QuotaBook:
        book = QuotaBook(now)
        book.set_quotas({self.quota.name: self.quota})
        book.lead(after_nobody)
        return book

    async def settle_in(self) -> None:
        """Until every sidecar knows the leader."""
        await asyncio.sleep(1)

    async def stop(self) -> None:
        for pod in self.pods:
            await pod.stop()


class Pod:
    def __init__(self, fleet: Fleet, number: int) -> None:
        self.fleet = fleet
        self.identity = PodIdentity("shop", f"pod-{number}", f"uid{number}")
        holder = Holder(Journal(bytearray(blank_journal(f"{number:016x}", NO_BOOT)), NO_BOOT))
        self.keeper = LeaseKeeper(holder, self, now, lambda: 1.0)
        self.keeper.obey((), (fleet.quota,))
        self._running = asyncio.create_task(self.keeper.run())

    async def sync(self, request: SyncRequest) -> SyncReply:
        self.fleet.exchanges += 1
        await asyncio.sleep(self.fleet.random.uniform(0.001, 0.02))
        if not self.fleet.reachable:
            raise LedgerUnreachable("nobody leads")
        try:
            rights = await self.fleet.books[-1].sync(self.identity, request.incarnation, request.statements)
        except LedgerUnavailable as error:
            raise LedgerUnreachable(str(error)) from error
        await asyncio.sleep(self.fleet.random.uniform(0.001, 0.02))
        return SyncReply(rights)

    async def call(self, value: str = "", takes_s: float = 0.1, amount: int = 1, patience_s: float = 5.0) -> bool:
        """One attempt at the provider; False if it was refused."""
        quota = self.fleet.quota
        claim = Claim(quota.name, amount, True, value, quota.unit, quota=True, at_once=bool(quota.rule))
        hold = await self.keeper.reserve((claim,), patience_s)
        if isinstance(hold, Denied):
            self.fleet.denied[hold.reason] += 1
            return False
        self.fleet.providers[value].arrives(amount)
        await asyncio.sleep(takes_s)
        self.fleet.providers[value].leaves(amount)
        self.keeper.settle(hold, Charge(requests=1, input_tokens=amount))
        return True

    async def load(self, per_s: float, until_s: float, **call: float) -> None:
        """Calls at random moments."""
        async with asyncio.TaskGroup() as calls:
            while True:
                await asyncio.sleep(self.fleet.random.expovariate(per_s))
                if now() >= until_s:
                    return
                calls.create_task(self.call(**call))  # type: ignore[arg-type]

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])


def on_virtual_time(test: Coroutine[object, object, None]) -> None:
    run(test)


def test_of_sixty_calls_at_once_twenty_pass_and_then_the_rate() -> None:
    async def scene() -> None:
        fleet = Fleet(USERS, 3)
        await fleet.settle_in()
        began_s = now()
        passed = await asyncio.gather(*(pod.call("alice", patience_s=0.5) for pod in fleet.pods for _ in range(20)))
        assert sum(passed) == 20
        assert fleet.denied == {DenialReason.RATE_LIMITED: 40}
        assert now() - began_s < 0.3, "one exchange, and the call itself"
        again = await asyncio.gather(*(pod.call("bob") for pod in fleet.pods))
        assert all(again), "another user has a rate of its own"
        alice = fleet.providers["alice"]
        async with asyncio.TaskGroup() as loads:
            for pod in fleet.pods:
                loads.create_task(pod.load(1.0, now() + 300, value="alice"))  # type: ignore[arg-type]
        assert 115 <= alice.served <= 120, "twenty, and a hundred in five minutes"
        await fleet.stop()

    on_virtual_time(scene())


def test_skewed_load_gets_its_share_where_it_is() -> None:
    async def scene() -> None:
        fleet = Fleet(MINUTE, 4)
        await fleet.settle_in()
        async with asyncio.TaskGroup() as loads:
            for pod, per_s in zip(fleet.pods, (8.0, 0.2, 0.2, 0.2), strict=True):
                loads.create_task(pod.load(per_s, now() + 60))
        assert fleet.denied == {}, "all together it is below the rate"
        await fleet.stop()

    on_virtual_time(scene())


def test_twice_the_rate_is_used_to_the_full_and_never_above() -> None:
    async def scene() -> None:
        fleet = Fleet(MINUTE, 4)
        await fleet.settle_in()
        began_s = now()
        async with asyncio.TaskGroup() as loads:
            for pod, per_s in zip(fleet.pods, (14.0, 2.0, 2.0, 2.0), strict=True):
                loads.create_task(pod.load(per_s, now() + 90))
        possible = 600 + 10 * (now() - began_s)
        assert fleet.provider.served >= 0.95 * possible
        await fleet.stop()

    on_virtual_time(scene())


def test_a_sidecar_with_big_calls_is_not_starved_by_those_with_small_ones() -> None:
    async def scene() -> None:
        fleet = Fleet(TOKENS, 3)
        await fleet.settle_in()
        assert await fleet.pods[1].call(amount=50_000)
        async with asyncio.TaskGroup() as loads:
            for pod in fleet.pods[1:]:
                loads.create_task(pod.load(5.0, now() + 60, amount=200))
            await asyncio.sleep(20)
            assert await fleet.pods[0].call(amount=3_000)
            await asyncio.sleep(20)
            assert await fleet.pods[0].call(amount=3_000)
        assert fleet.denied[DenialReason.RATE_LIMITED] > 100, "there was more than the rate bears"
        await fleet.stop()

    on_virtual_time(scene())


def test_never_more_at_once_than_the_limit_and_hardly_less() -> None:
    async def scene() -> None:
        fleet = Fleet(AT_ONCE, 4)
        await fleet.settle_in()
        began_s = now()
        async with asyncio.TaskGroup() as loads:
            for pod in fleet.pods:
                loads.create_task(pod.load(4.0, now() + 40, takes_s=1.0))
        assert fleet.provider.served >= 0.9 * 10 * (now() - began_s - 1)
        await fleet.stop()

    on_virtual_time(scene())


def test_a_change_of_leader_admits_no_more_than_the_rate_and_wastes_little() -> None:
    async def scene() -> None:
        fleet = Fleet(MINUTE, 3)
        await fleet.settle_in()
        began_s = now()
        async with asyncio.TaskGroup() as loads:
            for pod in fleet.pods:
                loads.create_task(pod.load(8.0, now() + 60))
            for _ in range(3):
                await asyncio.sleep(15)
                fleet.books[-1].stop_leading()
                fleet.books.append(fleet.lead())
        assert fleet.provider.served >= 0.9 * 10 * (now() - began_s)
        await fleet.stop()

    on_virtual_time(scene())


def test_a_pod_that_vanished_blocks_nobody_for_long() -> None:
    async def scene() -> None:
        fleet = Fleet(AT_ONCE, 2)
        await fleet.settle_in()
        lost, other = fleet.pods
        hanging = [asyncio.create_task(lost.call(takes_s=3600)) for _ in range(10)]
        await asyncio.sleep(3)
        assert not await other.call(patience_s=1.0)
        await lost.stop()
        for call in hanging:
            call.cancel()
        fleet.provider.flying = 0
        fleet.books[-1].pod_gone(lost.identity.uid)
        assert all(await asyncio.gather(*(other.call() for _ in range(10))))
        await other.stop()

    on_virtual_time(scene())


def test_what_the_provider_says_is_obeyed_before_it_refuses() -> None:
    """Somebody else uses the same key: the provider has less left than was granted."""

    async def scene() -> None:
        fleet = Fleet(MINUTE, 3)
        await fleet.settle_in()
        fleet.provider.level, fleet.provider.at_s = 590.0, now()
        for pod in fleet.pods:
            pod.keeper.note_left(MINUTE.name, 3)
            pod.keeper.speak_soon()
        await asyncio.sleep(1)
        async with asyncio.TaskGroup() as loads:
            for pod in fleet.pods:
                loads.create_task(pod.load(5.0, now() + 20))
        assert fleet.provider.served > 150
        await fleet.stop()

    on_virtual_time(scene())


def test_without_a_leader_each_sidecar_keeps_the_rate_by_itself() -> None:
    async def scene() -> None:
        fleet = Fleet(USERS, 2)
        await fleet.settle_in()
        fleet.reachable = False
        await asyncio.sleep(15)
        passed = await asyncio.gather(*(fleet.pods[0].call("alice") for _ in range(30)))
        assert sum(passed) == 20
        assert await fleet.pods[1].call("bob")
        await fleet.stop()

    on_virtual_time(scene())
