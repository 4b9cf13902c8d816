"""Counters of what kept answers did, for the scrape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from keelage_sidecar.core.log_line import CallRecord
from keelage_sidecar.core.response_cache import ResponseCache
from keelage_sidecar.shell.exposition import CounterFamily, Family, GaugeFamily
from keelage_sidecar.shell.shared_answers import SharedFigures


class ResponseCacheMetrics:
    """By what became of the calls of rules that keep answers."""

    def __init__(self) -> None:
        self._calls: defaultdict[tuple[str, str, str], int] = defaultdict(int)

    def tell(self, record: CallRecord) -> None:
        self._calls[record.route, record.rule, record.cache] += 1

    def families(self, cache: ResponseCache, shared: tuple[SharedFigures, ...]) -> Iterator[Family]:
        """`cache` and `shared`: as they are now."""
        calls = CounterFamily(
            "keelage_response_cache_calls",
            "Calls of rules that keep answers, by what became of them",
            labels=("route", "rule", "result"),
        )
        for labels, count in self._calls.items():
            calls.add(labels, count)
        yield calls
        yield GaugeFamily("keelage_response_cache_bytes", "Memory of kept answers", value=cache.size)
        yield GaugeFamily("keelage_response_cache_answers", "Answers kept", value=len(cache))
        yield CounterFamily(
            "keelage_response_cache_evictions", "Answers that made room for others", value=cache.evicted
        )
        up = GaugeFamily("keelage_shared_cache_up", "1: the server answers in time", labels=("server",))
        failures = CounterFamily(
            "keelage_shared_cache_failures", "How often the server could not be used", labels=("server",)
        )
        for each in shared:
            up.add((each.server,), each.up)
            failures.add((each.server,), each.failures)
        yield from (up, failures)
