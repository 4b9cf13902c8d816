"""The lease of this sidecar: what it may still spend, checked before a call and charged after it.

    spent + reserved <= granted for each account            (I2)

Pure: the caller passes `now` in monotonic seconds; the only effect is the journal, a buffer
that always tells at least what was spent. `shell/lease_keeper` carries the statements to the
ledger and the rights back, at most one exchange at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keelage_api.proxy_config import BudgetTerms, Unit
from keelage_api.sync import Right, Statement
from keelage_sidecar.core.account import ASK_AGAIN_S, HOPELESS_S, NEVER, Account, AccountFigures, Asked
from keelage_sidecar.core.claim import AMOUNT_MAX, Charge, Claim, DenialReason, Denied, Hold, Waiter
from keelage_sidecar.core.denial import explain
from keelage_sidecar.core.journal_format import Journal
from keelage_sidecar.core.last_will import Estate, LastWill, WillFile

QUEUE_MAX = 1024
"""Calls that wait for money; more than a process relays at once."""


class Holder:
    def __init__(self, journal: Journal, will_file: WillFile | None = None) -> None:
        """Goes on where the journal ends: JournalError if it is damaged. `will_file`: for the last will, blank."""
        self._journal = journal
        self.will = LastWill(will_file)
        self.incarnation = journal.incarnation
        self._accounts: dict[tuple[str, str], Account] = {
            (it.budget, it.window): Account(it.slot, it.budget, it.window, it.granted, it.spent, ends_s=it.ends_s)
            for it in journal.recover()
        }
        self._seq = self._seq_limit = journal.seq_limit
        self._terms: dict[str, BudgetTerms] = {}
        self._current: dict[str, Account] = {}
        self._errors: dict[str, str] = {}
        self._holds: dict[int, tuple[tuple[Account, int, int, Unit], ...]] = {}
        self._hold_id = self._waiter_id = 0
        self._waiters: dict[int, Waiter] = {}
        self._pending: dict[int, Asked] = {}
        self._spoke_s = NEVER
        self._obeyed = self._leaving = False
        self.eager = False
        """Something happened that the ledger should hear of now: the shell wakes its dialogue."""
        self.moved = False
        """Money moved since the shell last let the will be looked after."""

    def obey(self, budgets: Iterable[BudgetTerms]) -> None:
        """From now on these count; accounts of others are closed when their calls are done."""
        self._terms = {terms.name: terms for terms in budgets}
        self._obeyed = True
        self._choose()
        self.eager = True

    # The hot path: no await between check and charge

    def try_reserve(self, claims: tuple[Claim, ...], now: float) -> Hold | None:
        """A hold on all budgets or on none; None: one of them cannot pay at this moment."""
        current, promised = self._current, True
        for claim in claims:
            account = current.get(claim.budget)
            if account is None and claim.hard:
                return None
            if account is None:
                continue
            total = account.spent + account.reserved + claim.held
            if claim.hard and (now >= account.ends_s or total > account.granted):
                return None
            promised = promised and total <= account.promised
        journal = self._journal
        if claims and (self._leaving or journal.holds_left() < len(claims)):
            return None
        if not promised and not self.declare({claim.budget: claim.held for claim in claims}):
            return None
        self.moved = True
        parts: list[tuple[Account, int, int, Unit]] = []
        for claim in claims:
            # An observed budget counts in the newest window that is known, even past its end, and not at all
            # before the ledger has named one: it never refuses.
            payer = current.get(claim.budget)
            if payer is None:
                continue
            amount = claim.held
            parts.append((payer, journal.reserve(payer.slot, amount), amount, claim.unit))
            payer.reserved += amount
            payer.holds += 1
            if payer.holds > payer.busiest.now:
                payer.busiest.now = payer.holds
            payer.used_s = now
            if amount > payer.largest.now:
                payer.largest.now = amount
            if claim.hard and not payer.hopeless and payer.free < payer.low_mark:
                self.eager = True
        self._hold_id += 1
        self._holds[self._hold_id] = tuple(parts)
        return Hold(self._hold_id, claims)

    def settle(self, hold: Hold, charge: Charge) -> None:
        """Replace the hold by what the call used of each account's unit, in the window that admitted it."""
        for account, slot, held, unit in self._holds.pop(hold.id):
            amount = charge.of(unit)
            assert amount >= 0
            account.spent = min(account.spent + amount, AMOUNT_MAX)
            self._journal.settle(slot, account.slot, account.spent)
            account.reserved -= held
            account.holds -= 1
            self.moved = True
            if account.spent + account.reserved > account.promised:
                self.declare()  # it cost more than its bound
            if not account.holds and self._current.get(account.budget) is not account:
                self.eager = True

    def payers(self, hold: Hold) -> tuple[tuple[str, str], ...]:
        """Budget and window of each account that the hold is on; an observed budget of no known window has none."""
        return tuple((account.budget, account.window) for account, _, _, _ in self._holds[hold.id])

    # Waiting

    def wait(self, claims: tuple[Claim, ...], until_s: float, now: float) -> Waiter | Denied:
        """A place in the queue for claims that do not fit now, or why waiting is of no use."""
        verdict = self._hopeless(claims, now)
        if verdict is not None:
            return verdict
        if now >= until_s or len(self._waiters) >= QUEUE_MAX or self._leaving:
            return self._too_late(claims, now, now)
        self._waiter_id += 1
        waiter = Waiter(self._waiter_id, claims, now, until_s)
        self._waiters[waiter.id] = waiter
        for claim in claims:
            account = self._current.get(claim.budget)
            if claim.hard and account is not None:
                account.queued += claim.amount
                account.note_demand(claim.amount, now)
        self.eager = True
        return waiter

    def cancel(self, waiter_id: int) -> None:
        """The caller has gone; nothing if it was served already."""
        if self._waiters.pop(waiter_id, None) is not None:
            self._count_queue()

    def admit(self, now: float) -> list[tuple[int, Hold | Denied]]:
        """Serve, in order of arrival, whom the money suffices for; refuse whose wait is over or in vain.

        Who does not fit does not stop those behind: a small call may pass a big one, which keeps
        its place and goes on asking until its patience ends.
        """
        served: list[tuple[int, Hold | Denied]] = []
        for waiter in self._waiters.values():
            answer = self.try_reserve(waiter.claims, now) or self._hopeless(waiter.claims, now)
            if answer is None and now >= waiter.until_s:
                answer = self._too_late(waiter.claims, waiter.since_s, now)
            if answer is not None:
                served.append((waiter.id, answer))
        for waiter_id, _ in served:
            del self._waiters[waiter_id]
        if served:
            self._count_queue()
        return served

    def next_deadline(self) -> float | None:
        """When the next wait is over."""
        return min((waiter.until_s for waiter in self._waiters.values()), default=None)

    def _count_queue(self) -> None:
        for account in self._accounts.values():
            account.queued = 0
        for account in self._current.values():
            account.queued = sum(claim.amount for claim in self._waiting_for(account.budget))

    def _waiting_for(self, budget: str) -> list[Claim]:
        """The hard claims on it in the queue, in order of arrival."""
        return [
            claim
            for waiter in self._waiters.values()
            for claim in waiter.claims
            if claim.hard and claim.budget == budget
        ]

    def _hopeless(self, claims: tuple[Claim, ...], now: float) -> Denied | None:
        for claim in claims:
            account = self._current.get(claim.budget)
            if not claim.hard or account is None or not account.usable(now) or claim.amount <= account.free:
                continue
            # A limit of 0 is that of a budget which was not in force when the ledger answered.
            if 0 < account.told_limit < claim.amount or claim.amount > AMOUNT_MAX:
                return self._denied(claim, DenialReason.BUDGET_TOO_SMALL, now)
            if 0 < account.hopeless <= claim.amount:
                account.refused_s = now
                account.note_demand(0, now)
                return self._denied(claim, DenialReason.BUDGET_EXHAUSTED, now)
        return None

    def _too_late(self, claims: tuple[Claim, ...], since_s: float, now: float) -> Denied:
        for claim in claims:
            account = self._current.get(claim.budget)
            if not claim.hard:
                continue
            if account is None or not account.usable(now):
                return self._denied(claim, DenialReason.WINDOW_UNKNOWN, now)
            if claim.amount > account.free:
                heard = account.heard_s >= since_s
                return self._denied(claim, DenialReason.BUDGET_EXHAUSTED if heard else DenialReason.NO_RIGHTS, now)
        return self._denied(claims[0], DenialReason.NO_RIGHTS, now)  # no slot for another hold

    def _denied(self, claim: Claim, reason: DenialReason, now: float) -> Denied:
        return explain(claim, reason, self._current.get(claim.budget), self._errors.get(claim.budget, ""), now)

    # The dialogue

    def statements(self, now: float, leaving: bool = False) -> tuple[Statement, ...]:
        """What to tell the ledger now. Answers to anything told before are void from here on."""
        self._leaving = self._leaving or leaving
        self._pending, self.eager = {}, False
        told = [self._statement(account, now) for account in self._accounts.values()]
        self._spoke_s = now
        if not self._leaving:
            named = {account.budget for account in self._accounts.values() if not self._past(account, now)}
            told += [self._question(terms, now) for terms in self._terms.values() if terms.name not in named]
        return tuple(told)

    def _statement(self, account: Account, now: float) -> Statement:
        account.measure(now)
        past = self._leaving or self._past(account, now)
        terms = self._terms.get(account.budget)
        hard = not past and terms is not None and terms.hard
        back = account.to_give_back(self._spoke_s, now) if hard else max(0, account.free)
        if back:
            # Lowered before it is offered: from the moment it is sent the ledger may give it to somebody else.
            account.granted -= back
            self._journal.set_granted(account.slot, account.granted)
        final = past and not account.holds
        want = least = needed = 0
        if hard:
            needed = self._first_in_need(account, now)
            least = max(0, needed - account.free) if needed else 0
            want = max(least, account.queued + account.spare(now) - account.free)
            want = max(0, min(want, AMOUNT_MAX - account.granted))
        self._seq = self._next_seq()
        self._pending[self._seq] = Asked(account.budget, account, now, needed, final)
        return Statement(
            budget=account.budget,
            window=account.window,
            seq=self._seq,
            granted=account.granted,
            spent=account.spent,
            reserved=account.reserved,
            want=want,
            min_want=least,
            keep=max(account.granted, account.spent + account.reserved),
            final=final,
        )

    def _question(self, terms: BudgetTerms, now: float) -> Statement:
        """For the current window, with what waits for it."""
        amounts = [claim.amount for claim in self._waiting_for(terms.name)]
        needed = amounts[0] if amounts and terms.hard else 0
        before = self._current.get(terms.name)
        spare = before.spare(now) if before is not None and terms.hard else needed
        self._seq = self._next_seq()
        self._pending[self._seq] = Asked(terms.name, None, now, needed, final=False)
        return Statement(terms.name, "", self._seq, want=min(sum(amounts) + spare, AMOUNT_MAX), min_want=needed)

    def _first_in_need(self, account: Account, now: float) -> int:
        """The longest waiting claim that does not fit; else the amount that was refused lately; else 0."""
        for claim in self._waiting_for(account.budget):
            if claim.amount > account.free:
                return claim.amount
        if account.hopeless > account.free and now - account.refused_s < HOPELESS_S:
            return account.hopeless
        return 0

    def heard(self, rights: Iterable[Right], now: float) -> None:
        """The ledger's answer; only what answers the newest statements counts."""
        for right in rights:
            asked = self._pending.get(right.seq)
            if asked is None or asked.budget != right.budget:
                continue
            if right.error:
                self._errors[right.budget] = right.error
                if asked.final and asked.account is not None:
                    self._close(asked.account)
                continue
            self._errors.pop(right.budget, None)
            account = self._accounts.get((right.budget, right.window))
            fresh = account is None
            if account is None and (account := self._open(right)) is None:
                continue
            if account is asked.account or (fresh and asked.account is None):
                self._take(account, right, asked, now)
                if asked.final:
                    self._close(account)
                    continue
            # From when it was sent, not heard: so it is over here before it is over there.
            account.ends_s = asked.sent_s + right.ends_in_s
            self._journal.set_ends(account.slot, account.ends_s)
            if fresh:
                for claim in self._waiting_for(right.budget):
                    account.note_demand(claim.amount, now)
            account.mark(now)
        self._choose()
        if any(account.spent + account.reserved > account.promised for account in self._accounts.values()):
            self.declare()

    def _open(self, right: Right) -> Account | None:
        """An account of the window that the ledger named."""
        if self._leaving or right.budget not in self._terms:
            return None
        slot = self._journal.open_account(right.budget, right.window)
        if slot is None:
            self._errors[right.budget] = f"too many budgets for one sidecar: LLMBudget {right.budget} has no account"
            return None
        account = Account(slot, right.budget, right.window, told_limit=right.limit)
        before = self._current.get(right.budget)
        if before is not None:
            account.inherit(before)
        self._accounts[(right.budget, right.window)] = account
        return account

    def _take(self, account: Account, right: Right, asked: Asked, now: float) -> None:
        if right.spent > account.spent:
            account.spent = right.spent
            self._journal.set_spent(account.slot, account.spent)
        # A lower total is taken at once, but for what is spent or in flight.
        granted = max(right.granted, right.spent, min(account.granted, account.spent + account.reserved))
        if granted != account.granted:
            self._journal.set_granted(account.slot, granted)
            account.granted = granted
        account.told_limit = right.limit
        account.tight = right.tight
        account.hopeless = max(asked.needed, 1) if right.exhausted else 0
        account.heard_s = now

    def _choose(self) -> None:
        """The current account of each budget is the one that lasts longest; the journal may not tell."""
        self._current = {}
        for account in sorted(self._accounts.values(), key=lambda a: (a.ends_s, a.window)):
            if account.budget in self._terms:
                self._current[account.budget] = account
        self._count_queue()

    def _close(self, account: Account) -> None:
        if account.holds:
            return
        del self._accounts[(account.budget, account.window)]
        self._journal.close_account(account.slot)

    def lost(self) -> None:
        """The exchange failed; what was sent may arrive yet, but its answer does not count."""
        self._pending = {}

    def next_at(self, interval_s: float, now: float) -> float:
        """When to speak next: `interval_s` after the last time, or earlier if it is of use."""
        at = self._spoke_s + interval_s
        if self.eager or self._waiters:
            at = min(at, self._spoke_s + (0.0 if self.eager else ASK_AGAIN_S))
        for account in self._current.values():
            at = min(at, account.speak_by(self._spoke_s, now))
        if any(name not in self._current and name not in self._errors for name in self._terms):
            at = min(at, self._spoke_s + ASK_AGAIN_S)
        return at

    # The last will

    def declare(self, ahead: Mapping[str, int] | None = None) -> bool:
        """Write it anew; `ahead`: by budget, what is about to be reserved. False: it must not be reserved."""
        busy = not self._leaving and (self.moved or ahead is not None)
        accounts = self._accounts.values()
        estate = Estate(self.incarnation, self._seq, accounts, self._current, self._terms, ahead or {}, busy)
        return self.will.declare(estate)

    def tend_will(self) -> bool:
        """To be called a moment after money moved; whether once more, since it moved again."""
        self.declare()
        again, self.moved = self.moved, False
        return again

    # What others see

    def figures(self) -> tuple[AccountFigures, ...]:
        return tuple(
            AccountFigures(account.budget, account.window, account.granted, account.spent, account.reserved)
            for account in self._accounts.values()
        )

    def _past(self, account: Account, now: float) -> bool:
        """Nobody will reserve on it any more. False while unknown: before configuration or rights are there."""
        if not self._obeyed:
            return False
        if account.budget not in self._terms:
            return True
        if account.ends_s == NEVER:
            return False
        return not account.usable(now) or self._current.get(account.budget) is not account

    def _next_seq(self) -> int:
        if self._seq >= self._seq_limit:
            self._seq_limit = self._journal.take_seqs()
        return self._seq + 1
