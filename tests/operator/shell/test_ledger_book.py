"""The book: what is stored before what is answered, who leads, which window is current."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.simulation.virtual_time import run

from keelage_api.sync import Right, Statement, SyncRequest
from keelage_api.window import Every
from keelage_dev.memory_store import MemoryStore
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import LEARNING_S, Checkpoint, LedgerRecord, committed
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.ledger_book import LOOKED_FOR_MAX, RELOAD_S, LedgerBook, LedgerUnavailable
from keelage_operator.shell.ledger_store import LedgerKey, Stored, StoreGone, StoreUnavailable, StoreUnreadable

BUDGET = BudgetInForce("shop/day", uid="u", limit=1000, every=Every.DAY, zone="UTC", hard=True)
KEY = LedgerKey("shop/day", "2026-11-21")
POD = PodIdentity("shop", "a-0", "a")


class FlakyStore(MemoryStore):
    """A store whose writes are counted and can fail, before or after they happened."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = self.writes = 0
        self.fail_before = 0
        self.fail_after = 0

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        self._before()
        return self._after(await super().create(key, record))

    async def load(self, key: LedgerKey) -> Stored | None:
        self.loads += 1
        return await super().load(key)

    async def replace(self, key: LedgerKey, record: LedgerRecord, version: str) -> Stored:
        self._before()
        return self._after(await super().replace(key, record, version))

    def _before(self) -> None:
        if self.fail_before:
            self.fail_before -= 1
            raise StoreUnavailable("no answer")

    def _after(self, stored: Stored) -> Stored:
        self.writes += 1
        if self.fail_after:
            self.fail_after -= 1
            raise StoreUnavailable("no answer in time")
        return stored


@dataclass
class Replica:
    """A book with a clock of its own."""

    store: FlakyStore
    offset: timedelta = timedelta()
    changed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = LedgerBook(self.store, self.wall, lambda: asyncio.get_running_loop().time())
        self.book.on_change = self.changed.append
        self.book.set_budgets({BUDGET.name: BUDGET}, {})

    def wall(self) -> datetime:
        seconds = asyncio.get_running_loop().time()
        return datetime(2026, 11, 21, 12, tzinfo=UTC) + timedelta(seconds=seconds) + self.offset


async def tell(book: LedgerBook, *statements: Statement, pod: PodIdentity = POD) -> tuple[Right, ...]:
    return await book.sync(pod, SyncRequest("1", statements=statements))


def wish(seq: int, want: int = 100, window: str = "", granted: int = 0, spent: int = 0, keep: int = -1) -> Statement:
    return Statement("shop/day", window, seq, granted, spent, want=want, min_want=want, keep=keep)


def on_virtual_time(test: Coroutine[object, object, None]) -> None:
    run(test)


async def stored(store: FlakyStore, key: LedgerKey = KEY) -> LedgerRecord:
    found = await store.load(key)
    assert found is not None
    return found.record


async def leader(store: FlakyStore, offset: timedelta = timedelta()) -> Replica:
    replica = Replica(store, offset)
    await replica.book.lead()
    return replica


def test_a_right_is_stored_before_it_is_answered_and_names_the_window() -> None:
    async def scene() -> None:
        store = FlakyStore()
        book = (await leader(store)).book
        (right,) = await tell(book, wish(1))
        assert (right.window, right.granted, right.limit) == ("2026-11-21", 100, 1000)
        assert right.ends_in_s == pytest.approx(12 * 3600, abs=1)
        assert committed(await stored(store)) == 100
        await book.stop_leading()

    on_virtual_time(scene())


def test_a_new_ledger_is_looked_for_once_and_written_once() -> None:
    async def scene() -> None:
        store = FlakyStore()
        book = (await leader(store)).book
        await tell(book, wish(1))
        assert (store.loads, store.writes) == (1, 1)
        await book.stop_leading()

    on_virtual_time(scene())


def test_statements_of_a_moment_go_into_one_write() -> None:
    async def scene() -> None:
        store = FlakyStore()
        book = (await leader(store)).book
        pods = [PodIdentity("shop", f"p-{number}", f"p{number}") for number in range(20)]
        answers = await asyncio.gather(*(tell(book, wish(1, 10), pod=pod) for pod in pods))
        assert [rights[0].granted for rights in answers] == [10] * 20
        assert store.writes == 1
        await book.stop_leading()

    on_virtual_time(scene())


def test_what_changes_no_right_is_stored_later() -> None:
    async def scene() -> None:
        store = FlakyStore()
        replica = await leader(store)
        await tell(replica.book, wish(1))
        writes = store.writes
        await tell(replica.book, wish(2, 0, "2026-11-21", 100, 40, 100))
        assert store.writes == writes
        figures = replica.book.figures("shop/day")
        assert figures is not None
        assert (figures.spent, figures.leased) == (40, 60)
        await asyncio.sleep(2)
        assert (await stored(store)).account().rows["a.1"].spent == 40
        assert "shop/day" in replica.changed
        await replica.book.stop_leading()

    on_virtual_time(scene())


def test_who_does_not_lead_grants_nothing() -> None:
    async def scene() -> None:
        replica = Replica(FlakyStore())
        with pytest.raises(LedgerUnavailable):
            await tell(replica.book, wish(1))
        assert replica.book.figures("shop/day") is None

    on_virtual_time(scene())


def test_a_second_leader_makes_the_writes_of_the_first_fail() -> None:
    async def scene() -> None:
        store = FlakyStore()
        old = await leader(store)
        await tell(old.book, wish(1))
        new = await leader(store)
        with pytest.raises(LedgerUnavailable):
            await tell(old.book, wish(2, 100, "2026-11-21", 100))
        (right,) = await tell(new.book, wish(3, 100, "2026-11-21", 100))
        assert right.granted == 200
        assert committed(await stored(store)) == 200
        await old.book.stop_leading()
        await new.book.stop_leading()

    on_virtual_time(scene())


def test_two_leaders_never_grant_more_than_the_limit_and_both_stay_alive() -> None:
    async def scene() -> None:
        store = FlakyStore()
        both = [await leader(store), await leader(store)]
        granted: dict[str, int] = {}
        for turn in range(60):
            pod = PodIdentity("shop", f"p-{turn % 7}", f"p{turn % 7}")
            had = granted.get(pod.uid, 0)
            try:
                rights = await tell(both[turn % 2].book, wish(turn + 1, 70, "", had), pod=pod)
            except LedgerUnavailable:
                continue
            granted[pod.uid] = rights[0].granted
        assert 900 < sum(granted.values()) <= committed(await stored(store)) <= 1000
        for replica in both:
            await replica.book.stop_leading()

    on_virtual_time(scene())


@pytest.mark.parametrize("happened", [True, False])
def test_a_write_with_unknown_outcome_grants_nothing_and_is_looked_up(happened: bool) -> None:
    async def scene() -> None:
        store = FlakyStore()
        book = (await leader(store)).book
        await tell(book, wish(1))
        store.fail_after, store.fail_before = int(happened), int(not happened)
        with pytest.raises(LedgerUnavailable):
            await tell(book, wish(2, 100, "2026-11-21", 100))
        (right,) = await tell(book, wish(3, 100, "2026-11-21", 100, keep=100))
        assert right.granted == 200
        assert committed(await stored(store)) == 200
        await book.stop_leading()

    on_virtual_time(scene())


def test_a_deleted_ledger_is_made_again_from_what_was_last_stored() -> None:
    async def scene() -> None:
        store = FlakyStore()
        book = (await leader(store)).book
        await tell(book, wish(1, 900))
        found = await store.load(KEY)
        assert found is not None
        await store.delete(KEY, found.version)
        (right,) = await tell(book, wish(2, 100, "2026-11-21", 900, 50, 900))
        assert right.granted == 900
        assert committed(await stored(store)) == 900
        await book.stop_leading()

    on_virtual_time(scene())


async def erase(store: FlakyStore) -> None:
    """As the end of a namespace does."""
    found = await store.load(KEY)
    assert found is not None
    await store.delete(KEY, found.version)


def test_a_namespace_of_the_same_name_owes_nothing_of_what_the_one_before_it_spent() -> None:
    async def scene() -> None:
        store = FlakyStore()
        book = (await leader(store)).book
        await tell(book, wish(1, 900))
        book.set_budgets({}, {})
        await asyncio.sleep(2)  # the ledger outlives its budget for a moment
        await erase(store)
        book.set_budgets({BUDGET.name: replace(BUDGET, uid="another")}, {})
        (right,) = await tell(book, wish(1, 100), pod=PodIdentity("shop", "b-0", "b"))
        assert right.granted > 0
        assert committed(await stored(store)) == right.granted
        await book.stop_leading()

    on_virtual_time(scene())


def test_pods_of_a_namespace_that_ended_are_closed_without_a_ledger() -> None:
    async def scene() -> None:
        store = FlakyStore()
        book = (await leader(store)).book
        await tell(book, wish(1, 900))
        book.set_budgets({}, {})
        await erase(store)
        await book.pod_gone("a")
        assert await store.list_keys() == ()
        assert book.pods() == frozenset()
        await book.stop_leading()

    on_virtual_time(scene())


def test_a_budget_deleted_and_created_anew_still_shows_what_was_spent() -> None:
    async def scene() -> None:
        store = FlakyStore()
        book = (await leader(store)).book
        await tell(book, wish(1, 900))
        await tell(book, Statement("shop/day", "2026-11-21", 2, 900, 400))
        book.set_budgets({}, {})
        await asyncio.sleep(2)
        book.set_budgets({BUDGET.name: replace(BUDGET, uid="another")}, {})
        await asyncio.sleep(2)
        figures = book.figures(BUDGET.name)
        assert figures is not None
        assert figures.committed == 900
        await book.stop_leading()

    on_virtual_time(scene())


def test_a_ledger_lost_with_its_leader_is_made_again_from_the_status() -> None:
    async def scene() -> None:
        replica = Replica(FlakyStore())
        replica.book.set_budgets({BUDGET.name: BUDGET}, {BUDGET.name: Checkpoint("2026-11-21", 950)})
        await replica.book.lead()
        (right,) = await tell(replica.book, wish(1))
        assert right.granted == 0
        await asyncio.sleep(10)
        (right,) = await tell(replica.book, wish(2))
        assert (right.granted, right.exhausted) == (0, True)
        await replica.book.stop_leading()

    on_virtual_time(scene())


def test_a_ledger_that_is_made_again_has_a_name_that_none_had_before() -> None:
    async def scene() -> None:
        replica = Replica(FlakyStore())
        await replica.book.lead()
        replica.book.set_budgets({BUDGET.name: BUDGET}, {})
        (right,) = await tell(replica.book, wish(1))
        names = [right.ledger]
        for _ in range(2):
            found = await replica.store.load(KEY)
            assert found is not None
            await replica.store.delete(KEY, found.version)
            await asyncio.sleep(LEARNING_S)
            (right,) = await tell(replica.book, wish(len(names) + 1))
            names.append(right.ledger)
        assert names[0] == "", "it never was lost"
        assert len(set(names)) == 3
        await replica.book.stop_leading()

    on_virtual_time(scene())


def test_a_ledger_lost_with_its_leader_before_the_status_told_of_it_waits_for_claims() -> None:
    async def scene() -> None:
        replica = Replica(FlakyStore())
        replica.book.set_budgets({BUDGET.name: BUDGET}, {BUDGET.name: Checkpoint("2026-11-21", 0)})
        await replica.book.lead()
        other = PodIdentity("shop", "b-0", "b")
        (right,) = await tell(replica.book, wish(1, 900), pod=other)
        assert (right.granted, right.exhausted) == (0, False)
        await tell(replica.book, wish(7, 0, "2026-11-21", granted=900))
        await asyncio.sleep(LEARNING_S + 1)
        (right,) = await tell(replica.book, wish(2, 900, "2026-11-21"), pod=other)
        assert (right.granted, right.exhausted) == (0, False)
        (right,) = await tell(replica.book, wish(3, 100, "2026-11-21"), pod=other)
        assert right.granted == 100
        await replica.book.stop_leading()

    on_virtual_time(scene())


@pytest.mark.parametrize(
    ("seen", "later_s", "after_nobody"),
    [("2026-11-20", 0, False), ("2026-11-21", LEARNING_S + 1, False), ("2026-11-21", 0, True)],
)
def test_a_ledger_that_nobody_can_have_opened_before_is_granted_from_at_once(
    seen: str, later_s: int, after_nobody: bool
) -> None:
    async def scene() -> None:
        replica = Replica(FlakyStore())
        replica.book.set_budgets({BUDGET.name: BUDGET}, {BUDGET.name: Checkpoint(seen, 0)})
        await replica.book.lead(after_nobody)
        await asyncio.sleep(later_s)
        (right,) = await tell(replica.book, wish(1))
        assert right.granted == 100
        await replica.book.stop_leading()

    on_virtual_time(scene())


def test_the_window_rolls_late_words_go_to_the_old_one_and_the_clock_does_not_go_back() -> None:
    async def scene() -> None:
        store = FlakyStore()
        replica = await leader(store)
        await tell(replica.book, wish(1))
        replica.offset += timedelta(hours=12)
        old, current = await tell(replica.book, wish(2, 0, "2026-11-21", 100, 60, 100))
        assert (old.window, old.granted, old.ends_in_s) == ("2026-11-21", 100, 0)
        assert (current.window, current.granted, current.seq) == ("2026-11-22", 0, 2)
        (right,) = await tell(replica.book, wish(3))
        assert (right.window, right.granted) == ("2026-11-22", 100)
        replica.offset -= timedelta(hours=12)
        (right,) = await tell(replica.book, wish(4))
        assert right.window == "2026-11-22"
        await asyncio.sleep(2)
        assert (await stored(store)).account().rows["a.1"].spent == 60
        await replica.book.stop_leading()

    on_virtual_time(scene())


def test_a_pod_that_is_gone_is_forfeited_and_heard_no_more() -> None:
    async def scene() -> None:
        store = FlakyStore()
        book = (await leader(store)).book
        await tell(book, wish(1))
        assert book.pods() == {"a"}
        await book.pod_gone("a")
        assert (await stored(store)).account().forfeited == 100
        (right,) = await tell(book, wish(2, 0, "2026-11-21", 100, 60, 100))
        assert right.error
        assert book.pods() == frozenset()
        await book.stop_leading()

    on_virtual_time(scene())


class VanishingStore(FlakyStore):
    """The namespace of every ledger is deleted once `vanish` is called."""

    vanished = False

    def vanish(self) -> None:
        self.vanished = True
        self._stored.clear()

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        if self.vanished:
            raise StoreGone("its namespace is gone")
        return await super().create(key, record)


def test_rows_of_a_deleted_namespace_are_closed_with_it() -> None:
    async def scene() -> None:
        store = VanishingStore()
        book = (await leader(store)).book
        await tell(book, wish(1))
        store.vanish()
        await book.pod_gone("a")
        assert book.pods() == frozenset()
        await book.stop_leading()

    on_virtual_time(scene())


def test_a_raised_limit_counts_at_once_and_a_foreign_budget_not_at_all() -> None:
    async def scene() -> None:
        book = (await leader(FlakyStore())).book
        (right,) = await tell(book, wish(1, 1001))
        assert right.exhausted
        raised = BudgetInForce("shop/day", uid="u", limit=2000, every=Every.DAY, zone="UTC", hard=True)
        book.set_budgets({BUDGET.name: raised}, {})
        (right,) = await tell(book, wish(2, 1001))
        assert right.granted == 1001
        (right,) = await tell(book, wish(3), pod=PodIdentity("other", "x", "x"))
        assert right.error
        book.set_budgets({}, {})
        (right,) = await tell(book, Statement("shop/day", "", 4))
        assert right.error
        await book.stop_leading()

    on_virtual_time(scene())


def test_a_finished_ledger_is_tidied_away_a_day_after_its_window() -> None:
    async def scene() -> None:
        store = FlakyStore()
        replica = await leader(store)
        await tell(replica.book, wish(1))
        replica.offset += timedelta(days=3)
        await asyncio.sleep(3)
        assert await store.load(KEY) is not None
        await tell(replica.book, Statement("shop/day", "2026-11-21", 2, 60, 60, keep=60, final=True))
        await asyncio.sleep(3)
        assert await store.load(KEY) is None
        old, current = await tell(replica.book, Statement("shop/day", "2026-11-21", 3, 60, 60, keep=60, final=True))
        assert (old.granted, old.ends_in_s, current.window) == (60, 0.0, "2026-11-24")
        await replica.book.stop_leading()

    on_virtual_time(scene())


@pytest.mark.parametrize(
    ("budget", "window"),
    [("shop/../day", ""), ("shop/day/x", ""), ("shop/", ""), ("shop/day", "../2026-11-21"), ("shop/day", "2026-11?x")],
)
def test_names_that_are_none_are_refused_before_a_path_is_made_of_them(budget: str, window: str) -> None:
    async def scene() -> None:
        book = (await leader(FlakyStore())).book
        (right,) = await tell(book, Statement(budget, window, 1, spent=1))
        assert right.error
        await book.stop_leading()

    on_virtual_time(scene())


def test_a_ledger_that_another_replica_opened_is_found_before_it_is_called_gone() -> None:
    async def scene() -> None:
        store = FlakyStore()
        behind = await leader(store)
        ahead = await leader(store, timedelta(days=1))
        (granted,) = await tell(ahead.book, wish(1))
        assert granted.window == "2026-11-22"
        await ahead.book.stop_leading()
        (last, current) = await tell(behind.book, Statement("shop/day", "2026-11-22", 2, 40, 40, keep=40, final=True))
        assert (last.granted, current.window) == (40, "2026-11-21")
        assert committed(await stored(store, LedgerKey("shop/day", "2026-11-22"))) == 40
        await behind.book.stop_leading()

    on_virtual_time(scene())


class EndingStore(FlakyStore):
    """While the first ledger's write is cancelled, the second one's namespace turns out to be gone."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    async def create(self, key: LedgerKey, record: LedgerRecord) -> Stored:
        if key.budget == BUDGET.name:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.set()
                for _ in range(10):
                    await asyncio.sleep(0)
        await self.ended.wait()
        raise StoreGone("its namespace is gone")


def test_a_ledger_whose_namespace_ends_while_the_leader_does_keeps_it_from_nothing() -> None:
    async def scene() -> None:
        book = (await leader(EndingStore())).book
        other = replace(BUDGET, name="shop/other")
        book.set_budgets({each.name: each for each in (BUDGET, other)}, {})
        told = [
            asyncio.ensure_future(tell(book, wish(1))),
            asyncio.ensure_future(tell(book, Statement(other.name, "", 1, want=100))),
        ]
        await asyncio.sleep(1)
        await book.stop_leading()
        await asyncio.wait(told)
        assert isinstance(told[0].exception(), LedgerUnavailable)

    on_virtual_time(scene())


class BrokenStore(FlakyStore):
    """One ledger in it is garbage that somebody wrote by hand."""

    broken = LedgerKey("other/day", "2026-11-21")
    reads = 0

    async def list_keys(self) -> tuple[LedgerKey, ...]:
        return tuple(sorted((*await super().list_keys(), self.broken)))

    async def load(self, key: LedgerKey) -> Stored | None:
        if key == self.broken:
            self.reads += 1
            raise StoreUnreadable("it is garbage: delete it")
        return await super().load(key)


def test_a_ledger_that_cannot_be_read_does_not_keep_the_others_from_being_led() -> None:
    async def scene() -> None:
        store = BrokenStore()
        book = (await leader(store)).book
        assert book.leading
        (right,) = await tell(book, wish(1))
        assert right.granted == 100
        before = store.reads
        for number in range(20):
            await book.pod_gone(f"p{number}")  # returns: the burials of a whole cluster do not wait for it
        assert store.reads == before
        await book.pod_gone(POD.uid)
        assert (await stored(store)).account().forfeited == 100
        await book.stop_leading()

    on_virtual_time(scene())


def test_a_ledger_whose_store_did_not_answer_at_first_is_taken_over_later() -> None:
    async def scene() -> None:
        store = FlakyStore()
        first = (await leader(store)).book
        await tell(first, wish(1))
        await first.stop_leading()
        store.fail_before = 1
        book = (await leader(store)).book
        assert book.leading
        await asyncio.sleep(RELOAD_S + 2)
        assert book.pods() == {POD.uid}
        await book.stop_leading()

    on_virtual_time(scene())


def test_another_length_of_the_window_begins_at_nothing_and_the_former_one_goes_on_where_it_was() -> None:
    async def scene() -> None:
        replica = await leader(FlakyStore())
        book = replica.book
        await tell(book, wish(1))
        await tell(book, wish(2, 0, granted=100, spent=60, keep=60))
        hourly = replace(BUDGET, every=Every.HOUR)
        book.set_budgets({BUDGET.name: hourly}, {})
        old, new = await tell(book, wish(3, window="2026-11-21", granted=60, spent=60))
        assert (old.granted, new.window, new.granted) == (60, "2026-11-21T12Z", 0), "nothing more is granted in the old"
        found = book.figures(BUDGET.name)
        assert found is not None
        assert found.spent == 0
        book.set_budgets({BUDGET.name: BUDGET}, {})
        found = book.figures(BUDGET.name)
        assert found is not None
        assert found.spent == 60
        await book.stop_leading()

    on_virtual_time(scene())


def test_another_time_zone_moves_the_end_of_the_window_and_keeps_what_was_spent() -> None:
    async def scene() -> None:
        book = (await leader(FlakyStore())).book
        await tell(book, wish(1))
        await tell(book, wish(2, 0, granted=100, spent=60, keep=60))
        book.set_budgets({BUDGET.name: replace(BUDGET, zone="Europe/Berlin")}, {})
        found = book.figures(BUDGET.name)
        assert found is not None
        assert found.spent == 60
        assert found.window.ends_at == datetime(2026, 11, 21, 23, tzinfo=UTC)
        await book.stop_leading()

    on_virtual_time(scene())


def test_a_clock_that_was_years_ahead_does_not_keep_the_budget_there() -> None:
    async def scene() -> None:
        replica = await leader(FlakyStore())
        await tell(replica.book, wish(1))
        replica.offset = timedelta(days=900)
        await asyncio.sleep(3)
        replica.offset = timedelta()
        (right,) = await tell(replica.book, wish(2, granted=100))
        assert right.window == "2026-11-21"
        assert right.granted > 100
        await replica.book.stop_leading()

    on_virtual_time(scene())


def test_a_message_about_windows_that_never_were_costs_few_reads_and_makes_no_ledger() -> None:
    async def scene() -> None:
        store = CountingStore()
        book = (await leader(store)).book
        made_up = [wish(1, window=f"2020-{number:04d}") for number in range(500)]
        rights = await tell(book, *made_up, wish(1))
        assert ("2026-11-21", 100) in {(right.window, right.granted) for right in rights}
        assert store.loads <= 2 * LOOKED_FOR_MAX + 2
        assert await store.list_keys() == (KEY,)
        assert len(book._pages) == 1
        await book.stop_leading()

    on_virtual_time(scene())


class CountingStore(FlakyStore):
    loads = 0

    async def load(self, key: LedgerKey) -> Stored | None:
        self.loads += 1
        return await super().load(key)
