"""LLMBudget: how much may be spent in a window, and by whom."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.proxy_config import Per, Unit
from keelage_api.v1alpha1.constraint import Constraint, ListMap, ListSet, constrained
from keelage_api.v1alpha1.limit import AMOUNT_MAX, Limit, Overdraft
from keelage_api.v1alpha1.metadata import (
    Condition,
    Int64,
    LabelSelector,
    ModelPattern,
    Name,
    ObjectMeta,
    ObjectName,
    Observed,
    Opaque,
    Part,
    Shown,
    TimeZone,
    Word,
)
from keelage_api.v1alpha1.mode import Mode
from keelage_api.window import Every

KIND = "LLMBudget"

PER_MAX = 2
"""Members of `per`: with all three, nearly every call would have an account of its own."""

TOP_MAX = 10
"""Entries of a list of the greatest."""
SHARDS_MAX = 64
LABEL_MAX = 140
"""Characters of a value (two parts of 64), a model, a feature or a user."""

NAME_LENGTH_MAX = 48
"""Leaves room for the window's id in the name of the ledger, also as a label's value."""


class Enforcement(enum.StrEnum):
    HARD = "Hard"
    SOFT = "Soft"
    OBSERVE = "Observe"


class Do(enum.StrEnum):
    WARN = "Warn"
    """An Event of type Warning and a metric."""
    DOWNGRADE = "Downgrade"
    """The same, and calls use a cheaper tier from there on."""


class BudgetState(enum.StrEnum):
    ACTIVE = "Active"
    EXHAUSTED = "Exhausted"
    PENDING = "Pending"
    INVALID = "Invalid"


class BudgetWindow(Part):
    """The stretch of time that the limit holds for. Calendar windows: a month begins on the first."""

    every: Every = Every.MONTH
    """Hour, Day, Week (from Monday) or Month."""
    time_zone: TimeZone = "UTC"
    """In which days, weeks and months begin; a name of the IANA database."""


class Applies(Part):
    """Which calls of the namespace count; what is left empty selects everything."""

    pod_selector: LabelSelector = LabelSelector()
    """Calls of these pods."""
    routes: Annotated[tuple[ObjectName, ...], Field(max_length=64)] = ()
    """Calls that follow any of these LLMRoutes."""
    models: Annotated[tuple[ModelPattern, ...], Field(max_length=64)] = ()
    """Calls that are sent to any of these models; `*` at the end stands for anything."""
    features: Annotated[tuple[Word, ...], Field(max_length=64)] = ()
    """Calls of any of these features."""


@constrained(
    Constraint["Threshold"](
        cel="self.do != 'Downgrade' || has(self.tier)",
        message="tier is required with do: Downgrade: name a tier of the routes that the budget applies to",
        holds=lambda part: part.do is not Do.DOWNGRADE or part.tier is not None,
        field=".tier",
    ),
    Constraint["Threshold"](
        cel="self.do == 'Downgrade' || !has(self.tier)",
        message="tier belongs to do: Downgrade: leave it out, or write do: Downgrade",
        holds=lambda part: part.do is Do.DOWNGRADE or part.tier is None,
        field=".tier",
    ),
)
class Threshold(Part):
    """Something to do when a part of the limit is used, once per window."""

    percent: Annotated[int, Field(ge=1, le=100)]
    """Of the limit, without overdraft; what is forfeited counts as used. With `per`: of any value's limit."""
    do: Do = Do.WARN
    """Warn: post an Event of type Warning, reason BudgetThreshold. Downgrade: that too, and calls use `tier`."""
    tier: Name | None = None
    """With Downgrade: the tier that calls use from here on, and before one is refused at the limit. Of the call's own
    LLMRoute; calls of a route without a tier of that name stay as they are."""


def _ceiling(spec: LLMBudgetSpec) -> Decimal:
    """Limit and overdraft together, in USD; 0 for tokens."""
    return sum(
        (Decimal(part.amount) for part in (spec.limit, spec.overdraft) if part is not None and part.amount is not None),
        Decimal(0),
    )


@constrained(
    Constraint["LLMBudgetSpec"](
        cel="self.enforcement != 'Soft' || has(self.overdraft)",
        message="overdraft is required with enforcement: Soft: write by how much the limit may be passed, as in"
        ' {amount: "50.00"}',
        holds=lambda spec: spec.enforcement is not Enforcement.SOFT or spec.overdraft is not None,
        field=".overdraft",
    ),
    Constraint["LLMBudgetSpec"](
        cel="self.enforcement == 'Soft' || !has(self.overdraft)",
        message="overdraft belongs to enforcement: Soft: leave it out, or write enforcement: Soft",
        holds=lambda spec: spec.enforcement is Enforcement.SOFT or spec.overdraft is None,
        field=".overdraft",
    ),
    Constraint["LLMBudgetSpec"](
        cel="!has(self.overdraft) || has(self.overdraft.tokens) == has(self.limit.tokens)",
        message="overdraft must be in the unit of limit: amount beside amount, tokens beside tokens",
        holds=lambda spec: spec.overdraft is None or (spec.overdraft.tokens is None) == (spec.limit.tokens is None),
        field=".overdraft",
    ),
    Constraint["LLMBudgetSpec"](
        # Half a micro-dollar more: sums of floating point.
        cel="!has(self.overdraft) || !has(self.overdraft.amount) || !has(self.limit.amount)"
        f" || double(self.limit.amount) + double(self.overdraft.amount) <= {AMOUNT_MAX}.0000005",
        message=f"limit and overdraft together must not be above {AMOUNT_MAX} USD: lower one of them",
        holds=lambda spec: _ceiling(spec) <= AMOUNT_MAX,
        field=".overdraft",
    ),
    Constraint["LLMBudgetSpec"](
        cel="self.enforcement != 'Observe' || self.thresholds.all(t, t.do != 'Downgrade')",
        message="thresholds[].do: Downgrade needs enforcement Hard or Soft: Observe changes no call; write do: Warn or"
        " another enforcement",
        holds=lambda spec: (
            spec.enforcement is not Enforcement.OBSERVE or all(each.do is Do.WARN for each in spec.thresholds)
        ),
        field=".thresholds",
    ),
    Constraint["LLMBudgetSpec"](
        cel="self.mode != 'Shadow' || self.enforcement != 'Observe'",
        message="mode: Shadow needs enforcement Hard or Soft, which it rehearses: Observe refuses nothing; write one of"
        " these, or leave mode out",
        holds=lambda spec: spec.mode is not Mode.SHADOW or spec.enforcement is not Enforcement.OBSERVE,
        field=".mode",
    ),
)
class LLMBudgetSpec(Part):
    """The limit and what it applies to."""

    limit: Limit
    """The most that may be used in one window."""
    per: Annotated[tuple[Per, ...], Field(max_length=PER_MAX), ListSet()] = ()
    """The limit holds for each value of its own: [User] gives every user as much, [User, Feature] every user for every
    feature; left out: all calls together. Calls without a user or feature share one value. Another `per` or another
    unit begins a window with nothing spent."""
    window: BudgetWindow = BudgetWindow()
    """When spending starts anew. Another length begins a window with nothing spent; back at the former one, it goes
    on from what was spent there. Another time zone moves the window's end and keeps what was spent."""
    applies: Applies = Applies()
    """The calls that count; left out: all of the namespace."""
    enforcement: Enforcement = Enforcement.HARD
    """Hard: a call that could pass the limit is refused. Soft: one that could pass limit and overdraft together is.
    Observe: spending is only counted and shown."""
    mode: Mode = Mode.ENFORCE
    """Shadow: spending is counted and shown, and no call is refused or changed. The log line of a call that would have
    been says so (`shadow_budgets`)."""
    overdraft: Overdraft | None = None
    """With Soft, and only there: how far the limit may be passed; status shows what is."""
    thresholds: Annotated[tuple[Threshold, ...], Field(max_length=8), ListMap("percent")] = ()
    """What to do before the limit is reached."""


Label = Annotated[str, StringConstraints(max_length=LABEL_MAX)]


class WindowStatus(Observed):
    """The window that the figures are about."""

    id: Shown = ""
    """As in 2026-11."""
    starts_at: Shown = ""
    ends_at: Shown = ""


class SidecarCounts(Observed):
    """Sidecars that hold a part of the budget."""

    reporting: int = 0
    """Heard of lately."""
    silent: int = 0
    """Not heard of; what they hold stays set aside until their pods are gone."""


class Amounts(Observed):
    """The figures for programs, whole numbers in `unit`. `committed`: a rebuilt ledger cannot fall below it."""

    unit: Unit = Unit.PICODOLLARS
    """Picodollars are 1e-12 USD."""
    limit: Int64 = 0
    """Without overdraft; with `per` that of each value, while all else is the sum over the values."""
    overdraft: Int64 = 0
    spent: Int64 = 0
    uncertain: Int64 = 0
    """Of `spent`: the provider's bill is no less than `spent` without it."""
    granted: Int64 = 0
    forfeited: Int64 = 0
    committed: Int64 = 0
    shards: Annotated[tuple[Int64, ...], Field(max_length=SHARDS_MAX)] = ()
    """With `per`: `committed` of each of the ledgers that the values are spread over."""
    burn: Int64 = 0
    """Per hour, as shown in burnRate."""
    forecast: Int64 = 0


class ValueSpent(Observed):
    """One user, feature or pod, or a combination of them."""

    value: Label = ""
    """As in alice, or alice/search; `-` stands for none, `~` begins the digest of a name that is long or not plain."""
    spent: Shown = ""
    used: Shown = ""
    """In percent of the limit."""


class ValuesStatus(Observed):
    """With `per`: what became of the values."""

    count: int = 0
    """Values that were heard of in this window."""
    exhausted: int = 0
    """Those that have used 99% or more, overdraft included."""
    top: Annotated[tuple[ValueSpent, ...], Field(max_length=TOP_MAX)] = ()
    """Those that spent most, the greatest first."""


class NameSpent(Observed):
    """A model, feature or user, and what was spent on it."""

    name: Label = ""
    spent: Shown = ""


Names = Annotated[tuple[NameSpent, ...], Field(max_length=TOP_MAX + 1)]


class TopStatus(Observed):
    """Who spent most, as far as sidecars told; `(other)` is all the rest, so that each list adds up."""

    models: Names = ()
    features: Names = ()
    users: Names = ()


class Announcement(Observed):
    """A threshold that was reached in this window."""

    percent: int = 0
    values: int = 0
    """With `per`: values that have reached it; else 1."""
    told: int = 0
    """Those of them that the last Event spoke of."""
    at: Shown = ""
    """When it was posted."""


class LLMBudgetStatus(Observed):
    """Where the money went."""

    observed_generation: int = 0
    """The generation that this status speaks about."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16), ListMap("type")] = ()
    """Accepted: the spec is in force. Enforced: sidecars obey it. Reachable: no other budget keeps the limit from being
    reached. Exhausted: nothing is left in this window. Stale: the figures may be old."""
    window: WindowStatus = WindowStatus()
    """The current window."""
    limit: Shown = ""
    """The limit in force, as in 500.00 USD, 20000000 tokens or 5.00 USD/User."""
    spent: Shown = ""
    """Charged by providers in this window, as far as reported; with `per` the sum over all values."""
    leased: Shown = ""
    """Handed to sidecars and not spent yet."""
    remaining: Shown = ""
    """Neither spent nor set aside; empty with `per`, where each value has its own."""
    overdrawn: Shown = ""
    """With Soft: by how much the limit is passed."""
    pending_recall: Shown = ""
    """After the limit was lowered: what sidecars hold above it and are giving back."""
    used: Shown = ""
    """Spent and forfeited, in percent of the limit; with `per` that of the value that used most."""
    percent: int = 0
    """The same as a number."""
    burn_rate: Shown = ""
    """How fast it is spent, as in "1.23 USD/h": the mean of what was reported, with a weight that fades over ten
    minutes."""
    forecast: Shown = ""
    """What will be spent when the window ends, at that rate."""
    exhausted_at: Shown = ""
    """When nothing is left at that rate, or was; empty: not in this window, or with `per`."""
    values: ValuesStatus | None = None
    """With `per`: how many values there are, and which spent most."""
    top: TopStatus = TopStatus()
    """Models, features and users that spent most in this window."""
    announced: Annotated[tuple[Announcement, ...], Field(max_length=100)] = ()
    """Thresholds that were reached in this window and told."""
    resets_at: Shown = ""
    """When the next window begins."""
    state: BudgetState = BudgetState.PENDING
    """Active, Exhausted, Pending or Invalid."""
    reserved: Shown = ""
    """For calls under way."""
    forfeited: Shown = ""
    """Held by sidecars that ended without a last word; counted as spent until the window ends."""
    uncertain: Shown = ""
    """The part of spent that may not have been billed: calls were cut off, or sidecars killed, before the provider told
    what it charges, so they count at the most that they could cost."""
    unheard: Shown = ""
    """The part of leased whose sidecars are silent: it may be spent or not."""
    sidecars: SidecarCounts = SidecarCounts()
    """Sidecars that hold a part of the budget."""
    amounts: Amounts = Amounts()
    """The figures for programs."""
    last_accepted: Opaque = Field(default_factory=dict)
    """The last spec that was accepted; it stays in force while a newer one is not."""


@constrained(
    Constraint["LLMBudget"](
        cel=f"size(self.metadata.name) <= {NAME_LENGTH_MAX}",
        message=f"the name of an LLMBudget must have at most {NAME_LENGTH_MAX} characters: its ledgers bear it",
        holds=lambda budget: len(budget.metadata.name) <= NAME_LENGTH_MAX,
    )
)
class LLMBudget(Part):
    """Limits what pods may spend on LLM calls in an hour, a day, a week or a month."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: LLMBudgetSpec
    status: LLMBudgetStatus = LLMBudgetStatus()
