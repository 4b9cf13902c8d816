"""The doctor asks the provider with its SDK, and tells what it hears without the key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.sidecar.shell.secured import authority, secured

from keelage_api.mounted import CONFIG_MAP, MountedKey
from keelage_api.pricing import ModelPrice
from keelage_api.proxy_config import Backend, BackendTLS, Provider
from keelage_dev.provider import ThreadedProvider
from keelage_operator.cli import main
from keelage_operator.core.price_book import price_book
from keelage_operator.doctor import Finding, Level, examine, key_of
from keelage_operator.doctor_samples import compared, samples
from keelage_operator.local_folder import Folder
from keelage_sidecar.shell.call import Call

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KEY = "sk-the-right-one"
CA = MountedKey("corp-ca", "ca", CONFIG_MAP).path


@pytest.fixture(scope="module")
def provider() -> Iterator[ThreadedProvider]:
    with ThreadedProvider({KEY: "ours"}) as running:
        yield running


def folder(key: str, **authorities: bytes) -> Folder:
    return Folder("shop", (), {"keys": {"one": key.encode()}}, {"corp-ca": authorities})


def backend(provider: ThreadedProvider, kind: Provider, endpoint: str = "") -> Backend:
    return Backend(name="route/one", provider=kind, endpoint=endpoint or provider.url, credential="keys/one")


def found(
    backend: Backend, models: set[str], folder: Folder, prices: Mapping[str, ModelPrice] | None = None
) -> list[Finding]:
    known = price_book()[Provider.ANTHROPIC] | price_book()[Provider.OPENAI]
    return list(examine(backend, frozenset(models), known if prices is None else prices, folder, {}))


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI])
def test_a_good_key_is_taken_and_an_unknown_model_is_named(provider: ThreadedProvider, kind: Provider) -> None:
    known = "claude-haiku-4-5" if kind is Provider.ANTHROPIC else "gpt-4o-mini"
    [taken, unknown, *_] = found(backend(provider, kind), {known, "no-such-model"}, folder(KEY))
    assert (taken.level, unknown.level) == (Level.OK, Level.FAIL)
    assert "no-such-model" in unknown.text


def test_bound_and_estimate_are_compared_with_the_providers_own_count(provider: ThreadedProvider) -> None:
    told = found(backend(provider, Provider.ANTHROPIC), {"claude-haiku-4-5"}, folder(KEY))
    assert [finding.level for finding in told] == [Level.OK, Level.OK]
    assert "our bound is" in told[1].text
    assert "our estimate" in told[1].text


def test_where_the_application_chooses_the_model_one_that_it_may_choose_is_counted(provider: ThreadedProvider) -> None:
    told = found(backend(provider, Provider.ANTHROPIC), set(), folder(KEY))
    assert told[1].text.startswith("model claude-")


def test_a_bound_below_the_providers_count_is_no_good(provider: ThreadedProvider) -> None:
    counts = dict.fromkeys(samples(), 1) | {"Chinese": 1_000_000}
    one = backend(provider, Provider.ANTHROPIC)
    asked = iter(counts.values())
    result = compared(one, "m", None, lambda model, body: next(asked))
    assert result is not None
    assert result.below is not None
    assert (result.below[0], result.below[2]) == ("Chinese", 1_000_000)


def test_the_texts_that_are_counted_weigh_each_otherwise(provider: ThreadedProvider) -> None:
    result = compared(backend(provider, Provider.ANTHROPIC), "m", None, lambda model, body: len(str(body)) // 4)
    assert result is not None
    assert result.below is None
    assert len(set(result.bounds.values())) == len(samples())


def test_a_model_without_a_price_is_a_warning(provider: ThreadedProvider) -> None:
    told = found(backend(provider, Provider.OPENAI), {"gpt-4o-mini"}, folder(KEY), {})
    assert [finding.level for finding in told] == [Level.OK, Level.WARNING]
    assert "gpt-4o-mini has no price" in told[1].text


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI])
def test_a_refused_key_is_said_by_its_name_and_never_shown(provider: ThreadedProvider, kind: Provider) -> None:
    [finding] = found(backend(provider, kind), set(), folder("sk-wrong"))
    assert not finding.good
    assert "401" in finding.text
    assert "keys/one" in finding.text
    assert "sk-wrong" not in finding.text


def test_a_key_that_the_folder_lacks_is_named(provider: ThreadedProvider) -> None:
    [finding] = found(backend(provider, Provider.ANTHROPIC), set(), Folder("shop", (), {"keys": {}}, {}))
    assert "Secret keys has no key one" in finding.text


def test_without_a_secret_the_variable_of_the_sdk_counts_for_its_own_provider_only(provider: ThreadedProvider) -> None:
    bare, given = Folder("shop", (), {}, {}), {"ANTHROPIC_API_KEY": KEY}
    real = backend(provider, Provider.ANTHROPIC, "https://api.anthropic.com")
    key, source = key_of(real, bare, given)
    assert key == KEY
    assert "ANTHROPIC_API_KEY" in source
    assert key_of(real, folder("sk-of-the-folder"), given)[0] == "sk-of-the-folder"
    [finding] = examine(backend(provider, Provider.ANTHROPIC), frozenset(), {}, bare, given)
    assert "Secret keys has no key one" in finding.text


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI])
def test_a_provider_that_is_away_is_said(provider: ThreadedProvider, kind: Provider) -> None:
    away = backend(provider, kind, endpoint="http://127.0.0.1:1")
    [finding] = found(away, set(), folder(KEY))
    assert not finding.good
    assert "could not be asked: Connection refused: check the endpoint, and the way to it" in finding.text


@pytest.mark.parametrize("authorities", [{}, {"ca": b"no certificate"}])
def test_an_authority_that_is_not_there_or_none_at_all_is_said(
    provider: ThreadedProvider, authorities: dict[str, bytes]
) -> None:
    private = replace(backend(provider, Provider.OPENAI), tls=BackendTLS((CA,)))
    [finding] = found(private, set(), folder(KEY, **authorities))
    assert not finding.good
    assert "tls.caCertificateRefs" in finding.text


async def _models(call: Call) -> None:
    call.reply(200, [(b"content-type", b"application/json")], b'{"data": [], "has_more": false}')


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI_COMPATIBLE])
async def test_the_certificate_must_be_that_of_the_hostname(
    provider: ThreadedProvider, kind: Provider, tmp_path: Path
) -> None:
    pem, chain = authority(tmp_path / "own.pem", "llm.internal")
    held = folder(KEY, ca=pem.encode())
    async with secured(_models, chain) as port:
        one = backend(provider, kind, f"https://127.0.0.1:{port}")
        [good] = await asyncio.to_thread(found, replace(one, tls=BackendTLS((CA,), "llm.internal")), set(), held)
        [bad] = await asyncio.to_thread(found, replace(one, tls=BackendTLS((CA,))), set(), held)
    assert good.good
    assert "IP address mismatch" in bad.text


def test_the_command_tells_of_each_backend_and_fails_with_the_worst(
    provider: ThreadedProvider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in EXAMPLES.glob("*.yaml"):
        text = path.read_text().replace("http://127.0.0.1:9999", provider.url)
        (tmp_path / path.name).write_text(text.replace("fake-anthropic-key", KEY).replace("fake-openai-key", KEY))
    assert main(["doctor", "-f", str(tmp_path)]) == 0
    route = tmp_path / "route.yaml"
    route.write_text(route.read_text().replace("gpt-4o-mini", "gpt-nobody"))
    assert main(["doctor", "-f", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "FAIL assistant/openai" in told
    assert KEY not in told
    route.write_text(route.read_text().replace("provider: OpenAI", "provider: OpenBI"))
    assert main(["doctor", "-f", str(tmp_path)]) == 1
    assert 'Unsupported value: "OpenBI"' in capsys.readouterr().out


def test_the_name_that_a_misspelt_model_is_nearest_to_is_told(provider: ThreadedProvider) -> None:
    [_, unknown, *_] = found(backend(provider, Provider.OPENAI), {"gpt-4o-mimi"}, folder(KEY))
    assert unknown.text.endswith("does not have the model gpt-4o-mimi: did you mean gpt-4o-mini?")
