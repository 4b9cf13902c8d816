"""The parts of the fake provider that need no socket."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_dev.provider import chat, embedding, messages, responses
from keelage_dev.provider.bill import Bill, PriceList
from keelage_dev.provider.body import mapping, parsed
from keelage_dev.provider.exchange import Request
from keelage_dev.provider.fault import NONE, BadFault, Fault, parse
from keelage_dev.provider.output import output
from keelage_dev.provider.script import End, script
from keelage_dev.provider.service import Service
from keelage_dev.provider.settings import BadSetting, Settings, changed
from keelage_dev.provider.usage import PromptCache, Usage, prompt

MESSAGE = {"role": "user", "content": "hi"}
PATHS = [
    *("/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches"),
    *("/v1/chat/completions", "/v1/responses", "/v1/responses/r", "/v1/embeddings"),
]
FAULTS = ["ok", "cut:2", "cut:99", "eof:0", "hang", "hang:1", "reset", "garbage", "malformed-sse", "error-event", "500"]
FIELD = st.sampled_from(
    [
        "messages",
        "role",
        "content",
        "type",
        "text",
        "tools",
        "tool_choice",
        "name",
        "input_schema",
        "function",
        "parameters",
        "properties",
        "enum",
        "items",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "stream",
        "stream_options",
        "include_usage",
        "system",
        "thinking",
        "budget_tokens",
        "input",
        "cache_control",
        "ttl",
        "dimensions",
        "encoding_format",
        "requests",
        "custom_id",
        "params",
    ]
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("ok", NONE),
        ("", NONE),
        ("429:30", Fault(status=429, retry_after_s=30)),
        ("429-quota", Fault(status=429, variant="quota")),
        ("529, should-retry:false", Fault(status=529, should_retry="false")),
        ("slow-first-byte:0.5,cut:3", Fault(slow_s=0.5, cut_after=3)),
        ("eof:2", Fault(eof_after=2)),
        ("hang", Fault(hang=True)),
        ("hang:0", Fault(hang_after=0)),
        ("reset-billed", Fault(reset_billed=True)),
        ("error-event", Fault(error_event_after=3)),
        ("malformed-sse", Fault(malformed=True)),
        ("garbage", Fault(garbage=True)),
    ],
)
def test_a_fault_is_read_from_its_text(text: str, fault: Fault) -> None:
    assert parse(text) == fault


@pytest.mark.parametrize("text", ["nonsense", "cut", "cut:x", "cut:-1", "200", "429-more", "slow-first-byte"])
def test_a_fault_that_does_not_exist_is_named(text: str) -> None:
    with pytest.raises(BadFault, match=text.partition(":")[0]):
        parse(text)


def test_settings_change_field_by_field() -> None:
    assert changed(Settings(), {"gap_s": 1, "output_tokens": 3}) == Settings(gap_s=1, output_tokens=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"gap": 1},
        {"gap_s": "1"},
        {"gap_s": -1},
        {"output_tokens": True},
        {"schedule": [500]},
        {"prices": {"m": ["1"]}},
        {"replies": {"m": 1}},
    ],
)
def test_a_wrong_setting_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadSetting, match=next(iter(changes))):
        changed(Settings(), changes)


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("claude-haiku-4-5", Usage(input=1000, output=1000), "0.006"),
        ("claude-haiku-4-5-20251001", Usage(cache_read=10_000, cache_write_5m=1000, cache_write_1h=1000), "0.00425"),
        ("claude-opus-4-5", Usage(input=1, output=1), "0.00003"),
        ("claude-sonnet-4-5", Usage(input=1, output=1), "0.000018"),
        ("gpt-4o-2024-08-06", Usage(input=100, cache_read=100, output=10), "0.000475"),
        ("gpt-4o-mini", Usage(input=100, cache_read=100, output=10), "0.0000285"),
        ("gpt-5-mini", Usage(input=100, cache_read=100, output=10), "0.0000475"),
    ],
)
def test_prices_are_those_of_the_vendors_pages(model: str, usage: Usage, usd: str) -> None:
    rates = PriceList().rates(model)
    assert rates is not None
    assert rates.usd(usage) == Decimal(usd)


def test_the_bill_adds_up_by_model_and_by_key() -> None:
    bill = Bill()
    bill.charge("a", "m", Decimal("0.1"), new_call=True)
    bill.charge("a", "m", Decimal("0.2"), new_call=False)
    bill.charge("b", "n", Decimal("0.01"), new_call=True)
    assert bill.report().as_json() == {
        "usd": "0.31",
        "calls": 2,
        "by_model": {"m": {"usd": "0.3", "calls": 1}, "n": {"usd": "0.01", "calls": 1}},
        "by_key": {"a": {"usd": "0.3", "calls": 1}, "b": {"usd": "0.01", "calls": 1}},
    }


def test_a_cached_prefix_is_written_once_and_then_read() -> None:
    body = {
        "model": "m",
        "system": [{"type": "text", "text": "x" * 8000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [MESSAGE],
    }
    cache = PromptCache()
    tokens, marks = prompt(body)
    first = cache.usage(tokens, marks, min_tokens=1024)
    second = cache.usage(tokens, marks, min_tokens=1024)
    assert first.cache_write_1h > 2000
    assert first.prompt == second.prompt == tokens
    assert second == Usage(input=first.input, cache_read=first.cache_write_1h)


def test_a_prefix_below_the_minimum_is_silently_not_cached() -> None:
    body = {"model": "m", "cache_control": {"type": "ephemeral"}, "messages": [MESSAGE]}
    tokens, marks = prompt(body)
    assert len(marks) == 1
    assert PromptCache().usage(tokens, marks, min_tokens=1024) == Usage(input=tokens)


@dataclass(slots=True)
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def asked(cache: PromptCache, *said: str, ttl: str = "5m") -> Usage:
    """A conversation with a breakpoint at its last message."""
    last = {"type": "text", "text": said[-1], "cache_control": {"type": "ephemeral", "ttl": ttl}}
    contents: list[object] = [*said[:-1], [last]]
    turns = [{"role": ("user", "assistant")[at % 2], "content": each} for at, each in enumerate(contents)]
    tokens, marks = prompt({"model": "m", "messages": turns})
    return cache.usage(tokens, marks, min_tokens=1)


def test_a_breakpoint_finds_entries_of_up_to_twenty_blocks_before() -> None:
    first = [f"message {number}" for number in range(5)]
    for more, found in ((20, True), (21, False)):
        cache = PromptCache()
        written = asked(cache, *first).cache_write_5m
        usage = asked(cache, *first, *(f"later {number}" for number in range(more)))
        assert usage.cache_read == (written if found else 0)
        assert usage.input == 0


@pytest.mark.parametrize(("ttl", "life_s"), [("5m", 300.0), ("1h", 3600.0)])
def test_an_entry_lives_its_time_anew_from_each_read(ttl: str, life_s: float) -> None:
    clock = Clock()
    cache = PromptCache(clock)
    asked(cache, "x" * 100, ttl=ttl)
    for _ in range(3):
        clock.now_s += life_s - 1
        assert asked(cache, "x" * 100, ttl=ttl).cache_read > 0
    clock.now_s += life_s
    assert asked(cache, "x" * 100, ttl=ttl).cache_read == 0


@pytest.mark.parametrize(
    ("system", "wanted"),
    [
        ([("5m", "a"), ("1h", "b")], "a ttl='1h' cache_control block must not come after a ttl='5m'"),
        ([("1h", "a"), ("5m", "b")], None),
        ([("5m", " ")], "cache_control cannot be set for empty text blocks"),
    ],
)
def test_breakpoints_that_anthropic_refuses_are_refused(system: list[tuple[str, str]], wanted: str | None) -> None:
    blocks = [
        {"type": "text", "text": said, "cache_control": {"type": "ephemeral", "ttl": ttl}} for ttl, said in system
    ]
    body: dict[str, object] = {"model": "m", "max_tokens": 1, "messages": [MESSAGE], "system": blocks}
    said = messages.complaint(body, "2023-06-01")
    assert said is None if wanted is None else said is not None and said.startswith(wanted)


@pytest.mark.parametrize(
    ("changes", "version", "wanted"),
    [
        ({}, "2023-06-01", None),
        ({}, "", "anthropic-version"),
        ({"temperature": 0.5}, "2023-06-01", None),
        ({"temperature": 0.5}, "2026-10-21", "temperature: Extra inputs are not permitted"),
        ({"top_p": 0.5}, "2026-10-21", "top_p"),
        ({"max_tokens": None}, "2023-06-01", "max_tokens: Input should be a valid integer"),
        ({"messages": []}, "2023-06-01", "messages: at least one"),
        ({"messages": [{"role": "robot", "content": ""}]}, "2023-06-01", "messages.0.role"),
        ({"model": ""}, "2023-06-01", "model: Field required"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "2023-06-01", "budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "2023-06-01", "max_tokens"),
    ],
)
def test_messages_are_refused_as_anthropic_refuses_them(
    changes: dict[str, object], version: str, wanted: str | None
) -> None:
    body: dict[str, object] = {"model": "m", "max_tokens": 1024, "messages": [MESSAGE], **changes}
    said = messages.complaint(body, version)
    assert said == wanted if wanted is None else said is not None and wanted in said


def test_a_missing_max_tokens_is_refused() -> None:
    assert messages.complaint({"model": "m", "messages": [MESSAGE]}, "2023-06-01") == "max_tokens: Field required"


def test_a_prompt_beyond_the_window_is_refused_and_may_be_counted() -> None:
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x" * 1_000_000}]}
    said = messages.complaint(body, "2023-06-01")
    assert said is not None
    assert said.startswith("prompt is too long: ")
    assert messages.complaint(body, "2023-06-01", counting=True) is None


def test_five_cache_breakpoints_are_too_many() -> None:
    blocks = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 5
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": blocks}]}
    wanted = "A maximum of 4 blocks with cache_control may be provided. Found 5."
    assert messages.complaint(body, "2023-06-01") == wanted


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "gpt-5-mini", "max_tokens": 5}, "unsupported_parameter"),
        ({"model": "gpt-5-mini", "temperature": 0.1}, "unsupported_value"),
        ({"messages": []}, "empty_array"),
        ({"max_tokens": 0}, "integer_below_min_value"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "invalid_parameter_combination"),
    ],
)
def test_chat_is_refused_as_openai_refuses_it(changes: dict[str, object], code: str) -> None:
    wrong = chat.complaint({"model": "gpt-4o", "messages": [MESSAGE], **changes})
    assert wrong is not None
    assert wrong.code == code


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": ""}, "model"),
        ({"input": ""}, None),
        ({"messages": []}, None),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"model": "gpt-5-mini", "temperature": 0.1}, "temperature"),
    ],
)
def test_a_response_is_refused_as_openai_refuses_it(changes: dict[str, object], param: str | None) -> None:
    wrong = responses.complaint({"model": "gpt-4o", "input": "hi", **changes})
    assert wrong is not None
    assert wrong.param == param


@pytest.mark.parametrize("cap", [0, 1, 2, 5, 11, 12, 13])
@pytest.mark.parametrize("per_event", [1, 4, 5])
@pytest.mark.parametrize("thinking", [0, 3])
def test_output_never_passes_the_cap(cap: int, per_event: int, thinking: int) -> None:
    said = output(Settings(tokens_per_event=per_event), "m", cap=cap, thinking=thinking, tool=None)
    assert said.tokens == min(cap, 12 + thinking)
    assert said.capped == (cap < 12 + thinking)


def test_the_tokens_of_a_streams_events_are_those_of_the_whole_reply() -> None:
    body = {"model": "m", "max_tokens": 100, "messages": [MESSAGE], "thinking": {"type": "adaptive"}}
    said, usage = messages.run(body, Settings(), PromptCache())
    assert sum(event.tokens for event in messages.events(body, said, usage, 1)) == usage.output == 16
    many = {"model": "gpt-5-mini", "messages": [MESSAGE], "n": 3}
    said, usage = chat.run(many, Settings(thinking_tokens=5))
    assert sum(event.tokens for event in chat.events(many, said, usage, 1)) == usage.output == 3 * 17
    asked = {"model": "gpt-5-mini", "input": "hi"}
    said, usage = responses.run(asked, Settings(thinking_tokens=5))
    assert sum(event.tokens for event in responses.Made(asked, said, usage, 1).events()) == usage.output == 17


def test_embeddings_are_unit_vectors_in_the_size_asked_for() -> None:
    sent, usage = embedding.embeddings({"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 8})
    body = mapping(parsed(sent))
    data = body["data"]
    assert isinstance(data, list)
    assert len(data) == 2
    assert sum(number * number for number in data[0]["embedding"]) == pytest.approx(1)
    assert data[0]["embedding"] != data[1]["embedding"]
    assert usage == Usage(input=2)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELD, inner, max_size=4),
    max_leaves=12,
)


@given(body=st.dictionaries(FIELD, ANYTHING, max_size=8), path=st.sampled_from(PATHS), fault=st.sampled_from(FAULTS))
def test_any_body_is_answered_and_the_answer_ends(body: dict[str, object], path: str, fault: str) -> None:
    service = Service()
    service.configure({"cache_min_tokens": 0})
    headers = {"authorization": "Bearer k", "anthropic-version": "2023-06-01", "x-fake-fault": fault}
    request = Request("POST", path, "", headers, orjson.dumps(body | {"model": "m"}))
    steps = list(script(request, service.answer(request), service.settings))
    assert all(step.end is End.GO_ON for step in steps[:-1])
    assert steps[-1].end is not End.GO_ON
