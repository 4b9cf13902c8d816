"""A server where sidecars share the answers that they keep."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.v1alpha1.backend import TLS, Credentials
from keelage_api.v1alpha1.constraint import Constraint, constrained, pattern
from keelage_api.v1alpha1.host import HOST_AND_PORT
from keelage_api.v1alpha1.metadata import Duration, Part, Word, duration_ms

TIMEOUT_MAX = "2s"


@constrained(
    Constraint["SharedCache"](
        cel="!has(self.tls) || self.endpoint.startsWith('rediss:')",
        message="tls needs an endpoint that begins with rediss: without TLS there is no certificate to verify",
        holds=lambda part: part.tls is None or part.endpoint.startswith("rediss:"),
        field=".tls",
    ),
    Constraint["SharedCache"](
        cel="!has(self.username) || has(self.credentials)",
        message="username needs credentials: name the Secret and the key of its password",
        holds=lambda part: part.username is None or part.credentials is not None,
        field=".username",
    ),
    Constraint["SharedCache"](
        cel=f"duration(self.timeout) <= duration('{TIMEOUT_MAX}')",
        message=f"timeout must not be longer than {TIMEOUT_MAX}: calls wait for it when the server does not answer",
        holds=lambda part: duration_ms(part.timeout) <= duration_ms(TIMEOUT_MAX),
        field=".timeout",
    ),
)
class SharedCache(Part):
    """A Valkey or Redis server, not a cluster of them. What is kept there is encrypted; when it is slow or gone, calls
    go on without it."""

    endpoint: Annotated[
        str,
        StringConstraints(min_length=9, max_length=512),
        pattern(
            rf"rediss?://{HOST_AND_PORT}",
            "must be the URL of a Valkey or Redis server, with a port up to 65535 if any, as in"
            " rediss://valkey.caches.svc:6379; rediss is TLS",
        ),
    ]
    """Scheme, host and port (6379)."""
    database: Annotated[int, Field(ge=0, le=9_999)] = 0
    """Number of the server's database."""
    credentials: Credentials | None = None
    """The password; left out: the server asks for none."""
    username: Word | None = None
    """Whose password it is; left out: that of the default user."""
    encryption_key: Credentials
    """What answers are encrypted with: at least 32 random characters, the same for all pods. A new key begins anew."""
    tls: TLS | None = None
    """For a server whose certificate comes from an authority of your own. Left out: the public ones."""
    timeout: Duration = "50ms"
    """How long a call waits for the server; after that it is left alone until it answers again."""
