"""All accounts of this sidecar, in memory and in the journal, and which of an owner's is the current one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keelage_api.sync import Right
from keelage_sidecar.core.account import HORIZON_S, Account, AccountFigures, Owner
from keelage_sidecar.core.journal_format import Journal
from keelage_sidecar.core.last_will import LastWill
from keelage_sidecar.core.rota import Rota
from keelage_sidecar.core.terms import Terms


class Portfolio:
    def __init__(self, journal: Journal, will: LastWill, rota: Rota) -> None:
        """Goes on where the journal ends: JournalError if it is damaged."""
        self._journal = journal
        self._will = will
        self._rota = rota
        self.terms: dict[str, Terms] = {}
        self.current: dict[Owner, Account] = {}
        """The one that lasts longest, of names in force."""
        self._accounts: dict[tuple[str, str, str], Account] = {}
        self._siblings: dict[Owner, list[Account]] = {}
        """Of owners with more than one account: windows overlap for a moment."""
        for it in journal.recover():
            self._add(
                Account(it.slot, it.budget, it.window, it.value, it.granted, it.spent, it.uncertain, ends_s=it.ends_s)
            )
        for account in self._accounts.values():
            self._siblings.setdefault(account.owner, []).append(account)
        self._siblings = {owner: accounts for owner, accounts in self._siblings.items() if len(accounts) > 1}

    def __len__(self) -> int:
        return len(self._accounts)

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def get(self, budget: str, window: str, value: str) -> Account | None:
        return self._accounts.get((budget, window, value))

    def windows(self, owner: Owner) -> tuple[str, ...]:
        """Those in which the owner has an account."""
        if owner in self._siblings:
            return tuple(account.window for account in self._siblings[owner])
        current = self.current.get(owner)
        return (current.window,) if current is not None else ()

    def obey(self, terms: Mapping[str, Terms]) -> None:
        """From now on these count."""
        self.terms = dict(terms)
        self.current = {}
        for account in self._accounts.values():
            self.elect(account)
            if account.value and self.current.get(account.owner) is not account:
                self._rota.changed(account)

    def open(self, right: Right) -> Account | None:
        """The account that the ledger named; None: the journal has no room for it."""
        slot = self._journal.open_account(right.budget, right.window, right.value)
        if slot is None:
            return None
        account = Account(slot, right.budget, right.window, right.value, told_limit=right.limit)
        rate = self.terms[right.budget].rate
        if rate is not None:
            account.horizon_s = min(HORIZON_S, rate.window_ms / 4000)
        before = self.current.get(account.owner)
        if before is not None:
            account.inherit(before)
            self._siblings.setdefault(account.owner, [before]).append(account)
        self._add(account)
        return account

    def _add(self, account: Account) -> None:
        self._accounts[(account.budget, account.window, account.value)] = account
        self._will.add(account)
        self._rota.add(account)

    def elect(self, account: Account) -> None:
        """Its end is known, or another one than before."""
        terms = self.terms.get(account.budget)
        if terms is None:
            return
        siblings = self._siblings.get(account.owner)
        lasting: Account | None
        if siblings is None:
            lasting = account if terms.fits(account.window) else None
        else:
            lasting = max((each for each in siblings if terms.fits(each.window)), key=_lasting, default=None)
        if lasting is not None:
            lasting.unit = terms.unit
            self.current[account.owner] = lasting

    def close(self, account: Account) -> None:
        """Forget it, if nothing is in flight: the ledger has released it."""
        if account.holds:
            return
        del self._accounts[(account.budget, account.window, account.value)]
        self._journal.close_account(account.slot)
        self._will.remove(account)
        self._rota.remove(account)
        if self.current.get(account.owner) is account:
            del self.current[account.owner]
        siblings = self._siblings.get(account.owner)
        if siblings is not None:
            siblings.remove(account)
            self.elect(siblings[0])
            if len(siblings) == 1:
                del self._siblings[account.owner]

    def figures(self) -> Iterator[AccountFigures]:
        for it in self._accounts.values():
            yield AccountFigures(it.budget, it.window, it.granted, it.spent, it.reserved, it.value, it.unit)


def _lasting(account: Account) -> tuple[float, str]:
    return account.ends_s, account.window
