"""What a sidecar obeys: routes and budgets compiled, prices included, no Kubernetes in it.

The operator compiles it, the sidecar decodes it strictly and keeps the last good one.
`version` is a digest of the content: equal content, equal version, on every replica.
"""

from __future__ import annotations

import enum

import msgspec

from keelage_api.pricing import ModelPrice

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


class Backend(msgspec.Struct, frozen=True):
    """One upstream of one route; `name` is `<route>/<backend>`."""

    name: str
    provider: Provider
    endpoint: str
    """Scheme, host, optional port and path prefix, without a trailing slash."""
    credential: str = ""
    """`<secret>/<key>`, a file below the sidecar's credentials directory; empty: no key is sent."""
    timeouts: Timeouts = Timeouts()
    prices: dict[str, ModelPrice] = {}
    """Overrides by model; asked before `ProxyConfig.prices`."""

    @property
    def dialect(self) -> Dialect:
        return Dialect.ANTHROPIC if self.provider is Provider.ANTHROPIC else Dialect.OPENAI


class Match(msgspec.Struct, frozen=True):
    """All given fields must match; an empty field matches everything. Models may end in `*`."""

    models: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


class ModelChoice(msgspec.Struct, frozen=True):
    backend: str
    """`Backend.name`."""
    model: str = ""
    """Empty: the model that the application asked for."""


class Retry(msgspec.Struct, frozen=True):
    attempts: int = 3
    """In all, over every backend."""
    base_ms: int = 500
    max_ms: int = 8_000


class Rule(msgspec.Struct, frozen=True):
    route: str
    name: str
    choices: tuple[ModelChoice, ...]
    """In fallback order."""
    tier: str = ""
    matches: tuple[Match, ...] = ()
    """Any of them; empty: every request."""
    retry: Retry = Retry()
    max_output_tokens: int = 0
    """Cap put in where the request has none; 0: the model's own maximum."""
    on_client_disconnect: OnClientDisconnect = OnClientDisconnect.ABORT
    clamp_at_least: int = 0
    """Where the budget cannot pay for the whole output cap, it may be lowered to what fits, but not below this;
    0: it may not."""


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
    """By `<route>/<tier>`: all that a downgrade may name."""
    prices: dict[Provider, dict[str, ModelPrice]] = {}
    """The price book by provider and model, for the providers that the backends use."""
