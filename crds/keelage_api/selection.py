"""Which of a rule's tiers a call uses, as sidecars are told: conditions, compiled. Part of `proxy_config`."""

from __future__ import annotations

import re

import msgspec

_WORD = re.compile(r"\w+")
_BETWEEN = {code: " " for code in range(128) if _WORD.match(chr(code)) is None}
"""Of the characters of ASCII, those that stand between words."""


def as_words(text: str) -> str:
    """The words of a text, in one case, each between single blanks: ` draft a contract `.

    What is searched for and what it is searched in go through here; a word is letters, digits and `_`.
    """
    text = text.casefold()
    # The usual text is read in two passes over its bytes, three times as fast as by the expression.
    words = text.translate(_BETWEEN).split() if text.isascii() else _WORD.findall(text)
    return f" {' '.join(words)} "


class Size(msgspec.Struct, frozen=True):
    """From `at_least` to `at_most`, both included; None: no bound."""

    at_least: int | None = None
    at_most: int | None = None


class Keywords(msgspec.Struct, frozen=True):
    """As `as_words` writes them."""

    any_of: tuple[str, ...] = ()
    """One of them at least; empty: none is needed."""
    none_of: tuple[str, ...] = ()


class Classifier(msgspec.Struct, frozen=True):
    """A model is asked about the prompt."""

    tier: str
    prompt: str
    answer: str
    """As `as_words` writes it: the reply begins with it."""
    timeout_ms: int
    max_tokens: int
    """Of the reply."""
    otherwise: str = ""
    """The tier to use where there is no answer; empty: then the condition does not hold."""


class BudgetUsed(msgspec.Struct, frozen=True):
    budget: str
    """`<namespace>/<budget>`."""
    at_least_percent: int


class TimeWindow(msgspec.Struct, frozen=True):
    """Days and hours by the clock of one place."""

    days: tuple[int, ...]
    """0 is Monday."""
    from_minute: int
    """Of the day."""
    to_minute: int
    """Not included, up to 1440; before `from_minute`: of the next day."""
    offsets: tuple[tuple[int, int], ...]
    """(unix second from which on, seconds east of UTC), ascending; the first one holds before it, too. The place's
    time zone, so that a sidecar needs no database of them."""


class When(msgspec.Struct, frozen=True):
    """All that are given must hold; at least one is."""

    task_types: tuple[str, ...] = ()
    words: Size | None = None
    """Of the last user turn."""
    tokens: Size | None = None
    """Of the whole input, estimated."""
    keywords: Keywords | None = None
    budget_used: BudgetUsed | None = None
    time_window: TimeWindow | None = None
    classifier: Classifier | None = None


class Selection(msgspec.Struct, frozen=True):
    """One tier of a rule, and when it is used."""

    when: When
    tier: str
