"""Which answers will do, and how soon that is known."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keelage_api.proxy_config import Cascade
from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.judge import HELD_BYTES_MAX, Cause, Conditions, Verdict
from keelage_sidecar.core.reply import reply_of

PREFIX = Cascade("fast", "deep", prefix="UNCERTAIN")
CAPS = Cascade("fast", "deep", max_tokens=True)
JSON = Cascade("fast", "deep", invalid_json=True)
SCHEMA = Cascade("fast", "deep", json_schema={"required": ["answer"]})
SURE = Cascade("fast", "deep", pattern="(?i)not sure", pattern_chars=20)

CALL = object()
"""In a list of texts: a tool is called."""


def sse(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps(data).encode())


def message_stream(parts: Sequence[object], stop: str) -> list[bytes]:
    events = [sse("message_start", {"type": "message_start", "message": {}})]
    for index, part in enumerate(parts):
        text = part is not CALL
        block = {"type": "text", "text": ""} if text else {"type": "tool_use", "id": "t", "name": "f", "input": {}}
        delta = {"type": "text_delta", "text": part} if text else {"type": "input_json_delta", "partial_json": "{}"}
        events += [
            sse("content_block_start", {"index": index, "content_block": block}),
            sse("content_block_delta", {"index": index, "delta": delta}),
            sse("content_block_stop", {"index": index}),
        ]
    return [*events, sse("message_delta", {"delta": {"stop_reason": stop}}), sse("message_stop", {})]


def chat_stream(parts: Sequence[object], stop: str) -> list[bytes]:
    deltas = [{"tool_calls": [{"index": 0}]} if part is CALL else {"content": part} for part in parts]
    choices: list[object] = [{"index": 1, "delta": {"content": "UNCERTAIN"}}]
    choices += [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": {"max_tokens": "length", "end_turn": "stop"}[stop]})
    return [*(b"data: %b\n\n" % json.dumps({"choices": [each]}).encode() for each in choices), b"data: [DONE]\n\n"]


def message(parts: Sequence[object], stop: str) -> list[bytes]:
    blocks = [{"type": "tool_use"} if part is CALL else {"type": "text", "text": part} for part in parts]
    return [json.dumps({"content": blocks, "stop_reason": stop}).encode()]


def completion(parts: Sequence[object], stop: str) -> list[bytes]:
    said = "".join(part for part in parts if isinstance(part, str))
    reply: dict[str, object] = {"role": "assistant", "content": said}
    if CALL in parts:
        reply["tool_calls"] = [{"id": "c"}]
    reason = {"max_tokens": "length", "end_turn": "stop"}[stop]
    return [json.dumps({"choices": [{"index": 0, "message": reply, "finish_reason": reason}]}).encode()]


def items(parts: Sequence[object]) -> list[dict[str, object]]:
    """Of a Response, after one of a search that the provider ran."""
    found: list[dict[str, object]] = [{"type": "reasoning", "summary": []}, {"type": "web_search_call", "id": "ws"}]
    for part in parts:
        if part is CALL:
            found.append({"type": "function_call", "call_id": "c"})
        else:
            found.append({"type": "message", "content": [{"type": "output_text", "text": part}]})
    return found


def ended(parts: Sequence[object], stop: str) -> dict[str, object]:
    if stop == "end_turn":
        return {"status": "completed", "output": items(parts), "incomplete_details": None}
    return {"status": "incomplete", "output": items(parts), "incomplete_details": {"reason": "max_output_tokens"}}


def response(parts: Sequence[object], stop: str) -> list[bytes]:
    return [json.dumps({"object": "response", **ended(parts, stop)}).encode()]


def response_stream(parts: Sequence[object], stop: str) -> list[bytes]:
    def event(kind: str, **members: object) -> bytes:
        return sse(f"response.{kind}", {"type": f"response.{kind}", **members})

    events = [event("created", response={"status": "in_progress", "output": []})]
    for index, item in enumerate(items(parts)):
        events.append(event("output_item.added", output_index=index, item={**item, "content": []}))
        for said in item.get("content", ()):  # type: ignore[attr-defined]
            events.append(event("output_text.delta", output_index=index, delta=said["text"]))
            events.append(event("output_text.done", output_index=index, text=said["text"]))
        events.append(event("output_item.done", output_index=index, item=item))
    last = ended(parts, stop)
    return [*events, event(str(last["status"]), response=last)]


FORMS = [
    (message_stream, Kind.MESSAGES, True),
    (chat_stream, Kind.CHAT, True),
    (response_stream, Kind.RESPONSES, True),
    (message, Kind.MESSAGES, False),
    (completion, Kind.CHAT, False),
    (response, Kind.RESPONSES, False),
]


def judged(terms: Cascade, pieces: Sequence[bytes], kind: Kind, streaming: bool) -> tuple[Verdict, Cause | None]:
    judge = Conditions(terms).judge(reply_of(kind, streaming=streaming))
    for piece in pieces:
        verdict = judge.feed(piece)
        if verdict is not Verdict.OPEN:
            return verdict, judge.cause
    return judge.end(), judge.cause


@pytest.mark.parametrize("form", range(len(FORMS)))
@pytest.mark.parametrize(
    ("terms", "parts", "stop", "cause"),
    [
        (PREFIX, ["UNCERTAIN"], "end_turn", Cause.REPLY_PREFIX),
        (PREFIX, ["\n UNCERTAIN: I do not know"], "end_turn", Cause.REPLY_PREFIX),
        (PREFIX, ["UNCERT", "AIN"], "end_turn", Cause.REPLY_PREFIX),
        (PREFIX, ["It is UNCERTAIN"], "end_turn", None),
        (PREFIX, ["UNCERTAI"], "end_turn", None),
        (PREFIX, [], "end_turn", None),
        (PREFIX, [CALL], "end_turn", None),
        (PREFIX, ["UNCERTAIN", CALL], "end_turn", Cause.REPLY_PREFIX),
        (SURE, ["I am Not Sure."], "end_turn", Cause.PATTERN),
        (SURE, ["0123456789012345 not sure"], "end_turn", None),
        (SURE, ["012345678901not sure"], "end_turn", Cause.PATTERN),
        (CAPS, ["It is"], "max_tokens", Cause.MAX_TOKENS),
        (CAPS, ["It is"], "end_turn", None),
        (CAPS, [CALL], "max_tokens", Cause.MAX_TOKENS),
        (JSON, ['{"a": ', "1}"], "end_turn", None),
        (JSON, ["Sure! {}"], "end_turn", Cause.INVALID_JSON),
        (JSON, ['{"a": '], "max_tokens", Cause.INVALID_JSON),
        (JSON, [], "end_turn", Cause.INVALID_JSON),
        (JSON, ["I call", CALL], "end_turn", None),
        (SCHEMA, ['{"answer": 1}'], "end_turn", None),
        (SCHEMA, ['{"reply": 1}'], "end_turn", Cause.JSON_SCHEMA),
        (SCHEMA, ["{"], "end_turn", Cause.INVALID_JSON),
    ],
)
def test_an_answer_is_judged_alike_in_every_form(
    form: int, terms: Cascade, parts: list[object], stop: str, cause: Cause | None
) -> None:
    make, kind, streaming = FORMS[form]
    verdict = Verdict.KEEP if cause is None else Verdict.ESCALATE
    assert judged(terms, make(parts, stop), kind, streaming) == (verdict, cause)


TEXTS = st.lists(st.one_of(st.just(CALL), st.text("UNCERTAI {}\n", max_size=12)), max_size=4)
TERMS = st.builds(
    Cascade,
    cheap=st.just("fast"),
    to=st.just("deep"),
    prefix=st.sampled_from(["", "UNCERTAIN", "U"]),
    pattern=st.sampled_from(["", "^[{]", "AI$", "N+"]),
    pattern_chars=st.integers(1, 12),
    max_tokens=st.booleans(),
    invalid_json=st.booleans(),
)


@given(
    TERMS,
    TEXTS,
    st.sampled_from(["end_turn", "max_tokens"]),
    st.integers(0, len(FORMS) - 1),
    st.lists(st.integers(0, 900)),
)
@example(CAPS, ["x"], "max_tokens", 0, [20])
def test_how_the_bytes_are_cut_changes_nothing(
    terms: Cascade, parts: list[object], stop: str, form: int, cuts: list[int]
) -> None:
    make, kind, streaming = FORMS[form]
    whole = b"".join(make(parts, stop))
    ends = sorted({min(cut, len(whole)) for cut in cuts} | {len(whole)})
    pieces = [whole[begin:end] for begin, end in zip([0, *ends], ends, strict=False) if begin < end]
    by_event = judged(terms, make(parts, stop), kind, streaming)
    assert judged(terms, [whole], kind, streaming)[0] is by_event[0]
    assert judged(terms, pieces, kind, streaming)[0] is by_event[0]


@pytest.mark.parametrize(
    ("terms", "said", "events"),
    [
        (PREFIX, ["P", "aris"], 3),  # message_start, the block's start, its first letter
        (PREFIX, ["  ", "UNSURE"], 6),
        (SURE, ["x" * 19, "y", "z"], 6),
        (CAPS, ["P", "aris"], 9),
    ],
)
def test_a_stream_is_held_back_no_longer_than_needed(terms: Cascade, said: list[object], events: int) -> None:
    judge = Conditions(terms).judge(reply_of(Kind.MESSAGES, streaming=True))
    verdicts = [judge.feed(event) for event in message_stream(said, "end_turn")]
    assert verdicts.index(Verdict.KEEP) + 1 == events if Verdict.KEEP in verdicts else len(verdicts) == events


def test_a_call_of_a_tool_is_no_word_of_doubt_and_flows_at_once() -> None:
    judge = Conditions(PREFIX).judge(reply_of(Kind.MESSAGES, streaming=True))
    start, block, *_ = message_stream([CALL], "tool_use")
    assert (judge.feed(start), judge.feed(block)) == (Verdict.OPEN, Verdict.KEEP)


def test_thinking_is_held_back_with_the_text_that_it_precedes() -> None:
    judge = Conditions(PREFIX).judge(reply_of(Kind.MESSAGES, streaming=True))
    thought = sse("content_block_delta", {"delta": {"type": "thinking_delta", "thinking": "Hm. UNCERTAIN?"}})
    assert judge.feed(thought) is Verdict.OPEN


@pytest.mark.parametrize(
    ("kind", "streaming", "data"),
    [
        (Kind.MESSAGES, True, sse("error", {"error": {"type": "overloaded_error"}})),
        (Kind.CHAT, True, b"data: no\n\n"),
        (Kind.RESPONSES, True, b"data: no\n\n"),
        (Kind.RESPONSES, True, sse("error", {"type": "error", "code": "server_error"})),
        (Kind.RESPONSES, True, sse("response.failed", {"type": "response.failed", "response": {"status": "failed"}})),
        (Kind.MESSAGES, False, b"<html>"),
        (Kind.RESPONSES, False, b"<html>"),
        (Kind.RESPONSES, False, b'{"object":"response","status":"failed","output":[]}'),
        (Kind.RESPONSES, False, b'{"object":"response","status":"queued","output":[]}'),
        (Kind.CHAT, False, b""),
    ],
)
@pytest.mark.parametrize("terms", [PREFIX, CAPS, JSON])
def test_what_is_no_answer_is_passed_on(kind: Kind, streaming: bool, data: bytes, terms: Cascade) -> None:
    assert judged(terms, [data], kind, streaming) == (Verdict.KEEP, None)


def test_what_is_too_long_to_be_held_back_is_passed_on() -> None:
    judge = Conditions(CAPS).judge(reply_of(Kind.MESSAGES, streaming=True))
    event = sse("content_block_delta", {"delta": {"type": "text_delta", "text": "x" * 60_000}})
    fed = 0
    while judge.feed(event) is Verdict.OPEN:
        fed += len(event)
    assert HELD_BYTES_MAX - len(event) < fed <= HELD_BYTES_MAX
    assert judge.unjudged
