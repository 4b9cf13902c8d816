"""The request path, top to bottom: read, find the rule, attempt until answered or refused, log.

`attempts` makes one attempt after the other; each reserves, sends, relays and settles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import structs

from keelage_api.proxy_config import Rule
from keelage_api.sync import SavedBy
from keelage_sidecar.core.cascade import Outcome
from keelage_sidecar.core.endpoints import ANTHROPIC_BATCHES, NEW_BATCH, dialect_of, endpoint_of
from keelage_sidecar.core.log_line import CallRecord, Cascaded
from keelage_sidecar.core.prompt_cache_key import stays_with
from keelage_sidecar.core.refusal import Refusal, render, stream_error
from keelage_sidecar.core.request import NOBODY, Facts, Workload, read_request
from keelage_sidecar.core.routing import Plan, RoutingTable
from keelage_sidecar.core.selection import Case, moment
from keelage_sidecar.core.shadow import rehearse
from keelage_sidecar.shell import story as outcomes
from keelage_sidecar.shell.abreast import abreast
from keelage_sidecar.shell.attempts import attempt_all
from keelage_sidecar.shell.batch_call import BatchCalls
from keelage_sidecar.shell.batch_keeper import BatchKeeper
from keelage_sidecar.shell.cached_call import CachedCalls, Near
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.inner_call import Asker, InnerCalls
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.refusals import NO_CONFIG, OVERLOADED, STOPPING
from keelage_sidecar.shell.reservation import reserve_rates
from keelage_sidecar.shell.selector import Selector
from keelage_sidecar.shell.shared_answers import SharedAnswers
from keelage_sidecar.shell.shortening import Shortening
from keelage_sidecar.shell.story import CacheUse, Story

CALLS_MAX = 1024
"""At a time; with a few hundred KiB each they fit the container's memory."""


class Exchange:
    """Handles calls of the application; the handler of the data port."""

    def __init__(
        self,
        means: Means,
        table: Callable[[], RoutingTable | None],
        tell: Callable[[CallRecord], None],
        batches: BatchKeeper,
        shared: SharedAnswers,
        *,
        workload: Workload = NOBODY,
        id_prefix: str = "",
        traced: Callable[[], bool] = lambda: False,
    ) -> None:
        """`table` gives the configuration in force, `tell` gets every call once, soon after its end; `workload`: the
        pod; `traced` whether lines tell what was decided on the way. Must be called inside a running loop."""
        inner = InnerCalls(means, tell)
        self._selector = Selector(means, inner)
        self._shortening = Shortening(means, inner)
        self._batches = BatchCalls(means, batches, workload)
        self._cached = CachedCalls(means, means.responses, shared, inner)
        self._means = means
        self._table = table
        self._tell = tell
        self._workload = workload
        self._id_prefix = id_prefix
        self._traced = traced
        self._loop = asyncio.get_running_loop()
        self._ended: list[tuple[Story, int, float]] = []
        """Calls of this turn of the loop, each with its status and the time."""
        self._count = 0
        self._running = 0

    async def handle(self, call: Call) -> None:
        """Answer the call; never raises but for cancellation and bugs."""
        self._count += 1
        self._running += 1
        story = Story(f"{self._id_prefix}{self._count:x}", self._means.unix(), call.received_s)
        try:
            refusal = OVERLOADED if self._running > CALLS_MAX else await self._serve(call, story)
            if refusal is not None:
                if story.outcome != outcomes.CLIENT_DISCONNECT:
                    story.refused(refusal)
                self._refuse(call, refusal, story)
        except asyncio.CancelledError:
            if call.deserted:
                story.outcome = outcomes.CLIENT_DISCONNECT
            elif not call.finished:
                self._stop(call, story)
            raise
        finally:
            self._running -= 1
            if not self._ended:
                self._loop.call_soon(self.tell_ended)
            self._ended.append((story, 0 if call.deserted else call.status, self._means.clock()))

    def tell_ended(self) -> None:
        """Tell of the calls that have ended: together, at the end of the loop's turn, while the code that does so is
        in the processor's caches."""
        ended, self._ended = self._ended, []
        for each in ended:
            try:
                self._tell_of(*each)
            except Exception as bug:  # noqa: BLE001 -- that one call brings out must not keep the others from being told
                self._loop.call_exception_handler({"message": "a call cannot be told of", "exception": bug})

    def _tell_of(self, story: Story, status: int, now_s: float) -> None:
        record = story.record(status, now_s, self._traced())
        if isinstance(record.cascade, Cascaded):
            kept = record.cascade.outcome == Outcome.KEPT
            self._means.savings.count(record.route, SavedBy.CASCADE, record.cascade.saved, hits=kept)
        self._tell(record)

    async def _serve(self, call: Call, story: Story) -> Refusal | None:
        endpoint = endpoint_of(call.method, call.target, call.headers)
        if isinstance(endpoint, Refusal):
            return endpoint
        story.endpoint = endpoint
        table = self._table()
        if table is None:
            return NO_CONFIG
        if endpoint in (NEW_BATCH, ANTHROPIC_BATCHES):
            return await self._batches.serve(call, endpoint, table, story)
        facts = read_request(endpoint, call.headers, call.body, self._workload, call.target)
        if isinstance(facts, Refusal):
            return facts
        story.facts = facts
        if self._means.upstream.active:
            await abreast()
        rule = table.rule(facts)
        if isinstance(rule, Refusal):
            self._rehearse(table, facts, rule, story)
            return rule
        story.rule = rule
        if rule.response_cache is None:
            return await self._ask(call, table, facts, rule, story)
        salt = table.salts[rule.route, rule.name]
        if (changing := table.changing.get((rule.route, rule.name))) is not None:
            means = self._means
            salt += moment(changing, table, Case(facts, means.purse.used_percent, means.unix()))
        asker = Asker(table, rule, facts, story)
        refusal = await self._cached.serve(
            call, asker, rule.response_cache, salt, lambda near: self._ask(call, table, facts, rule, story, near)
        )
        if story.cache in (CacheUse.HIT, CacheUse.SEMANTIC):
            self._rehearse(table, facts, None, story)
        return refusal

    async def _ask(
        self, call: Call, table: RoutingTable, facts: Facts, rule: Rule, story: Story, near: Near | None = None
    ) -> Refusal | None:
        """A provider, unless `near` has an answer; None: the application has it, or has left."""
        rates = await reserve_rates(self._means, table, rule, facts, story)
        if isinstance(rates, Refusal):
            self._rehearse(table, facts, rates, story)
            return rates
        try:
            return await self._ask_selected(call, table, facts, rule, story, near)
        finally:
            if rates is not None:
                used = story.used
                self._means.purse.settle(rates, structs.replace(used, requests=min(1, used.requests)))

    async def _ask_selected(
        self, call: Call, table: RoutingTable, facts: Facts, rule: Rule, story: Story, near: Near | None
    ) -> Refusal | None:
        """Those of the tier that is selected for the call."""
        if rule.select:
            plan = await self._selector.select(Asker(table, rule, facts, story))
        else:
            plan = table.on_tier(rule, facts)
        self._rehearse(table, facts, plan, story)
        if isinstance(plan, Refusal):
            return plan
        if near is not None and await near(plan):
            return None
        if len(plan.candidates) > 1:
            means = self._means
            plan = means.health.ordered(plan, 0, stays_with(plan, facts), means.pick(), means.clock())
        if (rule.first_token_within or rule.answer_within) is not None:
            plan = self._in_time(table, facts, plan, story)
        story.plan = plan
        if rule.history is not None:
            facts = await self._shortening.shorten(table, facts, story)
        return await attempt_all(self._means, call, table, facts, plan, story)

    def _in_time(self, table: RoutingTable, facts: Facts, plan: Plan, story: Story) -> Plan:
        """The plan, or that of the tier which takes over while the plan's is too slow."""
        means, now_s = self._means, self._means.clock()
        story.otherwise = means.latency.otherwise(table, plan, facts, means.health, means.pick(), now_s)
        if story.otherwise is None:
            return plan
        return means.health.ordered(story.otherwise.plan, 0, facts.user, means.pick(), now_s)

    def _rehearse(self, table: RoutingTable, facts: Facts, plan: Plan | Refusal | None, story: Story) -> None:
        if table.rehearsal is not None:
            purse = self._means.purse
            story.rehearsal = rehearse(table, facts, plan, purse.room, purse.used_percent, self._means.unix())

    def _refuse(self, call: Call, refusal: Refusal, story: Story) -> None:
        dialect = dialect_of(call.target, call.headers)
        status, headers, body = render(refusal, dialect, story.request_id)
        headers.append((b"x-keelage-request-id", story.request_id.encode()))
        headers += story.whom()
        if story.ends:
            headers.append((b"x-keelage-tried", story.tried.encode()))
        call.reply(status, headers, body)

    def _stop(self, call: Call, story: Story) -> None:
        """The sidecar ends: the application hears so, whatever it has got already."""
        story.refused(STOPPING)
        if not call.started:
            self._refuse(call, STOPPING, story)
        elif not call.finished:
            streaming = story.facts is not None and story.facts.stream
            call.fail(stream_error(STOPPING, dialect_of(call.target, call.headers)) if streaming else b"")
