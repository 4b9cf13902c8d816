"""Budgets that hold for each value, in the book: many accounts in few objects, written seldom, shown as sums."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.simulation.virtual_time import run

from keelage_api.account import shard_of
from keelage_api.proxy_config import Per, Unit
from keelage_api.sync import By, Right, Share, Statement, SyncRequest
from keelage_api.will import Promise, Will, account_of
from keelage_api.window import Every
from keelage_dev.memory_store import MemoryStore
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import LEARNING_S, Account, Checkpoint, LedgerRecord, committed
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.shard import SHARDS, has_values, ledger_window
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell import ledger_store
from keelage_operator.shell.ledger_book import TIDY_S, LedgerBook
from keelage_operator.shell.ledger_page import FLUSHES_MAX, PACE_MAX_S
from keelage_operator.shell.ledger_store import LedgerKey, Stored, check_size
from keelage_operator.shell.ledger_view import SHOWN_S

BUDGET = BudgetInForce("shop/user", uid="u", limit=100, every=Every.DAY, zone="UTC", hard=True, per=(Per.USER,))
WINDOW = "2026-11-21.u"
POD = PodIdentity("shop", "a-0", "a")
ALICE, BOB = shard_of("alice", SHARDS), shard_of("bob", SHARDS)


class SizedStore(MemoryStore):
    """As the real ones: it counts writes and refuses what is too large."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[float, LedgerKey]] = []

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        self._note(key, record)
        return await super().create(key, record)

    async def replace(self, key: LedgerKey, record: LedgerRecord, version: str) -> Stored:
        self._note(key, record)
        return await super().replace(key, record, version)

    def _note(self, key: LedgerKey, record: LedgerRecord) -> None:
        check_size(key, len(msgspec.json.encode(record)))
        self.writes.append((asyncio.get_running_loop().time(), key))

    def lose(self, key: LedgerKey) -> None:
        del self._stored[key]


class Scene:
    def __init__(self, terms: BudgetInForce = BUDGET, store: SizedStore | None = None) -> None:
        self.store = store or SizedStore()
        self.offset = timedelta()
        self.changed: list[str] = []
        self.book = LedgerBook(self.store, self.wall, lambda: asyncio.get_running_loop().time())
        self.book.on_change = self.changed.append
        self.terms = terms
        self.book.set_budgets({terms.name: terms}, {})

    def wall(self) -> datetime:
        seconds = asyncio.get_running_loop().time()
        return datetime(2026, 11, 21, 12, tzinfo=UTC) + timedelta(seconds=seconds) + self.offset

    async def tell(self, *statements: Statement, pod: PodIdentity = POD) -> tuple[Right, ...]:
        return await self.book.sync(pod, SyncRequest("1", statements=statements))

    def figures(self) -> LedgerFigures:
        found = self.book.figures(self.terms.name)
        assert found is not None
        return found

    async def record(self, shard: int, window: str = WINDOW) -> LedgerRecord:
        found = await self.store.load(LedgerKey(self.terms.name, window, shard))
        assert found is not None
        return found.record


def wish(seq: int, value: str, want: int = 60, window: str = "", granted: int = 0, spent: int = 0) -> Statement:
    keep = granted if granted else -1
    return Statement("shop/user", window, seq, granted, spent, 0, want, want, keep, value=value)


def goodbye(seq: int, value: str, spent: int) -> Statement:
    return Statement("shop/user", WINDOW, seq, spent, spent, keep=spent, final=True, value=value)


def on_virtual_time(test: Coroutine[object, object, None]) -> None:
    run(test)


@pytest.mark.parametrize(
    ("unit", "per", "window"),
    [
        (Unit.PICODOLLARS, (), "2026-11"),
        (Unit.TOKENS, (), "2026-11.tokens"),
        (Unit.PICODOLLARS, (Per.USER,), "2026-11.u"),
        (Unit.TOKENS, (Per.USER, Per.FEATURE), "2026-11.tokens.uf"),
        (Unit.PICODOLLARS, (Per.FEATURE, Per.POD), "2026-11.fp"),
    ],
)
def test_the_window_says_what_is_counted_and_for_whom(unit: Unit, per: tuple[Per, ...], window: str) -> None:
    assert ledger_window("2026-11", unit, per) == window
    assert has_values(window) == bool(per)


def test_each_value_has_an_account_in_the_object_of_its_shard() -> None:
    async def scene() -> None:
        here = Scene()
        await here.book.lead()
        rights = await here.tell(wish(1, "alice"), wish(2, "bob"))
        assert [(right.value, right.window, right.granted, right.used) for right in rights] == [
            ("alice", WINDOW, 60, 0),
            ("bob", WINDOW, 60, 0),
        ]
        assert set(await here.store.list_keys()) == {
            LedgerKey("shop/user", WINDOW, ALICE),
            LedgerKey("shop/user", WINDOW, BOB),
        }
        (right,) = await here.tell(wish(1, "alice"), pod=PodIdentity("shop", "b-0", "b"))
        assert right.granted == 0
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_figures_are_the_sums_over_the_shards_and_not_computed_for_each_question() -> None:
    async def scene() -> None:
        here = Scene()
        await here.book.lead()
        await here.tell(wish(1, "alice"), wish(2, "bob"))
        await here.tell(wish(3, "alice", 0, WINDOW, 60, 30), goodbye(4, "bob", 50))
        found = here.figures()
        assert (found.spent, found.leased, found.values, found.top) == (80, 30, 2, (("bob", 50), ("alice", 30)))
        assert sum(found.shards) == found.committed == 110
        assert (found.shards[ALICE], found.shards[BOB]) == (60, 50)
        assert committed(await here.record(BOB)) == 50
        await here.tell(wish(5, "carol", 0))
        assert here.figures() is found
        here.changed.clear()
        await asyncio.sleep(SHOWN_S + 2)
        assert "shop/user" in here.changed, "whoever got old figures is told of the new ones"
        assert here.figures().values == 3
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_the_next_leader_goes_on_with_every_shard() -> None:
    async def scene() -> None:
        first = Scene()
        await first.book.lead()
        await first.tell(wish(1, "alice"), wish(2, "bob"))
        second = Scene(store=first.store)
        await second.book.lead()
        (right,) = await second.tell(wish(3, "alice", 60, WINDOW, 60, 10))
        assert right.granted == 60
        assert second.figures().committed == 120
        assert second.book.pods() == {"a"}
        for each in (first, second):
            await each.book.stop_leading()

    on_virtual_time(scene())


def test_values_that_do_not_fit_the_budget_are_refused_with_a_reason() -> None:
    async def scene() -> None:
        here = Scene()
        await here.book.lead()
        (without,) = await here.tell(wish(1, ""))
        assert "spec.per" in without.error
        (odd,) = await here.tell(wish(2, "../alice?"))
        assert odd.error
        here.book.set_budgets({BUDGET.name: replace(BUDGET, per=())}, {})
        (right,) = await here.tell(wish(3, ""))
        assert (right.window, right.granted) == ("2026-11-21", 60)
        (valued,) = await here.tell(wish(4, "alice"))
        assert "spec.per" in valued.error
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_a_value_is_not_sent_on_to_the_next_window_before_it_is_needed_there() -> None:
    async def scene() -> None:
        here = Scene()
        await here.book.lead()
        await here.tell(wish(1, "alice"))
        here.offset = timedelta(days=1)
        (old,) = await here.tell(wish(2, "alice", 0, WINDOW, 60, 40))
        assert (old.window, old.granted, old.ends_in_s, old.tight) == (WINDOW, 60, 0.0, True)
        (new,) = await here.tell(wish(3, "alice"))
        assert (new.window, new.granted) == ("2026-11-22.u", 60)
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_a_shard_that_is_lost_with_its_leader_lets_no_value_pass_its_limit() -> None:
    async def scene() -> None:
        here = Scene()
        await here.book.lead()
        await here.tell(wish(1, "alice", 80), wish(2, "bob"))
        await here.tell(goodbye(3, "alice", 80))
        told = here.figures()
        await here.book.stop_leading()
        here.store.lose(LedgerKey("shop/user", WINDOW, ALICE))
        here.book.set_budgets({BUDGET.name: BUDGET}, {BUDGET.name: Checkpoint(WINDOW, told.committed, told.shards)})
        await here.book.lead()
        assert here.figures().committed == told.committed
        await here.tell(wish(4, "alice", 0))
        await asyncio.sleep(LEARNING_S + 1)
        (right,) = await here.tell(wish(5, "alice", 40, WINDOW))
        assert (right.granted, right.exhausted, right.used) == (0, True, 80)
        (right,) = await here.tell(wish(6, "alice", 20, WINDOW))
        assert right.granted == 20
        (other,) = await here.tell(wish(7, "bob", 40, WINDOW, 60))
        assert other.granted == 100, "shards that were not lost owe nothing"
        assert here.figures().spent == 80
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_a_hot_shard_is_written_twice_a_second_and_a_quiet_one_at_once() -> None:
    async def scene() -> None:
        here = Scene(replace(BUDGET, limit=10**6))
        await here.book.lead()
        values = [f"u{number}" for number in range(20_000) if shard_of(f"u{number}", SHARDS) == ALICE][:300]
        await here.tell(*(wish(number + 1, value, 1) for number, value in enumerate(values)))
        await asyncio.sleep(2 * PACE_MAX_S)
        began = asyncio.get_running_loop().time()
        await here.tell(wish(1000, values[0], 5, WINDOW, 1))
        assert asyncio.get_running_loop().time() - began < 0.06
        here.store.writes.clear()

        async def ask(pod: int) -> None:
            for turn in range(1, 40):
                await here.tell(wish(turn, values[pod], 1), pod=PodIdentity("shop", f"p-{pod}", f"p{pod}"))

        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(ask(pod) for pod in range(50)))
        elapsed = asyncio.get_running_loop().time() - began
        assert len(here.store.writes) <= elapsed / PACE_MAX_S + 1
        assert len(here.store.writes) == 39, "each of them for all who asked"
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_a_ledger_of_many_holders_is_written_twice_a_second() -> None:
    async def scene() -> None:
        here = Scene(replace(BUDGET, per=(), limit=10**6))
        await here.book.lead()
        pods = [PodIdentity("shop", f"p-{number}", f"p{number}") for number in range(300)]
        await asyncio.gather(*(here.tell(wish(1, "", 1), pod=pod) for pod in pods))
        here.store.writes.clear()
        began = asyncio.get_running_loop().time()
        for turn in range(2, 7):
            await asyncio.gather(*(here.tell(wish(turn, "", 1), pod=pod) for pod in pods))
        assert asyncio.get_running_loop().time() - began >= 4 * PACE_MAX_S
        assert len(here.store.writes) == 5, "each of them for all who asked"
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_of_a_thousand_ledgers_a_few_are_stored_in_a_second_and_each_in_its_turn() -> None:
    async def scene() -> None:
        here = Scene()
        names = [f"shop/day-{number}" for number in range(200)]
        here.book.set_budgets({name: replace(BUDGET, name=name, per=(), limit=10**6) for name in names}, {})
        await here.book.lead()
        for turn, want in ((1, 60), (2, 0)):
            if turn == 2:
                here.store.writes.clear()
            told = (Statement(name, "", turn, 0, turn - 1, 0, want, want) for name in names)
            await asyncio.gather(*(here.tell(statement) for statement in told))
        assert here.store.writes == [], "nothing of it was urgent"
        await asyncio.sleep(2.5 * TIDY_S)
        assert 0 < len(here.store.writes) <= 3 * FLUSHES_MAX
        await asyncio.sleep(len(names) / FLUSHES_MAX * TIDY_S)
        assert sorted(key.budget for _, key in here.store.writes) == sorted(names)
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_what_need_not_be_stored_at_once_is_stored_seldom_where_there_is_much_of_it() -> None:
    async def scene() -> None:
        here = Scene()
        await here.book.lead()
        values = [f"u{number}" for number in range(20_000) if shard_of(f"u{number}", SHARDS) == ALICE][:300]
        await here.tell(*(wish(number + 1, value, 1) for number, value in enumerate(values)))
        here.store.writes.clear()
        for turn in range(20):
            await here.tell(wish(2000 + turn, values[0], 0, WINDOW, 1, 1))
            await asyncio.sleep(0.5)
        assert 1 <= len(here.store.writes) <= 3, "in ten seconds"
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_a_ledger_that_is_too_large_says_so_and_still_takes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        here = Scene()
        await here.book.lead()
        await here.tell(wish(1, "alice"))
        # As large as it may be.
        size = len(msgspec.json.encode(await here.record(ALICE)))
        monkeypatch.setattr(ledger_store, "RECORD_BYTES_MAX", size + 45)
        (right,) = await here.tell(wish(1, "alice", 10), pod=PodIdentity("shop", "b-0", "b"))
        assert "podSelector" in right.error
        (right,) = await here.tell(goodbye(2, "alice", 25))
        assert right.granted == 25
        assert (await here.record(ALICE)).accounts == {"alice": Account(settled=25)}
        (right,) = await here.tell(wish(2, "alice", 10), pod=PodIdentity("shop", "b-0", "b"))
        assert (right.granted, right.error) == (10, "")
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_a_pod_that_is_gone_is_closed_in_every_shard_by_what_its_will_says() -> None:
    async def scene() -> None:
        here = Scene()
        here.book.read_will = lambda uid, message: Will(
            "1", 9, {account_of("shop/user", WINDOW, "bob"): Promise(0, 20)}
        )
        await here.book.lead()
        await here.tell(wish(1, "alice"), wish(2, "bob"))
        await here.book.pod_gone("a", "its will")
        assert (await here.record(ALICE)).accounts == {"alice": Account(forfeited=60)}
        assert (await here.record(BOB)).accounts == {"bob": Account(settled=20, settled_uncertain=20)}
        assert here.book.pods() == frozenset()
        await here.book.stop_leading()

    on_virtual_time(scene())


def test_whom_it_was_spent_for_is_shown_and_outlives_the_pod_and_the_leader() -> None:
    async def scene() -> None:
        here = Scene()
        await here.book.lead()
        await here.tell(wish(1, "alice"), wish(2, "bob"))
        await here.tell(goodbye(3, "alice", 30), wish(4, "bob", 0, WINDOW, 60, 20))
        shares = tuple(Share("shop/user", WINDOW, By.MODEL, name, amount) for name, amount in (("opus", 35), ("x", 5)))
        foreign = Share("other/user", WINDOW, By.MODEL, "opus", 7)
        former = Share("shop/user", "2026-11-20.u", By.MODEL, "opus", 7)
        assert here.book.attribute(POD, SyncRequest("1", shares=(*shares, foreign, former)))
        assert not here.book.attribute(POD, SyncRequest("1"))
        expected = {By.MODEL: (("opus", 35), ("x", 5), ("(other)", 10))}
        assert here.figures().shares == expected
        await here.book.pod_gone("a")
        await asyncio.sleep(SHOWN_S)
        assert here.figures().shares == expected
        assert not here.book.attribute(POD, SyncRequest("1", shares=shares)), "a belated word is not counted again"
        second = Scene(store=here.store)
        await second.book.lead()
        assert second.figures().shares == expected
        for each in (here, second):
            await each.book.stop_leading()

    on_virtual_time(scene())


def test_ten_thousand_values_cost_a_statement_no_more_than_its_shard() -> None:
    async def scene() -> None:
        here = Scene()
        await here.book.lead()
        for first in range(0, 10_000, 500):
            await here.tell(*(wish(number + 1, f"u{number}", 1) for number in range(first, first + 500)))
        assert here.figures().values == 10_000
        assert len(await here.store.list_keys()) == SHARDS
        largest = max([len(msgspec.json.encode(await here.record(shard))) for shard in range(SHARDS)])
        assert largest < 64 * 1024
        before = {shard: await here.record(shard) for shard in range(SHARDS)}
        await here.tell(wish(20_000, "u7", 9, WINDOW, 1))
        (touched,) = [shard for shard in range(SHARDS) if await here.record(shard) is not before[shard]]
        after = (await here.record(touched)).accounts
        others = [value for value, account in before[touched].accounts.items() if after[value] is not account]
        assert others == ["u7"], "the other accounts are not even copied"
        await here.book.stop_leading()

    on_virtual_time(scene())
