"""Circuit breakers, retry budgets, hedges and weights: from manifests to what sidecars obey."""

from __future__ import annotations

from tests.operator.core.manifest_fields import Fields, compiled, route

from keelage_api.codec import decode_config, encode
from keelage_api.proxy_config import CircuitBreaker, Hedge, ModelChoice, Retry, RetryBudget

TWO = [{"backend": "anthropic", "model": "claude-known"}, {"backend": "anthropic", "model": "claude-small"}]


def rules(**fields: object) -> list[Fields]:
    return [{"name": "all", "select": [{"tier": "fast"}], **fields}]


def test_what_is_not_written_has_the_defaults_of_a_sidecar() -> None:
    config = compiled([route()]).config_for({})
    assert [backend.circuit_breaker for backend in config.backends.values()] == [CircuitBreaker()]
    assert (config.rules[0].retry, config.rules[0].hedge) == (Retry(), None)
    assert [choice.weight for choice in config.rules[0].choices] == [None]


def test_all_that_is_written_reaches_the_sidecars() -> None:
    backend = {
        "name": "anthropic",
        "provider": "Anthropic",
        "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}},
        "circuitBreaker": {
            "consecutiveFailures": 3,
            "failurePercent": 30,
            "minCalls": 7,
            "window": "1m",
            "openTime": {"base": "1s", "max": "2m"},
            "probes": 2,
        },
    }
    models = [{**TWO[1], "weight": 5}, {**TWO[0], "weight": 95}]
    retry = {"attempts": 4, "budget": {"percent": 10, "minRetries": 0}}
    raw = route(
        backends=[backend],
        tiers=[{"name": "fast", "models": models}],
        rules=rules(retry=retry, hedge={"after": "1s500ms"}),
    )
    config = compiled([raw]).config_for({})
    assert config.backends["assistant/anthropic"].circuit_breaker == CircuitBreaker(3, 30, 7, 60_000, 1_000, 120_000, 2)
    assert config.rules[0].choices == (
        ModelChoice("assistant/anthropic", "claude-known", 95),
        ModelChoice("assistant/anthropic", "claude-small", 5),
    )
    assert config.rules[0].retry == Retry(4, budget=RetryBudget(10, 0))
    assert config.rules[0].hedge == Hedge(1_500)
    assert decode_config(encode(config)) == config


def test_a_hedge_at_the_percentile_is_one_without_a_time() -> None:
    raw = route(tiers=[{"name": "fast", "models": TWO}], rules=rules(hedge={}))
    namespace = compiled([raw])
    assert namespace.config_for({}).rules[0].hedge == Hedge(0)
    assert not namespace.routes["assistant"].problems


def test_a_hedge_with_nobody_to_ask_beside_is_told() -> None:
    found = compiled([route(rules=rules(hedge={"after": "P95"}))]).routes["assistant"]
    assert found.accepted
    (problem,) = found.problems
    assert (problem.reason, problem.refuses) == ("HedgeWithoutSecond", False)
    assert "all" in problem.message
