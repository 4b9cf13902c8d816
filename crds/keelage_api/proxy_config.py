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


class BudgetTerms(msgspec.Struct, frozen=True):
    """A budget that this sidecar's calls fall under; the pod was selected by the operator."""

    name: str
    """`<namespace>/<budget>`."""
    hard: bool
    routes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """Of the attempt, not of the request; may end in `*`."""
    features: tuple[str, ...] = ()


class ProxyConfig(msgspec.Struct, frozen=True):
    version: str
    format: int = FORMAT
    rules: tuple[Rule, ...] = ()
    """Of all routes that select the pod, in order; the first match wins."""
    backends: dict[str, Backend] = {}
    budgets: tuple[BudgetTerms, ...] = ()
    prices: dict[Provider, dict[str, ModelPrice]] = {}
    """The price book by provider and model, for the providers that the backends use."""
