"""The text that conditions on a prompt look at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import chat, embeddings, facts_of, messages, responses

from keelage_api.selection import as_words
from keelage_sidecar.core.endpoints import ANTHROPIC_MODELS
from keelage_sidecar.core.prompt import TEXT_MAX, Prompt
from keelage_sidecar.core.request import Facts

PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "It rains."}


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def text(said: str) -> dict[str, object]:
    return {"type": "text", "text": said}


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (messages(system="Be brief.", messages=[user("Hi there")]), "Hi there"),
        (messages(messages=[user("old"), {"role": "assistant", "content": "said"}, user("new")]), "new"),
        (messages(messages=[user([text("one"), PICTURE, text("two"), text(" ")])]), "one\ntwo"),
        (messages(messages=[user("ask"), {"role": "assistant", "content": "x"}, user([RESULT])]), "ask"),
        (messages(messages=[user([RESULT, text("go on")])]), "go on"),
        (messages(messages=[user([PICTURE])]), ""),
        (messages(messages=[]), ""),
        (chat(messages=[{"role": "system", "content": "s"}, user("Q"), {"role": "tool", "content": "r"}]), "Q"),
        (chat(messages=[user([text("Q")])]), "Q"),
        (chat(messages=[user([{"type": ["text"], "text": "list"}, {"type": {}}, text("Q")])]), "Q"),
        (chat(messages=None), ""),
        (responses(input="plain"), "plain"),
        (responses(input=[{"role": "user", "content": [{"type": "input_text", "text": "item"}]}]), "item"),
        (responses(input=[user("ask"), {"type": "function_call_output", "output": "r"}]), "ask"),
        (responses(input=None), ""),
        (embeddings("one"), "one"),
        (embeddings(["one", "two"]), "one\ntwo"),
        (embeddings([1, 2]), ""),
        (facts_of(ANTHROPIC_MODELS, b""), ""),
    ],
)
def test_it_is_the_last_user_turn_that_has_text(facts: Facts, found: str) -> None:
    assert Prompt(facts).text == found


def test_a_huge_text_is_looked_at_up_to_a_limit() -> None:
    prompt = Prompt(messages(messages=[user("word " * TEXT_MAX)]))
    assert len(prompt.text) == TEXT_MAX
    assert prompt.words == TEXT_MAX // 5


def test_words_are_found_whole_and_in_any_case() -> None:
    folded = Prompt(messages(messages=[user("Draft a CONTRACT, für die Straße—now!")])).folded
    assert folded == " draft a contract für die strasse now "


@given(st.text(st.characters(max_codepoint=0x17F), max_size=40))
def test_plain_and_other_text_have_the_same_words(said: str) -> None:
    assert as_words(said).split() == as_words(f"{said} é").split()[:-1]


def test_the_likely_tokens_leave_pictures_data_and_the_frame_out() -> None:
    plain = messages(messages=[user("a" * 4000)]).weight.likely_tokens
    assert 1000 <= plain <= 1030
    pictured = messages(
        messages=[user([text("a" * 4000), {**PICTURE, "source": {"type": "base64", "data": "b" * 9000}}])]
    )
    assert 1600 <= pictured.weight.likely_tokens - plain <= 1640
