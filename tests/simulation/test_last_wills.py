"""Pods that are killed without a word: their last wills understate nothing and return what was not spent."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import pytest
from tests.blank_journal import blank_journal
from tests.simulation.virtual_time import run

from keelage_api.proxy_config import BudgetTerms
from keelage_api.sync import SyncReply, SyncRequest
from keelage_api.window import Every
from keelage_dev.memory_store import MemoryStore
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.will_keys import WillKeys
from keelage_operator.shell.ledger_book import LedgerBook
from keelage_sidecar.core.claim import Charge, Claim, Hold
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import Journal
from keelage_sidecar.shell.lease_keeper import LeaseKeeper, LedgerUnreachable

BUDGET = BudgetInForce("shop/hour", uid="u", limit=20_000, every=Every.HOUR, zone="UTC", hard=True)
TERMS = (BudgetTerms(BUDGET.name, hard=True),)
BOUND_MAX = 150
KEYS = WillKeys(lambda: ("secret",))


class Paper:
    """The termination message file."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, record: bytes) -> bool:
        self.content = record
        return True

    def erase(self) -> bool:
        self.content = b""
        return True


class Pod:
    """A sidecar with calls, over a network that delays and loses."""

    def __init__(self, book: LedgerBook, chance: random.Random, number: int) -> None:
        self.identity = PodIdentity("shop", f"web-{number}", f"uid{number}")
        self.billed = 0
        self._book = book
        self._chance = chance
        self._in_flight: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._buffer = bytearray(blank_journal(f"incarnation{number:05d}"))
        self._start()

    def _start(self) -> None:
        self.paper = Paper()
        holder = Holder(Journal(self._buffer), self.paper)
        self._keeper = LeaseKeeper(holder, self, asyncio.get_running_loop().time, lambda: 1.0)
        self._keeper.obey(TERMS)
        self._spawn(self._keeper.run())
        self._spawn(self._work())

    async def sync(self, request: SyncRequest) -> SyncReply:
        await asyncio.sleep(self._chance.uniform(0, 0.3))
        if self._chance.random() < 0.2:
            raise LedgerUnreachable("the request was lost")
        rights = await self._book.sync(self.identity, request)
        await asyncio.sleep(self._chance.uniform(0, 0.3))
        if self._chance.random() < 0.2:
            raise LedgerUnreachable("the answer was lost")
        return SyncReply(rights, will_key=KEYS.key_of(f"{self.identity.uid}.{request.incarnation}"))

    async def restart(self) -> None:
        """SIGKILL, and another container that finds the journal."""
        await self._kill()
        self._start()

    async def die(self) -> str:
        """SIGKILL for good; the termination message, as it was at that instant."""
        return await self._kill()

    async def _kill(self) -> str:
        message, buffer = self.paper.content.decode(), bytes(self._buffer)
        self.billed += sum(self._in_flight.values())  # the provider ends what is under way
        self._in_flight.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._buffer = bytearray(buffer)
        return message

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(8.0))
            self._spawn(self._call(self._chance.randint(1, BOUND_MAX)))

    async def _call(self, bound: int) -> None:
        hold = await self._keeper.reserve((Claim(BUDGET.name, bound, hard=True),), 2.0)
        if not isinstance(hold, Hold):
            return
        self._in_flight[hold.id] = cost = self._chance.choice([0, bound, self._chance.randint(0, bound)])
        await asyncio.sleep(self._chance.expovariate(2.0))
        del self._in_flight[hold.id]
        self.billed += cost
        self._keeper.settle(hold, Charge(cost))


async def world(seed: int) -> tuple[int, LedgerFigures]:
    """(the provider's bill, the ledger's figures) after all pods were killed."""
    chance = random.Random(seed)
    book = LedgerBook(
        MemoryStore(), lambda: datetime(2026, 11, 21, 12, 30, tzinfo=UTC), asyncio.get_running_loop().time
    )
    book.read_will = KEYS.read
    book.set_budgets({BUDGET.name: BUDGET}, {})
    await book.lead()
    pods = [Pod(book, chance, number) for number in range(chance.randint(1, 5))]
    bill = 0
    while pods:
        await asyncio.sleep(chance.expovariate(0.3))
        pod = chance.choice(pods)
        if chance.random() < 0.3:
            await pod.restart()
            continue
        message = await pod.die()
        pods.remove(pod)
        bill += pod.billed
        await book.pod_gone(pod.identity.uid, message)
    figures = book.figures(BUDGET.name)
    await book.stop_leading()
    assert figures is not None
    return bill, figures


@pytest.mark.parametrize("part", range(2))
def test_the_bill_is_never_above_what_the_wills_say_and_nearly_all_returns(part: int) -> None:
    forfeited = billed = counted = 0
    for seed in range(part * 12, part * 12 + 12):
        bill, figures = run(world(seed))
        assert bill <= figures.spent + figures.forfeited <= BUDGET.limit, f"seed {seed}: {bill}, {figures}"
        assert figures.granted == 0
        billed, counted, forfeited = billed + bill, counted + figures.spent, forfeited + figures.forfeited
    assert billed > 10_000, "too little happened"
    assert counted <= 1.6 * billed, "the wills promise far more than is spent"
    assert forfeited <= 0.2 * counted, "only who died before the first word after a start leaves no will"
