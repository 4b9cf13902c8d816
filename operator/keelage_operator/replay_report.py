"""What a replay found, side by side with what was: as values for programs, and as tables for people."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from keelage_api.amount import measured
from keelage_api.money import format_usd
from keelage_operator.core.terms import BudgetInForce
from keelage_sidecar.core.foresight import Foreseen
from keelage_sidecar.core.log_line import GIVEN, CallRecord

NOBODY = "(none)"
REFUSED = "(refused)"
CACHED = "(from the cache)"


class Assumption(enum.StrEnum):
    """What lines do not tell, and is therefore taken to be; behind the number of calls that it is about."""

    HIT_AGAIN = "answered from the response cache before, and taken to be again"
    REFUSED_BEFORE = (
        "refused before, so that nothing is known of the answer: taken to use what others for the same model did on"
        " average"
    )
    WORDS = (
        "decided by the words of the prompt, which the line does not tell: taken to be three quarters of its estimated"
        " tokens"
    )
    KEPT = "going through a cascade for the first time, and taken not to be escalated"
    FIRST_ASKED = (
        "asked about by a classifier for the first time: each is taken to be, about the whole prompt, with an answer up"
        " to maxTokens"
    )
    AT_BOUND = "charged at the bound, and taken to be again"
    DEAREST = "going to a model without a price, and charged at the dearest known rates of its provider"
    UNPRICED = "going to a model without a price, and left out of the costs"


class Row(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    calls_before: int
    calls_after: int
    usd_before: str
    usd_after: str


class Ledgered(msgspec.Struct, frozen=True, rename="camel"):
    """What became of calls for a budget's sake."""

    budget: str
    limit: str
    refused_before: int
    refused_after: int
    lowered_before: int
    """Downgraded or clamped."""
    lowered_after: int
    most_spent: str
    """In any window and account of the replay, in the budget's unit."""


class Refused(msgspec.Struct, frozen=True, rename="camel"):
    reason: str
    before: int
    after: int


class Report(msgspec.Struct, frozen=True, rename="camel"):
    calls: int
    """Of the application to a model."""
    own_calls: int
    """That sidecars made for these: to classifiers, for summaries. They are in all sums."""
    set_aside: int
    """Lines that are neither: batches, lists of models."""
    first: str
    last: str
    """RFC 3339; when the calls began."""
    total: Row
    rules: tuple[Row, ...]
    tiers: tuple[Row, ...]
    models: tuple[Row, ...]
    budgets: tuple[Ledgered, ...]
    refusals: tuple[Refused, ...]
    notes: tuple[str, ...]
    """What was assumed."""

    @property
    def text(self) -> str:
        """For people."""
        own = f", with {self.own_calls:,} of the sidecars' own" if self.own_calls else ""
        aside = f"; in no sum, other lines, as of batches and lists: {self.set_aside:,}" if self.set_aside else ""
        calls = f"{self.calls:,} call{'' if self.calls == 1 else 's'} from {self.first} to {self.last}{own}"
        lines = [f"{calls if self.calls else 'no calls'}{aside}"]
        for title, rows in (("RULE", self.rules), ("TIER", self.tiers), ("MODEL", self.models)):
            lines += ["", *_table(title, (*rows, self.total))]
        if self.refusals:
            lines += ["", *_columns(("REFUSED", "BEFORE", "AFTER"), [_cells(each) for each in self.refusals])]
        if self.budgets:
            head = ("BUDGET", "LIMIT", "REFUSED BEFORE", "AFTER", "LOWERED BEFORE", "AFTER", "MOST SPENT")
            lines += ["", *_columns(head, [_cells(each) for each in self.budgets])]
        return "\n".join((*lines, "", *(f"- {note}" for note in self.notes)))


@dataclass(slots=True)
class _Sums:
    calls_before: int = 0
    calls_after: int = 0
    before: int = 0
    after: int = 0

    def row(self, name: str) -> Row:
        return Row(name, self.calls_before, self.calls_after, format_usd(self.before), format_usd(self.after))


@dataclass(slots=True)
class _Sums3:
    """The same calls by three names."""

    rules: dict[str, _Sums] = field(default_factory=dict)
    tiers: dict[str, _Sums] = field(default_factory=dict)
    models: dict[str, _Sums] = field(default_factory=dict)

    def of(self, rule: str, tier: str, model: str) -> Iterable[_Sums]:
        for sums, name in ((self.rules, rule), (self.tiers, tier), (self.models, model)):
            yield sums.setdefault(name or NOBODY, _Sums())


@dataclass(slots=True)
class Tally:
    _sums: _Sums3 = field(default_factory=_Sums3)
    _total: _Sums = field(default_factory=_Sums)
    _refused: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    """Reason, budget, and whether after."""
    _lowered: Counter[tuple[str, bool]] = field(default_factory=Counter)
    _spent: dict[str, int] = field(default_factory=dict)
    _aside: int = 0
    _own: int = 0
    _first: str = ""
    _last: str = ""

    def set_aside(self, lines: int = 1) -> None:
        self._aside += lines

    def own(self, record: CallRecord) -> None:
        """A call of the sidecar's own, as it was."""
        self._own += 1
        self._count_before(f"{record.route}/{record.rule}", record.tier, record.model or REFUSED, record.cost)

    def before(self, record: CallRecord) -> None:
        """As it was."""
        self._first = min(self._first or record.time, record.time)
        self._last = max(self._last, record.time)
        rule = f"{record.route}/{record.rule}" if record.route else ""
        model = record.model
        if record.outcome == "refused":
            model = REFUSED
            self._refused[record.reason, record.budget, False] += 1
        elif record.cache in GIVEN:
            model = CACHED
        if record.downgraded or record.clamped:
            self._lowered[record.budget, False] += 1
        self._count_before(rule, record.tier, model, record.cost)

    def after(self, rule: str, seen: Foreseen, cost: int) -> None:
        """It is served, and costs so many pico-dollars."""
        if seen.downgraded or seen.clamped:
            self._lowered[seen.budget, True] += 1
        self._count(rule, seen.tier, seen.candidate.model, cost)

    def after_own(self, rule: str, tier: str, model: str, cost: int) -> None:
        self._count(rule, tier, model, cost)

    def after_refusal(self, rule: str, tier: str, reason: str, budget: str = "") -> None:
        self._refused[reason, budget, True] += 1
        self._count(rule, tier, REFUSED, 0)

    def after_hit(self, rule: str, tier: str) -> None:
        self._count(rule, tier, CACHED, 0)

    def spent(self, budget: str, amount: int) -> None:
        """By one account in one window."""
        self._spent[budget] = max(self._spent.get(budget, 0), amount)

    def report(self, budgets: Mapping[str, BudgetInForce], notes: Sequence[str]) -> Report:
        reasons = sorted({reason for reason, _, _ in self._refused})
        names = sorted(
            {*budgets, *(name for _, name, _ in self._refused if name), *(name for name, _ in self._lowered)}
        )
        return Report(
            self._total.calls_before - self._own,
            self._own,
            self._aside,
            self._first,
            self._last,
            self._total.row("all"),
            _rows(self._sums.rules),
            _rows(self._sums.tiers),
            _rows(self._sums.models),
            tuple(self._ledgered(name, budgets.get(name)) for name in names),
            tuple(Refused(reason, self._by_reason(reason, False), self._by_reason(reason, True)) for reason in reasons),
            tuple(notes),
        )

    def _ledgered(self, name: str, budget: BudgetInForce | None) -> Ledgered:
        def refused(after: bool) -> int:
            return sum(count for (_, each, when), count in self._refused.items() if (each, when) == (name, after))

        limit = measured(budget.cap, budget.unit) if budget is not None else "no more"
        most = measured(self._spent.get(name, 0), budget.unit) if budget is not None else ""
        lowered = self._lowered[name, False], self._lowered[name, True]
        return Ledgered(name, limit, refused(False), refused(True), *lowered, most)

    def _by_reason(self, reason: str, after: bool) -> int:
        return sum(count for (each, _, when), count in self._refused.items() if (each, when) == (reason, after))

    def _count_before(self, rule: str, tier: str, model: str, cost: int) -> None:
        for sums in (self._total, *self._sums.of(rule, tier, model)):
            sums.calls_before += 1
            sums.before += cost

    def _count(self, rule: str, tier: str, model: str, cost: int) -> None:
        for sums in (self._total, *self._sums.of(rule, tier, model)):
            sums.calls_after += 1
            sums.after += cost


def _rows(sums: Mapping[str, _Sums]) -> tuple[Row, ...]:
    """Those with most calls first."""
    ordered = sorted(sums.items(), key=lambda item: (-max(item[1].calls_after, item[1].calls_before), item[0]))
    return tuple(each.row(name) for name, each in ordered)


def _table(title: str, rows: Sequence[Row]) -> list[str]:
    head = (title, "CALLS BEFORE", "AFTER", "USD BEFORE", "AFTER")
    return _columns(head, [_cells(row) for row in rows])


def _cells(row: Row | Ledgered | Refused) -> list[str]:
    return [f"{value:,}" if isinstance(value, int) else str(value) for value in msgspec.structs.astuple(row)]


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Names to the left, figures to the right."""
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    return [
        "   ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
