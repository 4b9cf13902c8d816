"""Calls whose rule has several tiers: who is asked, what the application and the log are told, and who pays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import UNSET
from msgspec.structs import replace
from tests.sidecar.core.calls import is_a
from tests.sidecar.shell.proxied import GPT, HAIKU, KEY, MONTH, World, config_of, until, world
from tests.sidecar.shell.test_cached_call import ANSWER, Gate

from keelage_api.codec import seal
from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import ModelChoice, ProxyConfig
from keelage_api.selection import BudgetUsed, Classifier, Selection, Size, When, as_words
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.classification import FRESH_S, KNOWN_MAX, KnownAnswers, key_of, question_of

MESSAGES = "/v1/messages"
JUDGE = "judge"
ASKED = Classifier("judge", "SIMPLE or COMPLEX?", as_words("SIMPLE"), 2000, 16)


def selecting(url: str, *select: Selection) -> ProxyConfig:
    """Deep unless an entry says otherwise; the models of the tiers are told apart by their names."""
    config = config_of([url], attempts=1)
    tiers: dict[str, tuple[ModelChoice, ...]] = {
        "r/deep": (ModelChoice("r/anthropic0", HAIKU),),
        "r/fast": (ModelChoice("r/openai0", GPT),),
        "r/judge": (ModelChoice("r/anthropic0", JUDGE),),
    }
    rule = replace(config.rules[0], choices=tiers["r/deep"], tier="deep", select=select)
    prices = {
        provider: {**models, JUDGE: models.get(HAIKU, models.get(GPT))} for provider, models in config.prices.items()
    }
    return seal(replace(config, version="", rules=(rule,), tiers=tiers, prices=prices))


def asking(text: str) -> dict[str, object]:
    return {"model": "auto", "max_tokens": 50, "messages": [{"role": "user", "content": text}]}


def short(tier: str = "fast") -> Selection:
    return Selection(When(words=Size(at_most=3)), tier)


async def told(here: World, text: str) -> tuple[str, str, str, str]:
    """What the answer's headers say of a call: rule, tier, model and reason."""
    reply = await here.post(MESSAGES, asking(text))
    assert reply.status == 200
    names = ("rule", "tier", "model", "selected-by")
    rule, tier, model, by = (reply.headers.get(f"x-keelage-{name}", "") for name in names)
    return rule, tier, model, by


async def test_answer_and_log_say_which_tier_and_why(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(selecting(provider.url, short()), tmp_path) as here:
        assert await told(here, "Hi") == ("r/all", "fast", GPT, "0:promptWords")
        assert await told(here, "One two three four") == ("r/all", "deep", HAIKU, "default")
        assert [(each.tier, each.selected_by, each.model) for each in here.records] == [
            ("fast", "0:promptWords", GPT),
            ("deep", "default", HAIKU),
        ]
        assert [each.prompt_words for each in here.records] == [1, 4]


async def test_a_refusal_says_who_was_to_be_asked(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(selecting(provider.url, short()), tmp_path) as here:
        here.purse.limit = 1
        reply = await here.post(MESSAGES, asking("Hi"))
        assert reply.status == 429
        told = [reply.headers.get(f"x-keelage-{name}") for name in ("rule", "tier", "model", "selected-by")]
        assert told == ["r/all", "fast", None, "0:promptWords"]


async def test_a_rule_with_one_tier_says_no_reason(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(selecting(provider.url), tmp_path) as here:
        assert await told(here, "Hi") == ("r/all", "deep", HAIKU, "")
        assert here.records[0].selected_by == ""
        assert here.records[0].prompt_words is UNSET


async def test_a_models_name_cannot_end_a_header(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(MESSAGES, {**asking("Hi"), "model": "a\r\nx-evil: é"})
        assert "x-evil" not in reply.headers


async def test_the_nearly_spent_budget_chooses(tmp_path: Path) -> None:
    entry = Selection(When(budget_used=BudgetUsed(MONTH, 80)), "fast")
    async with FakeProvider() as provider, world(selecting(provider.url, entry), tmp_path) as here:
        assert (await told(here, "Hi"))[1] == "deep"
        here.purse.percent[MONTH] = 80
        assert (await told(here, "Hi"))[1] == "fast"


async def test_a_classifier_decides_is_paid_and_is_asked_once_about_one_text(tmp_path: Path) -> None:
    entry = Selection(When(classifier=ASKED), "fast")
    async with (
        FakeProvider(
            {KEY: "app"}, replies={JUDGE: "Simple."}, prices={JUDGE: ["1", "5", "0.1", "1.25", "2"]}
        ) as provider,
        world(selecting(provider.url, entry), tmp_path) as here,
    ):
        assert await told(here, "Hi") == ("r/all", "fast", GPT, "0:classifier")
        assert await told(here, "Hi") == ("r/all", "fast", GPT, "0:classifier")
        asked = [each for each in provider.requests() if JUDGE in each.body]
        assert len(asked) == 1
        assert "<request>\\nHi\\n</request>" in asked[0].body
        assert "SIMPLE or COMPLEX?" in asked[0].body
        assert here.purse.spent == int(provider.bill().usd * PICO_PER_USD) > 0
        first, second, _ = here.records
        assert (first.purpose, first.user, first.model) == ("classifier", "pod-user", JUDGE)
        assert first.request_id == f"{second.request_id}/classifier"
        assert first.cost > 0


async def test_calls_that_come_together_ask_a_classifier_once(tmp_path: Path) -> None:
    said = ANSWER.replace(b'"Hi"', b'"SIMPLE"')
    async with Gate() as gate:
        config = selecting(gate.url, Selection(When(classifier=ASKED), "fast"))
        tiers = {**config.tiers, "r/fast": config.tiers["r/deep"]}
        async with world(seal(replace(config, version="", tiers=tiers)), tmp_path) as here:
            calls = [asyncio.ensure_future(told(here, "Hi")) for _ in range(5)]
            await until(lambda: here.server.active == 5 and gate.asked == 1)
            for answer in (said, *[ANSWER] * 5):
                gate.answers.put_nowait(answer)
            assert await asyncio.gather(*calls) == [("r/all", "fast", HAIKU, "0:classifier")] * 5
            assert [record.purpose for record in here.records].count("classifier") == 1


async def test_another_answer_leaves_the_default(tmp_path: Path) -> None:
    entry = Selection(When(classifier=ASKED), "fast")
    async with (
        FakeProvider(replies={JUDGE: "COMPLEX"}) as provider,
        world(selecting(provider.url, entry), tmp_path) as here,
    ):
        assert await told(here, "Hi") == ("r/all", "deep", HAIKU, "default")


@pytest.mark.parametrize("fault", ["500", "reset", "hang"])
@pytest.mark.parametrize(("otherwise", "by"), [("", "default"), ("fast", "0:classifier:otherwise")])
async def test_a_classifier_that_fails_keeps_no_call(tmp_path: Path, fault: str, otherwise: str, by: str) -> None:
    asked = replace(ASKED, timeout_ms=200 if fault == "hang" else 60_000, otherwise=otherwise)
    async with (
        FakeProvider(model_faults={JUDGE: fault}) as provider,
        world(selecting(provider.url, Selection(When(classifier=asked), "fast")), tmp_path) as here,
    ):
        for _ in range(2):  # and what failed is not remembered
            assert (await told(here, "Hi"))[3] == by
        assert sum(JUDGE in each.body for each in provider.requests()) == 2


async def test_a_classifier_that_the_budget_cannot_pay_keeps_no_call(tmp_path: Path) -> None:
    asked = replace(ASKED, max_tokens=4096)
    async with (
        FakeProvider(replies={JUDGE: "SIMPLE"}) as provider,
        world(selecting(provider.url, Selection(When(classifier=asked), "fast")), tmp_path) as here,
    ):
        here.purse.limit = 4_000 * 5_000_000
        assert (await told(here, "Hi"))[3] == "default"
        assert is_a(str, here.records[0].purpose) == "classifier"
        assert here.records[0].outcome == "refused"


def test_answers_are_remembered_for_an_hour_up_to_a_number_and_by_all_that_was_asked() -> None:
    question = question_of(ASKED, "Hi")
    keys = {
        key_of("r", "judge", question),
        key_of("r", "other", question),
        key_of("q", "judge", question),
        key_of("r", "judge", question_of(ASKED, "Ho")),
        key_of("r", "judge", question_of(replace(ASKED, prompt="other"), "Hi")),
    }
    assert len(keys) == 5
    known = KnownAnswers()
    known.remember(b"a", "SIMPLE", 0.0)
    assert known.find(b"a", FRESH_S - 1) == "SIMPLE"
    assert known.find(b"a", FRESH_S) is None
    for number in range(KNOWN_MAX):
        known.remember(b"%d" % number, "x", 1.0)
    assert known.find(b"a", 1.0) is None
    assert known.find(b"0", 1.0) == known.find(b"%d" % (KNOWN_MAX - 1), 1.0) == "x"
