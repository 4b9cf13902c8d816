"""A budget as the ledger and the sidecars obey it: amounts in pico-dollars, its window, what it applies to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keelage_api.money import parse_usd
from keelage_api.proxy_config import BudgetTerms
from keelage_api.v1alpha1.llmbudget import Enforcement, LLMBudgetSpec
from keelage_api.v1alpha1.metadata import LabelSelector
from keelage_api.window import Every

ALL_PODS = LabelSelector()


@dataclass(frozen=True, slots=True)
class BudgetInForce:
    name: str
    """`<namespace>/<budget>`."""
    uid: str
    limit: int
    """Pico-dollars per window."""
    every: Every
    zone: str
    """A key of the IANA database that is known to exist."""
    hard: bool
    pod_selector: LabelSelector = ALL_PODS
    routes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    thresholds: tuple[int, ...] = ()
    """Percent of the limit, ascending: to be told once per window."""

    @property
    def terms(self) -> BudgetTerms:
        """What a sidecar needs to know to say which calls count."""
        return BudgetTerms(
            name=self.name, hard=self.hard, routes=self.routes, models=self.models, features=self.features
        )

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether the calls of a pod with these labels may fall under the budget."""
        return self.pod_selector.matches(labels)


def in_force(name: str, uid: str, spec: LLMBudgetSpec) -> BudgetInForce:
    """The terms of an accepted spec; `name` is `<namespace>/<budget>`."""
    return BudgetInForce(
        name=name,
        uid=uid,
        limit=parse_usd(spec.limit.amount),
        every=spec.window.every,
        zone=spec.window.time_zone,
        hard=spec.enforcement is Enforcement.HARD,
        pod_selector=spec.applies.pod_selector,
        routes=tuple(spec.applies.routes),
        models=tuple(spec.applies.models),
        features=tuple(spec.applies.features),
        thresholds=tuple(sorted(threshold.percent for threshold in spec.thresholds)),
    )
