"""Which budgets contradict each other, and which only look like it."""

from __future__ import annotations

import pytest
from tests.operator.core.manifest_fields import Fields, budget, compiled, route

from keelage_operator.core.contradiction import COMPARED_MAX
from keelage_operator.core.problem import Problem

LEFT, RIGHT = "aaa", "bbb"


def found(left: Fields, right: Fields) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Problems of two budgets, each given by its spec, in the order of their names."""
    tiers = [
        {"name": name, "models": [{"backend": "anthropic", "model": "claude-known"}]}
        for name in ("fast", "cheap", "free")
    ]
    namespace = compiled(
        [route(tiers=[*tiers, {"name": "asked", "models": [{"backend": "anthropic"}]}], rules=ASKED)],
        [budget(LEFT, **left), budget(RIGHT, **right)],  # type: ignore[arg-type] # `amount` is never among them
    )
    return namespace.budgets[LEFT].problems, namespace.budgets[RIGHT].problems


ASKED = [{"name": "all", "select": [{"tier": "asked"}]}]


def usd(amount: str, **more: object) -> Fields:
    return {"limit": {"amount": amount}, **more}


def tokens(count: int, **more: object) -> Fields:
    return {"limit": {"tokens": count}, **more}


def applies(**selection: object) -> Fields:
    return {"applies": selection}


def every(kind: str, zone: str = "UTC") -> Fields:
    return {"window": {"every": kind, "timeZone": zone}}


NEVER = ["NeverReached"]


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [
        pytest.param(usd("5"), usd("10"), ([], NEVER), id="the lower of two equal selections"),
        pytest.param(usd("10"), usd("10"), ([], NEVER), id="of twins the second is superfluous"),
        pytest.param(usd("10"), usd("10", enforcement="Observe"), ([], NEVER), id="who observes the same sees no end"),
        pytest.param(usd("5", enforcement="Observe"), usd("10"), ([], []), id="who observes stops nobody"),
        pytest.param(
            usd("5", enforcement="Soft", overdraft={"amount": "4"}), usd("10"), ([], NEVER), id="soft stops later"
        ),
        pytest.param(
            usd("5", enforcement="Soft", overdraft={"amount": "5.01"}), usd("10"), ([], []), id="an overdraft counts"
        ),
        pytest.param(usd("5", **every("Month")), usd("10", **every("Day")), ([], NEVER), id="a day lies in a month"),
        pytest.param(usd("5", **every("Day")), usd("10", **every("Month")), ([], []), id="days add up to a month"),
        pytest.param(usd("5", **every("Month")), usd("6", **every("Week")), ([], []), id="a week may see two months"),
        pytest.param(usd("5", **every("Week")), usd("6", **every("Hour")), ([], NEVER), id="an hour lies in a week"),
        pytest.param(
            usd("5"), usd("6", **every("Month", "Asia/Tokyo")), ([], []), id="a month of Tokyo sees two of UTC"
        ),
        pytest.param(usd("5"), tokens(6), ([], []), id="dollars and tokens are not compared"),
        pytest.param(tokens(5), tokens(6), ([], NEVER), id="tokens are"),
        pytest.param(usd("5"), usd("6", per=["User"]), ([], NEVER), id="a user's limit above everybody's"),
        pytest.param(usd("5"), usd("4", per=["User"]), ([], []), id="a user's limit below everybody's"),
        pytest.param(usd("5", per=["User"]), usd("6"), ([], []), id="users add up"),
        pytest.param(
            usd("5", per=["User"]), usd("6", per=["Feature", "User"]), ([], NEVER), id="a user's features are the user"
        ),
        pytest.param(usd("5", per=["User"]), usd("6", per=["Feature"]), ([], []), id="other values"),
        pytest.param(usd("5"), usd("6", **applies(features=["a"])), ([], NEVER), id="everything covers a feature"),
        pytest.param(usd("5", **applies(features=["a"])), usd("6"), ([], []), id="a feature is not everything"),
        pytest.param(
            usd("5", **applies(features=["a", "b"])),
            usd("6", **applies(features=["b"])),
            ([], NEVER),
            id="two features",
        ),
        pytest.param(
            usd("5", **applies(routes=["assistant"])), usd("6", **applies(features=["b"])), ([], []), id="other fields"
        ),
        pytest.param(
            usd("5", **applies(models=["claude-*"])),
            usd("6", **applies(models=["claude-3-*", "claude-known"])),
            ([], NEVER),
            id="patterns of models",
        ),
        pytest.param(
            usd("5", **applies(models=["claude-3"])), usd("6", **applies(models=["claude-3*"])), ([], []), id="longer"
        ),
        pytest.param(
            usd("5", **applies(podSelector={"matchLabels": {"app": "a"}})),
            usd("6", **applies(podSelector={"matchLabels": {"app": "a", "tier": "x"}})),
            ([], NEVER),
            id="fewer pods",
        ),
        pytest.param(
            usd("5", **applies(podSelector={"matchLabels": {"app": "a"}})),
            usd("6", **applies(podSelector={"matchLabels": {"app": "b"}})),
            ([], []),
            id="other pods",
        ),
    ],
)
def test_a_limit_that_another_budget_stops_first_is_never_reached(
    left: Fields, right: Fields, told: tuple[list[str], list[str]]
) -> None:
    assert tuple([each.reason for each in problems] for problems in found(left, right)) == told


def test_who_is_never_reached_learns_both_limits_and_the_remedy() -> None:
    _, (problem,) = found(
        usd("5", enforcement="Soft", overdraft={"amount": "1"}), usd("10", per=["User"], **every("Day"))
    )
    assert problem == Problem(
        "NeverReached",
        "spec.limit: 10.00 USD a day for each user can never be reached: LLMBudget aaa covers the same calls and"
        " refuses them at 6.00 USD a month: set spec.limit.amount below that, raise the limit of aaa, or delete one"
        " of the two",
        about="Reachable",
        refuses=False,
    )


def test_the_tightest_of_several_is_named() -> None:
    namespace = compiled([], [budget("a", "8"), budget("b", "7"), budget("c", "9")])
    assert [len(each.problems) for each in namespace.budgets.values()] == [1, 0, 1]
    assert "LLMBudget b (and 1 more) covers the same calls and refuses them at 7.00 USD a month" in (
        namespace.budgets["c"].problems[0].message
    )


def down(*tiers: str) -> Fields:
    steps = [{"percent": 50 + 10 * index, "do": "Downgrade", "tier": tier} for index, tier in enumerate(tiers)]
    return {"thresholds": steps, "limit": {"amount": "5"}, "per": ["User"]}


@pytest.mark.parametrize(
    ("left", "right", "conflict"),
    [
        (("fast",), ("fast",), False),
        (("fast",), ("cheap",), True),
        (("fast", "cheap"), ("cheap",), False),
        (("fast", "cheap"), ("cheap", "fast"), True),
        (("fast", "cheap"), ("fast", "free"), True),
        (("fast", "cheap", "free"), ("fast", "free"), False),
        (("fast",), (), False),
    ],
)
def test_downgrades_conflict_where_two_budgets_do_not_agree_which_tier_is_cheaper(
    left: tuple[str, ...], right: tuple[str, ...], conflict: bool
) -> None:
    reasons = [["ConflictingDowngrades"]] * 2 if conflict else [[]] * 2
    one, other = down(*left), {**down(*right), "per": ["Feature"]}
    assert [[each.reason for each in problems] for problems in found(one, other)] == reasons


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (applies(features=["a"]), applies(features=["b"])),
        (applies(models=["claude-*"]), applies(models=["gpt-*"])),
        (applies(podSelector={"matchLabels": {"app": "a"}}), applies(podSelector={"matchLabels": {"app": "b"}})),
    ],
)
def test_downgrades_of_calls_that_have_nothing_in_common_do_not_conflict(left: Fields, right: Fields) -> None:
    assert found({**down("fast"), **left}, {**down("cheap"), **right}) == ((), ())


def test_a_conflict_names_both_orders() -> None:
    (problem,), _ = found(down("fast", "cheap"), {**down("free"), "per": ["Feature"]})
    assert problem.about == "Accepted"
    assert not problem.refuses
    assert "downgraded to fast then cheap by this budget and to free by LLMBudget bbb" in problem.message


def test_too_many_budgets_are_not_compared_and_say_so() -> None:
    many = [budget(f"b{number}", str(number + 1)) for number in range(COMPARED_MAX + 1)]
    reasons = {problem.reason for each in compiled([], many).budgets.values() for problem in each.problems}
    assert reasons == {"NotCompared"}
