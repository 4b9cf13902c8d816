"""The provider, and the two ways to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.sdk import proxy
from tests.sdk.matrix import PROVIDER_KEYS, Matrix

from keelage_dev.provider import ThreadedProvider

REQUESTS_KEPT = 5000
"""More than the whole matrix sends."""


@pytest.fixture(scope="session")
def provider() -> Iterator[ThreadedProvider]:
    with ThreadedProvider(PROVIDER_KEYS, requests_kept=REQUESTS_KEPT) as running:
        yield running


@pytest.fixture(scope="session")
def straight(provider: ThreadedProvider) -> Matrix:
    """Applications that talk to the provider."""
    return Matrix(provider, provider.url, proxied=False)


@pytest.fixture(scope="session")
def proxied(provider: ThreadedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """The same applications, with another base URL and no key."""
    text = proxy.manifests(provider.url, *PROVIDER_KEYS)
    with proxy.running(tmp_path_factory.mktemp("proxy"), text) as base_url:
        yield Matrix(provider, base_url, proxied=True)
