"""docs/translation.md says what is dropped and what is refused; here it is held to that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.sidecar.core.calls import chat, claude, messages
from tests.sidecar.core.translation.spoken import gpt_4o, interpreted, refused

TEXT = (Path(__file__).parents[4] / "docs" / "translation.md").read_text()
DROPPED_OF_MESSAGES, DROPPED_OF_CHAT = (
    re.findall(r"`([a-z_]+)`", row) for row in re.findall(r"^\| dropped \| (.*) \|$", TEXT, re.MULTILINE)
)
REFUSED_OF_MESSAGES, REFUSED_OF_CHAT = (
    re.findall(r"`([a-z_]+)`", row) for row in re.findall(r"^\| refused \| (.*) \|$", TEXT, re.MULTILINE)
)
OF_TOOLS = ("defer_loading", "eager_input_streaming", "input_examples", "allowed_callers")
OF_BLOCKS = ("citations",)
ELSEWHERE = ("search_result", "container_upload", "name", "detail", "response_format", "file_id", "n")
"""Blocks, fields deep in messages, and fields with some values that are mapped: each has a test of its own."""


@pytest.mark.parametrize("field", DROPPED_OF_MESSAGES)
def test_a_field_of_messages_is_dropped_as_documented(field: str) -> None:
    if field in OF_TOOLS:
        fields: dict[str, object] = {"tools": [{"name": "a", "input_schema": {}, field: 1}]}
        path = f"tools.{field}"
    elif field in OF_BLOCKS:
        fields = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", field: []}]}]}
        path = f"messages.content.{field}"
    else:
        fields, path = {field: 1}, field
    assert interpreted(messages(**fields), gpt_4o()).dropped == (path,)


@pytest.mark.parametrize("field", [field for field in DROPPED_OF_CHAT if field not in ELSEWHERE])
def test_a_field_of_chat_completions_is_dropped_as_documented(field: str) -> None:
    assert interpreted(chat(max_tokens=9, **{field: 1}), claude()).dropped == (field,)


@pytest.mark.parametrize("field", [field for field in REFUSED_OF_MESSAGES if field not in ELSEWHERE])
def test_a_field_of_messages_is_refused_as_documented(field: str) -> None:
    assert refused(messages(**{field: "something"}), gpt_4o()).field == field


@pytest.mark.parametrize("field", [field for field in REFUSED_OF_CHAT if field not in ELSEWHERE])
def test_a_field_of_chat_completions_is_refused_as_documented(field: str) -> None:
    assert refused(chat(max_tokens=9, **{field: "something"}), claude()).field == field


def test_the_rows_are_read() -> None:
    rows = DROPPED_OF_MESSAGES, DROPPED_OF_CHAT, REFUSED_OF_MESSAGES, REFUSED_OF_CHAT
    assert [len(row) > 4 for row in rows] == [True, True, True, True]
