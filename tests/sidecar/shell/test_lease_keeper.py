"""The lease keeper against the real ledger core, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from msgspec.structs import replace
from tests.blank_journal import blank_journal
from tests.simulation.virtual_time import run

from keelage_api.proxy_config import BudgetTerms, Per, Quota, Unit
from keelage_api.sync import SavedBy, Saving, SyncReply, SyncRequest
from keelage_operator.core.ledger import Heard, LedgerRecord, RowState, apply
from keelage_sidecar.core.claim import Charge, Claim, DenialReason, Denied, Hold
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import Journal
from keelage_sidecar.shell.lease_keeper import LeaseKeeper, LedgerUnreachable, SidecarReport


def month(amount: int) -> tuple[Claim, ...]:
    return (Claim("shop/month", amount, hard=True),)


class Ledger:
    """Answers after 50 ms, as the operator does; can be switched off, or be silent."""

    def __init__(self, limit: int = 1000) -> None:
        self.limit = limit
        self.record = LedgerRecord(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
        self.requests: list[SyncRequest] = []
        self.asked_s: list[float] = []
        """When each of them came."""
        self.up = True
        self.silent = False

    async def sync(self, request: SyncRequest, pod: str = "pod") -> SyncReply:
        self.requests.append(request)
        self.asked_s.append(now())
        await asyncio.sleep(3600 if self.silent else 0.05)
        if not self.up:
            raise LedgerUnreachable("switched off")
        holder = f"{pod}.{request.incarnation}"
        batch = [
            Heard(holder, replace(statement, window="2026-11.u" if statement.value else "2026-11"))
            for statement in request.statements
        ]
        applied = apply(self.record, batch, self.limit, int(asyncio.get_running_loop().time()))
        self.record = applied.record
        return SyncReply(tuple(replace(right, ends_in_s=86400.0) for _, right in applied.rights))


class Pod:
    """A keeper with its dialogue running."""

    def __init__(self, ledger: Ledger, name: str = "pod", picked: float = 0.0) -> None:
        self._ledger, self._name, self._picked = ledger, name, picked

    async def sync(self, request: SyncRequest) -> SyncReply:
        return await self._ledger.sync(request, self._name)

    async def __aenter__(self) -> LeaseKeeper:
        loop = asyncio.get_running_loop()
        holder = Holder(Journal(bytearray(blank_journal(self._name.ljust(16, "_"), accounts=2048))))
        self.keeper = LeaseKeeper(holder, self, loop.time, lambda: self._picked)
        self.keeper.obey((BudgetTerms("shop/month", hard=True),))
        self._task = loop.create_task(self.keeper.run())
        return self.keeper

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def on_virtual_time(scene: Coroutine[object, object, None]) -> None:
    run(scene)


def now() -> float:
    return asyncio.get_running_loop().time()


async def held(keeper: LeaseKeeper, amount: int) -> Hold:
    hold = await keeper.reserve(month(amount), 5.0)
    assert isinstance(hold, Hold)
    return hold


def test_the_first_call_waits_for_the_ledger_and_the_next_ones_do_not() -> None:
    async def scene() -> None:
        async with Pod(Ledger()) as keeper:
            hold = await keeper.reserve(month(10), 5.0)
            assert isinstance(hold, Hold)
            assert now() < 0.3
            keeper.settle(hold, Charge(1))
            await asyncio.sleep(1)
            for _ in range(200):
                quick = keeper.try_reserve(month(10))
                assert quick is not None
                keeper.settle(quick, Charge(1))
                await asyncio.sleep(0.05)

    on_virtual_time(scene())


def test_sidecars_without_a_ledger_try_again_at_moments_of_their_own() -> None:
    async def scene() -> None:
        for picked, pauses in (
            (0.0, [0.25] * 5),
            (0.5, [0.25, 0.375, 0.625, 1.125, 1.125]),
            (1.0, [0.25, 0.5, 1, 2, 2]),
        ):
            ledger = Ledger()
            ledger.up = False
            async with Pod(ledger, picked=picked):
                await asyncio.sleep(10)
            found = [later - earlier - 0.05 for earlier, later in pairwise(ledger.asked_s)]
            assert found[:5] == pytest.approx(pauses)

    on_virtual_time(scene())


def test_the_whole_limit_can_be_spent_and_then_calls_are_refused_at_once() -> None:
    async def scene() -> None:
        ledger = Ledger()
        async with Pod(ledger) as keeper:
            served = 0
            while isinstance(hold := await keeper.reserve(month(10), 5.0), Hold):
                keeper.settle(hold, Charge(10))
                served += 1
            assert (served, hold.reason) == (100, DenialReason.BUDGET_EXHAUSTED)
            before = now()
            again = await keeper.reserve(month(10), 5.0)
            assert isinstance(again, Denied)
            assert now() == before

    on_virtual_time(scene())


def test_sixty_four_calls_at_their_bound_wait_for_settlements_instead_of_being_refused() -> None:
    async def scene() -> None:
        ledger = Ledger()
        async with Pod(ledger) as keeper:

            async def call() -> bool:
                hold = await keeper.reserve(month(50), 5.0)
                if isinstance(hold, Denied):
                    return False
                await asyncio.sleep(0.5)
                keeper.settle(hold, Charge(5))
                return True

            assert all(await asyncio.gather(*(call() for _ in range(64))))

    on_virtual_time(scene())


def test_money_that_idles_at_one_sidecar_comes_to_the_other_that_waits() -> None:
    async def scene() -> None:
        ledger = Ledger(limit=100)
        async with Pod(ledger, "one") as idle, Pod(ledger, "two") as busy:
            hold = await idle.reserve(month(40), 5.0)
            assert isinstance(hold, Hold)
            idle.settle(hold, Charge(1))
            held = await busy.reserve(month(90), 5.0)
            assert isinstance(held, Hold)
            assert now() < 4.0

    on_virtual_time(scene())


def test_while_the_ledger_is_down_the_lease_goes_on_and_then_the_refusal_says_so() -> None:
    async def scene() -> None:
        ledger = Ledger()
        async with Pod(ledger) as keeper:
            hold = await keeper.reserve(month(10), 5.0)
            assert isinstance(hold, Hold)
            keeper.settle(hold, Charge(10))
            await asyncio.sleep(3)
            ledger.up = False
            served = 0
            while isinstance(hold := await keeper.reserve(month(10), 5.0), Hold):
                keeper.settle(hold, Charge(10))
                served += 1
            assert served >= 1
            assert hold.reason is DenialReason.NO_RIGHTS
            assert not keeper.reached
            ledger.up = True
            assert isinstance(await keeper.reserve(month(10), 5.0), Hold)

    on_virtual_time(scene())


def test_a_caller_that_leaves_while_it_waits_holds_nothing() -> None:
    async def scene() -> None:
        ledger = Ledger()
        async with Pod(ledger) as keeper:
            caller = asyncio.create_task(keeper.reserve(month(10), 5.0))
            await asyncio.sleep(0.01)
            caller.cancel()
            await asyncio.wait([caller])
            assert caller.cancelled()
            await asyncio.sleep(3)
            assert [figure.reserved for figure in keeper.figures()] == [0]

    on_virtual_time(scene())


def test_a_silent_ledger_is_given_up_and_asked_again() -> None:
    async def scene() -> None:
        ledger = Ledger()
        ledger.silent = True
        async with Pod(ledger) as keeper:
            refused = await keeper.reserve(month(10), 5.0)
            assert isinstance(refused, Denied)
            assert refused.reason is DenialReason.WINDOW_UNKNOWN
            ledger.silent = False
            assert isinstance(await keeper.reserve(month(10), 5.0), Hold)

    on_virtual_time(scene())


def test_leaving_returns_what_was_not_spent() -> None:
    async def scene() -> None:
        ledger = Ledger()
        async with Pod(ledger) as keeper:
            hold = await keeper.reserve(month(10), 5.0)
            assert isinstance(hold, Hold)
            keeper.settle(hold, Charge(7))
        await keeper.leave()
        (row,) = ledger.record.account().rows.values()
        assert (row.state, row.granted, row.spent) == (RowState.RELEASED, 7, 7)
        assert ledger.requests[-1].leaving

    on_virtual_time(scene())


@pytest.mark.parametrize(("leases", "takes_s"), [(False, 1.5), (True, 20.0)])
def test_leaving_a_silent_ledger_takes_no_longer_than_it_may(leases: bool, takes_s: float) -> None:
    async def scene() -> None:
        ledger = Ledger()
        async with Pod(ledger) as keeper:
            if leases:
                keeper.settle(await held(keeper, 10), Charge(7))
            await asyncio.sleep(1)
        ledger.silent = True
        before = now()
        await keeper.leave()
        assert now() - before == pytest.approx(takes_s)

    on_virtual_time(scene())


def test_who_leaves_while_the_ledger_is_away_gives_back_what_it_leased_when_it_comes() -> None:
    async def scene() -> None:
        ledger = Ledger()
        async with Pod(ledger) as keeper:
            keeper.settle(await held(keeper, 10), Charge(7))
        ledger.up = False
        asyncio.get_running_loop().call_later(8.0, setattr, ledger, "up", True)
        before = now()
        await keeper.leave()
        assert 8.0 < now() - before < 10.5
        (row,) = ledger.record.account().rows.values()
        assert (row.state, row.granted, row.spent) == (RowState.RELEASED, 7, 7)

    on_virtual_time(scene())


def test_each_exchange_tells_the_configuration_in_force() -> None:
    async def scene() -> None:
        ledger = Ledger()
        async with Pod(ledger) as keeper:
            keeper.report = lambda: SidecarReport("v7", "v8 is damaged", ("keys/anthropic",))
            keeper.speak_soon()
            await asyncio.sleep(0.2)
            told = ledger.requests[-1]
            assert (told.config_version, told.config_error) == ("v7", "v8 is damaged")
            assert told.missing_credentials == ("keys/anthropic",)
            quiet = len(ledger.requests)
            await asyncio.sleep(20)
            assert 8 <= len(ledger.requests) - quiet <= 12

    on_virtual_time(scene())


def test_leaving_returns_what_more_values_held_than_one_exchange_tells() -> None:
    async def scene() -> None:
        ledger = Ledger()
        async with Pod(ledger) as keeper:
            keeper.obey((BudgetTerms("shop/user", hard=True, per=(Per.USER,)),))
            for first in (0, 600):
                claims = [Claim("shop/user", 10, hard=True, value=f"user-{first + number}") for number in range(600)]
                for hold in await asyncio.gather(*(keeper.reserve((claim,), 5.0) for claim in claims)):
                    assert isinstance(hold, Hold)
                    keeper.settle(hold, Charge(7))
        await keeper.leave()
        assert all(account.committed == 7 for value, account in ledger.record.accounts.items() if value)
        assert [request.leaving for request in ledger.requests[-3:]] == [False, False, True]
        assert [(figure.budget, figure.granted) for figure in keeper.figures()] == []

    on_virtual_time(scene())


def test_a_call_that_waits_for_a_rate_is_served_when_no_leader_was_there_for_a_while() -> None:
    async def scene() -> None:
        ledger = Ledger()
        ledger.up = False
        quota = Quota("shop/rate:chat/all:0", Unit.REQUESTS, 20, 60_000, "chat", rule="all")
        async with Pod(ledger) as keeper:
            keeper.obey((), (quota,))
            claim = Claim(quota.name, 1, hard=True, unit=Unit.REQUESTS, quota=True)
            assert isinstance(await keeper.reserve((claim,), 60.0), Hold)
            assert 10.0 <= now() < 13.0

    on_virtual_time(scene())


def test_what_was_saved_is_told_until_the_ledger_has_heard_it() -> None:
    async def scene() -> None:
        ledger = Ledger()
        ledger.up = False
        async with Pod(ledger) as keeper:
            keeper.savings.count("assistant", SavedBy.CASCADE, 5, hits=1)
            await asyncio.sleep(3)
            ledger.up = True
            await asyncio.sleep(10)
        told = [request for request in ledger.requests if request.savings]
        assert len(told) > 1
        assert {(request.savings_seq, *request.savings) for request in told} == {
            (1, Saving("assistant", SavedBy.CASCADE, 5, 1, 1))
        }
        assert not ledger.requests[-1].savings

    on_virtual_time(scene())
