"""OpenAI's Responses, from a raw client through the sidecar to a fake provider."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from tests.sidecar.shell.proxied import GPT, KEY, config_of, world

from keelage_api.money import PICO_PER_USD
from keelage_dev.provider import FakeProvider

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}}


def ask(**more: object) -> dict[str, object]:
    return {"model": GPT, "input": "hello", "max_output_tokens": 50, **more}


def billed(provider: FakeProvider) -> int:
    """Pico-dollars on the provider's own bill."""
    return int(provider.bill().usd * PICO_PER_USD)


@pytest.mark.parametrize("more", [{}, {"tools": [TOOL]}, {"stream": True}, {"stream": True, "tools": [TOOL]}])
async def test_a_call_passes_and_is_paid_exactly(tmp_path: Path, more: dict[str, object]) -> None:
    async with FakeProvider({KEY: "app"}) as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(PATH, ask(**more))
        assert (reply.status, reply.clean) == (200, True)
        assert here.purse.spent == billed(provider) > 0
        record = here.records[0]
        assert (record.endpoint, record.outcome, record.stop_reason) == ("responses", "ok", "completed")
        assert (b"event: response.completed" in reply.body) is ("stream" in more)
        assert not record.uncertain


async def test_a_call_without_a_cap_gets_one_under_a_hard_budget(tmp_path: Path) -> None:
    body = ask(user="ann")
    del body["max_output_tokens"]
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        assert (await here.post(PATH, body)).status == 200
        assert orjson.loads(provider.requests()[0].body)["max_output_tokens"] == 16_384
        assert here.records[0].user == "ann"


async def test_a_stream_that_is_cut_costs_its_bound_and_ends_with_an_error(tmp_path: Path) -> None:
    async with FakeProvider(schedule=["cut:6"]) as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(PATH, ask(stream=True))
        assert not reply.clean
        assert reply.body.rstrip().rpartition(b"data: ")[2].startswith(b'{"error":')
        assert here.purse.spent == here.records[0].bound >= billed(provider) > 0
        assert (here.records[0].outcome, here.records[0].uncertain) == ("truncated", True)


async def test_what_cannot_be_bounded_is_refused_and_nothing_is_sent(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        reply = await here.post(PATH, ask(previous_response_id="resp_1"))
        assert (reply.status, reply.headers["x-keelage-reason"]) == (400, "NotBoundable")
        assert b'"param":"previous_response_id"' in reply.body
        assert provider.requests() == []


async def test_a_stored_response_is_read_for_free(tmp_path: Path) -> None:
    async with FakeProvider() as provider, world(config_of([provider.url]), tmp_path) as here:
        made = (await here.post(PATH, ask())).json()
        spent = here.purse.spent
        again = await here.ask("GET", f"{PATH}/{made['id']}")
        assert (again.status, again.json()) == (200, made)
        assert (await here.ask("GET", f"{PATH}/{made['id']}/input_items")).json()["object"] == "list"
        assert (await here.ask("DELETE", f"{PATH}/{made['id']}")).status == 200
        assert (await here.ask("GET", f"{PATH}/{made['id']}")).status == 404
        assert here.purse.spent == spent == billed(provider)
