"""What stands in the container's termination message, should it die now (`keelage_api.will`).

    spent + reserved <= promised of the record in the file          (I2')

for each account that the record names: before more than that is reserved, another record
is written. Pure but for the file, whose writes take microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nlargest
from typing import Protocol

import msgspec

from keelage_api.will import ACCOUNTS_MAX, Promise, Will, account_of, write_will
from keelage_sidecar.core.account import UNPROMISED, Account, Owner
from keelage_sidecar.core.terms import Terms

LEASE_PARTS = 8
"""A busy holder promises an eighth of its lease ahead of its spending, or two of its largest calls."""


class WillFile(Protocol):
    def write(self, record: bytes) -> bool:
        """Replace the content; False if that failed: what stands there now is not known."""
        ...

    def erase(self) -> bool:
        """Leave nothing there; False if that failed too."""
        ...


class Estate(msgspec.Struct, frozen=True):
    """What a will is about."""

    incarnation: str
    seq: int
    """Of the newest statement that may have been sent."""
    current: Mapping[Owner, Account]
    """Those that may still be reserved on."""
    terms: Mapping[str, Terms]
    ahead: Mapping[Owner, int]
    """What is about to be reserved."""
    busy: bool = True
    """Calls come and go: promise a step more, so that not each of them has to write."""

    def promise(self, account: Account) -> int:
        """The least total that must be promised, with the step where it is of use."""
        used = account.spent + account.reserved
        if self.current.get(account.owner) is not account:
            return used
        needed = used + self.ahead.get(account.owner, 0)
        if not self.busy:
            return needed
        largest = max(account.largest.value, self.ahead.get(account.owner, 0))
        stepped = needed + max(2 * largest, account.granted // LEASE_PARTS)
        # Nothing beyond the lease is reserved under a hard budget, and what is promised must never exceed it.
        return max(needed, min(stepped, account.granted)) if self.terms[account.budget].hard else stepped


class LastWill:
    def __init__(self, file: WillFile | None) -> None:
        """`file` None: nobody would read it."""
        self._file = file
        self._key = b""
        self.kept = False
        """It is written, and can be read by the ledger."""
        self._stands = b""
        self._named: list[Account] = []
        """At most ACCOUNTS_MAX, whose promises are written."""
        self._dropped: dict[Account, None] = {}
        """An older record may still name them: without a promise once another one is written."""

    def take_key(self, key: str) -> bool:
        """The ledger's key, hexadecimal; whether it is another one than before."""
        try:
            taken = bytes.fromhex(key)
        except ValueError:
            return False
        if not taken or taken == self._key:
            return False
        self._key = taken
        self.kept = self._file is not None
        return True

    def add(self, account: Account) -> None:
        """One that may soon be reserved on."""
        if account.is_rate:
            account.promised = UNPROMISED
        elif len(self._named) < ACCOUNTS_MAX:
            self._named.append(account)
        else:
            self._dropped[account] = None

    def remove(self, account: Account) -> None:
        """It is closed."""
        self._dropped.pop(account, None)
        if account in self._named:
            self._named.remove(account)

    def choose(self, accounts: Iterable[Account]) -> None:
        """Name those of which most would return; the others are counted in full. Looks at all of them: seldom."""
        money = [account for account in accounts if not account.is_rate]
        best = nlargest(ACCOUNTS_MAX, money, key=_returns)
        self._dropped.update(dict.fromkeys(account for account in self._named if account not in best))
        for account in best:
            self._dropped.pop(account, None)
        self._named = best

    def declare(self, estate: Estate) -> bool:
        """Write a record, and set what each account may use before the next one.

        False if an older record may still stand there: then only what that one promises may be used.
        """
        if self._file is None or not self.kept:
            return self._free()
        drafts = [(account, estate.promise(account)) for account in self._named]
        promises = {
            account_of(account.budget, account.window, account.value): Promise(account.spent, promised)
            for account, promised in drafts
        }
        record = write_will(Will(estate.incarnation, estate.seq, promises), self._key)
        if record != self._stands:
            self._stands = b""
            if not self._file.write(record):
                if not self._file.erase():
                    return False
                self._file = None
                self.kept = False
                return self._free()
            self._stands = record
        for account, promised in drafts:
            account.promised = promised
        self._release(self._dropped)
        return True

    def _free(self) -> bool:
        """Nothing stands there that could say too little."""
        self._release(self._named)
        self._release(self._dropped)
        return True

    def _release(self, accounts: Iterable[Account]) -> None:
        for account in accounts:
            account.promised = UNPROMISED
        self._dropped = {}


def _returns(account: Account) -> int:
    return account.granted - account.spent - account.reserved
