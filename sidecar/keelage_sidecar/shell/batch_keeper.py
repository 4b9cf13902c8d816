"""Keeps the money of batches until their results are known: read by the application in passing, or by itself."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from keelage_api.proxy_config import Timeouts
from keelage_sidecar.core.attribution import Spender
from keelage_sidecar.core.batch_results import BatchTally, LotSettlement, at_bound
from keelage_sidecar.core.endpoints import ANTHROPIC_BATCHES, NEW_BATCH
from keelage_sidecar.core.log_line import CallRecord
from keelage_sidecar.core.meter import Reading
from keelage_sidecar.core.open_batch import OBJECT_BYTES_MAX, OpenBatch, OpenBatches, Stage, stage_of
from keelage_sidecar.core.outgoing import outgoing
from keelage_sidecar.core.request import Facts, read_request
from keelage_sidecar.shell import story as outcomes
from keelage_sidecar.shell.answer import Answer, UpstreamError
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.query import query, whole
from keelage_sidecar.shell.relay import Body
from keelage_sidecar.shell.story import Story

TICK_S = 1.0
"""How late a look may be."""
RESULTS_MS = 3_600_000


class BatchKeeper:
    """One per sidecar; `run` asks about batches that nobody reads, `leave` ends it."""

    def __init__(self, means: Means, tell: Callable[[CallRecord], None]) -> None:
        self._means = means
        self._tell = tell
        self.open = OpenBatches()

    async def run(self) -> None:
        """Look at every batch when it is due, until cancelled."""
        while True:
            await self._means.sleep(TICK_S)
            await self.tend()

    async def tend(self) -> None:
        """Look at those that are due now, one after the other."""
        for batch in self.open.due(self._means.clock()):
            await self.look(batch)

    async def look(self, batch: OpenBatch) -> None:
        """Ask its provider about one batch, and settle it if it has ended."""
        stage, tally = Stage.UNKNOWN, None
        try:
            stage = await self._stage(batch)
            if stage is Stage.ENDED:
                stage, tally = await self._results(batch)
        except UpstreamError:
            pass  # the provider is away: the next look will tell
        if tally is not None:
            self.settle(batch.id, tally)
        elif self.open.looked(batch, stage, self._means.clock()):
            self.give_up(batch.id, "BatchResultsUnknown")

    def settle(self, batch_id: str, tally: BatchTally) -> None:
        """The results of an open batch have been read to their end; nothing if it was settled before."""
        batch = self.open.take(batch_id)
        if batch is not None:
            self._pay(batch, tally.settlements())

    def give_up(self, batch_id: str, reason: str) -> None:
        """There will be no results: each lot is charged at its bound."""
        batch = self.open.take(batch_id)
        if batch is not None:
            self._pay(batch, at_bound(batch.order.lots), reason)

    def leave(self) -> None:
        """The sidecar ends: nobody will read the results of what is open."""
        for batch in self.open.take_all():
            self._pay(batch, at_bound(batch.order.lots), "ShuttingDown")

    async def _stage(self, batch: OpenBatch) -> Stage:
        answer = await self._ask(batch, "", batch.order.backend.timeouts)
        return Stage.UNKNOWN if answer is None else stage_of(answer.status, await whole(answer, OBJECT_BYTES_MAX))

    async def _results(self, batch: OpenBatch) -> tuple[Stage, BatchTally | None]:
        timeouts = batch.order.backend.timeouts
        answer = await self._ask(batch, "/results", patient(timeouts))
        if answer is None:
            return Stage.UNKNOWN, None
        tally = BatchTally(batch.order.lots, batch.order.index)
        try:
            body = Body(answer)
            if answer.status != 200:
                return (Stage.GONE if answer.status == 404 else Stage.UNKNOWN), None
            while piece := await body.read():
                tally.feed(piece)
        finally:
            answer.abort()
        tally.finish()
        return Stage.ENDED, tally

    async def _ask(self, batch: OpenBatch, what: str, timeouts: Timeouts) -> Answer | None:
        """The answer to a GET; None where there is no key to ask with. Raises UpstreamError."""
        candidate = batch.order.lots[0].candidate
        credential = candidate.backend.credential
        secret = self._means.credentials.get(credential) if credential else None
        if credential and secret is None:
            return None
        path = f"/v1/messages/batches/{batch.id}{what}"
        facts = read_request(ANTHROPIC_BATCHES, batch.headers, b"")
        assert isinstance(facts, Facts), "an endpoint without a body is not misread"
        request = outgoing(facts, candidate, 0, secret, batch.headers, path, "GET")
        return await query(self._means, candidate.backend, request, secret, timeouts)

    def _pay(self, batch: OpenBatch, settlements: tuple[LotSettlement, ...], reason: str = "") -> None:
        """Charge every lot and write its line."""
        for lot, hold, settlement in zip(batch.order.lots, batch.holds, settlements, strict=True):
            if hold is not None:
                spender = Spender(lot.candidate.model, batch.facts.feature, lot.user)
                self._means.purse.settle(hold, settlement.charge, spender, settlement.uncertain)
            story = Story(batch.request_id, self._means.unix(), batch.created_s, NEW_BATCH, batch.facts)
            story.plan, story.outcome, story.reason = batch.order.plan, outcomes.SETTLED, reason
            story.attempt_begins(lot.candidate, lot.bound, ())
            story.attempt_settled(Reading(settlement.usage, True), settlement)
            self._tell(story.record(0, self._means.clock()))


def patient(timeouts: Timeouts) -> Timeouts:
    """For results in whole, which may be gigabytes; a pause within them still ends the attempt."""
    return msgspec.structs.replace(timeouts, request_ms=max(timeouts.request_ms, RESULTS_MS))
