"""Noise on both sides of the whole data path at once, and either side leaving at any moment: nothing is left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sidecar.core.streams import (
    FIRST_CHUNK,
    LAST_CHUNK,
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    TEXT,
    USAGE_CHUNK,
    anthropic_events,
    openai_chunks,
)  # fmt: skip
from tests.sidecar.shell.proxied import GPT, HAIKU, World, config_of, request, until, world
from tests.sidecar.shell.test_resilience import with_rule
from tests.sidecar.shell.test_upstream import FakeUpstream

from keelage_api.proxy_config import Hedge, ModelChoice, ProxyConfig
from keelage_sidecar.shell import story

USER = [{"role": "user", "content": "hello"}]
PLAIN = request("POST", "/v1/messages", orjson.dumps({"model": HAIKU, "max_tokens": 9, "messages": USER}))
STREAM = request(
    "POST", "/v1/messages", orjson.dumps({"model": HAIKU, "max_tokens": 9, "messages": USER, "stream": True})
)
CHAT = request(
    "POST",
    "/v1/chat/completions",
    orjson.dumps({"model": GPT, "max_completion_tokens": 9, "messages": USER, "stream": True}),
)
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 529 Full\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    SSE,
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
)
EVENTS = (
    anthropic_events(MESSAGE_START, TEXT, MESSAGE_DELTA, MESSAGE_STOP),
    openai_chunks(FIRST_CHUNK, LAST_CHUNK, USAGE_CHUNK),
    anthropic_events(MESSAGE_START, TEXT),
)
NOISE = st.binary(max_size=40)
SAID = st.lists(
    st.one_of(st.sampled_from([PLAIN, STREAM, CHAT, PLAIN[:60], PLAIN[60:], b"\r\n", b"POST / HTTP/1.1\r\n"]), NOISE),
    max_size=6,
)
TOLD = st.lists(
    st.one_of(
        st.sampled_from([*ANSWERS, b"0\r\n\r\n"]),
        st.sampled_from([b"%x\r\n%b\r\n" % (len(each), each) for each in EVENTS]),
        NOISE,
    ),
    max_size=5,
)
KNOWN = {story.OK, story.UPSTREAM_ERROR, story.REFUSED, story.CLIENT_DISCONNECT, story.TRUNCATED}


def configured(first: str, second: str, translated: bool) -> ProxyConfig:
    """Two providers, the second also as a hedge; or one of Anthropic's API alone."""
    config = config_of([first, second], attempts=2)
    if translated:
        return with_rule(config, choices=(ModelChoice("r/anthropic0"),))
    return with_rule(config, hedge=Hedge(1))


async def talked(
    said: list[bytes], told: list[bytes], closes: bool, translated: bool, turns: int, folder: Path
) -> Mapping[str, int]:
    """What became of the calls, by outcome."""

    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        out.write(b"".join(told))
        if closes:
            out.close()

    bugs: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
    providers = FakeUpstream(script), FakeUpstream(script)
    for each in providers:
        await each.start()
    async with world(configured(providers[0].endpoint, providers[1].endpoint, translated), folder) as here:
        await _say(here, said, turns)
        await until(lambda: not (here.server.active or here.upstream.active))
        assert not here.purse.waiting
        outcomes = {record.outcome: 1 for record in here.records}
    for each in providers:
        await each.stop()
    assert len(asyncio.all_tasks()) == 1
    assert not bugs
    return outcomes


async def _say(here: World, said: list[bytes], turns: int) -> None:
    """The pieces, one a turn; so many turns later the application has gone."""
    reader, writer = await here.connect()
    for piece in said:
        writer.write(piece)
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    writer.close()
    written = b""
    try:
        written = await reader.read()
        await writer.wait_closed()
    except ConnectionError:
        pass  # what it had sent was not read
    assert not written or written.startswith(b"HTTP/1.1 ")


@pytest.fixture(scope="module", autouse=True)
def ready(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A process's first loop opens descriptors that stay."""
    uvloop.run(talked([], [], True, False, 0, tmp_path_factory.mktemp("first")))


@settings(max_examples=60, deadline=None)
@given(SAID, TOLD, st.booleans(), st.booleans(), st.integers(0, 200))
def test_any_noise_on_either_side_ends_in_a_known_outcome_and_leaves_no_task_money_or_descriptor(
    said: list[bytes], told: list[bytes], closes: bool, translated: bool, turns: int
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with TemporaryDirectory() as folder:
        outcomes = uvloop.run(talked(said, told, closes, translated, turns, Path(folder)))
    assert outcomes.keys() <= KNOWN
    assert len(os.listdir("/proc/self/fd")) == before
