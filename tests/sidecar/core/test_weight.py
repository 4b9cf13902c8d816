"""Bytes of text bound its tokens; pictures and documents are counted apart."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.weight import text_tokens, text_total, weigh

PIXELS = "A" * 100_000


def user(*blocks: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_text_weighs_at_least_its_bytes_in_every_normal_form(text: str) -> None:
    for seen in (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFKC", text)):
        assert text_tokens(text) >= len(seen.encode())


def test_a_ligature_that_normalises_to_eleven_times_its_size_is_weighed_so() -> None:
    assert text_tokens("\ufdfa" * 50) == 50 * 33


def test_a_long_run_of_combining_marks_is_weighed_in_slices() -> None:
    marks = "\u0301\u0323" * 20_000
    assert text_tokens(marks) >= len(marks.encode())


def test_tools_bring_a_hidden_prompt() -> None:
    tool = {"name": "f", "input_schema": {}}
    one, two = (weigh(Kind.MESSAGES, {"tools": [tool] * n}).tokens for n in (1, 2))
    without = weigh(Kind.MESSAGES, {"tools": []}).tokens
    assert one - without >= 1024 + 64
    assert two - one >= 64


def test_base64_of_a_picture_is_not_text() -> None:
    anthropic = weigh(Kind.MESSAGES, user({"type": "image", "source": {"type": "base64", "data": PIXELS}}))
    openai = weigh(Kind.CHAT, user({"type": "image_url", "image_url": {"url": "data:image/png;base64," + PIXELS}}))
    for weight in (anthropic, openai):
        assert (weight.images, weight.tokens < 1000) == (1, True)


def test_a_picture_in_a_tool_result_is_a_picture() -> None:
    picture = {"type": "image", "source": {"type": "base64", "data": PIXELS}}
    weight = weigh(Kind.MESSAGES, user({"type": "tool_result", "tool_use_id": "t", "content": [picture]}))
    assert (weight.images, weight.tokens < 1000) == (1, True)


def test_what_looks_like_a_picture_inside_tool_input_is_text() -> None:
    block = {"type": "tool_use", "input": {"type": "image", "source": {"type": "base64", "data": PIXELS}}}
    weight = weigh(Kind.MESSAGES, user(block))
    assert (weight.images, weight.tokens > 100_000) == (0, True)


@pytest.mark.parametrize(
    ("kind", "block", "path"),
    [
        (Kind.MESSAGES, {"type": "document", "source": {"type": "base64", "data": PIXELS}}, "source"),
        (Kind.MESSAGES, {"type": "document", "source": {"type": "url", "url": "https://x"}}, "source"),
        (Kind.MESSAGES, {"type": "document", "source": {"type": "file", "file_id": "f"}}, "source"),
        (Kind.MESSAGES, {"type": "document"}, "source"),
        (Kind.MESSAGES, {"type": "document", "source": {"type": "bucket", "uri": "s3://x"}}, "source"),
        (Kind.CHAT, {"type": "file", "file": {"file_id": "f"}}, "file"),
        (Kind.CHAT, {"type": "file", "file": {"file_data": PIXELS}}, "file"),
    ],
)
def test_documents_whose_text_is_not_there_are_named(kind: Kind, block: object, path: str) -> None:
    weight = weigh(kind, user(block))
    assert weight.unread == f"messages[0].content[0].{path}"
    assert weight.tokens < 1000


def test_a_document_of_text_is_weighed() -> None:
    weight = weigh(Kind.MESSAGES, user({"type": "document", "source": {"type": "text", "data": "x" * 5000}}))
    assert (weight.unread, weight.tokens > 5000) == ("", True)


def test_a_document_of_blocks_is_weighed() -> None:
    block = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x" * 5000}]}}
    weight = weigh(Kind.MESSAGES, user(block))
    assert (weight.unread, weight.tokens > 5000) == ("", True)


@pytest.mark.parametrize(
    ("control", "cached", "long"),
    [
        ({}, False, False),
        ({"cache_control": None}, False, False),
        ({"cache_control": {"type": "ephemeral"}}, True, False),
        ({"cache_control": {"type": "ephemeral", "ttl": "5m"}}, True, False),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, True, True),
    ],
)
def test_cache_entries_are_noticed_wherever_they_are(control: dict[str, object], cached: bool, long: bool) -> None:
    bodies: list[dict[str, object]] = [
        user({"type": "text", "text": "x", **control}), {"tools": [{"name": "f", **control}]}, control,
    ]  # fmt: skip
    for body in bodies:
        weight = weigh(Kind.MESSAGES, body)
        assert (weight.cached, weight.cached_long) == (cached, long)


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        (Kind.MESSAGES, {"tools": [{"name": "f"}, {"type": "web_search_20250305"}]}, "tools[1].type"),
        (Kind.MESSAGES, {"tools": [{"type": "code_execution_20250825"}]}, "tools[0].type"),
        (Kind.MESSAGES, user({"type": "container_upload", "file_id": "f"}), "messages[0].content[0]"),
        (Kind.CHAT, {"tools": [{"type": "web_search"}]}, "tools[0].type"),
        (Kind.CHAT, {"tools": [{"type": "bash_20250124"}]}, "tools[0].type"),
        (Kind.CHAT, user({"type": "input_audio", "input_audio": {}}), "messages[0].content[0]"),
        (Kind.CHAT, {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        (Kind.CHAT, user({"type": "audio_url", "audio_url": {"url": "https://x"}}), "messages[0].content[0]"),
        (Kind.CHAT, user({"video_url": {"url": "https://x"}}), "messages[0].content[0]"),
    ],
)
def test_what_nothing_limits_is_named(kind: Kind, body: dict[str, object], field: str) -> None:
    unbounded = weigh(kind, body).unbounded
    assert unbounded is not None
    assert unbounded[0] == field


def test_tools_that_the_application_runs_have_a_bound() -> None:
    weight = weigh(Kind.MESSAGES, {"tools": [{"type": "memory_20250818"}, {"type": "computer_20251124"}]})
    assert (weight.unbounded, weight.tokens >= 4096 + 16384) == (None, True)


def test_token_arrays_weigh_at_least_their_tokens() -> None:
    assert weigh(Kind.EMBEDDINGS, {"input": [[1, 2, 3], [4] * 500]}).tokens >= 503


def test_any_nesting_is_weighed_without_recursion() -> None:
    nested: object = "x"
    for _ in range(5000):
        nested = [nested]
    assert weigh(Kind.MESSAGES, {"system": nested}).tokens > 0


def test_a_block_of_a_kind_yet_unknown_is_bounded_by_the_window_only() -> None:
    assert weigh(Kind.MESSAGES, user({"type": "video", "source": {"url": "x"}})).unread == "messages[0].content[0]"
    for known in ("text", "thinking", "tool_use", "tool_result", "web_search_tool_result"):
        assert weigh(Kind.MESSAGES, user({"type": known, "text": "x"})).unread == ""


def test_blocks_within_blocks_without_end_are_bounded_by_the_window() -> None:
    content: object = "x"
    for _ in range(500):
        content = [{"type": "tool_result", "content": content}]
    assert weigh(Kind.MESSAGES, {"messages": [{"role": "user", "content": content}]}).unread


TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "rôle", 7]), "content": st.text(max_size=20) | st.none()},
    optional={"name": st.text(max_size=5), "cache_control": st.just({"type": "ephemeral", "ttl": "1h"})},
)


@given(st.lists(TURNS, max_size=5), st.booleans())
def test_a_message_weighs_its_texts_however_plain_it_is(turns: list[dict[str, object]], blocks: bool) -> None:
    if blocks:
        turns = [{**turn, "content": [{"type": "text", "text": str(turn["content"])}]} for turn in turns]
    body: dict[str, object] = {"model": "m", "messages": turns}
    whole, plain = weigh(Kind.MESSAGES, body), weigh(Kind.MESSAGES, {"model": "m", "messages": []})
    assert whole.tokens - plain.tokens == text_total(body) - text_total({"model": "m", "messages": []})
    assert whole.cached == any("cache_control" in turn for turn in turns)
