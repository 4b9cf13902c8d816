"""What `kubectl apply` refuses beyond the schema."""

from __future__ import annotations

import pytest

from keelage_operator.core.price_book import price_book
from keelage_operator.core.review import GroupKind, Request
from keelage_operator.core.validate import ALLOWED, validate

BOOK = price_book()
Json = dict[str, object]


def route(prices: list[Json]) -> Json:
    return {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMRoute",
        "metadata": {"name": "assistant", "namespace": "shop"},
        "spec": {
            "backends": [
                {
                    "name": "anthropic",
                    "provider": "Anthropic",
                    "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}},
                    "prices": prices,
                }
            ],
            "tiers": [{"name": "fast", "models": [{"backend": "anthropic"}]}],
            "rules": [{"name": "all", "select": [{"tier": "fast"}]}],
        },
    }


def budget(zone: str) -> Json:
    return {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMBudget",
        "metadata": {"name": "month", "namespace": "shop"},
        "spec": {"limit": {"amount": "5.00", "currency": "USD"}, "window": {"every": "Month", "timeZone": zone}},
    }


def request(raw: Json, old: Json | None = None, operation: str = "CREATE") -> Request:
    metadata = raw["metadata"]
    assert isinstance(metadata, dict)
    return Request(
        uid="u",
        kind=GroupKind("keelage.dev", "v1alpha1", str(raw["kind"])),
        namespace="shop",
        name=str(metadata["name"]),
        operation=operation,
        object=raw,
        old_object=old,
    )


CHEAP: Json = {"model": "claude-haiku-4-5", "inputPerMTok": "0.01", "outputPerMTok": "0.01"}


@pytest.mark.parametrize("raw", [route([]), budget("UTC"), budget("Europe/Berlin")])
def test_good_resource_is_allowed(raw: Json) -> None:
    assert validate(request(raw), BOOK) == ALLOWED


@pytest.mark.parametrize(
    ("raw", "reason", "says"),
    [
        (budget("Europe/Atlantis"), "TimeZoneUnknown", "Europe/Atlantis"),
        (route([CHEAP]), "PriceRefused", "claude-haiku-4-5"),
        (budget("UTC") | {"spec": {"limit": {"amount": "5.00"}, "surprise": 1}}, "Invalid", "surprise"),
    ],
)
def test_surely_wrong_resource_is_refused_by_name(raw: Json, reason: str, says: str) -> None:
    verdict = validate(request(raw), BOOK)
    assert verdict.reason == reason
    assert says in verdict.message
    assert verdict.message.startswith(f"{raw['kind']} shop/")


def test_negotiated_price_is_allowed() -> None:
    assert validate(request(route([CHEAP | {"negotiated": True}])), BOOK) == ALLOWED


def test_unchanged_spec_is_allowed_whatever_it_is() -> None:
    bad = budget("Europe/Atlantis")
    labelled = bad | {"metadata": {"name": "month", "namespace": "shop", "labels": {"a": "b"}}}
    assert validate(request(labelled, old=bad, operation="UPDATE"), BOOK) == ALLOWED


def test_other_kinds_and_deletions_pass() -> None:
    other: Json = {"kind": "LLMLedger", "metadata": {"name": "x"}, "spec": {}}
    assert validate(request(other), BOOK) == ALLOWED
    assert validate(request(budget("nowhere"), operation="DELETE"), BOOK) == ALLOWED
