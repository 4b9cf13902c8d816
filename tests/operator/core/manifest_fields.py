"""Manifests of routes and budgets as fields, and what a namespace of them compiles to."""

from __future__ import annotations

from collections.abc import Sequence

from keelage_api.pricing import ModelPrice, Rates
from keelage_api.proxy_config import Provider
from keelage_operator.core.compile import BudgetManifest, CompiledNamespace, RouteManifest, compile_namespace
from keelage_operator.core.price_book import Book

KNOWN = ModelPrice(tiers=(Rates(0, 10, 1, 12, 20, 50),))
BOOK: Book = {Provider.ANTHROPIC: {"claude-known": KNOWN}, Provider.OPENAI: {"gpt-known": KNOWN}}

Fields = dict[str, object]


def route(name: str = "assistant", created: str = "2026-11-01T00:00:00Z", **spec: object) -> Fields:
    """A route whose one rule sends everything to one Claude model."""
    return {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMRoute",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "generation": 2,
            "creationTimestamp": created,
        },
        "spec": {
            "backends": [
                {
                    "name": "anthropic",
                    "provider": "Anthropic",
                    "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}},
                }
            ],
            "tiers": [{"name": "fast", "models": [{"backend": "anthropic", "model": "claude-known"}]}],
            "rules": [{"name": "all", "select": [{"tier": "fast"}]}],
            **spec,
        },
    }


def budget(name: str = "month", amount: str = "1.5", **spec: object) -> Fields:
    return {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMBudget",
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "generation": 3},
        "spec": {"limit": {"amount": amount}, **spec},
    }


def compiled(routes: Sequence[Fields], budgets: Sequence[Fields] = ()) -> CompiledNamespace:
    return compile_namespace(
        "shop", [RouteManifest.of(raw) for raw in routes], [BudgetManifest.of(raw) for raw in budgets], BOOK
    )
