"""Cheaper tiers: from a threshold on, and instead of a refusal."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.sidecar.core.calls import ANTHROPIC, OPENAI, config, is_a, messages

from keelage_api.proxy_config import BudgetTerms, Downgrade, ModelChoice, Per, Rule
from keelage_sidecar.core.downgrade import Downgraded, at_limit, at_start
from keelage_sidecar.core.routing import Plan, RoutingTable

FACTS = replace(messages(), user="ann")
TIERS: dict[str, tuple[ModelChoice, ...]] = {
    "assistant/middle": (ModelChoice(ANTHROPIC.name, "claude-sonnet"),),
    "assistant/fast": (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),),
    "assistant/gpt": (ModelChoice(OPENAI.name),),
}
MONTH = BudgetTerms("shop/month", True, downgrades=(Downgrade(80, "middle"), Downgrade(95, "fast")))
USERS = BudgetTerms("shop/users", True, per=(Per.USER,), downgrades=(Downgrade(50, "fast"),))
OTHERS = BudgetTerms("shop/others", True, models=("gpt-*",), downgrades=(Downgrade(1, "fast"),))
DEEP = Rule("assistant", "all", (ModelChoice(ANTHROPIC.name, "claude-opus"),), tier="deep")


def table_of(*budgets: BudgetTerms, rule: Rule = DEEP) -> RoutingTable:
    return RoutingTable.build(config(rule, budgets=budgets, tiers=TIERS))


@pytest.mark.parametrize(
    ("used", "tier", "budget"),
    [
        ({}, "", ""),
        ({"shop/month": 79}, "", ""),
        ({"shop/month": 80}, "middle", "shop/month"),
        ({"shop/month": 94}, "middle", "shop/month"),
        ({"shop/month": 120}, "fast", "shop/month"),
        ({"shop/users ann": 50}, "fast", "shop/users"),
        ({"shop/users bob": 50}, "", ""),
        ({"shop/month": 80, "shop/users ann": 50}, "middle", "shop/month"),
        ({"shop/others": 99}, "", ""),
    ],
)
def test_the_highest_threshold_passed_says_the_tier(used: dict[str, int], tier: str, budget: str) -> None:
    table = table_of(USERS, MONTH, OTHERS)
    plan = is_a(Plan, table.plan(FACTS))
    found = at_start(table, plan, FACTS, lambda name, value: used.get(f"{name} {value}".rstrip()))
    assert (tier, budget) == ("", "") if found is None else (found.plan.rule.tier, found.budget) == (tier, budget)
    if found is not None:
        assert [candidate.model for candidate in found.plan.candidates] == [TIERS[f"assistant/{tier}"][0].model]


@pytest.mark.parametrize("tier", ["gpt", "unknown"])
def test_a_tier_that_cannot_answer_the_call_is_passed_over(tier: str) -> None:
    table = table_of(replace_downgrades(MONTH, Downgrade(80, "middle"), Downgrade(95, tier)))
    found = is_a(Downgraded, at_start(table, is_a(Plan, table.plan(FACTS)), FACTS, lambda *_: 99))
    assert found.plan.rule.tier == "middle"


def replace_downgrades(terms: BudgetTerms, *downgrades: Downgrade) -> BudgetTerms:
    return BudgetTerms(terms.name, terms.hard, downgrades=downgrades)


def test_a_call_that_uses_the_tier_already_is_left_alone() -> None:
    rule = Rule("assistant", "all", TIERS["assistant/fast"], tier="fast")
    table = table_of(MONTH, rule=rule)
    assert at_start(table, is_a(Plan, table.plan(FACTS)), FACTS, lambda *_: 99) is None


def test_at_the_limit_each_tier_of_the_budget_is_tried_once_in_order() -> None:
    table = table_of(MONTH, USERS)
    plan = is_a(Plan, table.plan(FACTS))
    middle = is_a(Downgraded, at_limit(table, plan, 0, "shop/month", FACTS))
    assert [each.model for each in middle.plan.candidates] == ["claude-opus", "claude-sonnet"]
    fast = is_a(Downgraded, at_limit(table, middle.plan, 1, "shop/month", FACTS))
    assert [each.model for each in fast.plan.candidates] == ["claude-opus", "claude-sonnet", "claude-haiku-4-5"]
    for budget in ("shop/month", "shop/users", "shop/unknown"):
        assert at_limit(table, fast.plan, 2, budget, FACTS) is None
    assert is_a(Downgraded, at_limit(table, plan, 0, "shop/users", FACTS)).plan.rule.tier == "fast"
