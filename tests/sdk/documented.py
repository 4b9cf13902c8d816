"""Documented manifests as a test serves them: with their backends at the fake provider, and money enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tests.sdk.matrix import PROVIDER_KEYS

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def route_of(example: str, provider_url: str) -> dict[str, Any]:
    """The route of that file, for all pods."""
    route: dict[str, Any] = yaml.safe_load((EXAMPLES / example).read_text())
    route["spec"].pop("podSelector", None)
    for backend in route["spec"]["backends"]:
        backend["endpoint"] = provider_url
    return route


def with_plenty(route: dict[str, Any]) -> str:
    """That route's manifests: with the Secret of its keys, and a hard budget that is never used up."""
    keys = {name: key for key, name in PROVIDER_KEYS.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "llm-keys", "namespace": "shop"}}
    budget = {
        "apiVersion": route["apiVersion"],
        "kind": "LLMBudget",
        "metadata": {"name": "plenty", "namespace": "shop"},
        "spec": {"limit": {"amount": "100.00"}},
    }
    return yaml.safe_dump_all([secret | {"stringData": keys}, route, budget])
