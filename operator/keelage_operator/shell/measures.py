"""The operator's metrics. Budgets are read from the book when they are asked for: nothing to keep in step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import Unit
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.threshold import Passing, reached

Passings = dict[tuple[str, str, str], int]
"""Counts by budget (`<namespace>/<budget>`), percent and what is done."""


class Measures:
    """A registry of its own: two operators in one test process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconcile_s = Histogram(
            "keelage_reconcile_seconds", "Time of one run for one namespace, writes included.", registry=self.registry
        )
        self.reconcile_failures = Counter(
            "keelage_reconcile_failures", "Runs that the API server did not let end.", registry=self.registry
        )
        self.watch_missed = Counter(
            "keelage_watch_missed", "Differences that a list found and the watch had not told.", registry=self.registry
        )

        self.forbidden = Counter(
            "keelage_api_forbidden", "Requests for which the operator's role lacks a right.", registry=self.registry
        )

        self._passings: Passings = {}

    def threshold(self, namespace: str, budget: str, passing: Passing) -> None:
        """A status told of it."""
        key = f"{namespace}/{budget}", str(passing.percent), passing.do.value
        self._passings[key] = self._passings.get(key, 0) + passing.more

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A figure that is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A count that somebody else keeps; exposed with the suffix `_total`."""
        self.registry.register(_Count(name, text, read))

    def budgets(
        self, in_force: Callable[[], Mapping[str, BudgetInForce]], figures: Callable[[str], LedgerFigures | None]
    ) -> None:
        """Figures of every budget in force, by `<namespace>/<budget>`; only the leader has any."""
        self.registry.register(_Budgets(in_force, figures, self._passings))


class _Count(Collector):
    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text)
        family.add_metric([], self._read())
        yield family


class _Budgets(Collector):
    """Bounded by the budgets in force: values have no series of their own."""

    FIGURES: Mapping[str, Callable[[LedgerFigures], int]] = {
        "limit": lambda found: found.limit,
        "overdraft": lambda found: found.overdraft,
        "spent": lambda found: found.spent,
        "reserved": lambda found: found.reserved,
        "leased": lambda found: found.leased,
        "forfeited": lambda found: found.forfeited,
        "uncertain": lambda found: found.uncertain,
        "unheard": lambda found: found.unheard,
        "overdrawn": lambda found: found.overdrawn,
        "pending_recall": lambda found: found.pending_recall,
    }
    UNITS = (("usd", "US dollars"), ("tokens", "Tokens"))
    LABELS = ("namespace", "budget")

    def __init__(
        self,
        in_force: Callable[[], Mapping[str, BudgetInForce]],
        figures: Callable[[str], LedgerFigures | None],
        passings: Passings,
    ) -> None:
        self._in_force = in_force
        self._figures = figures
        self._passings = passings

    def collect(self) -> Iterator[Metric]:
        in_force = self._in_force()
        yield from self._gauges(in_force)
        yield self._told(in_force)

    def _told(self, in_force: Mapping[str, BudgetInForce]) -> CounterMetricFamily:
        told = CounterMetricFamily(
            "keelage_budget_threshold",
            "Thresholds that were told: each once per window, with `per` once per value and window.",
            labels=(*self.LABELS, "percent", "do"),
        )
        for key in [key for key in self._passings if key[0] not in in_force]:
            del self._passings[key]
        for (name, percent, do), count in self._passings.items():
            namespace, _, budget = name.partition("/")
            told.add_metric([namespace, budget, percent, do], count)
        return told

    def _gauges(self, in_force: Mapping[str, BudgetInForce]) -> Iterator[Metric]:
        amounts = {
            (figure, unit): GaugeMetricFamily(
                f"keelage_budget_{figure}_{unit}", f"{name} {figure} in the current window.", labels=self.LABELS
            )
            for unit, name in self.UNITS
            for figure in self.FIGURES
        }
        burns = {
            unit: GaugeMetricFamily(
                f"keelage_budget_burn_{unit}_per_hour", f"{name} per hour, of late.", labels=self.LABELS
            )
            for unit, name in self.UNITS
        }
        sidecars = GaugeMetricFamily(
            "keelage_budget_sidecars", "Sidecars that hold a part of the budget.", labels=(*self.LABELS, "state")
        )
        values = GaugeMetricFamily(
            "keelage_budget_values",
            "Users, features or pods with a limit of their own.",
            labels=(*self.LABELS, "state"),
        )
        passed = GaugeMetricFamily(
            "keelage_budget_threshold_reached",
            "Values that have used that part of the limit in the current window; 1 where the limit is everybody's.",
            labels=(*self.LABELS, "percent"),
        )
        for name, terms in in_force.items():
            found = self._figures(name)
            if found is None:
                continue
            namespace, _, budget = name.partition("/")
            unit, one = ("tokens", 1) if terms.unit is Unit.TOKENS else ("usd", PICO_PER_USD)
            for figure, amount in self.FIGURES.items():
                amounts[figure, unit].add_metric([namespace, budget], amount(found) / one)
            burns[unit].add_metric([namespace, budget], found.burn / one)
            sidecars.add_metric([namespace, budget, "reporting"], found.reporting)
            sidecars.add_metric([namespace, budget, "silent"], found.silent)
            if terms.valued:
                values.add_metric([namespace, budget, "exhausted"], found.values_exhausted)
                values.add_metric([namespace, budget, "open"], found.values - found.values_exhausted)
            behind = reached(terms, found)
            for percent in terms.thresholds:
                passed.add_metric([namespace, budget, str(percent)], behind.get(percent, 0))
        yield from (*amounts.values(), *burns.values(), sidecars, values, passed)
