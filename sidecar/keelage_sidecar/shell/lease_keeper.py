"""Keeps the lease alive: carries statements to the ledger, rights back, and lets calls wait for money."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec
from msgspec.structs import replace

from keelage_api.errors import KeelageError
from keelage_api.proxy_config import BudgetTerms, Quota
from keelage_api.sync import Resting, SyncReply, SyncRequest
from keelage_sidecar.core.account import AccountFigures
from keelage_sidecar.core.attribution import Attribution, Spender
from keelage_sidecar.core.claim import NOTHING, Charge, Claim, Denied, Hold, Room
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.savings import Savings

EXCHANGE_S = 5.0
"""For one exchange with the ledger; after it the answer does not count any more."""
LEAVE_S = 1.5
"""For one last word: SIGTERM leaves a native sidecar as little as two seconds."""
LEAVE_MAX_S = 20.0
"""For all of them while nobody hears them: pods have thirty seconds to end, unless told otherwise. Who is killed before
has left a will, but that is lost with the pod object where no operator saw it."""
GAP_S = 0.02
"""Between two exchanges, so that what happens meanwhile goes with the next."""
TEND_S = 0.2
"""Between looks at the last will while money moves: so far behind is its account of what came back."""
LATE_S = 0.005
"""A loop's timer may fire a clock tick early; the patience must be over when it does."""
BACKOFF_MIN_S = 0.25
BACKOFF_MAX_S = 2.0
"""Between attempts while the ledger cannot be reached: from the least to what doubles with each of them."""


class LedgerUnreachable(KeelageError):
    """No leader answered. To be mended in the cluster; leases go on meanwhile."""


class LedgerClient(Protocol):
    async def sync(self, request: SyncRequest) -> SyncReply:
        """One exchange with the leader; LedgerUnreachable if there is no answer that can be used."""
        ...


class SidecarReport(msgspec.Struct, frozen=True):
    """What every statement tells besides money."""

    config_version: str = ""
    config_error: str = ""
    missing_credentials: tuple[str, ...] = ()
    resting: tuple[Resting, ...] = ()


class LeaseKeeper:
    """One per sidecar. `run()` must be running for anything but the lease at hand to be had."""

    def __init__(
        self, holder: Holder, ledger: LedgerClient, clock: Callable[[], float], pick: Callable[[], float]
    ) -> None:
        """`pick`: uniform in [0, 1), drawn for each pause, so that a thousand sidecars do not come back at once."""
        self._holder = holder
        self._ledger = ledger
        self._clock = clock
        self._pick = pick
        self._wake = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[Hold | Denied]] = {}
        self._interval_s = 2.0
        self._attribution = Attribution()
        self.savings = Savings()
        self._exchanging = asyncio.Lock()
        self._tending: asyncio.TimerHandle | None = None
        self.report: Callable[[], SidecarReport] = SidecarReport
        """Asked before each exchange."""
        self.reached = False
        """Whether the last exchange succeeded."""

    @property
    def incarnation(self) -> str:
        return self._holder.incarnation

    def obey(self, budgets: tuple[BudgetTerms, ...], quotas: tuple[Quota, ...] = ()) -> None:
        self._holder.obey(budgets, quotas)
        self._wake.set()

    def speak_soon(self) -> None:
        """`report` has changed: tell it with the next exchange, now."""
        self._holder.eager = True
        self._wake.set()

    def try_reserve(self, claims: tuple[Claim, ...], passing: bool = False) -> Hold | None:
        """A hold if the lease suffices right now; touches nothing but memory. `passing`: whoever else waits for it."""
        hold = self._holder.try_reserve(claims, self._clock(), passing)
        if self._holder.eager:
            self._wake.set()
        if self._tending is None and self._holder.will.kept:
            self._tend_soon()
        return hold

    async def reserve(self, claims: tuple[Claim, ...], patience_s: float) -> Hold | Denied:
        """A hold, if need be after waiting for settlements or rights; Denied when that is over or in vain."""
        if self._waiting:
            self._admit(news=False)  # those who came before
        hold = self.try_reserve(claims, passing=patience_s <= 0)
        if hold is not None:
            return hold
        now = self._clock()
        waiter = self._holder.wait(claims, now + patience_s, now)
        self._wake.set()
        if isinstance(waiter, Denied):
            return waiter
        future: asyncio.Future[Hold | Denied] = asyncio.get_running_loop().create_future()
        self._waiting[waiter.id] = future
        if len(self._waiting) > 1:
            self._admit(news=False)  # those before it may lack something else
        timer = asyncio.get_running_loop().call_later(patience_s + LATE_S, partial(self._admit, news=False))
        try:
            return await future
        except asyncio.CancelledError:
            self._holder.cancel(waiter.id)
            if future.done() and not future.cancelled() and isinstance(served := future.result(), Hold):
                self.settle(served, NOTHING)  # never sent
            raise
        finally:
            timer.cancel()
            self._waiting.pop(waiter.id, None)

    def settle(self, hold: Hold, charge: Charge, spender: Spender | None = None, uncertain: Charge = NOTHING) -> None:
        """What the call used, who it was for, and what of it may not have been billed; exactly once per hold."""
        paid = self._holder.settle(hold, charge, uncertain)
        if spender is not None:
            self._attribution.count(paid, spender)
        if self._waiting:
            self._admit(news=False)
        if self._holder.eager:
            self._wake.set()
        if self._tending is None and self._holder.will.kept:
            self._tend_soon()

    def room(self, claim: Claim) -> Room:
        """What its account could pay."""
        return self._holder.room(claim, self._clock())

    def figures(self) -> tuple[AccountFigures, ...]:
        """Of each budget or rate and window, values together: they are far too many to be shown."""
        sums: dict[tuple[str, str], AccountFigures] = {}
        for each in self._holder.figures():
            so_far = sums.get(
                (each.budget, each.window), AccountFigures(each.budget, each.window, 0, 0, 0, "", each.unit)
            )
            sums[(each.budget, each.window)] = replace(
                so_far,
                granted=so_far.granted + each.granted,
                spent=so_far.spent + each.spent,
                reserved=so_far.reserved + each.reserved,
            )
        return tuple(sums.values())

    def used_percent(self, name: str, value: str = "") -> int | None:
        """How much of a budget's limit everybody has spent, as far as is known here; None: nobody told."""
        return self._holder.used_percent(name, value)

    def note_left(self, name: str, left: int) -> None:
        """A provider said how much is left of the limit that the quota `name` stands for."""
        self._holder.note_left(name, left, self._clock())

    async def run(self) -> None:
        """The dialogue, until cancelled."""
        backoff_s = BACKOFF_MIN_S
        while True:
            await self._until_due()
            if await self._exchange(EXCHANGE_S):
                backoff_s = BACKOFF_MIN_S
                await asyncio.sleep(GAP_S)
            else:
                await self._pause(backoff_s)
                backoff_s = min(BACKOFF_MAX_S, 2 * backoff_s)

    async def leave(self) -> None:
        """Give everything back; returns when it was heard, or LEAVE_MAX_S are over, or nothing is held. Cancel
        `run()` first. Nothing can be reserved after it."""
        if self._tending is not None:
            self._tending.cancel()
        # Asked before: what is offered is not held any more, whether it was heard or not.
        leases, backoff_s = self._leases(), BACKOFF_MIN_S
        try:
            async with asyncio.timeout(LEAVE_MAX_S):
                while not await self._said_goodbye() and leases:
                    await self._pause(backoff_s)
                    backoff_s = min(BACKOFF_MAX_S, 2 * backoff_s)
        except TimeoutError:
            pass  # what was not told stays counted until the pod is gone
        self._holder.declare()

    async def _said_goodbye(self) -> bool:
        while await self._exchange(LEAVE_S, leaving=True):
            if not self._holder.untold:
                return True
        return False

    def _leases(self) -> bool:
        return any(figure.granted > figure.spent for figure in self._holder.figures())

    async def _pause(self, backoff_s: float) -> None:
        await asyncio.sleep(BACKOFF_MIN_S + (backoff_s - BACKOFF_MIN_S) * self._pick())

    async def _until_due(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock()
            delay_s = self._holder.next_at(self._interval_s, now) - now
            if delay_s <= 0:
                return
            try:
                async with asyncio.timeout(delay_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _exchange(self, timeout_s: float, leaving: bool = False) -> bool:
        async with self._exchanging:
            statements = self._holder.statements(self._clock(), leaving)
            # Before they are sent: what is given back must not be promised, and a will that is older than what
            # the ledger heard is void.
            self._holder.declare()
            report = self.report()
            savings_seq, savings = self.savings.tell()
            request = SyncRequest(
                incarnation=self._holder.incarnation,
                config_version=report.config_version,
                config_error=report.config_error,
                missing_credentials=report.missing_credentials,
                statements=statements,
                leaving=leaving and not self._holder.untold,
                shares=self._attribution.tell(),
                run=self._holder.run,
                savings=savings,
                savings_seq=savings_seq,
                resting=report.resting,
            )
            try:
                async with asyncio.timeout(timeout_s):
                    reply = await self._ledger.sync(request)
            except (LedgerUnreachable, TimeoutError):
                self._holder.lost()
                self.reached = False
                self._admit(news=True)  # rates that are kept alone have refilled
                return False
            self.reached = True
            self._interval_s = max(0.1, reply.next_s)
            self._attribution.heard(reply.tell_all)
            self.savings.heard()
            if self._holder.will.take_key(reply.will_key):
                self._holder.declare()
            self._holder.heard(reply.rights, self._clock())
            self._admit(news=True)
            return True

    def _tend_soon(self) -> None:
        if self._holder.moved:
            self._tending = asyncio.get_running_loop().call_later(TEND_S, self._tend)

    def _tend(self) -> None:
        self._tending = None
        if self._holder.tend_will():
            self._tending = asyncio.get_running_loop().call_later(TEND_S, self._tend)

    def _admit(self, news: bool) -> None:
        for waiter_id, answer in self._holder.admit(self._clock(), news):
            future = self._waiting.get(waiter_id)
            if future is not None and not future.done():
                future.set_result(answer)
            elif isinstance(answer, Hold):
                self._holder.settle(answer, NOTHING)  # whoever waited has gone
