"""Rules, fallback order and the budgets that pay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sidecar.core.calls import (
    ANTHROPIC,
    GPT,
    HAIKU,
    LOCAL,
    OPENAI,
    chat,
    claude,
    config,
    embeddings,
    facts_of,
    gpt,
    is_a,
    messages,
)  # fmt: skip

from keelage_api.proxy_config import BudgetTerms, Match, ModelChoice, Per, ProxyConfig, Quota, Rule, Unit
from keelage_sidecar.core import routing
from keelage_sidecar.core.claim import Charge, Claim
from keelage_sidecar.core.endpoints import ANTHROPIC_MODELS, COUNT_TOKENS, OPENAI_MODELS
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable

TRIAGE = Rule(
    "assistant", "triage", (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"), ModelChoice(LOCAL.name, "qwen")),
    matches=(Match(models=("claude-*", "auto"), features=("triage",)), Match(users=("vip",))),
)  # fmt: skip
REST = Rule("assistant", "rest", (ModelChoice(OPENAI.name),), tier="cheap")


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        (replace(messages(), feature="triage"), "triage"),
        (replace(messages(model="auto"), feature="triage"), "triage"),
        (replace(messages(model="other"), user="vip"), "triage"),
        (replace(chat(model="claude-x"), feature="triage"), "triage"),
        (chat(model="claude-x"), "rest"),
        (replace(chat(model="automatic"), feature="triage"), "rest"),
    ],
)
def test_the_first_rule_that_matches_counts(facts: Facts, rule: str) -> None:
    plan = is_a(Plan, RoutingTable.build(config(TRIAGE, REST)).plan(facts))
    assert plan.rule.name == rule


QUESTIONS = st.builds(
    lambda call, model, feature, user, capped: replace(
        call, model=model, feature=feature, user=user, capped=capped, max_output=9 if capped else 0
    ),
    st.sampled_from([messages(), chat(), embeddings("x")]),
    st.sampled_from(["auto", "claude-haiku-4-5", "gpt-5-mini", "other"]),
    st.sampled_from(["", "triage"]),
    st.sampled_from(["", "vip", "ann"]),
    st.booleans(),
)


@given(st.lists(QUESTIONS, min_size=2, max_size=12), st.integers(1, 4))
def test_a_table_that_has_answered_much_answers_as_a_new_one(calls: list[Facts], known: int) -> None:
    budgets = (
        BudgetTerms("shop/gpt", True, models=("gpt-*",)),
        BudgetTerms("shop/triage", False, features=("triage",)),
    )
    asked = config(TRIAGE, replace(REST, max_output_tokens=64), budgets=budgets)
    table = RoutingTable.build(asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routing, "KNOWN_MAX", known)  # so few that it forgets some of them on the way
        for facts in calls:
            assert table.plan(facts) == RoutingTable.build(asked).plan(facts)
            names = ("assistant", facts.model, facts.feature)
            assert table.budgets(*names) == RoutingTable.build(asked).budgets(*names)


def test_the_same_question_is_answered_once() -> None:
    table = RoutingTable.build(config())
    assert table.plan(messages()) is table.plan(messages())


def test_backends_of_the_dialect_are_candidates_in_order_and_then_those_of_the_other() -> None:
    everyone = Rule(
        "assistant", "all",
        (ModelChoice(LOCAL.name, "qwen"), ModelChoice(ANTHROPIC.name), ModelChoice(OPENAI.name, "gpt-5-mini")),
    )  # fmt: skip
    table = RoutingTable.build(config(everyone))
    asked = is_a(Plan, table.plan(chat(model="auto")))
    assert [(c.backend, c.model, c.price) for c in asked.candidates] == [
        (LOCAL, "qwen", LOCAL.prices["qwen"]),
        (OPENAI, "gpt-5-mini", GPT),
    ]
    first, *others = is_a(Plan, table.plan(messages())).candidates
    assert first == Candidate(ANTHROPIC, "claude-haiku-4-5", HAIKU, False, 0, first.dearest)
    assert [(each.backend, each.model) for each in others] == [(LOCAL, "qwen"), (OPENAI, "gpt-5-mini")]


def test_a_model_as_asked_goes_to_the_api_that_is_known_to_have_it() -> None:
    table = RoutingTable.build(config())
    for facts, backend in (
        (messages(), ANTHROPIC),
        (chat(model="claude-haiku-4-5"), ANTHROPIC),
        (chat(), OPENAI),
        (messages(model="gpt-5-mini"), OPENAI),
        (messages(model="claude-unheard-of"), ANTHROPIC),
        (chat(model="unheard-of"), OPENAI),
    ):
        assert [each.backend for each in is_a(Plan, table.plan(facts)).candidates] == [backend]


def test_a_compatible_server_alone_is_asked_for_any_model() -> None:
    alone = Rule("assistant", "all", (ModelChoice(LOCAL.name),))
    plan = is_a(Plan, RoutingTable.build(config(alone)).plan(messages(model="llama")))
    assert [(each.backend, each.model) for each in plan.candidates] == [(LOCAL, "llama")]
    beside = Rule("assistant", "all", (ModelChoice(LOCAL.name), ModelChoice(ANTHROPIC.name)))
    plan = is_a(Plan, RoutingTable.build(config(beside)).plan(messages(model="llama")))
    assert [each.backend for each in plan.candidates] == [ANTHROPIC]


def test_what_has_no_counterpart_stays_with_its_api() -> None:
    named = Rule("assistant", "all", (ModelChoice(OPENAI.name, "gpt-5-mini"),))
    counting = facts_of(COUNT_TOKENS, {"model": "claude-haiku-4-5", "messages": []})
    refusal = is_a(Refusal, RoutingTable.build(config(named)).plan(counting))
    assert (refusal.reason, "no counterpart" in refusal.message) == ("NoBackendForDialect", True)
    embedding = Rule("assistant", "all", (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),))
    assert is_a(Refusal, RoutingTable.build(config(embedding)).plan(embeddings("x"))).reason == "NoBackendForDialect"


def test_a_call_without_a_cap_gets_one_on_its_way_to_anthropic() -> None:
    named = Rule("assistant", "all", (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),))
    assert is_a(Plan, RoutingTable.build(config(named)).plan(chat())).candidates[0].output_cap == 64_000


def test_a_tier_without_the_dialect_is_a_clear_refusal() -> None:
    refusal = is_a(Refusal, RoutingTable.build(config(REST)).plan(messages()))
    assert (refusal.status, refusal.reason) == (400, "NoBackendForDialect")
    assert "LLMRoute assistant, rule rest, tier cheap: no backend with provider Anthropic" in refusal.message


def test_a_later_rule_does_not_serve_what_an_earlier_one_matched() -> None:
    anthropic_only = Rule("assistant", "first", (ModelChoice(ANTHROPIC.name),))
    assert isinstance(RoutingTable.build(config(anthropic_only, REST)).plan(chat()), Refusal)


@pytest.mark.parametrize("rules", [(), (TRIAGE,)])
def test_nothing_that_matches_is_not_found(rules: tuple[Rule, ...]) -> None:
    table = RoutingTable.build(replace_rules(config(), rules))
    refusal = is_a(Refusal, table.plan(chat(model="unknown")))
    assert (refusal.status, refusal.reason, refusal.field) == (404, "NoMatchingRoute", "model")


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ((), "user '': ask"),
        (("auto", "claude-*"), "user '' (rules name the models auto, claude-*): ask for what a rule matches, or add"),
        (
            tuple(f"m{n}" for n in range(12)),
            "(rules name the models m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 2 more)",
        ),
    ],
)
def test_who_asks_for_a_model_of_no_rule_is_told_those_that_there_are(models: tuple[str, ...], told: str) -> None:
    rule = Rule("assistant", "triage", (ModelChoice(ANTHROPIC.name),), matches=(Match(models, ("triage",)),))
    refusal = is_a(Refusal, RoutingTable.build(config(rule)).plan(messages(model="unknown")))
    assert told in refusal.message


def replace_rules(base: ProxyConfig, rules: tuple[Rule, ...]) -> ProxyConfig:
    return ProxyConfig(base.version, rules=rules, backends=base.backends, budgets=base.budgets, prices=base.prices)


def test_calls_without_a_model_go_to_the_first_backend_of_their_dialect() -> None:
    table = RoutingTable.build(config(TRIAGE, REST))
    anthropic = Facts(ANTHROPIC_MODELS, "", False, 0, "", "triage", b"", {}, None, 0, True)
    assert is_a(Plan, table.plan(anthropic)).candidates[0].backend is ANTHROPIC
    openai = Facts(OPENAI_MODELS, "", False, 0, "", "", b"", {}, None, 0, True)
    found = is_a(Plan, table.plan(openai)).candidates[0]
    assert (found.backend, found.model, found.hard) == (OPENAI, "", False)


FIVE = Charge(picodollars=5, tokens=700, requests=1)
BUDGETS = (
    BudgetTerms("shop/all", True),
    BudgetTerms("shop/watch", False),
    BudgetTerms("shop/gpt", True, models=("gpt-*",)),
    BudgetTerms("shop/other-route", True, routes=("batch",)),
    BudgetTerms("shop/triage", True, features=("triage",)),
)


def test_an_attempt_falls_under_each_budget_that_applies_to_it() -> None:
    table = RoutingTable.build(config(budgets=BUDGETS))
    rule = table.config.rules[0]
    assert table.claims(claude(), rule, messages(), FIVE) == (
        Claim("shop/all", 5, True),
        Claim("shop/watch", 5, False),
    )
    assert [claim.budget for claim in table.claims(gpt(), rule, replace(chat(), feature="triage"), FIVE)] == [
        "shop/all",
        "shop/watch",
        "shop/gpt",
        "shop/triage",
    ]


def test_the_model_of_the_attempt_counts_not_that_of_the_request() -> None:
    table = RoutingTable.build(config(budgets=BUDGETS[2:3]))
    rule = table.config.rules[0]
    assert table.claims(gpt(), rule, chat(model="auto"), FIVE) == (Claim("shop/gpt", 5, True),)
    assert table.claims(replace(gpt(), model="o9"), rule, chat(model="gpt-x"), FIVE) == ()


def test_a_candidate_knows_whether_a_hard_budget_pays_for_it() -> None:
    table = RoutingTable.build(config(budgets=BUDGETS[1:3]))
    assert is_a(Plan, table.plan(messages())).candidates[0].hard is False
    assert is_a(Plan, table.plan(chat())).candidates[0].hard is True
    counting = facts_of(COUNT_TOKENS, {"model": "gpt-x"})
    assert is_a(Plan, table.plan(counting)).candidates[0].hard is False


@pytest.mark.parametrize(
    ("rule_cap", "hard", "facts", "cap"),
    [
        (0, False, chat(), 0),
        (0, True, chat(), 128_000),
        (1024, False, chat(), 1024),
        (1024, True, chat(), 1024),
        (999_999, True, chat(), 128_000),
        (1024, True, chat(max_tokens=5), 0),
        (1024, True, chat(model="unknown"), 1024),
        (0, True, chat(model="unknown"), 0),
        (1024, True, embeddings("x"), 0),
    ],
)
def test_a_cap_is_put_in_where_there_is_none(rule_cap: int, hard: bool, facts: Facts, cap: int) -> None:
    rule = Rule("assistant", "all", (ModelChoice(OPENAI.name),), max_output_tokens=rule_cap)
    table = RoutingTable.build(config(rule, budgets=(BudgetTerms("shop/all", hard),)))
    assert is_a(Plan, table.plan(facts)).candidates[0].output_cap == cap


def test_models_without_a_price_are_charged_at_the_dearest_known_rates() -> None:
    candidate = is_a(Plan, RoutingTable.build(config()).plan(chat(model="unknown"))).candidates[0]
    assert candidate.price is None
    assert candidate.dearest is not None
    assert candidate.dearest.tiers == GPT.tiers


def test_a_claim_is_in_its_budgets_unit_and_on_its_values_account() -> None:
    budgets = (
        BudgetTerms("shop/tokens", True, unit=Unit.TOKENS, per=(Per.USER,)),
        BudgetTerms("shop/money", True, per=(Per.FEATURE, Per.POD)),
    )
    table = RoutingTable.build(config(budgets=budgets))
    facts = replace(messages(), user="ann", feature="", pod="web-1")
    assert table.claims(claude(), table.config.rules[0], facts, FIVE) == (
        Claim("shop/tokens", 700, True, "ann", Unit.TOKENS),
        Claim("shop/money", 5, True, "-/web-1"),
    )


@pytest.mark.parametrize(
    ("units", "hard", "needs_price"),
    [
        ((), False, True),
        ((Unit.TOKENS,), True, False),
        ((Unit.PICODOLLARS,), True, True),
        ((Unit.TOKENS, Unit.PICODOLLARS), True, True),
    ],
)
def test_only_budgets_in_money_need_a_price(units: tuple[Unit, ...], hard: bool, needs_price: bool) -> None:
    budgets = tuple(BudgetTerms(f"shop/{unit}", True, unit=unit) for unit in units)
    candidate = is_a(Plan, RoutingTable.build(config(budgets=budgets)).plan(chat())).candidates[0]
    assert (candidate.hard, candidate.needs_price) == (hard, needs_price)


QUOTAS = (
    Quota("shop/rate:assistant/all:0", Unit.REQUESTS, 20, 60_000, "assistant", rule="all", per=(Per.USER,)),
    Quota("shop/rate:assistant/other:0", Unit.REQUESTS, 20, 60_000, "assistant", rule="other"),
    Quota("shop/rate:batch/all:0", Unit.REQUESTS, 20, 60_000, "batch", rule="all"),
    Quota("shop/limit:assistant/anthropic:outputTokensPerMinute", Unit.OUTPUT_TOKENS, 9_000, 60_000, "assistant",
          backend=ANTHROPIC.name),
    Quota("shop/limit:assistant/anthropic:concurrentRequests", Unit.CONCURRENT, 4, 0, "assistant",
          backend=ANTHROPIC.name),
    Quota("shop/limit:assistant/openai:requestsPerMinute", Unit.REQUESTS, 60, 60_000, "assistant",
          backend=OPENAI.name),
)  # fmt: skip


def test_rates_are_claimed_by_the_rule_and_limits_by_the_backend() -> None:
    table = RoutingTable.build(config(quotas=QUOTAS))
    facts, expected = replace(messages(), user="ann"), Charge(0, 300, 100, 200, 1)
    assert table.rate_claims(table.config.rules[0], facts, expected) == (
        Claim(QUOTAS[0].name, 1, True, "ann", Unit.REQUESTS, quota=True, at_once=True),
    )
    assert table.limit_claims(claude(), facts, expected) == (
        Claim(QUOTAS[3].name, 200, True, "", Unit.OUTPUT_TOKENS, quota=True),
        Claim(QUOTAS[4].name, 1, True, "", Unit.CONCURRENT, quota=True),
    )


def test_no_more_than_a_whole_windows_worth_is_claimed_of_a_rate() -> None:
    table = RoutingTable.build(config(quotas=QUOTAS))
    claims = table.limit_claims(claude(), messages(), Charge(0, 90_000, 30_000, 60_000, 1))
    assert [claim.amount for claim in claims] == [9_000, 1]


def test_a_call_is_lowered_to_a_tier_of_its_route_once() -> None:
    tiers = {
        "assistant/fast": (ModelChoice(OPENAI.name, "gpt-5-mini"), ModelChoice(ANTHROPIC.name, "claude-haiku-4-5")),
        "assistant/gpt": (ModelChoice(OPENAI.name),),
        "batch/slow": (ModelChoice(ANTHROPIC.name),),
    }
    deep = Rule("assistant", "all", (ModelChoice(ANTHROPIC.name, "claude-x"),), tier="deep")
    table = RoutingTable.build(config(deep, tiers=tiers))
    facts = messages()
    plan = is_a(Plan, table.plan(facts))
    lowered = is_a(Plan, table.lowered(plan, 1, "fast", facts))
    assert [candidate.model for candidate in lowered.candidates] == ["claude-x", "claude-haiku-4-5", "gpt-5-mini"]
    assert (lowered.rule.tier, lowered.rule.name, lowered.tried) == ("fast", "all", ("deep",))
    begun = is_a(Plan, table.lowered(plan, 0, "fast", facts))
    assert [each.model for each in begun.candidates] == ["claude-haiku-4-5", "gpt-5-mini"]
    for tier in ("fast", "deep"):
        assert table.lowered(lowered, 3, tier, facts) is None
    for tier in ("gpt", "slow", "unknown"):
        assert table.lowered(plan, 0, tier, facts) is None


def test_a_rule_can_be_asked_for_any_tier_of_its_route() -> None:
    tiers: dict[str, tuple[ModelChoice, ...]] = {
        "assistant/deep": (ModelChoice(ANTHROPIC.name, "claude-x"),),
        "assistant/gpt": (ModelChoice(OPENAI.name),),
    }
    default = Rule("assistant", "all", (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),), tier="fast")
    table = RoutingTable.build(config(default, tiers=tiers))
    facts = messages()
    rule = is_a(Rule, table.rule(facts))
    assert rule is default
    assert table.on_tier(rule, facts) == table.plan(facts)
    deep = is_a(Plan, table.on_tier(rule, facts, "deep"))
    assert ([each.model for each in deep.candidates], deep.rule.tier, deep.tried) == (["claude-x"], "deep", ())
    assert table.on_tier(deep.rule, facts) == deep
    assert "tier gpt: no backend" in is_a(Refusal, table.on_tier(rule, facts, "gpt")).message
