"""Which tier a rule would select for a call that `explain_request` follows: each condition, and why it holds or not.

Decided by the sidecar's own core. No classifier is asked, and how far budgets are used only their ledger knows: both
are taken as if the condition did not hold, and said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from keelage_api.proxy_config import Rule
from keelage_api.selection import Keywords, Selection, Size, TimeWindow
from keelage_api.v1alpha1.selection import Day
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Plan, RoutingTable
from keelage_sidecar.core.selection import Case, Selected, choose, judged, local_minute

_DAYS = tuple(Day)


def selected(
    table: RoutingTable, rule: Rule, facts: Facts, unix_s: float, answers: Sequence[str]
) -> tuple[list[str], Plan | Refusal]:
    """A line for each entry, and the plan on the tier that is used; no line for a rule that has one tier.

    `answers`: that of each entry's classifier, as it is written in the manifest.
    """
    case = Case(facts, lambda _name, _value: None, unix_s, asks=False)
    found = choose(table, rule, case, {})
    plan = found.plan if isinstance(found, Selected) else found
    assert isinstance(plan, Plan | Refusal)
    if not rule.select or not facts.endpoint.has_model:
        return [], plan
    by = found.by.partition(":")[0] if isinstance(found, Selected) else ""
    lines = []
    for index, entry in enumerate(rule.select):
        chosen = by == str(index)
        lines.append(f"select[{index}], tier {entry.tier}: {_outcome(table, rule, facts, entry, chosen, case)}")
        lines += [f"  {line}" for line in _conditions(table, entry, case, answers[index])]
        if chosen:
            return lines, plan
    return [*lines, f"no entry before it holds: the default, tier {rule.tier}"], plan


def _outcome(table: RoutingTable, rule: Rule, facts: Facts, entry: Selection, chosen: bool, case: Case) -> str:
    if chosen:
        return "the first that holds"
    if not all(holds for _, holds in judged(entry.when, table, case)):
        return "does not hold"
    if isinstance(table.on_tier(rule, facts, entry.tier), Refusal):
        return "passed over: the tier has nobody for a call of this API"
    return "taken as not holding: its classifier is not asked here"


def _conditions(table: RoutingTable, entry: Selection, case: Case, answer: str) -> Iterator[str]:
    for name, holds in judged(entry.when, table, case):
        yield f"{'holds' if holds else 'does not hold'}: {name}: {_why(name, entry, case)}"
    classifier = entry.when.classifier
    if classifier is not None:
        failing = f"tier {classifier.otherwise}" if classifier.otherwise else "the next entry"
        yield (
            f"not asked: classifier: tier {classifier.tier} would be asked about {len(case.prompt.text)} characters;"
            f" holds if it says {answer} within {classifier.timeout_ms} ms, else {failing} where"
            " nothing comes"
        )


def _why(name: str, entry: Selection, call: Case) -> str:
    """What was looked for, and what the call has."""
    when = entry.when
    match name:
        case "taskTypes":
            return f"the call's is {call.facts.task_type!r}, wanted {' or '.join(when.task_types)}"
        case "timeWindow" if when.time_window is not None:
            return _time(when.time_window, call.unix_s)
        case "budgetUsed" if when.budget_used is not None:
            used = when.budget_used
            return f"wanted {used.at_least_percent}% of {used.budget}: what is used of it is not known here"
        case "promptTokens" if when.tokens is not None:
            return f"about {call.facts.weight.likely_tokens}, wanted {_size(when.tokens)}"
        case "promptWords" if when.words is not None:
            return f"{call.prompt.words}, wanted {_size(when.words)}"
        case _:
            assert when.keywords is not None
            return _keywords(when.keywords, call.prompt.folded)


def _keywords(keywords: Keywords, folded: str) -> str:
    there = [each.strip() for each in keywords.any_of if each in folded]
    barred = [each.strip() for each in keywords.none_of if each in folded]
    parts = []
    if keywords.any_of:
        parts.append(f"has {', '.join(there)}" if there else "has none of anyOf")
    if keywords.none_of:
        parts.append(f"has {', '.join(barred)}, which noneOf bars" if barred else "has none of noneOf")
    return "the prompt " + " and ".join(parts)


def _size(size: Size) -> str:
    least = [f"at least {size.at_least}"] if size.at_least is not None else []
    most = [f"at most {size.at_most}"] if size.at_most is not None else []
    return " and ".join((*least, *most))


def _time(window: TimeWindow, unix_s: float) -> str:
    day, minute = local_minute(window, unix_s)
    days = ", ".join(_DAYS[each] for each in window.days)
    at = datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%MZ")
    return (
        f"at {at} it is {_DAYS[day]} {_clock(minute)} there, wanted {days} {_clock(window.from_minute)} to"
        f" {_clock(window.to_minute)}"
    )


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
