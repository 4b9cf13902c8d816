"""A sidecar's data path between a raw client and fake providers, with a purse that tests can look into."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
from tests.sidecar.shell.fake_valkey import FakeValkey

from keelage_api.codec import seal
from keelage_api.pricing import ModelPrice, Rates
from keelage_api.proxy_config import (
    Backend,
    BudgetTerms,
    ModelChoice,
    OnClientDisconnect,
    Provider,
    ProxyConfig,
    Retry,
    Rule,
    Timeouts,
)
from keelage_sidecar.core.attribution import Spender
from keelage_sidecar.core.claim import NOTHING, Charge, Claim, DenialReason, Denied, Hold, Room
from keelage_sidecar.core.log_line import CallRecord
from keelage_sidecar.core.request import Workload
from keelage_sidecar.core.routing import RoutingTable
from keelage_sidecar.shell.batch_keeper import BatchKeeper
from keelage_sidecar.shell.credentials import Credentials
from keelage_sidecar.shell.exchange import Exchange
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.server import Server
from keelage_sidecar.shell.shared_answers import SharedAnswers
from keelage_sidecar.shell.trust import Trust
from keelage_sidecar.shell.upstream import Upstream

KEY = "sk-provider"
MONTH = "shop/month"
APP_KEY = b"placeholder"
HAIKU = "claude-haiku-4-5"
GPT = "gpt-4o-mini"
NOW_UNIX_S = 1_790_000_000.0


def price(input_micro: int, output_micro: int) -> ModelPrice:
    """Micro-dollars per million tokens are pico-dollars per token."""
    rates = Rates(0, input_micro, input_micro // 10, input_micro * 5 // 4, input_micro * 2, output_micro)
    return ModelPrice((rates,), 200_000, 64_000)


PRICES = {
    Provider.ANTHROPIC: {HAIKU: price(1_000_000, 5_000_000)},
    Provider.OPENAI: {
        GPT: ModelPrice((Rates(0, 150_000, 75_000, 150_000, 150_000, 600_000),), 128_000, 16_384),
        "text-embedding-3-small": ModelPrice((Rates(0, 20_000, 20_000, 20_000, 20_000, 0),), 8_191, 0),
    },
}
IMPATIENT = Timeouts(first_byte_ms=300, idle_ms=300)
"""For providers that hang; elsewhere a busy machine must not look like one."""


@dataclass(slots=True)
class FakeAccount:
    limit: int = 10**18
    spent: int = 0
    reserved: int = 0
    elsewhere: int = 0
    """Held by others."""

    @property
    def free(self) -> int:
        return self.limit - self.spent - self.reserved - self.elsewhere


@dataclass(slots=True)
class FakePurse:
    """Pays up to each account's limit; every hold must be settled exactly once."""

    accounts: defaultdict[tuple[str, str], FakeAccount] = field(default_factory=lambda: defaultdict(FakeAccount))
    """By name and value."""
    holds: dict[int, Hold] = field(default_factory=dict)
    settled: list[tuple[tuple[Claim, ...], int]] = field(default_factory=list)
    uncertain: int = 0
    """Of what was settled, pico-dollars."""
    spenders: list[Spender | None] = field(default_factory=list)
    denial: DenialReason = DenialReason.BUDGET_EXHAUSTED
    rate_denial: DenialReason = DenialReason.RATE_LIMITED
    waits_s: list[float] = field(default_factory=list)
    waiting: list[tuple[tuple[Claim, ...], asyncio.Future[Hold]]] = field(default_factory=list)
    patient: bool = False
    """Who does not fit waits until it does."""
    percent: dict[str, int] = field(default_factory=dict)
    lefts: dict[str, int] = field(default_factory=dict)
    _made: int = 0

    @property
    def limit(self) -> int:
        return self.accounts[MONTH, ""].limit

    @limit.setter
    def limit(self, amount: int) -> None:
        self.accounts[MONTH, ""].limit = amount

    @property
    def spent(self) -> int:
        return self.accounts[MONTH, ""].spent

    def try_reserve(self, claims: tuple[Claim, ...], passing: bool = False) -> Hold | None:
        for claim in claims:
            if claim.hard and claim.amount > self.accounts[claim.budget, claim.value].free:
                return None
        for claim in claims:
            self.accounts[claim.budget, claim.value].reserved += claim.amount
        self._made += 1
        hold = self.holds[self._made] = Hold(self._made, claims)
        return hold

    async def reserve(self, claims: tuple[Claim, ...], patience_s: float) -> Hold | Denied:
        self.waits_s.append(patience_s)
        hold = self.try_reserve(claims)
        if hold is not None:
            return hold
        if self.patient and patience_s and not any(claim.at_once for claim in claims):
            future: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()
            self.waiting.append((claims, future))
            return await future
        lacking = next(each for each in claims if each.amount > self.accounts[each.budget, each.value].free)
        reason = self.rate_denial if lacking.quota else self.denial
        return Denied(lacking.budget, reason, lacking.amount, 3600.0, f"{lacking.budget} is spent", lacking.value)

    def settle(self, hold: Hold, charge: Charge, spender: Spender | None = None, uncertain: Charge = NOTHING) -> None:
        assert self.holds.pop(hold.id) == hold
        self.settled.append((hold.claims, charge.picodollars))
        self.uncertain += uncertain.picodollars
        self.spenders.append(spender)
        for claim in hold.claims:
            account = self.accounts[claim.budget, claim.value]
            account.reserved -= claim.amount
            account.spent += charge.of(claim.unit)
        waiting, self.waiting = self.waiting, []
        for claims, future in waiting:
            if future.done():
                continue
            served = self.try_reserve(claims)
            if served is None:
                self.waiting.append((claims, future))
            else:
                future.set_result(served)

    def room(self, claim: Claim) -> Room:
        account = self.accounts[claim.budget, claim.value]
        return Room(account.free, account.free + account.elsewhere)

    def used_percent(self, name: str, value: str) -> int | None:
        return self.percent.get(f"{name} {value}".rstrip())

    def note_left(self, name: str, left: int) -> None:
        self.lefts[name] = left


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    clean: bool
    """It came to the end that its framing announces."""

    def json(self) -> dict[str, object]:
        value: object = orjson.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass(slots=True)
class World:
    port: int
    purse: FakePurse
    told: list[CallRecord]
    delays_s: list[float]
    server: Server
    upstream: Upstream
    table: RoutingTable | None
    batches: BatchKeeper
    means: Means
    shared: SharedAnswers
    exchange: Exchange
    later_s: float = 0.0
    """How far the clock is ahead of the loop's."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """The keeper slept without an open batch."""

    @property
    def records(self) -> list[CallRecord]:
        """Of all calls that have ended."""
        self.exchange.tell_ended()
        return self.told

    async def turn_clock(self, seconds: float) -> None:
        """The keeper's sleep: its clock is put forward, until no batch is open."""
        self.later_s += seconds
        if not len(self.batches.open):
            self.settled.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def post(self, path: str, body: object, **headers: str) -> Reply:
        return await self.ask("POST", path, body if isinstance(body, bytes) else orjson.dumps(body), **headers)

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        reader, writer = await self.connect()
        writer.write(request(method, path, body, close=True, **headers))
        raw = await reader.read()
        writer.close()
        return parsed(raw)


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until something on the other side of a loopback socket has happened."""
    while not condition():  # noqa: ASYNC110 -- there is no event to wait for, and each turn polls the sockets
        await asyncio.sleep(0)


def request(method: str, path: str, body: bytes, *, close: bool = False, **headers: str) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"content-length: {len(body)}",
        *(["connection: close"] if close else []),
        *(
            ["x-api-key: placeholder", "anthropic-version: 2023-06-01"]
            if "messages" in path
            else ["authorization: Bearer placeholder"]
        ),
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def parsed(raw: bytes) -> Reply:
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") != "chunked":
        return Reply(int(first.split()[1]), headers, rest, len(rest) == int(headers.get("content-length", "-1")))
    body, clean = b"", False
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size, 16)
        clean = count == 0
        body, rest = body + rest[:count], rest[count + 2 :]
    return Reply(int(first.split()[1]), headers, body, clean)


def config_of(
    urls: Sequence[str],
    *,
    hard: bool = True,
    attempts: int = 3,
    drain: bool = False,
    credential: str = "llm-keys/key",
    timeouts: Timeouts | None = None,
) -> ProxyConfig:
    """One rule over all fake providers, each a backend of both dialects; one budget."""
    backends = {}
    for number, url in enumerate(urls):
        for provider in (Provider.ANTHROPIC, Provider.OPENAI):
            name = f"r/{provider.lower()}{number}"
            backends[name] = Backend(name, provider, url, credential, timeouts or Timeouts())
    rule = Rule(
        "r",
        "all",
        tuple(ModelChoice(name) for name in backends),
        retry=Retry(attempts, 100, 1000),
        on_client_disconnect=OnClientDisconnect.DRAIN if drain else OnClientDisconnect.ABORT,
    )
    budgets = (BudgetTerms(MONTH, hard),)
    return seal(ProxyConfig("", rules=(rule,), backends=backends, budgets=budgets, prices=PRICES))


@asynccontextmanager
async def world(
    config: ProxyConfig | None, keys: Path, shared_with: FakeValkey | None = None, told: list[CallRecord] | None = None
) -> AsyncIterator[World]:
    """A running data path; `keys` becomes the directory of credentials, `told` gets the calls."""
    (keys / "llm-keys").mkdir(exist_ok=True)
    (keys / "llm-keys" / "key").write_text(f"{KEY}\n")
    loop = asyncio.get_running_loop()
    purse, records, delays = FakePurse(), [] if told is None else told, list[float]()

    async def no_sleep(seconds: float) -> None:
        delays.append(seconds)

    trust = Trust(keys, lambda: loop.time() + here.later_s)
    upstream = Upstream(trust.context)
    means = Means(
        purse=purse,
        upstream=upstream,
        credentials=Credentials(keys, lambda: loop.time() + here.later_s),
        clock=lambda: loop.time() + here.later_s,
        unix=lambda: NOW_UNIX_S,
        pick=lambda: 0.0,
        sleep=no_sleep,
    )
    table = RoutingTable.build(config) if config is not None else None
    batches = BatchKeeper(
        replace(means, sleep=lambda seconds: here.turn_clock(seconds)),
        records.append,
    )
    shared = SharedAnswers(
        means.credentials,
        trust,
        means.clock,
        lambda: NOW_UNIX_S + here.later_s,
        means.pick,
        None if shared_with is None else lambda *_: shared_with.dial(),
    )
    workload = Workload("pod-user", "pod-feature", "pod-task", "web-1")
    exchange = Exchange(means, lambda: here.table, records.append, batches, shared, workload=workload)
    server = Server(exchange.handle)
    port = await server.serve("127.0.0.1", 0)
    here = World(port, purse, records, delays, server, upstream, table, batches, means, shared, exchange)
    sharing = asyncio.ensure_future(shared.run())
    if config is not None:
        shared.obey(config)
    try:
        yield here
    finally:
        await server.finish()
        sharing.cancel()
        await asyncio.wait((sharing,))
        batches.leave()
        await upstream.close()
    assert not purse.holds, "a hold was never settled"
