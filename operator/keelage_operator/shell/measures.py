"""The operator's metrics. Budgets are read from the book when they are asked for: nothing to keep in step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from keelage_api.money import PICO_PER_USD
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.threshold import reached


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
        self.registry.register(_Budgets(in_force, figures))


class _Count(Collector):
    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text)
        family.add_metric([], self._read())
        yield family


class _Budgets(Collector):
    FIGURES = ("limit", "spent", "reserved", "leased", "forfeited", "uncertain")

    def __init__(
        self, in_force: Callable[[], Mapping[str, BudgetInForce]], figures: Callable[[str], LedgerFigures | None]
    ) -> None:
        self._in_force = in_force
        self._figures = figures

    def collect(self) -> Iterator[GaugeMetricFamily]:
        labels = ("namespace", "budget")
        amounts = {
            figure: GaugeMetricFamily(
                f"keelage_budget_{figure}_usd", f"US dollars {figure} in the current window.", labels=labels
            )
            for figure in self.FIGURES
        }
        sidecars = GaugeMetricFamily(
            "keelage_budget_sidecars", "Sidecars that hold a part of the budget.", labels=(*labels, "state")
        )
        passed = GaugeMetricFamily(
            "keelage_budget_threshold_reached",
            "1 when that part of the limit is used in the current window.",
            labels=(*labels, "percent"),
        )
        burn = GaugeMetricFamily(
            "keelage_budget_burn_usd_per_hour", "US dollars spent per hour, of late.", labels=labels
        )
        for name, terms in self._in_force().items():
            found = self._figures(name)
            if found is None:
                continue
            namespace, _, budget = name.partition("/")
            values = {
                "limit": found.limit,
                "spent": found.spent,
                "reserved": found.reserved,
                "leased": found.leased,
                "forfeited": found.forfeited,
                "uncertain": found.uncertain,
            }
            for figure, pico in values.items():
                amounts[figure].add_metric([namespace, budget], pico / PICO_PER_USD)
            sidecars.add_metric([namespace, budget, "reporting"], found.reporting)
            sidecars.add_metric([namespace, budget, "silent"], found.silent)
            burn.add_metric([namespace, budget], found.burn / PICO_PER_USD)
            behind = reached(terms.thresholds, found)
            for percent in terms.thresholds:
                passed.add_metric([namespace, budget, str(percent)], float(percent in behind))
        yield from (*amounts.values(), sidecars, burn, passed)
