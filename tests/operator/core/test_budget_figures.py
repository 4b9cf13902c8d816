"""Figures of budgets that count tokens, hold for values, may be overdrawn or were lowered."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.core.manifest_fields import Fields, budget, compiled

from keelage_api.money import parse_usd
from keelage_api.sync import By
from keelage_api.v1alpha1.llmbudget import LABEL_MAX, LLMBudgetStatus
from keelage_api.v1alpha1.manifest import Parsed, parse
from keelage_api.v1alpha1.schema import columns_of
from keelage_api.window import Window
from keelage_operator.core.budget_status import budget_status, refuses
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.table import render

NOW = "2026-11-21T00:00:00Z"
ENDS = "2026-12-01T00:00:00Z"
NONE = LedgerFigures(
    window=Window("2026-11", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
    limit=0,
    spent=0,
    reserved=0,
    leased=0,
    forfeited=0,
    uncertain=0,
    unheard=0,
    granted=0,
    committed=0,
    reporting=0,
    silent=0,
)


def status_of(
    figures: LedgerFigures, spec: Mapping[str, object] | None = None, old: LLMBudgetStatus | None = None
) -> LLMBudgetStatus:
    """What is written about a budget with such a spec."""
    found = compiled([], [budget(**(spec or {}))]).budgets["month"]  # type: ignore[arg-type] # `amount` is never among them
    parsed = parse(LLMBudgetStatus, budget_status(old or LLMBudgetStatus(), found, figures, NOW))
    assert isinstance(parsed, Parsed)
    return parsed.value


def condition(status: LLMBudgetStatus, kind: str) -> tuple[str, str, str]:
    return next((each.status, each.reason, each.message) for each in status.conditions if each.type == kind)


def columns(status: LLMBudgetStatus) -> list[str]:
    """The row that kubectl and `keelage get` print, age left out."""
    shown = {"metadata": {"name": "month"}, "status": status.model_dump(mode="json", by_alias=True)}
    table = render([each for each in columns_of("LLMBudget") if not each.priority][:-1], [shown], datetime.now(UTC))
    return [cell for cell in table.splitlines()[1].split("   ") if cell.strip()]


TOKENS: Fields = {"limit": {"tokens": 20_000_000}}


def test_tokens_are_whole_in_every_figure() -> None:
    figures = dataclasses.replace(
        NONE, limit=20_000_000, spent=5_000_000, leased=1_000, reserved=10, forfeited=7, uncertain=3, burn=1_234_567
    )
    status = status_of(figures, TOKENS)
    assert [cell.strip() for cell in columns(status)] == [
        "month",
        "20000000 tokens",
        "5000000",
        "1000",
        "14998993",
        "25%",
        ENDS,
        "Active",
    ]
    assert (status.burn_rate, status.reserved, status.forfeited, status.uncertain) == (
        "1230000 tokens/h",
        "10",
        "7",
        "3",
    )
    assert (status.amounts.unit, status.amounts.limit, status.amounts.spent) == ("Tokens", 20_000_000, 5_000_000)


def test_exhausted_tokens_name_their_own_field() -> None:
    status = status_of(dataclasses.replace(NONE, limit=20_000_000, spent=20_000_000), TOKENS)
    assert status.state == "Exhausted"
    assert condition(status, "Exhausted")[2] == (
        f"20000000 of 20000000 tokens are spent; calls are refused until {ENDS}: raise spec.limit.tokens or wait"
    )


PER_USER: Fields = {"limit": {"amount": "5"}, "per": ["User"]}
USERS = dataclasses.replace(
    NONE,
    limit=parse_usd("5"),
    spent=parse_usd("12.5"),
    values=3,
    values_exhausted=1,
    fullest=100,
    top=(("alice", parse_usd("5")), ("bob", parse_usd("4.5")), ("-", parse_usd("3"))),
    shards=(1, 2, 3),
    committed=6,
    burn=parse_usd("100"),
)


def test_a_limit_of_each_user_shows_the_sum_and_the_fullest() -> None:
    status = status_of(USERS, PER_USER)
    assert [cell.strip() for cell in columns(status)] == [
        "month",
        "5.00 USD/User",
        "12.50",
        "0.00",
        "100%",
        ENDS,
        "Active",
    ]
    assert (status.remaining, status.exhausted_at) == ("", "")
    assert status.values is not None
    assert (status.values.count, status.values.exhausted) == (3, 1)
    assert [(each.value, each.spent, each.used) for each in status.values.top] == [
        ("alice", "5.00", "100%"),
        ("bob", "4.50", "90%"),
        ("-", "3.00", "60%"),
    ]
    assert (status.amounts.committed, status.amounts.shards) == (6, (1, 2, 3))
    assert condition(status, "Exhausted") == (
        "False",
        "ValuesExhausted",
        f"1 of 3 values of User have next to nothing left until {ENDS}; the others go on",
    )


def test_more_users_than_a_ledger_takes_are_told_before_those_that_have_nothing_left() -> None:
    status = status_of(dataclasses.replace(USERS, values=130_000, crowded=True), PER_USER)
    assert condition(status, "Exhausted") == (
        "False",
        "TooManyValues",
        "130000 values of User are nearly all that the ledgers of a window take: calls of further ones are refused"
        f" until {ENDS}: let spec.per name something with fewer values, or split the budget by"
        " spec.applies.podSelector",
    )


def test_a_user_that_was_refused_exhausts_nobody_else() -> None:
    found = compiled([], [budget(**PER_USER)]).budgets["month"].in_force  # type: ignore[arg-type] # no amount in it
    assert found is not None
    assert not refuses(dataclasses.replace(USERS, spent=parse_usd("4.99")), found, LLMBudgetStatus(), refused=True)


def test_two_kinds_of_values_stand_in_the_limit() -> None:
    status = status_of(NONE, {"limit": {"tokens": 5}, "per": ["Feature", "User"]})
    assert status.limit == "5 tokens/User/Feature"


SOFT: Fields = {"limit": {"amount": "100"}, "enforcement": "Soft", "overdraft": {"amount": "20"}}


@pytest.mark.parametrize(
    ("spent", "overdrawn", "remaining", "used", "state"),
    [
        ("40", "0.00", "60.00", "40%", "Active"),
        ("110", "10.00", "0.00", "110%", "Active"),
        ("120", "20.00", "0.00", "120%", "Exhausted"),
    ],
)
def test_a_soft_budget_shows_what_is_overdrawn_and_ends_with_its_overdraft(
    spent: str, overdrawn: str, remaining: str, used: str, state: str
) -> None:
    figures = dataclasses.replace(
        NONE,
        limit=parse_usd("100"),
        overdraft=parse_usd("20"),
        spent=parse_usd(spent),
        overdrawn=max(0, parse_usd(spent) - parse_usd("100")),
    )
    status = status_of(figures, SOFT)
    assert (status.overdrawn, status.remaining, status.used, status.state) == (overdrawn, remaining, used, state)
    assert condition(status, "Enforced")[:2] == ("True", "Enforced")
    if state == "Exhausted":
        assert "120.00 of 100.00 and an overdraft of 20.00 USD are spent" in condition(status, "Exhausted")[2]


def test_a_lowered_limit_shows_what_is_still_to_come_back() -> None:
    figures = dataclasses.replace(NONE, limit=parse_usd("5"), leased=parse_usd("8"), pending_recall=parse_usd("3"))
    status = status_of(figures, {"limit": {"amount": "5"}})
    assert status.pending_recall == "3.00"
    state, reason, text = condition(status, "Enforced")
    assert (state, reason) == ("False", "Recalling")
    assert "sidecars hold 3.00 USD above it" in text
    after = status_of(dataclasses.replace(figures, pending_recall=0, leased=0), {"limit": {"amount": "5"}}, status)
    assert (after.pending_recall, condition(after, "Enforced")[1]) == ("", "Enforced")


def test_lists_of_the_greatest_add_up_to_what_is_spent() -> None:
    shares = {
        By.MODEL: (("claude-known", parse_usd("7")), ("gpt-known", parse_usd("2"))),
        By.USER: (*((f"user-{number}", parse_usd("0.5")) for number in range(10)), ("(other)", parse_usd("3"))),
        By.FEATURE: (("x" * 200, parse_usd("10")),),
    }
    status = status_of(dataclasses.replace(NONE, limit=parse_usd("50"), spent=parse_usd("10"), shares=shares))
    assert [(each.name, each.spent) for each in status.top.models] == [
        ("claude-known", "7.00"),
        ("gpt-known", "2.00"),
        ("(other)", "1.00"),
    ]
    assert len(status.top.users) == 11
    assert [(each.name, each.spent) for each in status.top.users][-1] == ("(other)", "5.00")
    (feature,) = status.top.features
    assert len(feature.name) == LABEL_MAX


NAMED = st.lists(st.tuples(st.text(max_size=200), st.integers(0, 2**62)), max_size=30).map(tuple)


@given(
    shares=st.dictionaries(st.sampled_from(By), NAMED),
    top=NAMED,
    shards=st.lists(st.integers(0, 2**70), max_size=32).map(tuple),
    spent=st.integers(0, 2**70),
    count=st.integers(0, 200_000),
)
def test_any_figures_fit_the_schema_of_the_status(
    shares: dict[By, tuple[tuple[str, int], ...]],
    top: tuple[tuple[str, int], ...],
    shards: tuple[int, ...],
    spent: int,
    count: int,
) -> None:
    figures = dataclasses.replace(USERS, shares=shares, top=top, shards=shards, spent=spent, values=count)
    status = status_of(figures, PER_USER)
    assert status_of(figures, PER_USER, status) == status
    assert all(amount < 2**63 for amount in status.amounts.shards)


def test_a_limit_that_is_passed_is_not_said_to_be_kept() -> None:
    soft = dataclasses.replace(
        NONE, limit=parse_usd("100"), overdraft=parse_usd("20"), spent=parse_usd("104"), overdrawn=parse_usd("4")
    )
    assert condition(status_of(soft, SOFT), "Exhausted") == (
        "False",
        "Overdrawn",
        "the limit of 100.00 USD is passed, and its calls are refused once the overdraft of 20.00 USD is used, too;"
        f" status.overdrawn says how much of it is; the window ends at {ENDS}",
    )
