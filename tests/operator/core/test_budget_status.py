"""What `kubectl get llmbudget` shows."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_api.money import PICO_PER_USD, parse_usd
from keelage_api.v1alpha1.llmbudget import LLMBudgetSpec, LLMBudgetStatus
from keelage_api.v1alpha1.manifest import Parsed, dump, parse
from keelage_api.window import Window
from keelage_operator.core.accept import AcceptedBudget, accept_budget
from keelage_operator.core.budget_figures import instant, used
from keelage_operator.core.budget_status import budget_status, refuses
from keelage_operator.core.burn import burned, rate_of
from keelage_operator.core.compile import CompiledBudget
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.problem import Problem
from keelage_operator.core.terms import BudgetInForce

NOW = "2026-11-21T00:00:00Z"
ENDS = "2026-12-01T00:00:00Z"
FIGURES = LedgerFigures(
    window=Window("2026-11", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
    limit=parse_usd("500"),
    spent=parse_usd("212.34"),
    reserved=parse_usd("1.5"),
    leased=parse_usd("6"),
    forfeited=0,
    uncertain=0,
    unheard=0,
    granted=parse_usd("8"),
    committed=parse_usd("218.34"),
    reporting=3,
    silent=0,
)


def budget(*problems: Problem, in_force: bool = True, **spec: object) -> CompiledBudget:
    parsed = parse(LLMBudgetSpec, {"limit": {"amount": "500.00"}, **spec})
    assert isinstance(parsed, Parsed)
    accepted = accept_budget("shop", "month", "uid", parsed.value)
    assert isinstance(accepted, AcceptedBudget)
    refused = any(problem.refuses for problem in problems)
    return CompiledBudget(
        "month",
        "uid",
        2,
        not refused,
        problems,
        accepted.spec if in_force else None,
        accepted.in_force if in_force else None,
    )


def terms(**spec: object) -> BudgetInForce:
    found = budget(**spec).in_force  # type: ignore[arg-type] # `in_force` is never among them
    assert found is not None
    return found


def read(status: dict[str, object]) -> LLMBudgetStatus:
    parsed = parse(LLMBudgetStatus, status)
    assert isinstance(parsed, Parsed)
    return parsed.value


def conditions(status: dict[str, object]) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in read(status).conditions}


def test_columns_are_ready_made() -> None:
    compiled = budget()
    assert compiled.spec is not None
    status = budget_status(LLMBudgetStatus(), compiled, FIGURES, NOW)
    assert conditions(status) == {
        "Accepted": ("True", "Accepted"),
        "Enforced": ("True", "Enforced"),
        "Reachable": ("True", "Reachable"),
        "Exhausted": ("False", "WithinLimit"),
        "Stale": ("False", "Reporting"),
    }
    del status["conditions"]
    assert status == {
        "observedGeneration": 2,
        "window": {"id": "2026-11", "startsAt": "2026-11-01T00:00:00Z", "endsAt": ENDS},
        "limit": "500.00 USD",
        "spent": "212.34",
        "leased": "6.00",
        "remaining": "281.66",
        "overdrawn": "",
        "pendingRecall": "",
        "used": "42%",
        "percent": 42,
        "burnRate": "0.00 USD/h",
        "forecast": "212.34",
        "exhaustedAt": "",
        "announced": [],
        "resetsAt": ENDS,
        "state": "Active",
        "reserved": "1.50",
        "forfeited": "0.00",
        "uncertain": "0.00",
        "unheard": "0.00",
        "sidecars": {"reporting": 3, "silent": 0},
        "top": {"models": [], "features": [], "users": []},
        "amounts": {
            "unit": "Picodollars",
            "limit": FIGURES.limit,
            "overdraft": 0,
            "spent": FIGURES.spent,
            "uncertain": 0,
            "granted": FIGURES.granted,
            "forfeited": 0,
            "committed": FIGURES.committed,
            "burn": 0,
            "forecast": FIGURES.spent,
            "shards": [],
        },
        "lastAccepted": dump(compiled.spec),
    }


def test_second_run_changes_nothing() -> None:
    status = budget_status(LLMBudgetStatus(), budget(), FIGURES, NOW)
    assert budget_status(read(status), budget(), FIGURES, "2027-01-01T00:00:00Z") == status


def test_figures_stay_while_the_ledger_is_not_read() -> None:
    before = budget_status(LLMBudgetStatus(), budget(), FIGURES, NOW)
    after = budget_status(read(before), budget(), None, NOW)
    assert (after["spent"], after["amounts"], after["state"]) == ("212.34", before["amounts"], "Pending")
    assert conditions(after) == {
        "Accepted": ("True", "Accepted"),
        "Enforced": ("Unknown", "LedgerNotRead"),
        "Reachable": ("True", "Reachable"),
        "Exhausted": ("Unknown", "LedgerNotRead"),
        "Stale": ("True", "LedgerNotRead"),
    }


def test_new_budget_shows_its_limit_at_once() -> None:
    status = budget_status(LLMBudgetStatus(), budget(), None, NOW)
    assert (status["limit"], status["state"]) == ("500.00 USD", "Pending")


def test_budget_that_was_never_accepted_is_invalid() -> None:
    status = budget_status(LLMBudgetStatus(), budget(Problem("Invalid", "text"), in_force=False), None, NOW)
    assert (status["state"], status["lastAccepted"]) == ("Invalid", {})
    assert conditions(status)["Accepted"] == ("False", "Invalid")
    assert conditions(status)["Enforced"] == ("False", "NotAccepted")
    assert read(status).conditions[0].message == "text; nothing is enforced"


def test_refused_change_leaves_the_budget_active() -> None:
    status = budget_status(LLMBudgetStatus(), budget(Problem("Invalid", "text")), FIGURES, NOW)
    assert status["state"] == "Active"
    assert conditions(status)["Accepted"] == ("False", "Invalid")
    assert conditions(status)["Enforced"] == ("True", "Enforced")


@pytest.mark.parametrize(
    ("spent", "forfeited", "refusing", "exhausted"),
    [
        ("499.999999", "0", False, False),
        ("499.999999", "0", True, True),
        ("500", "0", False, True),
        ("450", "50", False, True),
        ("600", "0", False, True),
    ],
)
def test_budget_is_exhausted_when_nothing_can_be_spent(
    spent: str, forfeited: str, refusing: bool, exhausted: bool
) -> None:
    figures = dataclasses.replace(FIGURES, spent=parse_usd(spent), forfeited=parse_usd(forfeited), leased=0)
    status = budget_status(LLMBudgetStatus(), budget(), figures, NOW, refusing)
    assert status["state"] == ("Exhausted" if exhausted else "Active")
    assert conditions(status)["Exhausted"] == (("True", "LimitReached") if exhausted else ("False", "WithinLimit"))
    if exhausted and not refusing:
        assert status["remaining"] == "0.00"


BURNING = dataclasses.replace(FIGURES, burn=parse_usd("1.2345"))
"""In the middle of the last ten days: 240 hours are left."""


def test_forecast_goes_on_at_the_rate_of_late() -> None:
    status = read(budget_status(LLMBudgetStatus(), budget(), BURNING, NOW))
    # 212.34 + 240 h at 1.23 USD/h, in three digits; the rest of 287.66 would last for 234 hours.
    assert (status.burn_rate, status.forecast) == ("1.23 USD/h", "508.00")
    assert status.exhausted_at == "2026-11-30T17:53:00Z"


def test_status_is_not_written_for_a_rate_that_fades() -> None:
    before = budget_status(LLMBudgetStatus(), budget(), BURNING, NOW)
    slower = dataclasses.replace(BURNING, burn=parse_usd("1.05"))
    assert budget_status(read(before), budget(), slower, "2026-11-21T00:05:00Z") == before
    ended = budget_status(read(before), budget(), FIGURES, NOW)
    assert (ended["burnRate"], ended["forecast"], ended["exhaustedAt"]) == ("0.00 USD/h", "212.34", "")


def test_a_budget_that_nobody_spends_any_more_is_seldom_written() -> None:
    """Half an hour at 18 USD/h, then two hours of nothing, looked at every twenty seconds."""
    burn, at = burned(None, FIGURES.window, 0, 0.0), datetime.fromisoformat(NOW)
    for second in range(2, 1802, 2):
        burn = burned(burn, FIGURES.window, second * parse_usd("0.005"), second)
    old, writes = LLMBudgetStatus(), 0
    for second in range(1800, 1800 + 2 * 3600, 20):
        burn = burned(burn, FIGURES.window, burn.spent, second)
        figures = dataclasses.replace(FIGURES, spent=burn.spent, burn=rate_of(burn))
        now = instant(at + timedelta(seconds=second))
        status = budget_status(old, budget(), figures, now)
        writes += status != dump(old)
        old = read(status)
    assert (old.burn_rate, old.forecast, old.exhausted_at) == ("0.00 USD/h", "9.00", "")
    assert writes <= 70


def test_forecast_is_never_below_what_is_spent() -> None:
    before = budget_status(LLMBudgetStatus(), budget(), BURNING, NOW)
    more = dataclasses.replace(BURNING, spent=parse_usd("508.50"))
    after = read(budget_status(read(before), budget(), more, "2026-11-30T23:59:59Z"))
    assert parse_usd(after.forecast) >= more.spent


def test_exhausted_budget_keeps_the_moment_at_which_it_was() -> None:
    spent = dataclasses.replace(BURNING, spent=BURNING.limit)
    first = budget_status(LLMBudgetStatus(), budget(), spent, NOW)
    assert first["exhaustedAt"] == NOW
    assert budget_status(read(first), budget(), spent, "2026-11-22T00:00:00Z")["exhaustedAt"] == NOW


def test_refusals_exhaust_a_budget_until_its_limit_is_raised() -> None:
    dust = dataclasses.replace(FIGURES, spent=parse_usd("495"), leased=0)
    assert refuses(dust, terms(), LLMBudgetStatus(), refused=True)
    assert not refuses(dust, terms(), LLMBudgetStatus(), refused=False)
    told = read(budget_status(LLMBudgetStatus(), budget(), dust, NOW, refusing=True))
    assert told.state == "Exhausted"
    assert refuses(dust, terms(), told, refused=False)  # the next leader has the status only
    raised = dataclasses.replace(dust, limit=parse_usd("501"))
    assert not refuses(raised, terms(), told, refused=False)
    assert budget_status(told, budget(), raised, NOW)["state"] == "Active"


def test_exhausted_budget_says_when_it_resets_and_what_to_do() -> None:
    figures = dataclasses.replace(FIGURES, spent=FIGURES.limit)
    found = read(budget_status(LLMBudgetStatus(), budget(), figures, NOW))
    (message,) = (each.message for each in found.conditions if each.type == "Exhausted")
    assert message == (
        f"500.00 of 500.00 USD are spent; calls are refused until {ENDS}: raise spec.limit.amount or wait"
    )


def test_budget_that_observes_is_not_enforced() -> None:
    figures = dataclasses.replace(FIGURES, spent=parse_usd("700"))
    status = budget_status(LLMBudgetStatus(), budget(enforcement="Observe"), figures, NOW)
    assert (status["used"], status["remaining"]) == ("140%", "0.00")
    assert conditions(status)["Enforced"] == ("False", "ObserveOnly")
    assert conditions(status)["Exhausted"] == ("True", "LimitPassed")


def test_budget_in_shadow_is_not_enforced_and_says_where_it_tells() -> None:
    figures = dataclasses.replace(FIGURES, spent=parse_usd("700"))
    status = budget_status(LLMBudgetStatus(), budget(mode="Shadow"), figures, NOW)
    assert (status["used"], status["remaining"]) == ("140%", "0.00")
    assert conditions(status)["Enforced"] == ("False", "Shadow")
    assert conditions(status)["Exhausted"] == ("True", "LimitPassed")


@pytest.mark.parametrize(("enforcement", "beyond"), [("Hard", "are refused"), ("Observe", "are not counted")])
def test_a_budget_that_takes_no_more_values_says_what_becomes_of_their_calls(enforcement: str, beyond: str) -> None:
    figures = dataclasses.replace(FIGURES, values=130_000, crowded=True)
    found = read(budget_status(LLMBudgetStatus(), budget(enforcement=enforcement, per=["User"]), figures, NOW))
    (message,) = (each.message for each in found.conditions if each.reason == "TooManyValues")
    assert f"calls of further ones {beyond} until {ENDS}" in message


def test_missing_route_is_not_enforced() -> None:
    problem = Problem("RouteNotFound", "text", about="Enforced", refuses=False)
    assert conditions(budget_status(LLMBudgetStatus(), budget(problem), FIGURES, NOW))["Enforced"] == (
        "False",
        "RouteNotFound",
    )


@pytest.mark.parametrize(
    ("problem", "found"),
    [
        (Problem("NeverReached", "text", about="Reachable", refuses=False), ("Reachable", "False", "NeverReached")),
        (Problem("NotCompared", "text", about="Reachable", refuses=False), ("Reachable", "Unknown", "NotCompared")),
        (Problem("ConflictingDowngrades", "text", refuses=False), ("Accepted", "True", "ConflictingDowngrades")),
        (Problem("TierNotFound", "text", about="Enforced", refuses=False), ("Enforced", "False", "TierNotFound")),
    ],
)
def test_what_is_doubtful_about_an_accepted_spec_is_said(problem: Problem, found: tuple[str, str, str]) -> None:
    status = read(budget_status(LLMBudgetStatus(), budget(problem), FIGURES, NOW))
    (condition,) = (each for each in status.conditions if each.type == found[0])
    assert (condition.type, condition.status, condition.reason, condition.message) == (*found, "text")


def test_silent_sidecars_make_the_figures_stale() -> None:
    figures = dataclasses.replace(FIGURES, silent=2, unheard=parse_usd("4"))
    found = read(budget_status(LLMBudgetStatus(), budget(), figures, NOW))
    (stale,) = (each for each in found.conditions if each.type == "Stale")
    assert (stale.status, stale.reason) == ("True", "SidecarsSilent")
    assert "4.00 USD that they hold stay set aside" in stale.message


@given(st.integers(0, 10**18), st.integers(0, 10**18))
def test_used_is_100_percent_only_when_it_is(spent: int, limit: int) -> None:
    assert (used(spent, limit) >= 100) == (spent >= limit)


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**15))
def test_what_is_shown_never_adds_up_to_more_than_the_limit(spent: int, leased: int, forfeited: int) -> None:
    figures = dataclasses.replace(
        FIGURES, limit=spent + leased + forfeited + PICO_PER_USD // 3, spent=spent, leased=leased, forfeited=forfeited
    )
    status = read(budget_status(LLMBudgetStatus(), budget(), figures, NOW))
    left = figures.limit - spent - leased - forfeited
    assert parse_usd(status.remaining) <= left
    assert parse_usd(status.spent) >= spent


INT64 = st.integers(-(2**63), 2**63 - 1)
BY_HAND = st.fixed_dictionaries(
    {},
    optional={
        "window": st.fixed_dictionaries({"id": st.sampled_from(["2026-11", "", "x"]), "endsAt": st.text(max_size=8)}),
        "exhaustedAt": st.sampled_from(["soon", "2026-11-22", "2026-11-22T00:00:00", "9999-12-31T23:59:59Z"])
        | st.text(max_size=64),
        "state": st.sampled_from(["Active", "Exhausted", "Pending", "Invalid"]),
        "announced": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    **dict.fromkeys(("percent", "values", "told"), INT64),
                    "at": st.sampled_from(["soon", "2026-11-20", NOW, "2026-11-22T00:00:00"]) | st.text(max_size=64),
                },
            ),
            max_size=5,
        ),
        "amounts": st.fixed_dictionaries({}, optional=dict.fromkeys(("limit", "burn", "forecast"), INT64)),
    },
)


@given(status=BY_HAND, burn=st.integers(0, 10**17), refusing=st.booleans())
def test_a_status_that_somebody_wrote_by_hand_is_written_anew(
    status: dict[str, object], burn: int, refusing: bool
) -> None:
    figures = dataclasses.replace(FIGURES, burn=burn)
    new = budget_status(read(status), budget(), figures, NOW, refusing)
    assert new["spent"] == "212.34"
    whole = [each for each in dict(read(new).amounts).values() if isinstance(each, int)]
    assert all(-(2**63) <= pico < 2**63 for pico in whole)
    assert parse(LLMBudgetStatus, budget_status(read(new), budget(), figures, NOW, refusing)) is not None
