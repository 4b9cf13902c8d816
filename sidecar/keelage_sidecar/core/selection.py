"""Which of its rule's tiers a call uses: the first entry of `select` whose conditions hold. Pure.

Only a classifier's condition cannot be judged at once. Then the answer is `Ask`; whoever asked comes again with
what was said, and is told the tier in the end. An entry whose tier has nobody for the call's API is passed over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from keelage_api.proxy_config import Rule
from keelage_api.selection import BudgetUsed, Classifier, Keywords, Selection, Size, TimeWindow, When, as_words
from keelage_sidecar.core.prompt import Prompt
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Plan, RoutingTable, value_of

DEFAULT = "default"
_DAY_MIN = 24 * 60


@dataclass(frozen=True, slots=True)
class Case:
    """A call, and what holds while it is decided."""

    facts: Facts
    used: Callable[[str, str], int | None]
    """Percent of a budget's limit that is used, for a value; None where it is not known."""
    unix_s: float
    asks: bool = True
    """A classifier may be asked; else its condition does not hold."""
    prompt: Prompt = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", Prompt(self.facts))


class Selected(msgspec.Struct, frozen=True):
    plan: Plan
    """Its rule says the tier."""
    by: str
    """`default`, or the entry's place and its conditions: `1:promptWords+keywords`; behind `:otherwise` where a
    classifier gave no answer."""


class Ask(msgspec.Struct, frozen=True):
    """Which tier it is depends on what a model says to this."""

    index: int
    """Of the entry: where the answer belongs."""
    classifier: Classifier
    text: str


Answers = Mapping[int, str | None]
"""By entry; None: there was no answer."""


def choose(table: RoutingTable, rule: Rule, case: Case, answers: Answers) -> Selected | Ask | Refusal:
    """The tier, or what must be known first; a refusal where the default tier has nobody for the call, either.

    The same case and answers give the same tier.
    """
    facts = case.facts
    if not facts.endpoint.has_model:
        plan = table.on_any_tier(rule, facts)
        return plan if isinstance(plan, Refusal) else Selected(plan, DEFAULT)
    for index, entry in enumerate(rule.select):
        if not all(holds for _, holds in judged(entry.when, table, case)):
            continue
        plan = table.on_tier(rule, facts, entry.tier)
        if isinstance(plan, Refusal):
            continue
        classifier = entry.when.classifier
        if classifier is None:
            return Selected(plan, f"{index}:{told(entry)}")
        if not (case.asks and facts.endpoint.metered and case.prompt.text):
            continue
        if index not in answers:
            return Ask(index, classifier, case.prompt.text)
        said = answers[index]
        if said is not None:
            if as_words(said).startswith(classifier.answer):
                return Selected(plan, f"{index}:{told(entry)}")
        elif classifier.otherwise:
            plan = table.on_tier(rule, facts, classifier.otherwise)
            if isinstance(plan, Plan):
                return Selected(plan, f"{index}:{told(entry)}:otherwise")
    plan = table.on_tier(rule, facts)
    return plan if isinstance(plan, Refusal) else Selected(plan, DEFAULT)


def on_tier_at_once(table: RoutingTable, rule: Rule, case: Case) -> Plan | Refusal:
    """The tier of a call that is not worth a question: no classifier is asked, and no condition on one holds."""
    step = choose(table, rule, replace(case, asks=False), {})
    assert not isinstance(step, Ask)
    return step.plan if isinstance(step, Selected) else step


def moment(changing: tuple[When, ...], table: RoutingTable, case: Case) -> bytes:
    """Which of these conditions hold now (`response_key.changing_of`): calls of one moment may have one answer."""
    return bytes(holds for when in changing for _, holds in judged(when, table, case))


def judged(when: When, table: RoutingTable, case: Case) -> Iterator[tuple[str, bool]]:
    """Each condition but the classifier's, cheap ones first, and whether it holds."""
    if when.task_types:
        yield "taskTypes", case.facts.task_type in when.task_types
    if when.time_window is not None:
        yield "timeWindow", _open(when.time_window, case.unix_s)
    if when.budget_used is not None:
        percent = used_of(when.budget_used, table, case)
        yield "budgetUsed", percent is not None and percent >= when.budget_used.at_least_percent
    if when.tokens is not None:
        yield "promptTokens", _within(when.tokens, case.facts.weight.likely_tokens)
    if when.words is not None:
        yield "promptWords", _within(when.words, case.prompt.words)
    if when.keywords is not None:
        yield "keywords", _found(when.keywords, case.prompt.folded)


def told(entry: Selection) -> str:
    """Names of all its conditions: `promptWords+keywords`."""
    when = entry.when
    given = (
        ("taskTypes", when.task_types),
        ("timeWindow", when.time_window),
        ("budgetUsed", when.budget_used),
        ("promptTokens", when.tokens),
        ("promptWords", when.words),
        ("keywords", when.keywords),
        ("classifier", when.classifier),
    )
    return "+".join(name for name, condition in given if condition)


def used_of(asked: BudgetUsed, table: RoutingTable, case: Case) -> int | None:
    """Percent; None where the budget does not apply to the pod, or nothing was heard of it yet."""
    terms = next((each for each in table.config.budgets if each.name == asked.budget), None)
    return None if terms is None else case.used(asked.budget, value_of(terms.per, case.facts))


def local_minute(window: TimeWindow, unix_s: float) -> tuple[int, int]:
    """Day of the week (0: Monday) and minute of the day, by the window's clock."""
    at = bisect_right(window.offsets, unix_s, key=lambda each: each[0])
    minutes = int(unix_s + window.offsets[max(0, at - 1)][1]) // 60
    days, minute = divmod(minutes, _DAY_MIN)
    return (days + 3) % 7, minute  # 1970 began on a Thursday


def _open(window: TimeWindow, unix_s: float) -> bool:
    day, minute = local_minute(window, unix_s)
    if window.from_minute < window.to_minute:
        return day in window.days and window.from_minute <= minute < window.to_minute
    if minute >= window.from_minute:
        return day in window.days
    return minute < window.to_minute and (day - 1) % 7 in window.days


def _within(size: Size, value: int) -> bool:
    return (size.at_least is None or value >= size.at_least) and (size.at_most is None or value <= size.at_most)


def _found(keywords: Keywords, folded: str) -> bool:
    return (not keywords.any_of or any(each in folded for each in keywords.any_of)) and not any(
        each in folded for each in keywords.none_of
    )
