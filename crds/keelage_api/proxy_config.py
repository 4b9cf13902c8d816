"""What a sidecar obeys: routes and budgets compiled, prices included, no Kubernetes in it.

The operator compiles it, the sidecar decodes it strictly and keeps the last good one.
`version` is a digest of the content: equal content, equal version, on every replica.
"""

from __future__ import annotations

import enum

import msgspec

from keelage_api.pricing import ModelPrice
from keelage_api.response_cache import ResponseCache
from keelage_api.selection import Selection

FORMAT = 1
"""Raised when an older sidecar must not obey what is written here."""


class Provider(enum.StrEnum):
    ANTHROPIC = "Anthropic"
    OPENAI = "OpenAI"
    OPENAI_COMPATIBLE = "OpenAICompatible"


class Dialect(enum.StrEnum):
    """The API that an application speaks; named as in `gen_ai.provider.name`."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"


class OnClientDisconnect(enum.StrEnum):
    ABORT = "Abort"
    DRAIN = "Drain"


class Unit(enum.StrEnum):
    """What an account counts; every amount in it is a whole number of these."""

    PICODOLLARS = "Picodollars"
    TOKENS = "Tokens"
    """Input and output together, cached ones too."""
    INPUT_TOKENS = "InputTokens"
    """As providers count them against a limit: without those that were read from a prompt cache."""
    OUTPUT_TOKENS = "OutputTokens"
    REQUESTS = "Requests"
    """Attempts: what the provider sees."""
    CONCURRENT = "Concurrent"
    """Requests in flight: reserved, and given back when they end."""


class Per(enum.StrEnum):
    """A limit that holds for each value of its own."""

    USER = "User"
    FEATURE = "Feature"
    POD = "Pod"


class Timeouts(msgspec.Struct, frozen=True):
    """Milliseconds."""

    connect_ms: int = 5_000
    first_byte_ms: int = 120_000
    idle_ms: int = 60_000
    request_ms: int = 600_000


class CircuitBreaker(msgspec.Struct, frozen=True):
    """Of each model of a backend."""

    consecutive_failures: int = 5
    failure_percent: int = 50
    min_calls: int = 20
    """In the window, before the percentage means anything."""
    window_ms: int = 30_000
    open_base_ms: int = 5_000
    open_max_ms: int = 60_000
    probes: int = 1
    """At a time while it is half open; as many successes close it."""


class BackendTLS(msgspec.Struct, frozen=True):
    """How a private backend proves itself."""

    authorities: tuple[str, ...] = ()
    """Files below the sidecar's credentials directory; whom alone to believe. Empty: the system's authorities."""
    hostname: str = ""
    """Asked for (SNI) and expected in the certificate; empty: the endpoint's host."""


class Backend(msgspec.Struct, frozen=True):
    """One upstream of one route; `name` is `<route>/<backend>`."""

    name: str
    provider: Provider
    endpoint: str
    """Scheme, host, optional port and path prefix, without a trailing slash."""
    credential: str = ""
    """`<secret>/<key>`, a file below the sidecar's credentials directory; empty: no key is sent."""
    timeouts: Timeouts = Timeouts()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    prices: dict[str, ModelPrice] = {}
    """Overrides by model; asked before `ProxyConfig.prices`."""
    tls: BackendTLS | None = None
    """None: as everybody on the internet does."""

    @property
    def dialect(self) -> Dialect:
        return Dialect.ANTHROPIC if self.provider is Provider.ANTHROPIC else Dialect.OPENAI


class ValueMatch(msgspec.Struct, frozen=True):
    """A value as a whole, or its beginning."""

    value: str
    prefix: bool = False
    """Of a path: by whole elements."""
    name: str = ""
    """Of a header, in lower case; a path has none."""


class Match(msgspec.Struct, frozen=True):
    """All given fields must match; an empty field matches everything. Models may end in `*`."""

    models: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    headers: tuple[ValueMatch, ...] = ()
    """All of these."""
    path: ValueMatch | None = None


class ModelChoice(msgspec.Struct, frozen=True):
    backend: str
    """`Backend.name`."""
    model: str = ""
    """Empty: the model that the application asked for."""
    weight: int | None = None
    """Its share of the calls; 0: only a fallback. All choices of a tier have one, or none has."""


class RetryBudget(msgspec.Struct, frozen=True):
    """Retries and hedges in the last ten seconds: so many percent of the calls, and a few in any case."""

    percent: int = 20
    min_retries: int = 10


class Retry(msgspec.Struct, frozen=True):
    attempts: int = 3
    """In all, over every backend."""
    base_ms: int = 500
    max_ms: int = 8_000
    budget: RetryBudget = RetryBudget()


class Hedge(msgspec.Struct, frozen=True):
    """The next choice is asked as well when the first one's first byte takes longer."""

    after_ms: int = 0
    """0: the 95th percentile of what it took lately."""


class PromptCaching(msgspec.Struct, frozen=True):
    """Prompt caches are asked for where the application does not."""

    long: bool = False
    """For one hour, not for five minutes."""


class Summary(msgspec.Struct, frozen=True):
    over_tokens: int
    """Estimated; what is longer is summarized."""
    tier: str
    """Of the rule's route."""


class History(msgspec.Struct, frozen=True):
    keep_turns: int
    """The newest ones, at least 1."""
    summary: Summary | None = None
    """None: older turns are cut."""


class Cascade(msgspec.Struct, frozen=True):
    """Calls on tier `cheap` go on to tier `to` when any of the conditions holds for the answer."""

    cheap: str
    to: str
    prefix: str = ""
    """Of the text; empty: not asked about."""
    pattern: str = ""
    """`linear_regex`, looked for in the first `pattern_chars` characters; empty: not asked about."""
    pattern_chars: int = 500
    max_tokens: bool = False
    invalid_json: bool = False
    json_schema: dict[str, object] | None = None
    """`json_schema.conforms`; None: not asked about."""


class LatencyBudget(msgspec.Struct, frozen=True):
    """While `percent` of a model's calls take longer than `within_ms`, tier `otherwise` is asked."""

    percent: int
    within_ms: int
    otherwise: str


class Rule(msgspec.Struct, frozen=True):
    route: str
    name: str
    choices: tuple[ModelChoice, ...]
    """In fallback order."""
    tier: str = ""
    """Whose choices they are: the tier for all calls that no entry of `select` is for."""
    matches: tuple[Match, ...] = ()
    """Any of them; empty: every request."""
    select: tuple[Selection, ...] = ()
    """Asked in order before `tier`; the first that holds names another one."""
    retry: Retry = Retry()
    hedge: Hedge | None = None
    cascade: Cascade | None = None
    first_token_within: LatencyBudget | None = None
    answer_within: LatencyBudget | None = None
    max_output_tokens: int = 0
    """Cap put in where the request has none; 0: the model's own maximum."""
    on_client_disconnect: OnClientDisconnect = OnClientDisconnect.ABORT
    clamp_at_least: int = 0
    """Where the budget cannot pay for the whole output cap, it may be lowered to what fits, but not below this;
    0: it may not."""
    stop_sequences: tuple[str, ...] = ()
    """Put in after the application's own."""
    prompt_cache: PromptCaching | None = None
    response_cache: ResponseCache | None = None
    shadow: bool = False
    """It takes no call; what it would have done is told."""
    history: History | None = None

    @property
    def tiers(self) -> tuple[str, ...]:
        """All that a call may be sent to, the default one first, each once; also for a classifier's question."""
        named = [self.tier]
        for entry in self.select:
            named.append(entry.tier)
            if (classifier := entry.when.classifier) is not None:
                named += [classifier.tier, classifier.otherwise]
        return tuple(dict.fromkeys(tier for tier in named if tier))


class Downgrade(msgspec.Struct, frozen=True):
    """From that part of the limit on, calls use a cheaper tier; and before a call is refused."""

    percent: int
    tier: str
    """Of the call's own route; a route without one of that name is not downgraded."""


class BudgetTerms(msgspec.Struct, frozen=True):
    """A budget that this sidecar's calls fall under; the pod was selected by the operator."""

    name: str
    """`<namespace>/<budget>`."""
    hard: bool
    routes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """Of the attempt, not of the request; may end in `*`."""
    features: tuple[str, ...] = ()
    unit: Unit = Unit.PICODOLLARS
    per: tuple[Per, ...] = ()
    """The limit holds for each combination of their values (`account_value`); empty: for all calls together."""
    downgrades: tuple[Downgrade, ...] = ()
    """Ascending by `percent`."""
    shadow: bool = False
    """It changes no call, so it is not `hard`; what it would have done is told."""


class Quota(msgspec.Struct, frozen=True):
    """A rate: what may be used in any stretch of time, over all sidecars. Not money: it refills continuously."""

    name: str
    """`<namespace>/rate:<route>/<rule>:<account.rate_kind>` or `<namespace>/limit:<route>/<backend>:<field>`: it also
    says what is counted, for whom and in what window."""
    unit: Unit
    limit: int
    window_ms: int
    """`limit` is refilled within so long; 0 for Unit.CONCURRENT, which is given back instead."""
    route: str
    rule: str = ""
    """A rule's rate limit: of calls under this rule; a call that does not fit is refused with 429 and Retry-After."""
    backend: str = ""
    """A provider's limit: of attempts at this `Backend.name`; an attempt that does not fit waits in the backend's
    queue, then the next choice is tried."""
    per: tuple[Per, ...] = ()
    queue_depth: int = 0
    queue_wait_ms: int = 0


class ProxyConfig(msgspec.Struct, frozen=True):
    version: str
    format: int = FORMAT
    rules: tuple[Rule, ...] = ()
    """Of all routes that select the pod, in order; the first match wins."""
    backends: dict[str, Backend] = {}
    budgets: tuple[BudgetTerms, ...] = ()
    quotas: tuple[Quota, ...] = ()
    tiers: dict[str, tuple[ModelChoice, ...]] = {}
    """By `<route>/<tier>`: all that rules and downgrades may name."""
    prices: dict[Provider, dict[str, ModelPrice]] = {}
    """The price book by provider and model, for the providers that the backends use."""
