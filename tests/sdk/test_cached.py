"""Official SDKs that validate strictly, answered a second time from what `keelage run` has kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.sdk import proxy
from tests.sdk.documented import route_of, with_plenty
from tests.sdk.environments import VERSIONS, Version
from tests.sdk.matrix import PROVIDER_KEYS
from tests.sdk.test_translated import CALLS, outcomes

from keelage_dev.provider import ThreadedProvider

pytestmark = pytest.mark.sdk


def manifests(url: str) -> str:
    """The documented route at that address, whose rule for questions takes every call and every model."""
    route = route_of("response-cache.yaml", url)
    spec = route["spec"]
    (faq,) = (rule for rule in spec["rules"] if rule["name"] == "faq")
    spec["tiers"] = [{"name": "fast", "models": [{"backend": each["name"]} for each in spec["backends"]]}]
    spec["rules"] = [{key: value for key, value in faq.items() if key != "matches"}]
    return with_plenty(route)


@pytest.fixture(scope="module")
def provider() -> Iterator[ThreadedProvider]:
    with ThreadedProvider(PROVIDER_KEYS) as running:
        yield running


@pytest.fixture(scope="module")
def cached(provider: ThreadedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with proxy.running(tmp_path_factory.mktemp("cached"), manifests(provider.url)) as url:
        yield url


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.requirement)
def test_a_strict_sdk_gets_the_same_objects_again_and_the_provider_is_not_asked(
    cached: str, provider: ThreadedProvider, version: Version
) -> None:
    first = outcomes(version, cached)
    asked = len(provider.requests())
    assert asked > 0
    assert set(first) == set(CALLS)
    assert not any(outcome.get("error") for outcome in first.values())
    assert outcomes(version, cached) == first
    assert len(provider.requests()) == asked
