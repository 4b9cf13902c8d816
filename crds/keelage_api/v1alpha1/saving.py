"""What a route has saved, in its status."""

from __future__ import annotations

from keelage_api.sync import SavedBy
from keelage_api.v1alpha1.metadata import Int64, Observed, Shown


class SavingStatus(Observed):
    """Of one kind, since the route was created. An estimate: what the same calls would have cost without it is not
    known exactly."""

    by: SavedBy
    """Cascade: against always asking the tier in `to`. PromptCache: against sending every prompt uncached.
    ResponseCache: against asking the provider every time. SemanticCache: the same, less what the vectors cost."""
    saved: Shown = ""
    """In USD, as in 12.34 USD; below zero where it cost more than it saved."""
    hit_rate: Shown = ""
    """Cascade: calls whose first answer was kept; the others were escalated. PromptCache: tokens read from the cache,
    of those that were read or written. ResponseCache: calls that were answered from it. SemanticCache: calls that were
    compared with others and got an answer. As in 80%."""
    tries: Int64 = 0
    """Calls, or tokens, that the rate is of."""
    hits: Int64 = 0
    picodollars: Int64 = 0
    """What was saved, for programs; 1e-12 USD."""
