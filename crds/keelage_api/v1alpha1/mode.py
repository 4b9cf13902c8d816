"""Whether what is written is done, or only told."""

from __future__ import annotations

import enum


class Mode(enum.StrEnum):
    ENFORCE = "Enforce"
    SHADOW = "Shadow"
    """A rehearsal: calls go on as if it were not there, and their log lines say what it would have done."""
