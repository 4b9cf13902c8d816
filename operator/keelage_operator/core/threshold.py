"""Parts of a limit whose passing is told: once per window as Event and metric, with values a few times more. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from keelage_api.v1alpha1.llmbudget import Announcement, Do, LLMBudgetStatus
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.terms import BudgetInForce

TOLD_AGAIN = timedelta(minutes=5)
"""Between Events about one threshold of a budget with values: ten thousand users reach it one after the other."""


@dataclass(frozen=True, slots=True)
class Passing:
    """News about one threshold."""

    percent: int
    do: Do
    tier: str
    """With Downgrade."""
    more: int
    """Values that reached it since it was counted last; 1 without values."""
    event: bool
    """Whether an Event is due, too."""


def reached(terms: BudgetInForce, figures: LedgerFigures) -> dict[int, int]:
    """How many values have used so many percent, by threshold; 1 without values. A limit of nothing has no parts."""
    if figures.limit <= 0:
        return {}
    counted = (figures.spent + figures.forfeited) * 100
    counts = {
        percent: max(figures.passed.get(percent, 0), int(figures.fullest >= percent))
        if terms.valued
        else int(counted >= percent * figures.limit)
        for percent in terms.thresholds
    }
    return {percent: count for percent, count in counts.items() if count}


def announced(old: LLMBudgetStatus, figures: LedgerFigures, terms: BudgetInForce, now: str) -> tuple[Announcement, ...]:
    """What is told from now on in the window of the figures, ascending: it outlives whoever told it."""
    told = _told(old, figures.window.id)
    for percent, count in reached(terms, figures).items():
        before = told.get(percent)
        if before is None or (count > before.told and _since(before.at, now) >= TOLD_AGAIN):
            told[percent] = Announcement(percent=percent, values=count, told=count, at=now)
        elif count > before.values:
            told[percent] = before.model_copy(update={"values": count})
    return tuple(each for _, each in sorted(told.items()))


def passings(old: LLMBudgetStatus, new: LLMBudgetStatus, terms: BudgetInForce | None) -> Iterator[Passing]:
    """What the new status tells that the old one did not."""
    before = _told(old, new.window.id)
    tiers = {each.percent: each.tier for each in terms.downgrades} if terms is not None else {}
    for each in new.announced:
        former = before.get(each.percent, Announcement())
        more, event = each.values - former.values, each.told > former.told
        if more > 0 or event:
            do = Do.DOWNGRADE if each.percent in tiers else Do.WARN
            yield Passing(each.percent, do, tiers.get(each.percent, ""), max(more, 0), event)


def message(passing: Passing, status: LLMBudgetStatus) -> str:
    """For people: the Event's text, and local mode's line."""
    percent = passing.percent
    if status.values is not None:
        count = next((each.values for each in status.announced if each.percent == percent), 1)
        text = f"{percent}% of {status.limit} are used by {count} of {status.values.count} values"
        if status.values.top:
            text += f", most by {status.values.top[0].value} ({status.values.top[0].used})"
        text += f" since {status.window.starts_at}"
    else:
        text = f"{percent}% of {status.limit} are used: {status.spent} spent"
        if status.amounts.forfeited:
            text += f", {status.forfeited} forfeited"
        text += f" since {status.window.starts_at}"
    if passing.do is Do.DOWNGRADE:
        text += f"; calls use tier {passing.tier} from here on"
    if status.exhausted_at and status.state != "Exhausted":
        text += f"; at {status.burn_rate} the limit is reached at {status.exhausted_at}"
    return f"{text}; the window ends at {status.resets_at}"


def _told(old: LLMBudgetStatus, window: str) -> dict[int, Announcement]:
    return {each.percent: each for each in old.announced} if old.window.id == window else {}


def _since(then: str, now: str) -> timedelta:
    try:
        at = datetime.fromisoformat(then)
    except ValueError:  # somebody wrote into the status
        return TOLD_AGAIN
    return datetime.fromisoformat(now) - at if at.tzinfo is not None else TOLD_AGAIN
