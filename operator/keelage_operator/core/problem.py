"""What the owner of a resource must know about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that its owner must know."""

    reason: str
    """CamelCase: the reason of the condition."""
    message: str
    """Field, value and remedy."""
    about: str = "Accepted"
    """The type of the condition that says it."""
    refuses: bool = True
    """Whether the spec cannot be obeyed because of it."""
