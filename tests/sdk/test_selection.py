"""The documented manifest behind the official SDKs: which tier answers, and what users are told of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest
import yaml
from tests.sdk import proxy
from tests.sdk.matrix import APP_KEY, PROVIDER_KEYS

from keelage_dev.provider import ThreadedProvider

pytestmark = pytest.mark.sdk

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "selection.yaml"
HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-5"
LONG = "Please compare these two contracts clause by clause. " * 10


def manifests(url: str) -> str:
    """The documented ones, with their backends at that address and without the hours, which tests cannot choose."""
    route, budget = yaml.safe_load_all(EXAMPLE.read_text())
    for backend in route["spec"]["backends"]:
        backend["endpoint"] = url
    chat = route["spec"]["rules"][-1]
    chat["select"] = [entry for entry in chat["select"] if "timeWindow" not in entry.get("when", {})]
    keys = {name: key for key, name in PROVIDER_KEYS.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "llm-keys"}, "stringData": keys}
    return yaml.safe_dump_all([secret, route, budget])


@pytest.fixture(scope="module")
def provider() -> Iterator[ThreadedProvider]:
    with ThreadedProvider(PROVIDER_KEYS) as running:
        yield running


@pytest.fixture(scope="module")
def url(provider: ThreadedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with proxy.running(tmp_path_factory.mktemp("selection"), manifests(provider.url)) as running:
        yield running


def ask_claude(url: str, text: str, headers: dict[str, str]) -> tuple[str, str, str]:
    """Model of the answer, tier and reason, of a stream."""
    client = anthropic.Anthropic(base_url=url, api_key=APP_KEY, max_retries=0)
    with client.messages.stream(
        model="auto", max_tokens=100, messages=[{"role": "user", "content": text}], extra_headers=headers
    ) as events:
        model, told = events.get_final_message().model, events.response.headers
    return model, told["x-keelage-tier"], told.get("x-keelage-selected-by", "")


def ask_gpt(url: str, text: str, headers: dict[str, str]) -> tuple[str, str, str]:
    """The same of a plain answer."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=APP_KEY, max_retries=0)
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": text}], extra_headers=headers
    )
    told = raw.headers
    return raw.parse().model, told["x-keelage-tier"], told.get("x-keelage-selected-by", "")


@pytest.mark.parametrize(
    ("text", "headers", "said", "tier", "by"),
    [
        ("Where is my parcel?", {}, "", "fast", "3:promptWords+keywords"),
        (LONG, {"x-keelage-task-type": "translate"}, "", "fast", "0:taskTypes"),
        ("Is this legal?", {}, "Simple.", "fast", "4:classifier"),
        ("Is this legal, then?", {}, "COMPLEX", "deep", "default"),
        ("Where is my parcel?", {"x-tenant": "gold"}, "", "deep", ""),
    ],
)
def test_sdks_get_the_tier_that_the_conditions_select(
    provider: ThreadedProvider, url: str, text: str, headers: dict[str, str], said: str, tier: str, by: str
) -> None:
    provider.config(replies={HAIKU: said} if said else {})
    model = {"fast": HAIKU, "deep": OPUS}[tier]
    assert ask_claude(url, text, headers) == (model, tier, by)
    found, *told = ask_gpt(url, f"{text} ", headers)
    # The tier has a backend of its own for chat completions: those are asked in their own API.
    assert (found, *told) == ("gpt-5-mini" if tier == "fast" else OPUS, tier, by)


def test_embeddings_take_the_rule_of_their_path(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=APP_KEY, max_retries=0)
    raw = client.embeddings.with_raw_response.create(model="anything", input=["one", "two"])
    assert raw.headers["x-keelage-rule"] == "concierge/vectors"
    assert raw.headers["x-keelage-model"] == "text-embedding-3-small"
    assert len(raw.parse().data) == 2


def test_a_classifier_that_does_not_answer_keeps_no_user_waiting_for_ever(provider: ThreadedProvider, url: str) -> None:
    provider.config(replies={}, model_faults={HAIKU: "529", "gpt-5-mini": "529"})
    try:
        assert ask_claude(url, "Legal or not, today?", {}) == (OPUS, "deep", "4:classifier:otherwise")
    finally:
        provider.config(model_faults={})
