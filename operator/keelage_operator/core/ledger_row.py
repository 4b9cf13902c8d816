"""One holder's row in an account of the ledger: what it may count on, and what it told. Pure."""

from __future__ import annotations

import enum

import msgspec

from keelage_api.sync import Statement

SILENT_AFTER_S = 45
"""As for the sidecars of a route: they speak every few seconds."""
ACTIVE_S = 10
"""Who was silent for longer neither counts when money is shared nor makes others give back."""

WAITS_S = 2
"""Who lacks money speaks several times a second: after so long without a word nothing is kept for it."""


class RowState(enum.StrEnum):
    OUTSTANDING = "Outstanding"
    SUSPECT = "Suspect"
    """Its incarnation was succeeded by another one; still fully counted."""
    RELEASED = "Released"
    """The holder said goodbye: granted == spent. Kept until its pod is gone, to know late duplicates."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One holder: `<pod uid>.<incarnation>`. Amounts in the account's unit."""

    granted: int = 0
    """The total that the holder may count on; never below spent + reserved."""
    spent: int = 0
    uncertain: int = 0
    """The part of `spent` that nothing proves to have been billed."""
    reserved: int = 0
    seq: int = 0
    """Of the newest statement that was heard; older ones are ignored."""
    heard_s: int = 0
    """Wall clock of the operator, unix seconds; for showing silence, never for rights."""
    waiting: int = 0
    """What a waiting request lacks and did not get."""
    since_s: int = 0
    """When that request began to wait; the longest waiting comes first."""
    state: RowState = RowState.OUTSTANDING
    unproven: int = 0
    """What of `granted` nothing proves to be newer than the loss of the ledger: it was claimed from what was recovered
    by words that may be older, or a leader remembers it. The holder may have given some of it back before, and then it
    was somebody else's: what the row shrinks by is counted as recovered."""

    @property
    def idle(self) -> int:
        """Held for calls that have not come."""
        return self.granted - self.spent - self.reserved


class Heard(msgspec.Struct, frozen=True):
    holder: str
    """`<pod uid>.<incarnation>`."""
    statement: Statement


def counts_on(statement: Statement) -> int:
    """Never less than spent + reserved: an observed budget is spent without a right."""
    return max(statement.granted, statement.spent + statement.reserved)


def speaks(row: Row, now_s: int) -> bool:
    return row.state is RowState.OUTSTANDING and now_s - row.heard_s <= ACTIVE_S


def waits(row: Row, now_s: int) -> bool:
    return row.waiting > 0 and row.state is RowState.OUTSTANDING and now_s - row.heard_s <= WAITS_S


def pod_of(holder: str) -> str:
    return holder.partition(".")[0]
