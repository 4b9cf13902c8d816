"""Which tier a call gets: the first entry that holds, whatever else is true."""

from __future__ import annotations

from calendar import timegm
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sidecar.core.calls import ANTHROPIC, OPENAI, chat, config, embeddings, facts_of, is_a, messages, responses

from keelage_api.proxy_config import BudgetTerms, ModelChoice, Per, Rule
from keelage_api.selection import BudgetUsed, Classifier, Keywords, Selection, Size, TimeWindow, When, as_words
from keelage_sidecar.core.endpoints import ANTHROPIC_MODELS, COUNT_TOKENS, OPENAI_MODELS
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.response_key import changing_of
from keelage_sidecar.core.routing import RoutingTable
from keelage_sidecar.core.selection import Answers, Ask, Case, Selected, choose, moment, on_tier_at_once

TIERS: dict[str, tuple[ModelChoice, ...]] = {
    "assistant/fast": (ModelChoice(OPENAI.name, "gpt-5-mini"),),
    "assistant/deep": (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),),
    "assistant/own": (ModelChoice(OPENAI.name, "own"),),
}
BUDGETS = (BudgetTerms("shop/month", True), BudgetTerms("shop/users", True, per=(Per.USER,)))
ASKED = Classifier("fast", "SIMPLE or COMPLEX?", as_words("SIMPLE"), 2000, 16)
SUNDAY_S = timegm((2026, 11, 22, 14, 30, 0))
BERLIN = ((timegm((2026, 10, 25, 1, 0, 0)), 3600), (timegm((2027, 3, 28, 1, 0, 0)), 7200))


def rule(*select: Selection) -> Rule:
    return Rule("assistant", "all", TIERS["assistant/deep"], "deep", select=select)


def fast(**when: object) -> Selection:
    return Selection(When(**when), "fast")  # type: ignore[arg-type]  # one condition each, of its own type


def case(facts: Facts, unix_s: float = SUNDAY_S, used: dict[str, int] | None = None, asks: bool = True) -> Case:
    return Case(facts, lambda name, value: (used or {}).get(f"{name} {value}".rstrip()), unix_s, asks)


def chosen(select: tuple[Selection, ...], one: Case, answers: Answers | None = None) -> tuple[str, str]:
    """Tier and reason."""
    asked = rule(*select)
    table = RoutingTable.build(config(asked, budgets=BUDGETS, tiers=TIERS))
    found = is_a(Selected, choose(table, asked, one, answers or {}))
    return found.plan.rule.tier, found.by


def asking(text: str, **fields: object) -> Facts:
    return messages(messages=[{"role": "user", "content": text}], **fields)


@pytest.mark.parametrize(
    ("when", "facts", "holds"),
    [
        ({"task_types": ("classify", "translate")}, replace(messages(), task_type="translate"), True),
        ({"task_types": ("classify",)}, messages(), False),
        ({"words": Size(at_most=3)}, asking("one two three"), True),
        ({"words": Size(at_most=3)}, asking("one two three four"), False),
        ({"words": Size(at_least=2, at_most=3)}, asking("one"), False),
        ({"tokens": Size(at_least=1000)}, asking("a" * 4000), True),
        ({"tokens": Size(at_least=1000)}, asking("a" * 2000), False),
        ({"keywords": Keywords(any_of=(" legal ", " power of attorney "))}, asking("A Power-of  Attorney?"), True),
        ({"keywords": Keywords(any_of=(" legal ",))}, asking("illegal, legally"), False),
        ({"keywords": Keywords(none_of=(" legal ",))}, asking("illegal, legally"), True),
        ({"keywords": Keywords((" a ",), (" b ",))}, asking("a b"), False),
    ],
)  # fmt: skip
def test_each_condition_is_judged_by_the_call(when: dict[str, object], facts: Facts, holds: bool) -> None:
    tier, by = chosen((fast(**when),), case(facts))
    assert (tier, by.partition(":")[0]) == (("fast", "0") if holds else ("deep", "default"))


def test_all_conditions_of_an_entry_must_hold_and_the_first_entry_wins() -> None:
    entries = (
        Selection(When(task_types=("x",), words=Size(at_most=5)), "own"),
        Selection(When(words=Size(at_most=5), keywords=Keywords(none_of=(" legal ",))), "fast"),
        Selection(When(words=Size(at_most=9)), "own"),
    )
    assert chosen(entries, case(replace(asking("hi"), task_type="x"))) == ("own", "0:taskTypes+promptWords")
    assert chosen(entries, case(asking("hi"))) == ("fast", "1:promptWords+keywords")
    assert chosen(entries, case(asking("hi legal"))) == ("own", "2:promptWords")
    assert chosen(entries, case(asking("a b c d e f g h i j"))) == ("deep", "default")


@pytest.mark.parametrize(
    ("budget", "used", "tier"),
    [
        ("shop/month", {"shop/month": 80}, "fast"),
        ("shop/month", {"shop/month": 79}, "deep"),
        ("shop/month", {}, "deep"),
        ("shop/users", {"shop/users ann": 95, "shop/users": 0}, "fast"),
        ("shop/users", {"shop/users bob": 95}, "deep"),
        ("shop/other", {"shop/other": 99}, "deep"),
    ],
)
def test_a_budgets_use_counts_for_whom_its_limit_holds(budget: str, used: dict[str, int], tier: str) -> None:
    entry = fast(budget_used=BudgetUsed(budget, 80))
    assert chosen((entry,), case(replace(messages(), user="ann"), used=used))[0] == tier


@pytest.mark.parametrize(
    ("days", "hours", "at", "opens"),
    [
        ((0, 1, 2, 3, 4), (8, 18), "2026-11-20T08:00", True),  # a Friday
        ((0, 1, 2, 3, 4), (8, 18), "2026-11-20T18:00", False),
        ((0, 1, 2, 3, 4), (8, 18), "2026-11-21T12:00", False),
        ((5,), (22, 6), "2026-11-21T23:00", True),
        ((5,), (22, 6), "2026-11-22T05:59", True),  # the night of Saturday
        ((5,), (22, 6), "2026-11-21T05:00", False),
        ((5,), (22, 6), "2026-11-22T06:00", False),
        ((6,), (0, 24), "2026-11-22T23:59", True),
    ],
)
def test_the_night_belongs_to_the_day_it_began_on(
    days: tuple[int, ...], hours: tuple[int, int], at: str, opens: bool
) -> None:
    window = TimeWindow(days, hours[0] * 60, hours[1] * 60, BERLIN)
    unix_s = datetime.fromisoformat(f"{at}+01:00").astimezone(UTC).timestamp()
    assert chosen((fast(time_window=window),), case(messages(), unix_s))[0] == ("fast" if opens else "deep")


def test_clocks_change_with_the_places_and_the_last_offset_stays() -> None:
    window = TimeWindow(tuple(range(7)), 12 * 60, 13 * 60, BERLIN)
    for at, opens in (
        ("2026-11-22T11:30", True), ("2027-04-01T11:30", False), ("2027-04-01T10:30", True),
        ("2040-01-01T10:30", True), ("2020-01-01T11:30", True),
    ):  # fmt: skip
        unix_s = datetime.fromisoformat(f"{at}+00:00").timestamp()
        assert chosen((fast(time_window=window),), case(messages(), unix_s))[0] == ("fast" if opens else "deep"), at


def test_a_classifier_is_asked_last_and_its_answer_counts() -> None:
    entry = fast(words=Size(at_most=5), classifier=ASKED)
    asked = rule(entry)
    table = RoutingTable.build(config(asked, tiers=TIERS))
    assert choose(table, asked, case(asking("Hi there")), {}) == Ask(0, ASKED, "Hi there")
    assert is_a(Selected, choose(table, asked, case(asking("a b c d e f")), {})).by == "default"
    for said, tier in (("SIMPLE", "fast"), ("simple.", "fast"), ("Simple, as", "fast"), ("COMPLEX", "deep"),
                       ("SIMPLETON", "deep"), ("Not simple", "deep"), ("", "deep"), (None, "deep")):  # fmt: skip
        assert chosen((entry,), case(asking("Hi there")), {0: said})[0] == tier, said


def test_without_an_answer_the_otherwise_tier_or_the_next_entry_is_used() -> None:
    named = fast(classifier=Classifier("fast", "p", " yes ", 2000, 16, "own"))
    assert chosen((named,), case(messages()), {0: None}) == ("own", "0:classifier:otherwise")
    assert chosen((named,), case(messages()), {0: "no"}) == ("deep", "default")
    then = Selection(When(words=Size(at_most=9)), "own")
    assert chosen((fast(classifier=ASKED), then), case(messages()), {0: None}) == ("own", "1:promptWords")


@pytest.mark.parametrize(
    "one",
    [
        case(messages(), asks=False),
        case(facts_of(COUNT_TOKENS, {"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "Hi"}]})),
        case(messages(messages=[])),
    ],
)
def test_no_question_is_asked_where_it_is_not_worth_it(one: Case) -> None:
    assert chosen((fast(classifier=ASKED),), one) == ("deep", "default")


def test_an_entry_whose_tier_has_nobody_for_the_call_is_passed_over() -> None:
    claude = Selection(When(words=Size(at_most=9)), "claude")
    asked = Rule("assistant", "all", TIERS["assistant/fast"], "fast", select=(claude,))
    tiers = {**TIERS, "assistant/claude": (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),)}
    table = RoutingTable.build(config(asked, tiers=tiers))
    assert is_a(Selected, choose(table, asked, case(chat()), {})).plan.rule.tier == "claude"
    for facts in (responses(), embeddings("x")):
        assert is_a(Selected, choose(table, asked, case(facts), {})).by == "default"
    deep = replace(asked, tier="claude", choices=tiers["assistant/claude"], select=())
    assert is_a(Refusal, choose(table, deep, case(responses()), {})).reason == "NoBackendForDialect"


def test_lists_of_models_come_from_the_first_tier_that_has_their_api() -> None:
    asked = rule(fast(words=Size(at_most=9)))
    table = RoutingTable.build(config(asked, tiers=TIERS))
    for endpoint, tier in ((ANTHROPIC_MODELS, "deep"), (OPENAI_MODELS, "fast")):
        facts = facts_of(endpoint, b"")
        assert table.rule(facts) is asked
        assert is_a(Selected, choose(table, asked, case(facts), {})).plan.rule.tier == tier


TEXTS = st.sampled_from(["", "hi", "legal advice please", "a b c d e f g"])
CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "task_types": st.sampled_from([("x",), ("x", "y")]),
        "words": st.builds(Size, st.none() | st.integers(0, 8), st.none() | st.integers(0, 8)),
        "tokens": st.builds(Size, st.none() | st.integers(0, 40), st.none() | st.integers(0, 40)),
        "keywords": st.builds(Keywords, st.sampled_from([(), (" legal ",)]), st.sampled_from([(), (" hi ",)])),
        "budget_used": st.builds(BudgetUsed, st.sampled_from(["shop/month", "shop/users"]), st.integers(1, 100)),
        "time_window": st.builds(
            TimeWindow, st.lists(st.integers(0, 6), min_size=1, max_size=7).map(tuple),
            st.integers(0, 1439), st.integers(0, 1440), st.just(BERLIN),
        ),
        "classifier": st.sampled_from([ASKED, replace(ASKED, otherwise="own")]),
    },
)  # fmt: skip
ENTRIES = st.lists(
    st.builds(lambda when, tier: Selection(When(**when), tier), CONDITIONS, st.sampled_from(["fast", "own", "deep"])),
    max_size=6,
)
CALLS = st.builds(
    lambda text, task, api: replace(
        asking(text) if api else chat(messages=[{"role": "user", "content": text}]), task_type=task, user="ann"
    ),
    TEXTS, st.sampled_from(["", "x", "y"]), st.booleans(),
)  # fmt: skip


@given(
    ENTRIES, CALLS, st.dictionaries(st.sampled_from(["shop/month", "shop/users ann"]), st.integers(0, 100)),
    st.integers(1_700_000_000, 1_900_000_000), st.sampled_from([None, "SIMPLE", "COMPLEX"]),
)  # fmt: skip
def test_selection_is_total_and_deterministic_and_asks_each_question_once(
    entries: list[Selection], facts: Facts, used: dict[str, int], unix_s: int, said: str | None
) -> None:
    asked = rule(*entries)
    table = RoutingTable.build(config(asked, budgets=BUDGETS, tiers=TIERS))
    outcomes = []
    for fresh in (table, RoutingTable.build(table.config), table):
        answers: dict[int, str | None] = {}
        while isinstance(step := choose(fresh, asked, case(facts, unix_s, used), answers), Ask):
            assert step.index not in answers
            answers[step.index] = said
        outcomes.append(is_a(Selected, step))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    found = outcomes[0]
    place, _, why = found.by.partition(":")
    if place == "default":
        assert found.plan.rule.tier == "deep"
    else:
        entry = entries[int(place)]
        assert found.plan.rule.tier == (entry.tier if not why.endswith("otherwise") else "own")
        for earlier in entries[: int(place)]:  # alone, none of those before it would have been chosen
            alone = rule(earlier)
            step = choose(table, alone, case(facts, unix_s, used), {0: said})
            assert is_a(Selected, step).by == "default"
    unasked = on_tier_at_once(table, asked, case(facts, unix_s, used))
    assert not isinstance(unasked, Refusal)


@given(st.integers(0, 7 * 24 * 60), st.integers(0, 7 * 24 * 60), st.integers(0, 100), st.integers(0, 100))
def test_the_moment_changes_with_what_holds_and_only_then(one_min: int, other_min: int, one: int, other: int) -> None:
    window = fast(time_window=TimeWindow((5, 6), 22 * 60, 6 * 60, BERLIN))
    entries = (
        fast(budget_used=BudgetUsed("shop/month", 80), time_window=window.when.time_window, task_types=("t",)),
        fast(budget_used=BudgetUsed("shop/month", 95)),
    )
    changing, table = changing_of(rule(*entries)), RoutingTable.build(config(rule(), budgets=BUDGETS, tiers=TIERS))
    moments, held = [], []
    for minute, used in ((one_min, one), (other_min, other)):
        now = case(messages(), SUNDAY_S + 60 * minute, used={"shop/month": used})
        moments.append(moment(changing, table, now))
        held.append((used >= 80, used >= 95, chosen((window,), now)))
    assert (moments[0] == moments[1]) is (held[0] == held[1])


def test_what_depends_on_the_call_alone_is_no_matter_of_the_moment() -> None:
    assert changing_of(rule(fast(task_types=("t",)), fast(words=Size(at_most=3)))) == ()
