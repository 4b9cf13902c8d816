"""Official SDKs that validate strictly, answered by a provider of the other API through `keelage run`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sdk import proxy
from tests.sdk.documented import route_of, with_plenty
from tests.sdk.environments import VERSIONS, Version
from tests.sdk.matrix import APP_KEY, PROVIDER_KEYS, Outcome, run_program
from tests.sidecar.core.calls import is_a

from keelage_dev.provider import ThreadedProvider

pytestmark = pytest.mark.sdk

CALLS = ("plain", "stream", "raw stream", "tool", "tool stream")
STOPS = {"anthropic": ("end_turn", "tool_use"), "openai": ("stop", "tool_calls")}
TEXT = "The budget holds and every token is counted, The budget holds and "
RAW = "message_start content_block_start" + " content_block_delta" * 12
RAW += " content_block_stop message_delta message_stop"


def manifests(url: str, *rules: tuple[str, str, str]) -> str:
    """The documented route with its backends at that address; rules as (models, backend, model), if any are given."""
    route = route_of("fallback.yaml", url)
    if rules:
        spec = route["spec"]
        spec["tiers"] = [{"name": to, "models": [{"backend": to, "model": model}]} for _, to, model in rules]
        spec["rules"] = [
            {"name": to, "matches": [{"models": [models]}], "select": [{"tier": to}]} for models, to, _ in rules
        ]
    return with_plenty(route)


def outcomes(version: Version, url: str) -> dict[str, Outcome]:
    order = {
        "sdk": version.sdk,
        "base_url": url,
        "api_key": APP_KEY,
        "strict": True,
        "scenarios": [{"name": call, "call": call, "fault": ""} for call in CALLS],
    }
    return {str(line["name"]): line for line in run_program(version, order)}


@pytest.fixture(scope="module")
def provider() -> Iterator[ThreadedProvider]:
    with ThreadedProvider(PROVIDER_KEYS, model_faults={"claude-haiku-4-5": "529"}) as running:
        yield running


@pytest.fixture(scope="module")
def crossed(provider: ThreadedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Claude is asked for and GPT answers, and the other way about."""
    rules = ("claude-*", "openai", "gpt-4o"), ("gpt-*", "anthropic", "claude-sonnet-4-5")
    with proxy.running(tmp_path_factory.mktemp("crossed"), manifests(provider.url, *rules)) as url:
        yield url


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.requirement)
def test_a_strict_sdk_takes_the_translated_answers_for_its_own(
    crossed: str, provider: ThreadedProvider, version: Version
) -> None:
    before = len(provider.requests())
    found = outcomes(version, crossed)
    assert {name: outcome["error"] for name, outcome in found.items()} == dict.fromkeys(CALLS, "")
    end, called = STOPS[version.sdk]
    said = {"text": TEXT, "stop": end, "tool": "", "output_tokens": 12}
    assert [found[name]["seen"] for name in ("plain", "stream")] == [said, said]
    for name in ("tool", "tool stream"):
        seen = is_a(dict, found[name]["seen"])
        assert (seen["text"], seen["stop"]) == ("", called)
        assert re.fullmatch(r'weather {"city": ?"value"}', seen["tool"])
    if version.sdk == "anthropic":
        assert is_a(dict, found["raw stream"]["seen"])["stop"] == RAW
    asked = {record.path for record in provider.requests()[before:]}
    assert asked == {"/v1/chat/completions" if version.sdk == "anthropic" else "/v1/messages"}


def test_the_documented_fallback_answers_when_anthropic_is_overloaded(
    provider: ThreadedProvider, tmp_path: Path
) -> None:
    before = len(provider.requests())
    with proxy.running(tmp_path, manifests(provider.url)) as url:
        found = outcomes(VERSIONS[0], url)
    assert {name: outcome["error"] for name, outcome in found.items()} == dict.fromkeys(CALLS, "")
    assert {record.path for record in provider.requests()[before:]} == {"/v1/messages", "/v1/chat/completions"}
