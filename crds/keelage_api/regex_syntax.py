"""The syntax of regular expressions, as far as whether a text matches goes: that of RE2.

Literals, `.`, classes, groups, `|`, `* + ? {m,n}`, `^ $ \\b \\B \\A \\z`, `\\d \\w \\s`, and `(?i)`, `(?s)` at the
beginning. Neither references back nor looks around: they are what cannot be matched in linear time. Pure.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple, NoReturn

PATTERN_MAX = 1024
"""Characters."""
NESTING_MAX = 50
REPEAT_MAX = 1_000


class PatternError(ValueError):
    """What is wrong with a pattern, and where."""


class Edge(enum.Enum):
    """What stands beside a place in the text."""

    NONE = enum.auto()
    """It begins or ends."""
    WORD = enum.auto()
    OTHER = enum.auto()


class Anchor(enum.Enum):
    BEGIN = enum.auto()
    END = enum.auto()
    BOUNDARY = enum.auto()
    NO_BOUNDARY = enum.auto()

    def holds(self, before: Edge, after: Edge) -> bool:
        match self:
            case Anchor.BEGIN:
                return before is Edge.NONE
            case Anchor.END:
                return after is Edge.NONE
            case Anchor.BOUNDARY:
                return (before is Edge.WORD) is not (after is Edge.WORD)
            case Anchor.NO_BOUNDARY:
                return (before is Edge.WORD) is (after is Edge.WORD)


class Letters(NamedTuple):
    """A set of characters."""

    ranges: tuple[tuple[str, str], ...]
    """First and last of each."""
    negated: bool = False

    def has(self, cases: tuple[str, ...]) -> bool:
        """Whether the character that can be written so is one of them."""
        within = any(first <= case <= last for first, last in self.ranges for case in cases)
        return within is not self.negated


class Cat(NamedTuple):
    """One after the other; without parts: nothing, which always matches."""

    parts: tuple[Node, ...]


class Alt(NamedTuple):
    """Any of them."""

    parts: tuple[Node, ...]


class Repeat(NamedTuple):
    part: Node
    least: int
    most: int | None
    """None: without end."""


Node = Letters | Anchor | Cat | Alt | Repeat


class Parsed(NamedTuple):
    root: Node
    fold: bool
    """Upper and lower case are the same."""


_DIGIT = (("0", "9"),)
_WORD = (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z"))
_SPACE = (("\t", "\n"), ("\f", "\r"), (" ", " "))
_CLASSES = {
    "d": Letters(_DIGIT),
    "D": Letters(_DIGIT, negated=True),
    "w": Letters(_WORD),
    "W": Letters(_WORD, negated=True),
    "s": Letters(_SPACE),
    "S": Letters(_SPACE, negated=True),
}
_ANCHORS = {"A": Anchor.BEGIN, "z": Anchor.END, "b": Anchor.BOUNDARY, "B": Anchor.NO_BOUNDARY}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_ANY = Letters((), negated=True)
_NOT_NEWLINE = Letters((("\n", "\n"),), negated=True)
_FLAGS = re.compile(r"\(\?([is]+)\)")
_COUNTS = re.compile(r"\{(\d{1,4})(?:(,)(\d{1,4})?)?\}")


def parse_pattern(pattern: str) -> Parsed:
    """Raises PatternError for what is no pattern of this syntax."""
    if len(pattern) > PATTERN_MAX:
        raise PatternError(f"it has {len(pattern)} characters, more than {PATTERN_MAX}: shorten it")
    flags = _FLAGS.match(pattern)
    parser = _Parser(pattern, flags.end() if flags else 0, dot_all=flags is not None and "s" in flags[1])
    return Parsed(parser.whole(), flags is not None and "i" in flags[1])


class _Parser:
    """Recursive descent; the depth is bounded."""

    def __init__(self, text: str, at: int, *, dot_all: bool) -> None:
        self._text = text
        self._at = at
        self._dot = _ANY if dot_all else _NOT_NEWLINE

    def whole(self) -> Node:
        root = self._alternatives(0)
        if self._at < len(self._text):
            self._fail("a ) without its (: write \\) for the character")
        return root

    def _alternatives(self, depth: int) -> Node:
        if depth > NESTING_MAX:
            self._fail(f"groups are nested more than {NESTING_MAX} deep")
        parts = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            parts.append(self._sequence(depth))
        return parts[0] if len(parts) == 1 else Alt(tuple(parts))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            part = self._atom(depth)
            counts = self._counts()
            if counts is not None:
                part = Repeat(part, *counts)
                if self._peek() == "?":
                    self._at += 1  # as few as possible: the same texts match
                if self._counts() is not None:
                    self._fail("a repetition of a repetition: put the inner one into a group")
            parts.append(part)
        return parts[0] if len(parts) == 1 else Cat(tuple(parts))

    def _counts(self) -> tuple[int, int | None] | None:
        """Least and most of the repetition that stands here, if one does."""
        sign = self._peek()
        if sign in ("*", "+", "?") and sign:
            self._at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        found = _COUNTS.match(self._text, self._at)
        if found is None:
            return None
        least = int(found[1])
        most = int(found[3]) if found[3] else None if found[2] else least
        if most is not None and most < least:
            self._fail("a repetition whose most is less than its least")
        if max(least, most or 0) > REPEAT_MAX:
            self._fail(f"a repetition of more than {REPEAT_MAX}")
        self._at = found.end()
        return least, most

    def _atom(self, depth: int) -> Node:
        letter = self._peek()
        if letter in ("*", "+", "?"):
            self._fail(f"nothing before {letter} that it could repeat: write \\{letter} for the character")
        self._at += 1
        match letter:
            case "(":
                return self._group(depth)
            case "[":
                return self._letters()
            case ".":
                return self._dot
            case "^":
                return Anchor.BEGIN
            case "$":
                return Anchor.END
            case "\\":
                return self._escape()
        return Letters(((letter, letter),))

    def _group(self, depth: int) -> Node:
        if self._text.startswith("?:", self._at):
            self._at += 2
        elif self._peek() == "?":
            self._fail(
                "a group that begins with (? and not with (?: : flags stand at the beginning, looks around are"
                " not known"
            )
        inner = self._alternatives(depth + 1)
        if self._peek() != ")":
            self._fail("a ( without its ): write \\( for the character")
        self._at += 1
        return inner

    def _escape(self) -> Node:
        letter = self._peek()
        self._at += 1
        if letter in _CLASSES:
            return _CLASSES[letter]
        if letter in _ANCHORS:
            return _ANCHORS[letter]
        single = self._escaped(letter)
        return Letters(((single, single),))

    def _escaped(self, letter: str) -> str:
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if not letter or letter.isalnum():
            self._at -= 1
            self._fail(f"\\{letter}, which is not known")
        return letter

    def _letters(self) -> Letters:
        """A class, after its [."""
        negated = self._peek() == "^"
        self._at += negated
        ranges: list[tuple[str, str]] = []
        first = True
        while self._peek() != "]" or first:
            first = False
            if self._text.startswith("[:", self._at):
                self._fail("[: in a class: write its characters, as in a-z")
            one = self._member()
            if isinstance(one, Letters):
                ranges += one.ranges
                continue
            last = one
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                end = self._member()
                if isinstance(end, Letters) or end < one:
                    self._fail("a range in a class that ends before it begins")
                last = end
            ranges.append((one, last))
        self._at += 1
        return Letters(tuple(ranges), negated)

    def _member(self) -> str | Letters:
        letter = self._peek()
        if not letter:
            self._fail("a [ without its ]: write \\[ for the character")
        self._at += 1
        if letter != "\\":
            return letter
        letter = self._peek()
        self._at += 1
        known = _CLASSES.get(letter)
        if known is not None:
            if known.negated:
                self._fail(f"\\{letter} in a class: write the characters that are meant")
            return known
        return self._escaped(letter)

    def _peek(self) -> str:
        """The next character; empty at the end."""
        return self._text[self._at : self._at + 1]

    def _fail(self, what: str) -> NoReturn:
        raise PatternError(f"at character {self._at + 1}: {what}")
