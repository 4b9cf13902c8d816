"""The documented manifest behind the official SDKs: one answer for a question, however politely it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anthropic
import openai
import pytest
from tests.sdk import proxy
from tests.sdk.documented import route_of, with_plenty
from tests.sdk.matrix import APP_KEY, PROVIDER_KEYS

from keelage_dev.provider import ThreadedProvider

pytestmark = pytest.mark.sdk

ASKED, POLITELY, OPPOSITE = (
    "How do I enable dark mode?",
    "Please tell me how I can turn on dark mode, thanks!",
    "How do I disable dark mode?",
)
HAIKU = "claude-haiku-4-5"


@pytest.fixture(scope="module")
def provider() -> Iterator[ThreadedProvider]:
    """Its embedder finds all texts alike."""
    with ThreadedProvider(PROVIDER_KEYS, vectors="alike") as running:
        yield running


@pytest.fixture(scope="module")
def url(provider: ThreadedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    manifests = with_plenty(route_of("semantic-cache.yaml", provider.url))
    with proxy.running(tmp_path_factory.mktemp("semantic"), manifests) as running:
        yield running


def streamed_claude(url: str, text: str) -> tuple[object, str]:
    """The message, and what the cache did."""
    client = anthropic.Anthropic(base_url=url, api_key=APP_KEY, max_retries=0)
    with client.messages.stream(model=HAIKU, max_tokens=100, messages=[{"role": "user", "content": text}]) as events:
        return events.get_final_message(), events.response.headers["x-keelage-cache"]


def plain_claude(url: str, text: str) -> tuple[object, str]:
    client = anthropic.Anthropic(base_url=url, api_key=APP_KEY, max_retries=0)
    raw = client.messages.with_raw_response.create(
        model=HAIKU, max_tokens=100, messages=[{"role": "user", "content": text}]
    )
    return raw.parse(), raw.headers["x-keelage-cache"]


def plain_gpt(url: str, text: str) -> tuple[object, str]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=APP_KEY, max_retries=0)
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=[{"role": "user", "content": text}])
    return raw.parse(), raw.headers["x-keelage-cache"]


@pytest.mark.parametrize("ask", [streamed_claude, plain_claude, plain_gpt])
def test_sdks_get_the_same_object_for_the_same_question(
    url: str, provider: ThreadedProvider, ask: Callable[[str, str], tuple[object, str]]
) -> None:
    first, use = ask(url, ASKED)
    assert use == "miss"
    before = len(provider.requests())
    again, use = ask(url, POLITELY)
    assert (again, use) == (first, "semantic")
    assert [each.path for each in provider.requests()[before:]] == ["/v1/embeddings"]
    other, use = ask(url, OPPOSITE)
    assert (other != first, use) == (True, "miss")
