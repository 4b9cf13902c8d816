"""A block of an answer whose deltas may come mixed with those of others, as a chat stream may send parallel calls."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import orjson

_MARKS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
_OPENING = "{["


@dataclass(slots=True)
class PendingBlock:
    """Text, or a call of a tool with its arguments."""

    call: str | None = None
    """The call's id; None for text."""
    name: str = ""
    index: int | None = None
    """Of the call, as the upstream numbers them."""
    waiting: list[str] = field(default_factory=list)
    """What has come and could not be sent yet."""
    sent: list[str] = field(default_factory=list)
    """Of a call: what was sent, to know in the end whether its arguments are JSON."""
    _depth: int = 0
    _quoted: bool = False
    _cut: str = ""
    """A backslash at the end of a fragment, whose character comes with the next."""
    _whole: bool = False

    def add(self, text: str) -> None:
        self.waiting.append(text)
        if self.call is not None and not self._whole:
            self._follow(self._cut + text)

    def take(self) -> str:
        """What waits, which counts as sent from now on."""
        text = "".join(self.waiting)
        self.waiting.clear()
        if self.call is not None and text:
            self.sent.append(text)
        return text

    @property
    def begun(self) -> bool:
        return bool(self.sent or self.waiting)

    @property
    def whole(self) -> bool:
        """Nothing can follow: for text always, as more text makes another block."""
        return self.call is None or self._whole

    @property
    def proper(self) -> bool:
        """What was sent of a call's arguments is nothing, or a JSON object."""
        if self.call is None or not self.sent:
            return True
        try:
            return isinstance(orjson.loads("".join(self.sent)), dict)
        except orjson.JSONDecodeError:
            return False

    def _follow(self, text: str) -> None:
        """Where the object that began with the first brace ends: each character is looked at once, however it comes."""
        self._cut = ""
        end = 0
        for mark in _MARKS.finditer(text):
            found, end = mark[0], mark.end()
            if found == '"':
                self._quoted = not self._quoted
            elif self._quoted or found[0] == "\\":
                continue
            else:
                self._depth += 1 if found in _OPENING else -1
                if self._depth <= 0:
                    self._whole = True
                    return
        if text.endswith("\\") and end < len(text):
            self._cut = "\\"
