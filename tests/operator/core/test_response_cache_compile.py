"""Response caches: from manifests to what sidecars obey."""

from __future__ import annotations

import pytest
from tests.operator.core.manifest_fields import budget, compiled, route

from keelage_api.codec import decode_config, encode
from keelage_api.response_cache import CacheScope, ResponseCache, Semantic, SharedCache


def cache_of(spec: dict[str, object] | None) -> ResponseCache | None:
    fields = {} if spec is None else {"responseCache": spec}
    config = compiled([route(rules=[{"name": "all", "select": [{"tier": "fast"}], **fields}])]).config_for({})
    assert decode_config(encode(config)) == config
    return config.rules[0].response_cache


def test_a_shared_cache_reaches_every_rule_that_keeps_answers_and_is_mounted_for() -> None:
    shared: dict[str, object] = {
        "endpoint": "redis://valkey",
        "database": 2,
        "username": "keelage",
        "credentials": {"secretKeyRef": {"name": "keys", "key": "password"}},
        "encryptionKey": {"secretKeyRef": {"name": "keys", "key": "answers"}},
        "timeout": "20ms",
    }
    rules = [
        {"name": "kept", "select": [{"tier": "fast"}], "matches": [{"features": ["a"]}], "responseCache": {}},
        {"name": "rest", "select": [{"tier": "fast"}]},
    ]
    namespace = compiled([route(sharedCache=shared, rules=rules)])
    kept, rest = namespace.config_for({}).rules
    wanted = SharedCache("valkey", 6379, "shop", "keys/answers", False, 2, "keelage", "keys/password", timeout_ms=20)
    assert (kept.response_cache, rest.response_cache) == (ResponseCache(shared=wanted), None)
    assert {key.path for key in namespace.credentials_for({})} == {
        "llm-keys/anthropic",
        "keys/answers",
        "keys/password",
    }


def test_without_the_field_nothing_is_kept() -> None:
    assert cache_of(None) is None


def test_an_empty_field_has_the_defaults_of_a_sidecar() -> None:
    assert cache_of({}) == ResponseCache()


@pytest.mark.parametrize(("memory", "amount"), [("64Ki", 65_536), ("1Mi", 1_048_576), ("1024Mi", 1_073_741_824)])
def test_all_that_is_written_reaches_the_sidecars(memory: str, amount: int) -> None:
    spec: dict[str, object] = {
        "exact": {"ttl": "90m"},
        "scope": "User",
        "sampled": "Allow",
        "staleOnError": "2h",
        "memory": memory,
    }
    assert cache_of(spec) == ResponseCache(5_400_000, 7_200_000, CacheScope.USER, True, amount)


OPENAI = {
    "name": "openai",
    "provider": "OpenAI",
    "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "openai"}},
}
EMBED = "gpt-known"
"""The fields do not say what a model is good for."""


def semantic(backend: str = "openai", model: str = EMBED, **fields: object) -> dict[str, object]:
    """A route whose rule gives answers to questions in other words."""
    keys = {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}}
    cache = {"exact": {"ttl": "2h"}, "semantic": {"embedder": {"backend": backend, "model": model}, **fields}}
    return route(
        backends=[{"name": "anthropic", "provider": "Anthropic", "credentials": keys}, OPENAI],
        rules=[{"name": "all", "select": [{"tier": "fast"}], "responseCache": cache}],
    )


def test_the_embedder_reaches_the_sidecars() -> None:
    written = compiled([semantic(threshold="0.97", ttl="1h", timeout="50ms")]).config_for({}).rules[0].response_cache
    left_out = compiled([semantic()]).config_for({}).rules[0].response_cache
    assert written is not None
    assert left_out is not None
    assert written.semantic == Semantic("assistant/openai", EMBED, 0, 0.97, 3_600_000, 50)
    assert left_out.semantic == Semantic("assistant/openai", EMBED, 0, 0.92, 7_200_000, 300)


def test_an_embedder_at_anthropic_is_refused() -> None:
    (problem,) = next(iter(compiled([semantic("anthropic")]).routes.values())).problems
    assert problem.reason == "EmbedderUnfit"
    assert "spec.rules[all].responseCache.semantic.embedder.backend: anthropic has provider" in problem.message


def test_an_embedder_without_a_price_is_told_where_a_budget_counts_it() -> None:
    month = budget()
    assert next(iter(compiled([semantic()], [month]).routes.values())).problems == ()
    (problem,) = next(iter(compiled([semantic(model="no-such-model")], [month]).routes.values())).problems
    assert (problem.reason, problem.refuses) == ("PriceUnknown", False)
    assert "model no-such-model at spec.backends[openai] has no price" in problem.message
