"""Cascades: which calls, whom to ask when the cheap answer will not do, and what that has saved. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from keelage_api.pricing import cost_of
from keelage_api.proxy_config import Cascade
from keelage_sidecar.core.downgrade import at_start
from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.judge import Cause
from keelage_sidecar.core.meter import Reading
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable

JUDGED = (Kind.MESSAGES, Kind.CHAT, Kind.RESPONSES)
_MORE_THAN_AN_ANSWER = ("conversation", "background")
"""A Response with one of these is put into a conversation, or made later."""


class Outcome(enum.StrEnum):
    """What a cascade did with a call; in the header, the log and the metric."""

    KEPT = "kept"
    """The cheap answer would do."""
    UNJUDGED = "unjudged"
    """It was too long to be held back: the application got it."""
    ESCALATED = "escalated"
    """The application got the dear one."""
    UNPAID = "unpaid"
    """It would not do, but no budget or rate paid for another: the application got it all the same."""
    FAILED = "failed"
    """It would not do, but the dear tier gave no answer, or the application had left and the answer was only drained:
    it got that one all the same."""


def cascade_of(plan: Plan, facts: Facts) -> Cascade | None:
    """By which the answer to the call is to be judged. None where a budget or slowness took the call from the dear
    tier: it would come back to it."""
    terms = plan.rule.cascade
    kind = facts.endpoint.kind
    if terms is None or plan.rule.tier != terms.cheap or terms.to in plan.tried or kind not in JUDGED:
        return None
    if kind is Kind.RESPONSES and any(facts.parsed.get(name) for name in _MORE_THAN_AN_ANSWER):
        return None
    return terms


def dearer(
    table: RoutingTable, plan: Plan, index: int, facts: Facts, used: Callable[[str, str], int | None]
) -> Plan | Outcome:
    """The same call on the dear tier, after its candidate `index`; or why it is not to be asked.

    `used`: percent of a budget's limit that is used, for a value (`downgrade.at_start`).
    """
    terms = plan.rule.cascade
    assert terms is not None
    alone = table.on_tier(plan.rule, facts, terms.to)
    if isinstance(alone, Refusal):
        return Outcome.FAILED
    if at_start(table, alone, facts, used) is not None:
        return Outcome.UNPAID  # a budget is so far used up that it wants calls of that tier on a cheaper one
    dear = table.lowered(plan, index + 1, terms.to, facts)
    return Outcome.FAILED if dear is None else structs.replace(dear, spare=True)


def outcome_of(refusal: Refusal | None) -> Outcome:
    """Of a call that was to be escalated. None: the application has the dear tier's answer."""
    if refusal is None:
        return Outcome.ESCALATED
    kept_by = refusal.budget or refusal.limit or refusal.reason == "NotBoundable"
    return Outcome.UNPAID if kept_by else Outcome.FAILED


@dataclass(slots=True)
class Escalation:
    """One call's cascade, as far as it has come."""

    first: Candidate
    """Whose answer was judged."""
    dear: Candidate | None
    """Who is, or would have been, asked then."""
    outcome: Outcome = Outcome.KEPT
    cause: Cause | None = None
    first_cost: int = 0
    """Pico-dollars charged for the first answer."""
    reading: Reading | None = None
    """Of the first answer."""

    @property
    def makeshift(self) -> bool:
        """The answer that was given would not do, or might not."""
        return self.outcome in (Outcome.UNJUDGED, Outcome.UNPAID, Outcome.FAILED)

    def saved(self, cost: int) -> int:
        """Pico-dollars saved against asking the dear tier at once; negative where it cost more. `cost`: of all.

        Of an answer that was kept: what its tokens cost at the dear price, less what was paid. An estimate: the dear
        model would have written another answer, and counts tokens in its own way.
        """
        if self.outcome is Outcome.ESCALATED:
            return -self.first_cost
        usage = self.reading.usage if self.reading is not None else None
        price = self.dear.price if self.dear is not None else None
        if self.outcome is not Outcome.KEPT or usage is None or price is None:
            return 0
        return cost_of(usage, price) - cost
