"""The documented manifest behind the official SDKs: what users see of cascades, and what the status says of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import orjson
import pytest
from anthropic.types import ToolParam
from tests.sdk import proxy
from tests.sdk.documented import route_of, with_plenty
from tests.sdk.matrix import APP_KEY, PROVIDER_KEYS

from keelage_dev.provider import ThreadedProvider

pytestmark = pytest.mark.sdk

CHEAP, DEAR = ("claude-haiku-4-5", "gpt-4o-mini"), ("claude-opus-4-5", "gpt-4o")
QUESTION = "Which order is meant?"


@pytest.fixture(scope="module")
def provider() -> Iterator[ThreadedProvider]:
    with ThreadedProvider(PROVIDER_KEYS) as running:
        yield running


@pytest.fixture(scope="module")
def url(provider: ThreadedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with proxy.running(
        tmp_path_factory.mktemp("cascade"), with_plenty(route_of("cascade.yaml", provider.url))
    ) as running:
        yield running


def says(provider: ThreadedProvider, cheap: str, dear: str = "Order 4711.") -> None:
    provider.config(replies={**dict.fromkeys(CHEAP, cheap), **dict.fromkeys(DEAR, dear)})


def claude(url: str, feature: str = "") -> anthropic.Anthropic:
    headers = {"x-keelage-feature": feature}
    return anthropic.Anthropic(base_url=url, api_key=APP_KEY, max_retries=0, default_headers=headers)


def gpt(url: str, feature: str = "") -> openai.OpenAI:
    headers = {"x-keelage-feature": feature}
    return openai.OpenAI(base_url=f"{url}/v1", api_key=APP_KEY, max_retries=0, default_headers=headers)


def ask_claude(url: str, feature: str, stream: bool) -> tuple[str, str, str]:
    """Text, model, and what the cascade did."""
    client = claude(url, feature)
    if stream:
        with client.messages.stream(
            model="auto", max_tokens=100, messages=[{"role": "user", "content": QUESTION}]
        ) as events:
            text = "".join(events.text_stream)
            return text, events.get_final_message().model, events.response.headers["x-keelage-cascade"]
    raw = client.messages.with_raw_response.create(
        model="auto", max_tokens=100, messages=[{"role": "user", "content": QUESTION}]
    )
    message = raw.parse()
    block = message.content[0]
    assert block.type == "text"
    return block.text, message.model, raw.headers["x-keelage-cascade"]


def ask_gpt(url: str, feature: str, stream: bool) -> tuple[str, str, str]:
    client = gpt(url, feature)
    if stream:
        raw_stream = client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        chunks = list(raw_stream.parse())
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        return text, chunks[0].model, raw_stream.headers["x-keelage-cascade"]
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": QUESTION}]
    )
    completion = raw.parse()
    return completion.choices[0].message.content or "", completion.model, raw.headers["x-keelage-cascade"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("feature", "good", "bad"),
    [
        ("", "It is order 12.", "UNCERTAIN"),
        ("", "We are sorry to hear that.", "I am not sure which one."),
        ("extract", '{"order": "12", "refund": true}', '{"order": 12}'),
        ("extract", '{"order": "12", "refund": true}', "Sure, here it is:"),
    ],
)
def test_sdks_see_one_answer_that_will_do(
    provider: ThreadedProvider, url: str, stream: bool, feature: str, good: str, bad: str
) -> None:
    for ask, api in ((ask_claude, 0), (ask_gpt, 1)):
        says(provider, good)
        assert ask(url, feature, stream) == (good, CHEAP[api], "kept")
        says(provider, bad)
        assert ask(url, feature, stream) == ("Order 4711.", DEAR[api], "escalated")
        asked = [orjson.loads(each.body)["model"] for each in provider.requests()[-3:]]
        assert asked == [CHEAP[api], CHEAP[api], DEAR[api]]


def test_a_call_of_a_tool_reaches_the_sdk_from_the_cheap_model(provider: ThreadedProvider, url: str) -> None:
    says(provider, "UNCERTAIN")
    tool: ToolParam = {"name": "find", "description": "an order", "input_schema": {"type": "object", "properties": {}}}
    with claude(url).messages.stream(
        model="auto", max_tokens=100, messages=[{"role": "user", "content": QUESTION}], tools=[tool]
    ) as events:
        message = events.get_final_message()
    assert (message.stop_reason, message.model) == ("tool_use", CHEAP[0])


def test_the_routes_status_says_what_was_saved_when_the_proxy_has_ended(
    provider: ThreadedProvider, tmp_path: Path
) -> None:
    with proxy.running(tmp_path, with_plenty(route_of("cascade.yaml", provider.url))) as url:
        says(provider, "It is order 12.")
        for _ in range(3):
            ask_claude(url, "", stream=False)
        says(provider, "UNCERTAIN")
        ask_claude(url, "", stream=True)
    objects = json.loads((tmp_path / "state" / "objects.json").read_text())
    (saving,) = objects["LLMRoute/support"]["status"]["savings"]
    assert (saving["by"], saving["tries"], saving["hits"], saving["hitRate"]) == ("Cascade", 4, 3, "75%")
    assert saving["picodollars"] > 0
    assert saving["saved"].endswith(" USD")
