"""Regular expressions that take time in proportion to the text, whatever they are and whatever it is.

Patterns come from manifests and texts from models: an engine that goes back and tries again (`re`) could be held up
for minutes by one of each. This one follows all ways through the pattern at once (Thompson 1968), and remembers where
each set of ways leads (a DFA, made as the text needs it). `regex_syntax` has the syntax. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from keelage_api.regex_syntax import Alt, Anchor, Cat, Edge, Letters, Node, PatternError, Repeat, parse_pattern

STEPS_MAX = 500
"""Of a compiled pattern, where repetitions are written out: no character of a text costs more than so many looks."""
KNOWN_MAX = 2_000
"""Sets of ways that are remembered; with more of them it begins anew."""


class Take(NamedTuple):
    """One character of these, then the step `then`."""

    letters: Letters
    then: int


class Split(NamedTuple):
    """All of these steps."""

    ways: tuple[int, ...]


class Check(NamedTuple):
    anchor: Anchor
    then: int


class Found(NamedTuple):
    """The pattern has matched."""


Step = Take | Split | Check | Found


class Scan:
    """One text, fed piece by piece: whether the pattern has been found anywhere in it so far."""

    __slots__ = ("_before", "_expression", "_ways", "found")

    def __init__(self, expression: Expression) -> None:
        self._expression = expression
        self._ways: frozenset[int] = frozenset((expression.start,))
        self._before = Edge.NONE
        self.found = False

    @property
    def hopeless(self) -> bool:
        """Whatever follows, the pattern will not be found: only one that begins with `^` can come to that."""
        return not self._ways and not self.found

    def feed(self, text: str) -> bool:
        """Whether the pattern is found in what has been fed: in the whole of it, where nothing can undo that."""
        if self.found:
            return True
        follow, ways, before = self._expression.follow, self._ways, self._before
        for letter in text:
            if not ways:
                break
            found, ways, before = follow(ways, before, letter)
            if found:
                self.found = True
                break
        self._ways, self._before = ways, before
        return self.found

    def end(self) -> bool:
        """Whether it is found now that the text has ended."""
        self.found = self.found or self._expression.follow(self._ways, self._before, "")[0]
        return self.found


class Expression:
    """A compiled pattern, for any number of scans."""

    def __init__(self, steps: tuple[Step, ...], start: int, *, fold: bool, anchored: bool) -> None:
        self._steps = steps
        self.start = start
        self._fold = fold
        self._anchored = anchored
        self._known: dict[tuple[frozenset[int], Edge, str], tuple[bool, frozenset[int], Edge]] = {}

    def scan(self) -> Scan:
        return Scan(self)

    def search(self, text: str) -> bool:
        """Whether the pattern is found anywhere in the text."""
        scan = self.scan()
        return scan.feed(text) or scan.end()

    def follow(self, ways: frozenset[int], before: Edge, letter: str) -> tuple[bool, frozenset[int], Edge]:
        """Over one letter, empty at the text's end: (found before that letter, the ways after it, its edge)."""
        key = (ways, before, letter)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[key] = self._follow(ways, before, letter)
        return known

    def _follow(self, ways: frozenset[int], before: Edge, letter: str) -> tuple[bool, frozenset[int], Edge]:
        after = _edge(letter)
        cases = _cases(letter) if self._fold else (letter,)
        found, following = False, set[int]()
        seen, open_ways = set(ways), list(ways)
        while open_ways:
            step = self._steps[open_ways.pop()]
            match step:
                case Found():
                    found = True
                    continue
                case Take():
                    if letter and step.letters.has(cases):
                        following.add(step.then)
                    continue
                case Split():
                    nexts: tuple[int, ...] = step.ways
                case Check():
                    nexts = (step.then,) if step.anchor.holds(before, after) else ()
            open_ways += [each for each in nexts if each not in seen]
            seen.update(nexts)
        if not self._anchored:
            following.add(self.start)
        return found, frozenset(following), after


def _cases(letter: str) -> tuple[str, ...]:
    """Without those of several characters, such as the upper case of a sharp s."""
    return tuple({each for each in (letter, letter.lower(), letter.upper()) if len(each) == 1})


def _edge(letter: str) -> Edge:
    if not letter:
        return Edge.NONE
    return Edge.WORD if letter == "_" or (letter.isascii() and letter.isalnum()) else Edge.OTHER


def compile_pattern(pattern: str) -> Expression:
    """Raises PatternError for what is no pattern, or too large a one."""
    parsed = parse_pattern(pattern)
    steps: list[Step] = [Found()]
    start = _emit(parsed.root, 0, steps)
    return Expression(tuple(steps), start, fold=parsed.fold, anchored=_anchored(parsed.root))


def _emit(node: Node, then: int, steps: list[Step]) -> int:
    """Append the steps of a node that is followed by step `then`; where it begins."""
    match node:
        case Letters():
            step: Step = Take(node, then)
        case Anchor():
            step = Check(node, then)
        case Cat():
            for part in reversed(node.parts):
                then = _emit(part, then, steps)
            return then
        case Alt():
            step = Split(tuple(_emit(part, then, steps) for part in node.parts))
        case Repeat():
            return _emit_repeat(node, then, steps)
    return _append(step, steps)


def _emit_repeat(node: Repeat, then: int, steps: list[Step]) -> int:
    begin = then
    if node.most is None:
        begin = _append(Split((then,)), steps)
        steps[begin] = Split((_emit(node.part, begin, steps), then))
    else:
        for _ in range(node.most - node.least):
            begin = _append(Split((_emit(node.part, begin, steps), then)), steps)
    for _ in range(node.least):
        begin = _emit(node.part, begin, steps)
    return begin


def _append(step: Step, steps: list[Step]) -> int:
    if len(steps) >= STEPS_MAX:
        raise PatternError(f"with its repetitions written out it has more than {STEPS_MAX} steps: shorten it")
    steps.append(step)
    return len(steps) - 1


def _anchored(node: Node) -> bool:
    """Whether it can only be found where the text begins."""
    match node:
        case Cat():
            return bool(node.parts) and _anchored(node.parts[0])
        case Alt():
            return all(_anchored(part) for part in node.parts)
        case Repeat():
            return node.least > 0 and _anchored(node.part)
    return node is Anchor.BEGIN


def literal(text: str) -> str:
    """The pattern that is found where the text stands."""
    return "".join(each if each.isalnum() or each == "_" or each.isspace() else f"\\{each}" for each in text)
