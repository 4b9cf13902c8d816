"""The calls to Anthropic's message batches, top to bottom: read, bound, reserve, create; look, read results.

A batch is created with one attempt, and none of these calls is repeated: the SDKs do that themselves, and two
batches would cost twice as much. What a new batch may cost stays reserved until `batch_keeper` knows what it did.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from msgspec import structs

from keelage_api.proxy_config import Backend, Dialect
from keelage_sidecar.core.attribution import Spender
from keelage_sidecar.core.batch import BatchDraft, BatchOrder, requests_in
from keelage_sidecar.core.batch_results import BatchTally, LotSettlement, at_bound, unbilled
from keelage_sidecar.core.bound import Bound
from keelage_sidecar.core.claim import NOTHING, Denied, Hold
from keelage_sidecar.core.endpoints import MESSAGES, Endpoint, Kind
from keelage_sidecar.core.meter import Reading, meter_for
from keelage_sidecar.core.open_batch import OBJECT_BYTES_MAX, OPEN_MAX, OpenBatch, created_id, through_sidecar
from keelage_sidecar.core.outgoing import outgoing
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import NOBODY, Facts, Workload, read_request
from keelage_sidecar.core.retry import Failure, unanswered
from keelage_sidecar.core.routing import Candidate, RoutingTable
from keelage_sidecar.core.settlement import never_billed
from keelage_sidecar.shell import story as outcomes
from keelage_sidecar.shell.answer import Answer, UpstreamError
from keelage_sidecar.shell.batch_keeper import BatchKeeper, patient
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.query import hasty, query, whole
from keelage_sidecar.shell.refusals import credential_missing, denied
from keelage_sidecar.shell.relay import Body, relay, reply_headers
from keelage_sidecar.shell.reservation import BUDGET_WAIT_S
from keelage_sidecar.shell.story import Story

PAUSE_REQUESTS = 16
PAUSE_BYTES = 1 << 20
"""Of a batch that is being read, before other calls get their turn: a few milliseconds."""
_KEPT_HEADERS = (b"anthropic-version", b"anthropic-beta", b"anthropic-workspace-id", b"user-agent")
"""Of the call that created a batch, for the sidecar's own questions about it."""
TOO_MANY = Refusal(
    429,
    "TooManyBatches",
    f"this sidecar holds money for {OPEN_MAX} batches whose results are not known yet: wait until one has ended, "
    "put more requests into each batch, or create them from another pod",
)


@dataclass(frozen=True, slots=True)
class BatchCalls:
    """Serves every call below `/v1/messages/batches`."""

    means: Means
    keeper: BatchKeeper
    workload: Workload = NOBODY

    async def serve(self, call: Call, endpoint: Endpoint, table: RoutingTable, story: Story) -> Refusal | None:
        """Answer the call: None, or why it is refused."""
        facts = read_request(endpoint, call.headers, call.body, self.workload, call.target)
        if isinstance(facts, Refusal):
            return facts
        story.facts = facts
        if endpoint.kind is not Kind.NEW_BATCH:
            return await self._pass(call, table, facts, story)
        if not self.keeper.open.enter():
            return TOO_MANY
        try:
            return await self._create(call, table, facts, story)
        finally:
            self.keeper.open.leave()

    # A new batch

    async def _create(self, call: Call, table: RoutingTable, facts: Facts, story: Story) -> Refusal | None:
        order = await self._order(call, table)
        if isinstance(order, Refusal):
            return order
        story.plan = order.plan
        if order.shadow is not None:
            claims = tuple(claim for lot in order.lots for claim in lot.claims)
            story.rehearsal = order.shadow.rehearsal(claims, self.means.purse.room)
        if order.downgraded is not None:
            story.lowered(order.downgraded, order.plan)
        secret = self._secret(order.backend)
        if isinstance(secret, Refusal):
            return secret
        holds = await self._reserve(order, story)
        if isinstance(holds, Refusal):
            return holds

        lots, candidate = order.lots, order.lots[0].candidate
        # While nobody knows what became of it, it may have been created.
        charged: tuple[LotSettlement, ...] | None = at_bound(lots)
        try:
            request = outgoing(structs.replace(facts, body=order.body), candidate, 0, secret, call.headers, call.target)
            story.attempt_begins(candidate, order.bound, order.changed)
            # Created, and its id heard by nobody, it would be charged at its bound: better to hear it.
            call.survives = True
            timeouts = hasty(order.backend.timeouts, story.patience_left_s(self.means.clock()))
            answer = await query(self.means, order.backend, request, secret, timeouts)
            body = await whole(answer, OBJECT_BYTES_MAX)
            reading = _read(facts, candidate, answer.status, body)
            batch_id = created_id(body) if answer.status < 300 else None
            # Two backends may give the same id: only one batch of that name can be asked about.
            if batch_id is not None and self.keeper.open.find(batch_id) is None:
                self.keeper.open.add(self._opened(batch_id, order, holds, call, facts, story))
                charged = None
            elif never_billed(answer.status, reading.error):
                charged = unbilled(lots)
            self._reply(call, answer, body, reading, story, final=charged == at_bound(lots))
            return None
        except UpstreamError as error:
            refusal = unanswered(order.backend, error.failure, str(error))
            if error.failure is Failure.CONNECT:
                charged = unbilled(lots)
                return replace(refusal, should_retry=True)
            return replace(
                refusal,
                message=f"{refusal.message}; the batch may have been created all the same, so it was charged at its "
                "bound: list the batches before you send it again",
            )
        finally:
            for lot, hold, settlement in zip(lots, holds, charged or (), strict=False):
                story.attempt_settled(story.reading or Reading(None, False), settlement)
                if hold is not None:
                    spender = Spender(lot.candidate.model, facts.feature, lot.user)
                    self.means.purse.settle(hold, settlement.charge, spender, settlement.uncertain)

    async def _order(self, call: Call, table: RoutingTable) -> BatchOrder | Refusal:
        """The batch, every request read and bounded."""
        requests = requests_in(call.body)
        if isinstance(requests, Refusal):
            return requests

        def read(params: bytes) -> Facts | Refusal:
            return read_request(MESSAGES, call.headers, params, self.workload, call.target)

        draft = BatchDraft(table, call.body, read, self.means.purse.used_percent, self.means.unix())
        count = size = 0
        for request in requests:
            refusal = draft.add(request)
            if refusal is not None:
                return refusal
            count, size = count + 1, size + len(memoryview(request))
            if count >= PAUSE_REQUESTS or size >= PAUSE_BYTES:
                count = size = 0
                await asyncio.sleep(0)
        return draft.order()

    async def _reserve(self, order: BatchOrder, story: Story) -> tuple[Hold | None, ...] | Refusal:
        """A hold for each lot, or none at all."""
        holds: list[Hold | None] = []
        began_s = self.means.clock()
        left_s = story.patience_left_s(began_s)
        patience_s = BUDGET_WAIT_S if left_s is None else max(0.0, min(BUDGET_WAIT_S, left_s))
        complete = False
        try:
            for lot in order.lots:
                hold: Hold | Denied | None = None
                if lot.claims:
                    hold = self.means.purse.try_reserve(lot.claims)
                    hold = hold or await self.means.purse.reserve(lot.claims, patience_s)
                if isinstance(hold, Denied):
                    refusal = denied(hold, self.means.unix())
                    return replace(
                        refusal,
                        message=f"a batch of {order.requests} requests: {refusal.message}; or send fewer at a time",
                        field="requests",
                    )
                holds.append(hold)
            complete = True
            return tuple(holds)
        finally:
            story.wait_s += self.means.clock() - began_s
            for hold in () if complete else holds:
                if hold is not None:
                    self.means.purse.settle(hold, NOTHING)

    def _opened(
        self, batch_id: str, order: BatchOrder, holds: tuple[Hold | None, ...], call: Call, facts: Facts, story: Story
    ) -> OpenBatch:
        return OpenBatch(
            batch_id,
            replace(order, body=b"", shadow=None),
            holds,
            tuple(each for each in call.headers if each[0] in _KEPT_HEADERS),
            structs.replace(facts, body=b"", headers=()),
            story.request_id,
            self.means.clock(),
        )

    # Those that exist

    async def _pass(self, call: Call, table: RoutingTable, facts: Facts, story: Story) -> Refusal | None:
        batch_id, _, what = call.target.partition("?")[0].removeprefix("/v1/messages/batches").strip("/").partition("/")
        batch = self.keeper.open.find(batch_id)
        plan = table.plan(facts) if batch is None else batch.order.plan
        if isinstance(plan, Refusal):
            return plan
        story.plan = plan
        candidate = plan.candidates[0] if batch is None else batch.order.lots[0].candidate
        backend = candidate.backend
        secret = self._secret(backend)
        if isinstance(secret, Refusal):
            return secret
        if batch is not None and call.method == "DELETE":
            await self.keeper.look(batch)  # afterwards nobody can read its results
        story.attempt_begins(candidate, Bound(0, 0, 0), ())
        method = "GET" if call.method == "HEAD" else call.method
        request = outgoing(facts, candidate, 0, secret, call.headers, call.target, method)
        timeouts = hasty(backend.timeouts, story.patience_left_s(self.means.clock()))
        results = what == "results" and method == "GET"
        answer: Answer | None = None
        try:
            answer = await query(self.means, backend, request, secret, patient(timeouts) if results else timeouts)
            if results and answer.status == 200:
                await self._stream(call, answer, batch, story)
                return None
            body = await whole(answer, OBJECT_BYTES_MAX)
        except UpstreamError as error:
            if call.started:
                raise  # relay() deals with those: this would be a bug, and is reported as one
            return replace(unanswered(backend, error.failure, str(error)), should_retry=True)
        finally:
            if answer is not None:
                answer.abort()
        if call.method == "DELETE" and answer.status == 200:
            self.keeper.give_up(batch_id, "BatchDeleted")
        self._reply(call, answer, body, _read(facts, candidate, answer.status, body), story, final=False)
        return None

    async def _stream(self, call: Call, answer: Answer, batch: OpenBatch | None, story: Story) -> None:
        """Results, byte for byte; those of an open batch settle it when they have gone by in whole."""
        body = Body(answer)
        meter = _ResultsMeter(BatchTally(batch.order.lots, batch.order.index) if batch is not None else None)
        first = await body.read()
        story.first_token_s = self.means.clock()
        headers = reply_headers(answer.headers, decoded=body.decoded, final=False, request_id=story.request_id)
        call.begin(answer.status, headers, body.length)
        passed = await relay(call, body, meter, first, Dialect.ANTHROPIC, story.request_id)
        story.outcome = outcomes.OK if passed else outcomes.TRUNCATED
        if passed and answer.complete and batch is not None and meter.tally is not None:
            self.keeper.settle(batch.id, meter.tally)

    def _secret(self, backend: Backend) -> str | Refusal | None:
        """The backend's key; None where it takes none."""
        secret = self.means.credentials.get(backend.credential) if backend.credential else None
        return credential_missing(backend) if backend.credential and secret is None else secret

    def _reply(self, call: Call, answer: Answer, body: bytes, reading: Reading, story: Story, *, final: bool) -> None:
        story.reading = reading
        story.outcome = outcomes.OK if answer.status < 400 else outcomes.UPSTREAM_ERROR
        story.upstream_request_id = answer.request_id
        story.first_token_s = self.means.clock()
        headers = reply_headers(answer.headers, decoded=Body(answer).decoded, final=final, request_id=story.request_id)
        call.reply(answer.status, headers + story.marks(), through_sidecar(body, dict(call.headers).get(b"host", b"")))


class _ResultsMeter:
    """Lets results pass as they are; `tally` reads them."""

    def __init__(self, tally: BatchTally | None) -> None:
        self.tally = tally

    def feed(self, chunk: bytes) -> bytes:
        if self.tally is not None:
            self.tally.feed(chunk)
        return chunk

    def finish(self) -> bytes:
        if self.tally is not None:
            self.tally.finish()
        return b""

    def result(self, status: int, complete: bool) -> Reading:
        return Reading(None, complete)


def _read(facts: Facts, candidate: Candidate, status: int, body: bytes) -> Reading:
    """The type of the error in an answer, if it carries one."""
    meter = meter_for(facts, candidate, streaming=False)
    meter.feed(body)
    return meter.result(status, complete=True)
