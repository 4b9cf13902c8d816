"""The last error of a provider, whose text is lost on the way: the application hears the status all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.sidecar.shell.proxied import GPT, HAIKU, config_of, world
from tests.sidecar.shell.test_upstream import FakeUpstream, Script

from keelage_sidecar.shell import told

MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"
BODIES: dict[str, object] = {
    MESSAGES: {"model": HAIKU, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]},
    CHAT: {"model": GPT, "max_completion_tokens": 50, "messages": [{"role": "user", "content": "hello"}]},
}


def lost(framing: bytes) -> Script:
    """Says 500, announces a text, and goes."""

    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 500 Oh\r\nRetry-After: 7\r\nContent-Type: text/html\r\n" + framing + b"\r\n\r\n")
        out.close()

    return script


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9", b"Transfer-Encoding: chunked", b"Content-Encoding: gzip\r\nContent-Length: 9"]
)
@pytest.mark.parametrize(("path", "kind"), [(MESSAGES, "api_error"), (CHAT, "server_error")])
async def test_an_error_whose_text_never_comes_is_told_in_the_applications_dialect(
    tmp_path: Path, path: str, kind: str, framing: bytes
) -> None:
    fake = FakeUpstream(lost(framing))
    await fake.start()
    async with world(config_of([fake.endpoint], attempts=1), tmp_path) as here:
        reply = await here.post(path, BODIES[path])
        assert (reply.status, reply.clean) == (500, True)
        assert (reply.headers["x-should-retry"], reply.headers["retry-after"]) == ("false", "7")
        assert reply.headers["content-type"] == "application/json"
        error = reply.json()["error"]
        assert isinstance(error, dict)
        assert error["type"] == kind
        assert "answered with status 500, and the text of the error was lost on the way" in str(error["message"])
        assert (here.records[0].outcome, here.records[0].status) == ("upstream_error", 500)
    await fake.stop()


async def test_an_error_whose_text_comes_late_is_handed_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "SWALLOWED_S", 0.0)

    async def script(head: bytes, body: bytes, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\n")
        for _ in range(100):
            await asyncio.sleep(0)  # until the sidecar no longer waits for it
        out.write(b"oops")

    fake = FakeUpstream(script)
    await fake.start()
    async with world(config_of([fake.endpoint], attempts=1), tmp_path) as here:
        reply = await here.post(MESSAGES, BODIES[MESSAGES])
        assert (reply.status, reply.body) == (500, b"oops")
    await fake.stop()
