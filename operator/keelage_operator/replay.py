"""Recorded calls under other manifests: where they would go, what they would cost, which would be refused.

`keelage plan` reads the sidecars' own log lines, which hold no content, and gives them to the code that decides
about calls. What the lines do not tell is assumed, and said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import orjson
from msgspec import structs

from keelage_api.pricing import cost_of
from keelage_api.proxy_config import Per, ProxyConfig
from keelage_api.selection import Classifier
from keelage_api.usage import TokenUsage
from keelage_api.window import Window, window_at
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.replay_own import Again, OwnCalls, selected, used
from keelage_operator.replay_report import Assumption, Report, Tally
from keelage_sidecar.core.bound import Bound, bound_of
from keelage_sidecar.core.cascade import cascade_of
from keelage_sidecar.core.claim import Charge, Claim, DenialReason, Room
from keelage_sidecar.core.endpoints import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, Endpoint
from keelage_sidecar.core.foresight import Foreseen, Foresight
from keelage_sidecar.core.health import HealthBook
from keelage_sidecar.core.log_line import GIVEN, CallRecord, Cascaded
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import CAP_FIELDS, Facts
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable
from keelage_sidecar.core.selection import Case
from keelage_sidecar.core.weight import Weight

_ENDPOINTS: Mapping[str, Endpoint] = {each.kind: each for each in (MESSAGES, CHAT, RESPONSES, EMBEDDINGS)}
"""Calls that models answer; the others cost nothing, or are batches."""
_DECIDED_ANEW = frozenset({*DenialReason, "NotBoundable", "NoMatchingRoute", "NoBackendForDialect"})
"""Reasons of refusals that routes and budgets have; others are the application's, and stay."""
_PATHS = {
    MESSAGES: "/v1/messages",
    CHAT: "/v1/chat/completions",
    RESPONSES: "/v1/responses",
    EMBEDDINGS: "/v1/embeddings",
}
_NEVER = datetime.min.replace(tzinfo=UTC)
_GOLDEN = 0.618033988749895
"""Multiples of it fill [0, 1) evenly: calls without a user are spread by weights as they would be by chance."""


def read(line: bytes) -> CallRecord | None:
    """None for what is no line of a call, such as what the sidecar says of itself."""
    try:
        record = msgspec.json.decode(line, type=CallRecord)
        datetime.fromisoformat(record.time)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return None
    return record if record.request_id and record.outcome else None


@dataclass(slots=True)
class _Account:
    window: Window
    spent: int = 0


@dataclass(slots=True)
class _Usual:
    """What calls for one model used, on average."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def usage(self) -> TokenUsage:
        calls = max(1, self.calls)
        return TokenUsage(input_tokens=self.tokens_in // calls, output_tokens=self.tokens_out // calls)


@dataclass(slots=True)
class Replay:
    """Calls in the order of their time, each decided and charged before the next."""

    config: ProxyConfig
    budgets: Mapping[str, BudgetInForce]
    """By `<namespace>/<budget>`."""
    table: RoutingTable = field(init=False)
    _hard: tuple[str, ...] = field(init=False)
    _foresight: Foresight = field(init=False)
    _tally: Tally = field(default_factory=Tally)
    _accounts: dict[tuple[str, str], _Account] = field(default_factory=dict)
    _usual: dict[str, _Usual] = field(default_factory=dict)
    _assumed: Counter[Assumption] = field(default_factory=Counter)
    _own: OwnCalls = field(default_factory=OwnCalls)
    _health: HealthBook = field(default_factory=HealthBook)
    _count: int = 0
    _now: datetime = _NEVER

    def __post_init__(self) -> None:
        self.table = RoutingTable.build(self.config)
        self._hard = tuple(name for name, budget in self.budgets.items() if budget.hard)
        self._foresight = Foresight(self.table, self._room, self._used)

    def run(self, records: Iterable[CallRecord]) -> Report:
        for record in records:
            self._take(record)
        for (name, _), account in self._accounts.items():
            self._tally.spent(name, account.spent)
        self._tally.set_aside(self._own.left)
        counted = [
            f"{count:,} call{'' if count == 1 else 's'}: {what}"
            for what, count in sorted(self._assumed.items())
            if count
        ]
        return self._tally.report(self.budgets, (*counted, *_notes(self.config)))

    def _take(self, record: CallRecord) -> None:
        endpoint = _ENDPOINTS.get(record.endpoint)
        if isinstance(record.purpose, str):
            self._own.hear(record)
            return
        if endpoint is None or record.outcome == "settled":
            self._tally.set_aside()
            return
        self._now = datetime.fromisoformat(record.time)
        self._tally.before(record)
        own = self._own.of(record)
        for each in own:
            self._tally.own(each)
        if record.outcome == "refused" and record.reason not in _DECIDED_ANEW:
            self._tally.after_refusal(f"{record.route}/{record.rule}" if record.route else "", "", record.reason)
            return
        usage = self._usage(record)
        facts = _facts(endpoint, record, usage)
        plan, asked = self._plan(facts, record.prompt_words if isinstance(record.prompt_words, int) else None)
        if isinstance(plan, Refusal):
            self._tally.after_refusal("", "", plan.reason)
            return
        for again in self._own.again(record, own, plan.rule, asked):
            self._make(again, facts, plan)
        if record.cache in GIVEN:
            self._assumed[Assumption.HIT_AGAIN] += 1
            self._tally.after_hit(_name(plan), plan.rule.tier)
        else:
            self._decide(record, facts, plan, usage)

    def _make(self, again: Again, facts: Facts, outer: Plan) -> None:
        """A call of the sidecar's own."""
        facts = structs.replace(facts, weight=Weight(tokens=again.usage.prompt_tokens), capped=True)
        if again.choices:
            rule = structs.replace(outer.rule, choices=again.choices, tier="")
            plan = self.table.among(rule, structs.replace(facts, endpoint=EMBEDDINGS))
        else:
            plan = self.table.on_tier(outer.rule, facts, again.tier)
        if isinstance(plan, Refusal):
            return
        candidate = plan.candidates[0]
        self._assumed[Assumption.FIRST_ASKED] += again.before is None
        cost = self._charged(again.before, facts, plan, candidate, again.usage)
        self._tally.after_own(f"{_name(outer)}/{again.purpose}", again.tier, candidate.model, cost)

    def _decide(self, record: CallRecord, facts: Facts, plan: Plan, usage: TokenUsage) -> None:
        seen = self._foresight.of(facts, plan, self._hard)
        if seen.reason:
            self._tally.after_refusal(_name(plan), seen.tier, seen.reason, seen.budget)
            return
        dear = self._escalated(record, facts, plan, seen)
        if dear is None:
            cost = self._charged(record, facts, plan, seen.candidate, usage)
            self._tally.after(_name(plan), seen, cost)
            return
        assert isinstance(record.cascade, Cascaded)
        first = record.cascade.first_answer
        assert first is not None
        wasted = TokenUsage(input_tokens=first.input_tokens, output_tokens=first.output_tokens)
        cost = self._charged(record, facts, plan, seen.candidate, wasted)
        cost += self._charged(record, facts, plan, dear.candidates[0], usage)
        seen = replace(seen, candidate=dear.candidates[0], tier=dear.rule.tier)
        self._tally.after(_name(plan), seen, cost)

    def _escalated(self, record: CallRecord, facts: Facts, plan: Plan, seen: Foreseen) -> Plan | None:
        """The dear tier, where a cascade's first answer would not do, as it would not before."""
        cascade = cascade_of(plan, facts)
        if cascade is None or seen.downgraded:
            return None
        before = record.cascade
        if not isinstance(before, Cascaded):
            self._assumed[Assumption.KEPT] += 1
            return None
        if before.first_answer is None:
            return None
        dear = self.table.on_tier(plan.rule, facts, cascade.to)
        return dear if isinstance(dear, Plan) else None

    def _usage(self, record: CallRecord) -> TokenUsage:
        """What was counted; for calls that were not served, what others for the same model used."""
        if record.usage_known:
            usual = self._usual.setdefault(record.request_model, _Usual())
            usual.calls += 1
            usual.tokens_in += record.prompt_tokens
            usual.tokens_out += record.output_tokens
            return used(record)
        if record.outcome != "refused":
            return TokenUsage()
        self._assumed[Assumption.REFUSED_BEFORE] += 1
        return self._usual.get(record.request_model, _Usual()).usage

    def _plan(self, facts: Facts, words: int | None) -> tuple[Plan | Refusal, tuple[Classifier, ...]]:
        """With the classifiers that are asked. `words`: of the prompt; None where they were not counted."""
        rule = self.table.rule(facts)
        if isinstance(rule, Refusal):
            return rule, ()
        plan: Plan | Refusal
        asked: tuple[Classifier, ...] = ()
        if rule.select:
            if words is None:
                words = facts.weight.likely_tokens * 3 // 4
                self._assumed[Assumption.WORDS] += any(entry.when.words is not None for entry in rule.select)
            said = structs.replace(facts, body=orjson.dumps({"input": "w " * words}))
            plan, asked = selected(self.table, rule, Case(said, self._used, self._now.timestamp()))
        else:
            plan = self.table.on_tier(rule, facts)
        if isinstance(plan, Plan) and len(plan.candidates) > 1:
            self._count += 1
            plan = self._health.ordered(plan, 0, facts.user, self._count * _GOLDEN % 1, 0.0)
        return plan, asked

    def _charged(
        self, record: CallRecord | None, facts: Facts, plan: Plan, candidate: Candidate, usage: TokenUsage
    ) -> int:
        """Pico-dollars; all budgets of the call are charged."""
        charge = Charge(0, usage.total_tokens, usage.prompt_tokens, usage.output_tokens, 1)
        price = candidate.price or candidate.dearest
        if record is not None and record.cost and not record.usage_known:
            self._assumed[Assumption.AT_BOUND] += 1
            bound = bound_of(facts, candidate, candidate.output_cap)
            charge = bound.charge if isinstance(bound, Bound) else charge
        elif price is None:
            self._assumed[Assumption.UNPRICED] += 1
        else:
            if candidate.price is None:
                self._assumed[Assumption.DEAREST] += 1
            charge = structs.replace(charge, picodollars=cost_of(usage, price))
        for claim in self.table.claims(candidate, plan.rule, facts, charge):
            self._account(claim.budget, claim.value).spent += claim.amount
        return charge.picodollars

    def _account(self, name: str, value: str) -> _Account:
        budget = self.budgets[name]
        account = self._accounts.get((name, value))
        if account is None or not account.window.starts_at <= self._now < account.window.ends_at:
            if account is not None:
                self._tally.spent(name, account.spent)
            window = window_at(budget.every, ZoneInfo(budget.zone), self._now)
            account = self._accounts[name, value] = _Account(window)
        return account

    def _room(self, claim: Claim) -> Room:
        left = max(0, self.budgets[claim.budget].cap - self._account(claim.budget, claim.value).spent)
        return Room(left, left)

    def _used(self, name: str, value: str) -> int | None:
        cap = self.budgets[name].cap
        return self._account(name, value).spent * 100 // cap if cap else None


def _name(plan: Plan) -> str:
    return f"{plan.rule.route}/{plan.rule.name}"


def _facts(endpoint: Endpoint, record: CallRecord, usage: TokenUsage) -> Facts:
    """The call, as far as its line tells: its weight is that by which it was bounded."""
    capped = endpoint.generates and not set(CAP_FIELDS.get(endpoint.kind, ())) & set(record.injected)
    weight = Weight(tokens=record.bound_input_tokens or usage.prompt_tokens)
    return Facts(
        endpoint,
        record.request_model,
        record.stream,
        (record.bound_output_tokens or usage.output_tokens) if capped else 0,
        record.user,
        record.feature,
        b"",
        {},
        None,
        record.sdk_retries,
        asked_usage=True,
        capped=capped,
        weight=weight,
        task_type=record.task_type or "",
        path=_PATHS[endpoint],
    )


def _notes(config: ProxyConfig) -> Iterator[str]:
    """What is assumed of every call, as far as this configuration asks for it."""
    yield (
        "costs after are those of the same tokens at the price of the first choice that would be asked: other models"
        " count and answer otherwise, and retries and fallbacks are not foreseen"
    )
    if config.budgets:
        yield "budgets begin with nothing spent at the first call; calls do not wait for what others hold"
    if config.quotas:
        yield "rate limits and limits of providers are not replayed"
    if any(Per.POD in terms.per for terms in config.budgets):
        yield "lines do not name their pod: limits per Pod hold for all of them together"
    rules = config.rules
    if any(rule.shadow for rule in rules) or any(terms.shadow for terms in config.budgets):
        yield "what is in mode: Shadow takes no call and changes none, here too"
    if any(match.headers for rule in rules for match in rule.matches):
        yield "lines have no headers: a match that asks for one takes no call"
    whens = [entry.when for rule in rules for entry in rule.select]
    if any(when.keywords is not None for when in whens):
        yield "lines hold no text: no keyword is taken to be in any prompt"
    if any(when.classifier is not None for when in whens):
        yield "what a classifier would say is not known: no condition on one is taken to hold"
    if any(rule.history is not None and rule.history.summary is not None for rule in rules):
        yield "summaries that were not written before are not foreseen, nor what history would cut"
    if any(rule.response_cache for rule in rules):
        yield "hits of a response cache that were none before are not foreseen"
    if any(rule.prompt_cache for rule in rules):
        yield "what prompt caches would save beyond what they did is not foreseen"
    if any(rule.first_token_within or rule.answer_within for rule in rules):
        yield "latency budgets are taken to be kept"
