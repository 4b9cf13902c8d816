"""`matches` and `select` of a route's rules as sidecars obey them, and what is wrong with them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from keelage_api.proxy_config import Match, Rule, ValueMatch
from keelage_api.selection import BudgetUsed, Classifier, Keywords, Selection, Size, TimeWindow, When, as_words
from keelage_api.v1alpha1 import matching, selection
from keelage_api.v1alpha1.metadata import duration_ms
from keelage_operator.core.problem import Problem

DEFAULT_PROMPT = (
    "You judge how hard a request to a language model is; you do not answer it. The request stands between <request>"
    f" tags. Say {selection.SIMPLE} if a small, fast model would answer it as well as a large one: small talk, a simple"
    " fact, a translation, a classification, a short rewording, extraction from a short text. Say"
    f" {selection.COMPLEX} if it takes several steps of reasoning, analysis, code, mathematics, expert knowledge or a"
    " long careful text. Reply with that one word and nothing else."
)

ZONE_YEARS = range(2025, 2051)
"""Whose changes of clocks sidecars are told; afterwards the last offset stays."""
_DAYS = tuple(selection.Day)


class ZoneUnknown(ValueError):
    """A time zone that the IANA database does not have."""


def match_of(match: matching.Match) -> Match:
    """As compiled."""
    path = match.path
    return Match(
        models=match.models,
        features=match.features,
        users=match.users,
        headers=tuple(
            ValueMatch(header.value, header.type is matching.HeaderMatchType.PREFIX, header.name.lower())
            for header in match.headers
        ),
        path=None if path is None else ValueMatch(path.value, path.type is matching.PathMatchType.PATH_PREFIX),
    )


def selections_of(namespace: str, entries: Iterable[selection.Selection]) -> tuple[Selection, ...]:
    """All but the last, which has no condition. Raises ZoneUnknown."""
    return tuple(Selection(_when(namespace, entry.when), entry.tier) for entry in entries if entry.when is not None)


def _when(namespace: str, when: selection.When) -> When:
    used, keywords, classifier, window = when.budget_used, when.keywords, when.classifier, when.time_window
    return When(
        task_types=when.task_types or (),
        words=_size(when.prompt_words),
        tokens=_size(when.prompt_tokens),
        keywords=None
        if keywords is None
        else Keywords(
            tuple(as_words(each) for each in keywords.any_of or ()),
            tuple(as_words(each) for each in keywords.none_of or ()),
        ),
        budget_used=None if used is None else BudgetUsed(f"{namespace}/{used.budget}", used.at_least_percent),
        time_window=None if window is None else _window(window),
        classifier=None
        if classifier is None
        else Classifier(
            classifier.tier,
            classifier.prompt or DEFAULT_PROMPT,
            as_words(classifier.answer),
            duration_ms(classifier.timeout),
            classifier.max_tokens,
            classifier.otherwise or "",
        ),
    )


def _size(size: selection.PromptSize | None) -> Size | None:
    return None if size is None else Size(size.at_least, size.at_most)


def _window(window: selection.TimeWindow) -> TimeWindow:
    days = tuple(sorted(_DAYS.index(day) for day in window.days))
    return TimeWindow(days, _minute(window.from_), _minute(window.to), offsets_of(window.time_zone))


def _minute(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


@lru_cache(maxsize=64)
def offsets_of(time_zone: str) -> tuple[tuple[int, int], ...]:
    """When the zone's clocks change, in unix seconds, and how far east of UTC they are from then on, in seconds.

    Raises ZoneUnknown.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (OSError, ValueError, KeyError) as error:  # a KeyError: not found; an OSError: a directory of zones
        raise ZoneUnknown(time_zone) from error
    day = datetime(ZONE_YEARS.start, 1, 1, tzinfo=UTC)
    found = [(int(day.timestamp()), _offset_s(zone, day))]
    while day.year in ZONE_YEARS:
        later = day + timedelta(days=1)
        if _offset_s(zone, later) != found[-1][1]:
            found.append(_change(zone, day, later))
        day = later
    return tuple(found)


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> tuple[int, int]:
    """The second between the two from which on the later offset holds."""
    low, high, old = int(before.timestamp()), int(after.timestamp()), _offset_s(zone, before)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(zone, datetime.fromtimestamp(middle, UTC)) == old:
            low = middle
        else:
            high = middle
    return high, _offset_s(zone, after)


def _offset_s(zone: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def unsearchable(name: str, entries: Iterable[selection.Selection]) -> Iterator[Problem]:
    """Keywords and answers without a word in them, which no text has."""
    for number, entry in enumerate(entries):
        if entry.when is None:
            continue
        keywords, classifier = entry.when.keywords, entry.when.classifier
        texts = [*(keywords.any_of or ()), *(keywords.none_of or ())] if keywords is not None else []
        for text in [*texts, *([] if classifier is None else [classifier.answer])]:
            if not as_words(text).strip():
                yield Problem(
                    "NoWord",
                    f"spec.rules[{name}].select[{number}].when: {text!r} has no letter or digit, so no text has it as a"
                    " word: write a word or a phrase",
                )


def unknown_budgets(rules: Iterable[Rule], budgets: Collection[str], applying: Collection[str]) -> Iterator[Problem]:
    """Conditions on budgets that there are not, or that no pod of the route falls under.

    `budgets` are those in force in the namespace, `applying` those of them whose pods the route may share.
    """
    for rule in rules:
        for number, entry in enumerate(rule.select):
            used = entry.when.budget_used
            if used is None or used.budget in applying:
                continue
            field = f"spec.rules[{rule.name}].select[{number}].when.budgetUsed"
            namespace, _, name = used.budget.partition("/")
            if used.budget in budgets:
                text = f"LLMBudget {name} applies to other pods than the route: its condition never holds: change the"
                text += " podSelector of one of them, or name another budget"
            else:
                text = f"namespace {namespace} has no LLMBudget {name} in force: its condition never holds until it is"
                text += " created or the name corrected"
            yield Problem("BudgetNotFound", f"{field}: {text}", about="ResolvedRefs", refuses=False)
