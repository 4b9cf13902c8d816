"""Translated streams: the same for every cut, early, and to an SDK the same as the translated whole answer."""

from __future__ import annotations

from itertools import pairwise

import openai
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sidecar.core.calls import chat, claude, gpt, is_a, messages
from tests.sidecar.core.streams import ERROR, FIRST_CHUNK, LAST_CHUNK, MESSAGE_START, anthropic_events, openai_chunks
from tests.sidecar.core.test_sse import cut
from tests.sidecar.core.translation.spoken import Json, interpreted
from tests.sidecar.core.translation.upstream_answers import (
    CREATED_S,
    Call,
    Said,
    accumulate_completion,
    accumulate_message,
    completion,
    completion_stream,
    message,
    message_stream,
    read_completion,
    read_message,
)

from keelage_sidecar.core.sse import SseScanner
from keelage_sidecar.core.translation.counted_stream import StreamTranslator
from keelage_sidecar.core.translation.pending_block import PendingBlock

WORDS = st.text(st.sampled_from('aé{}"\\ \n'), min_size=1, max_size=12)
CALLS = st.builds(Call, st.sampled_from(["weather", "time"]), st.dictionaries(WORDS, WORDS, max_size=2))
SAID = st.tuples(st.lists(WORDS, max_size=1), st.lists(CALLS, max_size=3)).map(lambda both: [*both[0], *both[1]])
"""Text before calls, the order that both APIs have."""
SIZES = st.integers(1, 9)
CUTS = st.lists(st.integers(0, 4000), max_size=12)


def to_chat(**fields: object) -> StreamTranslator:
    return interpreted(chat(max_tokens=9, stream=True, **fields), claude()).stream(CREATED_S, "r1")


def to_messages() -> StreamTranslator:
    return interpreted(messages(stream=True), gpt()).stream(CREATED_S, "r1")


def run(translator: StreamTranslator, *chunks: bytes) -> bytes:
    return b"".join(map(translator.feed, chunks)) + translator.finish()


def events(stream: bytes) -> list[Json]:
    found = SseScanner().feed(stream)
    return [orjson.loads(event.data) for event in found if event.data not in (b"", b"[DONE]")]


def reason_of(said: Said, calls: str, text: str) -> str:
    return calls if any(isinstance(each, Call) for each in said) else text


@settings(max_examples=60, deadline=None)
@given(SAID, SIZES)
def test_chunks_made_of_a_message_stream_add_up_to_the_translated_message(said: Said, size: int) -> None:
    stop = reason_of(said, "tool_use", "end_turn")
    spoken = interpreted(chat(max_tokens=9, stream=True, stream_options={"include_usage": True}), claude())
    _, whole = spoken.answer(200, orjson.dumps(message(said, stop)), CREATED_S, "r1")
    streamed = accumulate_completion(run(spoken.stream(CREATED_S, "r1"), message_stream(said, stop, size)))
    plain = read_completion(whole)
    assert streamed.choices[0].finish_reason == plain.choices[0].finish_reason
    assert streamed.usage == plain.usage
    one, other = streamed.choices[0].message, plain.choices[0].message
    assert (one.content or "") == (other.content or "")
    assert [_called(call) for call in one.tool_calls or ()] == [_called(call) for call in other.tool_calls or ()]
    assert (streamed.id, streamed.model, streamed.created) == (plain.id, plain.model, plain.created)


def _called(call: object) -> tuple[object, ...]:
    function = getattr(call, "function", None)
    arguments = getattr(function, "arguments", "")
    return getattr(call, "id", ""), getattr(function, "name", ""), orjson.loads(arguments)


@settings(max_examples=60, deadline=None)
@given(SAID, SIZES, st.booleans())
def test_a_message_stream_made_of_chunks_adds_up_to_the_translated_completion(
    said: Said, size: int, mixed: bool
) -> None:
    reason = reason_of(said, "tool_calls", "stop")
    spoken = interpreted(messages(stream=True), gpt())
    _, whole = spoken.answer(200, orjson.dumps(completion(said, reason)), CREATED_S, "r1")
    stream = run(spoken.stream(CREATED_S, "r1"), completion_stream(said, reason, size, mixed))
    streamed, plain = accumulate_message(stream), read_message(whole)
    assert streamed.model_dump(exclude={"usage"}) == plain.model_dump(exclude={"usage"})
    for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"):
        assert getattr(streamed.usage, name) == getattr(plain.usage, name)


@given(SAID, CUTS, st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_cut_of_a_message_stream_gives_the_same_chunks(said: Said, cuts: list[int], end: bytes) -> None:
    stream = message_stream(said).replace(b"\n", end)
    assert run(to_chat(), *cut(stream, cuts)) == run(to_chat(), message_stream(said))


@given(SAID, CUTS, st.booleans(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_cut_of_chunks_gives_the_same_message_stream(said: Said, cuts: list[int], mixed: bool, end: bytes) -> None:
    stream = completion_stream(said, mixed=mixed).replace(b"\n", end)
    assert run(to_messages(), *cut(stream, cuts)) == run(to_messages(), completion_stream(said, mixed=mixed))


@pytest.mark.parametrize("mixed", [False, True])
def test_every_single_byte_cut_gives_the_same_streams(mixed: bool) -> None:
    said: Said = ["Let me see. ", Call("weather", {"city": "Köln"}), Call("time", {})]
    for translator, stream in (
        (to_chat, message_stream(said, "tool_use")),
        (to_messages, completion_stream(said, "tool_calls", mixed=mixed)),
    ):
        expected = run(translator(), stream)
        assert run(translator(), *(stream[at : at + 1] for at in range(len(stream)))) == expected
        assert all(run(translator(), stream[:at], stream[at:]) == expected for at in range(0, len(stream), 7))


@given(st.binary(max_size=300))
def test_any_bytes_come_out_as_events_or_not_at_all(noise: bytes) -> None:
    for translator in (to_chat(), to_messages()):
        out = run(translator, noise, b"\n\n", noise)
        assert out == b"" or out.endswith(b"\n\n")


def test_text_goes_out_with_the_event_that_brought_it() -> None:
    chunks = to_chat()
    began = chunks.feed(message_stream([])[: message_stream([]).index(b"event: ping")])
    assert events(began)[0]["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": "", "refusal": None}, "logprobs": None}
        | {"finish_reason": None}
    ]
    delta = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":%b}\n\n'
    assert b'"content":"Hi"' in chunks.feed(delta % b'{"type":"text_delta","text":"Hi"}')

    stream = to_messages()
    first = events(stream.feed(openai_chunks(FIRST_CHUNK, done=False)))
    assert [event["type"] for event in first] == ["message_start", "content_block_start", "content_block_delta"]


def test_usage_is_sent_only_to_those_who_asked() -> None:
    asked = events(run(to_chat(stream_options={"include_usage": True}), message_stream(["Hi"])))
    silent = events(run(to_chat(), message_stream(["Hi"])))
    assert asked[-1]["choices"] == []
    assert is_a(dict, asked[-1]["usage"])["prompt_tokens"] == 100
    assert [chunk.get("usage", "absent") for chunk in asked[:-1]] == [None] * (len(asked) - 1)
    assert all("usage" not in chunk for chunk in silent)
    assert len(silent) == len(asked) - 1


def test_parallel_calls_that_come_mixed_are_sent_one_after_the_other() -> None:
    said: Said = [Call("weather", {"city": "Rome"}), Call("time", {"zone": "UTC"})]
    kinds = [
        str(event["type"]) for event in events(run(to_messages(), completion_stream(said, "tool_calls", mixed=True)))
    ]
    opened = 0
    for kind in kinds:
        opened += {"content_block_start": 1, "content_block_stop": -1}.get(kind, 0)
        assert opened in (0, 1)
    assert kinds.count("content_block_start") == 2


def test_a_call_is_closed_as_soon_as_its_arguments_are_whole_and_another_begins() -> None:
    stream = to_messages()
    full = completion_stream([Call("weather", {"a": "b"}), Call("time", {"c": "d"})], "tool_calls", size=99)
    second = full.index(b'"id":"call_1"')
    before = stream.feed(full[:second])
    after = stream.feed(full[second : full.index(b"\n\n", second) + 2])
    assert b"content_block_stop" not in before
    assert [event["type"] for event in events(after)] == ["content_block_stop", "content_block_start"]


def called(index: int, arguments: str, name: str = "weather") -> Json:
    call = {"index": index, "id": f"c{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}


ENDED: Json = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
CUT: Json = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}


@pytest.mark.parametrize("arguments", ['{"a": ', '{"a": x}', "[1]", '{"a": 1}}', "no"])
def test_a_call_whose_arguments_are_no_object_ends_the_stream_in_an_error(arguments: str) -> None:
    for chunks in ([called(0, arguments), ENDED], [called(0, arguments), called(1, "{}"), ENDED]):
        out = run(to_messages(), openai_chunks(*chunks))
        assert events(out)[-1]["type"] == "error"
        assert [each["type"] for each in events(out)].count("error") == 1
        assert b"message_stop" not in out


def test_a_call_that_the_cap_cut_off_is_told_as_far_as_it_came() -> None:
    out = run(to_messages(), openai_chunks(called(0, '{"a": '), CUT))
    assert events(out)[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert events(out)[-1]["type"] == "message_stop"


@given(st.recursive(WORDS, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner)), CUTS)
def test_arguments_are_whole_with_their_last_brace_and_not_before(value: object, cuts: list[int]) -> None:
    text = orjson.dumps({"a": value}).decode()
    edges = [0, *sorted({each for each in cuts if each < len(text)}), len(text)]
    block = PendingBlock("c")
    for start, end in pairwise(edges):
        assert not block.whole
        block.add(text[start:end])
    assert block.whole
    block.take()
    assert block.proper


def test_servers_that_number_all_calls_alike_are_told_apart_by_id() -> None:
    def call(name: str) -> Json:
        function = {"name": name, "arguments": "{}"}
        delta = {"tool_calls": [{"index": 0, "id": name, "type": "function", "function": function}]}
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    message = accumulate_message(run(to_messages(), openai_chunks(call("one"), call("two"), LAST_CHUNK)))
    assert [block.id for block in message.content if block.type == "tool_use"] == ["one", "two"]


def test_a_server_that_repeats_the_id_of_a_call_does_not_make_it_another_one() -> None:
    def fragment(name: str, arguments: str) -> Json:
        call = {"index": 0, "id": name, "function": {"name": "weather", "arguments": arguments}}
        return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}

    chunks = fragment("one", '{"a":'), fragment("one", "1}"), fragment("two", "{}"), fragment("one", " ")
    message = accumulate_message(run(to_messages(), openai_chunks(*chunks, LAST_CHUNK)))
    assert [(block.id, block.input) for block in message.content if block.type == "tool_use"] == [
        ("one", {"a": 1}),
        ("two", {}),
    ]


def test_a_stream_with_a_call_ends_for_the_call_though_openai_says_stop_where_the_function_was_named() -> None:
    message = accumulate_message(run(to_messages(), completion_stream([Call("weather", {})], "stop")))
    assert message.stop_reason == "tool_use"


def test_usage_with_the_last_choice_and_an_end_without_done_are_an_end() -> None:
    last = {**LAST_CHUNK, "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    message = accumulate_message(run(to_messages(), openai_chunks(FIRST_CHUNK, last, done=False)))
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("end_turn", 7, 3)


def test_content_in_parts_is_told_without_its_thinking_and_as_the_whole_answer_is() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    parts: Json = {"content": [thought, {"type": "text", "text": "Hello"}]}
    message = accumulate_message(
        run(
            to_messages(), openai_chunks({"choices": [{"index": 0, "delta": parts, "finish_reason": None}]}, LAST_CHUNK)
        )
    )
    whole = {**completion([]), "choices": [{"index": 0, "message": parts, "finish_reason": "stop"}]}
    _, body = interpreted(messages(), gpt()).answer(200, orjson.dumps(whole), CREATED_S, "r1")
    for content in (message.content, read_message(body).content):
        assert [block.text for block in content if block.type == "text"] == ["Hello"]


def test_null_as_the_arguments_of_a_call_is_no_arguments() -> None:
    call: Json = {"index": 0, "id": "c", "type": "function", "function": {"name": "time", "arguments": "null"}}
    chunk: Json = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}
    message = accumulate_message(run(to_messages(), openai_chunks(chunk, LAST_CHUNK)))
    whole = {**completion([]), "choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    _, body = interpreted(messages(), gpt()).answer(200, orjson.dumps(whole), CREATED_S, "r1")
    for content in (message.content, read_message(body).content):
        assert [block.input for block in content if block.type == "tool_use"] == [{}]


def test_what_a_server_says_before_the_answer_has_a_name_does_not_begin_it() -> None:
    filtered: Json = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}
    assert run(to_messages(), openai_chunks(filtered, done=False)) == b""
    message = accumulate_message(run(to_messages(), openai_chunks(filtered, done=False), completion_stream(["Hi"])))
    assert (message.id, message.stop_reason) == ("chatcmpl-1", "end_turn")


def test_an_answer_that_does_not_begin_as_its_api_says_is_told_in_whole_chunks() -> None:
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
    (chunk,) = events(run(to_chat(), anthropic_events(delta)))
    assert is_a(list, chunk["choices"])[0]["delta"] == {"content": "Hi"}


def test_a_refusal_is_one_in_both_words() -> None:
    refusal: Json = {"choices": [{"index": 0, "delta": {"refusal": "No."}, "finish_reason": None}]}
    message = accumulate_message(run(to_messages(), openai_chunks(refusal, LAST_CHUNK)))
    assert message.stop_reason == "refusal"
    with pytest.raises(openai.ContentFilterFinishReasonError):
        accumulate_completion(run(to_chat(), message_stream([], "refusal")))


def test_an_error_in_the_stream_is_the_last_thing_and_has_no_clean_end() -> None:
    out = run(to_chat(), anthropic_events(MESSAGE_START, ERROR), message_stream(["more"]))
    assert events(out)[-1]["error"] == {
        "message": "secret prompt", "type": "server_error", "param": None, "code": None,
    }  # fmt: skip
    assert b"[DONE]" not in out

    broken: Json = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}
    out = run(to_messages(), openai_chunks(FIRST_CHUNK, broken), openai_chunks(LAST_CHUNK))
    assert events(out)[-1] == {
        "type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}, "request_id": "r1",
    }  # fmt: skip
    assert b"message_stop" not in out


def test_a_stream_that_is_cut_gets_no_end() -> None:
    full = completion_stream(["Hello"])
    assert b"message_stop" not in run(to_messages(), full[: full.index(b'"stop"') - 60])
    whole = message_stream(["Hello"])
    assert b"[DONE]" not in run(to_chat(), whole[: whole.index(b"event: message_stop")])


def test_an_event_beyond_all_measure_ends_in_an_error() -> None:
    out = run(to_messages(), b"data: " + b"x" * (9 * 1024 * 1024))
    assert events(out)[0]["type"] == "error"


def test_calls_without_end_end_in_an_error_before_they_fill_the_memory() -> None:
    stream, calls = to_messages(), 0
    out = stream.feed(openai_chunks(FIRST_CHUNK, done=False))
    while b"event: error" not in out:
        call = {"index": calls, "id": f"c{calls}", "function": {"name": "weather", "arguments": ""}}
        out = stream.feed(openai_chunks({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}, done=False))
        calls += 1
    assert 1000 < calls < 3000

    stream, calls = to_chat(), 0
    out = stream.feed(anthropic_events(MESSAGE_START))
    while b'"error"' not in out:
        block = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
        out = stream.feed(anthropic_events({"type": "content_block_start", "index": calls, "content_block": block}))
        calls += 1
    assert 1000 < calls < 3000


def test_reasoning_is_shown_only_where_it_was_asked_for() -> None:
    delta = {"type": "thinking_delta", "thinking": "Hm"}
    thought = anthropic_events({"type": "content_block_delta", "index": 0, "delta": delta})
    begun = message_stream([])[: message_stream([]).index(b"event: ping")]
    assert b"Hm" not in run(to_chat(), begun, thought)
    shown = events(run(to_chat(include_reasoning=True, reasoning_effort="low"), begun, thought))
    assert is_a(list, shown[-1]["choices"])[0]["delta"] == {"reasoning_content": "Hm"}


def test_applications_with_functions_of_old_get_their_call_in_that_form() -> None:
    functions = [{"name": "weather", "parameters": {"type": "object"}}]
    stream = run(to_chat(functions=functions), message_stream([Call("weather", {"a": "b"})], "tool_use"))
    deltas = [is_a(list, chunk["choices"])[0]["delta"] for chunk in events(stream)]
    calls = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert calls[0] == {"name": "weather", "arguments": ""}
    assert "".join(call["arguments"] for call in calls) == '{"a":"b"}'
    assert is_a(list, events(stream)[-1]["choices"])[0]["finish_reason"] == "function_call"


def test_pings_keep_the_connection_alive_on_the_other_side_too() -> None:
    assert run(to_chat(), b'event: ping\ndata: {"type": "ping"}\n\n') == b": ping\n\n"
    kept = run(to_messages(), openai_chunks(FIRST_CHUNK, done=False), b": PROCESSING\n\n")
    assert kept.endswith(b'event: ping\ndata: {"type": "ping"}\n\n')


def test_arguments_that_come_with_the_start_of_a_call_are_not_lost() -> None:
    start = {"type": "content_block_start", "index": 0}
    start |= {"content_block": {"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Rome"}}}
    out = run(to_chat(), anthropic_events(MESSAGE_START, start, {"type": "content_block_stop", "index": 0}))
    assert b'{\\"city\\":\\"Rome\\"}' in out
