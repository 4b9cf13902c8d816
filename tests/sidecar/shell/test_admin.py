"""What the health port says to whoever operates the pod, and what it never says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from msgspec import structs
from tests.sidecar.shell.proxied import KEY, config_of, until
from tests.sidecar.whole import FakeConfigs, FakeLedger, running

from keelage_api.codec import seal
from keelage_api.errors import MessageError
from keelage_api.proxy_config import CircuitBreaker
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.config_view import View
from keelage_sidecar.core.log_line import LogLevel
from keelage_sidecar.shell.admin import Admin, Health
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.call_log import CallLog
from keelage_sidecar.shell.port import from_loopback

PROMPT = "our secret plan"
LEVEL = "/debug/log-level"


def lines(state: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in (state / "calls.log").read_bytes().splitlines()]


async def test_the_configuration_in_force_is_shown_with_its_version_and_keys_by_name_only(tmp_path: Path) -> None:
    config = config_of(["http://user:pass@127.0.0.1:1/prefix"])
    async with running(tmp_path, FakeLedger(), FakeConfigs(config)) as here:
        await here.ready()
        page = (await here.ask("GET", "/debug/config")).json()
    assert (page["version"], page["error"], page["missing"]) == (config.version, "", [])
    shown = orjson.dumps(page["config"])
    assert b'"credential":"llm-keys/key"' in shown
    assert b"http://127.0.0.1:1/prefix" in shown
    assert b"pass" not in shown
    assert orjson.loads(shown)["prices"] == {"Anthropic": 1, "OpenAI": 2}


async def test_without_a_configuration_the_page_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, FakeLedger(), FakeConfigs(None)) as here:
        assert (await here.ask("GET", "/debug/config")).json() == {"version": "", "error": "", "config": None}


@pytest.mark.parametrize("fault", ["ok", "401", "reset", "error-event"])
async def test_neither_key_nor_prompt_is_ever_shown_or_logged(tmp_path: Path, fault: str) -> None:
    asked: dict[str, object] = {"messages": [{"role": "user", "content": PROMPT}], "system": PROMPT}
    async with FakeProvider({KEY: "app"}, schedule=[fault, fault, fault]) as provider:
        configs = FakeConfigs(config_of([provider.url]))
        async with running(tmp_path, FakeLedger(), configs) as here:
            await here.ready()
            await here.ask("PUT", LEVEL, b"debug")
            await here.call(**asked, stream=fault == "error-event")
            await here.call(**asked, max_tokens=PROMPT)
            await here.call(**asked, tools=[{"type": PROMPT, "name": "x"}])
            configs.offer(MessageError("ProxyConfig: not to be obeyed"))
            paths = ("/debug/config", "/metrics", "/readyz", "/healthz", LEVEL, "/other")
            said = [await here.ask("GET", path) for path in paths]
            said.append(await here.ask("PUT", LEVEL, f"{KEY} {PROMPT}".encode()))
    written = b"".join(reply.body for reply in said) + (tmp_path / "calls.log").read_bytes()
    assert b"claude" in written
    assert KEY.encode() not in written
    assert b"secret plan" not in written


async def test_the_log_level_is_changed_while_calls_run(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}) as provider:
        async with running(tmp_path, FakeLedger(), FakeConfigs(config_of([provider.url]))) as here:
            await here.ready()
            assert (await here.ask("GET", LEVEL)).body == b"info\n"
            await here.call()
            assert (await here.ask("PUT", LEVEL, b"warning\n")).body == b"warning\n"
            await here.call()
            await here.call(model="nobody-has-it", max_tokens=0.5)
            assert (await here.ask("PUT", LEVEL, b"debug")).status == 200
            await here.call()
        logged = lines(tmp_path)
    assert [(line["level"], line["outcome"]) for line in logged] == [
        ("info", "ok"),
        ("warning", "refused"),
        ("info", "ok"),
    ]
    assert ["candidates" in line for line in logged] == [False, False, True]
    assert logged[-1]["candidates"] == [
        {"backend": "r/anthropic0", "model": "claude-haiku-4-5", "priced": True, "hard": True, "output_cap": 0}
    ]


async def test_the_attempts_that_failed_are_told(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}, schedule=["529:0.001"]) as provider:
        async with running(tmp_path, FakeLedger(), FakeConfigs(config_of([provider.url]))) as here:
            await here.ready()
            await here.call()
        (line,) = lines(tmp_path)
    assert isinstance(line["failed"], list)
    assert [{**each, "took_ms": 0} for each in line["failed"]] == [
        {
            "backend": "r/anthropic0",
            "model": "claude-haiku-4-5",
            "status": 529,
            "failure": None,
            "retry_after_ms": 1,
            "took_ms": 0,
        }
    ]


@pytest.mark.parametrize(
    ("method", "body", "status"), [("PUT", b"loud", 400), ("PUT", b"INFO", 400), ("POST", b"", 405)]
)
async def test_a_wrong_level_or_method_is_refused_with_the_levels(
    tmp_path: Path, method: str, body: bytes, status: int
) -> None:
    async with running(tmp_path, FakeLedger(), FakeConfigs(None)) as here:
        reply = await here.ask(method, LEVEL, body)
        assert reply.status == status
        assert b"debug, info, warning or error" in reply.body or method == "POST"
        assert (await here.ask("GET", LEVEL)).body == b"info\n"
        assert (await here.ask("POST", "/metrics")).status == 405


async def test_readiness_tells_what_is_wrong_without_being_fatal(tmp_path: Path) -> None:
    ledger, configs = FakeLedger(), FakeConfigs(config_of(["http://127.0.0.1:1"], credential="other/key"))
    async with running(tmp_path, ledger, configs) as here:
        await here.ready()
        configs.offer(MessageError("ProxyConfig: format 9"))
        await until(lambda: bool(ledger.heard) and ledger.heard[-1].config_error != "")
        ledger.reachable = False
        heard = len(ledger.heard)
        await until(lambda: len(ledger.heard) > heard)
        while b"does not answer" not in (reply := await here.ask("GET", "/readyz")).body:
            pass
        assert reply.status == 200
        assert reply.body.decode().splitlines() == [
            "ok",
            "Secret other with key key is missing: backends that need it refuse calls, and a sharedCache that needs it"
            " is not used",
            "the newest configuration is not in force: ProxyConfig: format 9",
            "the operator does not answer: calls are paid from what was leased before",
        ]
        assert (await here.ask("GET", "/healthz")).body == b"ok\n"


async def test_readiness_tells_which_models_are_not_asked(tmp_path: Path) -> None:
    async with FakeProvider({KEY: "app"}, schedule=["500"]) as provider:
        config = config_of([provider.url], attempts=1)
        terms = CircuitBreaker(1, open_base_ms=60_000)
        backends = {name: structs.replace(each, circuit_breaker=terms) for name, each in config.backends.items()}
        async with running(
            tmp_path, FakeLedger(), FakeConfigs(seal(structs.replace(config, backends=backends)))
        ) as here:
            await here.ready()
            assert (await here.ask("GET", "/readyz")).body == b"ok\n"
            await here.call()
            said = (await here.ask("GET", "/readyz")).body.decode()
    assert said.startswith(
        "ok\nbackend r/anthropic0, model 'claude-haiku-4-5': its last calls have failed: it is not asked"
    )
    assert len(said.splitlines()) == 2


@dataclass(slots=True)
class Elsewhere:
    """The wire of a caller in another pod."""

    closed = draining = full = local = False
    said: bytes = b""

    def write(self, data: bytes) -> None:
        self.said += data

    async def writable(self) -> None:
        """Always."""

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(("method", "path"), [("GET", "/debug/config"), ("GET", LEVEL), ("PUT", LEVEL)])
async def test_other_pods_may_probe_and_scrape_but_neither_read_the_configuration_nor_change_the_level(
    method: str, path: str
) -> None:
    log = CallLog()
    admin = Admin(lambda: Health(True, True, False, 0.0), lambda: (b"text/plain", b""), lambda: View(None, "", ()), log)
    wire = Elsewhere()
    await admin.handle(Call(wire, method, path, (), b"debug"))
    assert wire.said.startswith(b"HTTP/1.1 403 ")
    assert b"kubectl port-forward POD 4001" in wire.said
    assert log.level is LogLevel.INFO
    await admin.handle(probe := Call(Elsewhere(), "GET", "/readyz", (), b""))
    assert probe.status == 200


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.1.2.3", False), ("fe80::1%eth0", False)],
)
def test_the_pod_itself_is_known_by_its_address(address: str, local: bool) -> None:
    class From(asyncio.BaseTransport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return (address, 1)

    assert from_loopback(From()) is local
    assert from_loopback(None) is False
