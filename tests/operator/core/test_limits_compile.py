"""Units, values, overdrafts, downgrades and rates: from manifests to what ledger and sidecars obey."""

from __future__ import annotations

import pytest
from tests.operator.core.manifest_fields import Fields, budget, compiled, route

from keelage_api.codec import decode_config, encode
from keelage_api.proxy_config import (
    BudgetTerms,
    Downgrade,
    History,
    ModelChoice,
    Per,
    PromptCaching,
    Quota,
    Summary,
    Unit,
)
from keelage_operator.core.shard import SHARDS
from keelage_operator.core.terms import BudgetInForce


def in_force(**spec: object) -> BudgetInForce:
    found = compiled([], [budget(**spec)]).budgets["month"].in_force  # type: ignore[arg-type] # `amount` is never among them
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("spec", "unit", "limit", "overdraft", "hard"),
    [
        ({"limit": {"amount": "1.5"}}, Unit.PICODOLLARS, 1_500_000_000_000, 0, True),
        ({"limit": {"tokens": 20_000_000}}, Unit.TOKENS, 20_000_000, 0, True),
        ({"limit": {"tokens": 0}, "enforcement": "Observe"}, Unit.TOKENS, 0, 0, False),
        (
            {"limit": {"amount": "1"}, "enforcement": "Soft", "overdraft": {"amount": "0.25"}},
            Unit.PICODOLLARS,
            10**12,
            10**12 // 4,
            True,
        ),
        ({"limit": {"tokens": 10}, "enforcement": "Soft", "overdraft": {"tokens": 0}}, Unit.TOKENS, 10, 0, True),
    ],
)
def test_a_limit_is_whole_in_its_unit_and_the_cap_bears_the_overdraft(
    spec: Fields, unit: Unit, limit: int, overdraft: int, hard: bool
) -> None:
    found = in_force(**spec)
    assert (found.unit, found.limit, found.overdraft, found.hard) == (unit, limit, overdraft, hard)
    assert found.cap == limit + overdraft
    assert (found.valued, found.shards) == (False, 1)


def test_a_limit_for_each_value_is_the_same_in_whatever_order_it_is_written() -> None:
    one, other = in_force(per=["Feature", "User"]), in_force(per=["User", "Feature"])
    assert one == other
    assert one.per == (Per.USER, Per.FEATURE)
    assert (one.valued, one.shards) == (True, SHARDS)


def test_sidecars_learn_unit_values_and_downgrades_with_the_tiers_of_the_route() -> None:
    tiers = [
        {"name": "fast", "models": [{"backend": "anthropic", "model": "claude-known"}]},
        {"name": "cheap", "models": [{"backend": "anthropic", "model": "claude-small"}, {"backend": "anthropic"}]},
        {"name": "unused", "models": [{"backend": "anthropic"}]},
    ]
    month = budget(
        limit={"tokens": 1000},
        per=["User"],
        thresholds=[
            {"percent": 95, "do": "Downgrade", "tier": "cheap"},
            {"percent": 80},
            {"percent": 50, "do": "Downgrade", "tier": "fast"},
        ],
    )
    namespace = compiled([route(tiers=tiers)], [month])
    config = namespace.config_for({})
    assert config.budgets == (
        BudgetTerms(
            name="shop/month",
            hard=True,
            unit=Unit.TOKENS,
            per=(Per.USER,),
            downgrades=(Downgrade(50, "fast"), Downgrade(95, "cheap")),
        ),
    )
    assert config.tiers == {
        "assistant/fast": (ModelChoice("assistant/anthropic", "claude-known"),),
        "assistant/cheap": (
            ModelChoice("assistant/anthropic", "claude-small"),
            ModelChoice("assistant/anthropic", ""),
        ),
        "assistant/unused": (ModelChoice("assistant/anthropic", ""),),
    }
    assert decode_config(encode(config)) == config
    terms = namespace.budgets["month"].in_force
    assert terms is not None
    assert terms.thresholds == (50, 80, 95)


@pytest.mark.parametrize(
    ("limit", "overdraft", "percent", "told"),
    [("100", "0", 95, 95), ("100", "100", 80, 40), ("100", "50", 100, 67), ("0", "5", 80, 0)],
)
def test_a_downgrade_of_a_soft_budget_is_a_part_of_its_limit_not_of_its_overdraft(
    limit: str, overdraft: str, percent: int, told: int
) -> None:
    found = in_force(
        limit={"amount": limit},
        enforcement="Soft",
        overdraft={"amount": overdraft},
        thresholds=[{"percent": percent, "do": "Downgrade", "tier": "fast"}],
    )
    assert found.terms.downgrades == (Downgrade(told, "fast"),)


def test_rates_of_rules_and_limits_of_providers_are_quotas_of_the_pods_that_follow_the_route() -> None:
    raw = route(
        podSelector={"matchLabels": {"app": "assistant"}},
        backends=[
            {
                "name": "anthropic",
                "provider": "Anthropic",
                "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}},
                "limits": {
                    "requestsPerMinute": 4000,
                    "inputTokensPerMinute": 400_000,
                    "outputTokensPerMinute": 80_000,
                    "tokensPerDay": 50_000_000,
                    "concurrentRequests": 200,
                    "queue": {"depth": 7, "maxWait": "1500ms"},
                },
            }
        ],
        rules=[
            {
                "name": "chat",
                "select": [{"tier": "fast"}],
                "output": {"clampAtLeast": 256},
                "rateLimits": [{"per": "User", "requests": 20}, {"tokens": 10_000, "window": "5m"}],
            }
        ],
    )
    namespace = compiled([raw])
    config = namespace.config_for({"app": "assistant"})

    def limit(field: str, unit: Unit, most: int, window_ms: int) -> Quota:
        return Quota(
            f"shop/limit:assistant/anthropic:{field}",
            unit,
            most,
            window_ms,
            route="assistant",
            backend="assistant/anthropic",
            queue_depth=7,
            queue_wait_ms=1_500,
        )

    assert config.quotas == (
        Quota(
            "shop/rate:assistant/chat:r60s.u",
            Unit.REQUESTS,
            20,
            60_000,
            route="assistant",
            rule="chat",
            per=(Per.USER,),
        ),
        Quota("shop/rate:assistant/chat:t300s", Unit.TOKENS, 10_000, 300_000, route="assistant", rule="chat"),
        limit("requestsPerMinute", Unit.REQUESTS, 4000, 60_000),
        limit("inputTokensPerMinute", Unit.INPUT_TOKENS, 400_000, 60_000),
        limit("outputTokensPerMinute", Unit.OUTPUT_TOKENS, 80_000, 60_000),
        limit("tokensPerDay", Unit.TOKENS, 50_000_000, 86_400_000),
        limit("concurrentRequests", Unit.CONCURRENT, 200, 0),
    )
    assert config.rules[0].clamp_at_least == 256
    assert namespace.quotas() == config.quotas
    assert namespace.config_for({"app": "other"}).quotas == ()
    assert decode_config(encode(config)) == config


def test_what_a_rule_adds_to_calls_reaches_the_sidecars() -> None:
    rule = {"name": "chat", "select": [{"tier": "fast"}]}
    added = {
        "promptCache": {"ttl": "1h"},
        "output": {"stopSequences": ["END"]},
        "history": {"keepTurns": 3, "summarizeOver": {"tokens": 2000, "tier": "fast"}},
    }
    rules = [
        {**rule, **added, "matches": [{"models": ["a"]}]},
        {**rule, "name": "rest", "promptCache": {"insert": "Never"}, "history": {"keepTurns": 1}},
    ]
    config = compiled([route(rules=rules)]).config_for({"app": "assistant"})
    first, rest = config.rules
    assert (first.prompt_cache, first.stop_sequences) == (PromptCaching(long=True), ("END",))
    assert first.history == History(3, Summary(2000, "fast"))
    assert (rest.prompt_cache, rest.stop_sequences, rest.history) == (None, (), History(1))
    assert decode_config(encode(config)) == config


def rate_names(*limits: Fields) -> list[str]:
    rules = [{"name": "chat", "select": [{"tier": "fast"}], "rateLimits": [dict(each) for each in limits]}]
    return [quota.name for quota in compiled([route(rules=rules)]).quotas()]


def test_a_rate_keeps_its_name_in_another_place_and_with_another_amount() -> None:
    users, tokens = {"per": "User", "requests": 20}, {"tokens": 10_000, "window": "1500ms"}
    assert rate_names(users, tokens) == ["shop/rate:assistant/chat:r60s.u", "shop/rate:assistant/chat:t1500ms"]
    assert rate_names(tokens, users) == rate_names(users, tokens)[::-1]
    assert rate_names({**users, "requests": 5, "window": "1m"}) == rate_names(users)


def test_rates_that_count_differently_have_different_names() -> None:
    kinds = [
        {**per, **window, unit: 5}
        for per in ({}, {"per": "User"}, {"per": "Feature"}, {"per": "Pod"})
        for window in ({"window": "60s"}, {"window": "60001ms"})
        for unit in ("requests", "tokens")
    ]
    assert len({name for kind in kinds for name in rate_names(kind)}) == len(kinds)


def test_a_backends_calls_wait_in_a_queue_of_a_hundred_unless_it_says_otherwise() -> None:
    backend = {
        "name": "anthropic",
        "provider": "Anthropic",
        "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}},
        "limits": {"concurrentRequests": 2},
    }
    (quota,) = compiled([route(backends=[backend])]).quotas()
    assert (quota.queue_depth, quota.queue_wait_ms) == (100, 5_000)


@pytest.mark.parametrize(
    ("limits", "rule", "told"),
    [
        (
            {"outputTokensPerMinute": 255},
            {},
            "spec.backends[anthropic].limits.outputTokensPerMinute: 255 output tokens",
        ),
        ({"outputTokensPerMinute": 256}, {}, ""),
        ({"outputTokensPerMinute": 100}, {"output": {"maxTokens": 100}}, ""),
        (
            {"tokensPerDay": 99},
            {"output": {"maxTokens": 100}},
            "spec.backends[anthropic].limits.tokensPerDay: 99 tokens",
        ),
        ({"inputTokensPerMinute": 1, "requestsPerMinute": 1, "concurrentRequests": 1}, {}, ""),
        (
            {},
            {"rateLimits": [{"per": "User", "tokens": 20}]},
            "spec.rules[all].rateLimits, 20 tokens in 60s for each User",
        ),
        ({}, {"rateLimits": [{"per": "User", "requests": 1}]}, ""),
    ],
)
def test_a_limit_below_what_one_call_is_expected_to_use_is_told(limits: Fields, rule: Fields, told: str) -> None:
    backend = {
        "name": "anthropic",
        "provider": "Anthropic",
        "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}},
        "limits": limits,
    }
    rules = [{"name": "all", "select": [{"tier": "fast"}], **rule}]
    found = compiled([route(backends=[backend], rules=rules)]).routes["assistant"]
    assert found.accepted
    assert [(each.reason, each.message.startswith(told)) for each in found.problems] == (
        [("LimitBelowOneCall", True)] if told else []
    )


def test_a_route_that_limits_nothing_has_no_quotas() -> None:
    assert compiled([route()]).config_for({}).quotas == ()


def test_a_model_that_only_a_downgrade_would_use_needs_a_price_too() -> None:
    tiers = [
        {"name": "fast", "models": [{"backend": "anthropic", "model": "claude-known"}]},
        {"name": "cheap", "models": [{"backend": "anthropic", "model": "claude-unheard-of"}]},
    ]
    down = [{"percent": 90, "do": "Downgrade", "tier": "cheap"}]
    (problem,) = compiled([route(tiers=tiers)], [budget(thresholds=down)]).routes["assistant"].problems
    assert problem.reason == "PriceUnknown"
    assert "model claude-unheard-of at spec.backends[anthropic] has no price" in problem.message
    assert compiled([route(tiers=tiers)], [budget()]).routes["assistant"].problems == ()


def test_tokens_need_no_price() -> None:
    tiers = [{"name": "fast", "models": [{"backend": "anthropic", "model": "claude-unheard-of"}]}]
    assert compiled([route(tiers=tiers)], [budget(limit={"tokens": 5})]).routes["assistant"].problems == ()


def test_models_that_only_write_summaries_need_a_price_too() -> None:
    models = [{"backend": "anthropic", "model": "claude-of-tomorrow"}]
    tiers = [{"name": "fast", "models": [{"backend": "anthropic", "model": "claude-known"}]}]
    history = {"keepTurns": 3, "summarizeOver": {"tokens": 2000, "tier": "new"}}
    rules = [{"name": "chat", "select": [{"tier": "fast"}], "history": history}]
    routes = [route(tiers=[*tiers, {"name": "new", "models": models}], rules=rules)]
    found = compiled(routes, [budget()]).routes["assistant"]
    assert [problem.reason for problem in found.problems] == ["PriceUnknown"]
