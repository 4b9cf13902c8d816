"""Of which accounts the ledger hears with the next exchange: a message holds so many statements and no more.

Accounts without a value are few and told each time. Those of values are told when they changed, when they press
(somebody waits, or the free money is low), and else now and then, so that the ledger knows of a living holder and
the idle are noticed. None of the work here grows with their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest

from keelage_sidecar.core.account import Account, Owner

STATEMENTS_MAX = 512
"""Of one exchange; the operator refuses more."""
HEARTBEAT_S = 15.0
"""An account that nothing happens to is told of so often: three times before the ledger calls its holder silent."""


class Rota:
    def __init__(self) -> None:
        self._plain: dict[Account, None] = {}
        self._valued: dict[Account, None] = {}
        """Longest untold first, as are the others."""
        self._changed: dict[Account, None] = {}
        self._pressing: dict[Account, None] = {}
        self.backlog = False
        """There was more to tell than one exchange holds."""

    def add(self, account: Account) -> None:
        if account.value:
            self._valued[account] = None
            self._changed[account] = None
        else:
            self._plain[account] = None

    def remove(self, account: Account) -> None:
        for accounts in (self._plain, self._valued, self._changed, self._pressing):
            accounts.pop(account, None)

    def changed(self, account: Account) -> None:
        """What was told of an account with a value is not true any more."""
        self._changed[account] = None

    def press(self, account: Account, pressing: bool = True) -> None:
        """It should be told of soon, or need not."""
        if pressing:
            self._pressing[account] = None
        else:
            self._pressing.pop(account, None)

    @property
    def pressing(self) -> Iterable[Account]:
        return self._pressing

    @property
    def plain(self) -> Iterable[Account]:
        return self._plain

    def choose(self, questions: Iterable[Owner], told_by: float) -> tuple[list[Account], list[Owner]]:
        """At most STATEMENTS_MAX, in turn from each cause: no cause keeps another one waiting for ever.

        `told_by`: who was not told of since then is due.
        """
        accounts: dict[Account, None] = {}
        owners: list[Owner] = []
        self.backlog = False
        causes = (self._plain, questions, self._pressing, self._changed, self._due(told_by))
        for each in chain.from_iterable(zip_longest(*causes)):
            if each is None or each in accounts:
                continue
            if len(accounts) + len(owners) == STATEMENTS_MAX:
                self.backlog = True
                break
            if isinstance(each, Account):
                accounts[each] = None
            else:
                owners.append(each)
        for account in accounts:
            self._told(account)
        return list(accounts), owners

    def _told(self, account: Account) -> None:
        if account.value:
            self._valued[account] = self._valued.pop(account)
            self._changed.pop(account, None)
            if account in self._pressing:
                self._pressing[account] = self._pressing.pop(account)
        else:
            self._plain[account] = self._plain.pop(account)

    def _due(self, told_by: float) -> Iterator[Account]:
        for account in self._valued:
            if account.told_s > told_by:
                return
            yield account
