"""Where breakpoints go, and that nothing but them changes."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sidecar.core.calls import HAIKU, chat, claude, facts_of, is_a, messages

from keelage_api.pricing import ModelPrice, Rates
from keelage_sidecar.core.bound import Bound, bound_of
from keelage_sidecar.core.endpoints import COUNT_TOKENS, MESSAGES
from keelage_sidecar.core.prompt_cache import Extent, extent_of, least_tokens, with_breakpoints
from keelage_sidecar.core.request import Facts

SHORT = {"type": "ephemeral"}
LONG = {"type": "ephemeral", "ttl": "1h"}
OPUS = "claude-opus-5"
"""Caches prompts of 512 tokens, here 2,560 bytes."""
TOOL = {"name": "look", "description": "x" * 3000, "input_schema": {"type": "object"}}
SYSTEM = "Be brief. " * 300
QUESTION = {"role": "user", "content": "why?"}
ANSWER = {"role": "assistant", "content": "because"}
DOCUMENT: dict[str, object] = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "lorem " * 1000},
}


def text(said: str, **more: object) -> dict[str, object]:
    return {"type": "text", "text": said, **more}


def marked(facts: Facts, extent: Extent = Extent.TURNS, *, long: bool = False) -> dict[str, object]:
    """The body with breakpoints; as it was if there are none."""
    sent = with_breakpoints(facts, OPUS, extent, long)
    return is_a(dict, orjson.loads((sent or facts).body))


def test_tools_and_system_get_one_each_at_their_ends() -> None:
    body = marked(messages(tools=[TOOL, {**TOOL, "name": "see"}], system=SYSTEM))
    assert body["tools"] == [TOOL, {**TOOL, "name": "see", "cache_control": SHORT}]
    assert body["system"] == [text(SYSTEM, cache_control=SHORT)]
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_system_prompt_in_blocks_is_marked_at_its_last_one() -> None:
    body = marked(messages(system=[text(SYSTEM), text("And kind.")]), long=True)
    assert body["system"] == [text(SYSTEM), text("And kind.", cache_control=LONG)]


def test_documents_before_the_question_are_marked_at_the_last_one() -> None:
    content: list[dict[str, object]] = [DOCUMENT, text("lorem " * 1000), text("short"), text("what does it say?")]
    body = marked(messages(messages=[{"role": "user", "content": content}]))
    content[1] = {**content[1], "cache_control": SHORT}
    assert body["messages"] == [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (QUESTION, {"role": "user", "content": [text("why?", cache_control=SHORT)]}),
        (
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "4"}]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "a", "content": "4", "cache_control": SHORT}],
            },
        ),
        (
            {"role": "user", "content": [text("a"), text("b")]},
            {"role": "user", "content": [text("a"), text("b", cache_control=SHORT)]},
        ),
        # nothing that may be marked
        ({"role": "user", "content": "  "}, {"role": "user", "content": "  "}),
        ({"role": "user", "content": [text("")]}, {"role": "user", "content": [text("")]}),
        ({"role": "user", "content": []}, {"role": "user", "content": []}),
        ({"role": "user", "content": [text("a"), {"type": "new"}]}, None),
        (ANSWER, ANSWER),
    ],
)
def test_a_conversation_is_marked_at_its_newest_turn(last: dict[str, object], told: dict[str, object] | None) -> None:
    turns = [{"role": "user", "content": SYSTEM}, ANSWER, last]
    assert marked(messages(messages=turns))["messages"] == [*turns[:2], told or last]
    assert marked(messages(messages=turns), Extent.FIXED)["messages"] == turns


def test_four_are_set_at_most_whatever_there_is() -> None:
    first = {"role": "user", "content": [DOCUMENT, DOCUMENT, text("so?")]}
    body = marked(messages(tools=[TOOL, TOOL], system=[text(SYSTEM), text(SYSTEM)], messages=[first, ANSWER, first]))
    assert orjson.dumps(body).count(b"cache_control") == 4


def test_what_the_model_would_not_cache_is_not_marked() -> None:
    system = "x" * 2000
    assert with_breakpoints(messages(system=system), OPUS, Extent.TURNS, long=False) is None
    body = marked(messages(system=system, tools=[{**TOOL, "description": "y" * 1000}]))
    assert body["tools"] == [{**TOOL, "description": "y" * 1000}]
    assert body["system"] == [text(system, cache_control=SHORT)]


def test_a_tool_that_is_loaded_later_is_not_marked() -> None:
    deferred = {**TOOL, "defer_loading": True}
    body = marked(messages(tools=[TOOL, deferred], system=SYSTEM))
    assert body["tools"] == [TOOL, deferred]
    assert body["system"] == [text(SYSTEM, cache_control=SHORT)]


def test_what_is_nested_too_deep_for_the_decoder_is_left_as_it_is() -> None:
    deep = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a"}],"system":"%b","tools":[{"name":"t",'
    body = deep % (b"x" * 3000) + b'"input_schema":' + b'{"a":' * 1010 + b"1" + b"}" * 1010 + b"}]}"
    sent = with_breakpoints(facts_of(MESSAGES, body), OPUS, Extent.TURNS, long=False)
    assert sent is None or without_marks(sent.body, INSERTED[1]) == body


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-opus-5-5", 512),
        ("claude-sonnet-5-5", 512),
        ("claude-sonnet-5", 1024),
        ("claude-sonnet-4-5-20250929", 1024),
        ("claude-opus-4-7", 2048),
        ("claude-haiku-4-5", 4096),
        ("claude-of-tomorrow", 4096),
    ],
)
def test_the_shortest_cached_prompt_depends_on_the_model(model: str, tokens: int) -> None:
    assert least_tokens(model) == tokens


LONG_SYSTEM = "x" * 30_000


def test_how_far_breakpoints_may_go_is_said_by_the_call() -> None:
    assert extent_of(messages(system=LONG_SYSTEM), claude()) is Extent.FIXED
    assert extent_of(messages(system=LONG_SYSTEM, messages=[QUESTION, ANSWER, QUESTION]), claude()) is Extent.TURNS


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(messages(system="short"), id="short"),
        pytest.param(messages(system=LONG_SYSTEM, cache_control=SHORT), id="own, at the top"),
        pytest.param(messages(system=LONG_SYSTEM, tools=[{**TOOL, "cache_control": SHORT}]), id="own, at a tool"),
        pytest.param(messages(system=[text(LONG_SYSTEM, cache_control=LONG)]), id="own, in the system prompt"),
        pytest.param(chat(messages=[{"role": "system", "content": LONG_SYSTEM}, QUESTION]), id="another API"),
        pytest.param(
            facts_of(COUNT_TOKENS, {"model": "m", "system": LONG_SYSTEM, "messages": [QUESTION]}), id="not billed"
        ),
    ],
)
def test_no_breakpoints_are_set_where_the_application_has_some_or_none_would_do(facts: Facts) -> None:
    assert extent_of(facts, claude()) is None


@pytest.mark.parametrize("read", [0, 1_000_000])
def test_no_breakpoints_are_set_where_reading_a_cache_is_no_cheaper_or_has_no_price(read: int) -> None:
    price = ModelPrice((Rates(0, 1_000_000, read, 1_250_000, 2_000_000, 5_000_000),))
    assert extent_of(messages(system=LONG_SYSTEM), replace(claude(), price=price)) is None
    assert extent_of(messages(system=LONG_SYSTEM), replace(claude(), price=None, dearest=None)) is None
    assert extent_of(messages(system=LONG_SYSTEM), replace(claude(), price=None)) is Extent.FIXED


@pytest.mark.parametrize(("long", "rate"), [(False, 1_250_000), (True, 2_000_000)])
def test_the_bound_takes_all_input_for_written(long: bool, rate: int) -> None:
    plain = messages(system=LONG_SYSTEM, inference_geo="global")
    sent = is_a(Facts, with_breakpoints(plain, "claude-haiku-4-5", Extent.FIXED, long))
    before, bound = is_a(Bound, bound_of(plain, claude(), 0)), is_a(Bound, bound_of(sent, claude(), 0))
    assert bound.input_tokens == before.input_tokens
    assert bound.amount == before.amount + before.input_tokens * (rate - HAIKU.tiers[0].input)
    assert not plain.weight.cached


BLOCK = st.one_of(
    # Its names are in another order than those that are put around a string, so that the two can be told apart.
    st.builds(
        lambda said: {"text": said, "type": "text"},
        st.sampled_from(["", " ", "why?", 'a "quoted": {text}', "x" * 5000]),
    ),
    st.just(DOCUMENT),
    st.builds(lambda said: {"type": "tool_result", "tool_use_id": "t", "content": said}, st.sampled_from(["", "4"])),
    st.just({"type": "thinking", "thinking": "x" * 5000, "signature": "s"}),
    st.just({"type": "image", "source": {"type": "url", "url": "https://x"}}),
)
CONTENT = st.sampled_from(["", "why?", 'a "quoted": {text}', "é" * 3000]) | st.lists(BLOCK, max_size=4)
MESSAGE = st.builds(
    lambda role, content: {"role": role, "content": content}, st.sampled_from(["user", "assistant", "system"]), CONTENT
)
BODIES = st.fixed_dictionaries(
    {"model": st.just("m"), "max_tokens": st.just(1), "messages": st.lists(MESSAGE, max_size=6)},
    optional={
        "system": st.sampled_from(["", SYSTEM]) | st.lists(BLOCK, max_size=3),
        "tools": st.lists(st.sampled_from([TOOL, {**TOOL, "defer_loading": True}, {"type": "web_search"}]), max_size=3),
        "metadata": st.just({"user_id": "cache_control"}),
    },
)
INSERTED = (
    b',"cache_control":{"type":"ephemeral","ttl":"1h"}',
    b',"cache_control":{"type":"ephemeral"}',
)


@given(BODIES, st.booleans(), st.booleans(), st.sampled_from(Extent))
def test_taking_the_inserted_bytes_out_gives_the_applications_bytes(
    body: dict[str, object], spread: bool, long: bool, extent: Extent
) -> None:
    facts = facts_of(MESSAGES, orjson.dumps(body, option=orjson.OPT_INDENT_2 if spread else None))
    sent = with_breakpoints(facts, OPUS, extent, long)
    if sent is None:
        return
    assert 1 <= sent.body.count(INSERTED[not long]) <= 4
    assert without_marks(sent.body, INSERTED[not long]) == facts.body


def without_marks(body: bytes, mark: bytes) -> bytes:
    """The body before: each mark out, and a string that was made a block for it a string again."""
    shorthand = b'[{"type":"text","text":"'
    while (at := body.find(mark)) >= 0:
        end = at + len(mark)
        start = body.rfind(shorthand, 0, at)
        if start >= 0 and body[end : end + 2] == b"}]" and _is_string(body[start + len(shorthand) - 1 : at]):
            body = body[:start] + body[start + len(shorthand) - 1 : at] + body[end + 2 :]
        else:
            body = body[:at] + body[end:]
    return body


def _is_string(raw: bytes) -> bool:
    try:
        return isinstance(orjson.loads(raw), str)
    except orjson.JSONDecodeError:
        return False


@given(BODIES, st.sampled_from(Extent))
def test_what_is_sent_means_what_the_application_said(body: dict[str, object], extent: Extent) -> None:
    facts = facts_of(MESSAGES, body)
    sent = with_breakpoints(facts, OPUS, extent, long=False)
    if sent is not None:
        assert plain(orjson.loads(sent.body)) == plain(body)


def plain(value: object) -> object:
    """Without breakpoints, and with every text as the block that it stands for."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    told: dict[str, object] = {name: plain(each) for name, each in value.items() if name != "cache_control"}
    for name in ("system", "content"):
        if isinstance(said := told.get(name), str):
            told[name] = [text(said)]
    return told
