"""Rows of the table from chat completions to Messages, one by one."""

from __future__ import annotations

import hashlib

import pytest
from tests.sidecar.core.calls import chat, claude, facts_of, is_a
from tests.sidecar.core.translation.spoken import Json, body_of, claude_as, interpreted, refused

from keelage_sidecar.core.endpoints import CHAT

USER: Json = {"role": "user", "content": "Hi"}
FUNCTION: Json = {"name": "weather", "description": "Now", "parameters": {"type": "object", "properties": {"c": {}}}}
TOOL: Json = {"type": "function", "function": FUNCTION}
NEWEST = "claude-opus-5-5"


def said(*turns: Json, model: str = "claude-haiku-4-5") -> Json:
    body = body_of(chat(max_tokens=100, messages=[*turns]), claude_as(model))
    return {name: body[name] for name in ("system", "messages") if name in body}


def user(*parts: Json) -> Json:
    return {"role": "user", "content": list(parts)}


def text(said: str) -> Json:
    return {"type": "text", "text": said}


def test_a_small_request_is_the_same_question_with_the_same_cap() -> None:
    translated = interpreted(chat(max_completion_tokens=50, stop="END"), claude(), ((b"openai-project", b"p"),))
    assert body_of(chat(max_completion_tokens=50, stop="END"), claude()) == {
        "model": "claude-haiku-4-5",
        "max_tokens": 50,
        "messages": [USER],
        "stop_sequences": ["END"],
    }
    assert translated.target == "/v1/messages"
    assert translated.headers == ((b"anthropic-version", b"2026-10-21"),)
    assert translated.dropped == ()


def test_the_cap_that_anthropic_needs_comes_from_the_rule_or_is_asked_for() -> None:
    assert body_of(chat(), claude_as("claude-haiku-4-5", cap=64))["max_tokens"] == 64
    refusal = refused(chat(), claude())
    assert refusal.field == "max_completion_tokens"
    assert "rules[].output.maxTokens" in refusal.message


def test_instructions_at_the_start_are_the_system_prompt() -> None:
    assert said({"role": "system", "content": "A"}, {"role": "developer", "content": [text("B")]}, USER) == {
        "system": [text("A"), text("B")],
        "messages": [USER],
    }


def test_later_instructions_stay_in_place_only_where_the_model_takes_them_there() -> None:
    turns: tuple[Json, ...] = (USER, {"role": "system", "content": "A"}, {"role": "assistant", "content": "B"}, USER)
    assert said(*turns, model=NEWEST)["messages"] == [*turns]
    old = interpreted(chat(max_tokens=9, messages=[*turns]), claude())
    assert old.dropped == ("messages.role",)
    assert said(*turns) == {"system": [text("A")], "messages": [USER, turns[2], USER]}
    empty: Json = {"role": "assistant", "content": " "}
    assert said(USER, turns[1], empty, USER, model=NEWEST) == {
        "system": [text("A")], "messages": [user(text("Hi"), text("Hi"))],
    }  # fmt: skip
    assert said(USER, turns[1], model=NEWEST)["messages"] == [USER, turns[1]]
    between = said({"role": "user", "content": "1"}, {"role": "system", "content": "A"}, USER, model=NEWEST)
    assert between == {"system": [text("A")], "messages": [user(text("1"), text("Hi"))]}


def test_pictures_and_pdf_become_blocks() -> None:
    parts: list[Json] = [
        text("What?"),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "auto"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
    ]
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
    assert said(user(*parts))["messages"] == [
        user(
            text("What?"),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
            {"type": "document", "source": pdf, "title": "a.pdf"},
        )
    ]
    dropped = interpreted(chat(max_tokens=9, messages=[user(*parts)]), claude()).dropped
    assert dropped == ("messages.content.image_url.detail",)


def test_calls_and_results_keep_their_ids_and_results_are_one_turn() -> None:
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"c":1}'}},
        {"id": "functions.weather:1", "type": "function", "function": {"name": "weather", "arguments": ""}},
    ]
    other = "call_" + hashlib.sha256(b"functions.weather:1").hexdigest()[:32]
    turns: tuple[Json, ...] = (
        USER,
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
        {"role": "tool", "tool_call_id": "functions.weather:1", "content": [text("Rain")]},
        {"role": "user", "content": "Go on"},
    )
    assert said(*turns)["messages"] == [
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"c": 1}},
                {"type": "tool_use", "id": other, "name": "weather", "input": {}},
            ],
        },
        user(
            {"type": "tool_result", "tool_use_id": "call_1", "content": "Sunny"},
            {"type": "tool_result", "tool_use_id": other, "content": "Rain"},
            text("Go on"),
        ),
    ]


def test_functions_of_old_get_ids_of_their_own() -> None:
    turns: list[Json] = [
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "Sunny"},
    ]
    body = body_of(
        chat(max_tokens=9, messages=turns, functions=[FUNCTION], function_call={"name": "weather"}), claude()
    )
    assert is_a(list, body["messages"])[1:] == [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}]},
        user({"type": "tool_result", "tool_use_id": "call_1", "content": "Sunny"}),
    ]
    assert body["tool_choice"] == {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}


def test_consecutive_messages_of_a_role_are_one_turn_and_empty_ones_none() -> None:
    turns: tuple[Json, ...] = (USER, {"role": "user", "content": "there"}, {"role": "assistant", "content": ""}, USER)
    assert said(*turns)["messages"] == [user(text("Hi"), text("there"), text("Hi"))]


def test_texts_of_blanks_which_anthropic_refuses_are_left_out_wherever_they_stand() -> None:
    call: Json = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": ""}}
    turns: tuple[Json, ...] = (
        {"role": "system", "content": " "},
        {"role": "user", "content": [text("Hi"), text("\n")]},
        {"role": "assistant", "content": "\n\n", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": " "},
    )
    assert said(*turns) == {
        "messages": [
            USER,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "weather", "input": {}}]},
            user({"type": "tool_result", "tool_use_id": "c"}),
        ]
    }


def test_blank_stop_sequences_which_anthropic_refuses_are_dropped_and_told() -> None:
    translated = interpreted(chat(max_tokens=9, stop=["\n", "END"]), claude())
    assert translated.dropped == ("stop",)
    assert body_of(chat(max_tokens=9, stop=["\n", "END"]), claude())["stop_sequences"] == ["END"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, {"type": "tool", "name": "weather"}),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}}},
            {"type": "any"},
        ),
    ],
)
def test_functions_become_tools_and_the_choice_is_said_in_the_other_words(fields: Json, expected: object) -> None:
    body = body_of(chat(max_tokens=9, tools=[TOOL], **fields), claude())
    assert body["tools"] == [
        {"name": "weather", "description": "Now", "input_schema": {"type": "object", "properties": {"c": {}}}}
    ]
    assert body.get("tool_choice") == expected


def test_allowed_tools_leave_the_others_out() -> None:
    other: Json = {"type": "function", "function": {"name": "other", "strict": True}}
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [other]}}
    body = body_of(chat(max_tokens=9, tools=[TOOL, other], tool_choice=choice), claude())
    assert body["tools"] == [
        {"name": "other", "input_schema": {"type": "object", "properties": {}}, "strict": True}
    ]  # fmt: skip


def test_allowed_tools_that_are_none_of_the_tools_are_refused() -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "other"}}]}}
    refusal = refused(chat(max_tokens=9, tools=[TOOL], tool_choice=choice), claude())
    assert refusal.field == "tool_choice.allowed_tools.tools"
    assert "name one, or use tool_choice none" in refusal.message


def test_sampling_goes_with_the_api_version_that_still_has_it_and_only_to_models_that_have_it() -> None:
    warm = chat(max_tokens=9, temperature=1.5, top_p=0.5)
    old = interpreted(warm, claude())
    assert (b"anthropic-version", b"2023-06-01") in old.headers
    assert body_of(warm, claude())["temperature"] == 1.0
    assert old.dropped == ("temperature", "top_p"), "1.5 is sent as 1"
    assert interpreted(chat(max_tokens=9, temperature=1), claude()).dropped == ()
    newest = interpreted(warm, claude_as(NEWEST))
    assert (b"anthropic-version", b"2026-10-21") in newest.headers
    assert newest.dropped == ("temperature", "top_p")
    assert body_of(chat(max_tokens=9, top_p=0.5), claude_as("claude-opus-4-6"))["top_p"] == 0.5


@pytest.mark.parametrize(
    ("model", "fields", "expected", "dropped"),
    [
        ("claude-haiku-4-5", {"reasoning_effort": "none"}, {}, ()),
        ("claude-haiku-4-5", {"reasoning_effort": "low"}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, ()),
        (
            "claude-haiku-4-5",
            {"reasoning_effort": "high"},
            {"thinking": {"type": "enabled", "budget_tokens": 4096}},
            (),
        ),
        ("claude-haiku-4-5", {"reasoning_effort": "high", "max_tokens": 1024}, {}, ("reasoning_effort",)),
        (
            "claude-haiku-4-5",
            {"reasoning_effort": "xhigh", "max_tokens": 9000},
            {"thinking": {"type": "enabled", "budget_tokens": 4096}},
            ("reasoning_effort",),
        ),
        (
            "claude-haiku-4-5",
            {"reasoning_effort": "high", "max_tokens": 2000},
            {"thinking": {"type": "enabled", "budget_tokens": 1999}},
            (),
        ),
        (
            "claude-sonnet-4-6",
            {"reasoning_effort": "minimal"},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            (),
        ),
        ("claude-sonnet-4-6", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, ()),
        (NEWEST, {"reasoning_effort": "none"}, {}, ("reasoning_effort",)),
        (
            NEWEST,
            {"reasoning_effort": "max", "include_reasoning": True},
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "max"}},
            (),
        ),
        (
            "claude-sonnet-4-6",
            {"reasoning_effort": "high", "tools": [TOOL], "tool_choice": "required"},
            {},
            ("reasoning_effort",),
        ),
        (
            "claude-haiku-4-5",
            {"reasoning_effort": "high", "temperature": 0},
            {"thinking": {"type": "enabled", "budget_tokens": 4096}},
            ("temperature",),
        ),
    ],
)
def test_an_effort_becomes_thinking_as_the_model_has_it(
    model: str, fields: Json, expected: Json, dropped: tuple[str, ...]
) -> None:
    facts = chat(**{"max_tokens": 9000, **fields})
    body = body_of(facts, claude_as(model))
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == expected
    assert interpreted(facts, claude_as(model)).dropped == dropped


def test_a_model_that_thinks_by_budget_does_not_begin_between_a_call_and_its_result() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns = [USER, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "x"}]
    facts = chat(max_tokens=9000, messages=turns, reasoning_effort="low")
    assert interpreted(facts, claude()).dropped == ("reasoning_effort",)
    assert "thinking" in body_of(facts, claude_as("claude-sonnet-4-6"))


def test_the_user_is_named_by_a_digest_and_the_price_stays_the_usual_one() -> None:
    body = body_of(chat(max_tokens=9, user="alice@example.org", service_tier="default"), claude())
    assert body["metadata"] == {"user_id": hashlib.sha256(b"alice@example.org").hexdigest()}
    assert body["service_tier"] == "standard_only"
    facts = interpreted(chat(max_tokens=9, user="alice@example.org"), claude()).facts
    assert facts.user == "alice@example.org"


def test_at_most_four_cache_marks_are_set_and_none_of_a_longer_life_after_a_shorter() -> None:
    def marked(ttl: str) -> Json:
        return {**text("x"), "prompt_cache_breakpoint": {"ttl": ttl}}

    turn = user(*(marked(ttl) for ttl in ("12h", "30m", "12h", "30m", "30m")))
    blocks = is_a(list, is_a(list, said(turn)["messages"])[0]["content"])
    short, long = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    assert [block.get("cache_control") for block in blocks] == [long, short, short, short, None]
    facts = interpreted(chat(max_tokens=9, messages=[turn]), claude()).facts
    assert facts.weight.cached
    assert facts.weight.cached_long


def test_what_has_no_word_at_anthropic_is_dropped_and_told() -> None:
    fields: Json = {
        "seed": 1, "logit_bias": {"1": 2}, "presence_penalty": 1, "frequency_penalty": 1, "verbosity": "low",
        "store": True, "metadata": {"a": "b"}, "top_logprobs": 2, "prompt_cache_key": "k", "service_tier": "flex",
    }  # fmt: skip
    translated = interpreted(
        chat(max_tokens=9, stream=True, stream_options={"include_usage": True}, **fields), claude()
    )
    assert set(translated.dropped) == set(fields)
    assert translated.facts.stream


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("n", {"n": 2}),
        ("logprobs", {"logprobs": True}),
        ("modalities", {"modalities": ["text", "audio"]}),
        ("audio", {"audio": {"voice": "x"}}),
        ("prediction", {"prediction": {"type": "content", "content": "x"}}),
        ("web_search_options", {"web_search_options": {"a": 1}}),
        ("response_format.type", {"response_format": {"type": "json_object"}}),
        ("something_new", {"something_new": 1}),
        ("tools[0].type", {"tools": [{"type": "custom", "custom": {"name": "x"}}]}),
        ("tool_choice.type", {"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "x"}}}),
        ("messages[0].content[0]", {"messages": [user({"type": "input_audio", "input_audio": {}})]}),
        ("messages[0].content[0].file.file_id", {"messages": [user({"type": "file", "file": {"file_id": "f"}})]}),
        (
            "messages[0].content[0].image_url.url",
            {"messages": [user({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,x"}})]},
        ),
        (
            "messages[1].tool_calls[0].function.arguments",
            {
                "messages": [
                    USER,
                    {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "x", "arguments": "{"}}]},
                    USER,
                ]
            },
        ),
        ("messages[1]", {"messages": [USER, {"role": "assistant", "content": "The answer is"}]}),
        ("messages[0].role", {"messages": [{"role": "nobody", "content": "x"}]}),
        ("messages", {"messages": [{"role": "user", "content": ""}]}),
        ("reasoning_effort", {"reasoning_effort": "enormous"}),
    ],
)
def test_what_cannot_be_said_at_anthropic_is_refused_by_name(field: str, fields: Json) -> None:
    refusal = refused(chat(**{"max_tokens": 9, **fields}), claude())
    assert (refusal.status, refusal.reason, refusal.field) == (400, "Untranslatable", field)
    assert refusal.message.startswith(f"{field}: ")


def test_a_model_that_always_thinks_cannot_be_made_to_call_a_tool() -> None:
    facts = chat(max_tokens=9, tools=[TOOL], tool_choice="required")
    assert refused(facts, claude_as(NEWEST)).field == "tool_choice"
    assert body_of(facts, claude_as("claude-opus-5"))["tool_choice"] == {"type": "any"}


def test_a_body_that_is_nested_deeper_than_it_can_be_written_is_refused() -> None:
    raw = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function",'
    raw += b'"function":{"name":"a","parameters":' + b"[" * 300 + b"1" + b"]" * 300 + b"}}]}"
    assert "nested" in refused(facts_of(CHAT, raw), claude()).message
