"""Calls pass as they are, and their log lines say what rules and budgets in shadow would have done."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
from tests.sidecar.shell.proxied import GPT, HAIKU, MONTH, FakeAccount, config_of, world

from keelage_api.proxy_config import BudgetTerms, ModelChoice, ProxyConfig
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.log_line import ShadowBudget, ShadowRule, Would

MESSAGES = "/v1/messages"
ASKED = {"model": HAIKU, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}


def shadowed(url: str) -> ProxyConfig:
    """A rule in shadow that would send everything to GPT, and the budget in shadow."""
    config = config_of([url])
    [rule] = config.rules
    mini = msgspec.structs.replace(
        rule, name="mini", tier="mini", choices=(ModelChoice("r/openai0", GPT),), shadow=True
    )
    budget = BudgetTerms(MONTH, False, shadow=True)
    return msgspec.structs.replace(config, rules=(mini, rule), budgets=(budget,))


async def test_a_call_passes_and_its_line_tells_rule_budget_and_difference(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(shadowed(provider.url), tmp_path) as here:
        here.purse.accounts[MONTH, ""] = FakeAccount(1000)
        reply = await here.post(MESSAGES, ASKED)
        assert reply.status == 200
        assert reply.json()["model"] == HAIKU
        [record] = here.records
        assert (record.rule, record.model, record.outcome) == ("all", HAIKU, "ok")
        assert isinstance(record.shadow_rule, ShadowRule)
        assert (record.shadow_rule.rule, record.shadow_rule.model) == ("mini", GPT)
        assert record.shadow_rule.cost_picodollars is not None
        assert record.shadow_rule.difference_picodollars == record.shadow_rule.cost_picodollars - record.cost < 0
        assert record.shadow_budgets == (
            ShadowBudget(MONTH, Would.REFUSE, "BudgetExhausted", needed=record.bound, left=1000),
        )
        assert here.purse.spent == record.cost
        line = orjson.loads(record.line())
        assert line["shadow_budgets"][0]["would"] == "refuse"


async def test_lines_of_calls_that_nothing_in_shadow_would_change_say_nothing_of_it(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        await here.post(MESSAGES, ASKED)
        line = orjson.loads(here.records[0].line())
        assert not {"shadow_rule", "shadow_budgets"} & line.keys()


async def test_a_call_that_only_a_rule_in_shadow_matches_is_refused_and_told(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        config = shadowed(provider.url)
        alone = msgspec.structs.replace(config, rules=config.rules[:1])
        async with world(alone, tmp_path) as here:
            assert (await here.post(MESSAGES, ASKED)).status == 404
            [record] = here.records
            assert record.reason == "NoMatchingRoute"
            assert isinstance(record.shadow_rule, ShadowRule)
            assert record.shadow_rule.rule == "mini"
