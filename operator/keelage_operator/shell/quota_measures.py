"""Metrics of the quotas in force, read from the book when they are asked for. By quota, never by value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from keelage_operator.shell.quota_book import QuotaFigures


class QuotaMeasures(Collector):
    def __init__(self, figures: Callable[[], Mapping[str, QuotaFigures]]) -> None:
        """`figures`: by quota; empty on a replica that does not lead."""
        self._figures = figures

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        labels = ("namespace", "quota")
        leased = CounterMetricFamily(
            "keelage_quota_leased", "Leased to sidecars since this replica leads, in the quota's unit.", labels=labels
        )
        refused = CounterMetricFamily(
            "keelage_quota_refusals", "Times that a sidecar was told that a call does not fit now.", labels=labels
        )
        values = GaugeMetricFamily(
            "keelage_quota_values", "Values of `per` that have used the quota within its window.", labels=labels
        )
        held = GaugeMetricFamily(
            "keelage_quota_held", "Leased and not used, as far as is known, in the quota's unit.", labels=labels
        )
        for name, found in self._figures().items():
            label = [*name.split("/", 1)]
            leased.add_metric(label, found.leased)
            refused.add_metric(label, found.refusals)
            values.add_metric(label, found.values)
            held.add_metric(label, found.held)
        yield from (leased, refused, values, held)
