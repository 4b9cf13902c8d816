"""Whether a budget's Downgrade tiers are there and save anything."""

from __future__ import annotations

import pytest
from tests.operator.core.manifest_fields import Fields, budget, compiled, route

DOWN = [{"percent": 90, "do": "Downgrade", "tier": "cheap"}]
DEEP = [{"name": "all", "select": [{"tier": "deep"}]}]


def tier(name: str, *models: str) -> Fields:
    """Models by name; an empty one is what the application asks for."""
    return {"name": name, "models": [{"backend": "anthropic", **({"model": each} if each else {})} for each in models]}


def backends(**prices: str) -> list[Fields]:
    return [
        {
            "name": "anthropic",
            "provider": "Anthropic",
            "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}},
            "prices": [
                {"model": model, "inputPerMTok": price, "outputPerMTok": price} for model, price in prices.items()
            ],
        }
    ]


def reasons(*routes: Fields, **spec: object) -> list[str]:
    spec = {"thresholds": DOWN, **spec}
    namespace = compiled(routes, [budget(**spec)])  # type: ignore[arg-type] # `amount` is never among them
    return [problem.reason for problem in namespace.budgets["month"].problems]


def test_a_tier_that_no_route_has_is_told_with_the_routes_that_could() -> None:
    namespace = compiled([route(tiers=[tier("deep", "claude-known")], rules=DEEP)], [budget(thresholds=DOWN)])
    (problem,) = namespace.budgets["month"].problems
    assert (problem.reason, problem.about, problem.refuses) == ("TierNotFound", "Enforced", False)
    assert "no LLMRoute that the budget applies to (here: assistant) has a tier cheap" in problem.message
    assert reasons() == ["TierNotFound"]


def test_a_tier_of_a_route_that_the_budget_does_not_apply_to_is_not_found() -> None:
    having = route("other", tiers=[tier("cheap", ""), tier("deep", "")], rules=DEEP)
    lacking = route(tiers=[tier("deep", "")], rules=DEEP)
    assert reasons(having, lacking) == []
    assert reasons(having, lacking, applies={"routes": ["assistant"]}) == ["TierNotFound"]
    labelled = {"podSelector": {"matchLabels": {"app": "x"}}}
    elsewhere = route(
        "other",
        tiers=[tier("cheap", ""), tier("deep", "")],
        rules=DEEP,
        podSelector={"matchLabels": {"app": "y"}},
    )
    assert reasons(elsewhere, lacking, applies=labelled) == ["TierNotFound"]


@pytest.mark.parametrize(
    ("cheap", "deep", "told"),
    [
        (("small",), ("large",), []),
        (("small", "small"), ("small", "large"), []),
        (("large",), ("large",), ["TierNotCheaper"]),
        (("large",), ("small",), ["TierNotCheaper"]),
        (("small", "large"), ("large",), ["TierNotCheaper"]),
        (("",), ("large",), []),
        (("large",), ("",), []),
    ],
)
def test_a_tier_that_saves_nothing_is_told(cheap: tuple[str, ...], deep: tuple[str, ...], told: list[str]) -> None:
    priced = backends(small="1", large="2")
    assert reasons(route(backends=priced, tiers=[tier("cheap", *cheap), tier("deep", *deep)], rules=DEEP)) == told


def test_tokens_are_not_saved_by_price() -> None:
    same = route(backends=backends(small="1"), tiers=[tier("cheap", "small"), tier("deep", "small")], rules=DEEP)
    assert reasons(same) == ["TierNotCheaper"]
    assert reasons(same, limit={"tokens": 5}) == []
