"""Calls that the sidecar makes itself: paid, attributed and told like any, and never in the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from msgspec.structs import replace
from tests.sidecar.core.calls import is_a, messages
from tests.sidecar.shell.proxied import GPT, HAIKU, KEY, MONTH, World, config_of, until, world

from keelage_api.codec import seal
from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import BudgetTerms, Downgrade, ModelChoice
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.endpoints import CHAT, EMBEDDINGS, MESSAGES
from keelage_sidecar.core.log_line import Purpose
from keelage_sidecar.core.question import Question, reply_text
from keelage_sidecar.shell.inner_call import NO_ANSWER, TIMED_OUT, Answered, Asker, InnerCalls, Unanswered, Whom
from keelage_sidecar.shell.story import Story

QUESTION = Question("Say SIMPLE or COMPLEX.", "Translate 'bread'.")
CLAUDE = ModelChoice("r/anthropic0", HAIKU)
OPENAI = ModelChoice("r/openai0", GPT)


def asker(here: World) -> Asker:
    """A call of ann's for triage that something is asked about."""
    assert here.table is not None
    facts = replace(messages(), user="ann", feature="triage")
    return Asker(here.table, here.table.config.rules[0], facts, Story("kl_7", 0.0, 0.0))


def inner(here: World) -> InnerCalls:
    return InnerCalls(here.means, here.records.append)


def whom(*choices: ModelChoice, timeout_s: float = 60.0) -> Whom:
    return Whom(choices, timeout_s, "fast", max_output_tokens=16)


@pytest.mark.parametrize(("choice", "path"), [(CLAUDE, "/v1/messages"), (OPENAI, "/v1/chat/completions")])
async def test_a_question_is_answered_paid_and_attributed_to_whom_it_is_for(
    tmp_path: Path, choice: ModelChoice, path: str
) -> None:
    async with (
        FakeProvider({KEY: "app"}, replies={"*": " SIMPLE\n"}) as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        assert await inner(here).question(asker(here), whom(choice), QUESTION, Purpose.CLASSIFIER) == "SIMPLE"
        seen = provider.requests()[0]
        assert (seen.path, seen.key) == (path, "app")
        assert b"bread" in seen.body.encode()
        assert here.purse.spent == int(provider.bill().usd * PICO_PER_USD) > 0
        spender = here.purse.spenders[0]
        assert spender is not None
        assert (spender.model, spender.feature, spender.user) == (choice.model, "triage", "ann")
        record = here.records[0]
        assert (record.request_id, record.purpose, record.outcome) == ("kl_7/classifier", "classifier", "ok")
        assert (record.cost, record.route, record.rule, record.user) == (here.purse.spent, "r", "all/classifier", "ann")


async def test_its_output_is_capped_and_so_is_what_it_reserves(tmp_path: Path) -> None:
    async with FakeProvider(output_tokens=500) as provider, world(config_of([provider.url]), tmp_path) as here:
        await inner(here).question(asker(here), whom(CLAUDE), QUESTION, Purpose.CLASSIFIER)
        assert orjson.loads(provider.requests()[0].body)["max_tokens"] == 16
        assert here.records[0].output_tokens == 16
        assert here.records[0].cost <= here.records[0].bound < 500 * 5_000_000


async def test_the_next_choice_is_asked_in_its_own_api(tmp_path: Path) -> None:
    async with (
        FakeProvider(replies={"*": "COMPLEX"}, model_faults={HAIKU: "529"}) as provider,
        world(config_of([provider.url], attempts=2), tmp_path) as here,
    ):
        said = await inner(here).question(asker(here), whom(CLAUDE, OPENAI), QUESTION, Purpose.CLASSIFIER)
        assert said == "COMPLEX"
        assert provider.requests()[-1].path == "/v1/chat/completions"
        assert here.records[0].attempts == 2


async def test_a_cheaper_tier_for_its_sake_is_none_for_the_application(tmp_path: Path) -> None:
    config = config_of(["http://a"])
    tiers: dict[str, tuple[ModelChoice, ...]] = {"r/cheap": (OPENAI,)}
    async with FakeProvider(output_tokens=30) as provider:
        backends = {name: replace(backend, endpoint=provider.url) for name, backend in config.backends.items()}
        terms = BudgetTerms(MONTH, True, downgrades=(Downgrade(50, "cheap"),))
        near = seal(replace(config, version="", backends=backends, tiers=tiers, budgets=(terms,)))
        async with world(near, tmp_path) as here:
            here.purse.percent[MONTH] = 60
            await inner(here).question(asker(here), whom(CLAUDE), QUESTION, Purpose.CLASSIFIER)
            uncapped = {"model": HAIKU, "messages": [{"role": "user", "content": "Hi"}]}
            await here.post("/v1/messages", uncapped, x_keelage_feature="triage")
            assert [(each.model, each.downgraded, each.output_tokens) for each in here.records] == [
                (GPT, "cheap", 16),
                (GPT, "cheap", 30),
            ]
            assert [each.rule for each in here.records] == ["all/classifier", "all"]


async def test_an_embedding_comes_as_the_provider_sent_it(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        model = "text-embedding-3-small"
        body = orjson.dumps({"model": model, "input": ["one", "two"]})
        to = Whom((ModelChoice("r/openai0", model),), 60.0)
        answer = await inner(here).ask(asker(here), to, EMBEDDINGS, body, Purpose.EMBEDDING)
        assert len(orjson.loads(is_a(Answered, answer).body)["data"]) == 2
        assert is_a(Answered, answer).cost == here.records[0].cost == here.purse.spent > 0


async def test_a_budget_that_cannot_pay_is_no_answer(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        here.purse.limit = 1
        said = await inner(here).question(asker(here), whom(CLAUDE), QUESTION, Purpose.CLASSIFIER)
        assert said == Unanswered("BudgetExhausted")
        assert provider.requests() == []
        assert (here.records[0].outcome, here.records[0].budget) == ("refused", MONTH)


@pytest.mark.parametrize("fault", ["400", "500", "reset", "garbage"])
async def test_a_provider_that_fails_is_no_answer(tmp_path: Path, fault: str) -> None:
    async with (
        FakeProvider(model_faults={HAIKU: fault}) as provider,
        world(config_of([provider.url], attempts=1), tmp_path) as here,
    ):
        said = await inner(here).question(asker(here), whom(CLAUDE), QUESTION, Purpose.CLASSIFIER)
        assert isinstance(said, Unanswered)
        assert said.reason == here.records[0].reason
        assert here.records[0].outcome == "upstream_error"


async def test_who_says_nothing_in_time_is_charged_at_the_bound_and_left(tmp_path: Path) -> None:
    async with (
        FakeProvider(model_faults={HAIKU: "hang"}) as provider,
        world(config_of([provider.url], attempts=1), tmp_path) as here,
    ):
        asked = asyncio.create_task(
            inner(here).question(asker(here), whom(CLAUDE, timeout_s=0.05), QUESTION, Purpose.CLASSIFIER)
        )
        said = await asked
        assert isinstance(said, Unanswered)
        assert said.reason in (TIMED_OUT, "UpstreamTimeout")
        assert here.purse.spent == here.records[0].bound > 0
        assert len(provider.requests()) == 1


async def test_an_answer_without_text_is_none(tmp_path: Path) -> None:
    async with FakeProvider(replies={"*": " "}) as provider, world(config_of([provider.url]), tmp_path) as here:
        said = await inner(here).question(asker(here), whom(CLAUDE), QUESTION, Purpose.CLASSIFIER)
        assert said == Unanswered(NO_ANSWER)


async def test_nobody_to_ask_is_no_answer(tmp_path: Path) -> None:
    async with world(config_of(["http://127.0.0.1:9"]), tmp_path) as here:
        asked = asker(here)
        assert await inner(here).question(asked, whom(), QUESTION, Purpose.SUMMARY) == Unanswered("NoBackend")
        body = orjson.dumps({"model": "m", "input": "x"})
        nameless = Asker(asked.table, asked.rule, replace(asked.facts, model=""), asked.story)
        to = whom(ModelChoice(CLAUDE.backend))
        assert await inner(here).question(nameless, to, QUESTION, Purpose.SUMMARY) == Unanswered("BadRequest")
        said = await inner(here).ask(asked, whom(CLAUDE), EMBEDDINGS, body, Purpose.EMBEDDING)
        assert said == Unanswered("NoBackendForDialect")
        assert here.records == []


async def test_when_the_application_leaves_the_inner_call_ends_and_is_settled(tmp_path: Path) -> None:
    async with (
        FakeProvider(model_faults={HAIKU: "hang"}) as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        asked = asyncio.create_task(inner(here).question(asker(here), whom(CLAUDE), QUESTION, Purpose.CLASSIFIER))
        await until(lambda: bool(provider.requests()))
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert here.purse.holds == {}
        assert here.records[0].outcome == "client_disconnect"
        assert here.purse.spent > 0


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"content":"x"}', b'{"choices":[]}', b'{"choices":[{"message":{"content":null}}]}']
)
def test_what_is_no_answer_has_no_text(body: bytes) -> None:
    assert reply_text(MESSAGES, body) == ""
    assert reply_text(CHAT, body) == ""
