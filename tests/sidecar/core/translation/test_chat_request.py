"""Rows of the table from Messages to chat completions, one by one."""

from __future__ import annotations

import pytest
from tests.sidecar.core.calls import gpt, is_a, messages
from tests.sidecar.core.translation.spoken import Json, body_of, gpt_4o, interpreted, local, refused

USER: Json = {"role": "user", "content": "Hi"}
TOOL: Json = {"name": "weather", "description": "Now", "input_schema": {"type": "object", "properties": {}}}
PICTURE: Json = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
PICTURE_PART: Json = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}


def said(*turns: Json) -> object:
    return body_of(messages(messages=[*turns]), gpt_4o())["messages"]


def user(*blocks: Json) -> Json:
    return {"role": "user", "content": list(blocks)}


def test_a_small_request_is_the_same_question_with_the_same_cap() -> None:
    assert body_of(messages(system="Be brief.", temperature=0.5, top_p=0.9, stop_sequences=["END"]), gpt_4o()) == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Be brief."}, USER],
        "max_completion_tokens": 100,
        "stop": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
    }


def test_a_compatible_server_gets_the_older_names() -> None:
    body = body_of(messages(metadata={"user_id": "u1"}), local())
    assert (body["max_tokens"], body["user"]) == (100, "u1")
    assert not body.keys() & {"max_completion_tokens", "safety_identifier"}


def test_a_reasoning_model_is_instructed_by_the_developer_and_samples_as_it_likes() -> None:
    translated = interpreted(messages(system=[{"type": "text", "text": "A"}], temperature=0.5, top_k=4), gpt())
    assert translated.dropped == ("temperature", "top_k")
    assert body_of(messages(system="A"), gpt())["messages"] == [{"role": "developer", "content": "A"}, USER]


def test_a_stream_asks_for_its_usage() -> None:
    body = body_of(messages(stream=True), gpt())
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_instructions_in_the_middle_stay_in_place() -> None:
    late: Json = {"role": "system", "content": "Now in French."}
    assert said(USER, late, {"role": "assistant", "content": "Oui"}, USER) == [
        USER, late, {"role": "assistant", "content": "Oui"}, USER,
    ]  # fmt: skip


def test_pictures_become_urls() -> None:
    by_url: Json = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    text: Json = {"type": "text", "text": "What?"}
    assert said(user(text, PICTURE, by_url)) == [
        user(text, PICTURE_PART, {"type": "image_url", "image_url": {"url": "https://x/y.png"}})
    ]


def test_documents_of_text_are_read_out_and_pdf_goes_as_a_file() -> None:
    text: Json = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}
    pdf: Json = {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
        "citations": {"enabled": False},
    }
    file = {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBE"}
    assert said(user(text, pdf)) == [user({"type": "text", "text": "T\nD"}, {"type": "file", "file": file})]
    assert refused(messages(messages=[user(pdf)]), local()).field == "messages[0].content[0].source"


def test_calls_and_results_keep_their_ids_and_results_come_first() -> None:
    call: Json = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}, "caller": {"a": 1}}
    thought: Json = {"type": "thinking", "thinking": "Hm", "signature": "x"}
    turns: list[Json] = [
        USER,
        {
            "role": "assistant",
            "content": [thought, {"type": "text", "text": "Look: "}, call, {**call, "id": "toolu_2"}],
        },
        user(
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True, "content": [PICTURE]},
            {"type": "text", "text": "Go on"},
        ),
    ]
    function = {"name": "weather", "arguments": '{"city":"Rome"}'}
    assert said(*turns) == [
        USER,
        {
            "role": "assistant",
            "content": "Look: ",
            "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": function},
                {"id": "toolu_2", "type": "function", "function": function},
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "Sunny"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: "},
        user(
            {"type": "text", "text": "Returned by tool call toolu_2:"}, PICTURE_PART, {"type": "text", "text": "Go on"}
        ),
    ]
    assert interpreted(messages(messages=turns), gpt()).dropped == ("messages.content.thinking",)


def test_tools_become_functions_and_lose_what_only_anthropic_reads() -> None:
    schema: Json = {"type": "object", "properties": {}, "additionalProperties": False}
    tool: Json = {
        **TOOL,
        "type": "custom",
        "input_schema": schema,
        "strict": True,
        "cache_control": {"type": "ephemeral"},
        "defer_loading": True,
    }
    translated = interpreted(messages(tools=[tool]), gpt())
    assert body_of(messages(tools=[tool]), gpt())["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Now",
                "parameters": schema,
                "strict": True,
            },
        }
    ]
    assert translated.dropped == ("tools.cache_control", "tools.defer_loading")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        (
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}, "parallel_tool_calls": False},
        ),
    ],
)
def test_the_choice_of_a_tool_is_said_in_the_other_words(choice: Json, expected: Json) -> None:
    body = body_of(messages(tools=[TOOL], tool_choice=choice), gpt())
    assert {name: body[name] for name in ("tool_choice", "parallel_tool_calls") if name in body} == expected


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": {"type": "disabled"}}, "minimal"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 16000}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, "medium"),
        ({"thinking": {"type": "adaptive"}}, "high"),
        ({"output_config": {"effort": "max"}}, "high"),
    ],
)
def test_thinking_becomes_an_effort_where_the_model_reasons(fields: Json, effort: str) -> None:
    assert body_of(messages(max_tokens=32000, **fields), gpt())["reasoning_effort"] == effort
    other = interpreted(messages(max_tokens=32000, **fields), gpt_4o())
    assert b"reasoning_effort" not in other.facts.body
    assert bool(other.dropped) == (effort != "minimal")


def test_a_schema_for_the_answer_is_asked_for_strictly() -> None:
    schema: Json = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    body = body_of(messages(output_config={"format": {"type": "json_schema", "schema": schema}}), gpt())
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


CLOSED: Json = {"type": "object", "properties": {}, "additionalProperties": False}
OPTIONAL: Json = {**CLOSED, "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    "schema",
    [
        OPTIONAL,
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {**CLOSED, "properties": {"a": {"type": "array", "items": OPTIONAL}}, "required": ["a"]},
        {**CLOSED, "properties": {"a": {"anyOf": [{"type": "null"}, OPTIONAL]}}, "required": ["a"]},
        {**CLOSED, "$defs": {"o": OPTIONAL}},
        {"allOf": [CLOSED]},
    ],
)
def test_what_openai_does_not_take_strictly_is_asked_for_as_well_as_it_can_and_told(schema: Json) -> None:
    answer = messages(output_config={"format": {"type": "json_schema", "schema": schema}})
    form = body_of(answer, gpt())["response_format"]
    assert form == {"type": "json_schema", "json_schema": {"name": "answer", "strict": False, "schema": schema}}
    assert interpreted(answer, gpt()).dropped == ("output_config.format",)
    tool = messages(tools=[{**TOOL, "input_schema": schema, "strict": True}])
    function = {"name": "weather", "description": "Now", "parameters": schema}
    assert body_of(tool, gpt())["tools"] == [{"type": "function", "function": function}]
    assert interpreted(tool, gpt()).dropped == ("tools.strict",)


def test_an_effort_beyond_high_is_told() -> None:
    for effort, dropped in (("high", ()), ("xhigh", ("output_config.effort",)), ("max", ("output_config.effort",))):
        assert interpreted(messages(output_config={"effort": effort}), gpt()).dropped == dropped


def test_an_assistant_turn_that_says_nothing_is_left_out() -> None:
    for content in ("", [], [{"type": "text", "text": ""}]):
        assert said(USER, {"role": "assistant", "content": content}, USER) == [USER, USER]


def test_the_account_is_named_and_the_price_stays_the_usual_one() -> None:
    body = body_of(messages(metadata={"user_id": "u1"}, service_tier="standard_only"), gpt())
    assert (body["safety_identifier"], body["service_tier"]) == ("u1", "default")
    long = body_of(messages(metadata={"user_id": "u" * 65}), gpt())
    assert len(is_a(str, long["safety_identifier"])) == 64


def test_what_only_anthropic_does_with_a_prompt_is_dropped_and_told() -> None:
    cached: Json = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    translated = interpreted(
        messages(messages=[user(cached), {"role": "assistant", "content": "A"}, user(cached)], cache_control={"a": 1}),
        gpt(),
        (
            (b"anthropic-beta", b"x"),
            (b"anthropic-version", b"2026-10-21"),
            (b"x-stainless-lang", b"python"),
            (b"a", b"b"),
        ),
    )
    assert translated.dropped == ("messages.content.cache_control", "cache_control", "anthropic-beta")
    assert (translated.target, translated.headers) == ("/v1/chat/completions", ((b"a", b"b"),))


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("max_tokens", {"max_tokens": 0}),
        ("stop_sequences", {"stop_sequences": list("abcde")}),
        ("tools[0].type", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("mcp_servers", {"mcp_servers": [{"url": "https://x"}]}),
        ("container", {"container": "c"}),
        ("thread", {"thread": {"type": "create"}}),
        ("compaction", {"compaction": {"type": "auto"}}),
        ("context_management", {"context_management": {"edits": [1]}}),
        ("fallbacks", {"fallbacks": ["m"]}),
        ("billing_policy", {"billing_policy": "user_profile"}),
        ("speed", {"speed": "fast"}),
        ("inference_geo", {"inference_geo": "us"}),
        ("something_new", {"something_new": 1}),
        ("messages[1]", {"messages": [USER, {"role": "assistant", "content": "The answer is"}]}),
        ("messages[0].content[0]", {"messages": [user({"type": "container_upload", "file_id": "f"})]}),
        ("messages[0].content[0]", {"messages": [user({"type": "search_result", "source": "s"})]}),
        (
            "messages[0].content[0].source",
            {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
        ),
        (
            "messages[0].content[0].source",
            {"messages": [user({"type": "document", "source": {"type": "url", "url": "https://x"}})]},
        ),
        (
            "messages[0].content[0].citations",
            {"messages": [user({"type": "document", "citations": {"enabled": True}, "source": {"type": "text"}})]},
        ),
        (
            "messages[1].content[0]",
            {"messages": [USER, {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s"}]}, USER]},
        ),
        ("messages[0].role", {"messages": [{"role": "tool", "content": "x"}]}),
        ("messages[0]", {"messages": ["Hi"]}),
        ("messages", {"messages": []}),
        ("messages[0].content", {"messages": [{"role": "user", "content": 7}]}),
        ("temperature", {"temperature": "warm"}),
    ],
)
def test_what_cannot_be_said_at_openai_is_refused_by_name(field: str, fields: Json) -> None:
    refusal = refused(messages(**fields), gpt_4o())
    assert (refusal.status, refusal.reason, refusal.field) == (400, "Untranslatable", field)
    assert refusal.message.startswith(f"{field}: ")
    assert "assistant/openai" in refusal.message


def test_a_reasoning_model_takes_no_stop_sequences() -> None:
    assert refused(messages(stop_sequences=["x"]), gpt()).field == "stop_sequences"


def test_what_is_sent_is_bounded_as_it_is_sent() -> None:
    facts = interpreted(messages(messages=[user(PICTURE)], max_tokens=77, stream=True), gpt()).facts
    assert (facts.max_output, facts.capped, facts.weight.images, facts.model) == (77, True, 1, "gpt-5-mini")
    assert facts.asked_usage
