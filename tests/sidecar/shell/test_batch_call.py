"""Message batches, from the official SDK through the sidecar to a fake provider that bills them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import orjson
import pytest
from anthropic.types.messages.batch_create_params import Request
from tests.sidecar.shell.proxied import HAIKU, IMPATIENT, KEY, MONTH, World, config_of, request, until, world

from keelage_api.codec import seal
from keelage_api.money import PICO_PER_USD
from keelage_api.proxy_config import BudgetTerms, Per, ProxyConfig, Unit
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.attribution import Spender
from keelage_sidecar.core.open_batch import OPEN_MAX

BATCHES = "/v1/messages/batches"


def asked(name: str = "a", **params: object) -> dict[str, object]:
    return {
        "custom_id": name,
        "params": {
            "model": HAIKU,
            "max_tokens": 50,
            "messages": [{"role": "user", "content": f"hello {name}"}],
            **params,
        },
    }


def typed(name: str = "a") -> Request:
    message: anthropic.types.MessageParam = {"role": "user", "content": f"hello {name}"}
    return {"custom_id": name, "params": {"model": HAIKU, "max_tokens": 50, "messages": [message]}}


def billed(provider: FakeProvider) -> int:
    return int(provider.bill().usd * PICO_PER_USD)


@asynccontextmanager
async def sdk(here: World) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=f"http://127.0.0.1:{here.port}", api_key="placeholder", max_retries=0
    ) as client:
        yield client


async def test_a_batch_is_held_while_it_runs_and_paid_exactly_when_the_application_reads_it(tmp_path: Path) -> None:
    async with (
        FakeProvider({KEY: "app"}) as provider,
        world(config_of([provider.url]), tmp_path) as here,
        sdk(here) as claude,
    ):
        batch = await claude.messages.batches.create(requests=[typed(name) for name in "abc"])
        held = here.purse.accounts[MONTH, ""].reserved
        assert (batch.processing_status, batch.results_url) == ("in_progress", None)
        assert (here.purse.spent, here.records[0].cost, here.records[0].bound) == (0, 0, held)
        assert (await claude.messages.batches.retrieve(batch.id)).processing_status == "in_progress"
        ended = await claude.messages.batches.retrieve(batch.id)
        assert ended.results_url == f"http://127.0.0.1:{here.port}{BATCHES}/{batch.id}/results"
        assert here.purse.spent == 0

        results = [each async for each in await claude.messages.batches.results(batch.id)]
        assert [each.custom_id for each in results] == ["a", "b", "c"]
        assert 0 < here.purse.spent == billed(provider) < held
        assert here.purse.accounts[MONTH, ""].reserved == 0
        settled = here.records[-2]  # the line of the call that read them is last
        assert (settled.outcome, settled.cost, settled.bound) == ("settled", billed(provider), held)
        assert settled.request_id == here.records[0].request_id
        assert settled.usage_known
        assert settled.output_tokens == 36

        assert [each async for each in await claude.messages.batches.results(batch.id)] == results
        assert here.purse.spent == billed(provider)


async def test_a_batch_that_nobody_reads_is_settled_by_the_sidecar_itself(tmp_path: Path) -> None:
    async with (
        FakeProvider({KEY: "app"}) as provider,
        world(config_of([provider.url]), tmp_path) as here,
        sdk(here) as claude,
    ):
        await claude.messages.batches.create(requests=[typed(name) for name in "abc"])
        await here.batches.tend()
        assert len(provider.requests()) == 1  # too soon
        for later_s in (31.0, 60.0, 100.0, 1000.0):
            here.later_s = later_s
            await here.batches.tend()
        paths = [seen.path.removeprefix(BATCHES) for seen in provider.requests()]
        assert paths == ["", "/msgbatch_fake00000001", "/msgbatch_fake00000001", "/msgbatch_fake00000001/results"]
        assert {seen.key for seen in provider.requests()} == {"app"}
        assert 0 < here.purse.spent == billed(provider)


async def test_what_failed_expired_or_was_cancelled_costs_nothing(tmp_path: Path) -> None:
    outcomes = {"b": "errored", "c": "expired", "d": "canceled"}
    async with (
        FakeProvider(batch_polls=0, batch_outcomes=outcomes) as provider,
        world(config_of([provider.url]), tmp_path) as here,
        sdk(here) as claude,
    ):
        first = await claude.messages.batches.create(requests=[typed(name) for name in "abcd"])
        await claude.messages.batches.retrieve(first.id)
        async for _ in await claude.messages.batches.results(first.id):
            pass
        assert provider.bill().calls == 1
        assert 0 < here.purse.spent == billed(provider)

        second = await claude.messages.batches.create(requests=[typed()])
        assert (await claude.messages.batches.cancel(second.id)).processing_status == "canceling"
        here.later_s = 60.0
        await here.batches.tend()
        assert here.purse.accounts[MONTH, ""].reserved == 0
        assert here.purse.spent == billed(provider)


async def test_lists_and_every_other_answer_lead_to_the_sidecar_and_a_deleted_batch_is_read_before(
    tmp_path: Path,
) -> None:
    async with (
        FakeProvider(batch_polls=0) as provider,
        world(config_of([provider.url]), tmp_path) as here,
        sdk(here) as claude,
    ):
        batch = await claude.messages.batches.create(requests=[typed()])
        await claude.messages.batches.retrieve(batch.id)
        other = await claude.messages.batches.create(requests=[typed()])
        listed = {each.id: each.results_url async for each in claude.messages.batches.list()}
        assert listed == {batch.id: f"http://127.0.0.1:{here.port}{BATCHES}/{batch.id}/results", other.id: None}
        await claude.messages.batches.delete(batch.id)
        assert 0 < here.purse.spent == billed(provider)
        with pytest.raises(anthropic.NotFoundError):
            await claude.messages.batches.retrieve(batch.id)


async def test_a_batch_is_refused_with_the_amount_where_the_money_does_not_suffice(tmp_path: Path) -> None:
    async with (
        FakeProvider() as provider,
        world(config_of([provider.url]), tmp_path) as here,
        sdk(here) as claude,
    ):
        here.purse.limit = 1000
        with pytest.raises(anthropic.RateLimitError, match="a batch of 2 requests: shop/month is spent") as no:
            await claude.messages.batches.create(requests=[typed(name) for name in "ab"])
        assert no.value.response.headers["x-should-retry"] == "false"
        assert provider.requests() == []
        assert here.records[0].outcome == "refused"


async def test_a_request_that_cannot_be_bounded_is_named(tmp_path: Path) -> None:
    searching = asked("b", tools=[{"type": "web_search_20260101", "name": "web_search"}])
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(BATCHES, {"requests": [asked(), searching]})
        assert reply.status == 400
        assert b"requests[1].params.tools[0].type: tool 'web_search_20260101' runs at the provider" in reply.body
        assert provider.requests() == []


async def test_the_bytes_pass_as_they_are_where_nothing_must_change(tmp_path: Path) -> None:
    odd = orjson.dumps(asked()).replace(b'"max_tokens":50', b'"new_field" : {"a":1e2} , "max_tokens" :50')
    body = b'{ "requests" : [' + odd + b"] }"
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(f"{BATCHES}?beta=true", body, anthropic_beta="a,b")
        assert reply.status == 200
        [seen] = provider.requests()
        assert (seen.body.encode(), seen.query, seen.headers["anthropic-beta"]) == (body, "beta=true", "a,b")
        assert "x-keelage-request-id" in reply.headers


@pytest.mark.parametrize(
    ("fault", "status", "charged", "again"),
    [
        ("429", 429, False, None),
        ("529", 529, False, None),
        ("400", 400, False, None),
        ("504", 504, True, "false"),
        ("reset", 503, True, "false"),
        ("malformed-json", 200, True, "false"),
        ("hang", 504, True, "false"),
        ("cut:0", 503, True, "false"),
    ],
)
async def test_a_batch_that_may_have_been_created_is_charged_at_its_bound(
    tmp_path: Path, fault: str, status: int, charged: bool, again: str | None
) -> None:
    timeouts = IMPATIENT if fault == "hang" else None
    async with (
        FakeProvider(schedule=[fault]) as provider,
        world(config_of([provider.url], timeouts=timeouts), tmp_path) as here,
    ):
        reply = await here.post(BATCHES, {"requests": [asked()]})
        assert reply.status == status
        assert reply.headers.get("x-should-retry") == again
        assert len(provider.requests()) == 1
        assert here.purse.spent == (here.records[0].bound if charged else 0)
        assert here.records[0].uncertain is charged
        assert len(here.batches.open) == 0


async def test_a_backend_that_nobody_listens_at_costs_nothing_and_may_be_asked_again(tmp_path: Path) -> None:
    async with world(config_of(["http://127.0.0.1:1"]), tmp_path) as here:
        reply = await here.post(BATCHES, {"requests": [asked()]})
        assert (reply.status, reply.headers["x-should-retry"]) == (503, "true")
        assert here.purse.spent == 0


async def test_results_that_were_cut_settle_nothing_until_they_are_read_in_whole(tmp_path: Path) -> None:
    async with FakeProvider(batch_polls=0) as provider, world(config_of([provider.url]), tmp_path) as here:
        made = (await here.post(BATCHES, {"requests": [asked()]})).json()
        await here.ask("GET", f"{BATCHES}/{made['id']}")
        cut = await here.ask("GET", f"{BATCHES}/{made['id']}/results", x_fake_fault="cut:0")
        assert not cut.clean
        assert here.purse.spent == 0
        assert (await here.ask("GET", f"{BATCHES}/{made['id']}/results")).clean
        assert 0 < here.purse.spent == billed(provider)


async def test_results_that_prove_nothing_are_charged_at_the_bound(tmp_path: Path) -> None:
    async with FakeProvider(batch_polls=0) as provider, world(config_of([provider.url]), tmp_path) as here:
        made = (await here.post(BATCHES, {"requests": [asked()]})).json()
        await here.ask("GET", f"{BATCHES}/{made['id']}")
        await here.ask("GET", f"{BATCHES}/{made['id']}/results", x_fake_fault="malformed-json")
        assert here.purse.spent == here.records[0].bound > billed(provider)
        assert [each.uncertain for each in here.records if each.outcome == "settled"] == [True]


async def test_a_batch_stays_with_its_backend_whatever_the_configuration_becomes(tmp_path: Path) -> None:
    async with (
        FakeProvider(batch_polls=0) as old,
        FakeProvider() as new,
        world(config_of([old.url]), tmp_path) as here,
        sdk(here) as claude,
    ):
        batch = await claude.messages.batches.create(requests=[typed()])
        async with world(config_of([new.url]), tmp_path) as other:
            here.table = other.table
        assert (await claude.messages.batches.retrieve(batch.id)).processing_status == "ended"
        async for _ in await claude.messages.batches.results(batch.id):
            pass
        assert 0 < here.purse.spent == billed(old)
        assert new.requests() == []


async def test_a_batch_with_the_id_of_an_open_one_is_charged_and_the_open_one_is_not_forgotten(tmp_path: Path) -> None:
    async with (
        FakeProvider(batch_polls=0) as old,
        FakeProvider() as new,
        world(config_of([old.url]), tmp_path) as here,
        sdk(here) as claude,
    ):
        batch = await claude.messages.batches.create(requests=[typed()])
        held = here.purse.accounts[MONTH, ""].reserved
        async with world(config_of([new.url]), tmp_path) as other:
            here.table = other.table
        assert (await claude.messages.batches.create(requests=[typed()])).id == batch.id
        assert here.purse.spent == here.purse.accounts[MONTH, ""].reserved == held
        await claude.messages.batches.retrieve(batch.id)
        async for _ in await claude.messages.batches.results(batch.id):
            pass
        assert here.purse.accounts[MONTH, ""].reserved == 0
        assert here.purse.spent == held + billed(old)


async def test_an_application_that_leaves_does_not_lose_its_batch(tmp_path: Path) -> None:
    async with (
        FakeProvider(batch_polls=0, schedule=["slow-first-byte:0.05"]) as provider,
        world(config_of([provider.url]), tmp_path) as here,
    ):
        _, writer = await here.connect()
        writer.write(request("POST", BATCHES, orjson.dumps({"requests": [asked()]})))
        await until(lambda: len(provider.requests()) == 1)
        writer.close()
        await until(lambda: len(here.batches.open) == 1)
        here.later_s = 31.0
        await here.batches.tend()
        assert 0 < here.purse.spent == billed(provider)


async def test_a_batch_whose_creation_the_end_of_the_sidecar_interrupts_is_charged(tmp_path: Path) -> None:
    async with FakeProvider(schedule=["hang"]) as provider, world(config_of([provider.url]), tmp_path) as here:
        _, writer = await here.connect()
        writer.write(request("POST", BATCHES, orjson.dumps({"requests": [asked()]})))
        await until(lambda: len(provider.requests()) == 1)
        await here.server.finish()
        writer.close()
        assert here.purse.spent == here.records[0].bound > 0


async def test_no_more_batches_are_open_at_a_time_than_fit(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        for _ in range(OPEN_MAX):
            assert (await here.post(BATCHES, {"requests": [asked()]})).status == 200
        reply = await here.post(BATCHES, {"requests": [asked()]})
        assert (reply.status, reply.headers["x-keelage-reason"]) == (429, "TooManyBatches")
        assert len(provider.requests()) == OPEN_MAX
        here.batches.leave()
        assert (await here.post(BATCHES, {"requests": [asked()]})).status == 200


async def test_each_users_requests_are_held_on_their_own_account(tmp_path: Path) -> None:
    async with FakeProvider(batch_polls=0) as provider:
        config = config_of([provider.url])
        budgets = (BudgetTerms("shop/month", True), BudgetTerms("shop/user", True, per=(Per.USER,)))
        config = seal(
            ProxyConfig("", rules=config.rules, backends=config.backends, budgets=budgets, prices=config.prices)
        )
        async with world(config, tmp_path) as here:
            requests = [
                asked(name, metadata={"user_id": user}) for name, user in (("1", "ann"), ("2", "bob"), ("3", "ann"))
            ]
            made = (await here.post(BATCHES, {"requests": requests})).json()
            assert [hold.claims[1].value for hold in here.purse.holds.values()] == ["ann", "bob"]
            await here.ask("GET", f"{BATCHES}/{made['id']}")
            await here.ask("GET", f"{BATCHES}/{made['id']}/results")
            paid = {claims[1].value: amount for claims, amount in here.purse.settled}
            assert sum(paid.values()) == billed(provider)
            assert paid["ann"] == 2 * paid["bob"]


async def test_a_lot_that_cannot_be_paid_gives_back_those_before_it(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        config = config_of([provider.url])
        users = (BudgetTerms("shop/user", True, per=(Per.USER,)),)
        config = seal(
            ProxyConfig("", rules=config.rules, backends=config.backends, budgets=users, prices=config.prices)
        )
        async with world(config, tmp_path) as here:
            here.purse.accounts["shop/user", "bob"].limit = 1
            requests = [asked(user, metadata={"user_id": user}) for user in ("ann", "bob")]
            reply = await here.post(BATCHES, {"requests": requests})
            assert reply.status == 429
            assert here.purse.accounts["shop/user", "ann"].reserved == 0
            assert here.purse.accounts["shop/user", "ann"].spent == 0
            assert provider.requests() == []


async def test_money_is_attributed_to_the_model_the_feature_and_the_user(tmp_path: Path) -> None:
    async with FakeProvider(batch_polls=0) as provider, world(config_of([provider.url]), tmp_path) as here:
        body = {"requests": [asked(metadata={"user_id": "ann"})]}
        made = (await here.post(BATCHES, body, x_keelage_feature="nightly")).json()
        await here.ask("GET", f"{BATCHES}/{made['id']}")
        await here.ask("GET", f"{BATCHES}/{made['id']}/results")
        assert here.purse.spenders == [Spender(HAIKU, "nightly", "ann")]


async def test_a_budget_of_tokens_counts_them_in_full(tmp_path: Path) -> None:
    async with FakeProvider(batch_polls=0) as provider:
        config = config_of([provider.url])
        tokens = (BudgetTerms("shop/tokens", True, unit=Unit.TOKENS),)
        config = seal(
            ProxyConfig("", rules=config.rules, backends=config.backends, budgets=tokens, prices=config.prices)
        )
        async with world(config, tmp_path) as here, sdk(here) as claude:
            batch = await claude.messages.batches.create(requests=[typed(name) for name in "ab"])
            account = here.purse.accounts["shop/tokens", ""]
            assert account.reserved > 100
            await claude.messages.batches.retrieve(batch.id)
            used = 0
            async for each in await claude.messages.batches.results(batch.id):
                assert each.result.type == "succeeded"
                used += each.result.message.usage.input_tokens + each.result.message.usage.output_tokens
            assert (account.spent, account.reserved) == (used, 0)
