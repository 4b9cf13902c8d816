"""Which of the application's headers go upstream, and which of those an answer may depend on. Pure."""

from __future__ import annotations

from functools import lru_cache

from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import HEADS_MAX

_DROPPED = frozenset(
    {
        # hop by hop (RFC 9110 7.6.1), and what belongs to the message as we frame it
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"host", b"content-length", b"expect",
        # a compressed answer could not be counted
        b"accept-encoding",
        # the application's placeholder keys
        b"authorization", b"x-api-key", b"api-key",
    }
)  # fmt: skip
_NAMES_NOTHING = (b"keep-alive", b"close")
"""What `connection` usually says, without naming another header."""
_NEUTRAL = frozenset(
    {
        # who speaks
        b"user-agent",
        # what a cache or a server is to do with the answer, and a call that is made again
        b"cache-control", b"pragma", b"idempotency-key",
        # one call among others, for whoever looks for it
        b"x-request-id", b"x-client-request-id", b"x-correlation-id", b"traceparent", b"tracestate", b"baggage", b"b3",
        b"sentry-trace", b"uber-trace-id", b"x-cloud-trace-context", b"x-amzn-trace-id", b"elastic-apm-traceparent",
        b"newrelic",
    }
)  # fmt: skip
_NEUTRAL_PREFIXES = (b"x-stainless-", b"x-b3-", b"x-datadog-")
"""What SDKs and tracers say of themselves and of a call."""


@lru_cache(maxsize=HEADS_MAX)
def forwarded(headers: Headers) -> Headers:
    """The application's own that go on."""
    naming = [field[1] for field in headers if field[0] == b"connection" and field[1] not in _NAMES_NOTHING]
    named = {token.strip().lower() for value in naming for token in value.split(b",")}
    return tuple(
        field
        for field in headers
        if field[0] not in _DROPPED and field[0] not in named and not field[0].startswith(b"x-keelage-")
    )


@lru_cache(maxsize=HEADS_MAX)
def telling(headers: Headers) -> Headers:
    """Of those that go on, the ones by which a server may answer otherwise: all but a few that are known not to
    matter. Of the same name in their order, else by name."""
    kept = [
        field for field in forwarded(headers) if field[0] not in _NEUTRAL and not field[0].startswith(_NEUTRAL_PREFIXES)
    ]
    return tuple(sorted(kept, key=lambda field: field[0]))
