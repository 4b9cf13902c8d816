"""Providers that a route's tiers refer to: where each is, with which key, and at what price."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.mounted import CONFIG_MAP, SECRET
from keelage_api.proxy_config import Provider
from keelage_api.v1alpha1.circuit_breaker import CircuitBreaker
from keelage_api.v1alpha1.constraint import Constraint, ListMap, constrained, pattern
from keelage_api.v1alpha1.host import HOST_AND_PORT
from keelage_api.v1alpha1.metadata import Duration, ModelName, Name, ObjectName, Part
from keelage_api.v1alpha1.rate import BackendLimits

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
        holds=lambda part: part.tls is None or part.endpoint is None or not part.endpoint.startswith("http:"),
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
                rf"https?://{HOST_AND_PORT}(/[-._~a-zA-Z0-9/]*)?",
                "must be an http or https URL of a host, with a port up to 65535 if any and without query, as in"
                " https://api.anthropic.com",
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
