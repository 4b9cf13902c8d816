"""Which batches are taken, what they may cost, and what is sent of them."""

from __future__ import annotations

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import ANTHROPIC, HAIKU, OPENAI, claude, config, is_a, messages

from keelage_api.pricing import ModelPrice
from keelage_api.proxy_config import (
    Backend,
    BudgetTerms,
    Downgrade,
    Match,
    ModelChoice,
    Per,
    Provider,
    ProxyConfig,
    Rule,
)
from keelage_sidecar.core.batch import LOTS_MAX, REQUESTS_MAX, BatchDraft, BatchOrder, LotIndex, Used, requests_in
from keelage_sidecar.core.bound import Bound, bound_of
from keelage_sidecar.core.claim import Claim
from keelage_sidecar.core.endpoints import MESSAGES
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import read_request
from keelage_sidecar.core.routing import RoutingTable

PARAMS = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
HARD = (BudgetTerms("shop/month", True),)


def asked(name: str = "a", **params: object) -> dict[str, object]:
    given = {key: value for key, value in {**PARAMS, **params}.items() if value is not None}
    return {"custom_id": name, "params": given}


def order_of(
    body: bytes | list[dict[str, object]], settings: ProxyConfig | None = None, used: Used = lambda name, value: None
) -> BatchOrder | Refusal:
    if not isinstance(body, bytes):
        body = orjson.dumps({"requests": body})
    requests = requests_in(body)
    if isinstance(requests, Refusal):
        return requests
    table = RoutingTable.build(settings or config(budgets=HARD))
    draft = BatchDraft(table, body, lambda params: read_request(MESSAGES, (), params), used, 0.0)
    for request in requests:
        refusal = draft.add(request)
        if refusal is not None:
            return refusal
    return draft.order()


def test_a_batch_is_bounded_at_half_of_what_its_requests_are_together() -> None:
    one, two = (is_a(Bound, bound_of(messages(max_tokens=cap), claude(), 0)) for cap in (100, 333))
    order = is_a(BatchOrder, order_of([asked("a"), asked("b", max_tokens=333)]))
    assert order.bound == Bound(
        one.amount // 2 + two.amount // 2, one.input_tokens + two.input_tokens, one.output_tokens + two.output_tokens
    )
    [lot] = order.lots
    assert lot.claims == (Claim("shop/month", order.bound.amount, True),)
    assert (lot.requests, lot.worst.requests, lot.worst.picodollars) == (2, 2, order.bound.amount)


def test_half_of_an_odd_price_is_rounded_up_and_the_price_record_may_say_other_than_half() -> None:
    odd = msgspec.structs.replace(
        HAIKU, tiers=(msgspec.structs.replace(HAIKU.tiers[0], output=3, input=0, cache_read=0),)
    )
    for percent, expected in ((50, 150), (60, 180), (33, 99)):
        price = msgspec.structs.replace(odd, batch_percent=percent, us_percent=100)
        settings = config(budgets=HARD)
        settings = msgspec.structs.replace(settings, prices={Provider.ANTHROPIC: {"claude-haiku-4-5": price}})
        assert is_a(BatchOrder, order_of([asked()], settings)).bound.amount == expected
    assert is_a(BatchOrder, order_of([asked(max_tokens=33)], settings)).bound.amount == 33  # 32.67


def test_a_batch_that_nothing_must_be_changed_in_is_sent_as_it_came() -> None:
    body = b'{"new" :1e2, "requests":[ {"params":' + orjson.dumps(PARAMS) + b' , "custom_id":"\\u0061"} ] }'
    order = is_a(BatchOrder, order_of(body))
    assert (order.body, order.changed) == (body, ())


def test_a_tiers_model_and_the_rules_cap_are_put_into_each_request_and_nothing_else_is_touched() -> None:
    rule = Rule("assistant", "all", (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),), max_output_tokens=77)
    body = b'{"requests": [{"custom_id":"a","params":{"model":"auto","messages":[ ],"x":1e1}}, '
    body += b'{"custom_id":"b","params":{"model":"claude-haiku-4-5","max_tokens":5,"messages":[ ]}} ]}'
    order = is_a(BatchOrder, order_of(body, config(rule, budgets=HARD)))
    expected = (
        b'{"requests": [{"custom_id":"a","params":{"model":"claude-haiku-4-5","messages":[ ],"x":1e1,"max_tokens":77}},'
    )
    expected += b'{"custom_id":"b","params":{"model":"claude-haiku-4-5","max_tokens":5,"messages":[ ]}}]}'
    assert (order.body, order.changed) == (expected, ("max_tokens", "model"))


@pytest.mark.parametrize(
    ("requests", "status", "field", "text"),
    [
        ([], 400, "requests", "requests: at least one request is needed"),
        ([asked(), {}], 400, "requests[1].custom_id", "requests[1].custom_id: a string is needed"),
        (
            [asked(), asked()],
            400,
            "requests[1].custom_id",
            "requests[1].custom_id: another request of the batch has the",
        ),
        ([{"custom_id": "a"}], 400, "requests[0].params", "requests[0].params: the body is not a JSON object"),
        ([{"custom_id": "a", "Params": {}}], 400, "requests[0].Params", "requests[0].Params: write it in lower case"),
        (
            [asked(), asked("b"), asked("c", max_tokens="5")],
            400,
            "requests[2].params.max_tokens",
            "requests[2].params.max_tokens: a whole number of at least 0 is needed",
        ),
        (
            [asked(model="claude-unheard-of")],
            400,
            "requests[0].params.model",
            "requests[0].params.model: model 'claude-unheard-of' at backend assistant/anthropic has no price",
        ),
        (
            [asked(mcp_servers=[{"url": "x"}])],
            400,
            "requests[0].params.mcp_servers",
            "requests[0].params.mcp_servers: tools of MCP servers run at the provider",
        ),
    ],
)
def test_what_is_wrong_with_a_request_is_named_by_its_place(
    requests: list[dict[str, object]], status: int, field: str, text: str
) -> None:
    refusal = is_a(Refusal, order_of(requests))
    assert (refusal.status, refusal.field) == (status, field)
    assert refusal.message.startswith(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "the body is not a JSON object"),
        (b"[]", "the body is not a JSON object"),
        (b"{}", "requests: a list of requests is needed"),
        (b'{"requests": {}}', "requests: a list of requests is needed"),
        (b'{"Requests": []}', "Requests: write it in lower case"),
        (b'{"requests": [], "requests": [1]}', "the body names a key twice"),
        (b'{"requests": [], "a": 1, "\\u0072equests": [1]}', "the body names a key twice"),
        (b'{"requests": [1]}', "requests[0]: is not a JSON object"),
        (b'{"requests": [{"custom_id":"a","params":{},"params":{}}]}', "requests[0]: names a key twice"),
        (
            b'{"requests": [{"custom_id":"a","params":{"model":"m","model":"m"}}]}',
            "requests[0].params: the body names a",
        ),
    ],
)
def test_a_body_that_two_parsers_may_read_in_two_ways_is_refused(body: bytes, text: str) -> None:
    refusal = is_a(Refusal, order_of(body))
    assert refusal.status == 400
    assert refusal.message.startswith(text)


def test_more_requests_than_the_provider_takes_are_refused() -> None:
    body = b'{"requests":[' + b",".join([b"{}"] * (REQUESTS_MAX + 1)) + b"]}"
    assert is_a(Refusal, requests_in(body)).status == 413


def test_a_request_that_goes_to_another_backend_is_named() -> None:
    other = Backend("assistant/other", Provider.ANTHROPIC, "https://other.example")
    settings = config(
        Rule("assistant", "first", (ModelChoice(ANTHROPIC.name),), matches=(Match(("claude-*",)),)),
        Rule("assistant", "second", (ModelChoice(other.name, "claude-haiku-4-5"),)),
        budgets=HARD,
    )
    settings = msgspec.structs.replace(settings, backends={**settings.backends, other.name: other})
    refusal = is_a(Refusal, order_of([asked("a"), asked("b", model="auto")], settings))
    assert (refusal.status, refusal.field) == (400, "requests[1].params.model")
    assert "'auto' goes to backend assistant/other, and requests[0] to assistant/anthropic" in refusal.message


def test_a_batch_stays_with_providers_of_its_api() -> None:
    settings = config(Rule("assistant", "all", (ModelChoice(OPENAI.name, "gpt-5-mini"),)), budgets=HARD)
    refusal = is_a(Refusal, order_of([asked("a")], settings))
    assert (refusal.status, refusal.field) == (400, "requests[0].params.model")
    assert "goes to backend assistant/openai, whose provider has no batches of this API" in refusal.message


def test_requests_of_one_model_and_user_form_a_lot_which_is_found_by_custom_id() -> None:
    budgets = (BudgetTerms("shop/user", True, per=(Per.USER,)),)
    users = {"1": "ann", "2": "bob", "3": "ann", "4": "cy"}
    order = is_a(
        BatchOrder,
        order_of([asked(name, metadata={"user_id": user}) for name, user in users.items()], config(budgets=budgets)),
    )
    assert [lot.claims[0].value for lot in order.lots] == ["ann", "bob", "cy"]
    assert [lot.requests for lot in order.lots] == [2, 1, 1]
    assert {name: order.lots[order.index.lot_of(name)].claims[0].value for name in users} == users
    assert order.requests == 4


def test_more_lots_than_the_journal_has_room_for_are_refused() -> None:
    budgets = (BudgetTerms("shop/user", True, per=(Per.USER,)),)
    requests = [asked(str(number), metadata={"user_id": f"u{number}"}) for number in range(LOTS_MAX + 1)]
    assert len(is_a(BatchOrder, order_of(requests[:-1], config(budgets=budgets))).lots) == LOTS_MAX
    refusal = is_a(Refusal, order_of(requests, config(budgets=budgets)))
    assert refusal.field == f"requests[{LOTS_MAX}]"
    assert "send several batches" in refusal.message


@given(st.dictionaries(st.text(max_size=20), st.integers(0, LOTS_MAX - 1), max_size=200))
def test_every_custom_id_leads_to_its_lot(lots: dict[str, int]) -> None:
    index = LotIndex.of(lots)
    if len(set(lots.values())) > 1:
        assert {name: index.lot_of(name) for name in lots} == lots
    else:
        assert index.entries.tolist() == []


def test_without_a_hard_budget_a_request_without_a_bound_is_taken() -> None:
    settings = config(budgets=(BudgetTerms("shop/month", False),))
    order = is_a(BatchOrder, order_of([asked(), asked("b", mcp_servers=[{"url": "x"}])], settings))
    [lot] = order.lots
    assert (lot.bounded, lot.requests) == (False, 2)


@given(st.binary(max_size=200) | st.sampled_from([b'{"requests":[{"custom_id":"\\ud800","params":{}}]}']))
def test_any_bytes_are_a_batch_or_are_refused(body: bytes) -> None:
    assert isinstance(order_of(body), BatchOrder | Refusal)


def test_fast_mode_has_no_discount() -> None:
    price = ModelPrice(HAIKU.tiers, 200_000, 64_000, fast_percent=200)
    settings = config(budgets=HARD)
    settings = msgspec.structs.replace(settings, prices={Provider.ANTHROPIC: {"claude-haiku-4-5": price}})
    plain = is_a(BatchOrder, order_of([asked()], settings)).bound
    fast = is_a(BatchOrder, order_of([asked(speed="fast")], settings)).bound
    assert fast.amount > 4 * plain.amount


def test_above_a_threshold_a_batch_goes_to_the_cheaper_tier_from_the_start() -> None:
    rule = Rule("assistant", "all", (ModelChoice(ANTHROPIC.name),))
    budgets = (BudgetTerms("shop/month", True, downgrades=(Downgrade(80, "fast"),)),)
    fast: dict[str, tuple[ModelChoice, ...]] = {"assistant/fast": (ModelChoice(ANTHROPIC.name, "claude-haiku-4-5"),)}
    settings = config(rule, budgets=budgets, tiers=fast)
    order = is_a(BatchOrder, order_of([asked(model="claude-dear")], settings, lambda name, value: 85))
    assert order.downgraded is not None
    assert (order.downgraded.budget, order.lots[0].candidate.model) == ("shop/month", "claude-haiku-4-5")
    assert b'"model":"claude-haiku-4-5"' in order.body


def test_a_lot_is_attributed_to_its_user_or_to_others_where_they_are_several() -> None:
    users = [asked("a", metadata={"user_id": "ann"}), asked("b", metadata={"user_id": "ann"})]
    assert is_a(BatchOrder, order_of(users)).lots[0].user == "ann"
    assert is_a(BatchOrder, order_of([*users, asked("c")])).lots[0].user == "(other)"
