"""The ledger of a budget in one window, or one shard of it: its accounts, by value. Pure.

A budget without `per` has one account, "". Where the limit holds for each value, a holder that
releases an account is folded into its sum at once, so that what is kept grows with the number
of values and not with that of sidecars times values. `seen` then tells late duplicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec.structs import replace

from keelage_api.sync import By, Right
from keelage_api.window import Window
from keelage_operator.core.ledger_account import (
    ROWS_PER_POD_MAX,
    Account,
    Answered,
    Around,
    Evidence,
    bury,
    doubted,
    hear,
)
from keelage_operator.core.ledger_row import Heard, Row, RowState, pod_of

__all__ = [
    "LEARNING_S",
    "VALUES_MAX",
    "Account",
    "Applied",
    "Checkpoint",
    "Evidence",
    "Heard",
    "LedgerRecord",
    "Row",
    "RowState",
    "apply",
    "closed",
    "committed",
    "pods",
    "pods_gone",
    "rebuild",
]

LEARNING_S = 6
"""Longer than any sidecar is silent while it is well (`speakers.INTERVAL_MAX_S`), and its word under way."""
BURIED_MAX = 32
"""More than vanish while a message is on its way; a pod that is gone has no valid token for longer than that."""
VALUES_MAX = 4096
"""In one object: with names of 64 characters and a row each it comes to 1 MiB, and there are 32 of them."""


class LedgerRecord(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The durable state of one object. What a newer operator wrote is not read by an older one as nothing at all."""

    starts_at: datetime
    ends_at: datetime
    epoch: int = 0
    learning_until_s: int = 0
    """Unix seconds: after it was rebuilt nothing is granted before the holders had time to claim theirs."""
    identity: str = ""
    """Of one that was lost and made again: no other ledger has it, so that who says it has heard of this one."""
    floor: int = 0
    """Of a shard that was lost and rebuilt: what all its accounts together had committed by the checkpoint. Counted
    in each of them, since nobody knows whose it was."""
    seen: dict[str, int] = {}
    """By holder whose rows were folded: statements up to that number are void where it has no row."""
    buried: tuple[str, ...] = ()
    """Uids of the pods whose rows were closed last: another leader may hear a belated word of theirs, and must not
    open a row that would count twice what is counted already."""
    shares: dict[By, dict[str, int]] = {}
    """What was spent by pods that are gone, by name: the greatest. For people, not for rights."""
    accounts: dict[str, Account] = {}
    """By value. A shard's account "" holds what is nobody's known: `recovered`, for the sums only."""

    def account(self, value: str = "") -> Account:
        return self.accounts.get(value, _BLANK)


_BLANK = Account()


class Applied(msgspec.Struct, frozen=True):
    record: LedgerRecord
    rights: tuple[tuple[str, Right], ...]
    """By holder; a statement that came too late has none. `ends_in_s` is the caller's to fill."""
    urgent: bool
    """The record must be stored before `rights` leave; otherwise it may be stored later."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the budget's status says of a window: below it a rebuilt ledger may not fall."""

    window: str
    committed: int
    shards: tuple[int, ...] = ()
    """The same by shard, where there are values."""

    def of(self, shard: int, valued: bool) -> int:
        """Where the shards are not told, all of it may be in this one."""
        return self.shards[shard] if valued and shard < len(self.shards) else self.committed


def apply(record: LedgerRecord, batch: Sequence[Heard], cap: int, now_s: int, full: bool = False) -> Applied:
    """Hear the statements, account by account, and grant what is free in each; `cap` holds for each.

    `full`: the object cannot be stored if it grows. Nothing is granted and no row begins.
    """
    hearing = _Hearing(record, full)
    by_value: dict[str, list[Heard]] = {}
    for heard in batch:
        by_value.setdefault(heard.statement.value, []).append(heard)
    for value, said in by_value.items():
        hearing.hear(value, said, cap, now_s)
    return hearing.applied()


class _Hearing:
    """The accounts while a batch is heard."""

    def __init__(self, record: LedgerRecord, full: bool) -> None:
        self._record = record
        self._full = full
        self._accounts = dict(record.accounts)
        self._seen = dict(record.seen)
        self._rights: list[tuple[str, Right]] = []
        self._urgent = False

    def applied(self) -> Applied:
        after = replace(self._record, accounts=self._accounts, seen=self._seen)
        return Applied(after, tuple(self._rights), self._urgent)

    def hear(self, value: str, batch: Sequence[Heard], cap: int, now_s: int) -> None:
        account = self._accounts.get(value, _BLANK)
        learning = self._full or now_s < self._record.learning_until_s
        batch = [heard for heard in batch if not self._void(account, heard) and not self._refused(account, heard)]
        if not batch:
            return
        if not value:
            self._take(value, hear(account, batch, cap, now_s, Around(0, learning, self._record.identity)))
            return
        for heard in batch:
            account = self._returned(account, heard)
        rows = account.rows
        nobodys = self._accounts.get("", _BLANK).recovered
        around = Around(self._record.floor, learning, self._record.identity, nobodys)
        answered = hear(account, batch, cap, now_s, around)
        self._claim(answered.claimed)
        self._take(value, answered)
        # A holder has no account here before its row is stored: then one that is not here was folded.
        self._urgent = self._urgent or any(holder not in rows for holder in answered.account.rows)
        self._fold(value, answered.account)

    def _take(self, value: str, answered: Answered) -> None:
        self._accounts[value] = answered.account
        self._rights += answered.rights
        self._urgent = self._urgent or answered.urgent

    def _void(self, account: Account, heard: Heard) -> bool:
        """Whether it is a question of a holder that has an account here, a late word about a row that was folded, or
        of a pod that is gone."""
        holder, statement = heard.holder, heard.statement
        if statement.window in statement.besides:
            return True
        if holder in account.rows:
            return False
        return statement.seq <= self._seen.get(holder, 0) or pod_of(holder) in self._record.buried

    def _returned(self, account: Account, heard: Heard) -> Account:
        """The holder speaks again of what was folded, since the answer to its goodbye was lost: it gets its row
        back, with what it spent, and `settled` is less by so much.

        In a ledger that was lost it may never have been folded, unless the holder was answered by this one: there it
        counts as any claim.
        """
        spent, identity = heard.statement.spent, self._record.identity
        here = heard.statement.ledger == identity and bool(identity or not self._record.floor)
        if heard.holder in account.rows or heard.holder not in self._seen or not here or not spent:
            return account
        back = min(spent, account.settled)
        left = account.settled - back
        doubtful = account.settled_uncertain
        kept = min(left, doubtful - min(doubtful, heard.statement.uncertain))
        row = Row(granted=back, spent=back, uncertain=doubtful - kept, seq=self._seen[heard.holder])
        return replace(account, settled=left, settled_uncertain=kept, rows={**account.rows, heard.holder: row})

    def _claim(self, above: int) -> None:
        """What was committed before the loss is somebody's known now: less of it is nobody's."""
        nobody = self._accounts.get("", _BLANK)
        if above:
            self._put("", replace(nobody, recovered=max(0, nobody.recovered - above)))

    def _fold(self, value: str, account: Account) -> None:
        """Holders that said goodbye become a part of `settled`."""
        gone = {holder: row for holder, row in account.rows.items() if row.state is RowState.RELEASED}
        for holder, row in gone.items():
            self._see(holder, row.seq)
        settled = account.settled + sum(row.spent for row in gone.values())
        uncertain = account.settled_uncertain + sum(row.uncertain for row in gone.values())
        rows = {holder: row for holder, row in account.rows.items() if holder not in gone} if gone else account.rows
        self._put(value, replace(account, settled=settled, settled_uncertain=uncertain, rows=rows))

    def _see(self, holder: str, seq: int) -> None:
        if holder not in self._seen:
            pod = pod_of(holder) + "."
            others = [other for other in self._seen if other.startswith(pod)]
            for oldest in others[: max(0, len(others) + 1 - ROWS_PER_POD_MAX)]:
                del self._seen[oldest]
        self._seen[holder] = max(seq, self._seen.get(holder, 0))

    def _put(self, value: str, account: Account) -> None:
        """One that says nothing is not kept."""
        if account == _BLANK:
            self._accounts.pop(value, None)
        else:
            self._accounts[value] = account

    def _refused(self, account: Account, heard: Heard) -> bool:
        """Whether there is no room for it; what a holder counts on is never turned away for the number of values."""
        statement = heard.statement
        new = statement.value not in self._accounts and not (statement.granted or statement.spent)
        if not (self._full and heard.holder not in account.rows) and not (new and len(self._accounts) >= VALUES_MAX):
            return False
        if self._full:
            text = (
                f"a ledger of LLMBudget {statement.budget} in window {statement.window} is as large as the API server"
                " stores: let spec.per name something with fewer values, or split the budget by"
                " spec.applies.podSelector"
            )
        else:
            text = (
                f"LLMBudget {statement.budget} has {VALUES_MAX} values in one of its ledgers of window"
                f" {statement.window}, and takes no more: let spec.per name something with fewer values"
            )
        right = Right(statement.budget, statement.window, statement.seq, granted=0, error=text, value=statement.value)
        self._rights.append((heard.holder, right))
        return True


def pods_gone(record: LedgerRecord, gone: dict[str, Evidence | None]) -> LedgerRecord:
    """Fold the rows of pods that no longer exist, by uid, with what is known of their end."""
    accounts, claimed = dict(record.accounts), 0
    for value, account in record.accounts.items():
        after, above = bury(account, gone, value)
        claimed += above
        if after is not account:
            accounts[value] = after
        if value and after == _BLANK:
            del accounts[value]
    seen = {holder: seq for holder, seq in record.seen.items() if pod_of(holder) not in gone}
    nobody = accounts.get("", _BLANK)
    recovered = max(0, nobody.recovered - claimed)
    if recovered != nobody.recovered:
        accounts[""] = replace(nobody, recovered=recovered)
    if seen == record.seen and accounts == record.accounts:
        return record
    held = pods(record)
    buried = (*record.buried, *(uid for uid in gone if uid in held))[-BURIED_MAX:]
    return replace(record, accounts=accounts, seen=seen, buried=buried)


def committed(record: LedgerRecord) -> int:
    """All that can no longer be granted, over all accounts: the checkpoint."""
    return sum(account.committed for account in record.accounts.values())


def pods(record: LedgerRecord) -> frozenset[str]:
    """Uids of the pods that have a row, or had one that was folded."""
    holders = (holder for account in record.accounts.values() for holder in account.rows)
    return frozenset(pod_of(holder) for holder in (*holders, *record.seen))


def closed(record: LedgerRecord) -> bool:
    """Whether nobody can spend under this record any more."""
    accounts = record.accounts.values()
    return all(row.state is RowState.RELEASED for account in accounts for row in account.rows.values())


def rebuild(
    window: Window,
    known: int,
    now_s: int,
    lost: LedgerRecord | None = None,
    valued: bool = False,
    doubtful: bool = False,
    identity: str = "",
) -> LedgerRecord:
    """A record where there is none: blank, unless one was lost.

    `lost` is as it was last seen, `known` what the status says was committed; what of it the rows do not account
    for is counted as recovered, until its holders claim it. Where there are values it is counted in each account,
    whoever claims: a value can then not pass its limit, at the price that others of its shard reach theirs early.
    `doubtful`: one may have been lost that nothing was said of yet, so holders get the time to claim theirs.
    `identity`: one that no ledger had before, where it is to be kept.
    """
    record = lost or LedgerRecord(starts_at=window.starts_at, ends_at=window.ends_at)
    missing = max(0, known - committed(record))
    if lost is None and not missing and not doubtful:
        return record
    if missing:
        nobody = record.account()
        accounts = {**record.accounts, "": replace(nobody, recovered=nobody.recovered + missing)}
        record = replace(record, accounts=accounts, floor=record.floor + missing if valued else 0)
    # Another leader may have gone on since it was seen.
    record = replace(record, accounts={value: doubted(account) for value, account in record.accounts.items()})
    return replace(record, identity=identity, learning_until_s=now_s + LEARNING_S)
