"""What a rule's kept answers do for a call that `explain_request` follows. Decided by the sidecar's own cores."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from keelage_api.proxy_config import ModelChoice, Rule
from keelage_api.response_cache import CacheScope, ResponseCache, Semantic
from keelage_operator.core.quotas import duration_text
from keelage_operator.explain_limits import most
from keelage_sidecar.core.alike import asked_of, never_alike
from keelage_sidecar.core.bound import Unbounded, bound_of
from keelage_sidecar.core.embedding import asked
from keelage_sidecar.core.endpoints import EMBEDDINGS
from keelage_sidecar.core.log_line import Purpose
from keelage_sidecar.core.neighbours import SIDE_BY_SIDE_MAX
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts, read_request
from keelage_sidecar.core.response_key import never_cached
from keelage_sidecar.core.routing import RoutingTable
from keelage_sidecar.core.wording import BEFORE_WORDS, wording


def kept(table: RoutingTable, rule: Rule, facts: Facts) -> list[str]:
    """Whether an answer that was kept may serve the call."""
    terms = rule.response_cache
    if terms is None:
        return []
    why = never_cached(facts, terms)
    if why:
        return [f"response cache: passed by: {why}"]
    whom = {
        CacheScope.WORKLOAD: "the rule",
        CacheScope.NAMESPACE: "any such rule of the namespace",
        CacheScope.USER: f"user {facts.user!r}",
    }[terms.scope]
    later = f"; for {duration_text(terms.stale_ms)} more where there is no other" if terms.stale_ms else ""
    same = f"response cache: the same call of {whom} gets the same answer for {duration_text(terms.ttl_ms)}{later}"
    return [same, *_alike(table, rule, facts, terms, terms.semantic)] if terms.semantic is not None else [same]


def _alike(table: RoutingTable, rule: Rule, facts: Facts, cache: ResponseCache, terms: Semantic) -> Iterator[str]:
    """Whether the answer to the same question in other words may, and what it costs to ask."""
    question = asked_of(b"", cache, terms, rule.tier, facts, "", ())
    if question is None:
        yield f"semantic cache: only the very same call: {never_alike(facts)}"
        return
    said = wording(question.text)
    yield (
        f"semantic cache: so does the same question in other words for {duration_text(terms.ttl_ms)}, where these"
        f" agree: {' '.join(said[said.index(BEFORE_WORDS) + 1 :])}"
    )
    yield (
        f"  and model {terms.model} at backend {terms.backend} says {terms.threshold} or more within"
        f" {terms.timeout_ms} ms"
    )
    texts = [question.text] * (1 + SIDE_BY_SIDE_MAX)
    call = read_request(EMBEDDINGS, (), asked(terms.model, terms.dimensions, texts))
    assert isinstance(call, Facts)
    call = structs.replace(call, user=facts.user, feature=facts.feature)
    whom = Rule(rule.route, f"{rule.name}/{Purpose.EMBEDDING}", (ModelChoice(terms.backend, terms.model),))
    plan = table.among(whom, call)
    if isinstance(plan, Refusal):
        yield f"  it cannot be asked: {plan.message}"
        return
    (candidate,) = plan.candidates
    bound = bound_of(call, candidate, candidate.output_cap)
    if isinstance(bound, Unbounded):
        refused = ", so no hard budget lets it be asked: always a miss" if candidate.hard else ""
        yield f"  bound: none: {bound.reason}{refused}"
    else:
        yield f"  it is asked where one in the same words is kept, and reserves {most(bound)}"
