"""One world from one seed: the real book, holders and lease keepers on simulated time, and everything that goes wrong.

Real: LedgerBook, LedgerPage, ledger core, Holder, journal, LeaseKeeper. Simulated: the network (delays, losses,
duplicates, and so reordering), the store's failures, clocks, the provider and its bill. After each write, each hold
and each bill:

- I1: what is committed in a stored ledger is within the greatest limit that its window had;
- I2: at each holder spent + reserved <= granted, and granted <= what the stored ledger holds for it;
- the provider's true bill of each window is within that limit and never above what the ledger counts.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta

from tests.simulation.virtual_time import run

from keelage_api.proxy_config import BudgetTerms
from keelage_api.sync import SyncReply, SyncRequest
from keelage_api.window import Every
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import Checkpoint, LedgerRecord, RowState, committed
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.ledger_book import LedgerBook, LedgerUnavailable
from keelage_operator.shell.ledger_store import LedgerKey, MemoryStore, Stored, StoreUnavailable
from keelage_sidecar.core.claim import Claim, Hold
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import Journal, blank_journal
from keelage_sidecar.shell.lease_keeper import LeaseKeeper, LedgerUnreachable

BUDGET = "shop/hour"
LIFE_S = 10.0
HEAL_S = 12.0
"""Longer than a rebuilt ledger waits for claims, and than a statement takes to come."""
BOUND_MAX = 150
START = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


class Store(MemoryStore):
    """Fails now and then, before or after it wrote; tells the world of each write."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        await self._delay()
        return await self._wrote(key, await super().create(key, record))

    async def replace(self, key: LedgerKey, record: LedgerRecord, version: str) -> Stored:
        await self._delay()
        return await self._wrote(key, await super().replace(key, record, version))

    async def _delay(self) -> None:
        await asyncio.sleep(self._world.random.uniform(0, 0.02))
        if self._world.unlucky(0.02):
            raise StoreUnavailable("not written")

    async def _wrote(self, key: LedgerKey, stored: Stored) -> Stored:
        self._world.check_ledger(key, stored.record)
        await asyncio.sleep(self._world.random.uniform(0, 0.02))
        if self._world.unlucky(0.02):
            raise StoreUnavailable("written, but the answer was lost")
        return stored

    def peek(self, key: LedgerKey) -> LedgerRecord | None:
        stored = self._stored.get(key)
        return stored.record if stored is not None else None


class Pod:
    """A sidecar and the calls of its application; a LedgerClient of its own."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.identity = PodIdentity("shop", f"pod-{number}", f"uid{number}")
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: dict[int, tuple[str, int]] = {}
        self._incarnations = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.quiet = False
        self.start(self._blank())

    def _blank(self) -> bytearray:
        self._incarnations += 1
        return bytearray(blank_journal(f"{self.identity.uid}-{self._incarnations}".ljust(16, "_")))

    def start(self, buffer: bytearray) -> None:
        self.buffer = buffer
        self.holder = Holder(Journal(buffer))
        self.keeper = LeaseKeeper(self.holder, self, asyncio.get_running_loop().time)
        self.keeper.obey((BudgetTerms(BUDGET, hard=True),))
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
        buffer = bytes(self.buffer)  # what a cancelled task still does never happened
        for window, cost in self._in_flight.values():
            self.world.bill(window, cost)
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
        pause_s = chance.choice([0.1, 0.3, 1.0])
        while not self.quiet:
            await asyncio.sleep(chance.expovariate(1 / pause_s))
            self._spawn(self._call(chance.randint(1, BOUND_MAX)))

    async def _call(self, bound: int) -> None:
        chance = self.world.random
        hold = await self.keeper.reserve((Claim(BUDGET, bound, hard=True),), chance.uniform(0, 3))
        if not isinstance(hold, Hold):
            self.world.counts[hold.reason] += 1
            return
        ((account, _, _),) = self.holder._holds[hold.id]
        self.world.counts["served"] += 1
        cost = chance.choice([0, bound, chance.randint(0, bound)])
        self._in_flight[hold.id] = (account.window, cost)
        self._idle.clear()
        self.world.check_pod(self)
        await asyncio.sleep(chance.expovariate(1.0))
        self.world.bill(account.window, cost)
        self.keeper.settle(hold, cost)
        self._done_with(hold.id)

    def _done_with(self, hold_id: int) -> None:
        del self._in_flight[hold_id]
        if not self._in_flight:
            self._idle.set()

    async def sync(self, request: SyncRequest) -> SyncReply:
        """Over a network that delays, loses and doubles."""
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
        if self in self.world.pods:  # the token of a deleted pod is refused
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
        return SyncReply(rights)


class World:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.limit = self.random.choice([300, 1000, 5000])
        self.deletes = self.random.random() < 0.4
        """Ledgers are deleted in this world; then its window stays, since a status tells of the current one only."""
        self.special = ["delete"] if self.deletes else ["roll", "back"]
        self.status: dict[str, Checkpoint] = {}
        self.limits: defaultdict[str, int] = defaultdict(int)
        self.billed: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.failures: list[BaseException | None] = []
        self.faults = True
        self._before: dict[LedgerKey, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.pods: list[Pod] = []
        self._pod_number = 0

    def unlucky(self, chance: float) -> bool:
        return self.faults and self.random.random() < chance

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Invariants

    def require(self, holds: bool, text: str) -> None:
        """Noted and raised by `live`: whoever called it may be a task that nobody awaits."""
        if not holds:
            self.failures.append(AssertionError(f"after {asyncio.get_running_loop().time():.2f} s: {text}"))

    def check_ledger(self, key: LedgerKey, record: LedgerRecord) -> None:
        total = committed(record)
        # A limit that was lowered takes nothing back; nothing is granted above it either.
        most, billed = max(self.limits[key.window], self._before.get(key, 0)), self.billed[key.window]
        self.require(total <= most, f"I1 in {key.window}: {total} of {most}")
        self.require(total >= billed, f"{key.window}: billed {billed}, counted {total}")
        self._before[key] = total
        for pod in self.pods:
            self.check_pod(pod)

    def check_pod(self, pod: Pod) -> None:
        for figure in pod.holder.figures():
            self.require(figure.spent + figure.reserved <= figure.granted, f"I2 at {pod.identity.name}: {figure}")
            record = self.store.peek(LedgerKey(figure.budget, figure.window))
            row = record.rows.get(f"{pod.identity.uid}.{pod.holder.incarnation}") if record is not None else None
            held = row.granted if row is not None else 0
            self.require(
                figure.granted <= held or record is None or self.deletes,
                f"{pod.identity.name} counts on {figure.granted} in {figure.window}, the ledger holds {held}",
            )

    def bill(self, window: str, cost: int) -> None:
        self.billed[window] += cost
        limit = self.limits[window]
        self.require(self.billed[window] <= limit, f"{window}: billed {self.billed[window]} of {limit}")

    # Life

    async def live(self) -> None:
        self.store = Store(self)
        self.offset_s = [0.0, 0.0]
        self.books = [
            LedgerBook(self.store, lambda: self._wall(0), asyncio.get_running_loop().time),
            LedgerBook(self.store, lambda: self._wall(1), asyncio.get_running_loop().time),
        ]
        self.set_limit(self.limit)
        await self.lead(self.random.randrange(2))
        for _ in range(self.random.randint(1, 5)):
            self.add_pod()
        while asyncio.get_running_loop().time() < LIFE_S:
            await asyncio.sleep(self.random.expovariate(1.5))
            await self.happen()
            self.raise_failures()
        await self.heal()
        self.raise_failures()

    def _wall(self, book: int) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time() + self.offset_s[book])

    def raise_failures(self) -> None:
        for failure in self.failures:
            if failure is not None:
                raise failure

    def set_limit(self, limit: int) -> None:
        self.limit = limit
        terms = BudgetInForce(BUDGET, uid="u", limit=limit, every=Every.HOUR, zone="UTC", hard=True)
        for book in self.books:
            book.set_budgets({BUDGET: terms}, self.status)
        for hour in range(24):
            window = f"2026-11-21T{hour:02d}Z"
            self.limits[window] = max(self.limits[window], limit)

    def add_pod(self) -> None:
        self._pod_number += 1
        self.pods.append(Pod(self, self._pod_number))

    async def lead(self, number: int) -> None:
        try:
            await self.books[number].lead()
        except LedgerUnavailable:
            return
        await self.sweep(self.books[number])

    async def sweep(self, book: LedgerBook) -> None:
        """As the operator does from its list of pods."""
        alive = {pod.identity.uid for pod in self.pods}
        for uid in sorted(book.pods() - alive):
            try:
                await book.pod_gone(uid)
            except LedgerUnavailable:
                continue

    async def happen(self) -> None:
        chance = self.random
        match chance.choice(
            [*["crash", "crash", "journal", "gone", "leaves", "pod", "leader", "two", "none", "limit"], *self.special]
        ):
            case "crash" if self.pods:
                await chance.choice(self.pods).crash(with_journal=True)
            case "journal" if self.pods:
                await chance.choice(self.pods).crash(with_journal=False)
            case "gone" if self.pods:
                pod = self.pods.pop(chance.randrange(len(self.pods)))
                await pod.stop()
                for book in self.books:
                    if book.leading:
                        await self.sweep(book)
            case "leaves" if self.pods:
                pod = chance.choice(self.pods)
                await pod.leave()
                self.pods.remove(pod)
            case "pod" if len(self.pods) < 6:
                self.add_pod()
            case "leader":
                new = chance.randrange(2)
                await self.books[1 - new].stop_leading()
                await self.lead(new)
            case "two":
                for number in range(2):
                    await self.lead(number)
            case "none":
                for book in self.books:
                    await book.stop_leading()
            case "limit":
                self.set_limit(chance.choice([100, 300, 1000, 3000]))
            case "roll" if max(self.offset_s) < 5 * 3600:
                self.offset_s[chance.randrange(2)] += 3600
            case "back":
                self.offset_s[chance.randrange(2)] -= chance.choice([1, 60, 3600])
            case "delete":
                await self.delete_ledger()

    async def delete_ledger(self) -> None:
        """With one leader, and the status up to date: what else can be known is lost."""
        leading = [book for book in self.books if book.leading]
        keys = await self.store.list_keys()
        if len(leading) != 1 or not keys:
            return
        key = self.random.choice(keys)
        record = self.store.peek(key)
        assert record is not None
        self.status = {BUDGET: Checkpoint(key.window, committed(record))}
        self.set_limit(self.limit)
        self.store._stored.pop(key)
        self.counts["deleted"] += 1

    async def heal(self) -> None:
        """No more faults: then all that is not forfeited can be granted to one who asks for it."""
        self.faults = False
        self.offset_s = [max(self.offset_s)] * 2
        await self.books[0].stop_leading()
        await self.books[1].stop_leading()
        await self.lead(0)
        for pod in list(self.pods):
            await pod.stop_calls()
        await asyncio.sleep(HEAL_S)
        await self.sweep(self.books[0])
        figures = self.books[0].figures(BUDGET)
        assert figures is not None
        record = self.store.peek(LedgerKey(BUDGET, figures.window.id))
        lost = 0
        if record is not None:
            lost = sum(row.granted - row.spent for row in record.rows.values() if row.state is RowState.SUSPECT)
        left = self.limit - figures.spent - figures.forfeited - lost
        if left > 0:
            self.add_pod()
            self.pods[-1].quiet = True
            hold = await self.pods[-1].keeper.reserve((Claim(BUDGET, left, hard=True),), 20.0)
            assert isinstance(hold, Hold), f"{left} of {self.limit} is free and cannot be had: {hold}"
            self.pods[-1].keeper.settle(hold, left)
        for pod in self.pods:
            await pod.leave()
        for number in range(2):
            await self.books[number].stop_leading()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))


def simulate(seed: int) -> Counter[str]:
    """Live through the world of that seed; what happened in it, counted. AssertionError names the seed."""
    world = World(seed)
    try:
        run(world.live())
    except BaseException as error:
        raise AssertionError(f"world of seed {seed}: {error!r}") from error
    return world.counts
