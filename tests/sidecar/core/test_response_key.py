"""Two calls have one key if, and only if, one answer serves both."""

from __future__ import annotations

import hashlib
import json
from operator import itemgetter

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import chat, config, facts_of, messages, responses

from keelage_api.proxy_config import Backend, Hedge, Match, ModelChoice, Provider, ProxyConfig, Retry, Rule
from keelage_api.response_cache import CacheScope, ResponseCache
from keelage_sidecar.core.endpoints import CHAT, MESSAGES
from keelage_sidecar.core.outgoing import outgoing
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.response_key import key_of, never_cached, salt_of
from keelage_sidecar.core.routing import Candidate

SALT = bytes(32)
ALL = ResponseCache(sampled=True)
BASE: dict[str, object] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4)
bodies = st.dictionaries(st.sampled_from(["system", "tools", "top_k", "stop_sequences", "x", "temperature"]), values)


def key(
    facts: Facts, terms: ResponseCache = ALL, salt: bytes = SALT, target: str = "/v1/messages", headers: Headers = ()
) -> bytes:
    found = key_of(salt, terms, facts, target, headers)
    assert found is not None
    return found


def raw(text: str | bytes) -> Facts:
    """A Messages call with that body, which need not be an order that `read_request` takes."""
    return msgspec.structs.replace(messages(), body=text if isinstance(text, bytes) else text.encode())


def shuffled(value: object) -> object:
    """The same with the keys of all objects in the opposite order."""
    if isinstance(value, dict):
        return {name: shuffled(inner) for name, inner in reversed(value.items())}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


@given(bodies)
def test_blanks_and_the_order_of_keys_do_not_matter(extra: dict[str, object]) -> None:
    whole = {**BASE, **extra}
    one, other = json.dumps(whole, indent=3, ensure_ascii=True), json.dumps(shuffled(whole), ensure_ascii=False)
    assert key(raw(one)) == key(raw(other))


@given(bodies, bodies)
def test_bodies_that_differ_have_different_keys(one: dict[str, object], other: dict[str, object]) -> None:
    first, second = json.dumps({**BASE, **one}, sort_keys=True), json.dumps({**BASE, **other}, sort_keys=True)
    assert (key(raw(first)) == key(raw(second))) == (first == second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("0.1", "0.10000000000000000001"),
        ("123456789012345678901234567890", "123456789012345678901234567891"),
        ("1e400", "2e400"),
        ("1", '"1"'),
        ("null", "false"),
        ("[]", "{}"),
        ('"a"', '"A"'),
        ('"é"', '"e\u0301"'),
        ('["a", "b"]', '["b", "a"]'),
    ],
)
def test_values_that_a_parser_may_take_for_one_are_two(one: str, other: str) -> None:
    assert key(raw(f'{{"model": "m", "x": {one}}}')) != key(raw(f'{{"model": "m", "x": {other}}}'))


def test_a_field_that_is_null_is_not_one_that_is_missing() -> None:
    assert key(messages(top_k=None)) != key(messages())


texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=8)
NEUTRAL = (b"user-agent", b"x-stainless-retry-count", b"traceparent", b"x-request-id", b"cache-control", b"baggage")
NEVER_SENT = (b"authorization", b"x-api-key", b"accept-encoding", b"content-length", b"x-keelage-trace")
names = st.sampled_from([b"anthropic-beta", b"openai-organization", b"x-other", b"cookie", *NEUTRAL, *NEVER_SENT])
header_values = st.text("ab:=,-\x20", max_size=6).map(str.encode)
CANDIDATE = Candidate(Backend("b", Provider.ANTHROPIC, "https://example.com"), "m", None)
ALWAYS_SENT = outgoing(messages(), CANDIDATE, 0, None, (), "/v1/messages").headers
CallOf = tuple[bytes, str, str, str, str, Headers]
calls = st.tuples(
    st.binary(min_size=32, max_size=32),
    st.sampled_from(["/v1/messages", "/v1/messages?beta=true"]),
    texts,
    texts,
    texts,
    st.lists(st.tuples(names, header_values), max_size=3).map(tuple),
)


@given(calls, calls, st.sampled_from(list(CacheScope)))
def test_a_key_never_collides_over_rule_path_user_feature_task_and_headers(
    one: CallOf, other: CallOf, scope: CacheScope
) -> None:
    def of(call: CallOf) -> tuple[bytes, tuple[object, ...]]:
        salt, target, user, feature, task_type, headers = call
        facts = msgspec.structs.replace(messages(), user=user, feature=feature, task_type=task_type)
        found = key(facts, ResponseCache(scope=scope), salt, target, headers)
        sent = outgoing(facts, CANDIDATE, 0, None, headers, target).headers
        counted = sorted(
            (each for each in sent if each not in ALWAYS_SENT and each[0] not in NEUTRAL), key=itemgetter(0)
        )
        return found, (salt, target, user if scope is CacheScope.USER else "", feature, task_type, counted)

    (first, said), (second, also) = of(one), of(other)
    assert (first == second) == (said == also)


@given(st.lists(st.tuples(names, header_values), max_size=5).map(tuple))
def test_headers_that_only_tell_calls_apart_and_their_order_do_not_matter(headers: Headers) -> None:
    plain = tuple(field for field in headers if field[0] not in (*NEUTRAL, *NEVER_SENT))
    assert key(messages(), headers=headers) == key(messages(), headers=plain)
    assert key(messages(), headers=headers) == key(messages(), headers=tuple(sorted(headers, key=itemgetter(0))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (messages(metadata={"user_id": "ada"}), messages()),
        (messages(metadata={"user_id": "ada", "x": 1}), messages(metadata={"x": 1})),
        (chat(user="ada", safety_identifier="a", prompt_cache_key="k"), chat(user="bob")),
    ],
)
def test_who_asks_is_no_part_of_the_question(one: Facts, other: Facts) -> None:
    assert key(one) == key(other)


LONG = "u" * 256


@pytest.mark.parametrize(
    ("header", "field", "other_header", "other_field"),
    [
        (b"Jos\xe9", "", b"Jos\xe8", ""),
        (LONG.encode() + b"1", "", LONG.encode() + b"2", ""),
        (b"", LONG + "1", b"", LONG + "2"),
        (b"", "a\u200bb", b"", "ab"),
    ],
)
def test_users_whose_names_are_one_in_the_log_have_answers_of_their_own(
    header: bytes, field: str, other_header: bytes, other_field: str
) -> None:
    def of(header: bytes, field: str) -> tuple[str, bytes]:
        headers: Headers = ((b"x-keelage-user", header),) if header else ()
        facts = facts_of(CHAT, {"model": "m", "messages": [], "user": field}, headers)
        return facts.user, key(facts, ResponseCache(scope=CacheScope.USER), headers=headers)

    (user, one), (same, other) = of(header, field), of(other_header, other_field)
    assert user == same
    assert one != other


def test_what_a_response_repeats_is_a_part_of_it() -> None:
    assert key(responses(user="ada")) != key(responses(user="bob"))


def salts_of(configs: list[ProxyConfig], scope: CacheScope = CacheScope.WORKLOAD) -> set[bytes]:
    return {salt_of(each, each.rules[0], ResponseCache(scope=scope)) for each in configs}


def with_rule(**changes: object) -> ProxyConfig:
    before = config()
    return msgspec.structs.replace(before, rules=(msgspec.structs.replace(before.rules[0], **changes),))


def with_backend(name: str, endpoint: str) -> ProxyConfig:
    before = config()
    backend = msgspec.structs.replace(before.backends["assistant/openai"], endpoint=endpoint)
    return msgspec.structs.replace(before, backends={**before.backends, name: backend})


def test_what_answers_depend_on_begins_anew_when_it_changes() -> None:
    changed = [
        config(),
        with_rule(max_output_tokens=5),
        with_rule(stop_sequences=("x",)),
        with_rule(choices=config().rules[0].choices[::-1]),
        with_rule(name="other"),
        config(tiers={"assistant/fast": (ModelChoice("assistant/openai", "gpt"),)}),
        with_backend("assistant/openai", "https://elsewhere"),
    ]
    assert len(salts_of(changed)) == len(changed)


def test_what_only_says_how_often_to_ask_begins_nothing_anew() -> None:
    same = [
        config(),
        with_rule(retry=Retry(attempts=9), hedge=Hedge(), matches=(Match(("m",)),), response_cache=ResponseCache(5)),
        with_backend("another/openai", "https://elsewhere"),
    ]
    assert len(salts_of(same)) == 1


def test_rules_of_a_namespace_share_where_they_ask_the_same_in_the_same_way() -> None:
    backends = {f"b/{name.partition('/')[2]}": backend for name, backend in config().backends.items()}
    choices = tuple(ModelChoice(f"b/{each.backend.partition('/')[2]}") for each in config().rules[0].choices)
    renamed = msgspec.structs.replace(config(), backends=backends, rules=(Rule("b", "other", choices),))
    assert len(salts_of([config(), renamed], CacheScope.NAMESPACE)) == 1
    assert len(salts_of([config(), renamed])) == 2
    assert len(salts_of([config(), with_rule(max_output_tokens=5)], CacheScope.NAMESPACE)) == 2


def test_no_scope_sees_the_answers_of_another() -> None:
    assert len(set().union(*(salts_of([config()], scope) for scope in CacheScope))) == len(CacheScope)


def test_the_salt_depends_on_nothing_but_the_configuration() -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(config()), type=ProxyConfig)
    (salt,) = salts_of([decoded, config()])
    assert len(salt) == hashlib.sha256().digest_size


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (messages(temperature=0), ""),
        (messages(temperature=0.0), ""),
        (messages(), "drawn at random"),
        (messages(temperature=0.1), "drawn at random"),
        (chat(temperature=False), "drawn at random"),
        (chat(temperature=0, store=True), "copy at the provider"),
        (responses(temperature=0), "copy at the provider"),
        (responses(temperature=0, store=False), ""),
        (responses(temperature=0, store=False, previous_response_id="r"), "more than the request"),
        (messages(temperature=0, container="c"), "more than the request"),
        (chat(temperature=0, tools=[{"type": "function", "function": {"name": "f"}}]), ""),
        (messages(temperature=0, tools=[{"type": "code_execution_20250522", "name": "x"}]), "more than the request"),
    ],
)
def test_only_calls_whose_answer_is_determined_are_cached(facts: Facts, said: str) -> None:
    why = never_cached(facts, ResponseCache())
    assert said in why
    assert bool(said) == bool(why)


def test_without_a_user_nothing_is_kept_for_one() -> None:
    facts = messages(temperature=0)
    assert "x-keelage-user" in never_cached(facts, ResponseCache(scope=CacheScope.USER))
    assert not never_cached(msgspec.structs.replace(facts, user="ada"), ResponseCache(scope=CacheScope.USER))


def test_a_body_that_nests_too_deep_has_no_key() -> None:
    deep = b"[" * 2_000 + b"]" * 2_000
    facts = msgspec.structs.replace(facts_of(MESSAGES, orjson.dumps(BASE)), body=b'{"model":"m","x":' + deep + b"}")
    assert key_of(SALT, ALL, facts, "/v1/messages", ()) is None
