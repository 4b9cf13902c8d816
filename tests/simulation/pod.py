"""A simulated pod: the real holder and lease keeper, an application that calls, a network that fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Protocol

from keelage_api.proxy_config import BudgetTerms
from keelage_api.sync import SyncReply, SyncRequest
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.will_keys import WillKeys
from keelage_operator.shell.ledger_book import LedgerBook, LedgerUnavailable
from keelage_sidecar.core.claim import Charge, Claim, Denied, Hold
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import NO_BOOT, Journal, blank_journal
from keelage_sidecar.shell.lease_keeper import LeaseKeeper, LedgerUnreachable

BOOT = b"boot of the node"


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

    random: random.Random
    budgets: tuple[BudgetTerms, ...]
    books: list[LedgerBook]
    wills: WillKeys
    bound_max: int
    pauses_s: tuple[float, ...]
    """Between calls; a pod has one of them."""
    patience_s: tuple[float, float]
    """Least and most."""
    failures: list[BaseException | None]

    def unlucky(self, chance: float) -> bool: ...

    def spawn(self, work: Coroutine[object, object, None]) -> None: ...

    def exists(self, pod: Pod) -> bool: ...

    def bill(self, budget: str, window: str, cost: int) -> None: ...

    def check_pod(self, pod: Pod) -> None: ...

    def answered(self, answer: Hold | Denied, waited_s: float) -> None: ...


class Pod:
    """A sidecar and the calls of its application; a LedgerClient of its own."""

    def __init__(self, world: Surroundings, number: int) -> None:
        self.world = world
        self._number = number
        self.identity = PodIdentity("shop", f"pod-{number}", f"uid{number}")
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: dict[int, tuple[tuple[tuple[str, str, str], ...], int]] = {}
        self._incarnations = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.will = ""
        """What the container that was stopped last left."""
        self._boot = world.random.choice([BOOT, BOOT, NO_BOOT])
        self.quiet = False
        self.start(self._blank())

    def _blank(self) -> bytearray:
        self._incarnations += 1
        return bytearray(blank_journal(f"{self._number:08x}{self._incarnations:08x}", self._boot))

    def start(self, buffer: bytearray) -> None:
        self.buffer = buffer
        self._message = Message(self.world)
        self.holder = Holder(Journal(buffer, self._boot), self._message)
        self.keeper = LeaseKeeper(self.holder, self, asyncio.get_running_loop().time)
        self.keeper.obey(self.world.budgets)
        self._spawn(self.keeper.run())
        self._spawn(self._work())

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.world.failures.append(task.exception())

    async def stop(self) -> None:
        """SIGKILL: nothing is told; the provider finishes and bills what is in flight."""
        tasks = list(self._tasks)
        buffer, self.will = (
            bytes(self.buffer),
            self._message.content.decode("ascii"),
        )  # what a cancelled task still does never happened
        for payers, cost in self._in_flight.values():
            for budget, window, _ in payers:
                self.world.bill(budget, window, cost)
        self._in_flight.clear()
        self._idle.set()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.buffer = bytearray(buffer)

    async def crash(self, with_journal: bool) -> None:
        await self.stop()
        self.start(self.buffer if with_journal else self._blank())

    async def leave(self) -> None:
        await self.stop_calls()
        await self.keeper.leave()
        await self.stop()

    async def stop_calls(self) -> None:
        """No new calls; returns when those in flight are done."""
        self.quiet = True
        await self._idle.wait()

    async def _work(self) -> None:
        chance = self.world.random
        pause_s = chance.choice(self.world.pauses_s)
        while not self.quiet:
            await asyncio.sleep(chance.expovariate(1 / pause_s))
            self._spawn(self._call(chance.randint(1, self.world.bound_max)))

    async def _call(self, bound: int) -> None:
        chance, clock = self.world.random, asyncio.get_running_loop().time
        budgets = chance.sample(self.world.budgets, chance.randint(1, len(self.world.budgets)))
        claims = tuple(Claim(terms.name, bound, terms.hard) for terms in budgets)
        began_s = clock()
        hold = await self.keeper.reserve(claims, chance.uniform(*self.world.patience_s))
        self.world.answered(hold, clock() - began_s)
        if not isinstance(hold, Hold):
            return
        # An observed budget that no window is known of yet does not count the call.
        payers = self.holder.payers(hold)
        cost = chance.choice([0, bound, chance.randint(0, bound)])
        self._in_flight[hold.id] = (payers, cost)
        self._idle.clear()
        self.world.check_pod(self)
        await asyncio.sleep(chance.expovariate(1.0))
        for budget, window, _ in payers:
            self.world.bill(budget, window, cost)
        self.keeper.settle(hold, Charge(cost))
        del self._in_flight[hold.id]
        if not self._in_flight:
            self._idle.set()

    # The network

    async def sync(self, request: SyncRequest) -> SyncReply:
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
        await asyncio.sleep(delay_s)
        if self.world.exists(self):  # the token of a deleted pod is refused
            try:
                await self._deliver(request)
            except LedgerUnreachable:
                return

    async def _deliver(self, request: SyncRequest) -> SyncReply:
        leading = [book for book in self.world.books if book.leading]
        if not leading:
            raise LedgerUnreachable("nobody leads")
        try:
            rights = await self.world.random.choice(leading).sync(self.identity, request)
        except LedgerUnavailable as error:
            raise LedgerUnreachable(str(error)) from error
        return SyncReply(rights, will_key=self.world.wills.key_of(f"{self.identity.uid}.{request.incarnation}"))
