"""Which calls may have each other's answers though they are worded otherwise."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sidecar.core.calls import facts_of
from tests.sidecar.core.question_pairs import pairs

from keelage_api.response_cache import CacheScope, ResponseCache, Semantic
from keelage_sidecar.core.alike import Asked, asked_of, never_alike
from keelage_sidecar.core.endpoints import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, Endpoint
from keelage_sidecar.core.refusal import Headers

SEMANTIC = Semantic("r/openai", "text-embedding-3-small")
TERMS = ResponseCache(semantic=SEMANTIC, sampled=True)
PATHS = {MESSAGES: "/v1/messages", CHAT: "/v1/chat/completions", RESPONSES: "/v1/responses"}
ONE, OTHER = "How do I reset my password?", "Please tell me how to reset my password."


def body_of(endpoint: Endpoint, text: object, /, **fields: object) -> dict[str, Any]:
    if endpoint is RESPONSES:
        return {"model": "m", "input": text, "store": False, **fields}
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **fields}


def asked(
    endpoint: Endpoint,
    body: dict[str, Any],
    headers: Headers = (),
    *,
    tier: str = "fast",
    salt: bytes = b"",
    terms: ResponseCache = TERMS,
    semantic: Semantic = SEMANTIC,
) -> Asked | None:
    facts = facts_of(endpoint, body, headers)
    return asked_of(salt, terms, semantic, tier, facts, PATHS[endpoint], headers)


@pytest.mark.parametrize("endpoint", PATHS)
def test_the_same_question_in_other_words_is_looked_for_in_one_place(endpoint: Endpoint) -> None:
    one, other = asked(endpoint, body_of(endpoint, ONE)), asked(endpoint, body_of(endpoint, OTHER))
    assert one is not None
    assert other is not None
    assert (one.partition, one.text, other.text) == (other.partition, ONE, OTHER)


@pytest.mark.parametrize(("kind", "one", "other"), pairs("near_misses"))
def test_a_near_miss_is_looked_for_elsewhere(kind: str, one: str, other: str) -> None:
    left, right = asked(MESSAGES, body_of(MESSAGES, one)), asked(MESSAGES, body_of(MESSAGES, other))
    assert left is not None, kind
    assert right is not None
    assert left.partition != right.partition


TEXTS = [{"type": "text", "text": "A document."}, {"type": "text", "text": ONE}]
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
USER = {"role": "user", "content": ONE}
ASSISTANT = {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize(
    ("endpoint", "fields", "why"),
    [
        (MESSAGES, {"temperature": 0.1}, "its temperature is above 0"),
        (MESSAGES, {"temperature": "0"}, "its temperature is above 0"),
        (MESSAGES, {"temperature": False}, "its temperature is above 0"),
        (MESSAGES, {"tools": [{"name": "t", "input_schema": {}}]}, "it has tools"),
        (CHAT, {"functions": [{"name": "t"}]}, "it has tools"),
        (CHAT, {"tool_choice": "auto"}, "it has tools"),
        (MESSAGES, {"messages": [USER, ASSISTANT, USER]}, "it is more than one question in plain text"),
        (MESSAGES, {"messages": [USER, USER]}, "it is more than one question in plain text"),
        (MESSAGES, {"messages": [ASSISTANT]}, "it is more than one question in plain text"),
        (CHAT, {"messages": [USER, {"role": "system", "content": "x"}]}, "it is more than one question in plain text"),
        (CHAT, {"messages": [{"role": "tool", "content": ONE}]}, "it is more than one question in plain text"),
        (MESSAGES, {"messages": []}, "it is more than one question in plain text"),
        (MESSAGES, {"messages": [{**USER, "content": [PICTURE, *TEXTS]}]}, "it is more than one question in plain"),
        (MESSAGES, {"messages": [{**USER, "content": [*TEXTS, {"type": "document"}]}]}, "it is more than one"),
        (RESPONSES, {"input": [{**USER, "content": [{"type": "input_image"}]}]}, "it is more than one"),
        (RESPONSES, {"input": [USER, {"type": "function_call_output", "output": "1"}]}, "it is more than one"),
        (MESSAGES, {"messages": [{"role": "user", "content": 7}]}, "it is more than one question in plain text"),
        (MESSAGES, {"messages": [{"role": "user", "content": "?"}]}, "its question is empty or too long"),
        (MESSAGES, {"messages": [{"role": "user", "content": "long " * 1000}]}, "its question is empty or too long"),
    ],
)
def test_a_call_that_is_more_than_one_plain_question_has_no_neighbours(
    endpoint: Endpoint, fields: dict[str, object], why: str
) -> None:
    body = body_of(endpoint, ONE, **fields)
    assert why in never_alike(facts_of(endpoint, body))
    assert asked(endpoint, body) is None


def test_embeddings_ask_no_question() -> None:
    facts = facts_of(EMBEDDINGS, {"model": "m", "input": "one"})
    assert never_alike(facts) == "calls of this endpoint ask no question"
    assert asked_of(b"", TERMS, SEMANTIC, "", facts, "/v1/embeddings", ()) is None


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        (MESSAGES, {}),
        (MESSAGES, {"temperature": 0}),
        (MESSAGES, {"temperature": 0.0, "system": "Be brief."}),
        (MESSAGES, {"messages": [{"role": "user", "content": TEXTS}]}),
        (CHAT, {"messages": [{"role": "system", "content": "x"}, {"role": "developer", "content": "y"}, USER]}),
        (RESPONSES, {"input": [{"type": "message", **USER}]}),
        (RESPONSES, {"instructions": "Be brief.", "tools": []}),
    ],
)
def test_a_plain_question_may_have_neighbours(endpoint: Endpoint, fields: dict[str, object]) -> None:
    body = body_of(endpoint, ONE, **fields)
    assert never_alike(facts_of(endpoint, body)) == ""
    found = asked(endpoint, body)
    assert found is not None
    assert found.text == ONE


CHANGES: list[dict[str, Any]] = [
    {"body": {"model": "n"}},
    {"body": {"system": "Be rude."}},
    {"body": {"max_tokens": 10}},
    {"body": {"temperature": 0}},
    {"body": {"stream": True}},
    {"body": {"stop_sequences": ["x"]}},
    {"body": {"messages": [{"role": "user", "content": [{"type": "text", "text": OTHER}]}]}},
    {"headers": ((b"anthropic-beta", b"x"),)},
    {"headers": ((b"x-keelage-feature", b"x"),)},
    {"headers": ((b"x-keelage-task-type", b"x"),)},
    {"salt": b"other"},
    {"tier": "deep"},
    {"semantic": replace(SEMANTIC, model="other")},
    {"semantic": replace(SEMANTIC, backend="r/other")},
    {"semantic": replace(SEMANTIC, dimensions=256)},
]


@given(st.sampled_from(pairs("paraphrases")), st.sampled_from(CHANGES))
def test_no_answer_crosses_model_system_parameters_tier_or_embedder(
    pair: tuple[str, str, str], change: dict[str, Any]
) -> None:
    _, one, other = pair
    further = dict(change)
    fields = further.pop("body", {})
    left = asked(MESSAGES, body_of(MESSAGES, one))
    right = asked(MESSAGES, body_of(MESSAGES, other, **fields), **further)
    assert left is not None
    assert right is not None
    assert left.partition != right.partition


@given(st.text("ab,ÿ\n", min_size=1, max_size=4), st.text("ab,ÿ\n", min_size=1, max_size=4))
def test_no_answer_crosses_users_where_each_has_their_own(one: str, other: str) -> None:
    terms = replace(TERMS, scope=CacheScope.USER)
    headers = [((b"x-keelage-user", name.encode()),) for name in (one, other)]
    found = [asked(MESSAGES, body_of(MESSAGES, ONE), each, terms=terms) for each in headers]
    assert all(each is not None for each in found)
    assert (found[0] == found[1]) == (one == other)


@given(
    st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5), st.lists, max_leaves=5)
)
def test_any_content_is_judged(content: object) -> None:
    body = body_of(MESSAGES, content)
    facts = facts_of(MESSAGES, orjson.dumps(body))
    assert (asked(MESSAGES, body) is None) == bool(never_alike(facts))
