"""A simulated pod: the real holder and lease keeper, an application that calls, a network that fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace
from tests.blank_journal import blank_journal
from tests.simulation.oracle import Oracle, Place, Used
from tests.simulation.scene import BOUND_MAX, Scene, lull
from tests.simulation.virtual_time import Process, running

from keelage_api.account import account_value, is_quota
from keelage_api.proxy_config import Per, Quota, Unit
from keelage_api.sync import SyncReply, SyncRequest
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.will_keys import WillKeys
from keelage_operator.shell.ledger_book import LedgerBook, LedgerUnavailable
from keelage_operator.shell.quota_book import QuotaBook
from keelage_sidecar.core.claim import Charge, Claim, Denied, Hold
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import NO_BOOT, Journal
from keelage_sidecar.shell.lease_keeper import LeaseKeeper, LedgerUnreachable

BOOT = b"boot of the node"
ACCOUNTS = 300
"""Slots of a journal: more than one pod needs here, few enough to be copied often."""


class Message:
    """The termination message of one container."""

    def __init__(self, world: Surroundings) -> None:
        self._world = world
        self.content = b""

    def write(self, record: bytes) -> bool:
        if self._world.unlucky(0.02):
            self.content = record[: self._world.random.randrange(len(record))]
            return False
        self.content = record
        return True

    def erase(self) -> bool:
        if self._world.unlucky(0.5):
            return False
        self.content = b""
        return True


class Surroundings(Protocol):
    """What a pod lives in."""

    scene: Scene
    oracle: Oracle
    random: random.Random
    books: list[LedgerBook]
    quotas: list[QuotaBook]
    wills: WillKeys
    healing: asyncio.Event
    """Set when nothing fails any more: then what is late on its way arrives."""

    def unlucky(self, chance: float) -> bool: ...

    def spawn(self, work: Coroutine[object, object, None]) -> None: ...

    def exists(self, pod: Pod) -> bool: ...

    def answered(self, answer: Hold | Denied, waited_s: float) -> None: ...


@dataclass(eq=False, slots=True)
class Flight:
    """A call at the provider, which bills it when it ends, whatever has become of the pod."""

    payers: tuple[tuple[Place, int], ...]
    rates: tuple[tuple[Used, int], ...]
    oracle: Oracle
    ended: asyncio.Future[object]

    @property
    def cost(self) -> int:
        """On all budgets together."""
        return sum(cost for _, cost in self.payers)

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
            for place, cost in self.payers:
                self.oracle.bill(place, cost)
            for used, amount in self.rates:
                self.oracle.rates.ends(used, amount)


class Pod:
    """A sidecar and the calls of its application; a LedgerClient of its own."""

    def __init__(self, world: Surroundings, number: int) -> None:
        self.world = world
        self._number = number
        self.identity = PodIdentity("shop", f"pod-{number}", f"uid{number}")
        # In order, as the tasks are: a set goes by addresses, and no seed would repeat a world.
        self.flights: dict[Flight, None] = {}
        self._calls = 0
        """Waiting or in flight."""
        self.restarts = self._incarnations = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.will = ""
        """What the container that was stopped last left."""
        chance, drift = world.random, world.scene.drift
        self._boot = chance.choice([BOOT, BOOT, NO_BOOT])
        self.process = Process(1.0 + chance.uniform(-drift, drift), chance.choice([0.0, 12_345.678]))
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._pause_s = chance.choice(world.scene.pauses_s)
        self.quiet = False
        self.start(self._blank())

    def _blank(self) -> bytearray:
        self._incarnations += 1
        return bytearray(blank_journal(f"{self._number:08x}{self._incarnations:08x}", self._boot, ACCOUNTS))

    def start(self, buffer: bytearray) -> None:
        self.buffer = buffer
        self._message = Message(self.world)
        self.holder = Holder(Journal(buffer, self._boot), self._message)
        self.keeper = LeaseKeeper(self.holder, self, running().time, lambda: 1.0)
        self.keeper.obey(tuple(each.terms for each in self.world.scene.budgets), self.world.scene.quotas)
        self._keep = self._spawn(self.keeper.run())
        self._spawn(self._work())

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self.process.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.world.oracle.note(failure)

    async def stop(self) -> None:
        """SIGKILL: nothing is told; the provider finishes and bills what is in flight."""
        tasks = list(self._tasks)
        # What a cancelled task still does never happened.
        buffer, self.will = bytes(self.buffer), self._message.content.decode("ascii")
        self.end_flights()
        self.flights.clear()
        self._calls = 0
        self._idle.set()
        for task in tasks:
            task.cancel()
        self.process.go_on()
        if tasks:
            await asyncio.wait(tasks)
        self.buffer = bytearray(buffer)

    async def crash(self, with_journal: bool) -> None:
        await self.stop()
        self.restarts += 1
        self.start(self.buffer if with_journal else self._blank())

    async def leave(self) -> None:
        self.process.go_on()
        await self.stop_calls()
        self._keep.cancel()
        await asyncio.wait([self._keep])
        await self.process.create_task(self.keeper.leave())
        await self.stop()

    def end_flights(self) -> None:
        """The provider has done all that it was asked for."""
        for flight in self.flights:
            flight.end()

    @property
    def idle(self) -> bool:
        """No call waits or is in flight."""
        return not self._calls

    async def stop_calls(self) -> None:
        """No new calls; returns when those in flight are done."""
        self.quiet = True
        await self._idle.wait()

    async def _work(self) -> None:
        chance = self.world.random
        while True:
            await asyncio.sleep(chance.expovariate(1 / self._pause_s) + lull(self.world.scene, running().true_s))
            if self.quiet:
                return
            self._calls += 1
            self._idle.clear()
            self._spawn(self._call(chance.randint(1, BOUND_MAX), chance.randint(1, BOUND_MAX)))

    async def _call(self, bound: int, bound_tokens: int) -> None:
        await self._served(bound, bound_tokens)
        self._calls -= 1
        if not self._calls:
            self._idle.set()

    async def _served(self, bound: int, bound_tokens: int) -> None:
        world, chance, clock = self.world, self.world.random, running().time
        budgets = chance.sample(world.scene.budgets, chance.randint(1, len(world.scene.budgets)))
        parts = {Per.USER: f"user-{int(chance.random() ** 2 * world.scene.users)}", Per.POD: self.identity.name}
        rates = tuple(rate_on(each, parts) for each in world.scene.quotas)
        claims = tuple(claim_on(each, parts, bound, bound_tokens) for each in budgets) + rates
        began_s = clock()
        hold = await self.keeper.reserve(claims, chance.uniform(*world.scene.patience_s))
        world.answered(hold, clock() - began_s)
        if not isinstance(hold, Hold):
            return
        share = chance.choice([0.0, 1.0, chance.random()])
        charge = Charge(picodollars=int(bound * share), tokens=int(bound_tokens * share), requests=1)
        # An observed budget that no window is known of yet does not count the call.
        units = {claim.budget: claim.unit for claim in claims}
        payers = tuple(
            (place, charge.of(units[place[0]])) for place in accounts_of(self.holder, hold) if not is_quota(place[0])
        )
        used = used_of(self.holder, hold, rates, self.identity.uid)
        flight = Flight(payers, used, world.oracle, running().create_future())
        world.oracle.begins(used)
        self.flights[flight] = None
        world.oracle.held(self.identity.uid, self.holder, [place for place, _ in payers])
        lasts_s = chance.expovariate(1.0) if chance.random() >= world.scene.batches else chance.uniform(3.0, 20.0)
        running().outside.call_later(lasts_s, flight.end)
        await flight.ended
        self.keeper.settle(hold, charge)
        self.flights.pop(flight, None)

    # The network

    async def sync(self, request: SyncRequest) -> SyncReply:
        """On its way nothing depends on the pod any more: it may be stopped or dead when it arrives."""
        outcome = await asyncio.shield(running().outside.create_task(self._carried(request)))
        if isinstance(outcome, LedgerUnreachable):
            raise outcome
        return outcome

    async def _carried(self, request: SyncRequest) -> SyncReply | LedgerUnreachable:
        try:
            return await self._exchange(request)
        except LedgerUnreachable as error:
            return error  # the pod may not be there to hear it

    async def _exchange(self, request: SyncRequest) -> SyncReply:
        """Delays, loses and doubles."""
        world, chance = self.world, self.world.random
        await asyncio.sleep(chance.uniform(0, 0.1))
        if world.unlucky(0.1):
            raise LedgerUnreachable("the request was lost")
        if world.unlucky(0.1):
            world.spawn(self._again(request, chance.uniform(0, 6)))
        reply = await self._deliver(request)
        await asyncio.sleep(chance.uniform(0, 0.1))
        if world.unlucky(0.05):
            await asyncio.sleep(chance.uniform(0, 8))
        if world.unlucky(0.1):
            raise LedgerUnreachable("the answer was lost")
        return reply

    async def _again(self, request: SyncRequest, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self.world.healing.wait()
        except TimeoutError:
            pass
        try:
            await self._deliver(request)
        except LedgerUnreachable:
            return

    async def _deliver(self, request: SyncRequest) -> SyncReply:
        if not self.world.exists(self):
            raise LedgerUnreachable("the token of a deleted pod is refused")
        leading = [number for number, book in enumerate(self.world.books) if book.leading]
        if not leading:
            raise LedgerUnreachable("nobody leads")
        ledgers = tuple(each for each in request.statements if not is_quota(each.budget))
        rates = tuple(each for each in request.statements if is_quota(each.budget))
        number = self.world.random.choice(leading)
        try:
            rights = await self.world.books[number].sync(self.identity, replace(request, statements=ledgers))
            if rates:
                rights += await self.world.quotas[number].sync(self.identity, request.incarnation, rates)
        except LedgerUnavailable as error:
            raise LedgerUnreachable(str(error)) from error
        return SyncReply(rights, will_key=self.world.wills.key_of(f"{self.identity.uid}.{request.incarnation}"))


def accounts_of(holder: Holder, hold: Hold) -> tuple[Place, ...]:
    """The accounts that it is on; an observed budget of no known window has none."""
    return tuple((account.budget, account.window, account.value) for account, _, _, _ in holder._holds[hold.id])


def used_of(holder: Holder, hold: Hold, rates: tuple[Claim, ...], uid: str) -> tuple[tuple[Used, int], ...]:
    """What the hold has of each rate, and whether the pod kept it alone."""
    alone = {claim.owner for claim, local in holder._loose.get(hold.id, ()) if local}
    return tuple(
        (Used(claim.budget, claim.value, uid if claim.owner in alone else ""), claim.amount) for claim in rates
    )


def rate_on(quota: Quota, parts: Mapping[Per, str]) -> Claim:
    value = account_value(parts[per] for per in quota.per)
    return Claim(quota.name, 1, True, value, quota.unit, quota=True, at_once=bool(quota.rule))


def claim_on(terms: BudgetInForce, parts: Mapping[Per, str], bound: int, bound_tokens: int) -> Claim:
    """What a call asks of a budget, in its unit and on its value's account."""
    return Claim(
        terms.name,
        bound_tokens if terms.unit is Unit.TOKENS else bound,
        terms.hard,
        account_value(parts[per] for per in terms.per),
        terms.unit,
    )
