"""The documented manifest behind the official SDKs: what users see of prompt caches and of shortened histories."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import anthropic
import openai
import orjson
import pytest
from anthropic.types import MessageParam, TextBlockParam, ToolParam, ToolResultBlockParam
from tests.sdk import proxy
from tests.sdk.documented import route_of, with_plenty
from tests.sdk.matrix import APP_KEY, PROVIDER_KEYS

from keelage_dev.provider import ThreadedProvider

pytestmark = pytest.mark.sdk

AUTO, HAIKU = "auto", "claude-haiku-4-5"
"""The rule says which model answers, whatever is asked for; the other writes summaries."""
SYSTEM = "You are the assistant of a shop, and here is all of its catalogue. " * 200
TOOL: ToolParam = {
    "name": "stock",
    "description": "How many are there?",
    "input_schema": {"type": "object", "properties": {}},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[ThreadedProvider]:
    with ThreadedProvider(PROVIDER_KEYS, replies={HAIKU: "They talked about lorem."}) as running:
        yield running


@pytest.fixture(scope="module")
def url(provider: ThreadedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with proxy.running(
        tmp_path_factory.mktemp("cached"), with_plenty(route_of("prompt-cache.yaml", provider.url))
    ) as running:
        yield running


def claude(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key=APP_KEY, max_retries=0)


def gpt(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=APP_KEY, max_retries=0)


def test_a_conversation_with_a_tool_is_read_from_the_cache_turn_by_turn(provider: ThreadedProvider, url: str) -> None:
    """Streamed and plain in turn, as an agent's loop sends it, without a word of cache_control."""
    messages: list[MessageParam] = [{"role": "user", "content": "Is there bread? " * 30}]
    seen = 0
    for turn in range(4):
        with claude(url).messages.stream(
            model=AUTO,
            max_tokens=200,
            system=SYSTEM,
            messages=messages,
            tools=[TOOL],
        ) as stream:
            message = stream.get_final_message()
        usage = message.usage
        assert usage.cache_read_input_tokens == seen
        assert usage.cache_creation_input_tokens
        seen += usage.cache_creation_input_tokens
        call = message.content[0]
        if call.type == "tool_use":
            result: ToolResultBlockParam = {"type": "tool_result", "tool_use_id": call.id, "content": "4 loaves. " * 20}
            messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
        else:
            messages += [
                {"role": "assistant", "content": message.content},
                {"role": "user", "content": f"And now {turn}?"},
            ]
    sent = orjson.loads(provider.requests()[-1].body)
    assert str(sent).count("cache_control") == 2


def test_an_hours_entry_is_written_for_the_rule_that_wants_it(url: str) -> None:
    message = claude(url).messages.create(
        model=AUTO,
        max_tokens=20,
        system=f"It is for reports. {SYSTEM}",
        messages=[{"role": "user", "content": "Go on."}],
        extra_headers={"x-keelage-feature": "report"},
    )
    assert message.usage.cache_creation is not None
    assert message.usage.cache_creation.ephemeral_1h_input_tokens == message.usage.cache_creation_input_tokens
    assert message.usage.cache_creation_input_tokens


def test_the_bill_of_many_questions_about_one_document_is_a_fraction(provider: ThreadedProvider, url: str) -> None:
    document = "The contract says lorem ipsum. " * 1000
    before = provider.bill().usd
    for number in range(10):
        blocks: list[TextBlockParam] = [
            {"type": "text", "text": document},
            {"type": "text", "text": f"What about clause {number}?"},
        ]
        claude(url).messages.create(model=AUTO, max_tokens=20, messages=[{"role": "user", "content": blocks}])
    paid = provider.bill().usd - before
    plain = 10 * Decimal(3) * len(document) // 4 / 1_000_000
    assert paid < plain / 3


def test_openai_is_sent_a_key_for_the_same_beginning(provider: ThreadedProvider, url: str) -> None:
    keys = []
    for question in ("Is there bread?", "Is there salt?"):
        gpt(url).chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}],
            extra_headers={"x-keelage-feature": "openai"},
        )
        keys.append(orjson.loads(provider.requests()[-1].body).get("prompt_cache_key"))
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32


def test_a_long_conversation_is_sent_with_a_summary_and_the_answer_says_so(
    provider: ThreadedProvider, url: str
) -> None:
    turns: list[MessageParam] = []
    for number in range(20):
        turns += [
            {"role": "user", "content": f"{number}: {'lorem ' * 500}"},
            {"role": "assistant", "content": "Indeed."},
        ]
    for asked in (2, 1):  # the summary is written once
        before = len(provider.requests())
        raw = claude(url).messages.with_raw_response.create(
            model=AUTO, max_tokens=20, messages=[*turns, {"role": "user", "content": "And now?"}]
        )
        assert raw.headers["x-keelage-history"] == "summarized=11"
        assert raw.parse().stop_reason == "end_turn"
        assert len(provider.requests()) == before + asked
        sent = orjson.loads(provider.requests()[-1].body)
        assert len(sent["messages"]) == 1 + 2 * 9 + 1
        assert "They talked about lorem." in str(sent["messages"][0])
        assert sent["stop_sequences"] == ["\n\nHuman:"]
