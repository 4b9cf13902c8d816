"""Response caches of a route: from its spec to what sidecars obey, and what they must have mounted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from keelage_api.mounted import MountedKey
from keelage_api.proxy_config import ModelChoice, Provider, Rule
from keelage_api.response_cache import ResponseCache, Semantic, SharedCache
from keelage_api.v1alpha1 import response_cache, semantic_cache
from keelage_api.v1alpha1.backend import Credentials
from keelage_api.v1alpha1.llmroute import LLMRouteSpec
from keelage_api.v1alpha1.metadata import duration_ms
from keelage_api.v1alpha1.shared_cache import SharedCache as SharedSpec
from keelage_operator.core.problem import Problem

PORT = 6379


def response_cache_of(
    route: str, spec: response_cache.ResponseCache | None, shared: SharedCache | None
) -> ResponseCache | None:
    """Of one rule; `shared` is the route's."""
    if spec is None:
        return None
    ttl_ms = duration_ms(spec.exact.ttl)
    return ResponseCache(
        ttl_ms=ttl_ms,
        stale_ms=duration_ms(spec.stale_on_error) if spec.stale_on_error else 0,
        scope=spec.scope,
        sampled=spec.sampled is response_cache.SampledAnswers.ALLOW,
        bytes_max=response_cache.memory_bytes(spec.memory),
        shared=shared,
        semantic=None if spec.semantic is None else _semantic(route, spec.semantic, ttl_ms),
    )


def embedder_problems(spec: LLMRouteSpec) -> Iterator[Problem]:
    """Embedders at backends that have no embeddings."""
    dumb = {backend.name for backend in spec.backends if backend.provider is Provider.ANTHROPIC}
    for rule in spec.rules:
        semantic = rule.response_cache.semantic if rule.response_cache is not None else None
        if semantic is not None and semantic.embedder.backend in dumb:
            yield Problem(
                "EmbedderUnfit",
                f"spec.rules[{rule.name}].responseCache.semantic.embedder.backend: {semantic.embedder.backend} has"
                " provider Anthropic, which has no embeddings: name a backend with provider OpenAI or OpenAICompatible",
            )


def embedders_of(rules: Iterable[Rule]) -> tuple[ModelChoice, ...]:
    """Whom the rules' calls ask for vectors."""
    caches = (rule.response_cache for rule in rules if rule.response_cache is not None)
    asked = (cache.semantic for cache in caches if cache.semantic is not None)
    return tuple(ModelChoice(each.backend, each.model) for each in asked)


def _semantic(route: str, spec: semantic_cache.SemanticCache, ttl_ms: int) -> Semantic:
    return Semantic(
        backend=f"{route}/{spec.embedder.backend}",
        model=spec.embedder.model,
        dimensions=spec.embedder.dimensions or 0,
        threshold=float(spec.threshold),
        ttl_ms=ttl_ms if spec.ttl is None else duration_ms(spec.ttl),
        timeout_ms=duration_ms(spec.timeout),
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
