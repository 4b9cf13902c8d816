"""Response caches of a route: from its spec to what sidecars obey, and what they must have mounted."""

from __future__ import annotations

from urllib.parse import urlsplit

from keelage_api.mounted import MountedKey
from keelage_api.response_cache import ResponseCache, SharedCache
from keelage_api.v1alpha1 import response_cache
from keelage_api.v1alpha1.backend import Credentials
from keelage_api.v1alpha1.metadata import duration_ms
from keelage_api.v1alpha1.shared_cache import SharedCache as SharedSpec

PORT = 6379


def response_cache_of(spec: response_cache.ResponseCache | None, shared: SharedCache | None) -> ResponseCache | None:
    """Of one rule; `shared` is the route's."""
    if spec is None:
        return None
    return ResponseCache(
        ttl_ms=duration_ms(spec.exact.ttl),
        stale_ms=duration_ms(spec.stale_on_error) if spec.stale_on_error else 0,
        scope=spec.scope,
        sampled=spec.sampled is response_cache.SampledAnswers.ALLOW,
        bytes_max=response_cache.memory_bytes(spec.memory),
        shared=shared,
    )


def shared_cache_of(namespace: str, spec: SharedSpec | None) -> SharedCache | None:
    if spec is None:
        return None
    where = urlsplit(spec.endpoint)
    tls = spec.tls
    return SharedCache(
        host=where.hostname or "",
        port=where.port or PORT,
        namespace=namespace,
        encryption_key=_key(spec.encryption_key).path,
        secure=where.scheme == "rediss",
        database=spec.database,
        username=spec.username or "",
        password=_key(spec.credentials).path if spec.credentials is not None else "",
        authorities=tuple(each.path for each in _authorities(spec)),
        hostname=(tls.hostname or "") if tls is not None else "",
        timeout_ms=duration_ms(spec.timeout),
    )


def mounted_for(spec: SharedSpec | None) -> tuple[MountedKey, ...]:
    """Keys and authorities that the shared cache needs."""
    if spec is None:
        return ()
    password = (_key(spec.credentials),) if spec.credentials is not None else ()
    return (_key(spec.encryption_key), *password, *_authorities(spec))


def _key(credentials: Credentials) -> MountedKey:
    return MountedKey(credentials.secret_key_ref.name, credentials.secret_key_ref.key)


def _authorities(spec: SharedSpec) -> tuple[MountedKey, ...]:
    references = spec.tls.ca_certificate_refs if spec.tls is not None else ()
    return tuple(MountedKey(each.name, each.key, each.kind.value) for each in references)
