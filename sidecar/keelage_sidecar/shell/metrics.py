"""Counters of this sidecar: plain integers on the hot path, Prometheus families at the scrape.

Names follow OpenTelemetry's GenAI conventions where there are any; money has no convention
and a prefix of its own. Labels are bounded: models beyond the first hundred are `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import UNSET

from keelage_api.account import RATE_WINDOW
from keelage_api.proxy_config import Dialect, Unit
from keelage_api.sync import SavedBy
from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.health import ModelHealth
from keelage_sidecar.core.latency import GuardFigures
from keelage_sidecar.core.log_line import CallRecord
from keelage_sidecar.core.prompt_cache_book import Key, State
from keelage_sidecar.core.response_cache import ResponseCache
from keelage_sidecar.core.savings import Saved
from keelage_sidecar.shell.choice_metrics import ChoiceMetrics
from keelage_sidecar.shell.escalation_metrics import EscalationMetrics
from keelage_sidecar.shell.exposition import (
    CONTENT_TYPE,
    CounterFamily,
    Family,
    GaugeFamily,
    HistogramFamily,
    exposition,
)
from keelage_sidecar.shell.prompt_cache_metrics import PromptCacheMetrics
from keelage_sidecar.shell.response_cache_metrics import ResponseCacheMetrics
from keelage_sidecar.shell.shared_answers import SharedFigures

MODELS_MAX = 100
ERRORS_MAX = 50
"""Error types come from providers as they please; a label's values are bounded."""
ERROR_LENGTH_MAX = 64
LIMITS_MAX = 100
"""Names of rate limits come from the configuration; hundreds of them are more than a metric should bear."""
TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
DURATION_BUCKETS = tuple(round(0.01 * 2**power, 2) for power in range(17))
"""OpenTelemetry's end at 81.92 s; calls may last ten minutes."""
FIRST_TOKEN_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PICO = 1e12

_OPERATIONS: dict[str, str] = {
    Kind.MESSAGES: "chat",
    Kind.CHAT: "chat",
    Kind.RESPONSES: "chat",
    Kind.EMBEDDINGS: "embeddings",
}
_CALL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class Figures(Protocol):
    """What the lease keeper tells of one budget or rate and window, in its unit."""

    @property
    def budget(self) -> str: ...
    @property
    def window(self) -> str: ...
    @property
    def granted(self) -> int: ...
    @property
    def spent(self) -> int: ...
    @property
    def reserved(self) -> int: ...
    @property
    def unit(self) -> Unit: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds at the moment of the scrape."""

    config_version: str
    config_error: bool
    missing_credentials: int
    active_calls: int
    upstream_connects: int
    open_batches: int
    figures: tuple[Figures, ...]
    models: tuple[ModelHealth, ...]
    """Those that were asked last come last."""
    cache: ResponseCache
    guards: tuple[GuardFigures, ...] = ()
    """Of latency budgets; those that were asked about last come last."""
    shared: tuple[SharedFigures, ...] = ()
    """Servers where answers are shared."""
    savings: tuple[tuple[str, SavedBy, Saved], ...] = ()
    """By route and kind."""
    prompt_caches: tuple[tuple[Key, State], ...] = ()


class Histogram:
    """Buckets of one label set."""

    __slots__ = ("_buckets", "counts", "total")

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self._buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._buckets, value)] += 1
        self.total += value


class Histograms:
    """One metric with labels."""

    def __init__(self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...]) -> None:
        self._name, self._text, self._buckets, self._labels = name, text, buckets, labels
        self._of: dict[tuple[str, ...], Histogram] = {}

    def of(self, *labels: str) -> Histogram:
        histogram = self._of.get(labels)
        if histogram is None:
            histogram = self._of[labels] = Histogram(self._buckets)
        return histogram

    def family(self) -> HistogramFamily:
        family = HistogramFamily(self._name, self._text, self._labels)
        for labels, histogram in self._of.items():
            family.add_buckets(labels, self._buckets, histogram.counts, histogram.total)
        return family


class Series(msgspec.Struct, frozen=True, eq=False):
    """What calls of one operation, provider, model and error are counted in."""

    duration: Histogram
    first_token: Histogram
    input: Histogram
    output: Histogram


class Metrics:
    """Told of every call once; read by `exposition`."""

    def __init__(self, standing: Callable[[], Standing]) -> None:
        self._standing = standing
        self._models: set[str] = set()
        self._errors: set[str] = set()
        self._tokens = Histograms(
            "gen_ai_client_token_usage", "Billable tokens of a call", TOKEN_BUCKETS, (*_CALL, "gen_ai_token_type")
        )
        self._duration = Histograms(
            "gen_ai_client_operation_duration_seconds", "Duration of a call", DURATION_BUCKETS, (*_CALL, "error_type")
        )
        self._first_token = Histograms(
            "gen_ai_server_time_to_first_token_seconds", "Until the first byte of a stream", FIRST_TOKEN_BUCKETS, _CALL
        )
        self._series: dict[tuple[str, str, str], Series] = {}
        """By endpoint, model and error, as many as the labels allow."""
        self._cost: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._calls: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._inner: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._choices = ChoiceMetrics()
        self._refusals: defaultdict[tuple[str], int] = defaultdict(int)
        self._retries: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._hedges: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._escalations = EscalationMetrics()
        self._clamped: defaultdict[tuple[str], int] = defaultdict(int)
        self._downgraded: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._answers = ResponseCacheMetrics()
        self._limited: defaultdict[tuple[str], int] = defaultdict(int)
        self._queued: defaultdict[tuple[str], int] = defaultdict(int)
        self._queue_s: defaultdict[tuple[str], float] = defaultdict(float)
        self._caching = PromptCacheMetrics()
        self._violations = 0
        self._uncertain = 0
        self._unlimited = 0
        self._waited = 0.0

    def tell(self, record: CallRecord) -> None:
        """Count a call that has ended."""
        if isinstance(record.purpose, str):
            self._inner[record.route, record.purpose, record.outcome] += 1
        else:
            self._calls[record.route, record.outcome] += 1
        if record.outcome == "refused":
            self._refusals[(record.reason,)] += 1
        if record.attempts > 1:
            self._retries[record.route, record.backend] += record.attempts - 1
        if record.hedge:
            self._hedges[record.route, record.hedge] += 1
        if record.cache:
            self._answers.tell(record)
        if record.cascade is not UNSET or record.latency is not UNSET:
            self._escalations.tell(record)
        self._violations += record.bound_violated
        self._uncertain += record.uncertain
        self._waited += record.wait_ms / 1000
        if record.selected_by or record.shadow_rule is not UNSET or record.shadow_budgets is not UNSET:
            self._choices.tell(record)
        if record.clamped or record.downgraded or record.limit or record.unlimited or record.queue_ms:
            self._tell_limits(record)
        if record.attempts and record.endpoint in _OPERATIONS:
            self._tell_work(record)
        elif record.endpoint == Kind.NEW_BATCH and record.cost:
            # Only money: what a batch took in hours and millions of tokens is no call's duration or size.
            model = self._model(record.model, known=record.usage_known)
            self._cost[record.route, record.backend, model] += record.cost

    def _tell_work(self, record: CallRecord) -> None:
        """What a provider did for the call."""
        model = record.model if record.model in self._models else self._model(record.model, known=record.usage_known)
        self._cost[record.route, record.backend, model] += record.cost
        error = "" if record.outcome == "ok" else self._error(record.reason or record.outcome)
        series = self._series.get((record.endpoint, model, error))
        if series is None:
            series = self._series[record.endpoint, model, error] = self._new_series(record.endpoint, model, error)
        series.duration.observe(record.latency_ms / 1000)
        if record.stream and record.first_token_ms is not None:
            series.first_token.observe(record.first_token_ms / 1000)
        if record.usage_known:
            series.input.observe(record.prompt_tokens)
            series.output.observe(record.output_tokens)

        if record.cache_read_tokens or record.cache_write_5m_tokens or record.cache_write_1h_tokens:
            self._caching.tell(record, model)

    def _new_series(self, endpoint: str, model: str, error: str) -> Series:
        provider = Dialect.ANTHROPIC if endpoint == Kind.MESSAGES else Dialect.OPENAI
        labels = (_OPERATIONS[endpoint], provider.value, model)
        return Series(
            self._duration.of(*labels, error),
            self._first_token.of(*labels),
            self._tokens.of(*labels, "input"),
            self._tokens.of(*labels, "output"),
        )

    def _tell_limits(self, record: CallRecord) -> None:
        """What budgets and rates did to a call short of ending it, and which rate refused it."""
        if record.clamped:
            self._clamped[(record.route,)] += 1
        if record.downgraded:
            self._downgraded[record.route, record.downgraded] += 1
        if record.limit:
            known = (record.limit,) in self._limited or len(self._limited) < LIMITS_MAX
            self._limited[(record.limit if known else "other",)] += 1
        self._unlimited += record.unlimited
        if record.queue_ms:
            self._queued[(record.route,)] += 1
            self._queue_s[(record.route,)] += record.queue_ms / 1000

    def exposition(self) -> tuple[bytes, bytes]:
        """Content type and text."""
        return CONTENT_TYPE, exposition(self._families())

    def _families(self) -> Iterator[Family]:
        yield self._tokens.family()
        yield self._duration.family()
        yield self._first_token.family()
        yield _counter(
            "keelage_cost_usd",
            "Charged to budgets, all attempts together",
            ("route", "backend", "gen_ai_request_model"),
            ((labels, pico / PICO) for labels, pico in self._cost.items()),
        )
        yield _counter("keelage_calls", "Calls by how they ended", ("route", "outcome"), self._calls.items())
        yield _counter(
            "keelage_inner_calls",
            "Calls that the sidecar made itself, by purpose and how they ended",
            ("route", "purpose", "outcome"),
            self._inner.items(),
        )
        yield from self._choices.families()
        yield _counter("keelage_refusals", "Calls that were refused", ("reason",), self._refusals.items())
        yield _counter("keelage_retries", "Attempts after the first", ("route", "backend"), self._retries.items())
        yield _counter(
            "keelage_hedges", "Calls with a second attempt beside the first", ("route", "result"), self._hedges.items()
        )
        yield _counter("keelage_bound_violations", "Bills above their bound: must stay 0", (), [((), self._violations)])
        yield _counter("keelage_uncertain_charges", "Calls charged without full evidence", (), [((), self._uncertain)])
        yield _counter("keelage_budget_wait_seconds", "Time calls waited for money", (), [((), self._waited)])
        yield _counter(
            "keelage_clamped_calls", "Output cap lowered to what a budget could pay", ("route",), self._clamped.items()
        )
        yield _counter(
            "keelage_downgraded_calls",
            "Calls that a budget gave a cheaper tier",
            ("route", "tier"),
            self._downgraded.items(),
        )
        yield _counter(
            "keelage_rate_limited_calls", "Calls that a rate limit refused", ("limit",), self._limited.items()
        )
        yield _counter("keelage_queued_calls", "Calls that waited for a rate", ("route",), self._queued.items())
        yield _counter("keelage_queue_wait_seconds", "Time calls waited for a rate", ("route",), self._queue_s.items())
        yield _counter(
            "keelage_unlimited_calls",
            "Calls past a rate that nobody could be asked about",
            (),
            [((), self._unlimited)],
        )
        standing = self._standing()
        yield from self._answers.families(standing.cache, standing.shared)
        yield from _lease_gauges(standing.figures)
        yield from _model_figures(standing.models[-MODELS_MAX:])
        yield from self._escalations.families(standing.guards[-MODELS_MAX:], standing.savings)
        yield from self._caching.families(standing.prompt_caches[-MODELS_MAX:])
        info = GaugeFamily("keelage_config_info", "The configuration in force", labels=("version",))
        info.add((standing.config_version,), 1)
        yield info
        yield GaugeFamily("keelage_config_refused", "A newer one was refused", value=standing.config_error)
        yield GaugeFamily("keelage_missing_credentials", "Keys not there", value=standing.missing_credentials)
        yield GaugeFamily("keelage_active_calls", "Being answered", value=standing.active_calls)
        yield GaugeFamily("keelage_open_batches", "Whose cost is not known yet", value=standing.open_batches)
        yield _counter("keelage_upstream_connects", "Connections opened", (), [((), standing.upstream_connects)])

    def _model(self, name: str, *, known: bool) -> str:
        if name in self._models:
            return name
        if known and len(self._models) < MODELS_MAX:
            self._models.add(name)
            return name
        return "other"

    def _error(self, name: str) -> str:
        if name not in self._errors:
            if len(self._errors) >= ERRORS_MAX or len(name) > ERROR_LENGTH_MAX:
                return "other"
            self._errors.add(name)
        return name


def _lease_gauges(figures: tuple[Figures, ...]) -> Iterator[Family]:
    """Of budgets in money or tokens, and of rates; what was granted, spent and reserved of each."""
    for part in ("granted", "spent", "reserved"):
        text = f"What this sidecar was {part}" if part == "granted" else f"What this sidecar has {part}"
        money = GaugeFamily(f"keelage_budget_{part}_usd", text, labels=("budget", "window"))
        tokens = GaugeFamily(f"keelage_budget_{part}_tokens", text, labels=("budget", "window"))
        rates = GaugeFamily(f"keelage_rate_{part}", f"{text}, in the limit's unit", labels=("limit", "unit"))
        shown = 0
        for each in figures:
            amount = {"granted": each.granted, "spent": each.spent, "reserved": each.reserved}[part]
            if each.window == RATE_WINDOW:
                shown += 1
                if shown <= LIMITS_MAX:
                    rates.add((each.budget, each.unit), amount)
            elif each.unit is Unit.PICODOLLARS:
                money.add((each.budget, each.window), amount / PICO)
            else:
                tokens.add((each.budget, each.window), amount)
        yield from (money, tokens, rates)


def _model_figures(models: tuple[ModelHealth, ...]) -> Iterator[Family]:
    """What is known of each model at each backend."""
    labels = ("backend", "gen_ai_request_model")
    state = GaugeFamily(
        "keelage_upstream_breaker_state", "Circuit breaker: 0 closed, 1 half open, 2 open", labels=labels
    )
    for each in models:
        state.add((each.backend, each.model), each.state.value)
    yield state
    yield _counter(
        "keelage_upstream_breaker_opens",
        "How often a circuit breaker opened",
        labels,
        (((each.backend, each.model), each.opened) for each in models),
    )
    yield _counter(
        "keelage_upstream_set_aside",
        "How often a model was asked last for a while",
        (*labels, "cause"),
        (((each.backend, each.model, cause), count) for each in models for cause, count in each.times_aside),
    )
    yield _counter(
        "keelage_retries_refused",
        "Retries beyond the retry budget",
        labels,
        (((each.backend, each.model), each.retries_refused) for each in models),
    )


def _counter(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> CounterFamily:
    family = CounterFamily(name, text, labels=labels)
    for key, value in values:
        family.add(key, value)
    return family
