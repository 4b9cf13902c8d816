"""What stands in the container's termination message, should it die now (`keelage_api.will`).

    spent + reserved <= promised of the record in the file          (I2')

for each account that the record names: before more than that is reserved, another record
is written. Pure but for the file, whose writes take microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from keelage_api.proxy_config import BudgetTerms
from keelage_api.will import ACCOUNTS_MAX, Promise, Will, account_of, write_will
from keelage_sidecar.core.account import UNPROMISED, Account

LEASE_PARTS = 8
"""A busy holder promises an eighth of its lease ahead of its spending, or two of its largest calls."""


class WillFile(Protocol):
    def write(self, record: bytes) -> bool:
        """Replace the content; False if that failed: what stands there now is not known."""
        ...

    def erase(self) -> bool:
        """Leave nothing there; False if that failed too."""
        ...


@dataclass(frozen=True, slots=True)
class Estate:
    """What a will is about."""

    incarnation: str
    seq: int
    """Of the newest statement that may have been sent."""
    accounts: Iterable[Account]
    current: Mapping[str, Account]
    """By budget: those that may still be reserved on."""
    terms: Mapping[str, BudgetTerms]
    ahead: Mapping[str, int] = field(default_factory=dict)
    """By budget: what is about to be reserved."""
    busy: bool = True
    """Calls come and go: promise a step more, so that not each of them has to write."""

    def promise(self, account: Account) -> int:
        """The least total that must be promised, with the step where it is of use."""
        used = account.spent + account.reserved
        if self.current.get(account.budget) is not account:
            return used
        needed = used + self.ahead.get(account.budget, 0)
        if not self.busy:
            return needed
        largest = max(account.largest.value, self.ahead.get(account.budget, 0))
        stepped = needed + max(2 * largest, account.granted // LEASE_PARTS)
        # Nothing beyond the lease is reserved under a hard budget, and what is promised must never exceed it.
        return max(needed, min(stepped, account.granted)) if self.terms[account.budget].hard else stepped


class LastWill:
    def __init__(self, file: WillFile | None) -> None:
        """`file` None: nobody would read it."""
        self._file = file
        self._key = b""
        self._stands = b""

    @property
    def kept(self) -> bool:
        return self._file is not None and bool(self._key)

    def take_key(self, key: str) -> bool:
        """The ledger's key, hexadecimal; whether it is another one than before."""
        try:
            taken = bytes.fromhex(key)
        except ValueError:
            return False
        if not taken or taken == self._key:
            return False
        self._key = taken
        return True

    def declare(self, estate: Estate) -> bool:
        """Write a record, and set what each account may use before the next one.

        False if an older record may still stand there: then only what that one promises may be used.
        """
        if self._file is None or not self._key:
            return _free(estate)
        drafts = [(account, estate.promise(account)) for account in estate.accounts]
        # Those for which most would return; without a promise an account is counted in full.
        drafts.sort(key=lambda draft: draft[1] - draft[0].granted)
        named, unnamed = drafts[:ACCOUNTS_MAX], drafts[ACCOUNTS_MAX:]
        promises = {
            account_of(account.budget, account.window): Promise(account.spent, promised) for account, promised in named
        }
        record = write_will(Will(estate.incarnation, estate.seq, promises), self._key)
        if record != self._stands:
            self._stands = b""
            if not self._file.write(record):
                if not self._file.erase():
                    return False
                self._file = None
                return _free(estate)
            self._stands = record
        for account, promised in named:
            account.promised = promised
        for account, _ in unnamed:
            account.promised = UNPROMISED
        return True


def _free(estate: Estate) -> bool:
    """Nothing stands there that could say too little."""
    for account in estate.accounts:
        account.promised = UNPROMISED
    return True
