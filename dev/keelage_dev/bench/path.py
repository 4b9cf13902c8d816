"""What deciding about one call costs: the request path over a provider that has always answered already.

    python -m keelage_dev.bench.path [--rules 1,100,1000] [--sizes 1000,100000]
        [--prompt-cache | --hits | --semantic] [--calls N] [--profile]

Without rules, sizes and a kind: all rows that `make bench` shows.

The time that the fastest hundredth of the calls take, so that a busy machine matters little. The sockets and their
parsers are left out; the journal is the real one, with everything on: a hard budget, log line and metrics.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import enum
import gc
import os
import pstats
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NoReturn

import orjson
import uvloop

from keelage_api.pricing import ModelPrice, Rates
from keelage_api.proxy_config import (
    Backend,
    BackendTLS,
    BudgetTerms,
    Match,
    ModelChoice,
    PromptCaching,
    Provider,
    ProxyConfig,
    Rule,
    Timeouts,
)
from keelage_api.response_cache import ResponseCache
from keelage_api.sync import Right, SyncReply, SyncRequest
from keelage_dev.bench import crowd
from keelage_sidecar.core.log_line import CallRecord
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.response_cache import KeptAnswer
from keelage_sidecar.core.routing import RoutingTable
from keelage_sidecar.shell.answer import Answer, answer_from
from keelage_sidecar.shell.batch_keeper import BatchKeeper
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.call_log import CallLog
from keelage_sidecar.shell.credentials import Credentials
from keelage_sidecar.shell.exchange import Exchange
from keelage_sidecar.shell.journal import open_holder
from keelage_sidecar.shell.lease_keeper import LeaseKeeper
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.metrics import Metrics, Standing
from keelage_sidecar.shell.shared_answers import SharedAnswers
from keelage_sidecar.shell.trust import Trust
from keelage_sidecar.shell.upstream import Connection, Pool, Upstream, origin_of

MODEL = "claude-haiku-4-5"
BUDGET = "shop/month"
BACKEND = "shop/anthropic"
_ANSWER = orjson.dumps(
    {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": MODEL,
        "content": [{"type": "text", "text": "Lorem ipsum dolor sit amet. " * 25}],
        "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {
            "input_tokens": 271, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 168, "service_tier": "standard",
        },
    }
)  # fmt: skip
_ANSWER_HEADERS = (
    (b"date", b"Sat, 21 Nov 2026 12:00:00 GMT"),
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(_ANSWER)),
    (b"request-id", b"req_011CSHoEeqs5C35K2UUqR7Fy"),
    (b"anthropic-organization-id", b"org"),
)


SDK_HEADERS = (
    (b"host", b"127.0.0.1:4141"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"accept", b"application/json"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"Anthropic/Python 0.75.0"),
    (b"x-stainless-lang", b"python"),
    (b"x-stainless-package-version", b"0.75.0"),
    (b"x-stainless-os", b"Linux"),
    (b"x-stainless-arch", b"x64"),
    (b"x-stainless-runtime", b"CPython"),
    (b"x-stainless-runtime-version", b"3.11.7"),
    (b"x-stainless-async", b"false"),
    (b"x-stainless-retry-count", b"0"),
    (b"x-stainless-read-timeout", b"600"),
    (b"x-stainless-timeout", b"600"),
    (b"x-api-key", b"placeholder"),
    (b"anthropic-version", b"2023-06-01"),
)
"""As an official SDK sends them."""


class Sink:
    """The application's connection: everything is taken."""

    closed = draining = full = local = False

    def write(self, data: bytes, /) -> None: ...

    async def writable(self) -> None: ...

    def close(self) -> None: ...


class Prompt(Connection):
    """Has the whole answer at once."""

    def send(
        self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes, timeouts: Timeouts
    ) -> Answer:
        answer = answer_from(self, asyncio.get_running_loop(), timeouts)
        said = crowd.VECTORS if target.endswith("/embeddings") else _ANSWER
        answer.got_head(200, tuple(each for each in _ANSWER_HEADERS if said is _ANSWER or each[0] != b"content-length"))
        answer.got_body(said)
        answer.got_end()
        return answer


class PromptUpstream(Upstream):
    def __init__(self, endpoint: str) -> None:
        super().__init__(_no_tls)
        self._connection = Prompt(self, Pool(origin_of(endpoint)))

    async def open(self, endpoint: str, connect_s: float, tls: BackendTLS | None = None) -> Connection:
        return self._connection


class Grants:
    """A ledger that grants whatever it is asked for."""

    async def sync(self, request: SyncRequest) -> SyncReply:
        rights = tuple(
            Right(each.budget, "2026-11", each.seq, 10**18, ends_in_s=1e6, limit=10**18) for each in request.statements
        )
        return SyncReply(rights=rights, next_s=60.0)


def _no_tls(_: tuple[str, ...]) -> NoReturn:
    raise AssertionError("nothing connects here")


def config_of(rules: int, caching: PromptCaching | None = None, kept: ResponseCache | None = None) -> ProxyConfig:
    """Only the last of the rules matches."""
    backend = Backend(BACKEND, Provider.ANTHROPIC, "https://api.anthropic.com", "llm-keys/anthropic")
    choice = (ModelChoice(backend.name, ""),)
    before = (Rule("shop/route", f"rule-{n}", choice, matches=(Match((f"model-{n}-*",)),)) for n in range(rules - 1))
    embedder = Backend(crowd.EMBEDDER, Provider.OPENAI, backend.endpoint)
    price = ModelPrice((Rates(0, 1_000_000, 100_000, 1_250_000, 2_000_000, 5_000_000),), 200_000, 64_000)
    return ProxyConfig(
        version="bench",
        rules=(*before, Rule("shop/route", "all", choice, prompt_cache=caching, response_cache=kept)),
        backends={backend.name: backend, embedder.name: embedder},
        budgets=(BudgetTerms(BUDGET, hard=True),),
        prices={Provider.ANTHROPIC: {MODEL: price}, Provider.OPENAI: {crowd.EMBEDDER_MODEL: price}},
    )


def body_of(size: int) -> bytes:
    turns = max(1, (size - 200) // 560)
    text = 'A line of a long chat, with "quotes" in it\nand the ends of lines that such a text has. ' * 6
    messages = [{"role": ("user", "assistant")[n % 2], "content": text[:540]} for n in range(turns)]
    body: dict[str, object] = {"model": MODEL, "max_tokens": 1024, "system": "Be brief.", "messages": messages}
    missing = size - len(orjson.dumps(body)) - len(',"metadata":{"user_id":""}')
    return orjson.dumps({**body, "metadata": {"user_id": "u" * max(1, min(64, missing))}})


def with_prefix(body: bytes) -> bytes:
    """A call of the same length with a third of it in the system prompt, and a question at the end."""
    said = orjson.loads(body)
    turns = len(said["messages"]) * 2 // 3 // 2 * 2
    said["system"] = "".join(message["content"] for message in said["messages"][turns:])
    said["messages"] = [*said["messages"][:turns], {"role": "user", "content": "And now?"}]
    return orjson.dumps(said)


def question_of(size: int) -> bytes:
    """A call of that length with but one question at its end."""
    said = orjson.loads(body_of(size))
    document = "".join(message["content"] for message in said["messages"][1:])
    blocks = [{"type": "text", "text": text} for text in (document, crowd.QUESTION) if text]
    return orjson.dumps({**said, "messages": [{"role": "user", "content": blocks}]})


class DecisionPath:
    """An exchange with nothing before or behind it."""

    def __init__(self, directory: Path, config: ProxyConfig) -> None:
        key = directory / config.backends[BACKEND].credential
        key.parent.mkdir()
        key.write_text("sk-bench", "utf-8")
        clock = self._clock = asyncio.get_running_loop().time
        self.keeper = LeaseKeeper(open_holder(directory, sys.exit), Grants(), clock, lambda: 0.5)
        self.keeper.obey(config.budgets)
        upstream = PromptUpstream(config.backends[BACKEND].endpoint)
        means = Means(self.keeper, upstream, Credentials(directory, clock), clock, time.time, lambda: 0.5)
        shared = SharedAnswers(means.credentials, Trust(directory, clock), clock, time.time, means.pick)
        self.responses = means.responses
        self.table = table = RoutingTable.build(config)
        self._log = CallLog(os.open(os.devnull, os.O_WRONLY))
        self._metrics = Metrics(lambda: Standing("bench", False, 0, 0, 0, 0, (), (), means.responses))
        self._exchange = Exchange(means, lambda: table, self._tell, BatchKeeper(means, self._tell), shared)
        self._wire = Sink()

    async def serve(self, headers: Headers, body: bytes) -> int:
        """One call; the status of its answer."""
        call = Call(self._wire, "POST", "/v1/messages", headers, body, received_s=self._clock())
        await self._exchange.handle(call)
        self._exchange.tell_ended()
        return call.status

    def _tell(self, record: CallRecord) -> None:
        self._log.write(record)
        self._metrics.tell(record)


class Kind(enum.StrEnum):
    """What becomes of the calls of a row."""

    ASKED = ""
    HIT = "hit"
    """The same one again and again, answered from the cache."""
    SEMANTIC = "semantic hit"
    """The same again and again, answered with what another one got; ten thousand answers are kept (`crowd`)."""
    PROMPT_CACHE = "prompt cache"
    """Breakpoints are put into it."""


async def measure(kind: Kind, rules: int, size: int, calls: int, profile: bool) -> None:
    """Print one row."""
    caching = PromptCaching() if kind is Kind.PROMPT_CACHE else None
    kept = {Kind.HIT: ResponseCache(sampled=True), Kind.SEMANTIC: crowd.TERMS}.get(kind)
    body = body_of(size) if caching is None else with_prefix(body_of(size))
    if kind is Kind.SEMANTIC:
        body = question_of(size)
    headers = (*SDK_HEADERS, (b"content-length", b"%d" % len(body)))
    with tempfile.TemporaryDirectory() as directory:
        path = DecisionPath(Path(directory), config_of(rules, caching, kept))
        keeping = asyncio.get_running_loop().create_task(path.keeper.run())
        while not path.keeper.reached:  # noqa: ASYNC110 -- the ledger answers within a turn or two
            await asyncio.sleep(0)
        if kind is Kind.SEMANTIC:
            answer = KeptAnswer(_ANSWER_HEADERS, _ANSWER, asyncio.get_running_loop().time(), 1, MODEL, "end_turn")
            crowd.gather(path.responses, path.table, headers, body, answer)
        for _ in range(50):
            assert await path.serve(headers, body) == 200
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)  # as the sidecar does
        took: list[int] = []
        for _ in range(calls):
            began_ns = time.perf_counter_ns()
            await path.serve(headers, body)
            took.append(time.perf_counter_ns() - began_ns)
            await asyncio.sleep(0)
        best_us = sorted(took)[calls // 100] / 1_000
        python, native = await functions(path, headers, body)
        print(
            f"{rules:>6} rules {size:>8} bytes {kind:>13}"
            f" {best_us:>8.1f} us {python:>6} Python and {native:>4} C functions",
            flush=True,
        )
        if profile:
            await show(path, headers, body)
        keeping.cancel()


async def functions(path: DecisionPath, headers: Headers, body: bytes) -> tuple[int, int]:
    """How many functions one call calls: in Python, and in C from there."""
    counts: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, argument: counts.update((event,)))
    await path.serve(headers, body)
    sys.setprofile(None)
    return counts["call"], counts["c_call"]


async def show(path: DecisionPath, headers: Headers, body: bytes) -> None:
    """Where the time of a thousand calls goes, as far as the profiler's own weight lets one see."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(1_000):
        await path.serve(headers, body)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


async def main(arguments: argparse.Namespace) -> None:
    if arguments.rules or arguments.sizes or arguments.prompt_cache or arguments.hits or arguments.semantic:
        kind = Kind.PROMPT_CACHE if arguments.prompt_cache else Kind.HIT if arguments.hits else Kind.ASKED
        kind = Kind.SEMANTIC if arguments.semantic else kind
        shown = [(kind, rules, size) for rules in arguments.rules or [1] for size in arguments.sizes or [1_000]]
    else:
        shown = [(Kind.ASKED, rules, size) for rules in (1, 100, 1_000) for size in (1_000, 100_000)]
        shown += [
            (Kind.HIT, 1, 1_000),
            (Kind.HIT, 1, 100_000),
            (Kind.SEMANTIC, 1, 1_000),
            (Kind.PROMPT_CACHE, 1, 100_000),
        ]
    for kind, rules, size in shown:
        await measure(kind, rules, size, arguments.calls, arguments.profile)


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=numbers)
    parser.add_argument("--sizes", type=numbers)
    parser.add_argument("--prompt-cache", action="store_true", help="rules put breakpoints into the calls")
    parser.add_argument("--calls", type=int, default=5_000)
    parser.add_argument("--hits", action="store_true", help="the same call again and again, answered from the cache")
    parser.add_argument("--semantic", action="store_true", help="the same, in other words than what was answered")
    parser.add_argument("--profile", action="store_true")
    uvloop.run(main(parser.parse_args()))
