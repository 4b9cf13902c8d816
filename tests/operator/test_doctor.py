"""The doctor asks the provider with its SDK, and tells what it hears without the key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from keelage_api.mounted import CONFIG_MAP, MountedKey
from keelage_api.proxy_config import Backend, BackendTLS, Provider
from keelage_dev.provider import ThreadedProvider
from keelage_operator.doctor import examine
from keelage_operator.local_folder import Folder

KEY = "sk-the-right-one"


@pytest.fixture(scope="module")
def provider() -> Iterator[ThreadedProvider]:
    with ThreadedProvider({KEY: "ours"}) as running:
        yield running


def folder(key: str, **authorities: bytes) -> Folder:
    return Folder("shop", (), {"keys": {"one": key.encode()}}, {"corp-ca": authorities})


def backend(provider: ThreadedProvider, kind: Provider, endpoint: str = "") -> Backend:
    return Backend(name="route/one", provider=kind, endpoint=endpoint or provider.url, credential="keys/one")


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI])
def test_a_good_key_is_taken_and_an_unknown_model_is_named(provider: ThreadedProvider, kind: Provider) -> None:
    known = "claude-haiku-4-5" if kind is Provider.ANTHROPIC else "gpt-4o-mini"
    found = list(examine(backend(provider, kind), frozenset({known, "no-such-model"}), folder(KEY)))
    assert [finding.good for finding in found] == [True, False]
    assert "no-such-model" in found[1].text


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI])
def test_a_refused_key_is_said_by_its_name_and_never_shown(provider: ThreadedProvider, kind: Provider) -> None:
    [finding] = examine(backend(provider, kind), frozenset(), folder("sk-wrong"))
    assert not finding.good
    assert "401" in finding.text
    assert "keys/one" in finding.text
    assert "sk-wrong" not in finding.text


def test_a_key_that_the_folder_lacks_is_named(provider: ThreadedProvider) -> None:
    [finding] = examine(backend(provider, Provider.ANTHROPIC), frozenset(), Folder("shop", (), {"keys": {}}, {}))
    assert "Secret keys has no key one" in finding.text


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI])
def test_a_provider_that_is_away_is_said(provider: ThreadedProvider, kind: Provider) -> None:
    away = backend(provider, kind, endpoint="http://127.0.0.1:1")
    [finding] = examine(away, frozenset(), folder(KEY))
    assert not finding.good
    assert "could not be asked" in finding.text


@pytest.mark.parametrize("authorities", [{}, {"ca": b"no certificate"}])
def test_an_authority_that_is_not_there_or_none_at_all_is_said(
    provider: ThreadedProvider, authorities: dict[str, bytes]
) -> None:
    private = replace(
        backend(provider, Provider.OPENAI), tls=BackendTLS((MountedKey("corp-ca", "ca", CONFIG_MAP).path,))
    )
    [finding] = examine(private, frozenset(), folder(KEY, **authorities))
    assert not finding.good
    assert "tls.caCertificateRefs" in finding.text
