"""`keelage explain request`: what a sidecar would do with a call, decided by the sidecar's own cores.

Nothing is sent and no money is asked for: whether a budget still has it, only its ledger
knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keelage_api.money import format_usd
from keelage_api.proxy_config import Dialect, ProxyConfig, Rule
from keelage_api.v1alpha1.llmroute import LLMRouteSpec
from keelage_operator.core.quotas import duration_text
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.explain_cache import kept
from keelage_operator.explain_limits import Limits, most
from keelage_operator.explain_prompt import marked, shortened
from keelage_operator.explain_selection import selected
from keelage_operator.local_folder import Folder, Values
from keelage_operator.local_mode import Objects, compile_folder, problems
from keelage_sidecar.core.bound import Bound, Unbounded, bound_of
from keelage_sidecar.core.cascade import cascade_of
from keelage_sidecar.core.claim import Room
from keelage_sidecar.core.endpoints import dialect_of, endpoint_of
from keelage_sidecar.core.health import HealthBook
from keelage_sidecar.core.refusal import Headers, Refusal, render
from keelage_sidecar.core.request import Facts, read_request
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable
from keelage_sidecar.core.shadow import rehearse
from keelage_sidecar.core.translation.interpreter import UNTRANSLATABLE, interpret
from keelage_sidecar.shell.refusals import credential_missing

ANTHROPIC, CHAT = "/v1/messages", "/v1/chat/completions"
RESPONSES, EMBEDDINGS = "/v1/responses", "/v1/embeddings"
REQUEST_ID = "explained"


@dataclass(frozen=True, slots=True)
class Explanation:
    text: str
    served: bool
    """Nothing but missing money would refuse the call."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """About which call."""

    headers: Headers
    body: bytes
    path: str
    guessed: str
    """Said behind the path."""
    unix_s: float


@dataclass(frozen=True, slots=True)
class _Known:
    """What the folder says."""

    config: ProxyConfig
    budgets: Mapping[str, BudgetInForce]
    """By `<namespace>/<budget>`."""
    secrets: Mapping[str, Values]
    """Those of the folder, by name; others may be in the cluster."""
    routes: Mapping[str, LLMRouteSpec]
    """As they are written, by name."""

    def answers(self, rule: Rule) -> list[str]:
        """Those that its classifiers are to give, for each entry that may select a tier; empty: it has none."""
        written = next(each for each in self.routes[rule.route].rules if each.name == rule.name)
        classifiers = (None if entry.when is None else entry.when.classifier for entry in written.select)
        return ["" if classifier is None else classifier.answer for classifier in classifiers]


def explain_request(folder: Folder, headers: Headers, body: bytes, unix_s: float, path: str = "") -> Explanation:
    """At that time; `headers` with names in lower case; `path` empty: guessed from them and the body."""
    compiled = compile_folder(folder, Objects(Path("unused")), "")
    notes = [f"note: {text}" for _, text in problems(compiled)]
    in_force = [budget.in_force for budget in compiled.budgets.values() if budget.in_force is not None]
    known = _Known(
        compiled.config_for({}),
        {terms.name: terms for terms in in_force},
        folder.secrets,
        {name: each.spec for name, each in compiled.routes.items() if each.spec is not None},
    )
    guessed = "" if path else " (guessed; --path says it)"
    path = path or _path(headers, body)
    lines, served = _explained(known, _Asked(headers, body, path, guessed, unix_s))
    return Explanation("\n".join((*notes, *lines)), served)


def _explained(known: _Known, asked: _Asked) -> tuple[list[str], bool]:
    headers, body, path, guessed = asked.headers, asked.body, asked.path, asked.guessed
    dialect = dialect_of(path, headers)
    endpoint = endpoint_of("POST", path, headers)
    if isinstance(endpoint, Refusal):
        return [f"POST {path}{guessed}", *_refused(endpoint, dialect)], False
    facts = read_request(endpoint, headers, body, target=path)
    if isinstance(facts, Refusal):
        return [f"POST {path}{guessed}", *_refused(facts, dialect)], False
    lines = [
        f"POST {path}{guessed}: model {facts.model!r}, feature {facts.feature!r}, user {facts.user!r},"
        f" {f'type of task {facts.task_type!r}, ' if facts.task_type else ''}"
        f"{'streamed' if facts.stream else 'plain'}, {len(body)} bytes"
    ]
    table = RoutingTable.build(known.config)
    rule = table.rule(facts)
    lines += _shadow(table, facts, asked.unix_s)
    if isinstance(rule, Refusal):
        return [*lines, *_refused(rule, dialect)], False
    conditions, plan = selected(table, rule, facts, asked.unix_s, known.answers(rule))
    if isinstance(plan, Refusal):
        return [*lines, *conditions, *_refused(plan, dialect)], False
    limits = Limits(table, known.budgets)
    if facts.user:
        plan = HealthBook().ordered(plan, 0, facts.user, 0.0, 0.0)
    lines += [*_rule(table, rule), *kept(table, rule, facts), *conditions, *_backends(plan)]
    told, facts = shortened(plan.rule, facts)
    lines += [*told, *_care(plan, facts), *limits.of_rule(plan, facts)]
    served: bool | None = None
    for number in range(1, len(plan.candidates) + 1):
        told, refusal = _candidate(known, limits, plan, number - 1, facts, headers)
        lines += ["", f"{number}. {told[0]}", *(f"   {line}" for line in told[1:])]
        if refusal is not None:
            lines += [f"   {line}" for line in _refused(refusal, dialect)]
        # A fallback is for providers that fail or speak otherwise, not for calls that may not be made.
        if served is None and (refusal is None or refusal.reason != UNTRANSLATABLE):
            served = refusal is None
    above = [f"   {line}" for line in limits.thresholds(plan, facts)]
    return ([*lines, "", "as budgets are used up:", *above] if above else lines), bool(served)


def _path(headers: Headers, body: bytes) -> str:
    """By what only one of the APIs has; chat completions otherwise, which most providers speak."""
    names = {name for name, _ in headers}
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    fields = parsed if isinstance(parsed, dict) else {}
    claude = str(fields.get("model", "")).startswith("claude")
    if names & {b"anthropic-version", b"x-api-key"} or claude or fields.keys() & {"system", "thinking"}:
        return ANTHROPIC
    if "input" not in fields or "messages" in fields:
        return CHAT
    return EMBEDDINGS if "embed" in str(fields.get("model", "")) else RESPONSES


def _shadow(table: RoutingTable, facts: Facts, unix_s: float) -> list[str]:
    """The rule in shadow that would take the call."""
    plan = table.plan(facts)
    rehearsal = rehearse(table, facts, plan, lambda _: Room(0, 0, known=False), lambda *_: None, unix_s)
    told = rehearsal.told(None, None) if rehearsal is not None else None
    if told is None:
        return []
    whom = f"tier {told.tier}, model {told.model} at backend {told.backend}" if not told.reason else told.reason
    return [f"LLMRoute {told.route}, rule {told.rule} is in shadow: it would take the call: {whom}"]


def _rule(table: RoutingTable, rule: Rule) -> list[str]:
    passed = [f"{each.route}/{each.name}" for each in table.rules[: table.rules.index(rule)]]
    before = f"; before it do not: {', '.join(passed)}" if passed else ""
    tier = f", tier {rule.tier}" if rule.tier and not rule.select else ""
    return [f"LLMRoute {rule.route}, rule {rule.name}{tier}: the first that matches{before}"]


def _backends(plan: Plan) -> list[str]:
    rule, count = plan.rule, len(plan.candidates)
    of = f"tier {rule.tier}: " if rule.select else ""
    lines = [
        f"{of}{count} backend{'' if count == 1 else 's'}, in this order: those of the call's own API come first;"
        f" {rule.retry.attempts} attempts in all, each of which reserves its bound before it is sent"
    ]
    left_out = len(rule.choices) - count
    if left_out:
        lines.append(f"{left_out} of the tier left out: they speak the other API, and are not known to have the model")
    return lines


def _care(plan: Plan, facts: Facts) -> list[str]:
    """What becomes of the order where models have weights, and of a first answer that is late."""
    lines = []
    weights = [candidate.weight for candidate in plan.candidates]
    if len(weights) > 1 and weights[0] is not None:
        shares = ", ".join(str(weight) for weight in weights)
        whom = f"user {facts.user!r} always gets the first" if facts.user else "calls without a user are spread by them"
        lines.append(f"their weights: {shares}: {whom}, the others are its fallbacks")
    hedge = plan.rule.hedge
    if hedge is not None and len(weights) > 1:
        after = f"{hedge.after_ms} ms" if hedge.after_ms else "longer than 95 of its last 100 calls"
        lines.append(f"hedge: if the first byte takes {after}, the next one is asked as well, and both are paid")
    return [*lines, *_instead(plan, facts)]


def _instead(plan: Plan, facts: Facts) -> list[str]:
    """Which other tiers the call may come to."""
    lines = []
    rule, cascade = plan.rule, cascade_of(plan, facts)
    if cascade is not None:
        lines.append(f"cascade: where its answer will not do, tier {cascade.to} is asked as well; both are paid")
    for what, budget in (("first token", rule.first_token_within), ("answer", rule.answer_within)):
        if budget is not None and budget.otherwise != rule.tier and (facts.stream or budget is rule.answer_within):
            bound = duration_text(budget.within_ms)
            lines.append(
                f"latency budget: while more than {100 - budget.percent} of 100 calls wait longer than {bound} for the"
                f" {what}, tier {budget.otherwise} takes them"
            )
    return lines


def _candidate(
    known: _Known, limits: Limits, plan: Plan, index: int, facts: Facts, headers: Headers
) -> tuple[list[str], Refusal | None]:
    candidate = plan.candidates[index]
    backend = candidate.backend
    lines = [f"backend {backend.name} ({backend.endpoint}), model {candidate.model or '-'}"]
    said = facts
    if backend.dialect is not facts.endpoint.dialect:
        interpreter = interpret(facts, candidate, headers)
        if isinstance(interpreter, Refusal):
            return [*lines, "it speaks the other API, which cannot say this: passed over"], interpreter
        lost = f"without {', '.join(interpreter.dropped)}" if interpreter.dropped else "nothing is lost"
        lines.append(f"it speaks the other API: translated to POST {interpreter.target}, {lost}")
        said = interpreter.facts
    told, said = marked(plan.rule, candidate, said)
    lines += told
    bound = bound_of(said, candidate, candidate.output_cap)
    if isinstance(bound, Unbounded):
        lines.append(f"bound: none: {bound.reason}")
        if candidate.hard:
            return lines, bound.refusal()
    else:
        lines += _bound(said, plan, candidate, bound)
    if backend.credential:
        secret, _, key = backend.credential.partition("/")
        if secret not in known.secrets:
            lines.append(f"key: Secret {secret} is not in the folder; taken to be in the cluster, with key {key}")
        elif key not in known.secrets[secret]:
            return lines, credential_missing(backend)
    lines += limits.of_backend(candidate, facts)
    told, refusal = limits.of_budgets(plan, index, facts, said, bound)
    return [*lines, *told], refusal


def _bound(facts: Facts, plan: Plan, candidate: Candidate, bound: Bound) -> list[str]:
    """The amount, the tokens, and where each comes from."""
    price = candidate.price
    if not facts.endpoint.metered:
        return ["bound: 0.00 USD: the call is free"]
    window = price.context_window if price is not None else 0
    tokens = [
        f"  input: at most {bound.input_tokens} tokens: {_input_reason(facts, bound, window)}",
        f"  output: at most {bound.output_tokens} tokens: {_output_reason(facts, plan, candidate, bound)}",
    ]
    if price is None:
        return [f"bound: {most(bound)} for one attempt; the model has no price", *tokens]
    source = "the route's prices" if candidate.model in candidate.backend.prices else "the price book"
    rates = price.rates(bound.input_tokens)
    per_million = " and ".join(
        f"{format_usd(rate * 1_000_000)} USD per million {what} tokens"
        for rate, what in ((rates.input, "input"), (rates.output, "output"))
    )
    return [
        f"bound: {most(bound)} for one attempt",
        *tokens,
        f"  price: {per_million} ({source}); input is reserved at the dearest way to bill it, cache writes included",
    ]


def _input_reason(facts: Facts, bound: Bound, window: int) -> str:
    if facts.weight.unread:
        return (
            f"{facts.weight.unread} has a size that is not in the request, so the model's whole context window counts"
        )
    if window and bound.input_tokens == window:
        return "the model's context window; a longer prompt is refused by the provider"
    images = f", {facts.weight.images} images at the most that one can cost" if facts.weight.images else ""
    return f"no text has more tokens than bytes{images}"


def _output_reason(facts: Facts, plan: Plan, candidate: Candidate, bound: Bound) -> str:
    if not facts.endpoint.generates:
        return "the call generates none"
    cap = facts.max_output if facts.capped else candidate.output_cap
    if facts.capped:
        text = f"{cap}, as the request says"
    elif plan.rule.max_output_tokens:
        text = f"{cap}, put in by the rule's output.maxTokens, as the request names none"
    else:
        text = f"{cap}, the model's own maximum, put in for a Hard budget's sake, as the request names none"
    return text if bound.output_tokens == cap else f"{text}; the rest by n, thinking or prediction"


def _refused(refusal: Refusal, dialect: Dialect) -> list[str]:
    """As it goes over the wire."""
    status, headers, body = render(refusal, dialect, REQUEST_ID)
    shown = [f"{name.decode()}: {value.decode()}" for name, value in headers if name.startswith((b"x-", b"retry-"))]
    return [
        f"refused: HTTP {status}, {refusal.reason}: {refusal.message}",
        *(f"  {line}" for line in shown),
        f"  {body.decode()}",
    ]
