"""What is sent of a conversation: whole turns, the newest ones, and no byte of them changed."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import chat, embeddings, facts_of, is_a, messages, responses

from keelage_sidecar.core.endpoints import CHAT, MESSAGES, RESPONSES, Endpoint
from keelage_sidecar.core.history import Conversation, conversation
from keelage_sidecar.core.prompt_cache import Extent, with_breakpoints
from keelage_sidecar.core.prompt_cache_key import key_for
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.weight import weigh

Message = dict[str, object]


def user(said: object) -> Message:
    return {"role": "user", "content": said}


def assistant(said: object) -> Message:
    return {"role": "assistant", "content": said}


def system(said: str, role: str = "system") -> Message:
    return {"role": role, "content": said}


def tool_use(number: object) -> Message:
    return assistant([{"type": "tool_use", "id": f"t{number}", "name": "look", "input": {"at": 1}}])


def tool_result(number: object) -> Message:
    return user([{"type": "tool_result", "tool_use_id": f"t{number}", "content": "4"}])


def tool_call(number: object) -> Message:
    call = {"id": f"t{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def tool_message(number: object) -> Message:
    return {"role": "tool", "tool_call_id": f"t{number}", "content": "4"}


def item_call(number: object) -> Message:
    return {"type": "function_call", "call_id": f"t{number}", "name": "look", "arguments": "{}"}


def item_output(number: object) -> Message:
    return {"type": "function_call_output", "call_id": f"t{number}", "output": "4"}


def cut(facts: Facts, keep: int, summary: str = "") -> Facts:
    """The call without all that may be cut; as it was if nothing may."""
    talk = conversation(facts, keep)
    return facts if talk is None else talk.without(len(talk.cuttable), summary)


def sent(facts: Facts, keep: int, summary: str = "") -> object:
    body = is_a(dict, orjson.loads(cut(facts, keep, summary).body))
    return body["input"] if facts.endpoint is RESPONSES else body["messages"]


A, B, C = user("a"), user("b"), user("c")
OK = assistant("ok")


@pytest.mark.parametrize(
    ("said", "keep", "left"),
    [
        ([A, OK, B, OK, C], 1, [C]),
        ([A, OK, B, OK, C], 2, [B, OK, C]),
        ([A, OK, B, OK, C], 3, [A, OK, B, OK, C]),
        # a call of a tool and its result are part of the turn that they are made in
        ([A, OK, B, tool_use(1), tool_result(1)], 1, [B, tool_use(1), tool_result(1)]),
        ([A, tool_use(1), tool_result(1), OK, B], 1, [B]),
        (
            [A, tool_use(1), user([*is_a(list, tool_result(1)["content"]), {"type": "text", "text": "x"}]), OK, B],
            1,
            [B],
        ),
        # a turn with instructions in it stays
        ([A, OK, B, system("be kind"), OK, C], 1, [B, system("be kind"), OK, C]),
        ([OK, A, OK, B], 1, [B]),
        ([user([{"type": "text", "text": "a"}]), OK, B], 1, [B]),
    ],
)
def test_the_newest_turns_of_a_messages_call_are_kept(said: list[Message], keep: int, left: list[Message]) -> None:
    assert sent(messages(messages=said, system="s"), keep) == left


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ([system("s"), system("d", "developer"), A, OK, B], [system("s"), system("d", "developer"), B]),
        ([system("s"), OK, A, OK, B], [system("s"), B]),
        ([A, tool_call(1), tool_message(1), OK, B, tool_call(2), tool_message(2)], [B, tool_call(2), tool_message(2)]),
        ([A, OK, system("late"), B, OK, C], [A, OK, system("late"), C]),
    ],
)
def test_the_newest_turn_of_a_chat_and_its_instructions_are_kept(said: list[Message], left: list[Message]) -> None:
    assert sent(chat(messages=said), 1) == left


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ([A, item_call(1), item_output(1), OK, B], [B]),
        ([A, item_call(1), B, item_output(1)], [A, item_call(1), B, item_output(1)]),
        (
            [A, item_call(1), B, item_call(2), item_output(1), C, item_output(2)],
            [A, item_call(1), B, item_call(2), item_output(1), C, item_output(2)],
        ),
        ([A, OK, B, item_call(2), C, item_output(2)], [B, item_call(2), C, item_output(2)]),
    ],
)
def test_a_call_stays_as_long_as_its_result_is_sent(said: list[Message], left: list[Message]) -> None:
    assert sent(responses(input=said), 1) == left


@pytest.mark.parametrize(
    "facts",
    [
        messages(messages=[A]),
        messages(messages=[tool_result(1), tool_result(2), tool_result(3)]),
        messages(messages="hello"),
        messages(messages=[B, system("x"), OK, A]),
        responses(input='a "user" and another "user"'),
        embeddings(["a", "b"]),
    ],
)
def test_where_there_is_no_turn_to_cut_the_call_is_left_alone(facts: Facts) -> None:
    assert conversation(facts, 1) is None


def test_a_summary_comes_after_the_instructions_as_a_users_message() -> None:
    said = sent(chat(messages=[system("s"), A, OK, B]), 1, summary="They said a.")
    told = user("This is a summary of the conversation so far:\n\nThey said a.")
    assert said == [system("s"), told, B]


def test_some_of_the_older_turns_may_be_cut_and_others_not() -> None:
    talk = is_a(Conversation, conversation(messages(messages=[A, OK, B, OK, C]), 1))
    assert orjson.loads(talk.without(1).body)["messages"] == [B, OK, C]
    assert orjson.loads(talk.without(0).body)["messages"] == [A, OK, B, OK, C]


def test_what_is_kept_is_sent_byte_for_byte() -> None:
    body = (
        b' {"model":"m" ,"max_tokens":1,\n"messages":[ {"role":"user","content":"a"} , {"role":"assistant","content":'
        b'"\\u00e9"},\t{ "content" : "\\u00e9 1.50" , "role":"user" } ] ,"x":1.50}'
    )
    assert cut(facts_of(MESSAGES, body), 1).body == (
        b' {"model":"m" ,"max_tokens":1,\n"messages":[{ "content" : "\\u00e9 1.50" , "role":"user" }] ,"x":1.50}'
    )


def test_words_have_one_digest_however_they_are_written() -> None:
    marked = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    one = is_a(Conversation, conversation(messages(messages=[A, OK, B, OK, C]), 1)).digests()
    other = is_a(Conversation, conversation(messages(messages=[user([marked]), OK, B, OK, C]), 1)).digests()
    assert one == other
    assert len(set(one)) == 2
    assert is_a(Conversation, conversation(messages(messages=[B, OK, B, OK, C]), 1)).digests() != one


TURN = st.sampled_from(["", "a", 'a "user" said', "é" * 10])
STEPS = {
    MESSAGES: st.lists(st.just((tool_use, tool_result)) | st.just((lambda _: OK,)), max_size=2),
    CHAT: st.lists(st.just((tool_call, tool_message)) | st.just((lambda _: OK,)), max_size=2),
    RESPONSES: st.lists(st.just((item_call, item_output)) | st.just((lambda _: OK,)), max_size=2),
}


@st.composite
def talks(draw: st.DrawFn) -> tuple[Endpoint, list[Message]]:
    """A conversation as an SDK's loop builds it."""
    endpoint = draw(st.sampled_from([MESSAGES, CHAT, RESPONSES]))
    said: list[Message] = [system("s")] if endpoint is not MESSAGES and draw(st.booleans()) else []
    for number in range(draw(st.integers(1, 6))):
        said.append(user(draw(TURN)))
        for at, step in enumerate(draw(STEPS[endpoint])):
            said += [each(f"{number}.{at}") for each in step]
    return endpoint, said


def ids(said: list[Message], *names: str) -> set[str]:
    """Values of these keys at any depth."""
    found: set[str] = set()
    stack: list[object] = [*said]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            found |= {is_a(str, item[name]) for name in names if name in item}
            stack += item.values()
        elif isinstance(item, list):
            stack += item
    return found


@given(talks(), st.integers(1, 4), st.booleans(), st.sampled_from(["", "They talked."]))
def test_what_is_sent_is_a_conversation_that_its_api_takes(
    talk: tuple[Endpoint, list[Message]], keep: int, spread: bool, summary: str
) -> None:
    endpoint, said = talk
    name = "input" if endpoint is RESPONSES else "messages"
    body = orjson.dumps({"model": "m", "max_tokens": 1, name: said}, option=orjson.OPT_INDENT_2 if spread else None)
    facts = facts_of(endpoint, body)
    short = cut(facts, keep, summary)
    left = is_a(list, orjson.loads(short.body)[name])
    turns = sum(message.get("role") == "user" and message not in RESULTS for message in said)
    lead = [message for message in said if message.get("role") == "system"]
    assert left[: len(lead)] == lead
    assert left[len(lead)]["role"] == "user"
    assert left[-1] == said[-1]
    assert ids(left, "tool_use_id", "tool_call_id") == ids(
        [m for m in left if m.get("role") != "tool"], "id", "tool_use_id"
    )
    outputs = [each["call_id"] for each in left if each.get("type") == "function_call_output"]
    assert outputs == [each["call_id"] for each in left if each.get("type") == "function_call"]
    begun = [m for m in left if m.get("role") == "user" and m not in RESULTS]
    assert len(begun) == min(keep + bool(summary and turns > keep), turns + bool(summary and turns > keep))
    assert short.weight.tokens == weigh(endpoint.kind, orjson.loads(short.body)).tokens <= facts.weight.tokens + 200


NAMES = st.sampled_from(["role", "content", "type", "text", "cache_control", "call_id", "name", "input", "output"])
WORDS = st.sampled_from(
    ["user", "assistant", "system", "text", "tool_result", "document", "function_call", "x" * 3000, ""]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | WORDS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=10,
)
SAID = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": ANYTHING})
BODIES = st.fixed_dictionaries(
    {"messages": ANYTHING | st.lists(SAID, max_size=8)},
    optional={"system": ANYTHING, "tools": ANYTHING, "input": ANYTHING, "instructions": ANYTHING},
)


@given(st.sampled_from([MESSAGES, CHAT, RESPONSES]), BODIES, st.integers(1, 2))
def test_whatever_a_body_holds_what_is_made_of_it_is_a_body(
    endpoint: Endpoint, fields: dict[str, object], keep: int
) -> None:
    """Shortened, marked and keyed: what a provider would refuse is its business."""
    facts = facts_of(endpoint, orjson.dumps({"model": "m", "max_tokens": 1, **fields}))
    talk = conversation(facts, keep)
    if talk is not None:
        talk.digests()
        facts_of(endpoint, talk.without(len(talk.cuttable), "short").body)
    key_for(facts, "r/all")
    marked = with_breakpoints(facts, "claude-opus-5", Extent.TURNS, long=True) if endpoint is MESSAGES else None
    if marked is not None:
        facts_of(endpoint, marked.body)


RESULTS = [tool_result(f"{number}.{at}") for number in range(6) for at in range(2)]
