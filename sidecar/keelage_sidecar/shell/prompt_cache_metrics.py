"""Counters of what the providers' prompt caches did, for the scrape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from keelage_sidecar.core.log_line import CallRecord
from keelage_sidecar.core.prompt_cache import Extent
from keelage_sidecar.core.prompt_cache_book import Key, State
from keelage_sidecar.shell.exposition import CounterFamily, Family, GaugeFamily

_EXTENTS = tuple(Extent)
_LABELS = ("route", "gen_ai_request_model", "by")


class PromptCacheMetrics:
    """`by`: who asked for the cache, keelage or the application (or the provider unasked)."""

    def __init__(self) -> None:
        self._read: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._written: defaultdict[tuple[str, str, str], int] = defaultdict(int)

    def tell(self, record: CallRecord, model: str) -> None:
        """Count a call in which a cache was read or written; `model` as a label may name it."""
        labels = (record.route, model, "keelage" if record.prompt_cache in _EXTENTS else "application")
        self._read[labels] += record.cache_read_tokens
        self._written[labels] += record.cache_write_5m_tokens + record.cache_write_1h_tokens

    def families(self, states: tuple[tuple[Key, State], ...]) -> Iterator[Family]:
        """`states`: of the breakpoints, now."""
        read = CounterFamily("keelage_prompt_cache_read_tokens", "Input tokens that prompt caches had", labels=_LABELS)
        written = CounterFamily(
            "keelage_prompt_cache_written_tokens", "Input tokens written to prompt caches", labels=_LABELS
        )
        for family, tokens in ((read, self._read), (written, self._written)):
            for labels, count in tokens.items():
                family.add(labels, count)
            yield family
        state = GaugeFamily(
            "keelage_prompt_cache_state",
            "Breakpoints of keelage: 0 off as they do not pay, 1 tried again, 2 on",
            labels=("route", "rule", "backend", "gen_ai_request_model", "extent"),
        )
        for key, value in states:
            state.add((key.route, key.rule, key.backend, key.model, key.extent), value.value)
        yield state
