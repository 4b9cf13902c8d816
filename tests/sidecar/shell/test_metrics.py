"""What a scrape may grow to, whatever providers answer."""

from __future__ import annotations

from dataclasses import replace

from keelage_api.proxy_config import Unit
from keelage_api.sync import SavedBy
from keelage_sidecar.core.account import AccountFigures
from keelage_sidecar.core.breaker import State
from keelage_sidecar.core.health import Cause, ModelHealth
from keelage_sidecar.core.latency import Bound, GuardFigures
from keelage_sidecar.core.log_line import CallRecord, Cascaded, Late, ShadowBudget, ShadowRule, Would
from keelage_sidecar.core.prompt_cache import Extent
from keelage_sidecar.core.prompt_cache_book import Key
from keelage_sidecar.core.prompt_cache_book import State as Caching
from keelage_sidecar.core.response_cache import KeptAnswer, ResponseCache
from keelage_sidecar.core.savings import Saved
from keelage_sidecar.shell.metrics import ERRORS_MAX, LIMITS_MAX, MODELS_MAX, Metrics, Standing


def standing() -> Standing:
    return Standing(
        config_version="1",
        config_error=False,
        missing_credentials=0,
        active_calls=0,
        upstream_connects=0,
        open_batches=0,
        figures=(),
        models=(),
        cache=ResponseCache(),
    )


def failed(error: str) -> CallRecord:
    return CallRecord("", "", "messages", "upstream_error", 400, model="m", attempts=1, reason=error)


def test_error_types_of_providers_do_not_grow_the_metrics_without_bound() -> None:
    metrics = Metrics(standing)
    for number in range(3 * ERRORS_MAX):
        metrics.tell(failed(f"error_{number}"))
    metrics.tell(failed("x" * 5_000))
    text = metrics.exposition()[1].decode()
    counts = [line for line in text.splitlines() if line.startswith("gen_ai_client_operation_duration_seconds_count")]
    assert len(counts) == ERRORS_MAX + 1
    [other] = [line for line in counts if 'error_type="other"' in line]
    assert other.endswith(f" {float(2 * ERRORS_MAX + 1)}")


def test_prompt_caches_are_counted_by_who_asked_for_them() -> None:
    key = Key("r", "all", "r/anthropic", "m", Extent.TURNS, long=False)
    metrics = Metrics(lambda: replace(standing(), prompt_caches=((key, Caching.TRYING),)))
    call = CallRecord("", "", "messages", "ok", 200, "r", model="m", attempts=1, usage_known=True)
    for extent, read, written, saved in (
        ("turns", 0, 100, -25),
        ("fixed", 70, 0, 10**12),
        ("off", 5, 1, 0),
        ("", 5, 1, 0),
    ):
        call.prompt_cache, call.prompt_cache_saved = extent, saved
        call.cache_read_tokens, call.cache_write_5m_tokens, call.cache_write_1h_tokens = (
            read,
            written // 2,
            written - written // 2,
        )
        metrics.tell(call)
    lines = metrics.exposition()[1].decode().splitlines()
    for by, read, written in (("keelage", 70, 100), ("application", 10, 2)):
        labels = f'{{by="{by}",gen_ai_request_model="m",route="r"}}'
        assert f"keelage_prompt_cache_read_tokens_total{labels} {float(read)}" in lines
        assert f"keelage_prompt_cache_written_tokens_total{labels} {float(written)}" in lines
    labels = '{backend="r/anthropic",extent="turns",gen_ai_request_model="m",route="r",rule="all"}'
    assert f"keelage_prompt_cache_state{labels} 1.0" in lines


def test_what_the_response_cache_did_and_what_it_holds_is_shown() -> None:
    cache = ResponseCache()
    cache.keep(b"key", KeptAnswer((), b"{}", 0.0, 5, "m", "stop"))
    metrics = Metrics(lambda: replace(standing(), cache=cache))
    for result in ("miss", "hit", "hit"):
        metrics.tell(CallRecord(outcome="ok", route="r", rule="all", cache=result))
    lines = metrics.exposition()[1].decode().splitlines()
    for line in (
        'keelage_response_cache_calls_total{result="hit",route="r",rule="all"} 2.0',
        'keelage_response_cache_calls_total{result="miss",route="r",rule="all"} 1.0',
        "keelage_response_cache_answers 1.0",
        f"keelage_response_cache_bytes {float(cache.size)}",
        "keelage_response_cache_evictions_total 0.0",
    ):
        assert line in lines


def test_what_budgets_and_rates_did_to_calls_is_counted() -> None:
    metrics = Metrics(standing)
    metrics.tell(CallRecord("", "", "messages", "ok", 200, "r", clamped=256, downgraded="fast", queue_ms=1_500))
    for number in range(2 * LIMITS_MAX):
        metrics.tell(CallRecord("", "", "messages", "refused", 429, "r", reason="RateLimited", limit=f"shop/l{number}"))
    lines = metrics.exposition()[1].decode().splitlines()
    for line in (
        'keelage_clamped_calls_total{route="r"} 1.0',
        'keelage_downgraded_calls_total{route="r",tier="fast"} 1.0',
        'keelage_queued_calls_total{route="r"} 1.0',
        'keelage_queue_wait_seconds_total{route="r"} 1.5',
        'keelage_rate_limited_calls_total{limit="shop/l0"} 1.0',
        f'keelage_rate_limited_calls_total{{limit="other"}} {float(LIMITS_MAX)}',
    ):
        assert line in lines
    assert sum(line.startswith("keelage_rate_limited_calls_total{") for line in lines) == LIMITS_MAX + 1


def test_what_became_of_cascades_is_counted_and_what_they_saved_may_fall() -> None:
    saved = (("r", SavedBy.CASCADE, Saved(-5 * 10**11, 3, 1)),)
    metrics = Metrics(lambda: replace(standing(), savings=saved))
    for outcome in ("kept", "kept", "escalated"):
        metrics.tell(CallRecord("", "", "messages", "ok", 200, "r", "all", cascade=Cascaded(outcome, 0)))
    lines = metrics.exposition()[1].decode().splitlines()
    assert 'keelage_cascade_total{outcome="kept",route="r",rule="all"} 2.0' in lines
    assert 'keelage_cascade_total{outcome="escalated",route="r",rule="all"} 1.0' in lines
    assert 'keelage_saved_usd{by="Cascade",route="r"} -0.5' in lines


def test_latency_budgets_and_the_calls_that_they_moved_are_shown() -> None:
    guards = (GuardFigures("r/anthropic", "m", Bound.FIRST_TOKEN, 5_000, State.OPEN, 1),)
    metrics = Metrics(lambda: replace(standing(), guards=guards))
    metrics.tell(CallRecord("", "", "messages", "ok", 200, "r", "all", latency=Late("firstTokenWithin", "deep")))
    lines = metrics.exposition()[1].decode().splitlines()
    assert 'keelage_latency_otherwise_total{budget="firstTokenWithin",route="r",rule="all"} 1.0' in lines
    labels = 'backend="r/anthropic",budget="firstTokenWithin",gen_ai_request_model="m",within_ms="5000"'
    assert f"keelage_latency_budget_state{{{labels}}} 2.0" in lines
    assert f"keelage_latency_budget_breaks_total{{{labels}}} 1.0" in lines


def test_what_is_in_shadow_is_counted_with_what_it_would_have_cost_more() -> None:
    metrics = Metrics(standing)
    for difference in (-2 * 10**12, 5 * 10**11):
        rule = ShadowRule("r", "mini", difference_picodollars=difference)
        refused = (ShadowBudget("shop/day", Would.REFUSE),)
        metrics.tell(CallRecord("", "", "messages", "ok", 200, "r", shadow_rule=rule, shadow_budgets=refused))
    lines = metrics.exposition()[1].decode().splitlines()
    for line in (
        'keelage_shadow_rule_calls_total{route="r",rule="mini"} 2.0',
        'keelage_shadow_rule_difference_usd{route="r",rule="mini"} -1.5',
        'keelage_shadow_budget_calls_total{budget="shop/day",would="refuse"} 2.0',
    ):
        assert line in lines


def test_leases_are_shown_in_their_units() -> None:
    figures = (
        AccountFigures("shop/month", "2026-11", 5 * 10**12, 2 * 10**12, 10**12),
        AccountFigures("shop/tokens", "2026-11.tokens", 900, 300, 0, unit=Unit.TOKENS),
        AccountFigures("shop/rate:r/all:0", "rate", 20, 7, 1, unit=Unit.REQUESTS),
    )
    lines = Metrics(lambda: replace(standing(), figures=figures)).exposition()[1].decode().splitlines()
    for line in (
        'keelage_budget_granted_usd{budget="shop/month",window="2026-11"} 5.0',
        'keelage_budget_spent_usd{budget="shop/month",window="2026-11"} 2.0',
        'keelage_budget_spent_tokens{budget="shop/tokens",window="2026-11.tokens"} 300.0',
        'keelage_rate_reserved{limit="shop/rate:r/all:0",unit="Requests"} 1.0',
    ):
        assert line in lines
    assert not any("tokens" in line and "_usd{" in line for line in lines)


def test_the_state_of_each_models_circuit_is_shown_and_what_was_kept_from_it() -> None:
    model = ModelHealth("r/a", "m", State.OPEN, 2, 7, ((Cause.LIMITED, 3),))
    metrics = Metrics(lambda: replace(standing(), models=(model,)))
    metrics.tell(CallRecord("", "", "messages", "ok", 200, "r", attempts=2, hedge="won"))
    lines = metrics.exposition()[1].decode().splitlines()
    for line in (
        'keelage_upstream_breaker_state{backend="r/a",gen_ai_request_model="m"} 2.0',
        'keelage_upstream_breaker_opens_total{backend="r/a",gen_ai_request_model="m"} 2.0',
        'keelage_upstream_set_aside_total{backend="r/a",cause="Limited",gen_ai_request_model="m"} 3.0',
        'keelage_retries_refused_total{backend="r/a",gen_ai_request_model="m"} 7.0',
        'keelage_hedges_total{result="won",route="r"} 1.0',
    ):
        assert line in lines


def test_models_that_applications_invent_do_not_grow_the_metrics_without_bound() -> None:
    models = tuple(ModelHealth("r/a", f"m{number}", State.CLOSED, 0, 0, ()) for number in range(3 * MODELS_MAX))
    text = Metrics(lambda: replace(standing(), models=models)).exposition()[1].decode()
    assert text.count("keelage_upstream_breaker_state{") == MODELS_MAX


def test_calls_of_the_sidecar_itself_cost_money_and_are_counted_apart() -> None:
    metrics = Metrics(standing)
    metrics.tell(CallRecord("", "", "messages", "ok", 200, "r", backend="r/a", model="m", attempts=1, usage_known=True,
                            cost=10**12, purpose="classifier"))  # fmt: skip
    lines = metrics.exposition()[1].decode().splitlines()
    assert 'keelage_inner_calls_total{outcome="ok",purpose="classifier",route="r"} 1.0' in lines
    assert 'keelage_cost_usd_total{backend="r/a",gen_ai_request_model="m",route="r"} 1.0' in lines
    assert not any(line.startswith("keelage_calls_total{") for line in lines)
