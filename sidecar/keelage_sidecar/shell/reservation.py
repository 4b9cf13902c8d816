"""What an attempt holds before it is sent: room in the provider's limits first, then the budgets' money.

At a budget's limit, in this order: wait; leave out the breakpoints that keelage has put in; lower the output cap, if
the rule allows it; a cheaper tier of the budget; refuse. At a provider's limit: the backend's queue; then the next
choice.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import structs

from keelage_api.proxy_config import Quota, Rule
from keelage_sidecar.core.bound import Bound, Unbounded, bound_of
from keelage_sidecar.core.claim import NOTHING, Charge, Claim, DenialReason, Denied, Hold
from keelage_sidecar.core.clamp import largest_cap, least_cap
from keelage_sidecar.core.downgrade import Downgraded, at_limit
from keelage_sidecar.core.history import conversation
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.refusals import denied
from keelage_sidecar.shell.story import Story

BUDGET_WAIT_S = 10.0
"""How long a call waits for money that others hold, all its attempts together; never past its own patience."""
LESS_WAIT_S = 1.0
"""For less money, or that of a cheaper tier, once all of it could not be had: a few exchanges with the ledger."""
RATE_WAIT_S = 1.0
"""How long a call that is not to queue waits for the leader's word on a rate: a few exchanges."""


class Reservation(msgspec.Struct, frozen=True, gc=False):
    bound: Bound | Unbounded
    output_cap: int
    """To be sent with; 0: the request's own."""
    holds: tuple[Hold, ...]
    said: Facts
    """The call that it is for, as it is to be sent."""


class Busy(msgspec.Struct, frozen=True):
    """The backend's limits had no room in time."""

    refusal: Refusal
    """If no other choice can answer."""


async def reserve_rates(
    means: Means, table: RoutingTable, rule: Rule, facts: Facts, story: Story
) -> Hold | Refusal | None:
    """Room in the rule's rate limits, for the whole call; None where it has none.

    Before anything is asked for its sake: a classifier or a summary costs money, too. So the amounts are those of
    the rule's default tier, and of what is sent of the conversation at least, until the call is settled.
    """
    if not facts.endpoint.metered or (rule.route, rule.name) not in table.rates:
        return None
    plan = table.on_any_tier(rule, facts)
    if isinstance(plan, Refusal):
        return None
    if rule.history is not None and (talk := conversation(facts, rule.history.keep_turns)) is not None:
        facts = talk.without(len(talk.cuttable))
    first = plan.candidates[0]
    expected = means.expectations.of(first.model, len(facts.body), bound_of(facts, first, first.output_cap))
    claims = table.rate_claims(rule, facts, expected)
    hold = means.purse.try_reserve(claims) or await _room(means, claims, RATE_WAIT_S, story)
    return denied(hold, means.unix()) if isinstance(hold, Denied) else hold


async def reserve_attempt(
    means: Means,
    table: RoutingTable,
    facts: Facts,
    said: Facts,
    plain: Facts,
    plan: Plan,
    index: int,
    story: Story,
) -> Reservation | Downgraded | Busy | Refusal:
    """Everything that candidate `index` must hold before it is asked, or what to do instead; waits if need be.

    `said` is the call as that candidate gets it: `facts`, or their translation; `plain` the same without the
    breakpoints that keelage has put in, the same object where it has not.
    """
    candidate = plan.candidates[index]
    cap = _lower(candidate.output_cap, story.clamped) if story.clamped else candidate.output_cap
    bound = bound_of(said, candidate, cap)
    if isinstance(bound, Unbounded) and candidate.hard:
        return bound.refusal()
    if not facts.endpoint.metered:
        return Reservation(bound, cap, (), said)
    quotas = table.limits.get(candidate.backend.name)
    room = await _queue(means, table, said, candidate, bound, story, quotas) if quotas else ()
    if isinstance(room, Denied):
        return Busy(denied(room, means.unix()))
    paid: Reservation | Denied | None = None
    try:
        paid = await _pay(means, table, plan.rule, candidate, Reservation(bound, cap, room, said), plain, story)
    finally:
        if not isinstance(paid, Reservation):
            for hold in room:
                means.purse.settle(hold, NOTHING)
    if isinstance(paid, Reservation):
        return paid
    cheaper = at_limit(table, plan, index, paid.budget, facts) if _helps_less(paid) else None
    return cheaper or denied(paid, means.unix())


def reserve_at_once(
    means: Means, table: RoutingTable, facts: Facts, plan: Plan, index: int, story: Story
) -> Reservation | None:
    """The same from what is at hand now; None where that does not suffice, and `reserve_attempt` says what to do."""
    candidate = plan.candidates[index]
    cap = _lower(candidate.output_cap, story.clamped) if story.clamped else candidate.output_cap
    bound = bound_of(facts, candidate, cap)
    if isinstance(bound, Unbounded) and candidate.hard:
        return None
    if not facts.endpoint.metered:
        return Reservation(bound, cap, (), facts)
    holds: tuple[Hold, ...] = ()
    if candidate.backend.name in table.limits:
        expected = means.expectations.of(candidate.model, len(facts.body), bound)
        room = table.limit_claims(candidate, facts, expected, at_once=True)
        hold = means.purse.try_reserve(room) if not means.queues[candidate.backend.name] else None
        if hold is None:
            return None
        holds = (hold,)
    claims = table.claims(candidate, plan.rule, facts, bound.charge)
    if not claims:
        return Reservation(bound, cap, holds, facts)
    hold = means.purse.try_reserve(claims)
    if hold is None:
        for held in holds:
            means.purse.settle(held, NOTHING)
        return None
    return Reservation(bound, cap, (*holds, hold), facts)


async def _queue(
    means: Means,
    table: RoutingTable,
    facts: Facts,
    candidate: Candidate,
    bound: Bound | Unbounded,
    story: Story,
    quotas: tuple[Quota, ...],
) -> tuple[Hold, ...] | Denied:
    """Room in the provider's limits, if need be after those that came before."""
    backend = candidate.backend.name
    expected = means.expectations.of(candidate.model, len(facts.body), bound)
    claims = table.limit_claims(candidate, facts, expected, at_once=True)
    queues = means.queues
    if not queues[backend]:
        hold = means.purse.try_reserve(claims)
        if hold is not None:
            return (hold,)
    # Whether there is room only the leader knows: who waits for its word is not in the queue yet.
    answer = await _room(means, claims, RATE_WAIT_S, story)
    refused = isinstance(answer, Denied) and answer.reason is DenialReason.RATE_LIMITED
    if refused and queues[backend] < max(quota.queue_depth for quota in quotas):
        claims = table.limit_claims(candidate, facts, expected)
        queues[backend] += 1
        try:
            answer = await _room(means, claims, max(quota.queue_wait_ms for quota in quotas) / 1000, story)
        finally:
            queues[backend] -= 1
    if answer is None:
        return ()
    return (answer,) if isinstance(answer, Hold) else answer


async def _pay(
    means: Means,
    table: RoutingTable,
    rule: Rule,
    candidate: Candidate,
    wanted: Reservation,
    plain: Facts,
    story: Story,
) -> Reservation | Denied:
    """`wanted` with a hold on all budgets, if need be of the plain call, or with a lower output cap; the last denial
    but the clamp's if none can be had."""
    wait_s = max(LESS_WAIT_S, BUDGET_WAIT_S - story.wait_s)
    marked = wanted.said is not plain
    paid = await _hold(means, table, rule, candidate, wanted, LESS_WAIT_S if marked else wait_s, story)
    if isinstance(paid, Denied) and marked and _helps_less(paid):
        # What writing to the provider's cache costs more is not worth a long wait, nor a shorter answer.
        wanted = structs.replace(wanted, bound=bound_of(plain, candidate, wanted.output_cap), said=plain)
        paid = await _hold(means, table, rule, candidate, wanted, wait_s, story)
    if isinstance(paid, Reservation):
        return paid
    least = least_cap(wanted.said, wanted.output_cap, rule.clamp_at_least)
    if least is None or not _helps_less(paid):
        return paid
    below = wanted.output_cap or wanted.said.max_output
    lower = await _Clamp(means, table, wanted.said, rule, candidate, least, below, story).reserve()
    return paid if lower is None else structs.replace(lower, holds=(*wanted.holds, *lower.holds))


async def _hold(
    means: Means,
    table: RoutingTable,
    rule: Rule,
    candidate: Candidate,
    wanted: Reservation,
    wait_s: float,
    story: Story,
) -> Reservation | Denied:
    """With the money of all budgets, if it can be had as it is."""
    claims = table.claims(candidate, rule, wanted.said, wanted.bound.charge)
    if not claims:
        return wanted
    hold = means.purse.try_reserve(claims) or await _wait(means, claims, wait_s, story)
    return structs.replace(wanted, holds=(*wanted.holds, hold)) if isinstance(hold, Hold) else hold


class _Clamp(msgspec.Struct, frozen=True):
    """The search for the largest output cap that all budgets can pay for now."""

    means: Means
    table: RoutingTable
    facts: Facts
    rule: Rule
    candidate: Candidate
    least: int
    below: int
    story: Story

    async def reserve(self) -> Reservation | None:
        """First what should be left by the ledger's last word; then the least, and more if more is at hand."""
        purse = self.means.purse
        cap = self._largest(lambda claim: purse.room(claim).left)
        if cap is not None and cap > self.least:
            hold = await _wait(self.means, self._claims(cap), LESS_WAIT_S, self.story)
            if isinstance(hold, Hold):
                return self._reserved(cap, hold)
        claims = self._claims(self.least)
        hold = await _wait(self.means, claims, LESS_WAIT_S, self.story)
        if not isinstance(hold, Hold):
            return None
        held = {(claim.budget, claim.value): claim.amount for claim in claims}
        cap = self._largest(lambda claim: purse.room(claim).free + held[claim.budget, claim.value])
        if cap is not None and cap > self.least:
            # No await in between: what is given back here is what the greater hold takes.
            purse.settle(hold, NOTHING)
            more = purse.try_reserve(self._claims(cap), passing=True)
            if more is not None:
                return self._reserved(cap, more)
            again = purse.try_reserve(claims, passing=True)
            return None if again is None else self._reserved(self.least, again)
        return self._reserved(self.least, hold)

    def _largest(self, room: Callable[[Claim], int]) -> int | None:
        def fits(most: Charge) -> bool:
            claims = self.table.claims(self.candidate, self.rule, self.facts, most)
            return all(claim.amount <= rooms[claim.budget, claim.value] for claim in claims if claim.hard)

        rooms = {(claim.budget, claim.value): room(claim) for claim in self._claims(self.least) if claim.hard}
        return largest_cap(self.facts, self.candidate, self.least, self.below, fits)

    def _claims(self, cap: int) -> tuple[Claim, ...]:
        bound = bound_of(self.facts, self.candidate, cap)
        most = bound.charge if isinstance(bound, Bound) else NOTHING
        return self.table.claims(self.candidate, self.rule, self.facts, most)

    def _reserved(self, cap: int, hold: Hold) -> Reservation:
        self.story.clamped = cap
        return Reservation(bound_of(self.facts, self.candidate, cap), cap, (hold,), self.facts)


async def _room(means: Means, claims: tuple[Claim, ...], wait_s: float, story: Story) -> Hold | Denied | None:
    """Wait for a rate; None: nobody could say whether there is room, and a rate is no money: the call passes."""
    began_s = means.clock()
    try:
        answer = await means.purse.reserve(claims, _patience_s(means, story, wait_s))
    finally:
        story.queue_s += means.clock() - began_s
    if isinstance(answer, Denied) and answer.reason in (DenialReason.WINDOW_UNKNOWN, DenialReason.NO_RIGHTS):
        story.unlimited = True
        return None
    return answer


async def _wait(means: Means, claims: tuple[Claim, ...], wait_s: float, story: Story) -> Hold | Denied:
    """Wait for money."""
    began_s = means.clock()
    try:
        return await means.purse.reserve(claims, _patience_s(means, story, wait_s))
    finally:
        story.wait_s += means.clock() - began_s


def _patience_s(means: Means, story: Story, wait_s: float) -> float:
    left_s = story.patience_left_s(means.clock())
    return wait_s if left_s is None else max(0.0, min(wait_s, left_s))


def _helps_less(denial: Denied) -> bool:
    """A smaller claim may be granted where this one was denied."""
    return denial.reason is not DenialReason.WINDOW_UNKNOWN


def _lower(*caps: int) -> int:
    """The lowest cap that is one; 0: none is."""
    return min((cap for cap in caps if cap), default=0)
