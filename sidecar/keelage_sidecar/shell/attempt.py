"""One attempt at one candidate: reserve, send, relay while counting; charged in `finally`."""

from __future__ import annotations

import asyncio

import msgspec

from keelage_sidecar.core.attribution import Spender
from keelage_sidecar.core.downgrade import Downgraded
from keelage_sidecar.core.meter import Meter, Reading, meter_for
from keelage_sidecar.core.outgoing import outgoing
from keelage_sidecar.core.provider_limits import left_of, remaining
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.retry import Again, AttemptEnd, Failure, answered, is_retryable, next_step
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable
from keelage_sidecar.core.settlement import settle_attempt
from keelage_sidecar.shell import story as outcomes
from keelage_sidecar.shell.answer import Answer, UpstreamError
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.refusals import credential_missing
from keelage_sidecar.shell.relay import Body, relay, reply_headers
from keelage_sidecar.shell.reservation import Busy, Reservation, reserve_attempt
from keelage_sidecar.shell.story import Story

SWALLOWED_BYTES = 64 * 1024
SWALLOWED_S = 2.0
"""How much of an answer that is not passed on is read: enough for the type of its error."""


async def attempt(
    means: Means, call: Call, table: RoutingTable, facts: Facts, plan: Plan, index: int, story: Story
) -> Again | Downgraded | Refusal | None:
    """Try candidate `index`: None once the application has its answer, else what to do instead."""
    candidate = plan.candidates[index]
    secret = means.credentials.get(candidate.backend.credential) if candidate.backend.credential else None
    if candidate.backend.credential and secret is None:
        return credential_missing(candidate.backend)
    reserved = await reserve_attempt(means, table, facts, plan, index, story)
    if isinstance(reserved, Busy):
        story.ends.append(AttemptEnd(index, failure=Failure.LIMITED))
        return _next(means, plan, story) or reserved.refusal
    if not isinstance(reserved, Reservation):
        return reserved
    bound = reserved.bound

    sent = False
    answer: Answer | None = None
    meter: Meter | None = None
    try:
        method = "GET" if call.method == "HEAD" else call.method
        request = outgoing(facts, candidate, reserved.output_cap, secret, call.headers, call.target, method)
        story.attempt_begins(candidate, bound, request.changed)
        timeouts = candidate.backend.timeouts
        left_s = story.patience_left_s(means.clock())
        if left_s is not None and left_s * 1000 < timeouts.first_byte_ms:
            timeouts = msgspec.structs.replace(timeouts, first_byte_ms=max(1, int(left_s * 1000)))
        connection = await means.upstream.open(candidate.backend.endpoint, timeouts.connect_ms / 1000)
        sent = True
        answer = connection.send(request.method, request.target, request.headers, request.body, timeouts)
        await answer.head()
        story.upstream_request_id = request_id(answer)
        if table.limits:
            _hear_limits(means, table, candidate, answer)
        body = Body(answer)
        meter = meter_for(facts, candidate, body.streaming)
        final = is_retryable(answer.status)
        if final:
            story.ends.append(answered(index, answer.status, answer.headers, means.unix()))
            step = _next(means, plan, story)
            if isinstance(step, Again):
                await _swallow(body, meter)
                return step
        first = await body.read()
        story.first_token_s = means.clock()
        headers = reply_headers(answer.headers, decoded=body.decoded, final=final, request_id=story.request_id)
        if story.clamped or story.downgraded:
            headers += story.marks()
        call.begin(answer.status, headers, body.length)
        whole = await relay(call, body, meter, first, candidate.backend.dialect, story.request_id)
        story.outcome = outcomes.OK if whole else outcomes.TRUNCATED
        return None
    except UpstreamError as error:
        if call.started:
            raise  # relay() deals with those: this would be a bug, and is reported as one
        story.ends.append(AttemptEnd(index, failure=error.failure))
        sent = sent and error.failure is not Failure.CONNECT
        return _next(means, plan, story)
    finally:
        complete = answer is not None and answer.complete
        if answer is not None:
            answer.abort()
        if facts.endpoint.metered:
            status = answer.status if answer is not None else 0
            reading = meter.result(status, complete) if meter is not None else Reading(None, False)
            settlement = settle_attempt(reading, bound, candidate, status, sent)
            spender = Spender(candidate.model, facts.feature, facts.user)
            for hold in reserved.holds:
                means.purse.settle(hold, settlement.charge, spender, settlement.unproven)
            if table.config.quotas and reading.final_usage and reading.usage is not None:
                means.expectations.learn(candidate.model, len(facts.body), reading.usage)
            story.attempt_settled(reading, settlement)
            if reading.error and story.outcome == outcomes.OK:
                story.outcome = outcomes.UPSTREAM_ERROR
        if answer is not None and answer.status >= 400 and story.outcome == outcomes.OK:
            story.outcome = outcomes.UPSTREAM_ERROR


def _next(means: Means, plan: Plan, story: Story) -> Again | Refusal | None:
    left_s = story.patience_left_s(means.clock())
    left_ms = None if left_s is None else int(left_s * 1000)
    step = next_step(plan, tuple(story.ends), means.pick(), left_ms)
    return step if isinstance(step, Again) else step.refusal


def _hear_limits(means: Means, table: RoutingTable, candidate: Candidate, answer: Answer) -> None:
    """Any answer may say what is left of the provider's limits."""
    quotas = table.limits.get(candidate.backend.name, ())
    if quotas:
        for name, left in left_of(quotas, remaining(answer.headers, means.unix())):
            means.purse.note_left(name, left)


async def _swallow(body: Body, meter: Meter) -> None:
    """Let the meter see an error that is not passed on: its type says whether anything was billed."""
    read = 0
    try:
        async with asyncio.timeout(SWALLOWED_S):
            while read < SWALLOWED_BYTES and (piece := await body.read()):
                read += len(piece)
                meter.feed(piece)
    except (TimeoutError, UpstreamError):
        pass  # then there is no evidence, and the attempt is charged accordingly
    meter.finish()


def request_id(answer: Answer) -> str:
    found = answer.fields.get(b"request-id") or answer.fields.get(b"x-request-id") or b""
    return found[:128].decode("latin-1")
