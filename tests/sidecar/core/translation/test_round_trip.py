"""What both APIs can say comes back from the way there and back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sidecar.core.calls import claude, facts_of, is_a
from tests.sidecar.core.translation.spoken import Json, body_of, gpt_4o

from keelage_sidecar.core.endpoints import CHAT, MESSAGES
from keelage_sidecar.core.request import Facts

TEXT = st.text(st.sampled_from('ab"\\ \né\U0001f600'), min_size=1, max_size=8)
SAID = TEXT.filter(lambda text: bool(text.strip()))
"""Anthropic refuses a text of blanks."""
NAMES = st.sampled_from(["weather", "time"])
ARGUMENTS = st.dictionaries(TEXT, TEXT | st.integers(-5, 5) | st.booleans() | st.lists(TEXT, max_size=2), max_size=2)
BLOCKS = st.builds(lambda text: {"type": "text", "text": text}, SAID) | st.sampled_from(
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
    ]
)
CHOICES: list[Json] = [
    {"type": "auto"},
    {"type": "none"},
    {"type": "any", "disable_parallel_tool_use": True},
    {"type": "tool", "name": "weather"},
]


@st.composite
def requests(draw: st.DrawFn) -> Json:
    """A Messages request without anything that only Anthropic has."""
    messages: list[Json] = [{"role": "user", "content": draw(st.lists(BLOCKS, min_size=1, max_size=3))}]
    for turn in range(draw(st.integers(0, 2))):
        calls: list[Json] = [
            {"type": "tool_use", "id": f"toolu_{turn}_{at}", "name": draw(NAMES), "input": draw(ARGUMENTS)}
            for at in range(draw(st.integers(0, 2)))
        ]
        said: list[Json] = [{"type": "text", "text": text} for text in draw(st.lists(SAID, max_size=1))]
        said += calls
        if not said:
            continue
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": draw(SAID)} for call in calls]
        least = 0 if results else 1
        answer = [*results, *draw(st.lists(BLOCKS, min_size=least, max_size=2))]
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": answer}]
    request: Json = {"model": "claude-haiku-4-5", "max_tokens": draw(st.integers(1, 9000)), "messages": messages}
    if draw(st.booleans()):
        request["system"] = [{"type": "text", "text": draw(SAID)}]
    if draw(st.booleans()):
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        request["tools"] = [{"name": "weather", "description": draw(TEXT), "input_schema": schema}]
        request["tool_choice"] = draw(st.sampled_from(CHOICES))
    if stops := draw(st.lists(st.sampled_from(["END", "STOP"]), max_size=4)):
        request["stop_sequences"] = stops
    if draw(st.booleans()):
        request["temperature"] = draw(st.sampled_from([0, 0.5, 1]))
    if draw(st.booleans()):
        request["stream"] = True
    return request


def in_blocks(request: Json) -> Json:
    """The same with every content as a list, as a single text may be written either way."""
    messages = []
    for message in is_a(list, request["messages"]):
        content = message["content"]
        messages.append(
            {**message, "content": [{"type": "text", "text": content}] if isinstance(content, str) else content}
        )
    return {**request, "messages": messages}


def there(facts: Facts) -> Facts:
    return facts_of(CHAT, {**body_of(facts, gpt_4o()), "model": "gpt-4o"})


@settings(max_examples=200, deadline=None)
@given(requests())
def test_a_messages_request_comes_back_from_chat_as_it_was(request: Json) -> None:
    assert in_blocks(body_of(there(facts_of(MESSAGES, request)), claude())) == request


@settings(max_examples=200, deadline=None)
@given(requests())
def test_a_chat_request_comes_back_from_messages_as_it_was(request: Json) -> None:
    chat = body_of(facts_of(MESSAGES, request), gpt_4o())
    back = body_of(facts_of(CHAT, chat), claude())
    assert body_of(facts_of(MESSAGES, back), gpt_4o()) == chat
