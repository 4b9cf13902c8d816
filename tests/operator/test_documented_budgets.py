"""What docs/budgets.md says is what the code does: its figures, its columns, its limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keelage_api.v1alpha1.llmbudget import TOP_MAX, LLMBudgetStatus
from keelage_api.window import Every
from keelage_operator.core import burn, ledger, ledger_row, shard, windows
from keelage_sidecar.core import account, local_rate
from keelage_sidecar.shell import reservation

PAGE = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text()
BEGINNINGS = {"window", "resetsAt", "state", "limit", "conditions", "observedGeneration"}
"""Fields of the status that need no words."""
FOR_PROGRAMS = {"amounts", "announced", "lastAccepted"}


def section(name: str) -> str:
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[str]:
    """The first cells of its tables, without the heads."""
    return [row.split("|")[1].strip() for row in text.splitlines() if row.startswith("| `")]


def test_every_figure_of_the_status_has_a_line() -> None:
    told = {name for row in rows(section("Figures")) for name in re.findall("`([a-zA-Z]+)`", row)}
    fields = {field.alias or name for name, field in LLMBudgetStatus.model_fields.items()}
    assert told - {"status"} == fields - BEGINNINGS - FOR_PROGRAMS


def test_every_length_of_a_window_has_a_line() -> None:
    assert rows(section("Windows"))[1:] == [f"`{every}`" for every in Every]


@pytest.mark.parametrize(
    ("words", "true"),
    [
        ("waits, up to ten seconds,", reservation.BUDGET_WAIT_S == 10),
        ("for 15 seconds of spending", account.HORIZON_S == 15),
        ("half a percent of the limit or eight seconds", (account.LEASE_PARTS, account.LEASE_MIN_S) == (200, 8)),
        ("silent for 45 seconds", ledger_row.SILENT_AFTER_S == 45),
        ("fades over ten minutes", burn.FADE_S == 600),
        ("the ten models, features and users", TOP_MAX == 10),
        ("for six seconds nothing is granted", ledger.LEARNING_S == 6),
        ("in one of 32 ledgers", shard.SHARDS == 32),
        ("after a minute without one", account.VALUED_IDLE_S == 60),
        ("by itself, after ten seconds", local_rate.QUOTA_ALONE_S == 10),
        ("set back by less than a day", windows.CLOCK_STEP_MAX.days == 1),
    ],
)
def test_what_the_page_counts_is_what_the_code_counts(words: str, true: bool) -> None:
    assert words in PAGE.replace("\n", " ")
    assert true
