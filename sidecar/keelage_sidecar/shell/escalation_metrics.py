"""What cascades and latency budgets did with calls, and what was saved, for the scrape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from keelage_api.money import PICO_PER_USD
from keelage_api.sync import SavedBy
from keelage_sidecar.core.latency import GuardFigures
from keelage_sidecar.core.log_line import CallRecord
from keelage_sidecar.core.savings import Saved
from keelage_sidecar.shell.exposition import CounterFamily, Family, GaugeFamily

_GUARD = ("backend", "gen_ai_request_model", "budget", "within_ms")


class EscalationMetrics:
    def __init__(self) -> None:
        self._cascades: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._otherwise: defaultdict[tuple[str, str, str], int] = defaultdict(int)

    def tell(self, record: CallRecord) -> None:
        """Count a call that has ended."""
        if record.cascade is not msgspec.UNSET:
            self._cascades[record.route, record.rule, record.cascade.outcome] += 1
        if record.latency is not msgspec.UNSET:
            self._otherwise[record.route, record.rule, record.latency.broken] += 1

    def families(
        self, guards: Iterable[GuardFigures], savings: Iterable[tuple[str, SavedBy, Saved]]
    ) -> Iterator[Family]:
        yield _counter(
            "keelage_cascade",
            "Calls whose first answer was judged, by what became of it",
            ("route", "rule", "outcome"),
            self._cascades,
        )
        yield _counter(
            "keelage_latency_otherwise",
            "Calls that another tier took since the selected one was too slow",
            ("route", "rule", "budget"),
            self._otherwise,
        )
        text = "Latency budget of a model: 0 kept, 1 probing, 2 broken"
        state = GaugeFamily("keelage_latency_budget_state", text, labels=_GUARD)
        breaks = CounterFamily("keelage_latency_budget_breaks", "How often it was broken", labels=_GUARD)
        for each in guards:
            labels = (each.backend, each.model, each.bound.value, str(each.within_ms))
            state.add(labels, each.state.value)
            breaks.add(labels, each.broken)
        yield state
        yield breaks
        # A gauge: what costs more than it saves takes from the sum.
        saved = GaugeFamily("keelage_saved_usd", "Saved by cascades and caches, an estimate", labels=("route", "by"))
        for route, by, each_saved in savings:
            saved.add((route, by.value), each_saved.amount / PICO_PER_USD)
        yield saved


def _counter(name: str, text: str, labels: tuple[str, ...], counts: dict[tuple[str, str, str], int]) -> CounterFamily:
    family = CounterFamily(name, text, labels=labels)
    for key, count in counts.items():
        family.add(key, count)
    return family
