"""Where each dollar of a budget is, from its ledger alone. Pure; amounts in pico-dollars.

settled + recovered + forfeited + spent + reserved + idle + free == limit
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from keelage_api.money import PICO_PER_USD
from keelage_api.v1alpha1.llmbudget import LLMBudgetStatus
from keelage_api.v1alpha1.schema import Column
from keelage_operator.core.budget_figures import instant
from keelage_operator.core.ledger import LedgerRecord, Row, RowState
from keelage_operator.core.ledger_row import SILENT_AFTER_S
from keelage_operator.core.table import render

COLUMNS = (
    Column("Granted", ".granted"),
    Column("Spent", ".spent"),
    Column("Reserved", ".reserved"),
    Column("Idle", ".idle"),
    Column("State", ".state"),
    Column("Heard", ".heard", "date"),
    Column("Holder", ".holder"),
)


@dataclass(frozen=True, slots=True)
class LedgerPicture:
    """All that an explanation starts from."""

    budget: str
    """`<namespace>/<budget>`."""
    window: str
    record: LedgerRecord
    limit: int
    status: LLMBudgetStatus
    pods: Mapping[str, str]
    """Name by uid, of those that are known."""
    others: tuple[str, ...] = ()
    """Other windows that have a ledger."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What one sidecar has."""

    holder: str
    """`<pod uid>.<incarnation>`."""
    granted: int
    spent: int
    reserved: int
    state: str
    heard_s: int
    """Unix seconds."""

    @property
    def idle(self) -> int:
        return self.granted - self.spent - self.reserved


@dataclass(frozen=True, slots=True)
class Breakdown:
    limit: int
    settled: int
    recovered: int
    forfeited: int
    holdings: tuple[Holding, ...]
    """The greatest first."""

    @property
    def spent(self) -> int:
        return sum(holding.spent for holding in self.holdings)

    @property
    def reserved(self) -> int:
        return sum(holding.reserved for holding in self.holdings)

    @property
    def idle(self) -> int:
        return sum(holding.idle for holding in self.holdings)

    @property
    def free(self) -> int:
        """Granted to nobody; negative after the limit was lowered, or where a budget only observes."""
        return self.limit - self.settled - self.recovered - self.forfeited - self.spent - self.reserved - self.idle


def breakdown(record: LedgerRecord, limit: int, now_s: int) -> Breakdown:
    """The ledger's sums and rows at the unix second `now_s`."""
    account = record.account()
    holdings = [
        Holding(holder, row.granted, row.spent, row.reserved, _state(row, now_s), row.heard_s)
        for holder, row in account.rows.items()
    ]
    holdings.sort(key=lambda holding: (-holding.granted, holding.holder))
    return Breakdown(limit, account.settled, account.recovered, account.forfeited, tuple(holdings))


def _state(row: Row, now_s: int) -> str:
    """As stored, but that nothing was heard of a row for a while."""
    silent = row.state is RowState.OUTSTANDING and now_s - row.heard_s > SILENT_AFTER_S
    return "Silent" if silent else row.state.value


def dollars(pico: int) -> str:
    """Exactly, so that sums add up: at least two decimals, as many as there are."""
    sign, pico = ("-", -pico) if pico < 0 else ("", pico)
    whole, fraction = divmod(pico, PICO_PER_USD)
    return f"{sign}{whole}.{f'{fraction:012d}'.rstrip('0').ljust(2, '0')}"


def told(picture: LedgerPicture, now: datetime) -> str:
    """The whole explanation, in lines."""
    record, found = picture.record, breakdown(picture.record, picture.limit, int(now.timestamp()))
    lines = [
        f"LLMBudget {picture.budget}, window {picture.window}: {instant(record.starts_at)} to"
        f" {instant(record.ends_at)}; figures of the ledger, epoch {record.epoch}, in USD",
        "",
        *_sums(found),
        "",
        *_holders(picture, found, now),
        _agreement(picture, found),
    ]
    if picture.others:
        lines.append(f"other windows with a ledger: {', '.join(picture.others)} (--window)")
    return "\n".join(lines)


def _sums(found: Breakdown) -> list[str]:
    free = "granted to nobody"
    if found.free < 0:
        free = "below zero: the limit was lowered, or the budget only observes; nothing more is granted"
    parts = (
        ("settled", found.settled, "spent by pods that are gone"),
        ("recovered", found.recovered, "spent or held before the ledger was lost and rebuilt, claimed by nobody since"),
        ("forfeited", found.forfeited, "held by pods that vanished without a word; counted as spent"),
        ("spent", found.spent, "by the sidecars below"),
        ("reserved", found.reserved, "by their calls under way, at the most that those can cost"),
        ("idle", found.idle, "held by them for their next calls"),
        ("free", found.free, free),
    )
    amounts = [dollars(amount) for amount in (*(amount for _, amount, _ in parts), found.limit)]
    places = max(len(text.partition(".")[2]) for text in amounts)
    # Points below each other, so that the column can be added up.
    amounts = [
        f"{whole}.{fraction.ljust(places, '0')}" for whole, _, fraction in (text.partition(".") for text in amounts)
    ]
    width = max(len(text) for text in amounts)
    named = (*((name, text) for name, _, text in parts), ("limit", "the sum of the above"))
    return [f"  {name:<10}{amount:>{width}}   {text}" for amount, (name, text) in zip(amounts, named, strict=True)]


def _holders(picture: LedgerPicture, found: Breakdown, now: datetime) -> list[str]:
    if not found.holdings:
        return ["no sidecar holds or has spent anything", ""]
    rows = [
        {
            "metadata": {"name": _pod(picture, holding.holder)},
            "granted": dollars(holding.granted),
            "spent": dollars(holding.spent),
            "reserved": dollars(holding.reserved),
            "idle": dollars(holding.idle),
            "state": holding.state,
            "heard": datetime.fromtimestamp(holding.heard_s, UTC).isoformat() if holding.heard_s else "",
            "holder": holding.holder,
        }
        for holding in found.holdings
    ]
    return [*render(COLUMNS, rows, now).splitlines(), ""]


def _pod(picture: LedgerPicture, holder: str) -> str:
    uid = holder.partition(".")[0]
    return picture.pods.get(uid, "(gone)" if picture.pods else "(unknown)")


def _agreement(picture: LedgerPicture, found: Breakdown) -> str:
    """The ledger's word beside the status's: who reads the status reads the same money."""
    status = picture.status
    if status.window.id != picture.window:
        return f"the status is about window {status.window.id}" if status.window.id else "there is no status yet"
    spent = found.settled + found.recovered + found.spent
    if (status.amounts.spent, status.amounts.forfeited) == (spent, found.forfeited):
        return f"the status says the same: {dollars(spent)} spent, {dollars(found.forfeited)} forfeited"
    return (
        f"the status says {dollars(status.amounts.spent)} spent, {dollars(status.amounts.forfeited)} forfeited;"
        f" the ledger {dollars(spent)} and {dollars(found.forfeited)}: the status is written at most every five"
        " seconds, and the ledger stores what need not be stored at once a second later"
    )
