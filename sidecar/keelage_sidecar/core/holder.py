"""The lease of this sidecar: what it may still spend, checked before a call and charged after it.

    spent + reserved <= granted for each account            (I2)

Pure: the caller passes `now` in monotonic seconds; the only effects are the journal, a buffer
that always tells at least what was spent, and the last will. `core/dialogue` says what the ledger
is told and takes its answers; `shell/lease_keeper` carries both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keelage_api.proxy_config import BudgetTerms, Quota, Unit
from keelage_api.sync import Right, Statement
from keelage_sidecar.core.account import Account, AccountFigures, Owner
from keelage_sidecar.core.claim import AMOUNT_MAX, NOTHING, Charge, Claim, Denied, Hold, Room, Waiter
from keelage_sidecar.core.dialogue import ERRORS_MAX, Dialogue
from keelage_sidecar.core.journal_format import Journal
from keelage_sidecar.core.last_will import Estate, LastWill, WillFile
from keelage_sidecar.core.local_rate import LocalRates
from keelage_sidecar.core.portfolio import Portfolio
from keelage_sidecar.core.rota import Rota
from keelage_sidecar.core.terms import Terms
from keelage_sidecar.core.verdict import Verdicts
from keelage_sidecar.core.waiting import Queue


class Holder:
    def __init__(self, journal: Journal, will_file: WillFile | None = None) -> None:
        """Goes on where the journal ends: JournalError if it is damaged. `will_file`: for the last will, blank."""
        self._journal = journal
        self.will = LastWill(will_file)
        self.incarnation = journal.incarnation
        self.run = journal.seq_limit
        """Rises with each start that said anything."""
        self._rota = Rota()
        self._queue = Queue()
        self._local = LocalRates()
        self._portfolio = Portfolio(journal, self.will, self._rota)
        self._dialogue = Dialogue(journal, self._portfolio, self._rota, self._queue)
        self._verdicts = Verdicts(self._portfolio, self._dialogue, self._local)
        self._current: Mapping[Owner, Account] = self._portfolio.current
        self._holds: dict[int, tuple[tuple[Account, int, int, Unit], ...]] = {}
        self._loose: dict[int, tuple[tuple[Claim, bool], ...]] = {}
        """Claims of a hold that no account pays: counted when it is settled, or kept by a local rate (True)."""
        self._unbooked: dict[Owner, dict[Unit, tuple[int, int]]] = {}
        """What observed calls used that ended when their account was not there, and what of it is not proven; at most
        ERRORS_MAX owners."""
        self._hold_id = 0
        self.moved = False
        """Money moved since the shell last let the will be looked after."""

    @property
    def eager(self) -> bool:
        """Something happened that the ledger should hear of now: the shell wakes its dialogue."""
        return self._dialogue.eager

    @eager.setter
    def eager(self, eager: bool) -> None:
        self._dialogue.eager = eager

    def obey(self, budgets: Iterable[BudgetTerms], quotas: Iterable[Quota] = ()) -> None:
        """From now on these count; accounts of others are closed when their calls are done."""
        terms = [Terms.of_budget(budget) for budget in budgets] + [Terms.of_rate(quota) for quota in quotas]
        self._dialogue.obey({each.name: each for each in terms})
        self._current = self._portfolio.current
        self._unbooked = {owner: units for owner, units in self._unbooked.items() if owner[0] in self._portfolio.terms}
        for owner in self._unbooked:
            self._dialogue.ask_for(owner)

    # The hot path: no await between check and charge

    def try_reserve(self, claims: tuple[Claim, ...], now: float, passing: bool = False) -> Hold | None:
        """A hold on all budgets and rates or on none; None: one of them cannot pay at this moment, or is short
        and others wait for it. `passing`: these do not count."""
        if self._queue and not passing and self._behind(claims):
            return None
        current, dialogue, promised = self._current, self._dialogue, True
        payers: list[tuple[Account, Claim, int]] = []
        loose: list[tuple[Claim, bool]] | None = None
        for claim in claims:
            if claim.quota and dialogue.alone(now):
                if not self._verdicts.fits_alone(claim, now):
                    return None
                loose = [*(loose or ()), (claim, True)]
                continue
            account = current.get((claim.budget, claim.value))
            if account is None or account.unit is not claim.unit:
                if claim.hard:
                    return None
                loose = [*(loose or ()), (claim, False)]
                continue
            # An observed budget counts in the newest window that is known, even past its end.
            amount = claim.amount if claim.hard else claim.held
            total = account.spent + account.reserved + amount
            if claim.hard and (now >= account.ends_s or total > account.granted):
                return None
            if claim.quota and amount > account.free_at(now):
                return None
            promised = promised and total <= account.promised
            payers.append((account, claim, amount))
        journal = self._journal
        if claims and (dialogue.leaving or journal.holds_left() < len(payers)):
            return None
        if not promised and not self.declare({claim.owner: claim.held for claim in claims}):
            return None
        self.moved = True
        parts: list[tuple[Account, int, int, Unit]] = []
        for payer, claim, amount in payers:
            parts.append((payer, journal.reserve(payer.slot, amount), amount, claim.unit))
            payer.reserved += amount
            payer.holds += 1
            if payer.holds > payer.busiest.now:
                payer.busiest.now = payer.holds
            payer.used_s = now
            if amount > payer.largest.now:
                payer.largest.now = amount
            if payer.value:
                self._rota.changed(payer)
            if claim.hard and payer.granted - payer.spent - payer.reserved < payer.low_mark and payer.presses:
                dialogue.hurry(payer)
        self._hold_id += 1
        self._holds[self._hold_id] = tuple(parts)
        if loose is not None:
            self._let_loose(tuple(loose), now)
        return Hold(self._hold_id, claims)

    def settle(self, hold: Hold, charge: Charge, uncertain: Charge = NOTHING) -> list[tuple[str, str, int]]:
        """Replace the hold by what the call used of each account's unit, in the window that admitted it.

        `uncertain`: the part of it that may not have been billed. Returns budget, window and amount of each account
        that the charge fell on; of budgets, not rates.
        """
        paid: list[tuple[str, str, int]] = []
        for account, slot, held, unit in self._holds.pop(hold.id):
            amount = charge.picodollars if unit is Unit.PICODOLLARS else charge.of(unit)
            assert amount >= 0
            _add(account, amount, uncertain.of(unit) if uncertain is not NOTHING else 0)
            if not account.is_rate:
                paid.append((account.budget, account.window, amount))
            self._journal.settle(slot, account.slot, account.spent, account.uncertain)
            account.reserved -= held
            account.holds -= 1
            self.moved = True
            if account.value:
                self._rota.changed(account)
            if account.spent + account.reserved > account.promised:
                self.declare()  # it cost more than its bound
            if not account.holds and self._current.get(account.owner) is not account:
                self.eager = True
        if hold.id in self._loose:
            self._tie_up(self._loose.pop(hold.id), charge, uncertain)
        return paid

    def _let_loose(self, loose: tuple[tuple[Claim, bool], ...], now: float) -> None:
        """Claims that nobody is asked to pay: observed budgets of no known window, and rates while alone."""
        self._loose[self._hold_id] = loose
        for claim, local in loose:
            if local:
                self._verdicts.take_alone(claim, now)
            else:
                self._dialogue.ask_for(claim.owner)

    def _tie_up(self, loose: tuple[tuple[Claim, bool], ...], charge: Charge, uncertain: Charge) -> None:
        for claim, local in loose:
            amount, part = charge.of(claim.unit), uncertain.of(claim.unit)
            if local:
                self._verdicts.settle_alone(claim, claim.held - amount)
                continue
            account = self._current.get(claim.owner)
            if account is not None and account.unit is claim.unit:
                self._count(account, amount, part)
            elif claim.owner in self._unbooked or len(self._unbooked) < ERRORS_MAX:
                units = self._unbooked.setdefault(claim.owner, {})
                before = units.get(claim.unit, (0, 0))
                units[claim.unit] = before[0] + amount, before[1] + part
                self._dialogue.ask_for(claim.owner)

    def _count(self, account: Account, amount: int, uncertain: int) -> None:
        """Spent, though nobody was asked whether it may be."""
        _add(account, amount, uncertain)
        self._journal.set_spent(account.slot, account.spent, account.uncertain)
        self.moved = True
        if account.value:
            self._rota.changed(account)
        if account.spent + account.reserved > account.promised:
            self.declare()

    # Waiting

    def wait(self, claims: tuple[Claim, ...], until_s: float, now: float) -> Waiter | Denied:
        """A place in the queue for claims that do not fit now, or why waiting is of no use."""
        verdict = self._verdicts.hopeless(claims, now, now)
        if verdict is not None:
            return verdict
        if now >= until_s or self._queue.full or self._dialogue.leaving:
            return self._verdicts.too_late(claims, now, now)
        waiter = self._queue.add(claims, now, until_s)
        for claim in claims:
            account = self._current.get(claim.owner)
            if claim.hard and account is not None:
                account.queued += claim.amount
                account.note_demand(claim.amount, now)
                if account.value:
                    self._rota.press(account)
        self.eager = True
        return waiter

    def _behind(self, claims: tuple[Claim, ...]) -> bool:
        """Whether somebody waits for an account that is short; while there is enough nobody stops another."""
        for claim in claims:
            account = self._current.get(claim.owner)
            if account is not None and account.tight and self._queue.on(claim.owner):
                return True
        return False

    def cancel(self, waiter_id: int) -> None:
        """The caller has gone; nothing if it was served already."""
        self._leave_queue(waiter_id)

    def admit(self, now: float, news: bool = True) -> list[tuple[int, Hold | Denied]]:
        """Serve, in order of arrival, whom the money suffices for; refuse whose wait is over or, after `news` of the
        ledger, in vain.

        While money is short, what a call lacks is gathered for it: smaller ones that came later do not take it, until
        their own patience ends. So a settlement, of which there are many, looks at the first that waits and not at all.
        """
        served: list[tuple[int, Hold | Denied]] = []
        short: set[Owner] = set()
        deadline = self._queue.next_deadline()
        hurried = news or (deadline is not None and now >= deadline)
        for waiter in self._queue:
            late = now >= waiter.until_s
            answer: Hold | Denied | None = None
            tried = late or short.isdisjoint(waiter.owners)
            if tried:
                answer = self.try_reserve(waiter.claims, now, passing=True)
            if answer is None and news:
                answer = self._verdicts.hopeless(waiter.claims, waiter.since_s, now)
            if answer is None and late:
                answer = self._verdicts.too_late(waiter.claims, waiter.since_s, now)
            if answer is not None:
                served.append((waiter.id, answer))
            elif tried:
                short.update(self._verdicts.short(waiter.claims, now))
                if short and not hurried and len(short) >= len(self._queue.owners):
                    break
        for waiter_id, _ in served:
            self._leave_queue(waiter_id)
        return served

    def next_deadline(self) -> float | None:
        """When the next wait is over."""
        return self._queue.next_deadline()

    def _leave_queue(self, waiter_id: int) -> None:
        waiter = self._queue.remove(waiter_id)
        for claim in waiter.claims if waiter is not None else ():
            account = self._current.get(claim.owner)
            if account is not None:
                account.queued = self._queue.amount_on(claim.owner)

    # The dialogue

    def statements(self, now: float, leaving: bool = False) -> tuple[Statement, ...]:
        """What to tell the ledger now. Answers to anything told before are void from here on."""
        return self._dialogue.statements(now, leaving, self.will)

    def heard(self, rights: Iterable[Right], now: float) -> None:
        """The ledger's answer; only what answers the newest statements counts."""
        touched = self._dialogue.heard(rights, now)
        self._local.forget()
        owners = {account.owner for account in touched}
        for owner in [each for each in self._unbooked if each in owners]:
            account = self._current.get(owner)
            if account is not None:
                # What counted something else than the account does is nobody's.
                self._count(account, *self._unbooked.pop(owner).get(account.unit, (0, 0)))
        if any(account.spent + account.reserved > account.promised for account in touched):
            self.declare()

    def lost(self) -> None:
        """The exchange failed; what was sent may arrive yet, but its answer does not count."""
        self._dialogue.lost()

    def next_at(self, interval_s: float, now: float) -> float:
        """When to speak next: `interval_s` after the last time, or earlier if it is of use."""
        return self._dialogue.next_at(interval_s, now)

    @property
    def untold(self) -> bool:
        """There was more to say than one exchange holds."""
        return self._rota.backlog

    def note_left(self, name: str, left: int, now: float) -> None:
        """A provider said how much of its limit is left, what is in flight from here not counted: no more is used
        of the lease, and the ledger hears of it with the next statement on that rate."""
        account, terms = self._current.get((name, "")), self._portfolio.terms.get(name)
        if account is not None and terms is not None and terms.rate is not None and terms.rate.window_ms:
            account.left_until = account.spent + account.reserved + max(0, left)
            account.left_s, account.refill_per_s = now, terms.rate.limit * 1000 / terms.rate.window_ms

    # The last will

    def declare(self, ahead: Mapping[Owner, int] | None = None) -> bool:
        """Write it anew; `ahead`: what is about to be reserved. False: it must not be reserved."""
        busy = not self._dialogue.leaving and (self.moved or ahead is not None)
        portfolio = self._portfolio
        estate = Estate(
            self.incarnation, self._dialogue.newest_seq, portfolio.current, portfolio.terms, ahead or {}, busy
        )
        return self.will.declare(estate)

    def tend_will(self) -> bool:
        """To be called a moment after money moved; whether once more, since it moved again."""
        self.declare()
        again, self.moved = self.moved, False
        return again

    # What others see

    def used_percent(self, name: str, value: str = "") -> int | None:
        """How much of the limit everybody has spent, as far as is known here; None: nobody told."""
        account = self._current.get((name, value))
        return account.used_percent() if account is not None else None

    def room(self, claim: Claim, now: float) -> Room:
        """What the claim's account could pay; nothing while it is not known."""
        account = self._current.get(claim.owner)
        if account is None or not account.usable(now):
            return Room(0, 0, known=False)
        free = max(0, account.free)
        return Room(free, max(free, account.left), known=account.told_used >= 0)

    def figures(self) -> tuple[AccountFigures, ...]:
        """Of each account; there may be thousands."""
        return tuple(self._portfolio.figures())


def _add(account: Account, amount: int, uncertain: int) -> None:
    account.spent = min(account.spent + amount, AMOUNT_MAX)
    account.uncertain = min(account.uncertain + uncertain, account.spent)
