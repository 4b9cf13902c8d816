"""Cascades and latency budgets: from manifests to what sidecars obey, and what is wrong with them."""

from __future__ import annotations

import pytest
from tests.operator.core.manifest_fields import Fields, compiled, route

from keelage_api.codec import decode_config, encode
from keelage_api.proxy_config import Cascade, LatencyBudget, ModelChoice

TIERS = [
    {"name": "fast", "models": [{"backend": "anthropic", "model": "claude-small"}]},
    {"name": "deep", "models": [{"backend": "anthropic", "model": "claude-known"}]},
]


def asking(**fields: object) -> Fields:
    return route(tiers=TIERS, rules=[{"name": "all", "select": [{"tier": "fast"}], **fields}])


def cascade(start: str = "fast", to: str = "deep", **on: object) -> Fields:
    return asking(cascade={"from": start, "to": to, "escalateOn": on})


def problems(raw: Fields) -> list[tuple[str, bool, str]]:
    return [(each.reason, each.refuses, each.message) for each in compiled([raw]).routes["assistant"].problems]


def test_what_is_not_written_is_not_done() -> None:
    (rule,) = compiled([asking()]).config_for({}).rules
    assert (rule.cascade, rule.first_token_within, rule.answer_within) == (None, None, None)


def test_all_that_is_written_reaches_the_sidecars() -> None:
    on = {
        "replyPrefix": "UNCERTAIN",
        "pattern": "^(?:no|maybe)",
        "patternCharacters": 40,
        "maxTokens": True,
        "invalidJson": True,
        "jsonSchema": {"type": "object"},
    }
    raw = asking(
        cascade={"from": "fast", "to": "deep", "escalateOn": on},
        firstTokenWithin={"p95": "5s", "otherwise": "deep"},
        answerWithin={"p50": "1m", "otherwise": "deep"},
    )
    config = compiled([raw]).config_for({})
    (rule,) = config.rules
    assert rule.cascade == Cascade("fast", "deep", "UNCERTAIN", "^(?:no|maybe)", 40, True, True, {"type": "object"})
    assert rule.first_token_within == LatencyBudget(95, 5_000, "deep")
    assert rule.answer_within == LatencyBudget(50, 60_000, "deep")
    assert config.tiers["assistant/deep"] == (ModelChoice("assistant/anthropic", "claude-known"),)
    assert decode_config(encode(config)) == config


@pytest.mark.parametrize(
    ("raw", "reason", "message"),
    [
        (
            cascade(to="dear", maxTokens=True),
            "Invalid",
            'spec.rules[all].cascade.to: Not found: "dear": spec.tiers has fast, deep: correct the name or add the'
            " tier",
        ),
        (
            asking(answerWithin={"p50": "1s", "otherwise": "slow"}),
            "Invalid",
            'spec.rules[all].answerWithin.otherwise: Not found: "slow": spec.tiers has fast, deep: correct the name or'
            " add the tier",
        ),
        (
            cascade(pattern="(?=a)"),
            "PatternInvalid",
            "spec.rules[all].cascade.escalateOn.pattern: at character 2: a group that begins with (? and not with (?: :"
            " flags stand at the beginning, looks around are not known",
        ),
        (
            cascade(jsonSchema={"properties": {"a": {"format": "date"}}}),
            "SchemaInvalid",
            "spec.rules[all].cascade.escalateOn.jsonSchema: properties.a.format: the keyword is not known here:"
            " leave it out",
        ),
    ],
)
def test_what_cannot_be_obeyed_is_refused_with_its_field(raw: Fields, reason: str, message: str) -> None:
    assert (reason, True, message) in problems(raw)
    assert compiled([raw]).routes["assistant"].route is None


def test_what_changes_nothing_is_told() -> None:
    vain = cascade("deep", "fast", maxTokens=True)
    assert [(reason, refuses) for reason, refuses, _ in problems(vain)][:1] == [("CascadeInVain", False)]
    slow = asking(firstTokenWithin={"p95": "5s", "otherwise": "fast"})
    assert [(reason, refuses) for reason, refuses, _ in problems(slow)][:1] == [("LatencyBudgetInVain", False)]
    assert "CascadeInVain" not in {reason for reason, *_ in problems(cascade(maxTokens=True))}
