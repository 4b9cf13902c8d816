"""What the owner of a resource must know about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIELD = re.compile(r'(?<=unknown field ")[^"]+|(?:spec|metadata|apiVersion|kind)(?:[.][A-Za-z0-9]+|\[[^\]]*\])*')


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that its owner must know."""

    reason: str
    """CamelCase: the reason of the condition."""
    message: str
    """Field, value and remedy; the first field that it names is the one to look at."""
    about: str = "Accepted"
    """The type of the condition that says it."""
    refuses: bool = True
    """Whether the spec cannot be obeyed because of it."""

    @property
    def field(self) -> str:
        """As in `spec.rules[0].retry`, or `spec.backends[openai].prices`; empty for the object as a whole."""
        named = _FIELD.search(self.message)
        return named[0] if named else ""
