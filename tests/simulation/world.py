"""One world from one seed: the real book, holders and lease keepers on simulated time, and everything that goes wrong.

Real: LedgerBook, LedgerPage, ledger core, Holder, journal, last will, LeaseKeeper. Simulated: the network (delays,
losses, duplicates, and so reordering), the store's failures, clocks, the provider and its bill. After each write,
each hold and each bill, for every hard budget:

- I1: what is committed in a stored ledger is within the greatest limit that its window had;
- I2: at each holder spent + reserved <= granted, and granted <= what the stored ledger holds for it;
- the provider's true bill of each window is within that limit and never above what the ledger counts.

In some worlds nothing fails: they show how much of a budget can be used.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta

from tests.simulation.pod import Pod
from tests.simulation.tally import Tally
from tests.simulation.virtual_time import run

from keelage_api.proxy_config import BudgetTerms
from keelage_api.window import Every
from keelage_operator.core.ledger import Checkpoint, LedgerRecord, RowState, committed
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.will_keys import WillKeys
from keelage_operator.shell.ledger_book import LedgerBook, LedgerUnavailable
from keelage_operator.shell.ledger_store import LedgerKey, MemoryStore, Stored, StoreUnavailable
from keelage_sidecar.core.claim import Charge, Claim, DenialReason, Denied, Hold

HOUR = BudgetTerms("shop/hour", hard=True)
DAY = BudgetTerms("shop/day", hard=True)
SEEN = BudgetTerms("shop/seen", hard=False)
EVERY = {HOUR.name: Every.HOUR, DAY.name: Every.DAY, SEEN.name: Every.HOUR}
LIFE_S = 10.0
CALM_S = 120.0
"""A calm world ends with the first refusal, or then."""
WARM_S = 5.0
"""In a calm world: by then every sidecar has its first lease and knows its rate."""
HEAL_S = 12.0
"""Longer than a rebuilt ledger waits for claims, and than a statement takes to come."""
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


class World:
    def __init__(self, seed: int) -> None:
        self.random = chance = random.Random(seed)
        self.tally = Tally(worlds=1)
        self.calm = chance.random() < 0.2
        self.faults = not self.calm
        self.budgets: tuple[BudgetTerms, ...] = (HOUR,)
        self.bound_max = 150
        self.pauses_s: tuple[float, ...] = (0.1, 0.3, 1.0)
        self.patience_s = (0.0, 3.0)
        limit = chance.choice([300, 1000, 5000])
        if self.calm:
            self.ratio = chance.choice([20, 50, 100, 300])
            limit = self.bound_max * self.ratio
            self.pauses_s, self.patience_s = (0.1, 0.2, 0.5), (5.0, 5.0)
        else:
            self.budgets += tuple(terms for terms in (DAY, SEEN) if chance.random() < 0.4)
        self.limits = {terms.name: limit * (3 if terms is DAY else 1) for terms in self.budgets}
        self.deletes = self.faults and chance.random() < 0.4
        """Ledgers are deleted in this world; then its window stays, since a status tells of the current one only."""
        self.special = ["delete"] if self.deletes else ["roll", "back"]
        self.status: dict[str, Checkpoint] = {}
        self.most: defaultdict[LedgerKey, int] = defaultdict(int)
        """The greatest limit that each window had."""
        self.billed: Counter[LedgerKey] = Counter()
        self.failures: list[BaseException | None] = []
        self._before: dict[LedgerKey, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._first_refusal = asyncio.Event()
        self.pods: list[Pod] = []
        self._pod_number = 0
        self.wills = WillKeys(lambda: ("secret of all replicas",))
        self._left_behind: dict[str, str] = {}
        """By uid: the termination message of a pod that is gone, where the cluster kept one."""

    def unlucky(self, chance: float) -> bool:
        return self.faults and self.random.random() < chance

    def exists(self, pod: Pod) -> bool:
        return pod in self.pods

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
        self.tally.writes += 1
        if key.budget != SEEN.name:
            total = committed(record)
            # A limit that was lowered takes nothing back; nothing is granted above it either.
            most, billed = max(self.most[key], self._before.get(key, 0)), self.billed[key]
            self.require(total <= most, f"I1 in {key}: {total} of {most}")
            self.require(total >= billed, f"{key}: billed {billed}, counted {total}")
            self._before[key] = total
        for pod in self.pods:
            self.check_pod(pod)

    def check_pod(self, pod: Pod) -> None:
        for figure in pod.holder.figures():
            if figure.budget == SEEN.name:
                continue
            self.require(figure.spent + figure.reserved <= figure.granted, f"I2 at {pod.identity.name}: {figure}")
            record = self.store.peek(LedgerKey(figure.budget, figure.window))
            row = (
                record.account().rows.get(f"{pod.identity.uid}.{pod.holder.incarnation}")
                if record is not None
                else None
            )
            held = row.granted if row is not None else 0
            self.require(
                figure.granted <= held or record is None or self.deletes,
                f"{pod.identity.name} counts on {figure.granted} in {figure.window}, the ledger holds {held}",
            )

    def bill(self, budget: str, window: str, cost: int) -> None:
        key = LedgerKey(budget, window)
        self.billed[key] += cost
        if budget != SEEN.name:
            self.require(self.billed[key] <= self.most[key], f"{key}: billed {self.billed[key]} of {self.most[key]}")

    def answered(self, answer: Hold | Denied, waited_s: float) -> None:
        """A call got its hold, or was refused."""
        self.tally.counts["served" if isinstance(answer, Hold) else answer.reason] += 1
        if not self.calm or self._first_refusal.is_set():
            return
        figures = [figure for pod in self.pods for figure in pod.holder.figures()]
        held, limit = sum(figure.spent + figure.reserved for figure in figures), self.limits[HOUR.name]
        steady = asyncio.get_running_loop().time() > WARM_S and 2 * held < limit
        self.tally.calm_requests += 1
        self.tally.steady_requests += steady
        if isinstance(answer, Hold):
            self.tally.calm_waited += waited_s > 0
            self.tally.steady_waited += steady and waited_s > 0
        elif answer.reason is DenialReason.BUDGET_EXHAUSTED:
            self.tally.calm_exhausted += 1
            self.tally.false_refusals += answer.needed <= limit - held
            self.tally.note_use(self.ratio, sum(self.billed.values()) / limit)
            self._first_refusal.set()

    # Life

    async def live(self) -> None:
        clock = asyncio.get_running_loop().time
        self.store = Store(self)
        self.offset_s = [0.0, 0.0]
        self.books = [LedgerBook(self.store, lambda: self._wall(0), clock)]
        self.books.append(LedgerBook(self.store, lambda: self._wall(1), clock))
        for book in self.books:
            book.read_will = self.wills.read
        self.set_limits({})
        await self.lead(self.random.randrange(2))
        for _ in range(self.random.randint(1, 5)):
            self.add_pod()
        if self.calm:
            try:
                async with asyncio.timeout(CALM_S):
                    await self._first_refusal.wait()
            except TimeoutError:
                self.tally.counts["calm to the end"] += 1
        while not self.calm and clock() < LIFE_S:
            await asyncio.sleep(self.random.expovariate(1.5))
            await self.happen()
            self.raise_failures()
        self.tally.seconds = clock()
        await self.heal()
        self.raise_failures()
        self.tally.overrun = sum(
            max(0, billed - self.most[key]) for key, billed in self.billed.items() if key.budget != SEEN.name
        )

    def _wall(self, book: int) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time() + self.offset_s[book])

    def raise_failures(self) -> None:
        for failure in self.failures:
            if failure is not None:
                raise failure

    def set_limits(self, changed: dict[str, int]) -> None:
        self.limits |= changed
        terms = {
            each.name: BudgetInForce(each.name, "u", self.limits[each.name], EVERY[each.name], "UTC", each.hard)
            for each in self.budgets
        }
        for book in self.books:
            book.set_budgets(terms, self.status)
        for name, limit in self.limits.items():
            for day in (20, 21, 22):
                ids = [f"2026-11-{day}"] if EVERY[name] is Every.DAY else [f"2026-11-{day}T{h:02d}Z" for h in range(24)]
                for window in ids:
                    key = LedgerKey(name, window)
                    self.most[key] = max(self.most[key], limit)

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
                await book.pod_gone(uid, self._left_behind.get(uid, ""))
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
                if chance.random() < 0.7:
                    self._left_behind[pod.identity.uid] = pod.will
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
                self.set_limits({chance.choice(self.budgets).name: chance.choice([100, 300, 1000, 3000])})
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
        self.status[key.budget] = Checkpoint(key.window, committed(record))
        self.set_limits({})
        self.store._stored.pop(key)
        self.tally.counts["deleted"] += 1

    async def heal(self) -> None:
        """No more faults: then all that is not forfeited can be granted to one who asks for it on all budgets."""
        self.faults = False
        self.offset_s = [max(self.offset_s)] * 2
        await self.books[0].stop_leading()
        await self.books[1].stop_leading()
        await self.lead(0)
        for pod in list(self.pods):
            await pod.stop_calls()
        await asyncio.sleep(HEAL_S)
        await self.sweep(self.books[0])
        claims = tuple(Claim(terms.name, left, True) for terms in self.budgets if (left := self._left(terms)) > 0)
        if claims:
            self.add_pod()
            self.pods[-1].quiet = True
            hold = await self.pods[-1].keeper.reserve(claims, 20.0)
            assert isinstance(hold, Hold), f"{claims} of {self.limits} is free and cannot be had: {hold}"
            self.pods[-1].keeper.settle(hold, Charge(min(claim.amount for claim in claims)))
        for pod in self.pods:
            await pod.leave()
        for number in range(2):
            await self.books[number].stop_leading()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def _left(self, terms: BudgetTerms) -> int:
        """What a hard budget must be able to grant; 0 for another one."""
        figures = self.books[0].figures(terms.name)
        assert figures is not None
        if not terms.hard:
            return 0
        record = self.store.peek(LedgerKey(terms.name, figures.window.id))
        rows = record.account().rows.values() if record is not None else ()
        suspect = sum(row.granted - row.spent for row in rows if row.state is RowState.SUSPECT)
        limit, most = self.limits[terms.name], self.most[LedgerKey(terms.name, figures.window.id)]
        self.tally.shares += 1
        self.tally.stranded += suspect / most
        self.tally.forfeited += figures.forfeited / most
        return limit - figures.spent - figures.forfeited - suspect


def simulate(seed: int) -> Tally:
    """Live through the world of that seed; what happened in it. AssertionError names the seed."""
    world = World(seed)
    try:
        run(world.live())
    except BaseException as error:
        raise AssertionError(f"world of seed {seed}: {error!r}") from error
    return world.tally
