"""The text that is scraped, read by the reference implementation's parser and compared with its own text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from keelage_sidecar.shell.exposition import CounterFamily, GaugeFamily, HistogramFamily, exposition

AWKWARD = 'a "quoted" \\ text\nof two lines, äöü'


class Given(Collector):
    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def read(text: bytes) -> Iterator[tuple[str, str, str, list[object]]]:
    for family in text_string_to_metric_families(text.decode()):
        yield family.name, family.type, family.documentation, list(family.samples)


def test_a_scrape_says_what_the_reference_implementation_says() -> None:
    calls = CounterFamily("calls", "Calls, by \\ how\nthey ended", ("route", "outcome"))
    calls.add(("r", "ok"), 12_345_678)
    calls.add((AWKWARD, ""), 0.25)
    took = HistogramFamily("took_seconds", "Durations", ("model",))
    took.add_buckets(("m",), (0.5, 4194304.0), (2, 0, 3), 12.5)
    none = CounterFamily("none_yet", "Nothing was counted", ("route",))
    ours = exposition((calls, none, GaugeFamily("open", "Now", value=3), took))
    theirs = CollectorRegistry(auto_describe=False)
    counter = CounterMetricFamily("calls", "Calls, by \\ how\nthey ended", labels=("route", "outcome"))
    counter.add_metric(["r", "ok"], 12_345_678)
    counter.add_metric([AWKWARD, ""], 0.25)
    histogram = HistogramMetricFamily("took_seconds", "Durations", labels=("model",))
    histogram.add_metric(["m"], [("0.5", 2.0), ("4194304.0", 2.0), ("+Inf", 5.0)], 12.5)
    theirs.register(
        Given(
            counter,
            CounterMetricFamily("none_yet", "Nothing was counted", labels=("route",)),
            GaugeMetricFamily("open", "Now", value=3),
            histogram,
        )
    )
    assert list(read(ours)) == list(read(generate_latest(theirs)))
