"""A whole sidecar in one process: real lease keeper, real data path, an operator made of two objects."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from tests.sidecar.core.streams import MESSAGE_DELTA, MESSAGE_START, MESSAGE_STOP, TEXT, anthropic_events
from tests.sidecar.shell.proxied import HAIKU, KEY, config_of, parsed, request, until
from tests.sidecar.whole import BODY, FakeConfigs, FakeLedger, running

from keelage_api.errors import MessageError
from keelage_api.money import PICO_PER_USD
from keelage_dev.provider import FakeProvider
from keelage_sidecar.app import Sidecar
from keelage_sidecar.settings import Address, Settings
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.config_watch import SourceUnreachable
from keelage_sidecar.shell.server import Server


async def test_calls_are_paid_from_the_lease_and_the_lease_is_given_back_at_the_end(tmp_path: Path) -> None:
    ledger = FakeLedger()
    async with FakeProvider({KEY: "app"}) as provider:
        configs = FakeConfigs(config_of([provider.url]))
        async with running(tmp_path, ledger, configs) as here:
            await here.ready()
            assert [(await here.call()).status for _ in range(3)] == [200, 200, 200]
        assert ledger.heard[-1].leaving
        assert [each.final for each in ledger.heard[-1].statements] == [True]
        assert ledger.spent == int(provider.bill().usd * PICO_PER_USD)


async def test_the_limit_holds_and_the_refusal_says_when_to_come_back(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}) as provider:
        ledger = FakeLedger(limit=1_000_000_000)
        async with running(tmp_path, ledger, FakeConfigs(config_of([provider.url]))) as here:
            await here.ready()
            replies = [await here.call() for _ in range(16)]
            assert {reply.status for reply in replies} == {200, 429}
            refused = replies[-1]
            assert 0 < int(refused.headers["retry-after"]) <= 3600
            assert refused.headers["x-should-retry"] == "false"
            assert int(provider.bill().usd * PICO_PER_USD) <= ledger.limit


async def test_a_sidecar_whose_operator_is_away_starts_from_what_it_left(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}) as provider:
        config = config_of([provider.url], hard=False)
        async with running(tmp_path, FakeLedger(), FakeConfigs(config)) as here:
            await here.ready()
        ledger = FakeLedger(reachable=False)
        configs = FakeConfigs(None)
        configs.offer(SourceUnreachable("nobody there"))
        async with running(tmp_path, ledger, configs) as here:
            assert (await here.ask("GET", "/readyz")).status == 200
            assert (await here.call()).status == 200
            assert configs.asked[0] == config.version


async def test_a_bad_configuration_is_refused_loudly_and_the_last_good_one_stays(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}) as provider:
        config, ledger = config_of([provider.url]), FakeLedger()
        configs = FakeConfigs(config)
        async with running(tmp_path, ledger, configs) as here:
            await here.ready()
            configs.offer(MessageError("ProxyConfig: format 9 is newer than 1: upgrade the sidecar's image"))
            await until(lambda: ledger.heard[-1].config_error != "")
            assert "upgrade the sidecar's image" in ledger.heard[-1].config_error
            assert ledger.heard[-1].config_version == config.version
            assert (await here.call()).status == 200


async def test_a_new_configuration_replaces_the_old_one_whole(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "a"}) as first, FakeProvider({KEY: "b"}) as second:
        old, new = config_of([first.url]), config_of([second.url])
        ledger, configs = FakeLedger(), FakeConfigs(old)
        async with running(tmp_path, ledger, configs) as here:
            await here.ready()
            await here.call()
            configs.offer(new)
            await until(lambda: ledger.heard[-1].config_version == new.version)
            await here.call()
            assert (len(first.requests()), len(second.requests())) == (1, 1)


async def test_a_stream_goes_on_to_its_end_while_its_backend_is_taken_out_of_the_configuration(tmp_path: Path) -> None:
    swapped = asyncio.Event()

    async def slow(call: Call) -> None:
        call.begin(200, [(b"content-type", b"text/event-stream")], None)
        call.write(anthropic_events(MESSAGE_START, TEXT))
        await swapped.wait()
        call.end(anthropic_events(MESSAGE_DELTA, MESSAGE_STOP))

    server = Server(slow)
    old = config_of([f"http://127.0.0.1:{await server.serve('127.0.0.1', 0)}"])
    async with FakeProvider({KEY: "b"}) as second:
        new = config_of([second.url])
        ledger, configs = FakeLedger(), FakeConfigs(old)
        async with running(tmp_path, ledger, configs) as here:
            await here.ready()
            reader, writer = await asyncio.open_connection("127.0.0.1", here.ports.proxy)
            writer.write(request("POST", "/v1/messages", orjson.dumps({**BODY, "stream": True}), close=True))
            begun = await reader.readuntil(b"text_delta")
            configs.offer(new)
            await until(lambda: ledger.heard[-1].config_version == new.version)
            assert (await here.call()).status == 200
            assert len(second.requests()) == 1, "calls that begin now follow the new configuration"
            swapped.set()
            reply = parsed(begun + await reader.read())
            assert (reply.status, reply.clean) == (200, True)
            assert b"message_stop" in reply.body
            writer.close()
        of_the_stream = 30 * 1_000_000 + 7 * 100_000 + 6 * 1_250_000 + 4 * 2_000_000 + 42 * 5_000_000
        assert ledger.spent == of_the_stream + int(second.bill().usd * PICO_PER_USD)
    await server.finish()


async def test_keys_that_are_not_there_are_reported(tmp_path: Path) -> None:
    ledger = FakeLedger()
    configs = FakeConfigs(config_of(["http://127.0.0.1:1"], credential="other/key"))
    async with running(tmp_path, ledger, configs) as here:
        await until(lambda: bool(ledger.heard) and ledger.heard[-1].missing_credentials == ("other/key",))
        assert (await here.call()).status == 503


async def test_before_the_first_configuration_it_is_alive_but_neither_started_nor_ready(tmp_path: Path) -> None:
    configs = FakeConfigs(None)
    async with running(tmp_path, FakeLedger(), configs) as here:
        codes = {path: (await here.ask("GET", path)).status for path in ("/livez", "/startedz", "/readyz", "/other")}
        assert codes == {"/livez": 200, "/startedz": 503, "/readyz": 503, "/other": 404}
        assert (await here.call()).headers["retry-after-ms"] == "500"
        configs.offer(config_of(["http://127.0.0.1:1"]))
        await here.ready()
        assert (await here.ask("GET", "/startedz")).status == 200


async def test_metrics_tell_tokens_money_and_the_lease(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}) as provider:
        config = config_of([provider.url])
        async with running(tmp_path, FakeLedger(), FakeConfigs(config)) as here:
            await here.ready()
            await here.call()
            text = (await here.ask("GET", "/metrics")).body.decode()
    usd = format(float(provider.bill().usd))
    who = f'gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="{HAIKU}"'
    assert f'gen_ai_client_token_usage_sum{{{who},gen_ai_token_type="output"}} 12.0' in text
    assert f'gen_ai_client_operation_duration_seconds_count{{error_type="",{who}}} 1.0' in text
    assert f'keelage_cost_usd_total{{backend="r/anthropic0",gen_ai_request_model="{HAIKU}",route="r"}} {usd}' in text
    assert f'keelage_budget_spent_usd{{budget="shop/month",window="2026-11"}} {usd}' in text
    assert f'keelage_config_info{{version="{config.version}"}} 1.0' in text
    assert "keelage_bound_violations_total 0.0" in text


async def test_a_running_call_is_waited_for_and_new_ones_are_served_while_draining(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}, latency_s=0.05) as provider:
        ledger = FakeLedger()
        async with running(tmp_path, ledger, FakeConfigs(config_of([provider.url])), drain_s=30) as here:
            await here.ready()
            reader, writer = await asyncio.open_connection("127.0.0.1", here.ports.proxy)
            writer.write(request("POST", "/v1/messages", orjson.dumps(BODY)))
            await until(lambda: len(provider.requests()) == 1)
            here.sidecar.stop()
            await until(lambda: here.task.done() or here.sidecar.draining)
            assert (await here.call()).status == 200
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            await here.task
        assert ledger.heard[-1].leaving
        assert ledger.spent == int(provider.bill().usd * PICO_PER_USD)


async def test_the_end_does_not_wait_for_calls_beyond_the_drain_time(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}, schedule=["hang"]) as provider:
        ledger = FakeLedger()
        async with running(tmp_path, ledger, FakeConfigs(config_of([provider.url])), drain_s=0) as here:
            await here.ready()
            reader, writer = await asyncio.open_connection("127.0.0.1", here.ports.proxy)
            writer.write(request("POST", "/v1/messages", orjson.dumps(BODY)))
            await until(lambda: len(provider.requests()) == 1)
            await here.stop()
            assert b"ShuttingDown" in await reader.read()
            writer.close()
        assert ledger.heard[-1].leaving
        assert all(each.reserved == 0 for each in ledger.heard[-1].statements)
        assert ledger.spent > 0


async def test_a_stream_that_runs_at_sigterm_comes_to_its_end_and_is_paid_exactly(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}, output_tokens=30, gap_s=0.002) as provider:
        ledger = FakeLedger()
        async with running(tmp_path, ledger, FakeConfigs(config_of([provider.url])), drain_s=30) as here:
            await here.ready()
            reader, writer = await asyncio.open_connection("127.0.0.1", here.ports.proxy)
            writer.write(request("POST", "/v1/messages", orjson.dumps({**BODY, "stream": True}), close=True))
            begun = await reader.readuntil(b"content_block_delta")
            here.sidecar.stop()
            reply = parsed(begun + await reader.read())
            assert reply.clean
            assert b"message_stop" in reply.body
            writer.close()
            await here.task
        assert ledger.heard[-1].leaving
        assert ledger.spent == int(provider.bill().usd * PICO_PER_USD)


async def test_a_stream_that_outlasts_the_drain_time_gets_an_error_and_no_end(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}, schedule=["hang:4"]) as provider:
        ledger = FakeLedger()
        async with running(tmp_path, ledger, FakeConfigs(config_of([provider.url])), drain_s=0) as here:
            await here.ready()
            reader, writer = await asyncio.open_connection("127.0.0.1", here.ports.proxy)
            writer.write(request("POST", "/v1/messages", orjson.dumps({**BODY, "stream": True})))
            begun = await reader.readuntil(b"content_block_delta")
            await here.stop()
            reply = parsed(begun + await reader.read())
            assert not reply.clean
            assert b"event: error" in reply.body
            writer.close()
            await until(lambda: provider.connections == 0)
        assert ledger.heard[-1].leaving
        assert all(each.reserved == 0 for each in ledger.heard[-1].statements)
        assert ledger.spent >= int(provider.bill().usd * PICO_PER_USD)


async def test_a_second_sidecar_on_the_same_port_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, FakeLedger(), FakeConfigs(None)) as here:
        other = tmp_path / "other"
        other.mkdir()
        settings = Settings(listen=Address("127.0.0.1", here.ports.proxy), health=None, state_dir=other)
        with pytest.raises(OSError, match="address already in use"):
            await Sidecar(settings, FakeLedger(), FakeConfigs(None)).start()
