"""What happened to one call, collected while it happens and told once, at its end."""

from __future__ import annotations

import enum
from functools import lru_cache

import msgspec

from keelage_api.proxy_config import Rule
from keelage_sidecar.core.answer_copy import AnswerCopy
from keelage_sidecar.core.batch_shadow import BatchRehearsal
from keelage_sidecar.core.bound import Bound, Unbounded
from keelage_sidecar.core.cascade import Escalation, Outcome
from keelage_sidecar.core.claim import NOTHING, Charge
from keelage_sidecar.core.downgrade import Downgraded
from keelage_sidecar.core.endpoints import Endpoint
from keelage_sidecar.core.latency import Otherwise
from keelage_sidecar.core.log_line import (
    GIVEN,
    CallRecord,
    Cascaded,
    Choice,
    Failed,
    FirstAnswer,
    Late,
    Purpose,
    time_text,
)
from keelage_sidecar.core.meter import Reading
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.response_cache import KeptAnswer
from keelage_sidecar.core.retry import AttemptEnd, told
from keelage_sidecar.core.routing import Candidate, Plan
from keelage_sidecar.core.settlement import Settlement
from keelage_sidecar.core.shadow import Rehearsal

OK = "ok"
UPSTREAM_ERROR = "upstream_error"
REFUSED = "refused"
CLIENT_DISCONNECT = "client_disconnect"
TRUNCATED = "truncated"
ERROR = "error"
SETTLED = "settled"
OFF = "off"
"""Of what keelage could do to a call, but does not now."""


class CacheUse(enum.StrEnum):
    """What the response cache did for a call."""

    NONE = ""
    """Its rule has none."""
    HIT = "hit"
    SEMANTIC = "semantic"
    """It gave the answer to a call that asks the same in other words."""
    MISS = "miss"
    STALE = "stale"
    """It gave an answer that was too old, as there was no other."""
    BYPASS = "bypass"
    """It was not asked, since the call is not of that kind or does not want it."""


class Story(msgspec.Struct):
    """`*_s` are on the loop's clock but `unix_s`."""

    request_id: str
    unix_s: float
    received_s: float
    endpoint: Endpoint | None = None
    facts: Facts | None = None
    plan: Plan | None = None
    rule: Rule | None = None
    """That takes it; where there is a plan, it is on the plan's tier."""
    candidate: Candidate | None = None
    ends: list[AttemptEnd] = []
    attempts: int = 0
    cost: int = 0
    bound: Bound | None = None
    violated: bool = False
    uncertain: bool = False
    reading: Reading | None = None
    outcome: str = ERROR
    reason: str = ""
    budget: str = ""
    upstream_request_id: str = ""
    injected: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    """Fields that the backend's API has no word for."""
    first_token_s: float | None = None
    wait_s: float = 0.0
    queue_s: float = 0.0
    used: Charge = NOTHING
    """By all attempts together."""
    clamped: int = 0
    """The output cap that it was lowered to; 0: it was not."""
    downgraded: str = ""
    limit: str = ""
    unlimited: bool = False
    """Nobody could be asked about a rate."""
    hedge: str = ""
    purpose: Purpose | None = None
    """None: it is the application's call."""
    prompt_cache: str = ""
    prompt_cache_saved: int = 0
    cache: CacheUse = CacheUse.NONE
    cache_age_s: float = 0.0
    similarity: float | None = None
    """Of the question whose answer was given; None: it is the call's own."""
    saved: int = 0
    """Pico-dollars that a kept answer would have cost."""
    spare: bool = False
    """There is a kept answer to give where no provider has one: theirs are not passed on then, if they are errors."""
    copy: AnswerCopy | None = None
    """Made of the answer while it is passed on."""
    rehearsal: Rehearsal | BatchRehearsal | None = None
    """What is in shadow would have done otherwise."""
    trimmed: int = 0
    """Turns of the conversation that were not sent."""
    summarized: int = 0
    """Turns that were sent as a summary."""
    otherwise: Otherwise | None = None
    """Of a call whose tier is too slow."""
    escalation: Escalation | None = None
    """Of a call whose answer was judged."""
    prompt_words: int | None = None
    """Where a condition asked for their number."""
    selected_by: str = ""
    """Why it has its tier (`selection.Selected.by`); empty where its rule has but one."""
    unanswered: bool = False
    """A classifier that was asked had no answer."""

    def attempt_begins(self, candidate: Candidate, bound: Bound | Unbounded, injected: tuple[str, ...]) -> None:
        self.attempts += 1
        self.hears(candidate, bound, injected, "")

    def hears(
        self,
        candidate: Candidate,
        bound: Bound | Unbounded,
        injected: tuple[str, ...],
        upstream_request_id: str,
        dropped: tuple[str, ...] = (),
    ) -> None:
        """Whose answer is waited for, or passed on."""
        self.candidate = candidate
        self.bound = bound if isinstance(bound, Bound) else None
        self.injected = injected
        self.dropped = dropped
        self.reading = None
        self.upstream_request_id = upstream_request_id

    def attempt_settled(self, reading: Reading, settlement: Settlement, candidate: Candidate | None = None) -> None:
        """`candidate`: who was asked; what it says of itself is told where it is the one whose answer counts."""
        escalation = self.escalation
        if escalation is not None and candidate is escalation.first:
            escalation.reading, escalation.first_cost = reading, settlement.amount
        if candidate is None or candidate is self.candidate:
            self.reading = reading
        self.cost += settlement.amount
        self.used = self.used.plus(settlement.charge) if self.used is not NOTHING else settlement.charge
        self.violated = self.violated or settlement.violated
        self.uncertain = self.uncertain or settlement.doubtful

    def refused(self, refusal: Refusal) -> None:
        """An upstream's failure is told as such, though the sidecar words it."""
        self.outcome = UPSTREAM_ERROR if refusal.reason.startswith("Upstream") else REFUSED
        self.reason = refusal.reason
        self.budget = refusal.budget or self.budget
        self.limit = refusal.limit

    def lowered(self, step: Downgraded, plan: Plan) -> None:
        """The call goes on with a cheaper tier."""
        self.plan, self.downgraded, self.budget = plan, plan.rule.tier, step.budget

    def hedged(self, *, won: bool) -> None:
        """Two were asked side by side; `won`: the second one answered first."""
        self.hedge = "won" if won else "lost"

    def given(self, kept: KeptAnswer, how: CacheUse, age_s: float, now_s: float) -> None:
        """A kept answer goes to the application."""
        self.cache, self.cache_age_s, self.saved = how, age_s, kept.cost
        self.reading = Reading(None, True, kept.stop_reason, kept.model)
        self.outcome, self.first_token_s = OK, now_s

    @property
    def tried(self) -> str:
        """Who was asked before, and what became of it; empty where nobody was."""
        return told(self.plan, tuple(self.ends)) if self.plan is not None and self.ends else ""

    def whom(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers that tell the application who answers, by which rule, or who was to be asked; a kept answer says
        itself who made it."""
        if self.rule is not None and (self.plan is None or self.cache in GIVEN):
            return _whom(self.rule.route, self.rule.name, "", "", "")
        if self.plan is None:
            return ()
        rule, model = self.plan.rule, self.candidate.model if self.candidate is not None else ""
        return _whom(rule.route, rule.name, rule.tier, model, self.selected_by)

    def marks(self) -> list[tuple[bytes, bytes]]:
        """Headers that tell the application what was changed for a budget's sake or lost in translation, and who did
        not answer."""
        marks: list[tuple[bytes, bytes]] = []
        if self.ends:
            marks.append((b"x-keelage-tried", self.tried.encode()))
        if self.clamped:
            marks.append((b"x-keelage-clamped", b"max_tokens=%d" % self.clamped))
        if self.downgraded:
            marks.append((b"x-keelage-downgraded", self.downgraded.encode()))
            marks.append((b"x-keelage-budget", self.budget.encode()))
        if self.dropped:
            marks.append((b"x-keelage-dropped", ", ".join(self.dropped).encode()))
        if self.cache:
            marks.append((b"x-keelage-cache", self.cache.encode()))
            if self.cache in GIVEN:
                marks.append((b"age", b"%d" % self.cache_age_s))
        if self.trimmed or self.summarized:
            counts = (b"trimmed=%d" % self.trimmed, b"summarized=%d" % self.summarized)
            marks.append((b"x-keelage-history", b", ".join(each for each in counts if not each.endswith(b"=0"))))
        if self.otherwise is not None:
            marks.append((b"x-keelage-latency", b"otherwise"))
        if self.escalation is not None:
            marks.append((b"x-keelage-cascade", self.escalation.outcome.encode()))
        return marks

    @property
    def makeshift(self) -> bool:
        """The tier that answers is not the one that the rule wants for the call: a moment later it may be."""
        return self.unanswered or self.otherwise is not None

    def patience_left_s(self, now_s: float) -> float | None:
        """How long the application will still wait for a first byte; None where it did not say."""
        if self.facts is None or self.facts.patience_s is None:
            return None
        return self.received_s + self.facts.patience_s - now_s

    def record(self, status: int, now_s: float, traced: bool = False) -> CallRecord:
        """The call's line in the log; `traced`: with what was decided on the way."""
        record = CallRecord(time_text(self.unix_s), self.request_id)
        record.outcome, record.status = self.outcome, status
        if self.purpose is not None:
            record.purpose = self.purpose
        record.latency_ms = _ms(now_s - self.received_s)
        if self.endpoint is not None:
            record.endpoint = self.endpoint.kind
        if (facts := self.facts) is not None:
            record.request_model, record.stream = facts.model, facts.stream
            record.user, record.feature, record.sdk_retries = facts.user, facts.feature, facts.retry_count
            if facts.task_type:
                record.task_type = facts.task_type
        if (rule := self.rule if self.plan is None else self.plan.rule) is not None:
            record.route, record.rule = rule.route, rule.name
        if self.plan is not None:
            record.tier, record.selected_by = self.plan.rule.tier, self.selected_by
            if self.prompt_words is not None:
                record.prompt_words = self.prompt_words
        if (candidate := self.candidate) is not None:
            record.backend, record.model = candidate.backend.name, candidate.model
            record.attempts, record.injected = self.attempts, self.injected
            if (bound := self.bound) is not None:
                record.bound = bound.amount
                record.bound_input_tokens, record.bound_output_tokens = bound.input_tokens, bound.output_tokens
            if self.dropped:
                record.dropped = self.dropped
            record.upstream_request_id = self.upstream_request_id
        if (reading := self.reading) is not None:
            record.response_model, record.stop_reason = reading.response_model, reading.stop_reason
            record.reason = reading.error
            if reading.usage is not None:
                record.used(reading.usage)
        if self.cost:
            record.charge(self.cost)
        if self.first_token_s is not None:
            record.first_token_ms = _ms(self.first_token_s - self.received_s)
        if self.wait_s or self.queue_s:
            record.wait_ms, record.queue_ms = _ms(self.wait_s), _ms(self.queue_s)
        record.bound_violated, record.uncertain, record.unlimited = self.violated, self.uncertain, self.unlimited
        record.reason = self.reason or record.reason
        record.budget, record.limit = self.budget, self.limit
        record.clamped, record.downgraded = self.clamped, self.downgraded
        if self.prompt_cache:
            record.prompt_cache, record.prompt_cache_saved = self.prompt_cache, self.prompt_cache_saved
        if self.rehearsal is not None:
            self._tell_rehearsal(record, self.rehearsal)
        if self.trimmed or self.summarized:
            record.history_trimmed, record.history_summarized = self.trimmed, self.summarized
        if self.otherwise is not None:
            record.latency = Late(self.otherwise.bound, self.otherwise.tier)
        if self.escalation is not None:
            record.cascade = _cascaded(self.escalation, self.cost)
        if traced and self.plan is not None:
            record.candidates = tuple(_choice(each) for each in self.plan.candidates)
        if self.cache:
            record.cache, record.cache_age_s = self.cache, round(self.cache_age_s, 3)
            record.saved = self.saved
            if self.similarity is not None:
                record.cache_similarity = round(self.similarity, 4)
        if self.ends and self.plan is not None:
            record.hedge = self.hedge
            record.failed = tuple(_failed(end, self.plan.candidates[end.candidate]) for end in self.ends)
        return record

    def _tell_rehearsal(self, record: CallRecord, rehearsal: Rehearsal | BatchRehearsal) -> None:
        usage = self.reading.usage if self.reading is not None else None
        record.shadow_rule = rehearsal.told(self.candidate, usage) or msgspec.UNSET
        record.shadow_budgets = rehearsal.budgets or msgspec.UNSET


def _cascaded(escalation: Escalation, cost: int) -> Cascaded:
    told = Cascaded(escalation.outcome, escalation.saved(cost), escalation.cause or "")
    if escalation.outcome is Outcome.ESCALATED:
        first, reading = escalation.first, escalation.reading
        usage = reading.usage if reading is not None else None
        tokens = (usage.prompt_tokens, usage.output_tokens) if usage is not None else (0, 0)
        told.first_answer = FirstAnswer(first.backend.name, first.model, *tokens, escalation.first_cost)
    return told


@lru_cache(maxsize=1024)
def _whom(route: str, rule: str, tier: str, model: str, by: str) -> tuple[tuple[bytes, bytes], ...]:
    """Models are named by applications: nothing in a name may end the header."""
    said = (
        (b"x-keelage-rule", f"{route}/{rule}"),
        (b"x-keelage-tier", tier),
        (b"x-keelage-selected-by", by),
        (b"x-keelage-model", model),
    )
    return tuple((name, "".join(c if " " < c < "\x7f" else "?" for c in text).encode()) for name, text in said if text)


def _choice(candidate: Candidate) -> Choice:
    priced = candidate.price is not None
    return Choice(candidate.backend.name, candidate.model, priced, candidate.hard, candidate.output_cap)


def _failed(end: AttemptEnd, candidate: Candidate) -> Failed:
    return Failed(candidate.backend.name, candidate.model, end.status, end.failure, end.retry_after_ms, end.took_ms)


def _ms(seconds: float) -> float:
    """To the microsecond; `round` takes twice as long."""
    return int(seconds * 1_000_000 + 0.5) / 1000
