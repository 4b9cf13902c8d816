"""No answer within the token bounds costs more than the bound; what has none is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sidecar.core.calls import EMBED, GPT, HAIKU, LOCAL, chat, claude, embeddings, facts_of, gpt, is_a, messages
from tests.sidecar.core.test_request import JSON

from keelage_api.pricing import ModelPrice, Rates, cost_of
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Bound, Unbounded, bound_of
from keelage_sidecar.core.endpoints import CHAT, COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES, Endpoint
from keelage_sidecar.core.request import Facts, read_request
from keelage_sidecar.core.routing import Candidate

RATES = st.builds(Rates, st.just(0), *[st.integers(0, 10**9)] * 5)
PRICES = st.builds(
    lambda first, second, above, fast, us: ModelPrice(
        (first, Rates(above, second.input, second.cache_read, second.cache_write_5m, second.cache_write_1h, 7)),
        fast_percent=fast,
        us_percent=us,
    ),
    RATES,
    RATES,
    st.integers(1, 3000),
    st.sampled_from([0, 200, 600]),
    st.sampled_from([100, 110]),
)
SHARES = st.tuples(*[st.integers(0, 100)] * 6)


def spread(total: int, shares: tuple[int, ...]) -> list[int]:
    """Parts that sum to at most `total`."""
    whole = max(100, sum(shares))
    return [total * share // whole for share in shares]


def usage_within(bound: Bound, shares: tuple[int, ...], classes: tuple[bool, bool, bool, bool]) -> TokenUsage:
    parts = spread(bound.input_tokens, shares[:4])
    plain, read, short, long = (part if allowed else 0 for part, allowed in zip(parts, classes, strict=True))
    return TokenUsage(plain, read, short, long, bound.output_tokens * shares[4] // 100)


@given(PRICES, SHARES, st.sampled_from([None, "5m", "1h"]), st.booleans(), st.sampled_from([None, "us", "global"]))
def test_anthropic_bound_covers_any_usage_within_its_tokens(
    price: ModelPrice, shares: tuple[int, ...], ttl: str | None, fast: bool, geo: str | None
) -> None:
    block: dict[str, object] = {"type": "text", "text": "x" * 700}
    if ttl is not None:
        block["cache_control"] = {"type": "ephemeral", "ttl": ttl}
    fields: dict[str, object] = {"speed": "fast"} if fast and price.fast_percent else {}
    if geo is not None:
        fields["inference_geo"] = geo
    facts = messages(messages=[{"role": "user", "content": [block]}], **fields)
    bound = is_a(Bound, bound_of(facts, replace(claude(), price=price), 0))
    usage = replace(
        usage_within(bound, shares, (True, True, ttl is not None, ttl == "1h")),
        speed="fast" if fields.get("speed") else "standard",
        geo="global" if geo == "global" else "us",
    )
    assert cost_of(usage, price) <= bound.amount


@given(PRICES, SHARES, st.booleans(), st.integers(1, 5))
def test_openai_bound_covers_any_usage_within_its_tokens(
    price: ModelPrice, shares: tuple[int, ...], long: bool, choices: int
) -> None:
    part: dict[str, object] = {"type": "text", "text": "x" * 700}
    if long:
        part["prompt_cache_breakpoint"] = {"ttl": "12h"}
    facts = chat(messages=[{"role": "user", "content": [part]}], n=choices, max_completion_tokens=50)
    bound = is_a(Bound, bound_of(facts, replace(gpt(), price=price), 0))
    assert bound.output_tokens == 50 * choices
    assert cost_of(usage_within(bound, shares, (True, True, True, long)), price) <= bound.amount


@given(st.sampled_from([MESSAGES, CHAT, RESPONSES, EMBEDDINGS, COUNT_TOKENS]), JSON, st.integers(0, 9))
def test_any_body_that_is_read_is_bounded_or_says_why_not(endpoint: Endpoint, value: object, cap: int) -> None:
    body = json.dumps({"model": "m", **value} if isinstance(value, dict) else {"model": "m", "input": value})
    facts = read_request(endpoint, (), body.encode())
    if isinstance(facts, Facts):
        assert isinstance(bound_of(facts, claude(), cap), Bound | Unbounded)
        assert isinstance(bound_of(facts, gpt(), cap), Bound | Unbounded)


def test_a_plain_call_is_bounded_by_its_bytes_and_its_cap() -> None:
    bound = is_a(Bound, bound_of(messages(), claude(), 0))
    assert 128 < bound.input_tokens < 300
    assert bound == Bound(bound.input_tokens * 1_000_000 + 100 * 5_000_000, bound.input_tokens, 100)


def test_a_cache_entry_costs_its_surcharge() -> None:
    plain, short, long = (
        is_a(Bound, bound_of(messages(**fields), claude(), 0))
        for fields in (
            {},
            {"cache_control": {"type": "ephemeral"}},
            {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
        )
    )
    output = 100 * 5_000_000
    assert (plain.amount - output) // plain.input_tokens == 1_000_000
    assert (short.amount - output) // short.input_tokens == 1_250_000
    assert (long.amount - output) // long.input_tokens == 2_000_000


def test_a_prompt_beyond_the_window_is_bounded_by_the_window() -> None:
    huge = [{"role": "user", "content": "x" * 900_000}]
    assert is_a(Bound, bound_of(messages(messages=huge), claude(), 0)).input_tokens == 200_000
    wider = replace(messages(messages=huge), long_context=True)
    assert is_a(Bound, bound_of(wider, claude(), 0)).input_tokens > 900_000


def test_a_document_is_bounded_by_the_window_if_there_is_one() -> None:
    facts = messages(messages=[{"role": "user", "content": [{"type": "document", "source": {"type": "url"}}]}])
    assert is_a(Bound, bound_of(facts, claude(), 0)).input_tokens == 200_000
    endless = replace(claude(), price=ModelPrice(HAIKU.tiers))
    assert is_a(Unbounded, bound_of(facts, endless, 0)).field == "messages[0].content[0].source"


def test_a_picture_weighs_its_models_ceiling() -> None:
    picture = [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x"}}]}]
    old, new = claude(), replace(claude(), model="claude-opus-5")
    small = is_a(Bound, bound_of(messages(messages=picture), old, 0)).input_tokens
    assert is_a(Bound, bound_of(messages(messages=picture), new, 0)).input_tokens - small == 8464 - 3136


def test_the_injected_cap_bounds_a_request_without_one() -> None:
    assert is_a(Bound, bound_of(chat(), gpt(), 777)).output_tokens == 777
    assert is_a(Bound, bound_of(chat(max_tokens=5), gpt(), 777)).output_tokens == 5
    unbounded = is_a(Unbounded, bound_of(chat(), gpt(), 0))
    assert unbounded.field == "max_completion_tokens"
    assert "rules[].output.maxTokens" in unbounded.reason


def test_thinking_beyond_the_cap_is_added() -> None:
    facts = messages(thinking={"type": "enabled", "budget_tokens": 5000})
    assert is_a(Bound, bound_of(facts, claude(), 0)).output_tokens == 5100


def test_a_prediction_counts_as_output_too() -> None:
    facts = chat(max_completion_tokens=10, prediction={"type": "content", "content": "y" * 1000})
    assert is_a(Bound, bound_of(facts, gpt(), 0)).output_tokens > 1010


@pytest.mark.parametrize(
    ("fields", "geo", "speed"),
    [
        ({"inference_geo": "us"}, "us", "standard"),
        ({}, "us", "standard"),
        ({"inference_geo": "global"}, "global", "standard"),
        ({"speed": "fast"}, "us", "fast"),
        ({"speed": "fast", "inference_geo": "global"}, "global", "fast"),
    ],
)
def test_the_bound_is_what_its_tokens_cost_at_their_dearest(fields: dict[str, object], geo: str, speed: str) -> None:
    price = ModelPrice(HAIKU.tiers, fast_percent=600, us_percent=110)
    bound = is_a(Bound, bound_of(messages(**fields), replace(claude(), price=price), 0))
    usage = TokenUsage(bound.input_tokens, output_tokens=bound.output_tokens, geo=geo, speed=speed)
    assert bound.amount == cost_of(usage, price)


def test_embeddings_cost_their_input_only() -> None:
    facts = embeddings(["a" * 9000, "b" * 9000])
    bound = is_a(Bound, bound_of(facts, replace(gpt(), price=EMBED), 0))
    assert (bound.output_tokens, bound.input_tokens > 18_000) == (0, True)


def test_free_endpoints_are_bounded_by_nothing() -> None:
    facts = is_a(Facts, read_request(COUNT_TOKENS, (), b'{"model":"m"}'))
    assert bound_of(facts, replace(claude(), price=None), 0) == Bound(0, 0, 0)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"fallbacks": "default"}, "fallbacks"),
        ({"compaction": {"type": "auto"}}, "compaction"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management"),
        ({"thread": {"type": "continue"}}, "thread"),
        ({"billing_policy": "user_profile"}, "billing_policy"),
        ({"speed": "fast"}, "speed"),
        ({"inference_geo": "mars"}, "inference_geo"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"tools": [{"type": "web_search_20250305"}]}, "tools[0].type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1e6}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": "1000000"}}, "thinking.budget_tokens"),
    ],
)
def test_what_has_no_bound_at_anthropic_is_named(fields: dict[str, object], field: str) -> None:
    unbounded = is_a(Unbounded, bound_of(messages(**fields), claude(), 0))
    assert (unbounded.field, unbounded.refusal().status, unbounded.refusal().field) == (field, 400, field)
    assert field in unbounded.reason


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": []},
        {"container": None},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        {"thread": {"type": "create"}},
        {"speed": "standard"},
        {"service_tier": "auto"},
        {"unheard_of": {"x": 1}},
    ],
)
def test_harmless_fields_stay_bounded(fields: dict[str, object]) -> None:
    assert isinstance(bound_of(messages(**fields), claude(), 0), Bound)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"n": "2"}, "n"),
        ({"n": True}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_what_has_no_bound_at_openai_is_named(fields: dict[str, object], field: str) -> None:
    assert is_a(Unbounded, bound_of(chat(max_tokens=1, **fields), gpt(), 0)).field == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"service_tier": "performance"}, "service_tier"),
        ({"models": ["dear/model"]}, "models"),
        ({"preset": "dear"}, "preset"),
        ({"search_parameters": {"mode": "on"}}, "search_parameters"),
        ({"best_of": 8}, "best_of"),
        ({"best_of": "8"}, "best_of"),
    ],
)
def test_what_compatible_servers_bill_beside_the_request_is_named(fields: dict[str, object], field: str) -> None:
    candidate = Candidate(LOCAL, "qwen", GPT)
    assert is_a(Unbounded, bound_of(chat(max_tokens=1, **fields), candidate, 0)).field == field


@pytest.mark.parametrize("name", ["context_management", "service_tier", "inference_geo", "speed", "thinking", "tools"])
def test_values_may_nest_as_deep_as_the_parser_allows(name: str) -> None:
    value = b"[" * 1000 + b"]" * 1000
    if name == "tools":
        value = b'[{"type":' + value + b"}]"
    body = b'{"model":"m","max_tokens":1,"%b":%b}' % (name.encode(), value)
    for endpoint, candidate in ((MESSAGES, claude()), (CHAT, gpt())):
        assert isinstance(bound_of(facts_of(endpoint, body), candidate, 0), Bound | Unbounded)


@pytest.mark.parametrize("model", ["groq/compound-beta", "gpt-4o-search-preview", "o4-mini-deep-research", "x:online"])
def test_agentic_models_have_no_bound(model: str) -> None:
    assert is_a(Unbounded, bound_of(chat(max_tokens=1), replace(gpt(), model=model), 0)).field == "model"


def test_an_unpriced_model_has_no_bound() -> None:
    unbounded = is_a(Unbounded, bound_of(chat(max_tokens=1), Candidate(LOCAL, "x", None), 0))
    assert (unbounded.field, "assistant/vllm" in unbounded.reason) == ("model", True)


def test_the_dearest_tier_reached_counts() -> None:
    price = ModelPrice((GPT.tiers[0], Rates(100, 5_000_000, 1, 1, 1, 1)))
    bound = is_a(Bound, bound_of(chat(max_tokens=10), replace(gpt(), price=price), 0))
    assert bound.amount == bound.input_tokens * 5_000_000 + 10 * 2_000_000


def test_a_lower_cap_lowers_the_bound_and_a_higher_one_does_not_raise_it() -> None:
    facts = messages(max_tokens=100)
    own = is_a(Bound, bound_of(facts, claude(), 0))
    assert bound_of(facts, claude(), 100) == bound_of(facts, claude(), 5_000) == own
    assert is_a(Bound, bound_of(facts, claude(), 60)) == replace(
        own, output_tokens=60, amount=own.amount - 40 * HAIKU.tiers[0].output
    )


def test_without_a_price_tokens_are_bounded_where_only_tokens_count() -> None:
    unpriced = replace(claude(), price=None, needs_price=False)
    bound = is_a(Bound, bound_of(messages(max_tokens=100), unpriced, 0))
    assert (bound.amount, bound.priced, bound.output_tokens) == (0, False, 100)
    assert bound.charge.tokens == bound.input_tokens + 100
    assert is_a(Unbounded, bound_of(messages(), replace(unpriced, needs_price=True), 0)).field == "model"
    assert is_a(Unbounded, bound_of(messages(max_tokens=None), unpriced, 0)).field == "max_tokens"
    assert is_a(Unbounded, bound_of(messages(speed="fast"), unpriced, 0)).field == "speed"
