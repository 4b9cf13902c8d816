"""Calls pass as they are, and their log lines say what rules and budgets in shadow would have done."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
import pytest
from tests.sidecar.shell.proxied import GPT, HAIKU, MONTH, FakeAccount, config_of, price, world

from keelage_api.proxy_config import BudgetTerms, Match, ModelChoice, Provider, ProxyConfig
from keelage_api.response_cache import ResponseCache
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.log_line import ShadowBudget, ShadowRule, Would

MESSAGES, BATCHES = "/v1/messages", "/v1/messages/batches"
DEAR = "claude-opus-4-5"
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


@pytest.mark.parametrize(
    ("keeps", "told"),
    [
        (True, ShadowRule("r", "mini", "mini", "r/openai0", GPT, "", 0, 0, "0.00")),
        (False, ShadowRule("r", "mini", "mini", "r/openai0", GPT)),
    ],
)
async def test_a_kept_answer_costs_nothing_under_a_rule_in_shadow_that_keeps_answers_too(
    tmp_path: Path, keeps: bool, told: ShadowRule
) -> None:
    terms = ResponseCache(sampled=True)
    async with FakeProvider() as provider:
        config = shadowed(provider.url)
        mini, rule = config.rules
        mini = msgspec.structs.replace(mini, response_cache=terms if keeps else None)
        rules = (mini, msgspec.structs.replace(rule, response_cache=terms))
        async with world(msgspec.structs.replace(config, rules=rules), tmp_path) as here:
            here.purse.accounts[MONTH, ""] = FakeAccount(1000)
            for _ in range(2):
                assert (await here.post(MESSAGES, ASKED)).status == 200
            made, given = here.records
            assert (made.cache, given.cache) == ("miss", "hit")
            assert made.shadow_budgets is not msgspec.UNSET
            assert (given.shadow_rule, given.shadow_budgets) == (told, msgspec.UNSET)


def batch(*models: str) -> dict[str, object]:
    requests = [{"custom_id": str(at), "params": {**ASKED, "model": model}} for at, model in enumerate(models)]
    return {"requests": requests}


def batched(url: str) -> ProxyConfig:
    """A rule in shadow that would send all requests to a dearer model."""
    config = shadowed(url)
    mini, rule = config.rules
    mini = msgspec.structs.replace(mini, choices=(ModelChoice("r/anthropic0", DEAR),))
    models = {**config.prices[Provider.ANTHROPIC], DEAR: price(2_000_000, 10_000_000)}
    return msgspec.structs.replace(config, rules=(mini, rule), prices={**config.prices, Provider.ANTHROPIC: models})


async def test_a_batch_is_told_by_its_bound(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(batched(provider.url), tmp_path) as here:
        here.purse.accounts[MONTH, ""] = FakeAccount(1000)
        reply = await here.post(BATCHES, batch(HAIKU, HAIKU, HAIKU))
        assert reply.status == 200
        record = next(record for record in here.records if record.endpoint == "new_batch")
        assert isinstance(record.shadow_rule, ShadowRule)
        assert (record.shadow_rule.rule, record.shadow_rule.model) == ("mini", DEAR)
        assert record.shadow_rule.cost_picodollars == 2 * record.bound > 0
        assert record.shadow_rule.difference_picodollars == record.bound
        assert record.shadow_budgets == (
            ShadowBudget(MONTH, Would.REFUSE, "BudgetExhausted", needed=record.bound, left=1000),
        )


async def test_a_batch_that_nothing_in_shadow_would_change_says_nothing_of_it(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        config = batched(provider.url)
        async with world(msgspec.structs.replace(config, rules=config.rules[1:]), tmp_path) as here:
            assert (await here.post(BATCHES, batch(HAIKU))).status == 200
            line = orjson.loads(here.records[0].line())
            assert not {"shadow_rule", "shadow_budgets"} & line.keys()


async def test_a_batch_of_which_a_rule_in_shadow_would_take_a_part_tells_that_part(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        config = batched(provider.url)
        mini, rule = config.rules
        mini = msgspec.structs.replace(mini, matches=(Match(models=(DEAR,)),))
        async with world(msgspec.structs.replace(config, rules=(mini, rule)), tmp_path) as here:
            assert (await here.post(BATCHES, batch(HAIKU, DEAR))).status == 200
            told = here.records[0].shadow_rule
            assert isinstance(told, ShadowRule)
            # Two thirds of the whole, but for the length of the models' names.
            assert told.difference_picodollars == 0
            assert told.cost_picodollars == pytest.approx(here.records[0].bound * 2 / 3, rel=0.01)
