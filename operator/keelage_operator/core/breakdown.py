"""Where each dollar or token of a budget is, from its ledgers alone. Pure; amounts in the budget's unit.

settled + recovered + forfeited + spent + reserved + idle + free == limit, overdraft included
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from keelage_api.account import counts_tokens
from keelage_api.amount import unit_name
from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import Unit
from keelage_api.v1alpha1.llmbudget import LLMBudgetStatus
from keelage_api.v1alpha1.schema import Column
from keelage_operator.core.budget_figures import instant, used
from keelage_operator.core.ledger import Account, LedgerRecord, Row, RowState
from keelage_operator.core.ledger_figures import Bounds, tally
from keelage_operator.core.ledger_row import SILENT_AFTER_S
from keelage_operator.core.shard import has_values
from keelage_operator.core.table import render

COLUMNS = (
    Column("Granted", ".granted"),
    Column("Spent", ".spent"),
    Column("Uncertain", ".uncertain"),
    Column("Reserved", ".reserved"),
    Column("Idle", ".idle"),
    Column("State", ".state"),
    Column("Heard", ".heard", "date"),
    Column("Holder", ".holder"),
)


VALUE_COLUMNS = (
    Column("Used", ".used"),
    Column("Spent", ".spent"),
    Column("Uncertain", ".uncertain"),
    Column("Forfeited", ".forfeited"),
    Column("Reserved", ".reserved"),
    Column("Idle", ".idle"),
    Column("Free", ".free"),
    Column("Sidecars", ".sidecars"),
)
_NO_LIMIT = "the budget has another unit or another per now, and grants nothing here any more"
SILENT = "Silent"
"""What a row's state is not, but is shown as."""
VALUES_SHOWN_MAX = 100
"""There may be ten thousand."""


@dataclass(frozen=True, slots=True)
class LedgerPicture:
    """All that an explanation starts from."""

    budget: str
    """`<namespace>/<budget>`."""
    window: str
    records: tuple[LedgerRecord, ...]
    """One, or those of the shards that there are."""
    limit: int | None
    """Of each value, where there are values; overdraft included. None: of a window that counted in another unit or
    for somebody else than the budget does now; what its limit was is not kept."""
    status: LLMBudgetStatus
    pods: Mapping[str, str]
    """Name by uid, of those that are known."""
    others: tuple[str, ...] = ()
    """Other windows that have a ledger."""
    value: str = ""
    """Whose account is to be explained, of a budget with values; empty: all of them."""
    overdraft: int = 0
    """The part of `limit` that is declared as such."""
    observed: bool = False
    """Nothing is refused: spending is only counted."""
    lost: int = 0
    """Of `records` the last ones, which are not stored: what the operator makes of them by the status, as it will store
    them when a sidecar asks."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What one sidecar has."""

    holder: str
    """`<pod uid>.<incarnation>`."""
    granted: int
    spent: int
    uncertain: int
    """The part of `spent` that nothing proves to have been billed."""
    reserved: int
    state: str
    heard_s: int
    """Unix seconds."""

    @property
    def idle(self) -> int:
        return self.granted - self.spent - self.reserved


@dataclass(frozen=True, slots=True)
class Breakdown:
    limit: int | None
    """None: not known."""
    settled: int
    settled_uncertain: int
    recovered: int
    forfeited: int
    holdings: tuple[Holding, ...]
    """The greatest first."""

    @property
    def spent(self) -> int:
        return sum(holding.spent for holding in self.holdings)

    @property
    def uncertain(self) -> int:
        """The part of `used`, forfeits aside, that nothing proves to have been billed."""
        return self.settled_uncertain + self.recovered + sum(holding.uncertain for holding in self.holdings)

    @property
    def reserved(self) -> int:
        return sum(holding.reserved for holding in self.holdings)

    @property
    def idle(self) -> int:
        return sum(holding.idle for holding in self.holdings)

    @property
    def used(self) -> int:
        """Spent, or counted as spent."""
        return self.settled + self.recovered + self.forfeited + self.spent

    @property
    def billed(self) -> tuple[int, int]:
        """The least and the most that the provider bills for it, as far as was told: at most all that was held by
        those that are silent, succeeded or gone."""
        lost = sum(holding.idle for holding in self.holdings if holding.state in (SILENT, RowState.SUSPECT))
        return self.used - self.forfeited - self.uncertain, self.used + self.reserved + lost

    @property
    def taken(self) -> int:
        """Spent, counted as spent, or granted."""
        return self.used + self.reserved + self.idle

    @property
    def free(self) -> int:
        """Granted to nobody; negative after the limit was lowered, or where a budget only observes. Without a limit
        nothing is granted any more."""
        return self.limit - self.taken if self.limit is not None else 0


def breakdown(account: Account, limit: int | None, now_s: int, floor: int = 0) -> Breakdown:
    """The account's sums and rows at the unix second `now_s`; `floor` counts in each account of its ledger."""
    holdings = [
        Holding(holder, row.granted, row.spent, row.uncertain, row.reserved, _state(row, now_s), row.heard_s)
        for holder, row in account.rows.items()
    ]
    holdings.sort(key=lambda holding: (-holding.granted, holding.holder))
    recovered = account.recovered + floor
    return Breakdown(limit, account.settled, account.settled_uncertain, recovered, account.forfeited, tuple(holdings))


def _state(row: Row, now_s: int) -> str:
    """As stored, but that nothing was heard of a row for a while."""
    silent = row.state is RowState.OUTSTANDING and now_s - row.heard_s > SILENT_AFTER_S
    return SILENT if silent else row.state.value


def dollars(pico: int) -> str:
    """Exactly, so that sums add up: at least two decimals, as many as there are."""
    sign, pico = ("-", -pico) if pico < 0 else ("", pico)
    whole, fraction = divmod(pico, PICO_PER_USD)
    return f"{sign}{whole}.{f'{fraction:012d}'.rstrip('0').ljust(2, '0')}"


def exactly(amount: int, unit: Unit) -> str:
    """So that sums add up."""
    return dollars(amount) if unit is Unit.PICODOLLARS else str(amount)


def told(picture: LedgerPicture, now: datetime) -> str:
    """The whole explanation, in lines."""
    unit = unit_of(picture.window)
    first = picture.records[0]
    lines = [
        f"LLMBudget {picture.budget}, window {picture.window}: {instant(first.starts_at)} to"
        f" {instant(first.ends_at)}; {_source(picture)}, in {unit_name(unit)}",
        "",
    ]
    if has_values(picture.window) and not picture.value:
        lines += [*value_lines(picture, unit, now), _agreement(picture, unit)]
    else:
        lines += _account(picture, unit, now)
    if picture.others:
        lines.append(f"other windows with a ledger: {', '.join(picture.others)} (--window)")
    return "\n".join(lines)


def _source(picture: LedgerPicture) -> str:
    stored = picture.records[: len(picture.records) - picture.lost]
    if not stored:
        return "its ledger is lost: figures of the status, from which it is made again"
    epochs = ", ".join(str(epoch) for epoch in sorted({record.epoch for record in stored}))
    return f"figures of the ledger, epoch {epochs}"


def unit_of(window: str) -> Unit:
    return Unit.TOKENS if counts_tokens(window) else Unit.PICODOLLARS


def _account(picture: LedgerPicture, unit: Unit, now: datetime) -> list[str]:
    record = next((each for each in picture.records if picture.value in each.accounts), picture.records[0])
    floor = record.floor if picture.value else 0
    found = breakdown(record.account(picture.value), picture.limit, int(now.timestamp()), floor)
    whose = [f"the account of {picture.value}, one of those that the limit holds for", ""] if picture.value else []
    end = [] if picture.value else [_agreement(picture, unit)]
    return [
        *whose,
        *_sums(found, unit, picture),
        "",
        _bill(found, unit),
        "",
        *_holders(picture, found, unit, now),
        *end,
    ]


def _sums(found: Breakdown, unit: Unit, picture: LedgerPicture) -> list[str]:
    free = "granted to nobody"
    if picture.observed:
        free = f"{'below zero' if found.free < 0 else 'not used'}; the budget only counts, and nothing is refused"
    elif found.free < 0:
        free = "below zero: the limit was lowered below what was spent or held; nothing more is granted"
    settled, recovered = "spent by pods that are gone", "claimed by nobody since"
    if picture.value:
        settled, recovered = "spent by sidecars that gave it up", "by all values of it, counted for each"
    parts = (
        ("settled", found.settled, settled),
        ("recovered", found.recovered, f"spent or held before the ledger was lost, {recovered}"),
        ("forfeited", found.forfeited, "held by pods that vanished without a word; counted as spent"),
        ("spent", found.spent, "by the sidecars below"),
        ("reserved", found.reserved, "by their calls under way, at the most that those can cost"),
        ("idle", found.idle, "held by them for their next calls"),
        *((("free", found.free, free),) if found.limit is not None else ()),
        _total(found, unit, picture.overdraft),
    )
    amounts = [exactly(amount, unit) for _, amount, _ in parts]
    places = max(len(text.partition(".")[2]) for text in amounts)
    # Points below each other, so that the column can be added up.
    amounts = [
        f"{whole}{point}{fraction.ljust(places, '0')}"
        for whole, point, fraction in (text.partition(".") for text in amounts)
    ]
    width = max(len(text) for text in amounts)
    return [f"  {name:<10}{amount:>{width}}   {text}" for amount, (name, _, text) in zip(amounts, parts, strict=True)]


def _bill(found: Breakdown, unit: Unit) -> str:
    least, most = (exactly(amount, unit) for amount in found.billed)
    if least == most:
        return f"so far the provider bills {most} {unit_name(unit)}"
    doubt = ""
    if found.uncertain:
        doubt = (
            f"; {exactly(found.uncertain, unit)} of what is settled, recovered and spent is uncertain: calls whose end"
            " nobody knows count at the most that they can cost"
        )
    return f"so far the provider bills between {least} and {most} {unit_name(unit)}{doubt}"


def _total(found: Breakdown, unit: Unit, overdraft: int) -> tuple[str, int, str]:
    if found.limit is None:
        return ("sum", found.taken, f"of the above; {_NO_LIMIT}")
    beyond = f"; {exactly(overdraft, unit)} of it is overdraft" if overdraft else ""
    return ("limit", found.limit, f"the sum of the above{beyond}")


def _holders(picture: LedgerPicture, found: Breakdown, unit: Unit, now: datetime) -> list[str]:
    if not found.holdings:
        return ["no sidecar holds anything of it now", ""]
    rows = [
        {
            "metadata": {"name": _pod(picture, holding.holder)},
            "granted": exactly(holding.granted, unit),
            "spent": exactly(holding.spent, unit),
            "uncertain": exactly(holding.uncertain, unit),
            "reserved": exactly(holding.reserved, unit),
            "idle": exactly(holding.idle, unit),
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


def _agreement(picture: LedgerPicture, unit: Unit) -> str:
    """The ledger's word beside the status's: who reads the status reads the same money."""
    status = picture.status
    if status.window.id != picture.window:
        return f"the status is about window {status.window.id}" if status.window.id else "there is no status yet"
    tallies = [tally(record, Bounds(picture.limit or 0)) for record in picture.records]
    spent, forfeited = sum(each.spent for each in tallies), sum(each.forfeited for each in tallies)
    ledger = f"{exactly(spent, unit)} spent, {exactly(forfeited, unit)} forfeited"
    if (status.amounts.spent, status.amounts.forfeited) == (spent, forfeited):
        return f"the status says the same: {ledger}"
    return (
        f"the status says {exactly(status.amounts.spent, unit)} spent, {exactly(status.amounts.forfeited, unit)}"
        f" forfeited; the ledger {exactly(spent, unit)} and {exactly(forfeited, unit)}: the status is written at most"
        " every five seconds, and the ledger stores what need not be stored at once a second later, or five"
    )


def value_lines(picture: LedgerPicture, unit: Unit, now: datetime) -> list[str]:
    """A line for each value, that which used most first."""
    records, limit = picture.records, picture.limit
    found = [
        (value, breakdown(account, limit, int(now.timestamp()), record.floor))
        for record in records
        for value, account in record.accounts.items()
        if value
    ]
    found.sort(key=lambda each: (-each[1].used, each[0]))
    lost = _lost(records, unit)
    if not found:
        return ["no value was heard of in this window", "", *lost]
    rows = [
        {
            "metadata": {"name": value},
            "used": f"{used(each.used, limit - picture.overdraft)}%" if limit is not None else "",
            "spent": exactly(each.settled + each.recovered + each.spent, unit),
            "uncertain": exactly(each.uncertain, unit),
            "forfeited": exactly(each.forfeited, unit),
            "reserved": exactly(each.reserved, unit),
            "idle": exactly(each.idle, unit),
            "free": exactly(each.free, unit) if limit is not None else "",
            "sidecars": str(len(each.holdings)),
        }
        for value, each in found[:VALUES_SHOWN_MAX]
    ]
    shown = f", the {len(rows)} that used most" if len(rows) < len(found) else ""
    if limit is None:
        told = f"{_NO_LIMIT}: it has {len(found)} values"
    else:
        beyond = f", {exactly(picture.overdraft, unit)} of it overdraft," if picture.overdraft else ""
        told = f"the limit of {exactly(limit, unit)}{beyond} holds for each of {len(found)} values"
    return [
        f"{told}{shown} (--value NAME tells more)",
        "",
        *render(VALUE_COLUMNS, rows, now).splitlines(),
        "",
        *lost,
    ]


def _lost(records: Sequence[LedgerRecord], unit: Unit) -> list[str]:
    number = sum(1 for record in records if record.floor)
    if not number:
        return []
    nobodys = sum(record.account().recovered for record in records)
    return [
        f"{number} of its ledgers were lost and rebuilt: {exactly(nobodys, unit)} that was spent or held by then is"
        " claimed by nobody since; all that a ledger had granted counts for each of its values",
        "",
    ]
