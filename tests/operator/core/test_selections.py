"""`matches` and `select` of manifests to what sidecars obey, and to what their owners are told."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.core.manifest_fields import Fields, budget, compiled, route

from keelage_api.proxy_config import Match, Rule, ValueMatch
from keelage_api.selection import BudgetUsed, Classifier, Keywords, Selection, Size, TimeWindow, When
from keelage_operator.core.problem import Problem
from keelage_operator.core.selections import DEFAULT_PROMPT, offsets_of

TIERS = [
    {"name": name, "models": [{"backend": "anthropic", "model": "claude-known"}]} for name in ("fast", "deep", "judge")
]


def rule(name: str = "all", *matches: Fields, select: list[Fields] | None = None, **fields: object) -> Fields:
    chosen = [*(select or []), {"tier": "deep"}]
    return {"name": name, "matches": list(matches), "select": chosen, **fields}


def compiled_rule(**fields: object) -> Rule:
    found = compiled([route(tiers=TIERS, rules=[rule(**fields)])], [budget()]).config_for({}).rules[0]  # type: ignore[arg-type]  # fields of a rule
    assert isinstance(found, Rule)
    return found


def problems(*rules: Fields, **more: object) -> tuple[Problem, ...]:
    return compiled([route(tiers=TIERS, rules=list(rules))], [budget(**more)]).routes["assistant"].problems  # type: ignore[arg-type]  # of a budget


def test_each_entry_but_the_last_becomes_a_condition_and_the_last_the_default() -> None:
    whens: list[Fields] = [
        {"taskTypes": ["translate"]},
        {
            "promptWords": {"atMost": 40},
            "promptTokens": {"atLeast": 9},
            "keywords": {"anyOf": ["Power of  Attorney"], "noneOf": ["§ 5"]},
        },
        {"budgetUsed": {"budget": "month", "atLeastPercent": 80}},
        {"classifier": {"tier": "judge", "answer": "SIMPLE"}},
        {"classifier": {"tier": "judge", "prompt": "p", "answer": "Yes!", "timeout": "500ms", "maxTokens": 9,
                        "otherwise": "fast"}},
        {"timeWindow": {"days": ["Sun", "Sat"], "from": "22:30", "to": "06:00"}},
        {"timeWindow": {}},
    ]  # fmt: skip
    found = compiled_rule(select=[{"when": when, "tier": "fast"} for when in whens])
    assert found.tier == "deep"
    assert found.select == tuple(
        Selection(when, "fast")
        for when in (
            When(task_types=("translate",)),
            When(
                words=Size(at_most=40),
                tokens=Size(at_least=9),
                keywords=Keywords((" power of attorney ",), (" 5 ",)),
            ),
            When(budget_used=BudgetUsed("shop/month", 80)),
            When(classifier=Classifier("judge", DEFAULT_PROMPT, " simple ", 2000, 16)),
            When(classifier=Classifier("judge", "p", " yes ", 500, 9, "fast")),
            When(time_window=TimeWindow((5, 6), 1350, 360, ((1_735_689_600, 0),))),
            When(time_window=TimeWindow(tuple(range(7)), 0, 1440, ((1_735_689_600, 0),))),
        )
    )
    assert found.tiers == ("deep", "fast", "judge")


def test_headers_and_path_are_compiled() -> None:
    raw: Fields = {
        "name": "all",
        "matches": [
            {
                "headers": [{"name": "X-Tenant", "value": "Gold"}, {"type": "Prefix", "name": "a", "value": "b"}],
                "path": {"value": "/v1/messages"},
            }
        ],
        "select": [{"tier": "deep"}],
    }
    (found,) = compiled([route(tiers=TIERS, rules=[raw])]).config_for({}).rules
    assert found.matches == (
        Match(
            headers=(ValueMatch("Gold", name="x-tenant"), ValueMatch("b", prefix=True, name="a")),
            path=ValueMatch("/v1/messages", prefix=True),
        ),
    )


@given(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
       st.integers(1_735_689_600, 2_500_000_000))  # fmt: skip
def test_the_offsets_that_sidecars_are_told_are_those_of_the_zone(zone: str, unix_s: int) -> None:
    told = [offset for since, offset in offsets_of(zone) if since <= unix_s][-1]
    there = datetime.fromtimestamp(unix_s, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    assert there is not None
    assert told == there.total_seconds()


@pytest.mark.parametrize(
    ("when", "reason", "says"),
    [
        ({"timeWindow": {"timeZone": "Mars/Olympus"}}, "TimeZoneUnknown", "Mars/Olympus is not in the IANA database"),
        ({"keywords": {"noneOf": ["!?"]}}, "NoWord", "select[0].when: '!?' has no letter or digit"),
        ({"classifier": {"tier": "fast", "prompt": "p", "answer": "+"}}, "NoWord", "'+' has no letter or digit"),
    ],
)
def test_what_no_sidecar_could_obey_is_refused(when: Fields, reason: str, says: str) -> None:
    (problem,) = problems(rule(select=[{"when": when, "tier": "fast"}]))
    assert (problem.reason, problem.refuses) == (reason, True)
    assert says in problem.message


@pytest.mark.parametrize(
    ("name", "applies", "says"),
    [
        ("month", {}, ""),
        ("year", {}, "namespace shop has no LLMBudget year in force"),
        ("month", {"podSelector": {"matchLabels": {"app": "b"}}}, "LLMBudget month applies to other pods"),
    ],
)
def test_a_condition_on_a_budget_that_the_pods_do_not_fall_under_is_told(name: str, applies: Fields, says: str) -> None:
    used: Fields = {"when": {"budgetUsed": {"budget": name, "atLeastPercent": 80}}, "tier": "fast"}
    raw = route(tiers=TIERS, rules=[rule(select=[used])], podSelector={"matchLabels": {"app": "a"}})
    found = compiled([raw], [budget(applies=applies)]).routes["assistant"].problems
    assert [(each.reason, each.about, each.refuses) for each in found] == (
        [("BudgetNotFound", "ResolvedRefs", False)] if says else []
    )
    assert not found or says in found[0].message


MODELS: Fields = {"models": ["claude-*", "auto"]}
GOLD: Fields = {"headers": [{"name": "x-tenant", "value": "gold"}]}


@pytest.mark.parametrize(
    ("earlier", "later", "by"),
    [
        ([[MODELS]], [{"models": ["claude-x"]}], "rule r0 takes"),
        ([[MODELS]], [{"models": ["claude-x", "auto"], "features": ["f"]}], "rule r0 takes"),
        ([[MODELS]], [{"models": ["claude-*"]}, {"models": ["gpt-x"]}], ""),
        ([[MODELS]], [{"models": ["c*"]}], ""),
        ([[MODELS]], [{"features": ["f"]}], ""),
        ([[MODELS]], [], ""),
        (
            [[{"models": ["a"]}], [{"models": ["b"]}]],
            [{"models": ["a"]}, {"models": ["b"]}],
            "rule r0 and rule r1 together",
        ),
        ([[{"features": ["f", "g"]}]], [{"features": ["g"], "users": ["u"]}], "rule r0 takes"),
        ([[{"features": ["f"]}]], [{"features": ["f", "g"]}], ""),
        ([[GOLD]], [{**GOLD, **MODELS}], "rule r0 takes"),
        ([[{**GOLD, **MODELS}]], [GOLD], ""),
        ([[{"headers": [{"type": "Prefix", "name": "X-Tenant", "value": "go"}]}]], [GOLD], "rule r0 takes"),
        ([[GOLD]], [{"headers": [{"type": "Prefix", "name": "x-tenant", "value": "gold"}]}], ""),
        ([[{"path": {"value": "/v1"}}]], [{"path": {"value": "/v1/messages"}}], "rule r0 takes"),
        ([[{"path": {"type": "Exact", "value": "/v1"}}]], [{"path": {"value": "/v1"}}], ""),
        ([[{"path": {"value": "/v1/m"}}]], [{"path": {"value": "/v1/messages"}}], ""),
    ],
)
def test_a_rule_whose_calls_are_all_taken_before_it_is_told_by_which(
    earlier: list[list[Fields]], later: list[Fields], by: str
) -> None:
    found = problems(*(rule(f"r{number}", *matches) for number, matches in enumerate(earlier)), rule("late", *later))
    assert [each.reason for each in found] == (["UnreachableRules"] if by else [])
    assert not found or f"spec.rules[late]: the rule is never reached: {by}" in found[0].message


def test_a_rule_may_be_taken_by_one_of_an_older_route_but_not_by_one_in_shadow() -> None:
    def route_of(name: str, **fields: object) -> Fields:
        raw: Fields = {"name": "r", "matches": [MODELS], "select": [{"tier": "deep"}], **fields}
        return route(name, f"2026-11-0{len(name)}T00:00:00Z", tiers=TIERS, rules=[raw])

    (problem,) = compiled([route_of("a"), route_of("bb")]).routes["bb"].problems
    assert "rule r of the older LLMRoute a takes all of its calls" in problem.message
    assert compiled([route_of("a", mode="Shadow"), route_of("bb")]).routes["bb"].problems == ()


def test_models_of_all_tiers_of_a_rule_need_a_price_and_a_hedge_only_one_second() -> None:
    tiers = [
        {"name": "fast", "models": [{"backend": "anthropic", "model": "claude-new"}, {"backend": "anthropic"}]},
        {"name": "deep", "models": [{"backend": "anthropic", "model": "claude-known"}]},
    ]
    asked = rule(select=[{"when": {"taskTypes": ["x"]}, "tier": "fast"}], hedge={})
    (problem,) = compiled([route(tiers=tiers, rules=[asked])], [budget()]).routes["assistant"].problems
    assert (problem.reason, "model claude-new" in problem.message) == ("PriceUnknown", True)
