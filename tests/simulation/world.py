"""One world from one seed: the real book, holders and lease keepers on simulated time, and everything that goes wrong.

Real: LedgerBook, LedgerPage, ledger core, Holder, journal, last will, LeaseKeeper. Simulated: the network (delays,
losses, duplicates, and so reordering), the store's failures, clocks, the provider and its bill. `oracle` says what must
hold at every moment. At the end all faults stop, and everything that is neither spent nor forfeited nor kept for a
lost incarnation must be granted to one call that asks for all of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.simulation.oracle import Oracle, Rates
from tests.simulation.pod import Pod
from tests.simulation.scene import PODS_MAX, Kind, draw, lull
from tests.simulation.store import FailingStore
from tests.simulation.tally import Tally
from tests.simulation.virtual_time import run, running

from keelage_api.account import is_quota
from keelage_operator.core.ledger import Checkpoint, committed
from keelage_operator.core.shard import SHARDS, home_of
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.will_keys import WillKeys
from keelage_operator.shell.ledger_book import LedgerBook, LedgerUnavailable
from keelage_operator.shell.ledger_store import LedgerKey
from keelage_operator.shell.quota_book import QuotaBook
from keelage_sidecar.core.claim import Charge, Claim, DenialReason, Denied, Hold

CALM_S = 300.0
"""A calm world ends with the first refusal, or then."""
WARM_S = 5.0
"""In a calm world: by then every sidecar has its first lease and knows its rate."""
NODE_LOST_S = (15.0, 40.0)
"""When a node is lost where nothing else happens."""
HEAL_S = 20.0
"""Longer than a rebuilt ledger waits for claims, and than every value of a holder takes to be told again. Where the
ledgers hold earlier what every holder has spent, nothing is waited for."""
LOOK_S = 0.25
"""Between looks at whether they do."""
STOPPED_MAX_S = 30.0
"""For SIGSTOP."""
START = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


class World:
    def __init__(self, seed: int, kind: Kind | None = None) -> None:
        self.random = random.Random(seed)
        self.scene = draw(self.random, kind)
        self.tally = Tally(worlds=1)
        self.tally.counts[f"{self.scene.kind} worlds"] = 1
        self.faults = self.scene.kind in (Kind.FAULTY, Kind.RATES)
        self.deletes = "delete" in self.scene.events
        self.budgets = {each.name: each for each in self.scene.budgets}
        self.oracle = Oracle(self.scene.budgets, self.deletes)
        self.oracle.holders = lambda: ((pod.identity.uid, pod.holder) for pod in self.pods)
        self.status: dict[str, Checkpoint] = {}
        self.pods: list[Pod] = []
        self.leaving: list[Pod] = []
        self._pod_number = 0
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._first_refusal = asyncio.Event()
        self.healing = asyncio.Event()
        self.wills = WillKeys(lambda: ("secret of all replicas",))
        self._left_behind: dict[str, str] = {}
        """By uid: the termination message of a pod that is gone, where the cluster kept one."""

    def unlucky(self, chance: float) -> bool:
        return self.faults and self.random.random() < chance

    def exists(self, pod: Pod) -> bool:
        return pod in self.pods

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = running().outside.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def answered(self, answer: Hold | Denied, waited_s: float) -> None:
        """A call got its hold, or was refused."""
        tally = self.tally
        tally.counts["served" if isinstance(answer, Hold) else answer.reason] += 1
        if self.scene.kind is not Kind.CALM or self._first_refusal.is_set():
            return
        (terms,) = self.scene.budgets
        figures = [figure for pod in self.pods for figure in pod.holder.figures()]
        held = sum(figure.spent + figure.reserved for figure in figures)
        steady = running().true_s > WARM_S and 2 * held < terms.limit
        tally.calm_requests += 1
        tally.steady_requests += steady
        if isinstance(answer, Hold):
            tally.calm_waited += waited_s > 0
            tally.steady_waited += steady and waited_s > 0
        elif answer.reason is DenialReason.BUDGET_EXHAUSTED:
            tally.calm_exhausted += 1
            tally.false_refusals += answer.needed <= terms.limit - held
            in_flight = sum(flight.cost for pod in self.pods for flight in pod.flights)
            tally.note_use(self.scene.ratio, (self.oracle.billed.total() + in_flight) / terms.limit)
            self._first_refusal.set()

    # Life

    async def live(self) -> None:
        self._loop = running()
        clock = self._loop.time
        self.store = self.oracle.store = FailingStore(self.random, self.unlucky, self.oracle.stored)
        self.offset_s = [0.0, 0.0]
        self._told = [(0.0, START), (0.0, START)]
        self.books = [LedgerBook(self.store, lambda: self._wall(0), clock)]
        self.books.append(LedgerBook(self.store, lambda: self._wall(1), clock))
        for book in self.books:
            book.read_will = self.wills.read
        self.quotas = [QuotaBook(clock), QuotaBook(clock)]
        for quotas in self.quotas:
            quotas.set_quotas({quota.name: quota for quota in self.scene.quotas})
        self.oracle.rates = Rates(self.scene.quotas)
        self.set_budgets(*self.scene.budgets)
        await self.lead(self.random.randrange(2))
        for _ in range(self.scene.pods):
            self.add_pod()
        match self.scene.kind:
            case Kind.CALM:
                await self._until_refused()
            case Kind.NODE_LOST:
                await self._until_node_lost()
            case Kind.FAULTY | Kind.RATES:
                while clock() < self.scene.life_s:
                    await asyncio.sleep(self.random.expovariate(1.5) + lull(self.scene, clock()))
                    await self.happen()
                    self.oracle.raise_failures()
        self.tally.seconds = clock()
        await self.heal()
        self.oracle.raise_failures()
        self.tally.writes = self.oracle.writes
        self.tally.overrun = self.oracle.overrun()

    async def _until_refused(self) -> None:
        try:
            async with asyncio.timeout(CALM_S):
                await self._first_refusal.wait()
        except TimeoutError:
            self.tally.counts["calm to the end"] += 1

    async def _until_node_lost(self) -> None:
        await asyncio.sleep(self.random.uniform(*NODE_LOST_S))
        pod = self.pods.pop(self.random.randrange(len(self.pods)))
        await pod.stop()
        await self.sweep_all()
        (terms,) = self.scene.budgets
        figures = next(found for book in self.books if (found := book.figures(terms.name)) is not None)
        self.tally.lost_nodes.append(figures.forfeited / terms.limit)

    def _wall(self, book: int) -> datetime:
        at_s = self._loop.true_s + self.offset_s[book]
        if self._told[book][0] != at_s:  # asked several times per statement, while no time passes
            self._told[book] = (at_s, START + timedelta(seconds=at_s))
        return self._told[book][1]

    def set_budgets(self, *changed: BudgetInForce) -> None:
        for each in changed:
            self.budgets[each.name] = each
            self.oracle.caps.change(each.name, each.cap, running().true_s)
        for book in self.books:
            book.set_budgets(self.budgets, self.status)

    def add_pod(self) -> None:
        self._pod_number += 1
        self.pods.append(Pod(self, self._pod_number))

    async def lead(self, number: int) -> None:
        try:
            await self.books[number].lead()
        except LedgerUnavailable:
            return
        self.quotas[number].lead()
        await self.sweep(self.books[number])

    async def stop_leading(self, number: int) -> None:
        self.quotas[number].stop_leading()
        await self.books[number].stop_leading()

    async def sweep(self, book: LedgerBook) -> None:
        """As the operator does from its list of pods."""
        alive = {pod.identity.uid for pod in self.pods}
        for quotas in self.quotas:
            for uid in sorted(quotas.pods() - alive):
                quotas.pod_gone(uid)
        for uid in sorted(book.pods() - alive):
            try:
                await book.pod_gone(uid, self._left_behind.get(uid, ""))
            except LedgerUnavailable:
                continue

    async def sweep_all(self) -> None:
        for book in self.books:
            if book.leading:
                await self.sweep(book)

    async def happen(self) -> None:
        chance = self.random
        staying = [pod for pod in self.pods if pod not in self.leaving]
        match chance.choice(self.scene.events):
            case "crash" if staying:
                await chance.choice(staying).crash(with_journal=True)
            case "journal" if staying:
                await chance.choice(staying).crash(with_journal=False)
            case "gone" if staying:
                await self.vanish(chance.choice(staying))
            case "leaves" if staying:
                pod = chance.choice(staying)
                self.leaving.append(pod)
                self.spawn(self.leave(pod))
            case "stop" if staying:
                pod = chance.choice(staying)
                pod.process.stop()
                running().outside.call_later(chance.uniform(0.1, STOPPED_MAX_S), pod.process.go_on)
            case "pod" if len(self.pods) < PODS_MAX:
                self.add_pod()
            case "leader":
                new = chance.randrange(2)
                await self.stop_leading(1 - new)
                await self.lead(new)
            case "two":
                for number in range(2):
                    await self.lead(number)
            case "none":
                for number in range(2):
                    await self.stop_leading(number)
            case "limit":
                budget = chance.choice(list(self.budgets.values()))
                self.set_budgets(replace(budget, limit=chance.choice([100, 300, 1000, 3000])))
            case "roll" if max(self.offset_s) < 5 * 3600:
                self.offset_s[chance.randrange(2)] += 3600
            case "back":
                self.offset_s[chance.randrange(2)] -= chance.choice([1, 60, 3600])
            case "delete":
                await self.delete_ledger()

    async def vanish(self, pod: Pod) -> None:
        self.pods.remove(pod)
        await pod.stop()
        if self.random.random() < 0.7:
            self._left_behind[pod.identity.uid] = pod.will
        await self.sweep_all()

    async def leave(self, pod: Pod) -> None:
        await pod.leave()
        self.leaving.remove(pod)
        self.pods.remove(pod)

    async def delete_ledger(self) -> None:
        """With one leader, and the status up to date: what else can be known is lost."""
        leading = [book for book in self.books if book.leading]
        keys = await self.store.list_keys()
        if len(leading) != 1 or not keys:
            return
        key = self.random.choice(keys)
        former = self.status.get(key.budget)
        known = former.shards if former is not None and former.window == key.window and former.shards else (0,) * SHARDS
        shards = [self.store.peek(LedgerKey(key.budget, key.window, shard)) for shard in range(SHARDS)]
        # Of a shard that is lost already, and that nobody asked for since, the status goes on saying what it said.
        sums = tuple(
            committed(record) if record is not None else before for record, before in zip(shards, known, strict=True)
        )
        self.status[key.budget] = Checkpoint(key.window, sum(sums), sums if key.valued else ())
        self.set_budgets()
        self.store.lose(key)
        self.tally.counts["deleted"] += 1

    async def heal(self) -> None:
        """No more faults: then all that is not forfeited can be granted to one who asks for it on all budgets."""
        self.faults = False
        self.healing.set()
        for pod in self.pods:
            pod.process.go_on()
        self.offset_s = [max(self.offset_s)] * 2
        for number in range(2):
            await self.stop_leading(number)
        await self.lead(0)
        await self._until_idle()
        await self._until_told()
        await self.sweep(self.books[0])
        claims = tuple(claim for terms in self.budgets.values() for claim in self._all_that_is_left(terms))
        if claims:
            self.add_pod()
            pod = self.pods[-1]
            pod.quiet = True
            hold = await pod.process.create_task(pod.keeper.reserve(claims, 20.0))
            assert isinstance(hold, Hold), f"{claims} of {self.budgets} is free and cannot be had: {hold}"
            least = min(claim.amount for claim in claims)
            never_billed = Charge(picodollars=least, tokens=least)
            pod.keeper.settle(hold, never_billed, uncertain=never_billed)
        await asyncio.gather(*(pod.leave() for pod in self.pods if pod not in self.leaving))
        for number in range(2):
            await self.stop_leading(number)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _until_idle(self) -> None:
        """No new calls; those that wait are served or refused, and the provider answers at once."""
        for pod in self.pods:
            pod.quiet = True
        while True:
            for pod in self.pods:
                pod.end_flights()
            await asyncio.sleep(LOOK_S)
            if all(pod.idle for pod in self.pods):
                return

    async def _until_told(self) -> None:
        """Until the ledgers hold what every holder has spent, messages have arrived, and who was leaving has left."""
        try:
            async with asyncio.timeout(HEAL_S):
                while self._tasks or not all(self._told_all(pod) for pod in self.pods):  # noqa: ASYNC110  # no one event
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            return  # a former window's ledger may be gone, and a deleted one is claimed value by value

    def _told_all(self, pod: Pod) -> bool:
        holder = f"{pod.identity.uid}.{pod.holder.incarnation}"
        for it in pod.holder.figures():
            if is_quota(it.budget):
                continue
            record = self.store.peek(LedgerKey(it.budget, it.window, home_of(it.window, it.value)))
            row = record.account(it.value).rows.get(holder) if record is not None else None
            if row is None or (row.spent, row.reserved) != (it.spent, it.reserved):
                return False
        return True

    def _all_that_is_left(self, terms: BudgetInForce) -> list[Claim]:
        """Of a hard budget: a claim on all that it must be able to grant, on an account that somebody used."""
        values = sorted(value for budget, _, value in self.oracle.billed if budget == terms.name) if terms.per else [""]
        if not terms.hard or not values:
            return []
        value = self.random.choice(values)
        left = self._left(terms, value)
        return [Claim(terms.name, left, True, value, terms.unit)] if left > 0 else []

    def _left(self, terms: BudgetInForce, value: str = "") -> int:
        """What must be granted on that account in the current window."""
        figures = self.books[0].figures(terms.name)
        assert figures is not None
        window = figures.window.id
        shard = home_of(window, value)
        record = self.store.peek(LedgerKey(terms.name, window, shard))
        if record is None:
            known = self.status.get(terms.name)
            return terms.cap - (known.of(shard, terms.valued) if known is not None and known.window == window else 0)
        account = record.account(value)
        # An incarnation that lost its journal keeps its lease until its pod is gone; so does one that was killed
        # between its first question about a value and the answer, or was answered by leaders whose clocks name
        # different windows.
        knowing = {
            f"{pod.identity.uid}.{pod.holder.incarnation}"
            for pod in self.pods
            if not (pod.restarts or "roll" in self.scene.events)
            or not value
            or pod.holder._portfolio.get(terms.name, window, value) is not None
        }
        lost = sum(row.granted - row.spent for holder, row in account.rows.items() if holder not in knowing)
        if self.scene.kind is Kind.FAULTY:
            most = self.oracle.caps.most(terms.name, window, running().true_s)
            self.tally.shares += 1
            self.tally.stranded += lost / most
            self.tally.forfeited += account.forfeited / most
        return terms.cap - record.floor - account.used - lost


def simulate(seed: int, kind: Kind | None = None) -> Tally:
    """Live through the world of that seed; what happened in it. AssertionError names the seed."""
    world = World(seed, kind)
    try:
        run(world.live())
    except BaseException as error:
        raise AssertionError(f"world of seed {seed}: {error!r}") from error
    return world.tally
