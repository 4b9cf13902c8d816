"""What is in shadow changes nothing, and is told as it would have been done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sidecar.core.calls import ANTHROPIC, OPENAI, chat, claude, config, embeddings, gpt, is_a, messages

from keelage_api.proxy_config import BudgetTerms, Downgrade, Match, ModelChoice, ProxyConfig, Rule, Unit
from keelage_api.selection import Classifier, Selection, Size, When
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.claim import Room
from keelage_sidecar.core.log_line import ShadowBudget, ShadowRule, Would
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Plan, RoutingTable
from keelage_sidecar.core.shadow import Rehearsal, rehearse

MINI = Rule(
    "assistant", "mini", (ModelChoice(OPENAI.name, "gpt-5-mini"),), "mini", (Match(models=("claude-*",)),), shadow=True
)
REST = Rule("assistant", "rest", (ModelChoice(ANTHROPIC.name), ModelChoice(OPENAI.name)), "deep")
TIERS = {"assistant/fast": (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),), "assistant/deep": REST.choices}
HARD = BudgetTerms("shop/month", False, shadow=True)
NOBODY = Rehearsal(None, ("", ""), ())


def played(
    asked: ProxyConfig, left: int | None = None, percent: int | None = None, facts: Facts | None = None
) -> Rehearsal:
    """`left` of every budget's limit (None: unknown to the ledger), and how much of it is used."""
    table = RoutingTable.build(asked)
    call = messages() if facts is None else facts
    room = Room(0, 0, known=False) if left is None else Room(0, left)
    plan = table.plan(call)
    return rehearse(table, call, plan, lambda _: room, lambda *_: percent, 0.0) or NOBODY


def test_a_rule_in_shadow_takes_no_call_and_is_told() -> None:
    asked = config(MINI, REST)
    assert is_a(Plan, RoutingTable.build(asked).plan(messages())).rule.name == "rest"
    told = played(asked).told(None, None)
    assert told == ShadowRule("assistant", "mini", "mini", OPENAI.name, "gpt-5-mini")


def test_a_rule_in_shadow_behind_the_one_that_matches_is_not_told() -> None:
    assert played(config(REST, MINI)) == NOBODY
    assert played(config(MINI, REST), facts=chat()) == NOBODY


def test_the_difference_is_that_of_the_same_tokens_at_both_prices() -> None:
    usage = TokenUsage(input_tokens=1000, output_tokens=100)
    told = is_a(ShadowRule, played(config(MINI, REST)).told(claude(), usage))
    assert told.cost_picodollars == 1000 * 250_000 + 100 * 2_000_000
    assert told.difference_picodollars == told.cost_picodollars - (1000 * 1_000_000 + 100 * 5_000_000)
    assert told.difference_usd == "-0.00105"


def test_without_a_price_there_is_no_difference() -> None:
    unpriced = replace(gpt(), price=None)
    told = is_a(ShadowRule, played(config(MINI, REST)).told(unpriced, TokenUsage(input_tokens=1)))
    assert told.difference_picodollars is None


def test_a_rule_in_shadow_that_could_ask_nobody_says_so() -> None:
    rehearsal = played(config(replace(MINI, matches=()), REST), facts=embeddings("x"))
    assert is_a(ShadowRule, rehearsal.told(None, None)).model == "gpt-5-mini"
    foreign = replace(MINI, matches=(), choices=(ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),))
    rehearsal = played(config(foreign, REST), facts=embeddings("x"))
    assert is_a(ShadowRule, rehearsal.told(None, None)).reason == "NoBackendForDialect"


def test_a_call_that_no_other_rule_takes_is_told_of_the_one_in_shadow() -> None:
    told = played(config(MINI)).told(None, None)
    assert told is not None
    assert told.rule == "mini"


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (None, ()),
        (1 << 60, ()),
        (0, (ShadowBudget("shop/month", Would.REFUSE, "BudgetExhausted", needed=654_000_000, left=0),)),
    ],
)
def test_a_budget_in_shadow_tells_what_it_would_have_refused(left: int | None, told: tuple[ShadowBudget, ...]) -> None:
    found = played(config(budgets=(HARD,)), left).budgets
    assert [replace(each, needed=0) for each in found] == [replace(each, needed=0) for each in told]
    assert all(each.needed > 0 for each in found)


def test_what_cannot_be_bounded_would_be_refused() -> None:
    asked = config(budgets=(HARD,))
    [told] = played(asked, 1 << 60, facts=messages(container="c")).budgets
    assert (told.would, told.reason) == (Would.REFUSE, "NotBoundable")
    assert played(config(budgets=(replace(HARD, unit=Unit.TOKENS),)), 1 << 60).budgets == ()


LADDER = replace(HARD, downgrades=(Downgrade(80, "fast"),))
DEEP = Rule("assistant", "all", (ModelChoice(ANTHROPIC.name, "claude-opus"),), "deep")


def test_a_threshold_that_is_passed_would_downgrade_and_nothing_is_downgraded() -> None:
    tokens = replace(LADDER, unit=Unit.TOKENS)
    asked = config(DEEP, budgets=(tokens,), tiers=TIERS)
    assert not RoutingTable.build(asked).downgrades
    assert played(asked, 1 << 60, 79).budgets == ()
    assert played(asked, 1 << 60, 80).budgets == (ShadowBudget("shop/month", Would.DOWNGRADE, tier="fast"),)


def test_at_the_limit_a_cheaper_tier_is_told_only_if_it_fits() -> None:
    dear = Rule("assistant", "all", (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),), "deep", max_output_tokens=64)
    cheap: dict[str, tuple[ModelChoice, ...]] = {"assistant/fast": (ModelChoice(OPENAI.name, "gpt-5-mini"),)}
    asked = config(dear, budgets=(LADDER,), tiers=cheap)
    [refused] = played(asked, 1).budgets
    assert refused.would is Would.REFUSE
    [lowered] = played(asked, refused.needed - 1).budgets
    assert (lowered.would, lowered.tier, lowered.needed) == (Would.DOWNGRADE, "fast", refused.needed)


def test_an_output_cap_that_may_be_lowered_would_be() -> None:
    clamping = replace(REST, clamp_at_least=10)
    asked = config(clamping, budgets=(HARD,))
    [refused] = played(asked, 0).budgets
    assert refused.would is Would.REFUSE
    [told] = played(asked, refused.needed - 1).budgets
    assert told.would is Would.CLAMP
    assert told.clamped == 99


RULES = st.lists(
    st.builds(
        lambda name, models, shadow: Rule(
            "assistant", name, REST.choices, matches=(Match(models=models),), shadow=shadow
        ),
        st.sampled_from("abc"),
        st.sampled_from([("*",), ("claude-*",), ("gpt-*",)]),
        st.booleans(),
    ),
    max_size=5,
    unique_by=lambda rule: rule.name,
)


@given(RULES, st.booleans(), st.integers(0, 1 << 40))
def test_calls_are_served_as_if_what_is_in_shadow_were_not_there(rules: list[Rule], budget: bool, left: int) -> None:
    asked = replace(config(), rules=tuple(rules), budgets=(LADDER,) if budget else ())
    without = replace(
        asked,
        rules=tuple(rule for rule in rules if not rule.shadow),
        budgets=tuple(replace(each, downgrades=(), shadow=False) for each in asked.budgets),
    )
    table, plain = RoutingTable.build(asked), RoutingTable.build(without)
    for facts in (messages(), chat()):
        assert table.plan(facts) == plain.plan(facts)
        assert (table.downgrades, table.asks) == (plain.downgrades, plain.asks)
        rehearsal = rehearse(table, facts, table.plan(facts), lambda _: Room(0, left), lambda *_: None, 0.0)
        assert (table.rehearsal is None) == (asked == without and not budget)
        first = next(
            (each for each in rules if is_a(tuple, each.matches)[0].models[0].rstrip("*") in facts.model[:7]), None
        )
        expected = first.name if first is not None and first.shadow else None
        told = rehearsal.told(None, None) if rehearsal is not None else None
        assert (told.rule if told is not None else None) == expected


def test_a_rule_in_shadow_with_several_tiers_tells_the_one_that_it_would_have_selected() -> None:
    short = Selection(When(words=Size(at_most=3)), "fast")
    selecting = replace(MINI, select=(short,))
    assert is_a(ShadowRule, played(config(selecting, REST, tiers=TIERS)).told(None, None)).tier == "fast"
    long = messages(messages=[{"role": "user", "content": "one two three four"}])
    assert is_a(ShadowRule, played(config(selecting, REST, tiers=TIERS), facts=long).told(None, None)).tier == "mini"


def test_a_rule_in_shadow_asks_no_classifier() -> None:
    asked = Selection(When(classifier=Classifier("fast", "SIMPLE?", " simple ", 1000, 5)), "fast")
    selecting = replace(MINI, select=(asked,))
    assert is_a(ShadowRule, played(config(selecting, REST, tiers=TIERS)).told(None, None)).tier == "mini"
