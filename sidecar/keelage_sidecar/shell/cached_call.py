"""Calls of rules with a response cache: answered with a kept answer, or asked once for all that wait for the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from keelage_api.response_cache import ResponseCache as Terms
from keelage_api.response_cache import SharedCache
from keelage_api.sync import SavedBy
from keelage_sidecar.core.answer_copy import AnswerCopy
from keelage_sidecar.core.cache_control import CacheControl, cache_control
from keelage_sidecar.core.cascade import Outcome
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.response_cache import KeptAnswer, ResponseCache, kept_headers
from keelage_sidecar.core.response_key import key_of, never_cached
from keelage_sidecar.core.routing import Plan
from keelage_sidecar.core.settlement import used
from keelage_sidecar.shell import story as outcomes
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.inner_call import Asker, InnerCalls
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.near_answers import Found, NearAnswers
from keelage_sidecar.shell.refusals import not_cached
from keelage_sidecar.shell.shared_answers import SharedAnswers
from keelage_sidecar.shell.single_flight import SingleFlights
from keelage_sidecar.shell.story import CacheUse, Story

if TYPE_CHECKING:
    from keelage_sidecar.core.alike import Asked

Near = Callable[[Plan], Awaitable[bool]]
"""Whether the application has got the answer to a call in other words; asked once the call's tier is known."""
Ask = Callable[[Near | None], Awaitable[Refusal | None]]
"""Asks a provider, unless the one that it is given has had an answer."""
FOLLOW_S = 30.0
"""How long a call waits for another one's answer before it asks for itself: most answers have come by then."""


class _Wanted(msgspec.Struct, frozen=True):
    """What a call asks for, and which kept answers will do."""

    call: Call
    asker: Asker
    terms: Terms
    salt: bytes
    key: bytes
    asked: CacheControl

    @property
    def story(self) -> Story:
        return self.asker.story

    @property
    def age_max_s(self) -> float:
        """Below 0: none will do."""
        return min(self.terms.ttl_ms / 1000, self.asked.max_age_s)

    @property
    def takes_stale(self) -> bool:
        """Where there is no other: the rule allows it, and the call does not say how old an answer may be."""
        return self.terms.stale_ms > 0 and self.asked.max_age_s > self.terms.ttl_ms / 1000


@dataclass(slots=True)
class _Search:
    """For an answer to the same question in other words."""

    question: Asked | None = None
    """None: there is none, or it was not looked for."""
    found: Found | None = None
    given: bool = False


class CachedCalls:
    """What the calls of one sidecar know of each other's answers."""

    def __init__(self, means: Means, cache: ResponseCache, shared: SharedAnswers, inner: InnerCalls) -> None:
        self._means = means
        self._cache = cache
        self._shared = shared
        self._near = NearAnswers(means, cache, inner)
        self._flights = SingleFlights[KeptAnswer](means.clock)

    async def serve(self, call: Call, asker: Asker, terms: Terms, salt: bytes, ask: Ask) -> Refusal | None:
        """Answer the call; `ask` answers it without the cache. None: the application has an answer, or has left."""
        facts, story, asked = asker.facts, asker.story, cache_control(call.headers)
        why = "it says `Cache-Control: no-store`" if asked.no_store else never_cached(facts, terms)
        key = None if why else key_of(salt, terms, facts, call.target, call.headers)
        if key is None:
            if asked.only_if_cached:
                return not_cached(why or "its body nests too deep")
            story.cache = CacheUse.BYPASS
            return await ask(None)
        wanted = _Wanted(call, asker, terms, salt, key, asked)
        kept = self._find(wanted)
        if wanted.age_max_s >= 0:
            kept = await self._after_others(wanted, kept)
            if kept is not None and self._age_s(kept) <= wanted.age_max_s:
                self._give(wanted, kept, CacheUse.HIT)
                return None
        return await self._ask(wanted, kept, ask)

    async def _after_others(self, wanted: _Wanted, kept: KeptAnswer | None) -> KeptAnswer | None:
        """What whoever asks for the same now is told; `kept` where that will do, or nobody asks."""
        if kept is not None and self._age_s(kept) <= wanted.age_max_s:
            return kept
        return await self._flights.hear(wanted.key, self._patience_s(wanted.story)) or kept

    async def _ask(self, wanted: _Wanted, kept: KeptAnswer | None, ask: Ask) -> Refusal | None:
        """Other pods, then a provider, while others wait; `kept`: an answer that is too old, for want of another."""
        story, search = wanted.story, _Search()
        with self._flights.lead(wanted.key) as flight:
            if wanted.terms.shared is not None and wanted.age_max_s >= 0:
                kept = await self._of_other_pods(wanted.terms.shared, wanted.key, kept)
                if kept is not None and self._age_s(kept) <= wanted.age_max_s:
                    flight.land(kept)
                    self._give(wanted, kept, CacheUse.HIT)
                    return None
            if wanted.asked.only_if_cached:
                return not_cached("no answer to it is kept")
            story.cache = CacheUse.MISS if wanted.age_max_s >= 0 else CacheUse.BYPASS
            story.spare = kept is not None and wanted.takes_stale
            copy = story.copy = AnswerCopy(self._cache.body_max, self._means.held)
            try:
                refusal = await ask(partial(self._given_alike, wanted, search, kept))
                answer = self._answer(story) if refusal is None else None
            finally:
                copy.drop()
            if search.given:
                flight.land(None)
                return None
            if answer is not None or story.outcome != outcomes.CLIENT_DISCONNECT:
                flight.land(answer)
            if answer is not None and not story.makeshift:
                self._keep(wanted, answer)
                self._place(wanted, search)
        near = search.found
        kept = kept or (None if near is None else near.answer)
        if kept is not None and story.spare and _unanswered(wanted.call, refusal):
            if refusal is not None:
                story.refused(refusal)
            if near is not None and kept is near.answer:
                story.similarity = near.similarity
            self._give(wanted, kept, CacheUse.STALE)
            return None
        self._means.savings.count(wanted.asker.rule.route, SavedBy.RESPONSE_CACHE, 0)
        return refusal

    async def _given_alike(self, wanted: _Wanted, search: _Search, kept: KeptAnswer | None, plan: Plan) -> bool:
        """Whether the answer to the same question in other words will do, and was given. `kept`: an answer to this
        very call, though too old."""
        terms, semantic, call = wanted.terms, wanted.terms.semantic, wanted.call
        if semantic is None or wanted.age_max_s < 0:
            return False
        # Its expressions take a thirtieth of a start, which most pods need not pay.
        from keelage_sidecar.core.alike import asked_of

        asker, tier = wanted.asker, plan.rule.tier
        search.question = asked_of(wanted.salt, terms, semantic, tier, asker.facts, call.target, call.headers)
        if search.question is None:
            return False
        found = await self._near.find(asker, semantic, search.question, (terms.ttl_ms + terms.stale_ms) / 1000)
        if found is None:
            return False
        search.found, near, saved = found, found.answer, -found.cost
        if near is not None and self._age_s(near) <= min(semantic.ttl_ms / 1000, wanted.asked.max_age_s):
            search.given, saved = True, saved + near.cost
            wanted.story.similarity = found.similarity
            self._give(wanted, near, CacheUse.SEMANTIC)
        self._means.savings.count(asker.rule.route, SavedBy.SEMANTIC_CACHE, saved, hits=search.given)
        wanted.story.spare = wanted.takes_stale and (kept or near) is not None
        return search.given

    async def _of_other_pods(self, server: SharedCache, key: bytes, kept: KeptAnswer | None) -> KeptAnswer | None:
        """The younger of what they have kept and what is kept here."""
        found = await self._shared.find(server, key)
        if found is None or (kept is not None and kept.kept_s >= found.kept_s):
            return kept
        self._cache.keep(key, found)
        return found

    def _keep(self, wanted: _Wanted, answer: KeptAnswer) -> None:
        terms = wanted.terms
        self._cache.keep(wanted.key, answer)
        if terms.shared is not None:
            self._shared.keep(terms.shared, wanted.key, answer, terms.ttl_ms + terms.stale_ms)

    def _answer(self, story: Story) -> KeptAnswer | None:
        """What the call was told, or would have been had it waited, if it is worth telling others: whole, and what the
        rule asks for without a budget's need."""
        copy, reading, candidate = story.copy, story.reading, story.candidate
        if copy is None or copy.status != 200 or story.clamped or story.downgraded:
            return None
        escalation = story.escalation
        if escalation is not None and escalation.makeshift:
            return None
        # What counts no tokens may be the page of a proxy on the way.
        if candidate is None or reading is None or reading.usage is None or reading.error:
            return None
        if (body := copy.sound()) is None:
            return None
        cost = used(reading.usage, candidate).picodollars
        if escalation is not None and escalation.outcome is Outcome.ESCALATED:
            cost += escalation.first_cost
        headers = kept_headers(copy.headers)
        return KeptAnswer(headers, body, self._means.clock(), cost, reading.response_model, reading.stop_reason)

    def _place(self, wanted: _Wanted, search: _Search) -> None:
        """Where the same question in other words is looked for."""
        question, found = search.question, search.found
        if question is not None:
            vector = None if found is None else found.vector
            self._cache.place(wanted.key, question.partition, question.text if vector is None else vector)

    def _give(self, wanted: _Wanted, kept: KeptAnswer, how: CacheUse) -> None:
        story, exact = wanted.story, how is not CacheUse.SEMANTIC
        saved = kept.cost if exact else 0
        self._means.savings.count(wanted.asker.rule.route, SavedBy.RESPONSE_CACHE, saved, hits=exact)
        story.given(kept, how, self._age_s(kept), self._means.clock())
        told = (b"x-keelage-request-id", story.request_id.encode())
        wanted.call.begin(200, [*kept.headers, told, *story.whom(), *story.marks()], len(kept.body))
        wanted.call.end(kept.body)

    def _find(self, wanted: _Wanted) -> KeptAnswer | None:
        terms = wanted.terms
        return self._cache.find(wanted.key, self._means.clock(), (terms.ttl_ms + terms.stale_ms) / 1000)

    def _age_s(self, kept: KeptAnswer) -> float:
        return self._means.clock() - kept.kept_s

    def _patience_s(self, story: Story) -> float:
        """Until when the call may wait for another one's answer: half of what it has must do to ask for itself."""
        now_s = self._means.clock()
        left_s = story.patience_left_s(now_s)
        return now_s + (FOLLOW_S if left_s is None else max(0.0, min(FOLLOW_S, left_s / 2)))


def _unanswered(call: Call, refusal: Refusal | None) -> bool:
    """Nobody answers now, as opposed to: the call is wrong. No refusal: a provider's error that was not passed on."""
    if call.gone or call.started:
        return False
    return refusal is None or refusal.status == 429 or refusal.status >= 500
