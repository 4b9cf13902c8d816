"""What the ledger is told of each account, and what its answers change. Between `holder` and the wire.

At most one exchange at a time: answers count only if they answer the newest statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keelage_api.sync import Right, Statement
from keelage_sidecar.core.account import (
    ASK_AGAIN_S,
    HOPELESS_S,
    NEVER,
    Account,
    Asked,
    Owner,
)
from keelage_sidecar.core.claim import AMOUNT_MAX
from keelage_sidecar.core.journal_format import Journal
from keelage_sidecar.core.last_will import LastWill
from keelage_sidecar.core.local_rate import QUOTA_ALONE_S
from keelage_sidecar.core.portfolio import Portfolio
from keelage_sidecar.core.rota import HEARTBEAT_S, Rota
from keelage_sidecar.core.terms import Terms
from keelage_sidecar.core.waiting import Queue

ERRORS_MAX = 1024
"""Complaints of the ledger that are remembered: values are many, and each may be refused an account."""
CHOOSE_S = 1.0
"""Between looks at whom the last will names, where there are more accounts than it bears."""
FEW = 64
"""So many can be looked at each time."""


class Dialogue:
    def __init__(self, journal: Journal, portfolio: Portfolio, rota: Rota, queue: Queue) -> None:
        self._journal = journal
        self._portfolio = portfolio
        self._rota = rota
        self._queue = queue
        self.newest_seq = self._seq_limit = journal.seq_limit
        """Of the newest statement that may have been sent."""
        self._pending: dict[int, Asked] = {}
        self._errors: dict[Owner, str] = {}
        self._wanted: dict[Owner, None] = {}
        """Of no known window: observed, so that nobody waits for them, or asked for without an answer so far."""
        self._spoke_s = self._chose_s = NEVER
        self._unheard_s: float | None = None
        """Since when there is no answer to what was said."""
        self._obeyed = False
        self.leaving = False
        self._left_s = NEVER
        self.eager = False

    def obey(self, terms: Mapping[str, Terms]) -> None:
        self._portfolio.obey(terms)
        self._obeyed = True
        self._wanted = {}
        for owner in self._queue.owners:
            self._count_queue(owner)
        self.eager = True

    def alone(self, now: float) -> bool:
        """No leader has answered for so long that rates are kept without one."""
        return self._unheard_s is not None and now - self._unheard_s >= QUOTA_ALONE_S

    def error(self, owner: Owner) -> str:
        """What the ledger said of it last; empty: nothing was wrong."""
        return self._errors.get(owner, "")

    def hurry(self, account: Account) -> None:
        """It should be told of with the next exchange, now."""
        self.eager = True
        if account.value:
            self._rota.press(account)

    def ask_for(self, owner: Owner) -> None:
        """Nobody waits for its account, but it should be there."""
        if len(self._wanted) < ERRORS_MAX:
            self._wanted[owner] = None
            self.eager = True

    # Telling

    def statements(self, now: float, leaving: bool, will: LastWill) -> tuple[Statement, ...]:
        if leaving and not self.leaving:
            self.leaving, self._left_s = True, now
        self._say_again()
        self._pending, self.eager = {}, False
        if self.leaving:
            accounts, owners = self._rota.choose((), self._left_s)
        else:
            accounts, owners = self._rota.choose(self._unanswered(now), now - HEARTBEAT_S)
        # What is given up goes first: once it is closed, lower numbers of this holder mean nothing where it has no row.
        accounts.sort(key=lambda account: not self._gives_up(account, now))
        told = [self._statement(account, now) for account in accounts]
        told += [self._question(owner, now) for owner in owners]
        self._spoke_s = now
        if self._unheard_s is None:
            self._unheard_s = now
        if len(self._portfolio) <= FEW or now - self._chose_s >= CHOOSE_S:
            self._chose_s = now
            will.choose(self._portfolio)
        return tuple(told)

    def _say_again(self) -> None:
        """What was told of values and not answered may not have been heard."""
        for asked in self._pending.values():
            if asked.account is not None and asked.account.value:
                self._rota.changed(asked.account)

    def _statement(self, account: Account, now: float) -> Statement:
        account.measure(now)
        past = self.leaving or self._past(account, now)
        terms = self._portfolio.terms.get(account.budget)
        hard = not past and terms is not None and terms.hard
        needed, since_s = self._first_in_need(account, now) if hard else (0, now)
        back = account.to_give_back(needed, now) if hard else max(0, account.free)
        if back:
            # Lowered before it is offered: from the moment it is sent the ledger may give it to somebody else.
            account.granted -= back
            self._journal.set_granted(account.slot, account.granted)
        want = least = queued = 0
        if hard:
            least = max(0, needed - account.free) if needed else 0
            queued = max(least, account.queued - account.free)
            want = max(least, account.queued + account.spare(now) - account.free)
            want = max(0, min(want, AMOUNT_MAX - account.granted))
        final = self._gives_up(account, now)
        seq = self._next_seq()
        account.told_s = now
        self._pending[seq] = Asked(account.owner, account, now, needed, final, want)
        return Statement(
            budget=account.budget,
            window=account.window,
            value=account.value,
            seq=seq,
            granted=account.granted,
            spent=account.spent,
            uncertain=account.uncertain,
            reserved=account.reserved,
            want=want,
            min_want=least,
            keep=max(account.granted, account.spent + account.reserved),
            final=final,
            left=self._left(account, terms, now),
            queued=min(queued, want),
            waited_s=now - since_s,
            ledger=account.ledger,
        )

    def _gives_up(self, account: Account, now: float) -> bool:
        return not account.holds and (self.leaving or self._past(account, now))

    def _left(self, account: Account, terms: Terms | None, now: float) -> int:
        if account.left_until < 0 or terms is None or terms.rate is None:
            return -1
        if now - account.left_s > terms.rate.window_ms / 1000:
            account.left_until = -1
            return -1
        return max(0, account.left_until - account.spent - account.reserved)

    def _unanswered(self, now: float) -> list[Owner]:
        """Those whose current window should be asked for."""
        terms, current = self._portfolio.terms, self._portfolio.current
        asked = [(each.name, "") for each in terms.values() if not each.valued]
        asked += [owner for owner in (*self._queue.owners, *self._wanted) if owner[0] in terms and owner[1]]
        unknown = []
        for owner in dict.fromkeys(asked):
            account = current.get(owner)
            if account is None or self._past(account, now):
                unknown.append(owner)
        return unknown

    def _question(self, owner: Owner, now: float) -> Statement:
        """For the current window, with what waits for it."""
        name, value = owner
        hard = self._portfolio.terms[name].hard
        claim, since_s = next(self._queue.since_on(owner), (None, now))
        needed = claim.amount if claim is not None and hard else 0
        before = self._portfolio.current.get(owner)
        spare = before.spare(now) if before is not None and hard else needed
        queued = min(self._queue.amount_on(owner), AMOUNT_MAX) if hard else 0
        want = min(self._queue.amount_on(owner) + spare, AMOUNT_MAX)
        seq = self._next_seq()
        self._pending[seq] = Asked(owner, None, now, needed, False, want)
        if value and len(self._wanted) < ERRORS_MAX:
            # Asked until it is answered, though nobody waits any more: what was granted would else lie there unknown.
            self._wanted[owner] = None
        return Statement(
            name,
            "",
            seq,
            want=want,
            min_want=needed,
            value=value,
            queued=queued,
            waited_s=now - since_s,
            besides=self._portfolio.windows(owner),
        )

    def _first_in_need(self, account: Account, now: float) -> tuple[int, float]:
        """The longest waiting claim that does not fit, and since when; else what was refused lately; else 0."""
        for claim, since_s in self._queue.since_on(account.owner):
            if claim.amount > account.free:
                return claim.amount, since_s
        if account.hopeless > account.free and now - account.refused_s < HOPELESS_S:
            return account.hopeless, now
        return 0, now

    def _past(self, account: Account, now: float) -> bool:
        """Nobody will reserve on it any more. False while unknown: before configuration or rights are there."""
        if not self._obeyed:
            return False
        if account.budget not in self._portfolio.terms:
            return True
        if account.ends_s == NEVER:
            return False
        if not account.usable(now) or self._portfolio.current.get(account.owner) is not account:
            return True
        return account.idle(now)

    def _next_seq(self) -> int:
        if self.newest_seq >= self._seq_limit:
            self._seq_limit = self._journal.take_seqs()
        self.newest_seq += 1
        return self.newest_seq

    # Hearing

    def heard(self, rights: Iterable[Right], now: float) -> list[Account]:
        """The accounts that the answer changed."""
        self._unheard_s = None
        touched = []
        for right in rights:
            asked = self._pending.get(right.seq)
            owner = (right.budget, right.value)
            if asked is None or asked.owner != owner:
                continue
            if right.value:
                del self._pending[right.seq]  # without a value another one may follow, of the current window
            self._wanted.pop(owner, None)
            if right.error:
                self._note_error(owner, right.error)
                if asked.final and asked.account is not None and self._forgettable(asked.account, now):
                    self._portfolio.close(asked.account)
                continue
            self._errors.pop(owner, None)
            account = self._portfolio.get(right.budget, right.window, right.value)
            fresh = account is None
            if account is None and (account := self._open(right, now)) is None:
                continue
            if account is asked.account or (fresh and asked.account is None):
                self._take(account, right, asked, now)
                if asked.final:
                    self._portfolio.close(account)
                    continue
            # From when it was sent, not heard: so it is over here before it is over there.
            account.ends_s = asked.sent_s + right.ends_in_s
            self._journal.set_ends(account.slot, account.ends_s)
            self._portfolio.elect(account)
            self._count_queue(owner)
            account.mark(now)
            if account.value:
                self._rota.press(account, account.speak_by(now, now) < account.ends_s)
            touched.append(account)
        return touched

    def _forgettable(self, account: Account, now: float) -> bool:
        """Whether nothing is lost where no ledger takes the account's end. What was spent in a window is told until
        the window is over: the ledger may have no room now, or its budget be made again under the same name."""
        over = account.ends_s != NEVER and not account.usable(now)  # else it is not known when
        return account.is_rate or not account.spent or over

    def _open(self, right: Right, now: float) -> Account | None:
        """An account of the window that the ledger named."""
        terms = self._portfolio.terms.get(right.budget)
        if self.leaving or terms is None or not terms.fits(right.window):
            return None  # it may count something else by now, of which the configuration will tell
        account = self._portfolio.open(right)
        if account is None:
            text = (
                f"too many budgets, rates or values for one sidecar, or too long a name: {right.budget} has no account"
            )
            self._note_error((right.budget, right.value), text)
            return None
        account.used_s = max(account.used_s, now) if account.value else account.used_s
        for claim in self._queue.on(account.owner):
            account.note_demand(claim.amount, now)
        return account

    def _take(self, account: Account, right: Right, asked: Asked, now: float) -> None:
        if right.spent > account.spent or right.uncertain > account.uncertain:
            account.spent = max(account.spent, right.spent)
            account.uncertain = max(account.uncertain, right.uncertain)
            self._journal.set_spent(account.slot, account.spent, account.uncertain)
        # A lower total is taken at once, but for what is spent or in flight.
        granted = max(right.granted, right.spent, min(account.granted, account.spent + account.reserved))
        # A rate flows in again in a moment.
        account.dry = asked.want > 0 and granted <= account.granted and not account.is_rate
        if granted != account.granted:
            self._journal.set_granted(account.slot, granted)
            account.granted = granted
        account.ledger_told, account.ledger = account.ledger, right.ledger
        account.told_limit = right.limit
        account.told_used, account.used_then = right.used, account.spent
        account.tight, account.first = right.tight, right.first
        account.hopeless = max(asked.needed, 1) if right.exhausted else 0
        if account.is_rate and asked.needed > account.free:
            account.hopeless = asked.needed
        account.heard_s = now

    def _count_queue(self, owner: Owner) -> None:
        account = self._portfolio.current.get(owner)
        if account is not None:
            account.queued = self._queue.amount_on(owner)

    def _note_error(self, owner: Owner, error: str) -> None:
        if owner not in self._errors and len(self._errors) >= ERRORS_MAX:
            del self._errors[next(iter(self._errors))]
        self._errors[owner] = error

    def lost(self) -> None:
        self._say_again()
        self._pending = {}

    def next_at(self, interval_s: float, now: float) -> float:
        spoke_s = self._spoke_s
        if self.eager:
            return spoke_s
        at = spoke_s + interval_s
        if self._queue or self._rota.backlog:
            at = min(at, spoke_s + ASK_AGAIN_S)
        current = self._portfolio.current
        for each in self._portfolio.terms.values():
            if each.valued:
                continue
            account = current.get((each.name, ""))
            if account is not None:
                at = min(at, account.speak_by(spoke_s, now))
            elif (each.name, "") not in self._errors:
                at = min(at, spoke_s + ASK_AGAIN_S)
        # Of the many, those that press are enough: the first of them was told longest ago.
        for account in self._rota.pressing:
            return min(at, account.speak_by(spoke_s, now))
        return at
