"""LLMRoute: which calls go to which models, in which order, and with which keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.proxy_config import OnClientDisconnect
from keelage_api.v1alpha1.backend import Backend
from keelage_api.v1alpha1.cascade import Cascade, LatencyBudget
from keelage_api.v1alpha1.constraint import Constraint, ListMap, constrained
from keelage_api.v1alpha1.history import History
from keelage_api.v1alpha1.matching import Match
from keelage_api.v1alpha1.metadata import (
    Condition,
    LabelSelector,
    ModelName,
    Name,
    ObjectMeta,
    Observed,
    Opaque,
    Part,
    Shown,
)
from keelage_api.v1alpha1.mode import Mode
from keelage_api.v1alpha1.naming import Naming, naming
from keelage_api.v1alpha1.output import Output
from keelage_api.v1alpha1.prompt_cache import PromptCache
from keelage_api.v1alpha1.rate import RateLimits
from keelage_api.v1alpha1.response_cache import ResponseCache
from keelage_api.v1alpha1.retry import Hedge, RetryPolicy
from keelage_api.v1alpha1.saving import SavingStatus
from keelage_api.v1alpha1.selection import Selections
from keelage_api.v1alpha1.shared_cache import SharedCache

KIND = "LLMRoute"


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


class RouteRule(Part):
    """Which calls, to which tier, and how."""

    name: Name
    """Shown in the log line of each call."""
    mode: Mode = Mode.ENFORCE
    """Shadow: the rule takes no call. The log line of a call that it would have taken says so (`shadow_rule`), with the
    tier and model, and what the same tokens would have cost there more or less."""
    matches: Annotated[tuple[Match, ...], Field(max_length=16)] = ()
    """The rule applies if any of them does; left out: to every call."""
    select: Selections
    """The tier to use: that of the first entry whose conditions hold."""
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


_NAMINGS = (
    Naming("tiers[].models[].backend", "backends"),
    Naming("rules[].select[].tier", "tiers"),
    Naming("rules[].select[].when.classifier.tier", "tiers"),
    Naming("rules[].select[].when.classifier.otherwise", "tiers"),
    Naming("rules[].cascade.from", "tiers"),
    Naming("rules[].cascade.to", "tiers"),
    Naming("rules[].firstTokenWithin.otherwise", "tiers"),
    Naming("rules[].answerWithin.otherwise", "tiers"),
    Naming("rules[].history.summarizeOver.tier", "tiers"),
    Naming("rules[].responseCache.semantic.embedder.backend", "backends"),
)


@constrained(
    Constraint["LLMRouteSpec"](
        cel="!has(self.sharedCache) || self.rules.exists(r, has(r.responseCache))",
        message="sharedCache needs a rule that keeps answers: write responseCache there, or leave sharedCache out",
        holds=lambda spec: spec.shared_cache is None or any(rule.response_cache for rule in spec.rules),
        field=".sharedCache",
    ),
)
@naming(*_NAMINGS)
class LLMRouteSpec(Part):
    """What the sidecars of the selected pods do with calls to LLM providers."""

    pod_selector: LabelSelector = LabelSelector()
    """The pods whose calls follow this route; empty: all injected pods of the namespace."""
    backends: Annotated[tuple[Backend, ...], Field(min_length=1, max_length=32), ListMap("name")]
    """Providers that tiers refer to."""
    tiers: Annotated[tuple[Tier, ...], Field(max_length=32), ListMap("name")] = ()
    """Named choices of models that rules refer to."""
    shared_cache: SharedCache | None = None
    """Where the sidecars of this route share the answers that its rules keep (`responseCache`); left out: nowhere."""
    rules: Annotated[tuple[RouteRule, ...], Field(min_length=1, max_length=64), ListMap("name")]
    """Asked in order; the first that matches a call decides."""


class LLMRouteStatus(Observed):
    """What the operator has seen and what the sidecars obey."""

    observed_generation: int = 0
    """The generation that this status speaks about."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16), ListMap("type")] = ()
    """Accepted: the spec is in force. ResolvedRefs: Secrets and prices were found. Programmed: the sidecars have it.
    PromptCaching: breakpoints are inserted; False where sidecars found that they do not pay."""
    sidecars: Annotated[str, StringConstraints(max_length=32)] = ""
    """Sidecars that obey the newest configuration, of those that the route selects: `3/3`."""
    rules: int = 0
    """Number of rules in force."""
    backends: int = 0
    """Number of backends in force."""
    saved: Shown = ""
    """All savings together, as in 12.34 USD; below zero where they cost more than they saved."""
    savings: Annotated[tuple[SavingStatus, ...], Field(max_length=8), ListMap("by")] = ()
    """What cascades and caches have saved, as far as sidecars told."""
    last_accepted: Opaque = Field(default_factory=dict)
    """The last spec that was accepted; it stays in force while a newer one is not."""


@naming(*(each.below("spec") for each in _NAMINGS))
class LLMRoute(Part):
    """Routes the LLM calls of pods: which models answer, in which fallback order, with which keys."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: LLMRouteSpec
    status: LLMRouteStatus = LLMRouteStatus()
