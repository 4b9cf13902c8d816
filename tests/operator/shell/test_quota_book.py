"""The book of quotas: who is answered together, who leads, what is remembered and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest
from tests.simulation.virtual_time import run

from keelage_api.proxy_config import Per, Quota, Unit
from keelage_api.sync import Right, Statement
from keelage_operator.core.identity import PodIdentity
from keelage_operator.shell.ledger_page import LedgerUnavailable
from keelage_operator.shell.quota_book import (
    CROWDED_MS,
    LOOK_EVERY_MS,
    LOOKS,
    RUNS_MAX,
    SILENT_MS,
    SUCCEEDED_MS,
    QuotaBook,
    QuotaFigures,
)

USERS = Quota("shop/rate:chat/all:r60s.u", Unit.REQUESTS, 20, 60_000, "shop/chat", rule="all", per=(Per.USER,))
BACKEND = Quota("shop/limit:chat/main:requestsPerMinute", Unit.REQUESTS, 60, 60_000, "shop/chat", backend="chat/main")
LANES = Quota("shop/limit:chat/main:concurrentRequests", Unit.CONCURRENT, 6, 0, "shop/chat", backend="chat/main")
POD = PodIdentity("shop", "a-0", "a")
OTHER = PodIdentity("shop", "b-0", "b")


def word(
    seq: int,
    want: int = 0,
    value: str = "alice",
    name: str = USERS.name,
    granted: int = 0,
    spent: int = 0,
    final: bool = False,
    window: str = "rate",
) -> Statement:
    keep = max(granted, spent)
    return Statement(name, window, seq, granted, spent, 0, want, min(want, 1), keep, final, value)


def leading(*more: Quota, after_nobody: bool = True, buckets_max: int = 100) -> QuotaBook:
    book = QuotaBook(lambda: asyncio.get_running_loop().time(), buckets_max=buckets_max)
    book.set_quotas({each.name: each for each in (USERS, BACKEND, *more)})
    book.lead(after_nobody)
    return book


async def tell(book: QuotaBook, *statements: Statement, pod: PodIdentity = POD, run: str = "1") -> tuple[Right, ...]:
    return await book.sync(pod, run, statements)


def values(book: QuotaBook) -> int:
    return sum(figures.values for figures in book.figures().values())


def on_virtual_time(test: Coroutine[object, object, None]) -> None:
    run(test)


def test_sidecars_that_ask_at_once_share_and_each_value_has_its_own_account() -> None:
    async def scene() -> None:
        book = leading()
        (a, bob), (b,) = await asyncio.gather(
            tell(book, word(1, 20), word(2, 5, "bob")), tell(book, word(1, 20), pod=OTHER)
        )
        assert (a.granted, b.granted, bob.granted) == (5, 5, 5)
        assert (a.value, bob.value) == ("alice", "bob")

    on_virtual_time(scene())


def test_who_does_not_lead_grants_nothing_and_who_waits_is_told() -> None:
    async def scene() -> None:
        book = leading()
        waiting = asyncio.create_task(tell(book, word(1, 1)))
        await asyncio.sleep(0)
        book.stop_leading()
        with pytest.raises(LedgerUnavailable):
            await waiting
        with pytest.raises(LedgerUnavailable):
            await tell(book, word(2, 1))
        assert book.figures() == {}

    on_virtual_time(scene())


def test_a_caller_that_leaves_does_not_disturb_those_who_wait_with_it() -> None:
    async def scene() -> None:
        book = leading()
        leaver, stayer = asyncio.create_task(tell(book, word(1, 1))), tell(book, word(1, 1), pod=OTHER)
        await asyncio.sleep(0)
        leaver.cancel()
        assert (await stayer)[0].granted == 1

    on_virtual_time(scene())


def test_a_change_of_leader_never_doubles_a_rate() -> None:
    async def scene() -> None:
        await tell(old := leading(), word(1, 20))
        old.stop_leading()
        new = leading(after_nobody=False)
        (right,) = await tell(new, word(1, 20), pod=OTHER)
        assert (right.granted, right.exhausted) == (0, True)
        await asyncio.sleep(3)
        (right,) = await tell(new, word(2, 20), pod=OTHER)
        assert right.granted == 1

    on_virtual_time(scene())


def test_a_limit_that_nobody_knew_before_begins_full() -> None:
    async def scene() -> None:
        book = leading(after_nobody=False)
        fresh = Quota("shop/rate:chat/all:r60s", Unit.REQUESTS, 4, 60_000, "shop/chat")
        book.set_quotas({USERS.name: USERS, fresh.name: fresh})
        (right,) = await tell(book, word(1, 2, "", fresh.name))
        assert right.granted == 2

    on_virtual_time(scene())


def test_a_lowered_limit_holds_at_once() -> None:
    async def scene() -> None:
        book = leading()
        await tell(book, word(1, 20))
        lower = Quota(USERS.name, Unit.REQUESTS, 5, 60_000, "shop/chat", per=(Per.USER,))
        book.set_quotas({USERS.name: lower})
        (right,) = await tell(book, word(1, 20), pod=OTHER)
        assert (right.granted, right.limit) == (0, 5)

    on_virtual_time(scene())


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (word(1, name="shop/rate:chat/gone:0"), "shop/rate:chat/gone:0 is not in force"),
        (word(1, name="lab/rate:chat/all:r60s.u"), "is not in force"),
        (word(1, value=""), "per User"),
        (word(1, value="a/b"), "per User"),
        (word(1, value="a" * 66), "per User"),
        (word(1, value="a b"), "per User"),
        (word(1, value="alice", name=BACKEND.name), "per nothing"),
    ],
)
def test_what_is_no_account_is_refused_with_the_reason(statement: Statement, text: str) -> None:
    async def scene() -> None:
        book = leading()
        book.set_quotas({each.name: each for each in (USERS, BACKEND)} | {"lab/rate:chat/all:r60s.u": USERS})
        (right,) = await tell(book, statement)
        assert text in right.error
        assert values(book) == 0

    on_virtual_time(scene())


def test_values_are_bounded_and_full_buckets_make_room() -> None:
    async def scene() -> None:
        book = leading(buckets_max=100)
        for number in range(100):
            await tell(book, word(2 * number + 1, 1, f"u{number}"))
            await tell(book, word(2 * number + 2, 0, f"u{number}", granted=1, spent=1, final=True))
        crowded: list[str] = []
        book.on_crowded = crowded.append
        assert book.crowded() == frozenset()
        for seq in (201, 202):
            (right,) = await tell(book, word(seq, 1, "late"))
            assert "100 values are in use" in right.error
        assert (crowded, set(book.crowded())) == (["shop"], {USERS.name})
        await asyncio.sleep(LOOK_EVERY_MS / 1000 + 3)
        (right,) = await tell(book, word(203, 1, "late"))
        assert (right.error, right.granted) == ("", 1)
        await asyncio.sleep(CROWDED_MS / 1000)
        assert book.crowded() == frozenset()

    on_virtual_time(scene())


def test_buckets_that_say_nothing_are_forgotten_while_others_are_used() -> None:
    async def scene() -> None:
        book = leading()
        await tell(book, *(word(number, 0, f"u{number}", final=True) for number in range(1, LOOKS)))
        assert values(book) == LOOKS - 1
        await asyncio.sleep(LOOK_EVERY_MS / 1000)
        await tell(book, word(LOOKS, 1))
        assert values(book) == 1

    on_virtual_time(scene())


def test_a_goodbye_is_not_undone_by_what_was_said_before_it() -> None:
    async def scene() -> None:
        book = leading()
        await tell(book, word(1, 5))
        await tell(book, word(4, 0, granted=5, spent=2, final=True), word(5, 3, "bob"))
        assert await tell(book, word(3, 0, granted=5, spent=1)) == ()
        (again,) = await tell(book, word(4, 0, granted=5, spent=2, final=True))
        assert (again.granted, again.seq) == (2, 4), "said again, since its answer was lost"
        assert (await tell(book, word(6, 1, "bob", granted=3)))[0].granted == 4
        (right,) = await tell(book, word(1, 20), pod=OTHER)
        assert right.granted == 9, "half of 18: three came back"

    on_virtual_time(scene())


def test_a_pod_that_is_gone_leaves_no_lease_behind() -> None:
    async def scene() -> None:
        book = leading()
        await tell(book, word(1, 20), word(2, 1, "", BACKEND.name))
        assert book.pods() == {"a"}
        book.pod_gone("a")
        book.pod_gone("a")
        assert book.pods() == frozenset()
        await asyncio.sleep(61)
        assert (await tell(book, word(1, 40), pod=OTHER))[0].granted == 10, "half of a full one: nothing is forfeited"

    on_virtual_time(scene())


def test_a_new_incarnation_takes_the_place_of_the_one_before_once_that_is_silent() -> None:
    async def scene() -> None:
        book = leading(LANES)
        assert (await tell(book, word(1, 6, "", LANES.name)))[0].granted == 3
        for _ in range(4):
            await tell(book, word(1, 0, "", LANES.name), run="2")
            assert book.figures()[LANES.name].held == 3
            await asyncio.sleep(SUCCEEDED_MS / 4000)
        await tell(book, run="2")
        assert book.figures()[LANES.name].held == 0

    on_virtual_time(scene())


def test_a_late_word_of_a_dead_incarnation_frees_nothing_that_the_living_one_uses() -> None:
    async def scene() -> None:
        book = leading(LANES)
        late = word(2, 1, "", LANES.name)
        await tell(book, word(1, 1, "", LANES.name))
        (right,) = await tell(book, word(1, 6, "", LANES.name), run="2")
        used = right.granted
        await tell(book, late)
        (others,) = await tell(book, word(1, 6, "", LANES.name), pod=OTHER)
        assert used + others.granted <= LANES.limit
        assert book.figures()[LANES.name].held >= used + others.granted

    on_virtual_time(scene())


def test_a_pod_has_a_few_incarnations_at_most() -> None:
    async def scene() -> None:
        book = leading()
        for number in range(3 * RUNS_MAX):
            await tell(book, word(1, 1), run=str(number))
        assert book.figures()[USERS.name].held == RUNS_MAX

    on_virtual_time(scene())


def test_a_sidecar_that_fell_silent_does_not_keep_others_waiting() -> None:
    async def scene() -> None:
        book = leading()
        hog = Quota(USERS.name, Unit.REQUESTS, 1, 1_000, "shop/chat", per=(Per.USER,))
        book.set_quotas({USERS.name: hog})
        await asyncio.sleep(1)
        await tell(book, word(1, 1))
        await tell(book, word(2, 0, granted=1))
        await asyncio.sleep(SILENT_MS / 1000 - 1)
        assert (await tell(book, word(1, 1), pod=OTHER))[0].granted == 0
        await asyncio.sleep(1)
        assert (await tell(book, word(2, 1), pod=OTHER))[0].granted == 0, "it may have been used just now"
        await asyncio.sleep(1)
        assert (await tell(book, word(3, 1), pod=OTHER))[0].granted == 1
        (back,) = await tell(book, word(3, 0, granted=1))
        assert (back.granted, back.tight) == (1, True), "it counts again at once"

    on_virtual_time(scene())


def test_who_says_anything_at_all_is_not_silent() -> None:
    async def scene() -> None:
        book = leading()
        await tell(book, word(1, 1))
        for _ in range(3):
            await asyncio.sleep(SILENT_MS / 1000)
            await tell(book)
        assert book.pods() == {"a"}

    on_virtual_time(scene())


def test_figures_count_grants_and_refusals_by_quota() -> None:
    async def scene() -> None:
        book = leading()
        await tell(book, word(1, 5), word(2, 3, "bob"))
        await tell(book, word(3, 40, granted=5, spent=20))
        assert book.figures() == {USERS.name: QuotaFigures(8, 1, values=2, held=3), BACKEND.name: QuotaFigures()}

    on_virtual_time(scene())
