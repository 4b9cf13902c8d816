"""Which rule takes a call by its headers and path, whatever the table has answered before."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.sidecar.core.calls import OPENAI, chat, config, embeddings, is_a

from keelage_api.proxy_config import Match, ModelChoice, Rule, ValueMatch
from keelage_sidecar.core.matching import VALUE_KEPT
from keelage_sidecar.core.refusal import Headers, Refusal
from keelage_sidecar.core.routing import RoutingTable

CHOICES = (ModelChoice(OPENAI.name),)


def rule(name: str, *headers: ValueMatch, path: ValueMatch | None = None) -> Rule:
    return Rule("assistant", name, CHOICES, matches=(Match(headers=headers, path=path),))


GOLD = rule("gold", ValueMatch("gold", name="x-tenant"), ValueMatch("eu-", prefix=True, name="x-region"))
VECTORS = rule("vectors", path=ValueMatch("/v1/embeddings"))
BELOW = rule("below", path=ValueMatch("/v1/chat", prefix=True))
REST = Rule("assistant", "rest", CHOICES)
TABLE = RoutingTable.build(config(GOLD, VECTORS, BELOW, REST))


@pytest.mark.parametrize(
    ("headers", "path", "taken"),
    [
        (((b"x-tenant", b"gold"), (b"x-region", b"eu-west")), "", "gold"),
        (((b"x-tenant", b"gold"), (b"x-region", b"us-east")), "", "rest"),
        (((b"x-tenant", b"golden"), (b"x-region", b"eu-west")), "", "rest"),
        (((b"x-region", b"eu-west"),), "", "rest"),
        (((b"x-tenant", b"tin"), (b"x-tenant", b"gold"), (b"x-region", b"eu-")), "", "gold"),
        ((), "/v1/embeddings", "vectors"),
        ((), "/v1/embeddings/", "vectors"),
        ((), "/v1/embeddings/x", "rest"),
        ((), "/v1/chat/completions", "below"),
        ((), "/v1/chat", "below"),
        ((), "/v1/chats", "rest"),
        ((), "", "rest"),
    ],
)
def test_headers_and_path_decide(headers: Headers, path: str, taken: str) -> None:
    assert is_a(Rule, TABLE.rule(replace(chat(), headers=headers, path=path))).name == taken


def test_values_beyond_what_a_rule_can_name_are_no_other_rules() -> None:
    longest = "v" * (VALUE_KEPT - 1)
    exact, beginning = ValueMatch(longest, name="x"), ValueMatch(longest, prefix=True, name="x")
    table = RoutingTable.build(config(rule("exact", exact), rule("prefix", beginning), REST))
    for value, taken in ((longest, "exact"), (longest + "v", "prefix"), (longest + "vw", "prefix"), ("w", "rest")):
        assert is_a(Rule, table.rule(replace(chat(), headers=((b"x", value.encode()),)))).name == taken


def test_what_no_rule_asks_for_is_not_looked_at() -> None:
    table = RoutingTable.build(config(REST))
    assert table.asks is None
    assert table.rule(embeddings("x")) is REST


def test_who_is_refused_hears_what_else_rules_ask_for() -> None:
    refusal = is_a(Refusal, RoutingTable.build(config(GOLD, VECTORS)).rule(chat()))
    assert "(rules also ask for header x-tenant, header x-region, the path): ask for what" in refusal.message
