"""LLMRoute: which calls go to which models, in which order, and with which keys."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.mounted import CONFIG_MAP, SECRET
from keelage_api.proxy_config import OnClientDisconnect, Provider
from keelage_api.v1alpha1.cascade import Cascade, LatencyBudget
from keelage_api.v1alpha1.circuit_breaker import CircuitBreaker
from keelage_api.v1alpha1.constraint import Constraint, ListMap, constrained, pattern
from keelage_api.v1alpha1.history import History
from keelage_api.v1alpha1.metadata import (
    Condition,
    Duration,
    LabelSelector,
    ModelName,
    ModelPattern,
    Name,
    ObjectMeta,
    ObjectName,
    Observed,
    Opaque,
    Part,
    Word,
)
from keelage_api.v1alpha1.mode import Mode
from keelage_api.v1alpha1.output import Output
from keelage_api.v1alpha1.prompt_cache import PromptCache
from keelage_api.v1alpha1.rate import BackendLimits, RateLimits
from keelage_api.v1alpha1.response_cache import ResponseCache
from keelage_api.v1alpha1.retry import Hedge, RetryPolicy
from keelage_api.v1alpha1.saving import SavingStatus

KIND = "LLMRoute"

DEFAULT_ENDPOINTS = {
    Provider.ANTHROPIC: "https://api.anthropic.com",
    Provider.OPENAI: "https://api.openai.com",
}

Price = Annotated[
    str,
    StringConstraints(min_length=1, max_length=16),
    pattern(
        r"[0-9]{1,6}([.][0-9]{1,6})?",
        'must be USD per million tokens as a decimal string with at most 6 decimals, as in "1.25"',
    ),
]


ObjectKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    pattern("[-._a-zA-Z0-9]+", "must be a key: letters, digits, '-', '_' and '.'"),
]


class CertificateHolder(enum.StrEnum):
    CONFIG_MAP = CONFIG_MAP
    SECRET = SECRET


class SecretKeyRef(Part):
    """A key of a Secret in the route's own namespace."""

    name: ObjectName
    """The Secret."""
    key: ObjectKey
    """The key whose value is sent to the provider."""


class Credentials(Part):
    """Where the kubelet takes the provider's key from; the application never sees it."""

    secret_key_ref: SecretKeyRef
    """The Secret and its key. Mounted into the sidecar only."""


class CertificateRef(Part):
    """A key of a ConfigMap or Secret in the route's own namespace."""

    kind: CertificateHolder = CertificateHolder.CONFIG_MAP
    """What holds it; certificates of authorities are no secret."""
    name: ObjectName
    """The ConfigMap or Secret."""
    key: ObjectKey = "ca.crt"
    """The key whose value is one or more certificates in PEM."""


class TLS(Part):
    """Whom the backend's certificate must come from. It is always verified."""

    ca_certificate_refs: Annotated[tuple[CertificateRef, ...], Field(min_length=1, max_length=8)]
    """The authorities to believe, and no other. Mounted into the sidecar; a changed one counts for new connections."""
    hostname: (
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=253),
            pattern(
                r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
                "must be a host name in lower case, as in llm.internal.example",
            ),
        ]
        | None
    ) = None
    """Asked for (SNI) and expected in the certificate. Left out: the endpoint's host."""


class BackendTimeouts(Part):
    """How long each step of a call to the backend may take."""

    connect: Duration = "5s"
    """TCP and TLS."""
    first_byte: Duration = "120s"
    """From the request's last byte to the answer's first. A long answer that is not streamed needs much."""
    idle: Duration = "60s"
    """Between two pieces of an answer."""
    request: Duration = "10m"
    """The whole call, retries not included."""


class PriceOverride(Part):
    """The price of one model at this backend, asked before the price book that keelage ships.

    What is left out costs what the book says. For a model that the book does not have: `inputPerMTok` and
    `outputPerMTok` are needed; reading from a prompt cache costs as much as input, writing for 5 minutes 1.25 times
    that, for an hour 2 times.
    """

    model: ModelName
    """The model, as it is sent to the backend."""
    input_per_m_tok: Price | None = None
    """USD per million input tokens."""
    output_per_m_tok: Price | None = None
    """USD per million output tokens."""
    cache_read_per_m_tok: Price | None = None
    """USD per million tokens read from a prompt cache."""
    cache_write_5m_per_m_tok: Annotated[Price | None, Field(alias="cacheWrite5mPerMTok")] = None
    """USD per million tokens written to a prompt cache for five minutes."""
    cache_write_1h_per_m_tok: Annotated[Price | None, Field(alias="cacheWrite1hPerMTok")] = None
    """USD per million tokens written to a prompt cache for an hour."""
    context_window: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Prompt tokens beyond which the backend refuses."""
    max_output_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Output tokens beyond which the backend never goes."""
    negotiated: bool = False
    """Says that a price below the price book is meant. Without it such a price is refused: a slip of a digit would
    make a hard budget soft."""


@constrained(
    Constraint["Backend"](
        cel="self.provider != 'OpenAICompatible' || has(self.endpoint)",
        message="endpoint is required for provider OpenAICompatible: write the URL of the server, as in http://vllm:8000",
        holds=lambda part: part.provider is not Provider.OPENAI_COMPATIBLE or part.endpoint is not None,
        field=".endpoint",
    ),
    Constraint["Backend"](
        cel="self.provider == 'OpenAICompatible' || has(self.credentials)",
        message="credentials are required for providers Anthropic and OpenAI: name a Secret and its key in"
        " credentials.secretKeyRef",
        holds=lambda part: part.provider is Provider.OPENAI_COMPATIBLE or part.credentials is not None,
        field=".credentials",
    ),
    Constraint["Backend"](
        cel="!has(self.endpoint) || !(self.endpoint.endsWith('/v1') || self.endpoint.endsWith('/v1/'))",
        message="endpoint must not end in /v1: the path of each call, which begins with /v1, is appended to it",
        holds=lambda part: part.endpoint is None or not part.endpoint.rstrip("/").endswith("/v1"),
        field=".endpoint",
    ),
    Constraint["Backend"](
        cel="!has(self.tls) || !has(self.endpoint) || !self.endpoint.startsWith('http:')",
        message="tls needs an endpoint that begins with https: without TLS there is no certificate to verify",
        holds=lambda part: part.tls is None or part.url.startswith("https:"),
        field=".tls",
    ),
)
class Backend(Part):
    """One provider, with the key to use there."""

    name: Name
    """By which tiers refer to it."""
    provider: Provider
    """Anthropic and OpenAI are the APIs of these companies; OpenAICompatible is anything that speaks OpenAI's."""
    endpoint: (
        Annotated[
            str,
            StringConstraints(min_length=8, max_length=512),
            pattern(
                r"https?://([-.a-zA-Z0-9_]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[-._~a-zA-Z0-9/]*)?",
                "must be an http or https URL without query, as in https://api.anthropic.com",
            ),
        ]
        | None
    ) = None
    """Scheme, host, port and path prefix. Anthropic: https://api.anthropic.com; OpenAI: https://api.openai.com."""
    credentials: Credentials | None = None
    """The provider's key. May be left out for OpenAICompatible."""
    tls: TLS | None = None
    """For a backend whose certificate comes from an authority of your own. Left out: the public ones."""
    timeouts: BackendTimeouts = BackendTimeouts()
    """Limits for each step of a call."""
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    """When a model of the backend is not asked for a while."""
    limits: BackendLimits = BackendLimits()
    """The provider's own limits for this key, over all sidecars. They refill continuously; what is left out is not
    limited. Message batches are not counted, since providers count them apart. Backends of other LLMRoutes count for
    themselves: where several use one key, divide its limits."""
    prices: Annotated[tuple[PriceOverride, ...], Field(max_length=64), ListMap("model")] = ()
    """Prices of models that the price book does not have, or has differently."""

    @property
    def url(self) -> str:
        """The endpoint in force, without a trailing slash."""
        endpoint = self.endpoint if self.endpoint is not None else DEFAULT_ENDPOINTS[self.provider]
        return endpoint.rstrip("/")


class TierModel(Part):
    """A model at a backend."""

    backend: Name
    """One of `spec.backends`."""
    model: ModelName | None = None
    """Left out: the model that the application asked for."""
    weight: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Its share of the calls, out of the sum of the tier's weights; 0: only a fallback. A user stays with one model,
    over pods and restarts, as long as the weights stay; calls without a user are spread at random."""


@constrained(
    Constraint["Tier"](
        cel="self.models.all(m, has(m.weight)) || !self.models.exists(m, has(m.weight))",
        message="models[].weight must be given to all models of the tier or to none: without weights they are asked in"
        " their order",
        holds=lambda tier: len({model.weight is None for model in tier.models}) == 1,
        field=".models",
    ),
    Constraint["Tier"](
        cel="self.models.all(m, !has(m.weight)) || self.models.exists(m, has(m.weight) && m.weight > 0)",
        message="models[].weight must be above 0 for one model at least: 0 means that the model is only a fallback",
        holds=lambda tier: any(model.weight is None or model.weight > 0 for model in tier.models),
        field=".models",
    ),
)
class Tier(Part):
    """A named choice of models; each entry is the fallback of the one before. With weights, those that were not
    chosen are, the heaviest first."""

    name: Name
    """By which rules select it."""
    models: Annotated[tuple[TierModel, ...], Field(min_length=1, max_length=16)]
    """In the order to try: first those that speak the call's own API, then the others, to which it is translated."""


class Match(Part):
    """Conditions on a call; all that are given must hold."""

    models: Annotated[tuple[ModelPattern, ...], Field(max_length=32)] = ()
    """Any of these models, as the application asked for; `*` at the end stands for anything."""
    features: Annotated[tuple[Word, ...], Field(max_length=32)] = ()
    """Any of these features: header `x-keelage-feature`, else the pod's label `keelage.dev/feature`."""
    users: Annotated[tuple[Word, ...], Field(max_length=32)] = ()
    """Any of these users: header `x-keelage-user`, else the user named in the request, else the pod's label
    `keelage.dev/user`."""


class Selection(Part):
    """What a rule chooses."""

    tier: Name
    """One of `spec.tiers`."""


class RouteRule(Part):
    """Which calls, to which tier, and how."""

    name: Name
    """Shown in the log line of each call."""
    mode: Mode = Mode.ENFORCE
    """Shadow: the rule takes no call. The log line of a call that it would have taken says so (`shadow_rule`), with the
    tier and model, and what the same tokens would have cost there more or less."""
    matches: Annotated[tuple[Match, ...], Field(max_length=16)] = ()
    """The rule applies if any of them does; left out: to every call."""
    select: Annotated[tuple[Selection, ...], Field(min_length=1, max_length=1)]
    """The tier to use."""
    retry: RetryPolicy = RetryPolicy()
    """When and how often to try again."""
    hedge: Hedge | None = None
    """When to ask the tier's next model as well, without waiting for the first one to fail; left out: never."""
    cascade: Cascade | None = None
    """When to ask a dearer tier as well; left out: never."""
    first_token_within: LatencyBudget | None = None
    """Which tier is asked while the first token of streamed answers takes too long; left out: the selected one."""
    answer_within: LatencyBudget | None = None
    """The same for whole answers, streamed or not, from the request to their end."""
    output: Output = Output()
    """Bounds of the answer."""
    prompt_cache: PromptCache | None = None
    """What keelage does for prompt caches at the providers; left out: nothing."""
    response_cache: ResponseCache | None = None
    """Answers that are kept and given again; left out: none."""
    history: History | None = None
    """How much of a conversation is sent; left out: all of it."""
    rate_limits: RateLimits = ()
    """Rates of calls; all that are given must allow a call. Message batches are not counted: nobody waits for them."""
    on_client_disconnect: OnClientDisconnect = OnClientDisconnect.ABORT
    """Abort: the call to the provider ends, too, and is charged at its bound. Drain: it is read to its end and charged
    exactly."""


def _tiers_astray(spec: LLMRouteSpec) -> list[str]:
    known = {backend.name for backend in spec.backends}
    return [tier.name for tier in spec.tiers if any(model.backend not in known for model in tier.models)]


def _rules_astray(spec: LLMRouteSpec) -> list[str]:
    known = {tier.name for tier in spec.tiers}
    return [rule.name for rule in spec.rules if any(selection.tier not in known for selection in rule.select)]


def _summaries_astray(spec: LLMRouteSpec) -> list[str]:
    known = {tier.name for tier in spec.tiers}
    summaries = ((rule.name, rule.history.summarize_over) for rule in spec.rules if rule.history is not None)
    return [name for name, summary in summaries if summary is not None and summary.tier not in known]


_TIER_ASTRAY = "!t.models.all(m, self.backends.exists(b, b.name == m.backend))"
_RULE_ASTRAY = "!r.select.all(s, self.tiers.exists(t, t.name == s.tier))"
_SUMMARY_ASTRAY = (
    "has(r.history) && has(r.history.summarizeOver) && !self.tiers.exists(t, t.name == r.history.summarizeOver.tier)"
)
_TIER_REMEDY = "tiers[].models[].backend must name one of spec.backends: correct the name or add the backend"
_SUMMARY_REMEDY = "rules[].history.summarizeOver.tier must name one of spec.tiers: correct the name or add the tier"
_RULE_REMEDY = "rules[].select[].tier must name one of spec.tiers: correct the name or add the tier"


@constrained(
    Constraint["LLMRouteSpec"](
        cel=f"!self.tiers.exists(t, {_TIER_ASTRAY})",
        message=_TIER_REMEDY,
        holds=lambda spec: not _tiers_astray(spec),
        field=".tiers",
        explain=lambda spec: f"{_TIER_REMEDY}; tier: {', '.join(_tiers_astray(spec))}",
    ),
    Constraint["LLMRouteSpec"](
        cel=f"!self.rules.exists(r, {_RULE_ASTRAY})",
        message=_RULE_REMEDY,
        holds=lambda spec: not _rules_astray(spec),
        field=".rules",
        explain=lambda spec: f"{_RULE_REMEDY}; rule: {', '.join(_rules_astray(spec))}",
    ),
    Constraint["LLMRouteSpec"](
        cel=f"!self.rules.exists(r, {_SUMMARY_ASTRAY})",
        message=_SUMMARY_REMEDY,
        holds=lambda spec: not _summaries_astray(spec),
        field=".rules",
        explain=lambda spec: f"{_SUMMARY_REMEDY}; rule: {', '.join(_summaries_astray(spec))}",
    ),
)
class LLMRouteSpec(Part):
    """What the sidecars of the selected pods do with calls to LLM providers."""

    pod_selector: LabelSelector = LabelSelector()
    """The pods whose calls follow this route; empty: all injected pods of the namespace."""
    backends: Annotated[tuple[Backend, ...], Field(min_length=1, max_length=32), ListMap("name")]
    """Providers that tiers refer to."""
    tiers: Annotated[tuple[Tier, ...], Field(max_length=32), ListMap("name")] = ()
    """Named choices of models that rules refer to."""
    rules: Annotated[tuple[RouteRule, ...], Field(min_length=1, max_length=64), ListMap("name")]
    """Asked in order; the first that matches a call decides."""


class LLMRouteStatus(Observed):
    """What the operator has seen and what the sidecars obey."""

    observed_generation: int = 0
    """The generation that this status speaks about."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16), ListMap("type")] = ()
    """Accepted: the spec is in force. ResolvedRefs: Secrets and prices were found. Programmed: the sidecars have it."""
    sidecars: Annotated[str, StringConstraints(max_length=32)] = ""
    """Sidecars that obey the newest configuration, of those that the route selects: `3/3`."""
    rules: int = 0
    """Number of rules in force."""
    backends: int = 0
    """Number of backends in force."""
    savings: Annotated[tuple[SavingStatus, ...], Field(max_length=8), ListMap("by")] = ()
    """What cascades and caches have saved, as far as sidecars told."""
    last_accepted: Opaque = Field(default_factory=dict)
    """The last spec that was accepted; it stays in force while a newer one is not."""


class LLMRoute(Part):
    """Routes the LLM calls of pods: which models answer, in which fallback order, with which keys."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: LLMRouteSpec
    status: LLMRouteStatus = LLMRouteStatus()
