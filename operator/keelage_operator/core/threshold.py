"""Parts of a limit whose passing is to be told once per window. Pure; amounts in pico-dollars."""

from __future__ import annotations

from collections.abc import Sequence

from keelage_api.v1alpha1.llmbudget import LLMBudgetStatus
from keelage_operator.core.ledger_figures import LedgerFigures


def reached(thresholds: Sequence[int], figures: LedgerFigures) -> tuple[int, ...]:
    """Those percentages of the limit that are spent or forfeited. A limit of nothing has no parts."""
    counted = figures.spent + figures.forfeited
    return tuple(each for each in thresholds if figures.limit > 0 and counted * 100 >= each * figures.limit)


def announced(old: LLMBudgetStatus, window: str) -> tuple[int, ...]:
    """What the status says was told in that window: it outlives whoever told it."""
    return old.announced if old.window.id == window else ()


def fresh(old: LLMBudgetStatus, status: LLMBudgetStatus) -> tuple[int, ...]:
    """What the new status has to tell for the first time."""
    told = announced(old, status.window.id)
    return tuple(each for each in status.announced if each not in told)


def message(percent: int, status: LLMBudgetStatus) -> str:
    """For people: the Event's text, and local mode's line."""
    text = f"{percent}% of {status.limit} are used: {status.spent} spent"
    if status.picodollars.forfeited:
        text += f", {status.forfeited} forfeited"
    text += f" since {status.window.starts_at}"
    if status.exhausted_at and status.state != "Exhausted":
        text += f"; at {status.burn_rate} the limit is reached at {status.exhausted_at}"
    return f"{text}; the window ends at {status.resets_at}"
