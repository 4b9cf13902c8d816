"""Which of its tiers a rule uses for a call."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.v1alpha1.constraint import Constraint, ListSet, constrained, pattern
from keelage_api.v1alpha1.metadata import Duration, Name, ObjectName, Part, TimeZone, Word, duration_ms

SELECTIONS_MAX = 16
PROMPT_SIZE_MAX = 10_000_000
CLASSIFIER_TIMEOUT_MAX = "30s"
SIMPLE, COMPLEX = "SIMPLE", "COMPLEX"
"""What the prompt that is there by default asks for."""

Keyword = Annotated[str, StringConstraints(min_length=1, max_length=64)]


@constrained(
    Constraint["PromptSize"](
        cel="has(self.atLeast) || has(self.atMost)",
        message="write atLeast, atMost or both, as in {atMost: 40}: without them every prompt fits",
        holds=lambda part: part.at_least is not None or part.at_most is not None,
    ),
    Constraint["PromptSize"](
        cel="!has(self.atLeast) || !has(self.atMost) || self.atLeast <= self.atMost",
        message="atLeast must not be greater than atMost: no prompt has such a length",
        holds=lambda part: part.at_least is None or part.at_most is None or part.at_least <= part.at_most,
        field=".atLeast",
    ),
)
class PromptSize(Part):
    """A length; both bounds are included."""

    at_least: Annotated[int, Field(ge=1, le=PROMPT_SIZE_MAX)] | None = None
    """So many or more."""
    at_most: Annotated[int, Field(ge=0, le=PROMPT_SIZE_MAX)] | None = None
    """So many or fewer."""


@constrained(
    Constraint["Keywords"](
        cel="has(self.anyOf) || has(self.noneOf)",
        message="write anyOf, noneOf or both, as in {noneOf: [legal]}: without them every prompt fits",
        holds=lambda part: part.any_of is not None or part.none_of is not None,
    )
)
class Keywords(Part):
    """Words and phrases of the prompt, whatever their case; a word is found only as a whole."""

    any_of: Annotated[tuple[Keyword, ...], Field(min_length=1, max_length=64)] | None = None
    """One of these at least is in it."""
    none_of: Annotated[tuple[Keyword, ...], Field(min_length=1, max_length=64)] | None = None
    """None of these is in it."""


@constrained(
    Constraint["Classifier"](
        cel=f"has(self.prompt) || self.answer in ['{SIMPLE}', '{COMPLEX}']",
        message=f"answer must be {SIMPLE} or {COMPLEX}, which is what the default prompt asks for; for another answer"
        " write a prompt that asks for it",
        holds=lambda part: part.prompt is not None or part.answer in (SIMPLE, COMPLEX),
        field=".answer",
    ),
    Constraint["Classifier"](
        cel=f"duration(self.timeout) <= duration('{CLASSIFIER_TIMEOUT_MAX}')",
        message=f"timeout must not be longer than {CLASSIFIER_TIMEOUT_MAX}: the call waits for it",
        holds=lambda part: duration_ms(part.timeout) <= duration_ms(CLASSIFIER_TIMEOUT_MAX),
        field=".timeout",
    ),
)
class Classifier(Part):
    """A model is asked about the prompt, and says the answer. The question is a call of its own: it reserves on the
    budgets that the application's call falls under and is attributed to its user and feature. Answers are remembered
    for an hour. Asked last, and only where all other conditions of the entry hold; never for calls that cost nothing
    and for message batches."""

    tier: Name
    """Who is asked: one of `spec.tiers`, a cheap one."""
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    """What to do with the text, which the model gets between `<request>` tags. Left out: to say SIMPLE or COMPLEX."""
    answer: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """The condition holds if the reply begins with these words, whatever their case."""
    timeout: Duration = "2s"
    """For the reply, all attempts together."""
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 16
    """Cap of the reply. Models that reason before they answer need some hundred."""
    otherwise: Name | None = None
    """The tier to use where no answer came. Left out: the condition does not hold then, and the next entry is looked
    at."""


class BudgetUsed(Part):
    """How much of a budget is used, by everybody, as the sidecar heard last (every few seconds)."""

    budget: ObjectName
    """An LLMBudget of the namespace that applies to the pods; one with `per`: the call's own part of it."""
    at_least_percent: Annotated[int, Field(ge=1, le=100)]
    """Of its limit."""


class Day(enum.StrEnum):
    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


ClockTime = Annotated[
    str,
    StringConstraints(min_length=5, max_length=5),
    pattern("([01][0-9]|2[0-3]):[0-5][0-9]|24:00", "must be a time of day from 00:00 to 24:00, as in 08:30"),
]


@constrained(
    Constraint["TimeWindow"](
        cel="self.from != self.to",
        message="from and to must differ: for the whole day leave both out",
        holds=lambda part: part.from_ != part.to,
        field=".to",
    )
)
class TimeWindow(Part):
    """Days of the week and hours of the day."""

    days: Annotated[tuple[Day, ...], Field(min_length=1, max_length=7), ListSet()] = tuple(Day)
    """Mon to Sun; left out: every day."""
    from_: Annotated[ClockTime, Field(alias="from")] = "00:00"
    """The first minute."""
    to: ClockTime = "24:00"
    """The minute after the last. Before `from`: on the next day, so that the night belongs to the day it began on."""
    time_zone: TimeZone = "UTC"
    """Whose clock counts; a name of the IANA database."""


@constrained(
    Constraint["When"](
        cel="has(self.taskTypes) || has(self.promptWords) || has(self.promptTokens) || has(self.keywords)"
        " || has(self.classifier) || has(self.budgetUsed) || has(self.timeWindow)",
        message="write a condition, as in {promptWords: {atMost: 40}}; the last entry, for all other"
        " calls, has no when",
        holds=lambda part: any(value is not None for _, value in part),
    )
)
class When(Part):
    """Conditions on a call; all that are given must hold."""

    task_types: Annotated[tuple[Word, ...], Field(min_length=1, max_length=32)] | None = None
    """Any of these types: header `x-keelage-task-type`, else the pod's label `keelage.dev/task-type`."""
    prompt_words: PromptSize | None = None
    """Words of the prompt: of the last user turn that has text, up to its 200,000th character. The system prompt,
    earlier turns and results of tools do not count."""
    prompt_tokens: PromptSize | None = None
    """Tokens of the whole input, system prompt, history and tools included: an estimate, a token for four bytes of
    text."""
    keywords: Keywords | None = None
    """Words in the same text as for `promptWords`."""
    classifier: Classifier | None = None
    """What a model says of that text."""
    budget_used: BudgetUsed | None = None
    """How far a budget is used up."""
    time_window: TimeWindow | None = None
    """What time it is."""


class Selection(Part):
    """A tier, and when it is used."""

    when: When | None = None
    """Left out in the last entry, and only there: it is for all calls that no entry before it was for."""
    tier: Name
    """One of `spec.tiers`. One that has nobody for the call's API is passed over."""


Selections = Annotated[
    tuple[Selection, ...],
    Field(min_length=1, max_length=SELECTIONS_MAX),
    Constraint[tuple[Selection, ...]](
        cel="size(self) == 0 || !has(self[size(self) - 1].when)",
        message="the last entry of select must have no when: it is for the calls that no other entry is for; add one"
        " with a tier only",
        holds=lambda entries: not entries or entries[-1].when is None,
    ),
    Constraint[tuple[Selection, ...]](
        cel="self.filter(s, !has(s.when)).size() < 2",
        message="only the last entry of select may have no when: the entries after it would never be used; give it a"
        " when or remove those",
        holds=lambda entries: sum(entry.when is None for entry in entries) < 2,
    ),
]
