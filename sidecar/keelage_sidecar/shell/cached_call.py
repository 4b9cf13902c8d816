"""Calls of rules with a response cache: answered with a kept answer, or asked once for all that wait for the same."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable

from keelage_api.proxy_config import Rule
from keelage_api.response_cache import ResponseCache as Terms
from keelage_api.sync import SavedBy
from keelage_sidecar.core.answer_copy import AnswerCopy
from keelage_sidecar.core.cache_control import cache_control
from keelage_sidecar.core.cascade import Outcome
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.response_cache import KeptAnswer, ResponseCache, kept_headers
from keelage_sidecar.core.response_key import key_of, never_cached
from keelage_sidecar.core.settlement import used
from keelage_sidecar.shell import story as outcomes
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.refusals import not_cached
from keelage_sidecar.shell.shared_answers import SharedAnswers
from keelage_sidecar.shell.story import CacheUse, Story

FOLLOW_S = 30.0
"""How long a call waits for another one's answer before it asks for itself: most answers have come by then."""


class _End(enum.Enum):
    """How the call that others wait for has ended."""

    KEPT = enum.auto()
    NOT_KEPT = enum.auto()
    """Its answer is nobody else's: an error, or too long."""
    LEFT = enum.auto()
    """Its application has gone: the next one asks."""


class CachedCalls:
    """What the calls of one sidecar know of each other's answers."""

    def __init__(self, means: Means, cache: ResponseCache, shared: SharedAnswers) -> None:
        self._means = means
        self._cache = cache
        self._shared = shared
        self._asking: dict[bytes, asyncio.Future[_End]] = {}
        """By key: calls that others wait for."""

    async def serve(
        self,
        call: Call,
        facts: Facts,
        rule: Rule,
        terms: Terms,
        salt: bytes,
        story: Story,
        ask: Callable[[], Awaitable[Refusal | None]],
    ) -> Refusal | None:
        """Answer the call; `ask` answers it without the cache. None: the application has an answer, or has left."""
        asked = cache_control(call.headers)
        why = "it says `Cache-Control: no-store`" if asked.no_store else never_cached(facts, terms)
        key = None if why else key_of(salt, terms, facts, call.target, call.headers)
        if key is None:
            if asked.only_if_cached:
                return not_cached(why or "its body nests too deep")
            story.cache = CacheUse.BYPASS
            return await ask()
        ttl_s = terms.ttl_ms / 1000
        kept = self._find(key, terms)
        if asked.max_age_s >= 0:
            kept = await self._fresh(key, terms, kept, min(ttl_s, asked.max_age_s), story)
            if kept is not None and self._age_s(kept) <= min(ttl_s, asked.max_age_s):
                self._give(call, rule, kept, CacheUse.HIT, story)
                return None
        leads = key not in self._asking
        if leads:
            self._asking[key] = asyncio.get_running_loop().create_future()
        end = _End.LEFT
        try:
            if terms.shared is not None and asked.max_age_s >= 0:
                kept = await self._shared_one(key, terms, kept)
                if kept is not None and self._age_s(kept) <= min(ttl_s, asked.max_age_s):
                    end = _End.KEPT
                    self._give(call, rule, kept, CacheUse.HIT, story)
                    return None
            if asked.only_if_cached:
                return not_cached("no answer to it is kept")
            spare = kept if asked.max_age_s > ttl_s and terms.stale_ms else None
            story.cache = CacheUse.MISS if asked.max_age_s >= 0 else CacheUse.BYPASS
            story.spare = spare is not None
            story.copy = AnswerCopy(self._cache.body_max)
            refusal = await ask()
            answer = self._answer(story) if refusal is None else None
            if answer is not None:
                self._keep(key, terms, answer)
            if story.outcome != outcomes.CLIENT_DISCONNECT:
                end = _End.NOT_KEPT if answer is None else _End.KEPT
        finally:
            if leads:
                self._asking.pop(key).set_result(end)
        if spare is not None and not call.gone and not call.started and _is_outage(refusal):
            if refusal is not None:
                story.refused(refusal)
            self._give(call, rule, spare, CacheUse.STALE, story)
            return None
        self._means.savings.count(rule.route, SavedBy.RESPONSE_CACHE, 0)
        return refusal

    async def _fresh(
        self, key: bytes, terms: Terms, kept: KeptAnswer | None, age_max_s: float, story: Story
    ) -> KeptAnswer | None:
        """What is kept once nobody asks for the same any more; what there is now if it is no older than that."""
        until_s = 0.0
        while kept is None or self._age_s(kept) > age_max_s:
            running = self._asking.get(key)
            if running is None:
                break
            until_s = until_s or self._patience_s(story)
            done, _ = await asyncio.wait((running,), timeout=max(0.0, until_s - self._means.clock()))
            kept = self._find(key, terms)
            if not done or running.result() is not _End.LEFT:
                break
        return kept

    async def _shared_one(self, key: bytes, terms: Terms, kept: KeptAnswer | None) -> KeptAnswer | None:
        """The younger of what is kept here and what others have kept."""
        assert terms.shared is not None
        found = await self._shared.find(terms.shared, key)
        if found is None or (kept is not None and kept.kept_s >= found.kept_s):
            return kept
        self._cache.keep(key, found)
        return found

    def _keep(self, key: bytes, terms: Terms, answer: KeptAnswer) -> None:
        self._cache.keep(key, answer)
        if terms.shared is not None:
            self._shared.keep(terms.shared, key, answer, terms.ttl_ms + terms.stale_ms)

    def _answer(self, story: Story) -> KeptAnswer | None:
        """What the call was told, if it is worth keeping: whole, and what the rule asks for without a budget's need."""
        copy, reading, candidate = story.copy, story.reading, story.candidate
        if story.outcome != outcomes.OK or story.clamped or story.downgraded or copy is None or copy.status != 200:
            return None
        escalation = story.escalation
        if escalation is not None and escalation.makeshift:
            return None
        # What counts no tokens may be the page of a proxy on the way.
        if candidate is None or reading is None or reading.usage is None or (body := copy.sound()) is None:
            return None
        cost = used(reading.usage, candidate).picodollars
        if escalation is not None and escalation.outcome is Outcome.ESCALATED:
            cost += escalation.first_cost
        headers = kept_headers(copy.headers)
        return KeptAnswer(headers, body, self._means.clock(), cost, reading.response_model, reading.stop_reason)

    def _give(self, call: Call, rule: Rule, kept: KeptAnswer, how: CacheUse, story: Story) -> None:
        self._means.savings.count(rule.route, SavedBy.RESPONSE_CACHE, kept.cost, hits=1)
        story.given(kept, how, self._age_s(kept), self._means.clock())
        told = (b"x-keelage-request-id", story.request_id.encode())
        call.begin(200, [*kept.headers, told, *story.whom(), *story.marks()], len(kept.body))
        call.end(kept.body)

    def _find(self, key: bytes, terms: Terms) -> KeptAnswer | None:
        return self._cache.find(key, self._means.clock(), (terms.ttl_ms + terms.stale_ms) / 1000)

    def _age_s(self, kept: KeptAnswer) -> float:
        return self._means.clock() - kept.kept_s

    def _patience_s(self, story: Story) -> float:
        """Until when the call may wait for another one's answer: half of what it has must do to ask for itself."""
        now_s = self._means.clock()
        left_s = story.patience_left_s(now_s)
        return now_s + (FOLLOW_S if left_s is None else max(0.0, min(FOLLOW_S, left_s / 2)))


def _is_outage(refusal: Refusal | None) -> bool:
    """Nobody answers now, as opposed to: the call is wrong. None: a provider's error that was not passed on."""
    return refusal is None or refusal.status == 429 or refusal.status >= 500
