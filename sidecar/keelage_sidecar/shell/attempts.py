"""One attempt after the other, side by side where the rule hedges, until one is answered."""

from __future__ import annotations

import asyncio

from msgspec import structs

from keelage_api.proxy_config import OnClientDisconnect
from keelage_sidecar.core.cascade import Escalation, Outcome, cascade_of, dearer, outcome_of
from keelage_sidecar.core.downgrade import Downgraded, at_start
from keelage_sidecar.core.judge import Verdict
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.retry import Again
from keelage_sidecar.core.routing import Plan, RoutingTable
from keelage_sidecar.shell import story as outcomes
from keelage_sidecar.shell.abreast import abreast
from keelage_sidecar.shell.attempt import Attempt, Unasked
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.hedge import ask_side_by_side
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.story import Story

_FIRST = Again(0, 0)
_NO_BETTER = Refusal(502, "UpstreamFailed", "the tier that was asked instead answered with an error")
"""Never seen: the answer that there is already is passed on."""


async def attempt_all(
    means: Means, call: Call, table: RoutingTable, facts: Facts, plan: Plan, story: Story
) -> Refusal | None:
    """One after the other until the application has an answer; None: it has, or has left."""
    first = at_start(table, plan, facts, means.purse.used_percent) or _FIRST
    return await _attempt_from(means, call, table, facts, plan, first, story)


async def _attempt_from(
    means: Means,
    call: Call,
    table: RoutingTable,
    facts: Facts,
    plan: Plan,
    first: Again | Downgraded,
    story: Story,
) -> Refusal | None:
    step: Again | Downgraded | Refusal | None = first
    while isinstance(step, (Again, Downgraded)):
        if isinstance(step, Downgraded):
            plan = means.health.ordered(step.plan, step.candidate, facts.user, means.pick(), means.clock())
            story.lowered(step, plan)
        elif step.delay_ms:
            await means.sleep(step.delay_ms / 1000)
        if call.gone:  # it survives what is being paid for (`survives`), not what is yet to be bought
            story.outcome = outcomes.CLIENT_DISCONNECT
            return None
        step = await _attempt(means, call, table, facts, plan, step.candidate, story)
    if call.deserted:
        story.outcome = outcomes.CLIENT_DISCONNECT
    return step


async def _attempt(
    means: Means, call: Call, table: RoutingTable, facts: Facts, plan: Plan, index: int, story: Story
) -> Again | Downgraded | Refusal | None:
    """Ask candidate `index`: None once the application has its answer, else what to do instead."""
    one = Attempt(means, call, table, facts, plan, index, story)
    attempts = [one]
    call.survives = False
    try:
        kept = await one.reserve()
        if isinstance(kept, Unasked):
            story.ends.append(kept.end)
            return _next(means, plan, story) or kept.refusal
        if kept is not None:
            return kept
        call.survives = plan.rule.on_client_disconnect is OnClientDisconnect.DRAIN
        late_s = one.late_s() if plan.rule.hedge is not None else None
        if late_s is None:
            if means.upstream.active:
                await abreast()
            await one.ask()
        else:
            await ask_side_by_side(attempts, late_s)
        heard = next((each for each in attempts if each.answered), None)
        if len(attempts) > 1 or heard is None:
            story.ends += [each.end or each.outrun() for each in attempts if each is not heard]
        if heard is not None:
            if len(attempts) > 1:
                story.hedged(won=heard is not one)
            if plan.spare and heard.status >= 400:
                await heard.swallow()
                return _NO_BETTER
            if plan.rule.cascade is not None and await _escalates(table, facts, plan, heard, story):
                await _escalate(means, call, table, facts, plan, heard, story)
                return None
            if heard.end is None:
                await heard.relay()
                if means.upstream.active:
                    await abreast()
                return None
            story.ends.append(heard.end)
        step = _next(means, plan, story)
        if step is None and not (plan.spare or story.spare):
            await attempts[-1].relay()
        elif step is None or isinstance(step, Again):
            for each in attempts:
                await each.swallow()
        return _NO_BETTER if step is None and plan.spare else step
    finally:
        for each in attempts:
            each.settle()


async def _escalates(table: RoutingTable, facts: Facts, plan: Plan, heard: Attempt, story: Story) -> bool:
    """Whether the answer, held back until that is clear, will not do."""
    cascade = cascade_of(plan, facts)
    if cascade is None or heard.status >= 300:
        return False
    judge = table.conditions[plan.rule.route, plan.rule.name].judge(heard.reply)
    verdict = await heard.weigh(judge)
    if verdict is None:
        return False
    dear = table.on_tier(plan.rule, facts, cascade.to)
    story.escalation = Escalation(heard.candidate, None if isinstance(dear, Refusal) else dear.candidates[0])
    story.escalation.cause = judge.cause
    if judge.unjudged:
        story.escalation.outcome = Outcome.UNJUDGED
    return verdict is Verdict.ESCALATE


async def _escalate(
    means: Means, call: Call, table: RoutingTable, facts: Facts, plan: Plan, first: Attempt, story: Story
) -> None:
    """Ask the dear tier, while the first answer is read on; it is passed on where the dear one cannot be."""
    escalation = story.escalation
    assert escalation is not None
    # A hedge that lost stays in the plan: what it was is told by its place there.
    last = max((first.index, *(end.candidate for end in story.ends)))
    dear = dearer(table, plan, last, facts, means.purse.used_percent)
    if isinstance(dear, Outcome):
        escalation.outcome = dear
    else:
        begin = last + 1
        story.plan = dear = means.health.ordered(dear, begin, facts.user, means.pick(), means.clock())
        escalation.outcome = Outcome.ESCALATED
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(first.read_on())
            refusal = await _attempt_from(means, call, table, facts, dear, Again(begin, 0), story)
            # For an application that has left, the dear tier was not asked.
            heard = call.started or refusal is not None
            escalation.outcome = outcome_of(refusal) if heard else Outcome.FAILED
            reading.cancel()
    if escalation.outcome is not Outcome.ESCALATED:
        assert story.plan is not None
        story.plan = structs.replace(story.plan, rule=plan.rule)  # its tier has answered
        await first.relay()


def _next(means: Means, plan: Plan, story: Story) -> Again | Refusal | None:
    now_s = means.clock()
    left_s = story.patience_left_s(now_s)
    left_ms = None if left_s is None else int(left_s * 1000)
    step = means.health.next_step(plan, tuple(story.ends), means.pick(), left_ms, now_s)
    return step if isinstance(step, Again) else step.refusal
