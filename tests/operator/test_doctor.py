"""The doctor asks the provider with its SDK, and tells what it hears without the key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keelage_api.proxy_config import Backend, Provider
from keelage_dev.provider import ThreadedProvider
from keelage_operator.doctor import examine

KEY = "sk-the-right-one"


@pytest.fixture(scope="module")
def provider() -> Iterator[ThreadedProvider]:
    with ThreadedProvider({KEY: "ours"}) as running:
        yield running


def backend(provider: ThreadedProvider, kind: Provider, endpoint: str = "") -> Backend:
    return Backend(name="route/one", provider=kind, endpoint=endpoint or provider.url, credential="keys/one")


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI])
def test_a_good_key_is_taken_and_an_unknown_model_is_named(provider: ThreadedProvider, kind: Provider) -> None:
    known = "claude-haiku-4-5" if kind is Provider.ANTHROPIC else "gpt-4o-mini"
    found = list(examine(backend(provider, kind), frozenset({known, "no-such-model"}), {"keys": {"one": KEY.encode()}}))
    assert [finding.good for finding in found] == [True, False]
    assert "no-such-model" in found[1].text


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI])
def test_a_refused_key_is_said_by_its_name_and_never_shown(provider: ThreadedProvider, kind: Provider) -> None:
    [finding] = examine(backend(provider, kind), frozenset(), {"keys": {"one": b"sk-wrong"}})
    assert not finding.good
    assert "401" in finding.text
    assert "keys/one" in finding.text
    assert "sk-wrong" not in finding.text


def test_a_key_that_the_folder_lacks_is_named(provider: ThreadedProvider) -> None:
    [finding] = examine(backend(provider, Provider.ANTHROPIC), frozenset(), {"keys": {}})
    assert "Secret keys has no key one" in finding.text


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI])
def test_a_provider_that_is_away_is_said(provider: ThreadedProvider, kind: Provider) -> None:
    away = backend(provider, kind, endpoint="http://127.0.0.1:1")
    [finding] = examine(away, frozenset(), {"keys": {"one": KEY.encode()}})
    assert not finding.good
    assert "could not be asked" in finding.text
