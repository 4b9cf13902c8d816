"""One attempt at one candidate: reserve, ask, relay while counting; settled in any case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from keelage_api.proxy_config import Rule, Timeouts
from keelage_api.sync import SavedBy
from keelage_sidecar.core.answer_copy import CopiedAnswer
from keelage_sidecar.core.attribution import Spender
from keelage_sidecar.core.breaker import Verdict
from keelage_sidecar.core.downgrade import Downgraded
from keelage_sidecar.core.health import not_asked
from keelage_sidecar.core.judge import Judge
from keelage_sidecar.core.judge import Verdict as Judged
from keelage_sidecar.core.meter import Meter, Reading, meter_for
from keelage_sidecar.core.outgoing import Outgoing, outgoing
from keelage_sidecar.core.prompt_cache_book import Marked
from keelage_sidecar.core.provider_limits import left_of, remaining
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.reply import Reply, reply_of
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.retry import UNASKED, AttemptEnd, Failure, answered, is_retryable
from keelage_sidecar.core.routing import Plan, RoutingTable
from keelage_sidecar.core.settlement import settle_attempt
from keelage_sidecar.shell import story as outcomes
from keelage_sidecar.shell.answer import Answer, UpstreamError
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.hold import hold_back, take_in
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.query import UNAUTHORIZED, hasty
from keelage_sidecar.shell.refusals import credential_missing
from keelage_sidecar.shell.relay import Body, relay, reply_headers
from keelage_sidecar.shell.reservation import Busy, Reservation, reserve_at_once, reserve_attempt
from keelage_sidecar.shell.story import Story
from keelage_sidecar.shell.told import first_of_error, late_text, swallow, tell, tell_lost

if TYPE_CHECKING:
    from keelage_sidecar.core.translation.interpreter import Interpreter


class Unasked(msgspec.Struct, frozen=True):
    """Nothing was sent: the candidate has no room, its circuit is open, or its API cannot say what the call asks."""

    end: AttemptEnd
    refusal: Refusal
    """If no other candidate can answer."""


class Attempt:
    """`reserve`, `ask`, then `relay` or `swallow` what came; `settle` whatever happened."""

    __slots__ = (
        "_answer", "_asked_s", "_body", "_broken", "_call", "_facts", "_first", "_held", "_injected", "_interpreter",
        "_marked", "_means", "_meter", "_plan", "_reserved", "_said", "_secret", "_sent", "_story", "_table",
        "_ticket", "_track", "_unfed", "answered", "candidate", "end", "index",
    )  # fmt: skip

    def __init__(
        self, means: Means, call: Call, table: RoutingTable, facts: Facts, plan: Plan, index: int, story: Story
    ) -> None:
        self._means = means
        self._call = call
        self._table = table
        self._facts = facts
        self._plan = plan
        self._story = story
        self._said = facts
        """As the candidate gets it, in its API."""
        self._interpreter: Interpreter | None = None
        """Where that is not the application's."""
        self._marked: Marked | None = None
        self.index = index
        self.candidate = plan.candidates[index]
        self._track = means.health.track(self.candidate, means.clock())
        self._ticket: int | None = None
        self._reserved: Reservation | None = None
        self._answer: Answer | None = None
        self._body: Body | None = None
        self._meter: Meter | None = None
        self._first = b""
        self._injected: tuple[str, ...] = ()
        self._sent = False
        self._asked_s = 0.0
        self._broken = False
        self._unfed = False
        """The body's first piece is there, and the meter has not been given it."""
        self._secret: str | None = None
        self._held = 0
        """Bytes of `_first` that were held back."""
        self.answered = False
        """There is an answer to pass on."""
        self.end: AttemptEnd | None = None
        """How it ended without one; an answer that says so can be passed on none the less."""

    async def reserve(self) -> Unasked | Downgraded | Refusal | None:
        """All that the attempt must hold before it is made; None: it has it."""
        means = self._means
        if not self._has_secret():
            return credential_missing(self.candidate.backend)
        if (mute := self._word()) is not None:
            return Unasked(AttemptEnd(self.index, failure=Failure.UNTRANSLATABLE), mute)
        now_s = means.clock()
        self._ticket = self._track.breaker.admit(now_s)
        if self._ticket is None:
            return Unasked(AttemptEnd(self.index, failure=Failure.OPEN), not_asked(self._track, now_s))
        table, facts, said, plan, story = self._table, self._facts, self._said, self._plan, self._story
        plain = self._interpreter.facts if self._interpreter is not None else facts
        reserved = reserve_at_once(means, table, said, plan, self.index, story) or await reserve_attempt(
            means, table, facts, said, plain, plan, self.index, story
        )
        if isinstance(reserved, Busy):
            return Unasked(AttemptEnd(self.index, failure=Failure.LIMITED), reserved.refusal)
        if not isinstance(reserved, Reservation):
            return reserved
        if reserved.said is not said:
            self._said, self._marked = reserved.said, None
        self._reserved = reserved
        return None

    @property
    def status(self) -> int:
        """Of the answer; 0 where there is none."""
        return self._answer.status if self._answer is not None else 0

    @property
    def reply(self) -> Reply:
        """Reads what the answer, which has begun, says."""
        assert self._body is not None
        return reply_of(self._said.endpoint.kind, streaming=self._body.streaming)

    def late_s(self) -> float | None:
        """How long its first byte may take before another attempt is made beside it; None: as long as it likes."""
        story, health = self._story, self._means.health
        return health.late_s(self._plan, tuple(story.ends), self.index, self._facts, self._means.clock())

    def beside(self) -> Attempt | None:
        """Another attempt, at the next candidate, that has all it must hold; None: none is to be made."""
        means = self._means
        if self._call.gone:  # what runs is paid for; nobody waits for it to be faster
            return None
        second = means.health.hedge(self._plan, self.index, means.clock())
        if second is None:
            return None
        other = Attempt(means, self._call, self._table, self._facts, self._plan, second, self._story)
        if other._reserve_at_once():
            return other
        other.settle()
        return None

    def _reserve_at_once(self) -> bool:
        """`reserve` without waiting for anything; whether it has all."""
        if not self._has_secret() or self._word() is not None:
            return False
        self._ticket = self._track.breaker.admit(self._means.clock())
        if self._ticket is not None:
            self._reserved = reserve_at_once(self._means, self._table, self._said, self._plan, self.index, self._story)
        return self._reserved is not None

    def _has_secret(self) -> bool:
        """The pod has the backend's key, or the backend needs none."""
        credential = self.candidate.backend.credential
        self._secret = self._means.credentials.get(credential) if credential else None
        return self._secret is not None or not credential

    def _word(self) -> Refusal | None:
        """Say it as the candidate should get it, in its API; a refusal where that has no words for it."""
        if self.candidate.backend.dialect is not self._facts.endpoint.dialect:
            # Most pods never translate: a fourteenth of each start, paid by the first call that does.
            from keelage_sidecar.core.translation.interpreter import interpret

            interpreter = interpret(self._facts, self.candidate, self._call.headers)
            if isinstance(interpreter, Refusal):
                return interpreter
            self._interpreter, self._said = interpreter, interpreter.facts
        rule = self._plan.rule
        if rule.prompt_cache is not None:
            means = self._means
            marked = self._marked = means.prompt_caches.marked(self._said, self.candidate, rule, means.clock())
            if marked is not None:
                self._said = marked.facts
        return None

    async def ask(self) -> None:
        """Send, and wait for the first byte of the answer's body; sets `end` where it has not come."""
        means, facts, candidate, story, reserved = self._means, self._said, self.candidate, self._story, self._reserved
        assert reserved is not None
        began_s = self._asked_s = means.clock()
        ends = story.ends
        if not ends or not any(end.candidate == self.index and end.failure not in UNASKED for end in ends):
            self._track.retries.called(began_s)
        call = self._call
        method = "GET" if call.method == "HEAD" else call.method
        said = self._interpreter or call
        request = outgoing(facts, candidate, reserved.output_cap, self._secret, said.headers, said.target, method)
        self._injected = request.changed
        story.attempt_begins(candidate, reserved.bound, request.changed)
        backend = candidate.backend
        timeouts = hasty(backend.timeouts, story.patience_left_s(began_s))
        try:
            answer = await self._send(request, timeouts)
            if answer.status == UNAUTHORIZED:
                key = means.credentials.renewed(backend.credential, self._secret)
                if key is not None:  # replaced since: nothing was billed, so the reservation is good for both
                    answer.abort()
                    answer = await self._send(request.with_key(backend, key), timeouts)
            story.upstream_request_id = answer.request_id
            if self._table.limits:
                self._hear_limits(answer)
            body = self._body = Body(answer)
            self._meter = meter_for(facts, candidate, body.streaming)
            if is_retryable(answer.status):
                self._failed(answered(self.index, answer.status, answer.headers, means.unix(), self._took_ms()))
                self._first = await first_of_error(body)
                self._unfed = True
                return
            self._first = await body.read()
            self._unfed = self.answered = True
        except UpstreamError as error:
            self._sent = self._sent and error.failure is not Failure.CONNECT
            end = AttemptEnd(self.index, failure=error.failure, took_ms=self._took_ms(), said=str(error))
            # Who waits less than the backend's own time says nothing about the backend.
            self._failed(end, impatient=error.failure is Failure.TIMEOUT and timeouts is not backend.timeouts)
            return
        if answer.status < 400 and self._ticket is not None:
            now_s = means.clock()
            self._ticket = self._track.first_byte(self._ticket, facts.stream, now_s - began_s, now_s)

    async def _send(self, request: Outgoing, timeouts: Timeouts) -> Answer:
        """The answer, its head arrived; raises UpstreamError."""
        backend = self.candidate.backend
        connection = await self._means.upstream.open(backend.endpoint, timeouts.connect_ms / 1000, backend.tls)
        self._sent = True
        answer = self._answer = connection.send(request.method, request.target, request.headers, request.body, timeouts)
        await answer.head()
        return answer

    async def weigh(self, judge: Judge) -> Judged | None:
        """Hold the answer back until it is clear whether it will do; None: it broke off meanwhile, which sets `end`."""
        assert self._body is not None
        held = [self._first]
        try:
            return await hold_back(self._body, held, judge, self._means.held)
        except UpstreamError as error:
            self.answered = False
            self._failed(AttemptEnd(self.index, failure=error.failure, took_ms=self._took_ms(), said=str(error)))
            return None
        finally:
            self._first = b"".join(held)
            self._held = len(self._first)

    async def read_on(self) -> None:
        """Take in more of an answer that may not be passed on: what it proves to cost is all that is charged."""
        assert self._body is not None
        held = [self._first]
        try:
            await take_in(self._body, held, self._means.held)
        finally:
            self._first = b"".join(held)
            self._held = len(self._first)

    async def relay(self) -> None:
        """Pass the answer on to its end."""
        answer, body, meter, story, reserved = self._answer, self._body, self._meter, self._story, self._reserved
        assert answer is not None
        assert body is not None
        assert meter is not None
        assert reserved is not None
        interpreter = self._interpreter
        dropped = interpreter.dropped if interpreter is not None else ()
        story.hears(self.candidate, reserved.bound, self._injected, answer.request_id, dropped)
        if not (self._first or body.at_end):
            self._first = await late_text(body)
        self._unfed = False
        story.first_token_s = self._means.clock()
        headers = reply_headers(
            answer.headers, decoded=body.decoded, final=self.end is not None, request_id=story.request_id
        )
        headers += (*story.whom(), *story.marks())
        if not (self._first or body.at_end):
            tell_lost(self._call, self.candidate.backend, answer.status, headers, self._facts.endpoint.dialect, story)
            self._broken = True
            return
        if interpreter is not None:
            headers = interpreter.headers_back(headers, streaming=body.streaming)
            if not body.streaming:
                unix_s = int(self._means.unix())
                whole = await tell(self._call, interpreter, body, meter, self._first, headers, story, unix_s)
                self._broken = not whole
                return
            from keelage_sidecar.core.translation.counted_stream import CountedStream

            meter = CountedStream(meter, interpreter.stream(int(self._means.unix()), story.request_id))
        if story.copy is not None:
            story.copy.begin(answer.status, headers)
            meter = CopiedAnswer(meter, story.copy)
        self._call.begin(answer.status, headers, body.length)
        whole = await relay(self._call, body, meter, self._first, self._facts.endpoint.dialect, story.request_id)
        if story.copy is not None:
            story.copy.whole = whole
        story.outcome, self._broken = outcomes.OK if whole else outcomes.TRUNCATED, not whole

    async def swallow(self) -> None:
        """Let the meter see an error that is not passed on: its type says whether anything was billed."""
        if self._body is not None and self._meter is not None:
            self._feed_first()
            await swallow(self._body, self._meter, len(self._first))

    def settle(self) -> None:
        """Charge what was used and give back what was held; a second time does nothing."""
        means, facts, story, answer, reserved = self._means, self._facts, self._story, self._answer, self._reserved
        complete = answer is not None and answer.complete
        if answer is not None:
            answer.abort()
        if self._unfed:
            self._feed_first()
        error = ""
        if reserved is not None and facts.endpoint.metered:
            status = self.status
            reading = self._meter.result(status, complete) if self._meter is not None else Reading(None, False)
            settlement = settle_attempt(reading, reserved.bound, self.candidate, status, self._sent)
            spender = Spender(self.candidate.model, facts.feature, facts.user)
            for hold in reserved.holds:
                means.purse.settle(hold, settlement.charge, spender, settlement.uncertain)
            if self._table.config.quotas and reading.final_usage and reading.usage is not None:
                means.expectations.learn(self.candidate.model, len(self._said.body), reading.usage)
            story.attempt_settled(reading, settlement, self.candidate)
            if self._marked is not None:
                self._learn_caching(self._marked, reading)
            error = reading.error
        if story.outcome == outcomes.OK and (error or (answer is not None and answer.status >= 400)):
            story.outcome = outcomes.UPSTREAM_ERROR
        rule = self._plan.rule
        if (rule.first_token_within or rule.answer_within) is not None and self._sent and reserved is not None:
            self._time(rule, complete=complete and self.status < 400)
        if self._ticket is not None:
            if answer is not None and answer.status >= 400:
                self._track.breaker.ended(self._ticket, Verdict.REFUSED, means.clock(), 0.0)
            elif not self._first or answer is None:
                self._track.breaker.ended(self._ticket, Verdict.NONE, means.clock(), 0.0)
            elif self._broken or error:
                self._track.breaker.ended(self._ticket, Verdict.FAILED, means.clock(), means.pick())
            else:
                self._track.breaker.ended(self._ticket, Verdict.OK, means.clock(), 0.0)
        means.held.give_back(self._held)
        self._reserved, self._ticket, self._held = None, None, 0

    def _time(self, rule: Rule, *, complete: bool) -> None:
        """For latency budgets. Of what did not come nothing is known until it has taken too long."""
        took_s = self._means.clock() - self._asked_s
        first, answer = rule.first_token_within, rule.answer_within
        if answer is not None and (complete or took_s * 1000 > answer.within_ms):
            self._track.whole.took(took_s)
        unheard = not self.answered and (self.end is None or self.end.failure is Failure.TIMEOUT)
        if first is not None and unheard and took_s * 1000 > first.within_ms:
            self._track.pace(self._facts.stream).took(took_s)

    def _learn_caching(self, marked: Marked, reading: Reading) -> None:
        """What came of keelage's breakpoints, or of there being none."""
        means, story, usage = self._means, self._story, reading.usage
        story.prompt_cache = marked.extent or outcomes.OFF
        if usage is None or not reading.final_usage:
            return
        saved = marked.learn(usage, self.candidate, means.clock())
        if saved is not None:
            story.prompt_cache_saved += saved
            read = usage.cache_read_tokens
            cached = read + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
            means.savings.count(self._plan.rule.route, SavedBy.PROMPT_CACHE, saved, tries=cached, hits=read)

    def outrun(self) -> AttemptEnd:
        """Another attempt has answered first: this one ends, and its slowness is remembered."""
        self._track.pace(self._facts.stream).took(self._means.clock() - self._asked_s)
        self.end = AttemptEnd(self.index, failure=Failure.OUTRUN, took_ms=self._took_ms())
        self.settle()
        return self.end

    def _feed_first(self) -> None:
        if self._unfed and self._meter is not None:
            self._meter.feed(self._first)
            self._unfed = False

    def _failed(self, end: AttemptEnd, *, impatient: bool = False) -> None:
        self.end = end
        if self._ticket is not None and not impatient:
            self._track.failed(self._ticket, end, self._means.clock(), self._means.pick())
            self._ticket = None

    def _took_ms(self) -> int:
        return int((self._means.clock() - self._asked_s) * 1000)

    def _hear_limits(self, answer: Answer) -> None:
        """Any answer may say what is left of the provider's limits."""
        quotas = self._table.limits.get(self.candidate.backend.name, ())
        if quotas:
            for name, left in left_of(quotas, remaining(answer.headers, self._means.unix())):
                self._means.purse.note_left(name, left)
