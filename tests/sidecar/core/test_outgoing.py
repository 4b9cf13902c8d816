"""What leaves for the provider: byte for byte, but for what must differ."""

from __future__ import annotations

import orjson
import pytest
from msgspec.structs import replace
from tests.sidecar.core.calls import LOCAL, chat, claude, config, embeddings, facts_of, gpt, is_a, messages, responses

from keelage_api.proxy_config import Backend, Provider
from keelage_sidecar.core.endpoints import CHAT, MESSAGES, OPENAI_MODELS
from keelage_sidecar.core.outgoing import Outgoing, outgoing
from keelage_sidecar.core.prompt_cache_key import key_for
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable

BODY = b' {"max_tokens":9,  "model" : "claude-haiku-4-5","x":"\\u00e9" ,"messages":[1.50]}'


def given(facts: Facts) -> dict[str, object]:
    """The body as the application sent it."""
    return is_a(dict, orjson.loads(facts.body))


def body_of(facts: Facts, candidate: Candidate, cap: int = 0) -> object:
    return orjson.loads(outgoing(facts, candidate, cap, None, (), "/v1/x").body)


def test_a_request_that_needs_no_change_goes_out_byte_for_byte() -> None:
    sent = outgoing(facts_of(MESSAGES, BODY), claude(hard=False), 0, "k", (), "/v1/messages?beta=true")
    assert sent == Outgoing(
        "POST",
        "/v1/messages?beta=true",
        [
            (b"host", b"api.anthropic.com"),
            (b"accept-encoding", b"identity"),
            (b"x-api-key", b"k"),
            (b"content-length", str(len(BODY)).encode()),
        ],
        BODY,
    )


def test_only_the_models_span_changes() -> None:
    sent = outgoing(facts_of(MESSAGES, BODY), replace(claude(hard=False), model='a"b'), 0, None, (), "/v1/messages")
    assert sent.body == BODY.replace(b'"claude-haiku-4-5"', b'"a\\"b"')
    assert sent.changed == ("model",)


STOPPED = ("END", "\n\nHuman:")


@pytest.mark.parametrize(
    ("own", "sent"),
    [
        ({}, ["END", "\n\nHuman:"]),
        ({"stop_sequences": None}, ["END", "\n\nHuman:"]),
        ({"stop_sequences": ["a", "END", "b", "c"]}, ["a", "END", "b", "c", "\n\nHuman:"]),
        ({"stop_sequences": [*STOPPED]}, [*STOPPED]),
        ({"stop_sequences": "a"}, ["a", *STOPPED]),
        ({"stop_sequences": 5}, 5),
    ],
)
def test_stop_sequences_of_the_rule_come_after_the_applications(own: dict[str, object], sent: object) -> None:
    facts = messages(**own, service_tier="standard_only")
    assert body_of(facts, replace(claude(), stop_sequences=STOPPED)) == {**given(facts), "stop_sequences": sent}


@pytest.mark.parametrize(
    ("own", "model", "sent"),
    [
        ({}, "gpt-4o", ["END", "\n\nHuman:"]),
        ({"stop": "a"}, "gpt-4o", ["a", *STOPPED]),
        ({"stop": ["a", "b", "c"]}, "gpt-4o", ["a", "b", "c", "END"]),
        ({"stop": ["a", "b", "c", "d"]}, "gpt-4o", ["a", "b", "c", "d"]),
        ({"stop": ["a"]}, "gpt-5-mini", ["a"]),
    ],
)
def test_openai_gets_no_more_stop_sequences_than_it_takes(own: dict[str, object], model: str, sent: object) -> None:
    facts = chat(model=model, **own, service_tier="default")
    told = body_of(facts, replace(gpt(), model=model, stop_sequences=STOPPED))
    assert told == {**given(facts), "stop": sent}


def test_a_responses_call_gets_no_stop_sequences_as_it_has_no_field_for_them() -> None:
    facts = responses(service_tier="default")
    assert body_of(facts, replace(gpt(), stop_sequences=STOPPED)) == given(facts)


def test_a_cache_key_goes_to_openai_where_the_rule_wants_one_and_the_request_has_none() -> None:
    facts = chat(messages=[{"role": "system", "content": "x" * 5000}], service_tier="default")
    scoped = replace(gpt(), cache_scope="assistant/all")
    sent = outgoing(facts, scoped, 0, None, (), "/v1/x")
    assert sent.changed == ("prompt_cache_key",)
    assert orjson.loads(sent.body) == {**given(facts), "prompt_cache_key": key_for(facts, "assistant/all")}
    assert body_of(facts, gpt()) == given(facts)
    own = chat(messages=[{"role": "system", "content": "x" * 5000}], service_tier="default", prompt_cache_key="mine")
    assert body_of(own, scoped) == given(own)
    assert body_of(embeddings("x" * 5000), replace(scoped, model="text-embedding-3-small")) == given(
        embeddings("x" * 5000)
    )


def test_keys_and_hop_by_hop_headers_of_the_application_stay_behind() -> None:
    headers: Headers = (
        (b"host", b"127.0.0.1:4000"),
        (b"authorization", b"Bearer placeholder"),
        (b"x-api-key", b"placeholder"),
        (b"api-key", b"placeholder"),
        (b"connection", b"keep-alive, X-Private"),
        (b"x-private", b"1"),
        (b"te", b"trailers"),
        (b"transfer-encoding", b"chunked"),
        (b"expect", b"100-continue"),
        (b"accept-encoding", b"gzip"),
        (b"content-length", b"7"),
        (b"x-keelage-user", b"alice"),
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"a"),
        (b"anthropic-beta", b"b"),
        (b"x-stainless-lang", b"python"),
    )
    sent = outgoing(messages(), claude(hard=False), 0, "real\n", headers, "/v1/messages")
    assert sent.headers == [
        (b"host", b"api.anthropic.com"),
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"a"),
        (b"anthropic-beta", b"b"),
        (b"x-stainless-lang", b"python"),
        (b"accept-encoding", b"identity"),
        (b"x-api-key", b"real"),
        (b"content-length", str(len(sent.body)).encode()),
    ]


def test_openai_takes_its_key_as_a_bearer() -> None:
    assert (b"authorization", b"Bearer k") in outgoing(chat(), gpt(), 0, "k", (), "/v1/x").headers
    without = outgoing(chat(), gpt(), 0, None, ((b"authorization", b"Bearer placeholder"),), "/v1/x").headers
    assert not any(name == b"authorization" for name, _ in without)


def test_a_key_file_with_line_breaks_cannot_end_the_header() -> None:
    sent = outgoing(chat(), gpt(), 0, "k\r\nx-evil: 1\n", (), "/v1/x")
    assert not any(b"\r" in value or b"\n" in value for _, value in sent.headers)


@pytest.mark.parametrize(
    ("endpoint", "path", "host", "target"),
    [
        ("https://api.openai.com", "/v1/models", b"api.openai.com", "/v1/models"),
        ("https://api.openai.com:443", "/v1/models", b"api.openai.com", "/v1/models"),
        ("http://vllm.models:8000/v1", "/v1/models?a=b", b"vllm.models:8000", "/v1/models?a=b"),
        ("https://api.groq.com/openai", "/v1/models", b"api.groq.com", "/openai/v1/models"),
        ("https://api.groq.com/openai/v1", "/v1/models", b"api.groq.com", "/openai/v1/models"),
        ("http://[::1]:80/x/", "/v1/models", b"[::1]", "/x/v1/models"),
    ],
)
def test_the_target_keeps_the_backends_prefix(endpoint: str, path: str, host: bytes, target: str) -> None:
    candidate = replace(gpt(), backend=Backend("r/b", Provider.OPENAI, endpoint))
    facts = Facts(OPENAI_MODELS, "", False, 0, "", "", b"", {}, None, 0, True)
    sent = outgoing(facts, candidate, 0, None, (), path, "GET")
    assert (sent.method, sent.headers[0], sent.target, sent.body) == ("GET", (b"host", host), target, b"")
    assert not any(name == b"content-length" for name, _ in sent.headers)


def test_a_cap_goes_into_the_field_that_the_provider_knows() -> None:
    compatible = Candidate(LOCAL, "qwen", None)
    assert body_of(chat(max_tokens=None), gpt(hard=False), 64) == {
        **given(chat(max_tokens=None)), "max_completion_tokens": 64,
    }  # fmt: skip
    assert body_of(chat(max_tokens=None), compatible, 64) == {**given(chat()), "model": "qwen", "max_tokens": 64}
    assert body_of(messages(max_tokens=None), claude(hard=False), 64) == {**given(messages()), "max_tokens": 64}


def test_a_cap_below_the_requests_own_replaces_it_and_nothing_else() -> None:
    sent = outgoing(facts_of(MESSAGES, BODY), claude(hard=False), 8, None, (), "/v1/messages")
    assert sent.body == BODY.replace(b'"max_tokens":9,', b'"max_tokens":8,')
    assert sent.changed == ("max_tokens",)
    assert outgoing(facts_of(MESSAGES, BODY), claude(hard=False), 9, None, (), "/v1/messages").body == BODY
    both = chat(max_tokens=50, max_completion_tokens=100)
    assert body_of(both, gpt(hard=False), 64) == {**given(both), "max_completion_tokens": 64}
    assert body_of(both, gpt(hard=False), 20) == {**given(both), "max_completion_tokens": 20, "max_tokens": 20}


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        ({"stream_options": {"x": 1}}, {"x": 1, "include_usage": True}),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}),
    ],
)
def test_usage_is_asked_for_in_a_stream(options: dict[str, object], sent: object) -> None:
    facts = chat(stream=True, **options)
    assert body_of(facts, gpt(hard=False)) == {**given(facts), "stream_options": sent}


@pytest.mark.parametrize("options", [{"stream_options": {"include_usage": True}}, {"stream_options": 7}])
def test_usage_is_not_asked_for_twice(options: dict[str, object]) -> None:
    facts = chat(stream=True, **options)
    assert outgoing(facts, gpt(hard=False), 0, None, (), "/v1/x").body is facts.body
    assert outgoing(chat(), gpt(hard=False), 0, None, (), "/v1/x").changed == ()


def test_a_hard_budget_fixes_the_service_tier_that_the_request_leaves_open() -> None:
    assert body_of(messages(), claude()) == {**given(messages()), "service_tier": "standard_only"}
    assert body_of(messages(service_tier="auto"), claude()) == {**given(messages()), "service_tier": "standard_only"}
    assert body_of(chat(), gpt()) == {**given(chat()), "service_tier": "default"}
    assert body_of(chat(service_tier="flex"), gpt()) == given(chat(service_tier="flex"))
    assert body_of(chat(), Candidate(LOCAL, "gpt-5-mini", None, hard=True)) == given(chat())
    assert body_of(embeddings("x"), replace(gpt(), model="text-embedding-3-small")) == given(embeddings("x"))


def test_a_repeated_name_for_the_model_cannot_slip_through() -> None:
    facts = facts_of(CHAT, b'{"mod\\u0065l":"auto","messages":[]}')
    sent = outgoing(facts, replace(gpt(hard=False), model="gpt-5-mini"), 0, None, (), "/v1/x")
    assert sent.body == b'{"mod\\u0065l":"gpt-5-mini","messages":[]}'


def test_a_planned_candidate_is_sent_with_its_own_cap() -> None:
    candidate = is_a(Plan, RoutingTable.build(config()).plan(chat())).candidates[0]
    assert candidate.backend.provider is Provider.OPENAI
    assert outgoing(chat(), candidate, candidate.output_cap, None, (), "/v1/x").changed == ()
