"""A conversation as a summarizer reads it."""

from __future__ import annotations

import pytest

from keelage_sidecar.core.transcript import TEXT_MAX, transcript


def text(said: str) -> dict[str, object]:
    return {"type": "text", "text": said}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"role": "user", "content": "hi"}, "user: hi\n"),
        ({"role": "user", "content": [text("a"), text("b")]}, "user: a\nuser: b\n"),
        ({"role": "user", "content": [{"type": "image", "source": {"data": "AAAA"}}]}, "user: (image)\n"),
        (
            {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "lorem"}}]},
            "user: lorem\n",
        ),
        (
            {"role": "user", "content": [{"type": "document", "source": {"type": "base64", "data": "AAAA"}}]},
            "user: (document)\n",
        ),
        ({"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}, ""),
        (
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}}]},
            'assistant: calls look with {"at":1}\n',
        ),
        (
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": [text("4"), text("5")]}],
            },
            "tool: 4 5\n",
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "t", "function": {"name": "look", "arguments": "{}"}}],
            },
            "assistant: calls look with {}\n",
        ),
        ({"role": "tool", "tool_call_id": "t", "content": "4"}, "tool: 4\n"),
        (
            {"type": "function_call", "call_id": "t", "name": "look", "arguments": "{}"},
            "assistant: calls look with {}\n",
        ),
        ({"type": "function_call_output", "call_id": "t", "output": "4"}, "tool: 4\n"),
        ({"role": "user", "content": [{"type": "input_text", "text": "hi"}]}, "user: hi\n"),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, "assistant: no\n"),
        ({"type": "reasoning", "summary": []}, ""),
        (
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": ["look"], "input": {}}]},
            "assistant: calls something with {}\n",
        ),
        ("no message", ""),
        ({"role": "user"}, ""),
    ],
)
def test_each_message_is_told_by_who_said_what(message: object, told: str) -> None:
    assert transcript([message]) == told


def test_long_texts_are_cut() -> None:
    assert transcript([{"role": "user", "content": "x" * TEXT_MAX}]) == f"user: {'x' * TEXT_MAX}\n"
    assert transcript([{"role": "user", "content": "x" * (TEXT_MAX + 1)}]) == f"user: {'x' * TEXT_MAX} (cut)\n"


def test_arguments_that_are_nested_too_deep_to_be_written_are_named() -> None:
    given: object = 1
    for _ in range(900):
        given = [given]
    call = {"type": "tool_use", "id": "t", "name": "look", "input": given}
    assert transcript([{"role": "assistant", "content": [call]}]) == "assistant: calls look with (much)\n"


def test_what_is_nested_without_end_is_not_followed_to_it() -> None:
    content: object = text("deep")
    for _ in range(900):
        content = [content]
    assert transcript([{"role": "tool", "content": content}]) == "tool: \n"
