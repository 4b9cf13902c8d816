"""How much of a conversation is sent: the newest turns, and what was before them in short."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from keelage_api.v1alpha1.metadata import Name, Part


class Summary(Part):
    """A summary in place of the turns before the kept ones."""

    tokens: Annotated[int, Field(ge=256, le=1_000_000)]
    """The turns before the kept ones stay as they are until they are about so many tokens (a byte counts a quarter)."""
    tier: Name
    """One of `spec.tiers`: who writes the summary. It is paid for like any other call."""


class History(Part):
    """Turns that are sent. A turn begins with what the user says and ends before the next such message, so that calls
    of tools stay with their results; the system prompt stays, and so does a turn with a system message in it."""

    keep_turns: Annotated[int, Field(ge=1, le=1_000)]
    """The newest turns, which are sent as they are."""
    summarize_over: Summary | None = None
    """Left out: the turns before are cut. Given: they are summarized once they are long, and cut only if that fails."""
