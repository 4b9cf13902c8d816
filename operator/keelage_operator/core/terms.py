"""A budget as the ledger and the sidecars obey it: amounts in its unit, its window, what it applies to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keelage_api.money import parse_usd
from keelage_api.proxy_config import BudgetTerms, Downgrade, Per, Unit
from keelage_api.v1alpha1.limit import Limit, Overdraft
from keelage_api.v1alpha1.llmbudget import Do, Enforcement, LLMBudgetSpec
from keelage_api.v1alpha1.metadata import LabelSelector
from keelage_api.v1alpha1.mode import Mode
from keelage_api.window import Every
from keelage_operator.core.shard import SHARDS

ALL_PODS = LabelSelector()


@dataclass(frozen=True, slots=True)
class BudgetInForce:
    name: str
    """`<namespace>/<budget>`."""
    uid: str
    limit: int
    """Per window, in `unit`; for each value where the budget is `valued`."""
    every: Every
    zone: str
    """A key of the IANA database that is known to exist."""
    hard: bool
    """Calls are refused at `cap`; false: only counted."""
    pod_selector: LabelSelector = ALL_PODS
    routes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    thresholds: tuple[int, ...] = ()
    """Percent of the limit, ascending: to be told once per window."""
    downgrades: tuple[Downgrade, ...] = ()
    """Those of the thresholds that downgrade, ascending."""
    unit: Unit = Unit.PICODOLLARS
    """PICODOLLARS or TOKENS."""
    per: tuple[Per, ...] = ()
    """The limit holds for each combination of their values; empty: for all calls together. In the order of `Per`:
    [Feature, User] is the same limit as [User, Feature]."""
    overdraft: int = 0
    """By how much the limit may be passed before calls are refused, in `unit`."""
    soft: bool = False
    """Enforcement is Soft: whether the limit is passed is shown, also where it may not be."""
    shadow: bool = False
    """What it would do is only told."""

    @property
    def cap(self) -> int:
        """What the ledger may grant in all."""
        return self.limit + self.overdraft

    @property
    def valued(self) -> bool:
        """Whether there is an account for each value."""
        return bool(self.per)

    @property
    def shards(self) -> int:
        """Ledgers per window among which the accounts are spread."""
        return SHARDS if self.valued else 1

    @property
    def terms(self) -> BudgetTerms:
        """What a sidecar needs to know to say which calls count, and what becomes of them near the limit."""
        return BudgetTerms(
            name=self.name,
            hard=self.hard,
            routes=self.routes,
            models=self.models,
            features=self.features,
            unit=self.unit,
            per=self.per,
            downgrades=tuple(Downgrade(self._of_cap(each.percent), each.tier) for each in self.downgrades),
            shadow=self.shadow,
        )

    def _of_cap(self, percent: int) -> int:
        """The same part of the limit in percent of limit and overdraft, which is what sidecars are told as limit."""
        return percent if not self.overdraft else -(-percent * self.limit // self.cap)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether the calls of a pod with these labels may fall under the budget."""
        return self.pod_selector.matches(labels)


def in_force(name: str, uid: str, spec: LLMBudgetSpec) -> BudgetInForce:
    """The terms of an accepted spec; `name` is `<namespace>/<budget>`."""
    return BudgetInForce(
        name=name,
        uid=uid,
        limit=_amount(spec.limit),
        every=spec.window.every,
        zone=spec.window.time_zone,
        hard=spec.enforcement is not Enforcement.OBSERVE and spec.mode is Mode.ENFORCE,
        pod_selector=spec.applies.pod_selector,
        routes=tuple(spec.applies.routes),
        models=tuple(spec.applies.models),
        features=tuple(spec.applies.features),
        thresholds=tuple(sorted(threshold.percent for threshold in spec.thresholds)),
        downgrades=tuple(
            Downgrade(threshold.percent, threshold.tier)
            for threshold in sorted(spec.thresholds, key=lambda each: each.percent)
            if threshold.do is Do.DOWNGRADE and threshold.tier is not None
        ),
        unit=Unit.TOKENS if spec.limit.tokens is not None else Unit.PICODOLLARS,
        per=tuple(each for each in Per if each in spec.per),
        soft=spec.enforcement is Enforcement.SOFT,
        overdraft=_amount(spec.overdraft) if spec.overdraft is not None else 0,
        shadow=spec.mode is Mode.SHADOW,
    )


def _amount(given: Limit | Overdraft) -> int:
    """In the unit that it is written in."""
    return parse_usd(given.amount) if given.amount is not None else given.tokens or 0
